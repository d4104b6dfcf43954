package journal

import (
	"encoding"
	"encoding/json"
	"math"
	"net/netip"
	"strconv"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
)

// members writes the members of an object as encoding/json would write them with the
// tags of the ledger's structs, each with a comma before it. The kinds of event of which
// mail makes several for each message are written out, which takes a third of the time;
// a test holds them against encoding/json.
type members struct {
	b   []byte
	err error
}

// of writes an event's members; false leaves it to encoding/json.
func (m *members) of(e ledger.Event) bool {
	switch e := e.(type) {
	case *ledger.Accepted:
		m.accepted(e)
	case *ledger.HandedOff:
		m.handedOff(e)
	case *ledger.Attempted:
		m.attempted(e)
	case *ledger.Bounced:
		m.bounced(e)
	case *ledger.Refused:
		m.refused(e)
	default:
		return false
	}
	return true
}

func (m *members) accepted(e *ledger.Accepted) {
	m.time("time", e.Time)
	m.id("id", e.ID)
	m.idIf("parent", e.Parent)
	m.text("listener", e.Listener)
	m.peer(e.Peer)
	m.textIf("helo", e.Helo)
	m.textIf("tls", e.TLS)
	m.textIf("auth_user", e.AuthUser)
	m.text("origin", e.Origin)
	m.textIf("customer", e.Customer)
	m.text("sender", e.Sender)
	m.textIf("message_id", e.MessageID)
	m.hashIf("subject_hash", e.Subject)
	if len(e.DKIM) > 0 {
		m.name("dkim_hashes")
		for i, h := range e.DKIM {
			m.b = strconv.AppendUint(append(m.b, "[,"[min(i, 1)]), h, 10)
		}
		m.b = append(m.b, ']')
	}
	m.number("size", e.Size)
	m.text("policy", e.Policy)
	m.decisions(e.Decisions)
	m.textIf("campaign", e.Campaign)
	m.textIf("priority", e.Priority)
	m.textIf("watch", e.Watch)
	m.textIf("queue", e.Queue)
}

func (m *members) decisions(all []ledger.Decided) {
	m.name("decisions")
	if all == nil {
		m.b = append(m.b, "null"...)
		return
	}
	m.b = append(m.b, '[')
	for i := range all {
		if i > 0 {
			m.b = append(m.b, ',')
		}
		d, start := &all[i], len(m.b)
		m.text("recipient", d.Recipient)
		m.text("disposition", d.Disposition)
		m.text("filter", d.Filter)
		m.textIf("line", d.Line)
		m.textIf("pool", d.Pool)
		m.textIf("inside", d.Inside)
		m.texts("logs", d.Logs)
		m.texts("tags", d.Tags)
		m.b[start] = '{'
		m.b = append(m.b, '}')
	}
	m.b = append(m.b, ']')
}

func (m *members) handedOff(e *ledger.HandedOff) {
	m.time("time", e.Time)
	m.id("id", e.ID)
	m.number("recipient", int64(e.Recipient))
	m.text("address", e.Address)
	m.textIf("domain", e.Domain)
	m.path(&e.Path)
	m.text("policy", e.Policy)
	m.textIf("customer", e.Customer)
	m.textIf("pool", e.Pool)
	m.source(e.Source)
	m.peer(e.Peer)
	m.textIf("host", e.Host)
	m.textIf("tls", e.TLS)
	m.textIf("reply", e.Reply)
	m.number("attempt", int64(e.Attempt))
	if e.Seconds != 0 {
		m.float("seconds", e.Seconds)
	}
	m.textIf("site", e.Site)
	m.textIf("provider", e.Provider)
	m.textIf("campaign", e.Campaign)
	m.hashIf("subject_hash", e.Subject)
}

func (m *members) attempted(e *ledger.Attempted) {
	m.time("time", e.Time)
	m.id("id", e.ID)
	m.number("recipient", int64(e.Recipient))
	m.number("attempt", int64(e.Attempt))
	m.textIf("pool", e.Pool)
	m.source(e.Source)
	m.peer(e.Peer)
	m.textIf("host", e.Host)
	m.textIf("reply", e.Reply)
	if !e.Next.IsZero() {
		m.time("next", e.Next)
	}
	m.textIf("category", e.Category)
	m.textIf("site", e.Site)
	m.textIf("provider", e.Provider)
	m.textIf("campaign", e.Campaign)
}

func (m *members) bounced(e *ledger.Bounced) {
	m.time("time", e.Time)
	m.id("id", e.ID)
	m.number("recipient", int64(e.Recipient))
	m.path(&e.Path)
	m.source(e.Source)
	m.peer(e.Peer)
	m.textIf("host", e.Host)
	m.textIf("reply", e.Reply)
	m.idIf("dsn", e.DSN)
	m.textIf("category", e.Category)
	m.textIf("site", e.Site)
	m.textIf("provider", e.Provider)
	m.textIf("campaign", e.Campaign)
	m.textIf("customer", e.Customer)
}

func (m *members) refused(e *ledger.Refused) {
	m.time("time", e.Time)
	m.text("listener", e.Listener)
	m.peer(e.Peer)
	m.textIf("helo", e.Helo)
	m.text("origin", e.Origin)
	m.textIf("customer", e.Customer)
	m.text("sender", e.Sender)
	m.text("recipient", e.Recipient)
	m.text("filter", e.Filter)
	m.text("policy", e.Policy)
	m.textIf("reply", e.Reply)
}

// envelope writes what we know of the message that an event is about, if anything.
func (m *members) envelope(e *envelope) {
	start := len(m.b)
	m.b = append(m.b, `,"envelope":`...)
	inside := len(m.b)
	m.textIf("from", e.From)
	m.textIf("to", e.To)
	m.textIf("customer", e.Customer)
	m.textIf("message_id", e.MessageID)
	if len(m.b) == inside {
		m.b = m.b[:start]
		return
	}
	m.b[inside] = '{'
	m.b = append(m.b, '}')
}

func (m *members) name(s string) {
	m.b = append(append(append(m.b, `,"`...), s...), `":`...)
}

func (m *members) text(name, s string) {
	m.name(name)
	m.quote(s)
}

func (m *members) textIf(name, s string) {
	if s != "" {
		m.text(name, s)
	}
}

func (m *members) texts(name string, all []string) {
	if len(all) == 0 {
		return
	}
	m.name(name)
	for i, s := range all {
		m.b = append(m.b, "[,"[min(i, 1)])
		m.quote(s)
	}
	m.b = append(m.b, ']')
}

// quote writes a string. What is not plain ASCII is left to encoding/json.
func (m *members) quote(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			m.any(s)
			return
		}
	}
	m.b = append(append(append(m.b, '"'), s...), '"')
}

// any writes a value by encoding/json, without the harm that its characters could do.
func (m *members) any(v any) {
	var w appender
	enc := json.NewEncoder(&w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		m.err = err
		return
	}
	m.b = harmless(m.b, w.b[:len(w.b)-1])
}

type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

func (m *members) number(name string, v int64) {
	m.name(name)
	m.b = strconv.AppendInt(m.b, v, 10)
}

func (m *members) hashIf(name string, v uint64) {
	if v != 0 {
		m.name(name)
		m.b = strconv.AppendUint(m.b, v, 10)
	}
}

// float writes a number without exponent; those that encoding/json writes with one are
// left to it, and so is what is none.
func (m *members) float(name string, v float64) {
	m.name(name)
	if a := math.Abs(v); a >= 1e-6 && a < 1e21 {
		m.b = strconv.AppendFloat(m.b, v, 'f', -1, 64)
		return
	}
	m.any(v)
}

func (m *members) time(name string, t time.Time) {
	m.name(name)
	m.b = append(m.b, '"')
	b, err := t.AppendText(m.b)
	if err != nil {
		m.err = err
		return
	}
	m.b = append(b, '"')
}

func (m *members) id(name string, id smtp.ID) {
	m.name(name)
	m.b, _ = id.AppendText(append(m.b, '"')) // cannot fail
	m.b = append(m.b, '"')
}

func (m *members) idIf(name string, id smtp.ID) {
	if !id.IsZero() {
		m.id(name, id)
	}
}

func (m *members) peer(a netip.AddrPort) {
	if a != (netip.AddrPort{}) {
		m.name("peer")
		m.address(a)
	}
}

func (m *members) source(a netip.Addr) {
	if a != (netip.Addr{}) {
		m.name("source")
		m.address(a)
	}
}

// address writes an address in quotes.
func (m *members) address(a encoding.TextAppender) {
	b, err := a.AppendText(append(m.b, '"'))
	m.b = append(b, '"')
	if err != nil {
		m.err = err
	}
}

func (m *members) path(p *ledger.Path) {
	m.name("path")
	start := len(m.b)
	m.text("listener", p.Listener)
	m.text("filter", p.Filter)
	m.text("origin", p.Origin)
	m.b[start] = '{'
	m.b = append(m.b, '}')
}
