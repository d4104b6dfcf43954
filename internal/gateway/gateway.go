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
	Signing  Signing // nil signs nothing
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

// Reason says why a gateway refused, for counting.
type Reason uint8

// The reasons.
const (
	NotForYou      Reason = iota // the listener is not for that client
	Policy                       // a filter, the door or the default
	BadAddress                   // a path that cannot be read or routed
	Unread                       // a header too large, a loop, a broken connection
	Storage                      // no room, or the disk failed
	RateLimit                    // of a filter
	NoAuth                       // authentication is required
	PostmasterFull               // so much is held for the postmaster already
	Reasons                      // how many there are
)

// String names a reason as metrics do.
func (r Reason) String() string {
	return [...]string{"not-for-you", "policy", "bad-address", "unread", "storage", "rate-limit", "no-auth", "postmaster-full"}[r]
}

// Meter counts. Its methods are called on the way of every message: they look nothing
// up.
type Meter interface {
	Sessions(listener string) SessionMeter // once for each listener, before it serves
	Refused(r Reason)
	Accepted(took time.Duration) // from the first octet of the data to the commit
}

// SessionMeter counts the sessions of one listener.
type SessionMeter interface {
	Opened()
	Closed()
}

// idle counts nothing.
type idle struct{}

func (idle) Sessions(string) SessionMeter { return idle{} }
func (idle) Refused(Reason)               {}
func (idle) Accepted(time.Duration)       {}
func (idle) Opened()                      {}
func (idle) Closed()                      {}

// Options are what a Gateway is made of. All but Meter, Sound, Namer, Suppressed, Authentication and Log are
// required.
type Options struct {
	Meter          Meter        // nil counts nothing
	Sound          func() error // why nothing can be kept any more, nil while it can
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
	postmaster postmaster
}

// New makes a Gateway.
func New(o Options) *Gateway {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = idle{}
	}
	if o.Sound == nil {
		o.Sound = func() error { return nil }
	}
	return &Gateway{o: o, rates: newRates(), neighbours: newNeighbours()}
}

// Listener gives the smtp.Backend of one listener of the configuration. auth tells
// whether it offers AUTH.
func (g *Gateway) Listener(name string, auth bool) smtp.Backend {
	return &backend{gateway: g, listener: name, auth: auth, meter: g.o.Meter.Sessions(name)}
}

type backend struct {
	gateway  *Gateway
	listener string
	auth     bool
	meter    SessionMeter
}

// broken closes a connection that could only end in vain.
func (g *Gateway) broken() *smtp.Reply {
	if g.o.Sound() == nil {
		return nil
	}
	g.o.Meter.Refused(Storage)
	r := smtp.NewReply(421, smtp.EnhancedCode{4, 3, 0}, "storage has failed, try again later")
	r.Close = true
	return r
}

// NewSession refuses a client that the listener is not for, before any command.
func (b *backend) NewSession(ctx context.Context, p *smtp.Peer) (smtp.Session, *smtp.Reply) {
	if r := b.gateway.broken(); r != nil {
		return nil, r
	}
	gen := b.gateway.o.Generation()
	s := &session{gateway: b.gateway, meter: b.meter, generation: gen, listener: b.listener, auth: b.auth, peer: p}
	origin, _, ok := s.origin()
	if !ok && !b.auth {
		b.gateway.o.Meter.Refused(NotForYou)
		b.gateway.o.Log.Info("client refused", "listener", b.listener, "peer", p.Addr.String())
		r := smtp.NewReply(554, smtp.EnhancedCode{5, 7, 1}, "this listener is not for you")
		r.Close = true
		return nil, r
	}
	b.gateway.watch(gen, b.listener, origin, p.Addr.Addr())
	if b.gateway.o.Namer != nil && gen.Program.Mentions("client.name") {
		s.name = b.gateway.o.Namer(ctx, p.Addr.Addr())
	}
	b.meter.Opened()
	return s, nil
}

func (g *Gateway) newID(now time.Time) (smtp.ID, error) {
	var random [6]byte
	if _, err := io.ReadFull(g.o.Random, random[:]); err != nil {
		return smtp.ID{}, err
	}
	return smtp.NewID(now, random), nil
}
