package gateway

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"

	"postern.dev/postern/internal/dkim"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// maxHops bounds the Received fields of a message: more is a loop (RFC 5321, section
// 6.3, asks for at least 100).
const maxHops = 100

// incoming is one message on its way to acceptance.
type incoming struct {
	s        *session
	id       smtp.ID
	head     *head
	body     *spool.Body
	size     int64
	eightBit bool
	origin   policy.Origin
	customer string
	parent   smtp.ID
	content  policy.Content
	plan     []planned
	hash     *dkim.Body // of the body, nil where nobody signs
	signed   []string   // b= of our own signatures
}

// planned is one recipient with what was decided for it.
type planned struct {
	to       smtp.Path
	params   smtp.RcptParams
	decision policy.Decision
	copyOf   bool
}

// Data implements smtp.Session: it reads the message into the spool, asks the policy
// for each recipient, and answers 250 only after the commit.
func (s *session) Data(ctx context.Context, r io.Reader) *smtp.Reply {
	begin := s.gateway.o.Now()
	m := &incoming{s: s, body: s.gateway.o.Store.NewBody()}
	defer m.body.Discard()
	if reply := m.read(r); reply != nil {
		s.gateway.o.Meter.Refused(storageOr(reply, Unread))
		return reply
	}
	if reply := m.establish(ctx); reply != nil {
		s.gateway.o.Meter.Refused(storageOr(reply, NoAuth))
		return reply
	}
	if reply := m.decide(); reply != nil {
		return reply // counted where it was decided
	}
	reply := m.commit(ctx)
	if reply.Positive() {
		s.gateway.o.Meter.Accepted(s.gateway.o.Now().Sub(begin))
	} else {
		s.gateway.o.Meter.Refused(Storage)
	}
	return reply
}

// storageOr gives the reason of a reply that cannotKeep may have made.
func storageOr(r *smtp.Reply, other Reason) Reason {
	if r.Enhanced[1] == 3 && r.Code < 500 {
		return Storage
	}
	return other
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 32<<10) }}

// read takes the message off the wire: the header into memory, the rest into the
// spool's body.
func (m *incoming) read(r io.Reader) *smtp.Reply {
	br := readers.Get().(*bufio.Reader)
	br.Reset(r)
	defer func() { br.Reset(nil); readers.Put(br) }()
	h, begun, err := readHead(br)
	switch {
	case errors.Is(err, errHeaderTooLarge):
		return smtp.NewReply(552, smtp.EnhancedCode{5, 3, 4}, "header is larger than %d octets", maxHeader)
	case err != nil:
		return cannotRead(err)
	}
	if h.count("received") > maxHops {
		return smtp.NewReply(554, smtp.EnhancedCode{5, 4, 6}, "too many hops, this message is in a loop")
	}
	m.head = h
	m.hash = m.hashing()
	w := &watcher{body: m.body, hash: m.hash}
	if _, err := w.Write(begun); err != nil {
		return cannotKeep(err)
	}
	n, err := io.Copy(w, br)
	if w.err != nil {
		return cannotKeep(w.err)
	}
	if err != nil {
		return cannotRead(err)
	}
	m.size = h.size + n
	m.eightBit = w.eightBit || s8(h) || m.s.params.EightBit
	return nil
}

func s8(h *head) bool {
	for i := range h.fields {
		if has8bit(h.fields[i].raw) {
			return true
		}
	}
	return false
}

// watcher writes the body and keeps apart its own failure from the network's.
type watcher struct {
	body     *spool.Body
	hash     *dkim.Body
	eightBit bool
	err      error
}

func (w *watcher) Write(p []byte) (int, error) {
	w.eightBit = w.eightBit || has8bit(p)
	if w.hash != nil {
		_, _ = w.hash.Write(p)
	}
	n, err := w.body.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

func has8bit(p []byte) bool {
	for ; len(p) >= 8; p = p[8:] {
		if binary.LittleEndian.Uint64(p)&0x8080808080808080 != 0 {
			return true
		}
	}
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// cannotRead is what Data returns when the wire failed; the server knows better and
// decides what the client gets.
func cannotRead(error) *smtp.Reply {
	return smtp.NewReply(451, smtp.EnhancedCode{4, 4, 2}, "message was not received whole")
}

// cannotKeep is the reply when the message could not be made durable. The client
// keeps it and tries again.
func cannotKeep(err error) *smtp.Reply {
	if errors.Is(err, spool.ErrFull) {
		return smtp.NewReply(452, smtp.EnhancedCode{4, 3, 1}, "no space left, try again later")
	}
	return smtp.NewReply(451, smtp.EnhancedCode{4, 3, 0}, "message could not be stored, try again later")
}

// establish settles whose message it is and what the policy may know of it.
func (m *incoming) establish(ctx context.Context) *smtp.Reply {
	s, g := m.s, m.s.gateway
	id, err := g.newID(g.o.Now())
	if err != nil {
		g.o.Log.Error("no randomness for a message id", "err", err)
		return cannotKeep(err)
	}
	m.id = id
	var ok bool
	if m.origin, m.customer, ok = s.origin(); !ok {
		return smtp.NewReply(530, smtp.EnhancedCode{5, 7, 0}, "authentication required")
	}
	if m.origin == policy.Inside {
		if err := m.trace(ctx); err != nil {
			g.o.Log.Error("provenance cannot be looked up", "err", err)
			return cannotKeep(err)
		}
	}
	m.content = policy.Content{Size: m.size, Headers: m.head.facts()}
	if g.o.Authentication != nil && s.generation.Program.Mentions("spf", "dkim", "dmarc") {
		if err := m.authenticate(ctx); err != nil {
			return cannotKeep(err)
		}
	}
	return nil
}

// authenticationTime bounds how long the DNS may keep the end of data waiting; the
// client waits 10 minutes (RFC 5321, section 4.5.3.2.6).
const authenticationTime = time.Minute

func (m *incoming) authenticate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, authenticationTime)
	defer cancel()
	body, err := m.body.Open()
	if err != nil {
		return err
	}
	defer body.Close()
	raw := io.MultiReader(newBytesReader(m.head.original()), body)
	m.content.SPF, m.content.DKIM, m.content.DMARC = m.s.gateway.o.Authentication.Authenticate(ctx, m.s.peer, m.s.from, raw)
	return nil
}

// decide asks the policy about every recipient. One reply answers for all of them:
// a message of a customer goes on for those that are not refused, and the refused
// ones get a DSN; a message of anybody else is refused if one recipient is, since a
// DSN could go to a forged reverse-path.
func (m *incoming) decide() *smtp.Reply {
	facts := m.s.facts(m.origin, m.customer, policy.Address{}, &m.content)
	m.s.generation.Program.Read(facts)
	var refused *policy.Decision
	good := 0
	m.plan = make([]planned, 0, len(m.s.rcpts))
	for _, r := range m.s.rcpts {
		d := m.evaluate(r, *facts)
		if d.Disposition == policy.Refused {
			refused = &d
			m.s.noteRefusal(m.origin, m.customer, r.path, d)
			if m.origin != policy.Customer {
				return replyOf(d)
			}
			d.Disposition = policy.Bounce
		} else {
			good++
		}
		m.plan = append(m.plan, planned{to: r.path, params: r.params, decision: d})
	}
	if good == 0 {
		return replyOf(*refused)
	}
	m.rewrite()
	m.copies()
	if reply := m.limit(); reply != nil {
		return reply
	}
	return m.forPostmaster()
}

// evaluate asks for one recipient, whichever way it may be read.
func (m *incoming) evaluate(r recipient, f policy.Facts) policy.Decision {
	readings := r.readings
	if m.origin == policy.Customer {
		readings = readings[:1]
	}
	ds := make([]policy.Decision, 0, 1)
	for _, reading := range readings {
		f.Rcpt = reading
		d, _ := policy.Eval(m.s.generation.Program, &f)
		ds = append(ds, d)
	}
	strict := policy.Strictest(ds)
	if len(ds) > 1 && strict.Disposition == policy.Deliver && !strict.Rewritten {
		strict.Rcpt, strict.Inside = ds[0].Rcpt, ds[0].Inside
	}
	return strict
}

// rewrite puts the recipients that a filter set in place of the ones asked for.
func (m *incoming) rewrite() {
	for i := range m.plan {
		if d := &m.plan[i].decision; d.Rewritten {
			m.plan[i].to = smtp.Path{Local: d.Rcpt.Local, Domain: d.Rcpt.Domain}
			m.plan[i].params = smtp.RcptParams{}
		}
	}
}

// copies adds a recipient for each different copy that filters asked for.
func (m *incoming) copies() {
	seen := map[policy.Address]bool{}
	for _, p := range m.plan {
		for _, c := range p.decision.Effects.Copies {
			if seen[c.Rcpt] || p.decision.Disposition == policy.Bounce {
				continue
			}
			seen[c.Rcpt] = true
			d := policy.Decision{Disposition: policy.Deliver, Filter: c.Filter, Rcpt: c.Rcpt, Rewritten: true,
				Pool: m.s.generation.Program.Topology.DefaultPool, Inside: c.Inside}
			m.plan = append(m.plan, planned{to: smtp.Path{Local: c.Rcpt.Local, Domain: c.Rcpt.Domain}, decision: d, copyOf: true})
		}
	}
}

// limit counts the recipients against the rates that filters impose.
func (m *incoming) limit() *smtp.Reply {
	subject := m.customer
	if subject == "" {
		subject = m.s.peer.Addr.Addr().String()
	}
	for i := range m.plan {
		for _, l := range m.plan[i].decision.Effects.Limits {
			if !m.s.gateway.rates.take(l.Filter, subject, l.Rate, m.s.gateway.o.Now()) {
				m.s.gateway.o.Meter.Refused(RateLimit)
				return smtp.NewReply(451, smtp.EnhancedCode{4, 7, 1}, "rate limit reached, try again later")
			}
		}
	}
	return nil
}
