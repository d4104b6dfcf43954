package watch

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"postern.dev/postern/internal/history"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
)

// Origins of a message, as the policy knows them.
const (
	customer = "customer"
	inside   = "inside"
	self     = "self"
	stranger = "stranger"
)

// Owner tells whose message it is that another server sent: its origin and customer.
type Owner struct {
	Origin   string
	Customer string
}

// Identify says whose messages are.
type Identify struct {
	// Customer and Campaign give a name, or "" where the log does not say.
	Customer func(*history.Message) string
	Campaign func(*history.Message) string
	// Client tells whose an address is, User whose a name that authenticated is; false
	// where it is nobody's. Nil is nobody.
	Client func(netip.Addr) (Owner, bool)
	User   func(string) (customer string, ok bool)
	// Inside names the inside host that has an address, "" where none has.
	Inside func(netip.Addr) string
}

// owner decides whose a message is: what the log says of the customer, then who
// authenticated, then the client's address. A message whose client the log does not name
// is the server's own customers': nothing tells otherwise.
func (i *Identify) owner(m *history.Message) Owner {
	if i.Customer != nil {
		if c := i.Customer(m); c != "" {
			return Owner{customer, c}
		}
	}
	if m.User != "" {
		if i.User != nil {
			if c, ok := i.User(m.User); ok {
				return Owner{customer, c}
			}
		}
		if i.Client != nil {
			if o, ok := i.Client(m.Client); ok && o.Origin == customer {
				return o
			}
		}
		return Owner{customer, ""}
	}
	if m.Own {
		return Owner{self, ""}
	}
	if !m.Client.IsValid() {
		return Owner{customer, ""}
	}
	if i.Client != nil {
		if o, ok := i.Client(m.Client); ok {
			return o
		}
	}
	if m.Client.IsLoopback() {
		return Owner{self, ""}
	}
	return Owner{stranger, ""}
}

// Rows makes ledger events of records.
type Rows struct {
	Watch    string
	Format   history.Format
	Policy   string     // version of the configuration
	Source   netip.Addr // that mail goes out from where the log does not say; the zero Addr is unknown
	Identify Identify
}

// ID names a message to one recipient for ever: the same lines make the same id,
// whenever and however often they are read.
func (r *Rows) ID(m *history.Message, recipient string) smtp.ID {
	h := xxhash.New()
	for _, s := range []string{r.Watch, m.Queue, m.MessageID, m.Sender, strings.ToLower(recipient)} {
		_, _ = h.WriteString(s)
		_, _ = h.Write([]byte{0})
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], h.Sum64())
	at := m.Arrived
	if at.Before(time.Unix(0, 0)) {
		at = time.Unix(0, 0)
	}
	return smtp.NewID(at.Truncate(time.Second), [6]byte(b[2:]))
}

// path is the way of watched mail: the watch stands for the listener.
func (r *Rows) path(o Owner) ledger.Path {
	return ledger.Path{Listener: Listener(r.Watch), Origin: o.Origin}
}

// Listener names a watch where the ledger has a listener.
func Listener(watch string) string { return "watch " + watch }

// Events appends the events that a record makes. A complaint or a late bounce makes
// none: it is judged like one that came by mail.
func (r *Rows) Events(out []ledger.Event, rec *history.Record) []ledger.Event {
	m := rec.Message
	id := r.ID(m, rec.Recipient)
	o := r.Identify.owner(m)
	if rec.First && rec.Kind <= history.Failed {
		out = append(out, r.accepted(id, rec, o))
	}
	source := rec.Source
	if !source.IsValid() {
		source = r.Source
	}
	attempt := max(rec.Attempt, 1)
	switch rec.Kind {
	case history.HandedOff:
		out = append(out, &ledger.HandedOff{Time: rec.Time, ID: id, Address: rec.Recipient, Domain: strings.ToLower(domain(rec.Recipient)), Path: r.path(o), Policy: r.Policy, Customer: o.Customer,
			Source: source, Peer: rec.Peer, Host: rec.Host, Reply: rec.Reply, Attempt: attempt, Seconds: max(0, rec.Time.Sub(m.Arrived).Seconds()), Campaign: r.campaign(m), Subject: subject(m)})
	case history.Deferred:
		out = append(out, &ledger.Attempted{Time: rec.Time, ID: id, Attempt: attempt, Source: source, Peer: rec.Peer, Host: rec.Host, Reply: rec.Reply, Campaign: r.campaign(m)})
	case history.Failed:
		out = append(out, &ledger.Bounced{Time: rec.Time, ID: id, Path: r.path(o), Source: source, Peer: rec.Peer, Host: rec.Host, Reply: rec.Reply, Customer: o.Customer, Campaign: r.campaign(m)})
	}
	return out
}

func (r *Rows) campaign(m *history.Message) string {
	if r.Identify.Campaign == nil {
		return ""
	}
	return r.Identify.Campaign(m)
}

func (r *Rows) accepted(id smtp.ID, rec *history.Record, o Owner) *ledger.Accepted {
	m := rec.Message
	a := &ledger.Accepted{Time: m.Arrived, ID: id, Listener: Listener(r.Watch), Helo: m.Helo, AuthUser: m.User, Origin: o.Origin, Customer: o.Customer, Sender: m.Sender,
		MessageID: m.MessageID, Size: m.Size, Policy: r.Policy, Campaign: r.campaign(m), Watch: r.Watch,
		Decisions: []ledger.Decided{{Recipient: rec.Recipient, Disposition: "deliver"}}}
	if m.Client.IsValid() {
		a.Peer = netip.AddrPortFrom(m.Client, 0)
	}
	a.Subject = subject(m)
	if rec.Inside {
		a.Decisions[0].Inside = "local"
	} else if r.Identify.Inside != nil && rec.Peer.IsValid() {
		a.Decisions[0].Inside = r.Identify.Inside(rec.Peer.Addr())
	}
	if r.Format != history.PowerMTA { // its accounting files have none; the key is ours
		a.Queue = m.Queue
	}
	return a
}

func domain(address string) string {
	return address[strings.LastIndexByte(address, '@')+1:]
}

// subject fingerprints the subject, 0 where the log has none.
func subject(m *history.Message) uint64 {
	if m.Subject == "" {
		return 0
	}
	return ledger.SubjectHash(m.Subject)
}
