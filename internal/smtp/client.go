package smtp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNeedsUTF8 tells that the peer does not offer SMTPUTF8, which the message needs.
var ErrNeedsUTF8 = errors.New("peer does not offer SMTPUTF8")

// Timeouts of a client (RFC 5321, section 4.5.3.2). Zero values take the default.
type Timeouts struct {
	Greeting time.Duration // 5 minutes
	Command  time.Duration // 5 minutes
	Data     time.Duration // for a block of data, 3 minutes
	End      time.Duration // for the reply to the end of data, 10 minutes
}

func (t Timeouts) withDefaults() Timeouts {
	for _, p := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&t.Greeting, 5 * time.Minute}, {&t.Command, 5 * time.Minute}, {&t.Data, 3 * time.Minute}, {&t.End, 10 * time.Minute}} {
		if *p.v == 0 {
			*p.v = p.def
		}
	}
	return t
}

// Client is the client's end of one connection. It belongs to one goroutine.
type Client struct {
	net      net.Conn
	r        *bufio.Reader
	w        *bufio.Writer
	timeouts Timeouts
	now      func() time.Time
	ext      map[string]string
	name     string
	ctx      context.Context // of the exchange under way
	by       time.Time       // the deadline that is set, zero where that is not known
	tls      *tls.ConnectionState
	broken   bool
	next     *Mail // whose commands are out already
}

// NewClient takes a connection over and reads the greeting. A greeting that is not
// 220 is returned as a *Reply.
func NewClient(ctx context.Context, nc net.Conn, t Timeouts) (*Client, error) {
	c := &Client{net: nc, r: bufio.NewReaderSize(nc, 4<<10), w: bufio.NewWriterSize(nc, 16<<10), timeouts: t.withDefaults(), now: time.Now}
	defer c.bind(ctx)()
	c.deadline(c.timeouts.Greeting)
	r, err := c.reply()
	if err != nil {
		return nil, fmt.Errorf("read greeting: %w", err)
	}
	if r.Code != 220 {
		return nil, r
	}
	return c, nil
}

// bind makes a cancelled context end the exchange under way.
func (c *Client) bind(ctx context.Context) func() {
	nc := c.net // a deadline on what lies under TLS holds for TLS too
	c.ctx, c.by = ctx, time.Time{}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// deadline bounds the next exchange. A context that has ended keeps its word, even if
// it ended between two exchanges.
func (c *Client) deadline(d time.Duration) {
	t := c.now().Add(d)
	if d < 10*slack || !closeTo(c.by, t) {
		c.by = t
		_ = c.net.SetDeadline(t)
	}
	if c.ctx != nil && c.ctx.Err() != nil {
		_ = c.net.SetDeadline(time.Unix(1, 0))
	}
}

// Usable reports whether another transaction may be tried on the connection.
func (c *Client) Usable() bool { return !c.broken }

// TLS gives the state of the connection's TLS, nil in clear text.
func (c *Client) TLS() *tls.ConnectionState { return c.tls }

// Has reports whether the peer offers an extension.
func (c *Client) Has(extension string) bool { _, ok := c.ext[extension]; return ok }

// maxReplyLines bounds a peer's reply.
const maxReplyLines = 100

// reply reads one reply.
func (c *Client) reply() (*Reply, error) {
	r := &Reply{}
	for range maxReplyLines {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			c.broken = true
			return nil, unexpected(err)
		}
		text := harmless(bytes.TrimRight(line, "\r\n"))
		if len(text) < 3 || (len(text) > 3 && text[3] >= '0' && text[3] <= '9') {
			c.broken = true
			return nil, fmt.Errorf("malformed reply %q", printable(text))
		}
		code, err := strconv.Atoi(text[:3])
		if err != nil || code < 200 || code > 599 || (r.Code != 0 && code != r.Code) {
			c.broken = true
			return nil, fmt.Errorf("malformed reply %q", printable(text))
		}
		r.Code = code
		rest := ""
		if len(text) > 4 {
			rest = text[4:]
		}
		if e, after, ok := cutEnhanced(rest, code); ok {
			r.Enhanced, rest = e, after
		}
		r.Lines = append(r.Lines, rest)
		if len(text) == 3 || text[3] != '-' {
			c.broken = c.broken || code == 421
			return r, nil
		}
	}
	c.broken = true
	return nil, errors.New("reply without end")
}

// harmless keeps what a peer says from breaking a line of a log or a header of a DSN.
func harmless(b []byte) string {
	s := string(b)
	if !slices.ContainsFunc(b, func(c byte) bool { return c < ' ' || c >= 0x7f }) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// answer reads the reply to a command that a 3xx does not answer: the peer is out of step
// then, and what it says next must not be taken for what it was asked.
func (c *Client) answer() (*Reply, error) {
	r, err := c.reply()
	if err == nil && r.Code/100 == 3 {
		c.broken = true
		return nil, fmt.Errorf("reply out of step: %q", printable(r.String()))
	}
	return r, err
}

// dataRefused takes the reply to DATA that is not 354. A positive one is out of step: the
// peer has nothing yet that it could have accepted.
func (c *Client) dataRefused(r *Reply, res *Result) {
	if r.Positive() {
		c.broken = true
		res.Err = fmt.Errorf("reply to DATA out of step: %q", printable(r.String()))
		return
	}
	res.Data = r
	c.rset(res)
}

// cutEnhanced takes an enhanced code off the beginning of a reply's text.
func cutEnhanced(s string, code int) (e EnhancedCode, rest string, ok bool) {
	word, rest, _ := strings.Cut(s, " ")
	class, word, two := strings.Cut(word, ".")
	subject, detail, three := strings.Cut(word, ".")
	if !two || !three || len(class) != 1 || int(class[0]-'0') != code/100 {
		return e, s, false
	}
	for i, p := range [3]string{class, subject, detail} {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 999 {
			return EnhancedCode{}, s, false
		}
		e[i] = n
	}
	return e, rest, true
}

// command sends one line and reads the reply.
func (c *Client) command(line string) (*Reply, error) {
	if err := c.tell(line); err != nil {
		return nil, err
	}
	return c.reply()
}

// tell sends one line.
func (c *Client) tell(line string) error {
	return c.put(append(append(c.w.AvailableBuffer(), line...), '\r', '\n'))
}

// put sends whole lines.
func (c *Client) put(lines []byte) error {
	c.deadline(c.timeouts.Command)
	_, err := c.w.Write(lines)
	if err == nil {
		err = c.w.Flush()
	}
	c.broken = c.broken || err != nil
	return err
}

// ask sends one line and reads the answer.
func (c *Client) ask(line []byte) (*Reply, error) {
	if err := c.put(line); err != nil {
		return nil, err
	}
	return c.answer()
}

// Hello introduces us: EHLO, and HELO where the peer does not know it.
func (c *Client) Hello(ctx context.Context, name string) error {
	defer c.bind(ctx)()
	c.name = name
	r, err := c.command("EHLO " + name)
	if err != nil {
		return fmt.Errorf("say EHLO: %w", err)
	}
	c.ext = map[string]string{}
	if r.Code == 250 {
		for _, line := range r.Lines[1:] {
			k, v, _ := strings.Cut(line, " ")
			c.ext[strings.ToUpper(k)] = v
		}
		return nil
	}
	if r.Temporary() || c.broken {
		return r
	}
	if r, err = c.command("HELO " + name); err != nil {
		return fmt.Errorf("say HELO: %w", err)
	}
	if r.Code != 250 {
		return r
	}
	return nil
}

// StartTLS protects the connection and introduces us again.
func (c *Client) StartTLS(ctx context.Context, cfg *tls.Config) error {
	defer c.bind(ctx)()
	r, err := c.command("STARTTLS")
	if err != nil {
		return fmt.Errorf("say STARTTLS: %w", err)
	}
	if r.Code != 220 {
		return r
	}
	if c.r.Buffered() > 0 {
		c.broken = true
		return errors.New("peer sent clear text behind its reply to STARTTLS")
	}
	t := tls.Client(c.net, cfg)
	c.deadline(c.timeouts.Command)
	if err := t.HandshakeContext(ctx); err != nil {
		c.broken = true
		return fmt.Errorf("TLS handshake: %w", err)
	}
	state := t.ConnectionState()
	c.tls, c.net = &state, t
	c.r.Reset(t)
	c.w.Reset(t)
	return c.Hello(ctx, c.name)
}

// Mail is one message to be sent.
type Mail struct {
	From Path
	MailParams
	To     []Recipient
	Header []byte // whole lines with CRLF, put before Body
	Body   io.Reader
	// Next is asked once the peer wants the data, where it offers PIPELINING: what it gives
	// is announced in one write with the end of this message, which may be the first of a
	// group of commands (RFC 2920, section 3.1), and has to be what is sent next on the
	// connection, or nothing is. Nil, and nil from it, is that nothing is known to follow.
	Next func() *Mail
}

// Result is what became of a Mail.
type Result struct {
	Mail *Reply   // to MAIL
	Rcpt []*Reply // to each RCPT; as many as were answered
	Data *Reply   // to DATA where it was refused, else to the end of data
	Err  error    // what broke the connection off
	Sent bool     // the end of data was sent: without Data nobody knows whether the peer has the message
}

// Send runs one transaction. With PIPELINING its commands go out together.
func (c *Client) Send(ctx context.Context, m *Mail) (res Result) {
	defer c.bind(ctx)()
	announced := c.next
	c.next = nil
	if announced != nil && announced != m {
		c.broken = true
		res.Err = errors.New("another message was announced")
		return res
	}
	if !c.Takes(m) {
		res.Err = ErrNeedsUTF8
		return res
	}
	if announced != nil {
		c.answers(m, &res)
	} else if c.Has("PIPELINING") {
		c.pipelined(m, &res)
	} else {
		c.oneByOne(m, &res)
	}
	c.broken = c.broken || res.Err != nil
	return res
}

// Takes reports whether the peer offers what a message cannot go without.
func (c *Client) Takes(m *Mail) bool { return !m.UTF8 || c.Has("SMTPUTF8") }

// mailLine and rcptLine put a command behind b, with its line end.
func (c *Client) mailLine(b []byte, m *Mail) []byte {
	b = append(append(append(b, "MAIL FROM:<"...), m.From.String()...), '>')
	if m.Size > 0 && c.Has("SIZE") {
		b = strconv.AppendInt(append(b, " SIZE="...), m.Size, 10)
	}
	if m.EightBit && c.Has("8BITMIME") {
		b = append(b, " BODY=8BITMIME"...)
	}
	if m.UTF8 {
		b = append(b, " SMTPUTF8"...)
	}
	if m.Return != "" && c.Has("DSN") {
		b = append(append(b, " RET="...), m.Return...)
	}
	if m.EnvID != "" && c.Has("DSN") {
		b = append(append(b, " ENVID="...), EncodeXtext(m.EnvID)...)
	}
	return append(b, '\r', '\n')
}

func (c *Client) rcptLine(b []byte, r *Recipient) []byte {
	b = append(append(append(b, "RCPT TO:<"...), r.Path.String()...), '>')
	if c.Has("DSN") {
		if n := r.Notify.String(); n != "" {
			b = append(append(b, " NOTIFY="...), n...)
		}
		if r.ORcpt != "" {
			b = append(append(b, " ORCPT="...), r.ORcpt...)
		}
	}
	return append(b, '\r', '\n')
}

// group puts MAIL, RCPT and DATA behind b (RFC 2920).
func (c *Client) group(b []byte, m *Mail) []byte {
	b = c.mailLine(b, m)
	for i := range m.To {
		b = c.rcptLine(b, &m.To[i])
	}
	return append(b, "DATA\r\n"...)
}

// pipelined sends the commands in one write.
func (c *Client) pipelined(m *Mail, res *Result) {
	if res.Err = c.put(c.group(c.w.AvailableBuffer(), m)); res.Err == nil {
		c.answers(m, res)
	}
}

// answers reads the replies to a group of commands and sends the message.
func (c *Client) answers(m *Mail, res *Result) {
	c.deadline(c.timeouts.Command)
	if res.Mail, res.Err = c.answer(); res.Err != nil {
		return
	}
	good := 0
	for range m.To {
		r, err := c.answer()
		if err != nil {
			res.Err = err
			return
		}
		res.Rcpt = append(res.Rcpt, r)
		if r.Positive() {
			good++
		}
	}
	data, err := c.reply()
	if err != nil {
		res.Err = err
		return
	}
	if data.Code != 354 {
		c.dataRefused(data, res)
		return
	}
	if !res.Mail.Positive() || good == 0 {
		// The peer wants a message that nobody will get: give it an empty one.
		m = &Mail{Body: strings.NewReader("")}
	}
	c.body(m, res)
}

func (c *Client) oneByOne(m *Mail, res *Result) {
	if res.Mail, res.Err = c.ask(c.mailLine(c.w.AvailableBuffer(), m)); res.Err != nil || !res.Mail.Positive() {
		return
	}
	good := 0
	for i := range m.To {
		r, err := c.ask(c.rcptLine(c.w.AvailableBuffer(), &m.To[i]))
		if err != nil {
			res.Err = err
			return
		}
		res.Rcpt = append(res.Rcpt, r)
		if r.Positive() {
			good++
		}
	}
	if good == 0 {
		c.rset(res)
		return
	}
	data, err := c.command("DATA")
	if err != nil {
		res.Err = err
		return
	}
	if data.Code != 354 {
		c.dataRefused(data, res)
		return
	}
	c.body(m, res)
}

// inMemory is a body that need not be read: Rest gives what is left of it, nil where it
// is not in memory. Nobody changes it.
type inMemory interface{ Rest() []byte }

// atOnce is how much of a body in memory goes out with one system call and one deadline.
const atOnce = 64 << 10

// ahead gives what follows the end of a message: the commands of the next one, if there is
// one.
func (c *Client) ahead(m *Mail) []byte {
	if m.Next == nil || !c.Has("PIPELINING") {
		return nil
	}
	next := m.Next()
	if next == nil {
		return nil
	}
	c.next = next
	return c.group(make([]byte, 0, 256), next)
}

// body sends the message and reads the last reply.
func (c *Client) body(m *Mail, res *Result) {
	if b, ok := m.Body.(inMemory); ok {
		if p := b.Rest(); len(p) > c.w.Available() && len(p) <= atOnce && c.tls == nil {
			c.gather(m, p, res)
			return
		}
	}
	c.deadline(c.timeouts.Data)
	d := newDotWriter(c.w)
	_, err := d.Write(m.Header)
	if err == nil {
		_, err = io.Copy(struct{ io.Writer }{&pacedWriter{c, d}}, m.Body)
	}
	if err != nil {
		// The end of data must not be sent: the message is not whole.
		res.Err = err
		c.net.Close()
		return
	}
	more := c.ahead(m)
	c.deadline(c.timeouts.End)
	res.Sent = true
	if err = d.Close(more); err != nil {
		res.Err = err
		return
	}
	res.Data, res.Err = c.answer()
}

// gather sends a message that lies in memory as it lies there: nothing is copied but
// by the kernel.
func (c *Client) gather(m *Mail, body []byte, res *Result) {
	d := dotWriter{start: true}
	parts := make(net.Buffers, 0, 8)
	for _, p := range [2][]byte{m.Header, body} {
		for len(p) > 0 {
			dot, n := d.cut(p)
			if dot {
				parts = append(parts, []byte{'.'})
			}
			parts = append(parts, p[:n])
			p = p[n:]
		}
	}
	parts = append(parts, append([]byte(d.end()), c.ahead(m)...))
	c.deadline(c.timeouts.Data)
	if _, res.Err = parts.WriteTo(c.net); res.Err != nil {
		c.net.Close() // part of the end may be out, not all of it
		return
	}
	res.Sent = true
	c.deadline(c.timeouts.End)
	res.Data, res.Err = c.answer()
}

// pacedWriter gives each block a deadline of its own.
type pacedWriter struct {
	c *Client
	d *dotWriter
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	p.c.deadline(p.c.timeouts.Data)
	return p.d.Write(b)
}

// rset clears a transaction that came to nothing.
func (c *Client) rset(res *Result) {
	if c.broken {
		return
	}
	if _, err := c.command("RSET"); err != nil {
		res.Err = err
	}
}

// Quit says good-bye and closes.
func (c *Client) Quit() error {
	if !c.broken && c.next == nil {
		c.ctx, c.by = nil, time.Time{}
		c.deadline(5 * time.Second)
		_, _ = c.w.WriteString("QUIT\r\n")
		if c.w.Flush() == nil {
			_, _ = c.reply()
		}
	}
	return c.net.Close()
}

// Close closes at once.
func (c *Client) Close() error { return c.net.Close() }
