package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what one listener lets its clients do. Zero values take the default.
type Limits struct {
	Connections int           // at once
	PerAddress  int           // at once, from one address; an IPv6 /64 counts as one
	Recipients  int           // of a transaction; RFC 5321 asks for 100
	Size        int64         // octets of a message
	CommandLine int           // octets of a command line
	TextLine    int           // octets of a line of text; RFC 5321 has 1,000, real mail more
	Errors      int           // refused or unknown commands without an accepted message in between
	Commands    int           // of a session
	Greeting    time.Duration // for PROXY header and TLS handshake, and again for the first command
	Idle        time.Duration // between commands, for a whole command line
	Data        time.Duration // for a whole message, all its chunks together
	Session     time.Duration // for the whole session
	Write       time.Duration // for a reply
}

// DefaultLimits gives the limits that apply where nothing is set.
func DefaultLimits() Limits {
	return Limits{Connections: 1000, PerAddress: 50, Recipients: 1000, Size: 50 << 20, CommandLine: 4096, TextLine: 64 << 10,
		Errors: 20, Commands: 100_000, Greeting: time.Minute, Idle: 5 * time.Minute, Data: 10 * time.Minute,
		Session: time.Hour, Write: time.Minute}
}

// WithDefaults fills in what is zero.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits()
	for _, p := range []struct{ v, def *int }{{&l.Connections, &d.Connections}, {&l.PerAddress, &d.PerAddress},
		{&l.Recipients, &d.Recipients}, {&l.CommandLine, &d.CommandLine}, {&l.TextLine, &d.TextLine}, {&l.Errors, &d.Errors}, {&l.Commands, &d.Commands}} {
		if *p.v == 0 {
			*p.v = *p.def
		}
	}
	for _, p := range []struct{ v, def *time.Duration }{{&l.Greeting, &d.Greeting}, {&l.Idle, &d.Idle}, {&l.Data, &d.Data},
		{&l.Session, &d.Session}, {&l.Write, &d.Write}} {
		if *p.v == 0 {
			*p.v = *p.def
		}
	}
	if l.Size == 0 {
		l.Size = d.Size
	}
	return l
}

// Server drives sessions over connections that it is given. Set the fields, then call
// Serve once for each network listener.
type Server struct {
	Hostname    string
	Backend     Backend
	TLS         *tls.Config // nil: no STARTTLS
	ImplicitTLS bool        // TLS from the first octet (RFC 8314)
	Credentials Credentials // nil: no AUTH
	Limits      Limits
	ProxyFrom   []netip.Prefix // peers whose PROXY header is required and believed
	Log         *slog.Logger
	Now         func() time.Time // for deadlines

	closing   atomic.Bool // set with mu held, read by every session before each command
	mu        sync.Mutex
	listeners map[net.Listener]bool
	conns     map[*conn]bool
	taken     int // connections that count towards the limit
	perAddr   map[netip.Addr]int
	wg        sync.WaitGroup
	secret    [32]byte // of the answers to unknown users
	limits    Limits
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("smtp server closed")

func (s *Server) prepare(l net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosing() {
		return ErrServerClosed
	}
	if s.listeners == nil {
		s.listeners, s.conns, s.perAddr = map[net.Listener]bool{}, map[*conn]bool{}, map[netip.Addr]int{}
		s.limits = s.Limits.WithDefaults()
		if s.Log == nil {
			s.Log = slog.New(slog.DiscardHandler)
		}
		if s.Now == nil {
			s.Now = time.Now
		}
		s.secret = randomSecret()
	}
	s.listeners[l] = true
	return nil
}

// Serve accepts connections until the listener fails or Shutdown is called. The
// context of all sessions descends from ctx.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if err := s.prepare(l); err != nil {
		return err
	}
	delay := 5 * time.Millisecond
	for {
		c, err := l.Accept()
		if err != nil {
			if s.isClosing() || errors.Is(err, net.ErrClosed) {
				return ErrServerClosed
			}
			// Out of descriptors, most likely: wait a little and go on.
			s.Log.Error("accept", "err", err)
			select {
			case <-time.After(delay):
			case <-ctx.Done():
				return ctx.Err()
			}
			delay = min(2*delay, time.Second)
			continue
		}
		delay = 5 * time.Millisecond
		s.start(ctx, c)
	}
}

func (s *Server) isClosing() bool { return s.closing.Load() }

// start takes a connection on, or turns it away where there are too many.
func (s *Server) start(ctx context.Context, nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosing() {
		nc.Close()
		return
	}
	if len(s.conns) >= s.limits.Connections+64 {
		nc.Close() // more than can be told politely
		return
	}
	if c.tooMany = s.taken >= s.limits.Connections; !c.tooMany {
		s.taken++
		c.takes = true
	}
	s.conns[c] = true
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer s.forget(c)
		c.serve(ctx)
	}()
}

// admit counts a client's address, once it is known.
func (s *Server) admit(c *conn) bool {
	a := countedAs(c.peer.Addr.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.perAddr[a] >= s.limits.PerAddress {
		s.release(c) // while it is told so, another may have its place
		return false
	}
	s.perAddr[a]++
	c.counted = true
	return true
}

// countedAs gives what stands for a client's address in the limit of connections: a
// network of 64 bits for IPv6, whose hosts choose the rest of their address freely
// (RFC 8981).
func countedAs(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	p, _ := a.Prefix(64)
	return p.Addr()
}

// release gives a connection's place among all back. The lock is held.
func (s *Server) release(c *conn) {
	if c.takes {
		s.taken--
		c.takes = false
	}
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.release(c)
	if !c.counted {
		return
	}
	a := countedAs(c.peer.Addr.Addr())
	if s.perAddr[a]--; s.perAddr[a] == 0 {
		delete(s.perAddr, a)
	}
}

// Shutdown stops listening, lets each session finish the transaction it is in, and
// waits. When ctx ends first, the connections are closed and it waits for the rest.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing.Store(true)
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.wake()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		c.raw.Close()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}
