package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/stamp"
)

func newBytesReader(b []byte) io.Reader { return bytes.NewReader(b) }

// commit makes message and ledger entry durable together, then lets the message go
// on. Only then is the client told.
func (m *incoming) commit(ctx context.Context) *smtp.Reply {
	g := m.s.gateway
	msg := m.message()
	prefix, err := m.prefix(msg)
	if err != nil {
		g.o.Log.Error("message not signed", "id", msg.ID.String(), "err", err)
		return cannotSign()
	}
	m.body.SetPrefix(prefix)
	msg.Size = m.body.Size()
	batch := &spool.Batch{Message: msg, Body: m.body, Events: [][]byte{ledger.Encode(m.event(msg))}}
	for i := range msg.Recipients {
		if e := m.heldEvent(msg, i); e != nil {
			batch.Events = append(batch.Events, ledger.Encode(e))
		}
	}
	if _, err := g.o.Store.Commit(ctx, batch); err != nil {
		g.o.Log.Error("message not accepted", "id", msg.ID.String(), "err", err)
		return cannotKeep(err)
	}
	m.pass(msg)
	return smtp.NewReply(250, smtp.EnhancedCode{2, 0, 0}, "accepted as %s", msg.ID)
}

// pass hands a committed message to whoever is to deal with it.
func (m *incoming) pass(msg *spool.Message) {
	g := m.s.gateway
	consume, deliver := false, false
	for i := range msg.Recipients {
		switch r := &msg.Recipients[i]; {
		case r.State == spool.Held && r.Reason == spool.ReasonConsume:
			consume = true
		case r.State == spool.Held && strings.HasPrefix(r.Reason, spool.ReasonBounce):
			g.o.Bounce(msg.ID, i, m.plan[i].decision.Text)
		case r.State != spool.Settled:
			deliver = true
		}
	}
	if deliver {
		g.o.Outbound.Add(msg)
	}
	if consume {
		g.o.Consume(msg)
	}
}

// message makes what the spool keeps.
func (m *incoming) message() *spool.Message {
	s := m.s
	msg := &spool.Message{
		ID: m.id, Accepted: m.id.Time(), From: s.from, EightBit: m.eightBit, UTF8: s.params.UTF8,
		Return: s.params.Return, EnvID: s.params.EnvID, Origin: string(m.origin), Customer: m.customer,
		Listener: s.listener, Peer: s.peer.Addr.Addr().Unmap().String(), Policy: s.generation.Version,
	}
	msg.Campaign, msg.Priority = m.campaign(), m.priority()
	msg.Recipients = make([]spool.Recipient, 0, len(m.plan))
	for i := range m.plan {
		p := &m.plan[i]
		r := spool.Recipient{To: p.to, Notify: p.params.Notify, ORcpt: p.params.ORcpt,
			Filter: p.decision.Filter, Pool: p.decision.Pool, Inside: p.decision.Inside}
		r.State, r.Reason = m.state(&p.decision)
		msg.Recipients = append(msg.Recipients, r)
	}
	m.head.remove(m.isForgery) // before set_header, which gives lines back to recipients
	m.setHeaders(msg)
	if subject := m.head.get("subject"); subject != "" { // a filter may have set one for each recipient
		msg.Subject = ledger.SubjectHash(subject)
	}
	m.markOrigin(msg)
	return msg
}

// maxCampaign bounds the name of a campaign.
const maxCampaign = 64

// campaign reads what a customer calls the campaign that a message is part of. What
// could do harm in a log or on a terminal is replaced.
func (m *incoming) campaign() string {
	name := m.s.generation.CampaignHeader
	if name == "" || m.customer == "" {
		return ""
	}
	s := []byte(strings.TrimSpace(m.head.get(name)))
	s = s[:min(len(s), maxCampaign)]
	for i, c := range s {
		if c < ' ' || c >= 0x7f {
			s[i] = '?'
		}
	}
	return strings.TrimSpace(string(s))
}

// priority is what the header of a customer's message says, else what is set for the
// listener or the customer.
func (m *incoming) priority() spool.Priority {
	g := m.s.generation
	if g.PriorityHeader != "" && m.customer != "" {
		if p, ok := spool.ParsePriority(strings.ToLower(strings.TrimSpace(m.head.get(g.PriorityHeader)))); ok {
			return p
		}
	}
	if g.Priority == nil {
		return spool.Normal
	}
	return g.Priority(m.s.listener, m.customer)
}

// state settles where a recipient begins; a containment in force holds it.
func (m *incoming) state(d *policy.Decision) (spool.State, string) {
	switch d.Disposition {
	case policy.Deliver:
		s := m.s
		incident, held := s.gateway.o.Gate.Holds(s.listener, d.Filter, string(m.origin), s.peer.Addr.Addr().Unmap(), d.Pool)
		if held {
			return spool.Held, "incident " + incident
		}
		return spool.Pending, ""
	case policy.Hold:
		if d.Filter == "" {
			return spool.Held, d.Text
		}
		return spool.Held, "filter " + d.Filter + ": " + d.Text
	case policy.Consume:
		return spool.Held, spool.ReasonConsume
	case policy.Bounce:
		return spool.Held, spool.ReasonBounce + ": " + d.Text
	}
	return spool.Settled, ""
}

// setHeaders carries out set_header: a field that a filter sets for some recipient
// leaves the common header, and every recipient gets its own: the new value, or the
// original lines.
func (m *incoming) setHeaders(msg *spool.Message) {
	set := map[string]bool{}
	for i := range m.plan {
		for _, h := range m.plan[i].decision.Effects.Headers {
			set[strings.ToLower(h.Name)] = true
		}
	}
	if len(set) == 0 {
		return
	}
	gone := m.head.remove(func(f *rawField) bool { return set[f.name] })
	for i := range m.plan {
		mine := map[string]bool{}
		r := &msg.Recipients[i]
		for _, h := range slices.Backward(m.plan[i].decision.Effects.Headers) {
			if name := strings.ToLower(h.Name); !mine[name] { // the last one that sets a field wins
				mine[name] = true
				r.Headers = append(r.Headers, h.Name+": "+h.Value)
			}
		}
		for _, f := range gone {
			if !mine[f.name] {
				r.Headers = append(r.Headers, strings.TrimRight(string(f.raw), "\r\n"))
			}
		}
	}
}

// markOrigin gives what goes to an inside host a token that tells where it came
// from, so that it is known again when the host sends it on.
func (m *incoming) markOrigin(msg *spool.Message) {
	for i := range msg.Recipients {
		if r := &msg.Recipients[i]; r.Inside != "" {
			token := m.s.gateway.o.Ring().Mint(stamp.Token{Message: m.id, Customer: stamp.CustomerTag(m.customer), Recipient: uint16(i)})
			r.Headers = append(r.Headers, "X-Postern-Origin: "+token)
		}
	}
}

// prefix makes the trace field and the header as it goes on, signed.
func (m *incoming) prefix(msg *spool.Message) ([]byte, error) {
	host := m.s.generation.Hostname
	if m.customer != "" {
		if m.head.get("message-id") == "" {
			token := m.s.gateway.o.Ring().Mint(stamp.Token{Message: m.id, Customer: stamp.CustomerTag(m.customer), Recipient: stamp.NoRecipient})
			m.head.add("Message-ID", "<"+token+"@"+host+">")
		}
		if m.head.get("date") == "" {
			m.head.add("Date", msg.Accepted.Format(time.RFC1123Z))
		}
	}
	m.head.terminate()
	signatures, err := m.sign(msg)
	if err != nil {
		return nil, err
	}
	return m.head.bytes(append(signatures[:len(signatures):len(signatures)], m.received(msg)...)), nil
}

// received makes our trace field (RFC 5321, section 4.4).
func (m *incoming) received(msg *spool.Message) []byte {
	s := m.s
	b := make([]byte, 0, 320)
	put := func(parts ...string) {
		for _, p := range parts {
			b = append(b, p...)
		}
	}
	put("Received: from ", clean(s.peer.Helo), " (", clean(s.name), " [", tagged(msg.Peer), "])\r\n\tby ",
		s.generation.Hostname, " (Postern) with ", s.protocol(), " id ", msg.ID.String())
	if len(s.rcpts) == 1 && !s.params.UTF8 {
		put("\r\n\tfor <", s.rcpts[0].path.String(), ">")
	}
	put(";\r\n\t")
	b = msg.Accepted.AppendFormat(b, "Mon, 2 Jan 2006 15:04:05 -0700")
	put("\r\n")
	return b
}

func tagged(addr string) string {
	if strings.Contains(addr, ":") {
		return "IPv6:" + addr
	}
	return addr
}

// clean makes a HELO argument or a name from the DNS safe to stand in a header field.
func clean(s string) string {
	out := []byte(s)
	for i, c := range out {
		if c <= ' ' || c >= 127 || c == '(' || c == ')' || c == ';' || c == '\\' {
			out[i] = '?'
		}
	}
	if len(out) == 0 {
		return "unknown"
	}
	return string(out[:min(len(out), 255)])
}

// protocol names the transmission type (RFC 3848, RFC 6531).
func (s *session) protocol() string {
	if !s.peer.ESMTP {
		return "SMTP"
	}
	p := "ESMTP"
	if s.params.UTF8 {
		p = "UTF8SMTP"
	}
	if s.peer.TLS != nil {
		p += "S"
	}
	if s.peer.AuthUser != "" {
		p += "A"
	}
	return p
}

// event makes the ledger's row.
func (m *incoming) event(msg *spool.Message) *ledger.Accepted {
	s := m.s
	e := &ledger.Accepted{
		Time: msg.Accepted, ID: m.id, Parent: m.parent, Listener: s.listener, Peer: s.peer.Addr, Helo: s.peer.Helo,
		TLS: tlsText(s.peer.TLS), AuthUser: s.peer.AuthUser, Origin: string(m.origin), Customer: m.customer,
		Sender: s.from.String(), MessageID: strings.Trim(m.head.get("message-id"), "<> "),
		Size: msg.Size, Policy: s.generation.Version, Campaign: msg.Campaign, Subject: msg.Subject,
	}
	if msg.Priority != spool.Normal {
		e.Priority = msg.Priority.String()
	}
	for i := range m.head.fields {
		if f := &m.head.fields[i]; f.name == "dkim-signature" {
			if b := signature(f.value()); b != "" {
				e.DKIM = append(e.DKIM, ledger.DKIMHash(b))
			}
		}
	}
	for _, b := range m.signed {
		e.DKIM = append(e.DKIM, ledger.DKIMHash(b))
	}
	e.Decisions = make([]ledger.Decided, 0, len(m.plan))
	for i := range m.plan {
		d := &m.plan[i].decision
		e.Decisions = append(e.Decisions, ledger.Decided{
			Recipient: msg.Recipients[i].To.String(), Disposition: string(d.Disposition), Filter: d.Filter,
			Line: line(d.Pos), Pool: d.Pool, Inside: d.Inside, Logs: d.Effects.Logs, Tags: d.Effects.Tags,
		})
	}
	return e
}

func line(p policy.Pos) string {
	if p.Line == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// signature gives the b= tag of a DKIM-Signature (RFC 6376, section 3.5).
func signature(value string) string {
	for tag := range strings.SplitSeq(value, ";") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(tag), "b="); ok {
			return v
		}
	}
	return ""
}

// heldEvent makes the row for a recipient that is held from the start by a
// containment or a filter; nil for the others.
func (m *incoming) heldEvent(msg *spool.Message, i int) ledger.Event {
	r := &msg.Recipients[i]
	if r.State != spool.Held || r.Reason == spool.ReasonConsume || strings.HasPrefix(r.Reason, spool.ReasonBounce) {
		return nil
	}
	e := &ledger.Held{Time: msg.Accepted, ID: m.id, Recipient: i, Reason: r.Reason,
		Path: ledger.Path{Listener: m.s.listener, Filter: r.Filter, Origin: string(m.origin)}}
	if incident, ok := strings.CutPrefix(r.Reason, "incident "); ok {
		e.Incident = incident
	}
	return e
}

func tlsText(t *tls.ConnectionState) string {
	if t == nil {
		return ""
	}
	return "TLS" + tlsVersion(t.Version) + " " + tlsCipher(t.CipherSuite)
}

func tlsVersion(v uint16) string { return strings.TrimPrefix(tls.VersionName(v), "TLS ") }

func tlsCipher(c uint16) string { return tls.CipherSuiteName(c) }
