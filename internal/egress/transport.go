package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"postern.dev/postern/internal/smtp"
)

// Host is one address to try.
type Host struct {
	Name     string
	Addr     netip.AddrPort
	Security *Security // what the mail demands; nil is opportunistic
}

// Transport makes connections. Its fields are set before first use.
type Transport struct {
	Resolver *Resolver
	Port     int    // of MX hosts
	Hostname string // in EHLO
	TLS      *tls.Config
	Timeouts smtp.Timeouts
	Connect  time.Duration // for the connection alone; 30 s
	// Own reports addresses that are this node's listeners: an MX that points there is
	// a loop.
	Own func(netip.AddrPort) bool
	// Elsewhere gives where a connection goes in place of the host's address, from
	// whatever source: for rehearsals on loopback. Nil sends everything where it belongs.
	Elsewhere func(netip.AddrPort) netip.AddrPort
	Now       func() time.Time // time.Now where nil

	memory memory
}

func (t *Transport) now() time.Time {
	if t.Now == nil {
		return time.Now()
	}
	return t.Now()
}

// MX gives the names of a domain's mail exchangers in the order in which to try them.
// Errors are as of Hosts.
func (t *Transport) MX(ctx context.Context, domain string) ([]string, error) {
	return t.Resolver.MX(ctx, domain)
}

// Hosts gives the addresses of a domain in the order in which to try them. An error
// that is ErrNoDomain or ErrNullMX is permanent.
func (t *Transport) Hosts(ctx context.Context, domain string, v4, v6 bool) ([]Host, error) {
	names, err := t.Resolver.MX(ctx, domain)
	if err != nil {
		return nil, err
	}
	var out []Host
	var last error
	for _, n := range names {
		as, err := t.Resolver.Addresses(ctx, n, v4, v6)
		if err != nil {
			if last == nil || errors.Is(last, ErrNoDomain) {
				last = err
			}
			continue
		}
		for _, a := range as {
			ap := netip.AddrPortFrom(a, uint16(t.Port))
			if t.Own != nil && t.Own(ap) {
				return nil, fmt.Errorf("mail for %s loops back to this node (%s)", domain, ap)
			}
			out = append(out, Host{Name: n, Addr: ap})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("hosts of %s: %w", domain, last)
	}
	return out, nil
}

// Conn is a connection that is ready for transactions.
type Conn struct {
	*smtp.Client
	Host   Host
	Source netip.Addr // that we send from
	Sent   int        // transactions tried
	// TLSFailure is why the connection is in clear text though the peer offers TLS.
	TLSFailure error

	secured *Security
}

// Security describes the connection's TLS, "" in clear text: version, cipher suite, and
// whether the peer's certificate was demanded to be right and whether a session was
// resumed.
func (c *Conn) Security() string {
	s := c.TLS()
	if s == nil {
		return ""
	}
	text := tls.VersionName(s.Version) + " " + tls.CipherSuiteName(s.CipherSuite)
	if c.secured.mode() == Verified {
		text += " verified"
	}
	if s.DidResume {
		text += " resumed"
	}
	return text
}

// Dial connects from a source address (the zero Addr leaves it to the system),
// introduces us, and protects the connection as the host's Security demands. Where that
// is opportunistic and TLS fails, it is tried once more in clear text, and not again
// for a while: opportunistic means better than nothing, not worse than it was.
func (t *Transport) Dial(ctx context.Context, source netip.Addr, h Host) (*Conn, error) {
	demanded := h.Security.demands()
	protect := demanded || h.Security.mode() != Clear && !t.memory.broken(h, t.now())
	c, err := t.dial(ctx, source, h, protect)
	var failed *tlsError
	if !errors.As(err, &failed) {
		return c, err
	}
	if demanded {
		return nil, unsound(err)
	}
	if ctx.Err() == nil {
		t.memory.failed(h, t.now())
	}
	if c, err = t.dial(ctx, source, h, false); c != nil {
		c.TLSFailure = failed
	}
	return c, err
}

// tlsError marks a failure of STARTTLS.
type tlsError struct{ error }

func (t *Transport) dial(ctx context.Context, source netip.Addr, h Host, protect bool) (*Conn, error) {
	wait := t.Connect
	if wait == 0 {
		wait = 30 * time.Second
	}
	d, to := net.Dialer{Timeout: wait}, h.Addr
	if t.Elsewhere != nil {
		source, to = netip.Addr{}, t.Elsewhere(to)
	}
	if source.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: source.AsSlice()}
	}
	nc, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, fmt.Errorf("connect to %s [%s]: %w", h.Name, h.Addr.Addr(), cause(err))
	}
	cl, err := smtp.NewClient(ctx, nc, t.Timeouts)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("%s [%s]: %w", h.Name, h.Addr.Addr(), err)
	}
	if err := cl.Hello(ctx, t.Hostname); err != nil {
		cl.Close()
		return nil, fmt.Errorf("%s [%s]: %w", h.Name, h.Addr.Addr(), err)
	}
	offered := t.TLS != nil && cl.Has("STARTTLS")
	if h.Security.demands() && !offered {
		_ = cl.Quit()
		return nil, unoffered(h)
	}
	if protect && offered {
		if err := cl.StartTLS(ctx, t.tlsFor(source, h)); err != nil {
			cl.Close()
			return nil, &tlsError{fmt.Errorf("%s [%s]: %w", h.Name, h.Addr.Addr(), err)}
		}
	}
	local := source
	if a, ok := nc.LocalAddr().(*net.TCPAddr); ok && !source.IsValid() {
		local = a.AddrPort().Addr().Unmap()
	}
	return &Conn{Client: cl, Host: h, Source: local, secured: h.Security}, nil
}

// cause takes the addresses out of a network error: they stand before it already.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Status says how an attempt ended for one recipient.
type Status uint8

// The ends of an attempt.
const (
	Delivered Status = iota + 1
	Deferred
	Failed
)

// Outcome is what became of one recipient in one attempt.
type Outcome struct {
	Status Status
	Reply  string // the peer's, or the cause in our words
	Code   string // enhanced status: "2.0.0", "4.4.1"
	// Ambiguous: the end of data was sent and no reply came; the peer may have the
	// message. It is tried again: RFC 5321, section 6.1, prefers a second copy to a loss.
	Ambiguous bool
}

// Judge reads the outcome of a one-recipient transaction.
func Judge(res smtp.Result) Outcome {
	for _, r := range []*smtp.Reply{res.Mail, first(res.Rcpt), res.Data} {
		if r != nil && !r.Positive() {
			return fromReply(r)
		}
	}
	switch {
	case errors.Is(res.Err, smtp.ErrNeedsUTF8):
		return Outcome{Status: Failed, Reply: res.Err.Error(), Code: "5.6.7"}
	case res.Err != nil && res.Sent:
		return Outcome{Status: Deferred, Reply: "connection lost after the end of data, the peer may have the message: " + res.Err.Error(), Code: "4.4.2", Ambiguous: true}
	case res.Err != nil:
		return Outcome{Status: Deferred, Reply: "connection lost: " + res.Err.Error(), Code: "4.4.2"}
	case res.Data == nil || len(res.Rcpt) == 0:
		return Outcome{Status: Deferred, Reply: "no reply", Code: "4.4.2"}
	}
	return Outcome{Status: Delivered, Reply: res.Data.String(), Code: "2.0.0"}
}

func first(rs []*smtp.Reply) *smtp.Reply {
	if len(rs) == 0 {
		return nil
	}
	return rs[0]
}

func fromReply(r *smtp.Reply) Outcome {
	o := Outcome{Status: Deferred, Reply: r.String(), Code: r.Enhanced.String()}
	if r.Permanent() {
		o.Status = Failed
	}
	if o.Code == "" {
		o.Code = fmt.Sprintf("%d.0.0", r.Code/100)
	}
	return o
}

// FromError reads the outcome of a connection that did not come about.
func FromError(err error) Outcome {
	var r *smtp.Reply
	var insecure *insecureError
	switch {
	case errors.Is(err, ErrNullMX):
		return Outcome{Status: Failed, Reply: err.Error(), Code: "5.1.10"}
	case errors.Is(err, ErrNoDomain):
		return Outcome{Status: Failed, Reply: err.Error(), Code: "5.1.2"}
	case errors.As(err, &insecure):
		return Outcome{Status: Deferred, Reply: err.Error(), Code: insecure.code}
	case errors.As(err, &r):
		o := fromReply(r)
		o.Status = Deferred // another host or time may do
		return o
	}
	return Outcome{Status: Deferred, Reply: err.Error(), Code: "4.4.1"}
}
