package smtp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// conn is one connection: it reads commands, asks the Session, and writes replies.
type conn struct {
	server  *Server
	raw     net.Conn // as it was accepted; Shutdown uses it too
	net     net.Conn // raw, or TLS over it
	r       *bufio.Reader
	w       *bufio.Writer
	peer    Peer
	session Session
	tooMany bool
	takes   bool // one of the connections that the limit counts
	counted bool
	ends    time.Time // of the session
	readBy  time.Time // the deadline that is set for reading, zero where that is not known
	writeBy time.Time // likewise for writing
	dot     dotReader // of the message under way

	idle     atomic.Bool // waits for the client, outside of a transaction
	greeted  bool        // the first command has come
	linger   bool        // the client may not have read why the connection ends
	errors   int         // since the last accepted message
	commands int
	mail     bool
	params   MailParams
	rcpts    int
	bdat     *bdatTransfer
	quit     bool
}

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{server: s, raw: nc, net: nc, r: bufio.NewReaderSize(nc, 16<<10), w: bufio.NewWriterSize(nc, 4<<10)}
}

// wake makes a session that only waits for its client end now.
func (c *conn) wake() {
	if c.idle.Load() {
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// await bounds a wait for the client during which Shutdown may wake the session.
func (c *conn) await(d time.Duration) {
	c.deadline(d)
	c.idle.Store(!c.mail)
	if c.server.isClosing() {
		c.wake()
	}
}

// serve runs the session to its end. A panic of one session must not take the
// others with it; it is the only recover of this package.
func (c *conn) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer c.raw.Close()
	defer func() {
		if p := recover(); p != nil {
			c.server.Log.Error("session panicked", "panic", p, "stack", string(debug.Stack()))
		}
		if c.bdat != nil {
			c.bdat.abort()
		}
		if c.session != nil {
			c.session.Close()
		}
	}()
	c.ends = c.server.Now().Add(c.server.limits.Session)
	if !c.begin(ctx) {
		return // a client that has said nothing yet misses nothing
	}
	c.loop(ctx)
	if c.linger {
		c.lingerOn()
	}
}

// What the last reply may cost: a client that is still sending would otherwise meet a
// reset and never read it.
const (
	lingerTime   = time.Second
	lingerOctets = 1 << 20
)

// lingerOn ends our side of the connection and drops what the client still sends.
func (c *conn) lingerOn() {
	half, ok := c.raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.mail = false // nothing is under way that Shutdown would have to wait for
	c.await(lingerTime)
	_, _ = io.CopyN(io.Discard, c.raw, lingerOctets)
}

// begin settles who the client is and greets it.
func (c *conn) begin(ctx context.Context) bool {
	s := c.server
	c.await(s.limits.Greeting)
	defer c.idle.Store(false)
	c.peer.Addr, c.peer.Local = addrPort(c.net.RemoteAddr()), addrPort(c.net.LocalAddr())
	if containsAddr(s.ProxyFrom, c.peer.Addr.Addr()) {
		src, err := readProxy(c.r)
		if err != nil {
			s.Log.Warn("bad PROXY header", "peer", c.peer.Addr.String(), "err", err)
			return false
		}
		if src.IsValid() {
			c.peer.Addr = src
		}
	}
	if s.ImplicitTLS && !c.handshake(ctx) {
		return false
	}
	if c.tooMany || !s.admit(c) {
		c.write(&Reply{Code: 421, Enhanced: EnhancedCode{4, 7, 0}, Lines: []string{"too many connections, try again later"}, Close: true})
		return false
	}
	session, refusal := s.Backend.NewSession(ctx, &c.peer)
	if refusal != nil {
		r := *refusal
		r.Close = true
		c.write(&r)
		return false
	}
	c.session = session
	return c.write(&Reply{Code: 220, Lines: []string{s.Hostname + " ESMTP Postern"}})
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	}
	return netip.AddrPort{}
}

func containsAddr(ps []netip.Prefix, a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// deadline bounds the next exchange, and the session as a whole.
func (c *conn) deadline(d time.Duration) {
	if d < 10*slack {
		c.readBy = time.Time{} // a short wait is meant to the millisecond
	}
	c.until(c.server.Now().Add(d))
}

func (c *conn) until(t time.Time) {
	if t.After(c.ends) {
		t = c.ends
	}
	if c.peer.TLS != nil {
		_ = c.raw.SetDeadline(t) // reading may have to write
		return
	}
	if !closeTo(c.readBy, t) || c.server.isClosing() { // Shutdown may have set another
		c.readBy = t
		_ = c.raw.SetReadDeadline(t)
	}
}

// slack is how much earlier than wanted a deadline may be: to move one costs a good part
// of what a command costs.
const slack = 100 * time.Millisecond

// closeTo reports a deadline that may stand for the one that is wanted.
func closeTo(set, wanted time.Time) bool {
	d := wanted.Sub(set)
	return d >= 0 && d < slack
}

// replyBy bounds the writing of a reply.
func (c *conn) replyBy() {
	wait := c.server.limits.Write
	if t := c.server.Now().Add(wait); !closeTo(c.writeBy, t) || wait < 10*slack || c.peer.TLS != nil {
		c.writeBy = t
		_ = c.raw.SetWriteDeadline(t)
	}
}

func (c *conn) handshake(ctx context.Context) bool {
	_ = c.raw.SetWriteDeadline(c.server.Now().Add(c.server.limits.Greeting)) // await has set the one for reading
	t := tls.Server(c.net, c.server.TLS)
	if err := t.HandshakeContext(ctx); err != nil {
		c.server.Log.Info("TLS handshake", "peer", c.peer.Addr.String(), "err", err)
		return false
	}
	state := t.ConnectionState()
	c.net, c.peer.TLS = t, &state
	c.r.Reset(t)
	c.w.Reset(t)
	return true
}

// loop reads and answers commands until the session ends.
func (c *conn) loop(ctx context.Context) {
	for !c.quit {
		switch {
		case c.server.isClosing() && !c.mail:
			c.write(closingReply())
			return
		case c.errors >= c.server.limits.Errors:
			c.write(&Reply{Code: 421, Enhanced: EnhancedCode{4, 7, 0}, Lines: []string{"too many errors"}, Close: true})
			return
		}
		line, reply := c.readCommand()
		if reply == nil && line == nil {
			return
		}
		if reply == nil {
			if c.commands++; c.commands > c.server.limits.Commands {
				reply = &Reply{Code: 421, Enhanced: EnhancedCode{4, 7, 0}, Lines: []string{"too many commands"}, Close: true}
			} else {
				reply = c.command(ctx, string(line))
			}
		}
		if reply == nil {
			continue // the command has answered for itself
		}
		// A list that is too long is no offence: the client goes on with what was taken
		// (RFC 5321, section 4.5.3.1.10).
		if reply.Code >= 400 && reply != replyTooManyRcpts {
			c.errors++
		}
		if !c.write(reply) {
			return
		}
	}
}

func closingReply() *Reply {
	return &Reply{Code: 421, Enhanced: EnhancedCode{4, 3, 2}, Lines: []string{"shutting down"}, Close: true}
}

// readCommand reads a command line. Both results nil mean that the connection is
// gone; a reply refuses the line.
func (c *conn) readCommand() ([]byte, *Reply) {
	wait := c.server.limits.Idle
	if !c.greeted {
		wait = c.server.limits.Greeting
	}
	c.await(wait)
	line, err := c.r.ReadSlice('\n')
	c.idle.Store(false)
	c.greeted = true
	var timeout net.Error
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || len(line) > c.server.limits.CommandLine:
		return nil, &Reply{Code: 500, Enhanced: EnhancedCode{5, 5, 6}, Lines: []string{"line too long"}, Close: true}
	case errors.As(err, &timeout) && timeout.Timeout():
		if c.server.isClosing() {
			return nil, closingReply()
		}
		return nil, &Reply{Code: 421, Enhanced: EnhancedCode{4, 4, 2}, Lines: []string{"timeout"}, Close: true}
	case err != nil:
		return nil, nil
	}
	if len(line) < 2 || line[len(line)-2] != '\r' || bytes.IndexByte(line[:len(line)-2], '\r') >= 0 {
		return nil, &Reply{Code: 500, Enhanced: EnhancedCode{5, 5, 2}, Lines: []string{"bare CR or LF"}, Close: true}
	}
	line = line[:len(line)-2]
	if bytes.IndexByte(line, 0) >= 0 {
		return nil, &Reply{Code: 500, Enhanced: EnhancedCode{5, 5, 2}, Lines: []string{"NUL in command"}, Close: true}
	}
	return line, nil
}

// write sends a reply; it flushes only when no further command waits, so that
// pipelined commands are answered together (RFC 2920).
func (c *conn) write(r *Reply) bool {
	c.replyBy()
	if _, err := c.w.Write(r.append(c.w.AvailableBuffer(), c.peer.ESMTP)); err != nil {
		return false
	}
	if r.Close || c.r.Buffered() == 0 {
		if err := c.w.Flush(); err != nil {
			return false
		}
	}
	if r.Close {
		c.quit, c.linger = true, r.Code >= 400
		return false
	}
	return true
}

// append writes a reply as it goes over the wire; enhanced codes are for clients that
// said EHLO.
func (r *Reply) append(b []byte, enhanced bool) []byte {
	lines := r.Lines
	if len(lines) == 0 {
		lines = []string{""}
	}
	for i, text := range lines {
		b = strconv.AppendInt(b, int64(r.Code), 10)
		if i < len(lines)-1 {
			b = append(b, '-')
		} else {
			b = append(b, ' ')
		}
		if enhanced && r.Enhanced != (EnhancedCode{}) {
			b = append(r.Enhanced.append(b), ' ')
		}
		b = append(append(b, clean(text)...), '\r', '\n')
	}
	return b
}

// maxReplyText keeps a reply's line within 512 octets (RFC 5321, section 4.5.3.1.5),
// with code, enhanced code and line end.
const maxReplyText = 490

// clean keeps line ends, other controls and what is not ASCII out of a reply.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), maxReplyText)]
}

// drainBound is how much of a refused message is read so that the client gets the
// reply in step with the protocol.
func (c *conn) drainBound() int64 { return max(c.server.limits.Size, 64<<20) }

// drain reads a message that is refused to its end, within a bound.
func drain(d *dotReader, bound int64) error {
	d.err, d.limit, d.nuls = nil, d.n+bound, true
	_, err := io.Copy(io.Discard, d)
	return err
}
