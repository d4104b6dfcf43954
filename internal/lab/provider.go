package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/smtp"
)

// Behaviour is how a provider treats those who bring mail.
type Behaviour struct {
	Greylist bool // the first try of each (source network, sender, recipient) gets 451
	Throttle int  // messages on one connection before 421; 0 is no limit
	// Refuse gives the reply to a recipient, nil to take it. Where it is nil itself,
	// local parts that begin with "unknown" get 550 5.1.1.
	Refuse func(to smtp.Path) *smtp.Reply
}

// Delivery is one message that a provider took, for one recipient.
type Delivery struct {
	Provider string
	Peer     netip.Addr
	Helo     string
	From     smtp.Path
	To       smtp.Path
	Data     []byte
	At       time.Time
	Mark     string // X-Lab-Id: who in the lab made it, and which
}

// ByStranger reports a message that the spammer made.
func (d *Delivery) ByStranger() bool { return strings.HasPrefix(d.Mark, "stranger") }

// Provider is a mailbox provider with a feedback loop.
type Provider struct {
	Name      string
	Domains   []string
	Profile   message.Profile
	Behaviour Behaviour
	MX        string // its address
	Reporter  string // address that complaints come from
	Domain    string // that complaints come from; it publishes SPF

	lab    *Lab
	server *smtp.Server
	done   chan struct{}

	mu   sync.Mutex
	got  []Delivery
	seen map[string]bool
	more chan struct{} // closed and replaced at each delivery
	sent int           // complaints
}

// AddProvider starts a provider and publishes it in the DNS.
func (l *Lab) AddProvider(name string, domains []string, profile message.Profile, b Behaviour) (*Provider, error) {
	n := len(l.providers) + 1
	p := &Provider{Name: name, Domains: domains, Profile: profile, Behaviour: b, MX: fmt.Sprintf("127.25.0.%d", n), Reporter: fmt.Sprintf("127.25.1.%d", n),
		Domain: "fbl." + domains[0], lab: l, done: make(chan struct{}), seen: map[string]bool{}, more: make(chan struct{})}
	host := "mx." + domains[0]
	records := []string{host + ". 60 IN A " + p.MX, p.Domain + `. 60 IN TXT "v=spf1 ip4:` + p.Reporter + ` -all"`}
	for _, d := range domains {
		records = append(records, d+". 60 IN MX 10 "+host+".")
	}
	for _, r := range records {
		if err := l.Record(r); err != nil {
			return nil, err
		}
	}
	nl, err := net.Listen("tcp", net.JoinHostPort(p.MX, fmt.Sprint(l.Port)))
	if err != nil {
		return nil, fmt.Errorf("lab provider %s: %w", name, err)
	}
	p.server = &smtp.Server{Hostname: host, Backend: p, Limits: smtp.Limits{Connections: 1000, PerAddress: 1000, Commands: 1 << 30}}
	go func() { defer close(p.done); _ = p.server.Serve(context.Background(), nl) }()
	l.providers = append(l.providers, p)
	return p, nil
}

func (p *Provider) close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.server.Shutdown(ctx)
	<-p.done
}

// NewSession implements smtp.Backend.
func (p *Provider) NewSession(_ context.Context, peer *smtp.Peer) (smtp.Session, *smtp.Reply) {
	return &mailbox{p: p, peer: peer}, nil
}

// mailbox is a session with somebody who brings mail.
type mailbox struct {
	p    *Provider
	peer *smtp.Peer
	from smtp.Path
	to   []smtp.Path
	n    int
}

// Mail implements smtp.Session.
func (m *mailbox) Mail(_ context.Context, from smtp.Path, _ smtp.MailParams) *smtp.Reply {
	if t := m.p.Behaviour.Throttle; t > 0 && m.n >= t {
		r := smtp.NewReply(421, smtp.EnhancedCode{4, 7, 0}, "too many messages on this connection")
		r.Close = true
		return r
	}
	m.from, m.to = from, nil
	return nil
}

// Rcpt implements smtp.Session.
func (m *mailbox) Rcpt(_ context.Context, to smtp.Path, _ smtp.RcptParams) *smtp.Reply {
	b := &m.p.Behaviour
	if b.Refuse != nil {
		if r := b.Refuse(to); r != nil {
			return r
		}
	} else if strings.HasPrefix(to.Local, "unknown") {
		return smtp.NewReply(550, smtp.EnhancedCode{5, 1, 1}, "no such user")
	}
	if b.Greylist {
		net, _ := m.peer.Addr.Addr().Prefix(24) // as the usual grey-listers do
		key := net.String() + " " + m.from.String() + " " + to.String()
		m.p.mu.Lock()
		seen := m.p.seen[key]
		m.p.seen[key] = true
		m.p.mu.Unlock()
		if !seen {
			return smtp.NewReply(451, smtp.EnhancedCode{4, 7, 1}, "grey-listed, try again later")
		}
	}
	m.to = append(m.to, to)
	return nil
}

// Data implements smtp.Session.
func (m *mailbox) Data(_ context.Context, r io.Reader) *smtp.Reply {
	b, err := io.ReadAll(r)
	if err != nil {
		return smtp.NewReply(451, smtp.EnhancedCode{4, 0, 0}, "broken off")
	}
	m.n++
	mark := ""
	if i := bytes.Index(b, []byte("\r\nX-Lab-Id: ")); i >= 0 {
		rest := b[i+len("\r\nX-Lab-Id: "):]
		mark = string(rest[:max(0, bytes.IndexByte(rest, '\r'))])
	}
	now := m.p.lab.now()
	trace := fmt.Sprintf("Return-Path: <%s>\r\nReceived: from %s (unknown [%s]) by %s with ESMTP; %s\r\n", m.from, m.peer.Helo, m.peer.Addr.Addr(), m.p.server.Hostname, now.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	m.p.mu.Lock()
	defer m.p.mu.Unlock()
	for _, to := range m.to {
		m.p.got = append(m.p.got, Delivery{Provider: m.p.Name, Peer: m.peer.Addr.Addr(), Helo: m.peer.Helo, From: m.from, To: to, Data: append([]byte(trace), b...), At: now, Mark: mark})
	}
	close(m.p.more)
	m.p.more = make(chan struct{})
	return nil
}

// Reset implements smtp.Session.
func (m *mailbox) Reset() { m.from, m.to = smtp.Path{}, nil }

// Close implements smtp.Session.
func (m *mailbox) Close() {}

// Received gives what has arrived.
func (p *Provider) Received() []Delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Delivery(nil), p.got...)
}

// Count counts what has arrived.
func (p *Provider) Count(match func(*Delivery) bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for i := range p.got {
		if match(&p.got[i]) {
			n++
		}
	}
	return n
}

// Await waits until at least n deliveries match.
func (p *Provider) Await(ctx context.Context, n int, match func(*Delivery) bool) error {
	for {
		p.mu.Lock()
		more := p.more
		p.mu.Unlock()
		if p.Count(match) >= n {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("lab: %s has %d of %d deliveries: %w", p.Name, p.Count(match), n, ctx.Err())
		}
	}
}

func (p *Provider) reporter() smtp.Path { return smtp.Path{Local: "scomp", Domain: p.Domain} }

// Complaint writes the mail of a complaint about a delivery to an address, with the
// redaction of the provider's profile. Each is another one.
func (p *Provider) Complaint(d *Delivery, fbl smtp.Path) []byte {
	p.mu.Lock()
	p.sent++
	n := p.sent
	p.mu.Unlock()
	return message.BuildARF(&message.Complaint{Profile: p.Profile, From: p.reporter().String(), To: fbl.String(), Date: p.lab.now(), MessageID: fmt.Sprintf("c%d@%s", n, p.Domain), Boundary: fmt.Sprintf("b%d-%s", n, p.Name),
		SourceIP: d.Peer, Arrival: d.At, MailFrom: d.From.String(), Rcpt: d.To.String(), Original: d.Data})
}

// Complain sends a complaint about a delivery to an address at a gateway's listener.
func (p *Provider) Complain(ctx context.Context, d *Delivery, listener string, fbl smtp.Path) error {
	r, err := submit(ctx, p.Reporter, listener, "report."+p.Domain, p.reporter(), fbl, p.Complaint(d, fbl))
	if err != nil {
		return fmt.Errorf("lab: complaint of %s: %w", p.Name, err)
	}
	if !r.Positive() {
		return fmt.Errorf("lab: complaint of %s: %w", p.Name, r)
	}
	return nil
}
