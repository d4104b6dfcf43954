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
	net     net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	peer    Peer
	session Session
	tooMany bool
	counted bool
	ends    time.Time // of the session

	idle     atomic.Bool // waits for a command outside of a transaction
	errors   int
	commands int
	mail     bool
	params   MailParams
	rcpts    int
	bdat     *bdatTransfer
	quit     bool
}

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{server: s, net: nc, r: bufio.NewReaderSize(nc, 16<<10), w: bufio.NewWriterSize(nc, 4<<10)}
}

// wake makes a session that only waits for a command end now.
func (c *conn) wake() {
	if c.idle.Load() {
		_ = c.net.SetReadDeadline(time.Unix(1, 0))
	}
}

// serve runs the session to its end. A panic of one session must not take the
// others with it; it is the only recover of this package.
func (c *conn) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer c.net.Close()
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
		return
	}
	c.loop(ctx)
}

// begin settles who the client is and greets it.
func (c *conn) begin(ctx context.Context) bool {
	s := c.server
	c.deadline(s.limits.Greeting)
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
		c.write(refusal)
		return false
	}
	c.session = session
	return c.write(&Reply{Code: 220, Lines: []string{s.Hostname + " ESMTP Postern"}})
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
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
	t := c.server.Now().Add(d)
	if t.After(c.ends) {
		t = c.ends
	}
	_ = c.net.SetDeadline(t)
}

func (c *conn) handshake(ctx context.Context) bool {
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
		if c.server.isClosing() && !c.mail {
			c.write(&Reply{Code: 421, Enhanced: EnhancedCode{4, 3, 2}, Lines: []string{"shutting down"}, Close: true})
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
		if reply.Code >= 400 {
			if c.errors++; c.errors >= c.server.limits.Errors && !reply.Close {
				reply = &Reply{Code: 421, Enhanced: EnhancedCode{4, 7, 0}, Lines: []string{"too many errors"}, Close: true}
			}
		}
		if !c.write(reply) {
			return
		}
	}
}

// readCommand reads a command line. Both results nil mean that the connection is
// gone; a reply refuses the line.
func (c *conn) readCommand() ([]byte, *Reply) {
	c.deadline(c.server.limits.Idle)
	c.idle.Store(!c.mail)
	if c.server.isClosing() && !c.mail {
		c.wake()
	}
	line, err := c.r.ReadSlice('\n')
	c.idle.Store(false)
	var timeout net.Error
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || len(line) > c.server.limits.CommandLine:
		return nil, &Reply{Code: 500, Enhanced: EnhancedCode{5, 5, 6}, Lines: []string{"line too long"}, Close: true}
	case errors.As(err, &timeout) && timeout.Timeout():
		c.deadline(c.server.limits.Write)
		return nil, &Reply{Code: 421, Enhanced: EnhancedCode{4, 4, 2}, Lines: []string{"timeout or shutting down"}, Close: true}
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
	_ = c.net.SetWriteDeadline(c.server.Now().Add(c.server.limits.Write))
	var b []byte
	for i, text := range r.Lines {
		b = strconv.AppendInt(b[:0], int64(r.Code), 10)
		if i < len(r.Lines)-1 {
			b = append(b, '-')
		} else {
			b = append(b, ' ')
		}
		if e := r.Enhanced.String(); e != "" && c.peer.ESMTP {
			b = append(append(b, e...), ' ')
		}
		b = append(append(b, clean(text)...), '\r', '\n')
		if _, err := c.w.Write(b); err != nil {
			return false
		}
	}
	if r.Close || c.r.Buffered() == 0 {
		if err := c.w.Flush(); err != nil {
			return false
		}
	}
	if r.Close {
		c.quit = true
		return false
	}
	return true
}

// clean keeps line ends and other controls out of a reply.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// drain reads a message that is refused to its end, within a bound, so that the
// client gets the reply.
func drain(d *dotReader, bound int64) error {
	d.err, d.limit = nil, d.n+bound
	for {
		_, err := io.Copy(io.Discard, d)
		if errors.Is(err, ErrNUL) {
			d.err = nil
			continue
		}
		return err
	}
}
