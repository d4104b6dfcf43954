package gateway

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/stamp"
)

// Generation is one loaded configuration, as far as sessions need it. A session
// keeps the one it began with, to its end.
type Generation struct {
	Version  string // of the policy
	Hostname string
	Program  *policy.Program
	// CustomerOf names the customer that an authenticated user belongs to.
	CustomerOf func(user string) string
	// CampaignHeader and PriorityHeader name fields of customers' messages, in lower case;
	// "" is none.
	CampaignHeader string
	PriorityHeader string
	// Priority is that of mail whose header does not say; nil makes all of it normal.
	Priority func(listener, customer string) spool.Priority
}

// Store takes messages and ledger events, durably: the spool.
type Store interface {
	NewBody() *spool.Body
	Commit(ctx context.Context, b *spool.Batch) (spool.Position, error)
	Note(b *spool.Batch) error
}

// Outbound is told of every message that has something to be delivered, after its
// commit.
type Outbound interface {
	Add(m *spool.Message)
}

// Gate tells what is held back while an incident lasts.
type Gate interface {
	Holds(listener, filter, origin string, peer netip.Addr, pool string) (incident string, held bool)
}

// Memory is where a message that an inside host sends on can be found again.
type Memory interface {
	Accepted(ctx context.Context, id smtp.ID) (*ledger.Accepted, error)
	ByMessageID(ctx context.Context, messageID string) ([]smtp.ID, error)
}

// Authentication gives SPF, DKIM and DMARC results of a message, in the words of RFC
// 8601. raw is the message from its first octet.
type Authentication interface {
	Authenticate(ctx context.Context, peer *smtp.Peer, from smtp.Path, raw io.Reader) (spf, dkim, dmarc string)
}

// Options are what a Gateway is made of. All but Namer, Suppressed, Authentication and Log are
// required.
type Options struct {
	Generation     func() *Generation
	Store          Store
	Outbound       Outbound
	Gate           Gate
	Memory         Memory
	Ring           func() *stamp.Ring
	Consume        func(m *spool.Message) // told of each message with a recipient to be read by Postern, after its commit
	Bounce         func(id smtp.ID, recipient int, reason string)
	Authentication Authentication
	// Suppressed tells why a customer's mail to a recipient is refused: it is on the suppression
	// list; nil where it is not. It is asked of customers' mail alone: it would
	// tell anybody else who has bounced or complained.
	Suppressed func(customer string, rcpt policy.Address) (*Suppression, error)
	Namer      func(ctx context.Context, a netip.Addr) string // forward-confirmed reverse name, "" if none
	Now        func() time.Time
	Random     io.Reader
	Log        *slog.Logger
}

// Suppression is why an address is not mailed.
type Suppression struct {
	Reason   string // "hard-bounce"
	NoSuch   bool   // the address itself is no good
	Since    time.Time
	Everyone bool // it stands on the list for all customers
}

// Gateway makes the sessions of all listeners.
type Gateway struct {
	o          Options
	rates      *rates
	neighbours *neighbours
}

// New makes a Gateway.
func New(o Options) *Gateway {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Gateway{o: o, rates: newRates(), neighbours: newNeighbours()}
}

// Listener gives the smtp.Backend of one listener of the configuration. auth tells
// whether it offers AUTH.
func (g *Gateway) Listener(name string, auth bool) smtp.Backend {
	return &backend{gateway: g, listener: name, auth: auth}
}

type backend struct {
	gateway  *Gateway
	listener string
	auth     bool
}

// NewSession refuses a client that the listener is not for, before any command.
func (b *backend) NewSession(ctx context.Context, p *smtp.Peer) (smtp.Session, *smtp.Reply) {
	gen := b.gateway.o.Generation()
	s := &session{gateway: b.gateway, generation: gen, listener: b.listener, auth: b.auth, peer: p}
	origin, _, ok := s.origin()
	if !ok && !b.auth {
		b.gateway.o.Log.Info("client refused", "listener", b.listener, "peer", p.Addr.String())
		r := smtp.NewReply(554, smtp.EnhancedCode{5, 7, 1}, "this listener is not for you")
		r.Close = true
		return nil, r
	}
	b.gateway.watch(gen, b.listener, origin, p.Addr.Addr())
	if b.gateway.o.Namer != nil && gen.Program.Mentions("client.name") {
		s.name = b.gateway.o.Namer(ctx, p.Addr.Addr())
	}
	return s, nil
}

func (g *Gateway) newID(now time.Time) (smtp.ID, error) {
	var random [6]byte
	if _, err := io.ReadFull(g.o.Random, random[:]); err != nil {
		return smtp.ID{}, err
	}
	return smtp.NewID(now, random), nil
}
