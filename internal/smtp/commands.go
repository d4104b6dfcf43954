package smtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

var (
	replyOK       = &Reply{Code: 250, Enhanced: EnhancedCode{2, 0, 0}, Lines: []string{"ok"}}
	replySequence = &Reply{Code: 503, Enhanced: EnhancedCode{5, 5, 1}, Lines: []string{"bad sequence of commands"}}
	replySyntax   = &Reply{Code: 501, Enhanced: EnhancedCode{5, 5, 4}, Lines: []string{"bad syntax"}}

	replyGoAhead      = &Reply{Code: 354, Lines: []string{"go ahead"}}
	replyTooManyRcpts = &Reply{Code: 452, Enhanced: EnhancedCode{4, 5, 3}, Lines: []string{"too many recipients"}}
)

// command carries out one command line.
func (c *conn) command(ctx context.Context, line string) *Reply {
	verb, args, _ := strings.Cut(line, " ")
	verb, args = strings.ToUpper(verb), strings.TrimSpace(args)
	if c.bdat != nil && verb != "BDAT" && verb != "NOOP" {
		c.bdat.abort()
		c.bdat = nil
		if verb != "RSET" && verb != "QUIT" {
			c.reset()
			return replySequence
		}
	}
	switch verb {
	case "EHLO", "HELO":
		return c.hello(verb == "EHLO", args)
	case "MAIL":
		return c.cmdMail(ctx, args)
	case "RCPT":
		return c.cmdRcpt(ctx, args)
	case "DATA":
		return c.cmdData(ctx, args)
	case "BDAT":
		return c.cmdBdat(ctx, args)
	case "STARTTLS":
		return c.startTLS(ctx, args)
	case "AUTH":
		return c.cmdAuth(args)
	case "RSET":
		c.reset()
		return replyOK
	case "NOOP":
		return replyOK
	case "QUIT":
		return &Reply{Code: 221, Enhanced: EnhancedCode{2, 0, 0}, Lines: []string{"bye"}, Close: true}
	case "VRFY":
		return &Reply{Code: 252, Enhanced: EnhancedCode{2, 1, 5}, Lines: []string{"send some mail, I will try"}}
	case "HELP":
		return &Reply{Code: 214, Enhanced: EnhancedCode{2, 0, 0}, Lines: []string{"see RFC 5321"}}
	case "EXPN", "ETRN", "TURN":
		return &Reply{Code: 502, Enhanced: EnhancedCode{5, 5, 1}, Lines: []string{"not implemented"}}
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH":
		// A web page can make a browser within a trusted network send us a form; what
		// stands in its body must not be read as commands.
		return &Reply{Code: 500, Enhanced: EnhancedCode{5, 5, 2}, Lines: []string{"this is not a web server"}, Close: true}
	}
	return &Reply{Code: 500, Enhanced: EnhancedCode{5, 5, 2}, Lines: []string{"command not recognised"}}
}

func (c *conn) reset() {
	c.mail, c.rcpts, c.params = false, 0, MailParams{}
	c.session.Reset()
}

func (c *conn) hello(extended bool, name string) *Reply {
	if name == "" || strings.ContainsAny(name, " \t") || len(name) > 255 {
		return replySyntax
	}
	c.reset()
	c.peer.Helo, c.peer.ESMTP = printableName(name), extended
	s := c.server
	if !extended {
		return &Reply{Code: 250, Lines: []string{s.Hostname}}
	}
	lines := []string{s.Hostname, "PIPELINING", fmt.Sprintf("SIZE %d", s.limits.Size), "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES"}
	if s.TLS != nil && c.peer.TLS == nil {
		lines = append(lines, "STARTTLS")
	}
	if s.Credentials != nil && c.peer.TLS != nil && c.peer.AuthUser == "" {
		lines = append(lines, "AUTH PLAIN SCRAM-SHA-256")
	}
	return &Reply{Code: 250, Lines: lines}
}

func printableName(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// pathArgument takes the path behind FROM: or TO: and the parameters behind it.
func pathArgument(args, keyword string) (p Path, params string, bad *Reply) {
	if len(args) < len(keyword) || !strings.EqualFold(args[:len(keyword)], keyword) {
		return p, "", replySyntax
	}
	rest := strings.TrimLeft(args[len(keyword):], " ") // a space is wrong and common
	p, params, err := ParsePath(rest, true)
	if err != nil || (params != "" && params[0] != ' ') {
		return p, "", &Reply{Code: 501, Enhanced: EnhancedCode{5, 1, 3}, Lines: []string{"malformed path"}}
	}
	return p, params, nil
}

func (c *conn) cmdMail(ctx context.Context, args string) *Reply {
	if c.peer.Helo == "" || c.mail {
		return replySequence
	}
	from, rest, bad := pathArgument(args, "FROM:")
	if bad != nil {
		return bad
	}
	p, bad := parseMailParams(rest)
	if bad != nil {
		return bad
	}
	if !p.UTF8 && !from.ascii() {
		return undeclaredUTF8()
	}
	if p.Size > c.server.limits.Size {
		return &Reply{Code: 552, Enhanced: EnhancedCode{5, 3, 4}, Lines: []string{"message too large"}}
	}
	if r := c.session.Mail(ctx, from, p); r != nil && !r.Positive() {
		return r
	}
	c.mail, c.params = true, p
	return replyOK
}

// undeclaredUTF8 refuses an address beyond ASCII in a transaction without SMTPUTF8
// (RFC 6531, section 3.5).
func undeclaredUTF8() *Reply {
	return &Reply{Code: 553, Enhanced: EnhancedCode{5, 6, 7}, Lines: []string{"SMTPUTF8 is required for this address"}}
}

func (c *conn) cmdRcpt(ctx context.Context, args string) *Reply {
	if !c.mail {
		return replySequence
	}
	if c.rcpts >= c.server.limits.Recipients {
		return replyTooManyRcpts
	}
	to, rest, bad := pathArgument(args, "TO:")
	if bad != nil {
		return bad
	}
	if to.IsNull() || (to.Domain == "" && !strings.EqualFold(to.Local, "postmaster")) {
		return &Reply{Code: 501, Enhanced: EnhancedCode{5, 1, 3}, Lines: []string{"malformed path"}}
	}
	p, bad := parseRcptParams(rest, c.params.UTF8)
	if bad != nil {
		return bad
	}
	if !c.params.UTF8 && !to.ascii() {
		return undeclaredUTF8()
	}
	if r := c.session.Rcpt(ctx, to, p); r != nil && !r.Positive() {
		return r
	}
	c.rcpts++
	return replyOK
}

func (c *conn) cmdData(ctx context.Context, args string) *Reply {
	if args != "" {
		return replySyntax
	}
	if !c.mail {
		return replySequence
	}
	if c.rcpts == 0 {
		return &Reply{Code: 554, Enhanced: EnhancedCode{5, 5, 1}, Lines: []string{"no valid recipients"}}
	}
	if !c.write(replyGoAhead) || c.w.Flush() != nil {
		c.quit = true
		return nil
	}
	c.deadline(c.server.limits.Data)
	c.dot = dotReader{r: c.r, limit: c.server.limits.Size, maxLine: c.server.limits.TextLine, start: true}
	d := &c.dot
	reply := c.session.Data(ctx, d)
	c.mail, c.rcpts = false, 0
	defer c.session.Reset()
	return c.concludeData(d, reply)
}

// concludeData decides what the client gets: what the session said, unless the
// message did not come in as it should.
func (c *conn) concludeData(d *dotReader, reply *Reply) *Reply {
	cause := d.err
	if !d.stick && !d.done {
		if err := drain(d, c.drainBound()); err != nil {
			d.stick = true
			if cause == nil || errors.Is(err, ErrBareLine) || errors.Is(err, ErrLineTooLong) {
				cause = err
			}
		}
	}
	switch {
	case cause == nil:
		return c.concluded(reply)
	case errors.Is(cause, ErrTooLarge):
		return &Reply{Code: 552, Enhanced: EnhancedCode{5, 3, 4}, Lines: []string{"message too large"}, Close: d.stick}
	case errors.Is(cause, ErrNUL):
		return &Reply{Code: 550, Enhanced: EnhancedCode{5, 6, 0}, Lines: []string{"NUL in message"}, Close: d.stick}
	case errors.Is(cause, ErrBareLine):
		return &Reply{Code: 550, Enhanced: EnhancedCode{5, 6, 11}, Lines: []string{"bare CR or LF"}, Close: true}
	case errors.Is(cause, ErrLineTooLong):
		return &Reply{Code: 552, Enhanced: EnhancedCode{5, 6, 0}, Lines: []string{"line too long"}, Close: true}
	case errors.Is(cause, io.ErrUnexpectedEOF):
		c.quit = true
		return nil
	}
	return &Reply{Code: 421, Enhanced: EnhancedCode{4, 4, 2}, Lines: []string{"timeout"}, Close: true}
}

// concluded gives the session's word on a message; an accepted one clears the errors.
func (c *conn) concluded(reply *Reply) *Reply {
	if reply == nil {
		reply = replyOK
	}
	if reply.Positive() {
		c.errors = 0
	}
	return reply
}

func (c *conn) startTLS(ctx context.Context, args string) *Reply {
	switch {
	case args != "":
		return replySyntax
	case c.server.TLS == nil:
		return &Reply{Code: 502, Enhanced: EnhancedCode{5, 5, 1}, Lines: []string{"STARTTLS is not offered"}}
	case c.peer.TLS != nil || c.mail:
		return replySequence
	case c.r.Buffered() > 0:
		// Clear text behind STARTTLS would be taken for what came over TLS (CVE-2011-0411).
		return &Reply{Code: 503, Enhanced: EnhancedCode{5, 5, 1}, Lines: []string{"nothing may follow STARTTLS"}, Close: true}
	}
	c.session.Reset()
	if !c.write(&Reply{Code: 220, Enhanced: EnhancedCode{2, 0, 0}, Lines: []string{"ready for TLS"}}) {
		return nil
	}
	c.await(c.server.limits.Greeting)
	ok := c.handshake(ctx)
	c.idle.Store(false)
	if !ok {
		c.quit = true
		return nil
	}
	c.peer.Helo, c.peer.ESMTP, c.peer.AuthUser = "", false, ""
	return nil
}
