package spool

import (
	"encoding/binary"
	"errors"
	"time"

	"postern.dev/postern/internal/smtp"
)

// errShort is what a decoder says of octets that end too early or make no sense.
var errShort = errors.New("record is malformed")

// enc appends values in the form that dec reads.
type enc struct{ b []byte }

func (e *enc) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *enc) str(s string)  { e.uint(uint64(len(s))); e.b = append(e.b, s...) }
func (e *enc) blob(p []byte) { e.uint(uint64(len(p))); e.b = append(e.b, p...) }
func (e *enc) bool(v bool) {
	if v {
		e.uint(1)
	} else {
		e.uint(0)
	}
}

// time keeps milliseconds; the zero time is 0.
func (e *enc) time(t time.Time) {
	if t.IsZero() {
		e.uint(0)
		return
	}
	e.uint(uint64(t.UnixMilli()))
}

func (e *enc) path(p smtp.Path) { e.str(p.Local); e.str(p.Domain); e.str(p.Route) }

// dec reads what enc wrote. After the first fault everything is zero and bad is set.
type dec struct {
	b     []byte
	bad   bool
	skim  bool   // texts are passed over, but for reasons: they come out empty
	texts *texts // where texts that are read often are kept once; nil is nowhere
}

func (d *dec) uint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 { // most are small
		v := d.b[0]
		d.b = d.b[1:]
		return uint64(v)
	}
	return d.long()
}

// long reads a number of any size.
func (d *dec) long() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads a number of items, each of at least one octet.
func (d *dec) count() int {
	v := d.uint()
	if v > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(v)
}

func (d *dec) blob() []byte {
	n := d.count()
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *dec) str() string {
	if p := d.blob(); !d.skim {
		return d.text(p)
	}
	return ""
}

func (d *dec) text(p []byte) string {
	if d.texts != nil {
		return d.texts.of(p)
	}
	return string(p)
}

// reason reads a text that the index needs.
func (d *dec) reason() string { return d.text(d.blob()) }
func (d *dec) bool() bool     { return d.uint() == 1 }

func (d *dec) time() time.Time {
	v := d.uint()
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(v)).UTC()
}

func (d *dec) path() smtp.Path { return smtp.Path{Local: d.str(), Domain: d.str(), Route: d.str()} }

func (d *dec) id() (id smtp.ID) {
	if len(d.b) < len(id) {
		d.bad, d.b = true, nil
		return id
	}
	copy(id[:], d.b)
	d.b = d.b[len(id):]
	return id
}

// Bits of a message's traits. Only the first one was there from the beginning.
const (
	traitUTF8  = 1
	traitClass = 2 // campaign and priority follow
	// traitSubject says that the hash of the subject follows, behind those.
	traitSubject = 4
)

func traits(m *Message) (bits uint64) {
	if m.UTF8 {
		bits |= traitUTF8
	}
	if m.Campaign != "" || m.Priority != Normal {
		bits |= traitClass
	}
	if m.Subject != 0 {
		bits |= traitSubject
	}
	return bits
}

// encodeMessage writes a message's envelope.
func encodeMessage(e *enc, m *Message) {
	e.b = append(e.b, m.ID[:]...)
	e.time(m.Accepted)
	e.path(m.From)
	e.bool(m.EightBit)
	e.uint(traits(m))
	if m.Campaign != "" || m.Priority != Normal {
		e.str(m.Campaign)
		e.uint(uint64(m.Priority))
	}
	if m.Subject != 0 {
		e.uint(m.Subject)
	}
	for _, s := range []string{m.Return, m.EnvID, m.Origin, m.Customer, m.Listener, m.Peer, m.Policy} {
		e.str(s)
	}
	e.uint(uint64(m.Size))
	e.uint(uint64(len(m.Recipients)))
	for i := range m.Recipients {
		r := &m.Recipients[i]
		e.path(r.To)
		e.uint(uint64(r.Notify))
		for _, s := range []string{r.ORcpt, r.Filter, r.Pool, r.Inside, r.Reason} {
			e.str(s)
		}
		e.uint(uint64(r.State))
		e.uint(uint64(len(r.Headers)))
		for _, h := range r.Headers {
			e.str(h)
		}
	}
}

// decodeMessage reads an envelope into m, in whose memory it was before.
func decodeMessage(d *dec, m *Message) {
	*m = Message{ID: d.id(), Accepted: d.time(), From: d.path(), EightBit: d.bool(), Recipients: m.Recipients[:0]}
	bits := d.uint()
	m.UTF8 = bits&traitUTF8 != 0
	if bits&traitClass != 0 {
		m.Campaign, m.Priority = d.str(), Priority(d.uint())
	}
	if bits&traitSubject != 0 {
		m.Subject = d.uint()
	}
	for _, p := range []*string{&m.Return, &m.EnvID, &m.Origin, &m.Customer, &m.Listener, &m.Peer, &m.Policy} {
		*p = d.str()
	}
	m.Size = int64(d.uint())
	n := d.count()
	if cap(m.Recipients) < n {
		m.Recipients = make([]Recipient, 0, min(n, 1000))
	}
	for range n {
		r := Recipient{To: d.path(), Notify: smtp.Notify(d.uint())}
		r.ORcpt, r.Filter, r.Pool, r.Inside, r.Reason = d.str(), d.str(), d.str(), d.str(), d.reason()
		r.State = State(d.uint())
		for range d.count() {
			if line := d.str(); !d.skim {
				r.Headers = append(r.Headers, line)
			}
		}
		if d.bad || r.State > Settled {
			d.bad = true
			return
		}
		m.Recipients = append(m.Recipients, r)
	}
}

func encodeChange(e *enc, c *Change) {
	e.b = append(e.b, c.ID[:]...)
	e.uint(uint64(c.Recipient))
	e.uint(uint64(c.State))
	e.uint(uint64(c.Attempts))
	e.time(c.NotBefore)
	e.str(c.Reason)
}

func decodeChange(d *dec) Change {
	c := Change{ID: d.id(), Recipient: int(d.uint()), State: State(d.uint()), Attempts: int(d.uint()), NotBefore: d.time(), Reason: d.reason()}
	if c.State > Settled {
		d.bad = true
	}
	return c
}

// A record's payload is: events, changes, then the message with its body at the end,
// so that who follows the events need not read bodies.
//
//	events:  count, blobs
//	changes: count, changes
//	message: 0, or 1, envelope, kind of body (0 none, 1 inline, 2 file), the CRC-32C of a file, and inline its octets

// body kinds.
const (
	bodyNone = iota
	bodyInline
	bodyFile
)

// encodePayload writes a batch. crc is that of a body in a file; prefix and text are a
// body that stands in the record. It tells how many octets at the beginning are the
// events, and how many at the end the body.
func encodePayload(b *Batch, kind int, crc uint32, prefix, text []byte) (payload []byte, events, body int) {
	size := 64 + 64*len(b.Changes)
	for _, ev := range b.Events {
		size += len(ev) + 8
	}
	if b.Message != nil {
		body = len(prefix) + len(text)
		size += 256 + 256*len(b.Message.Recipients) + body
	}
	e := &enc{b: make([]byte, 0, size)}
	e.uint(uint64(len(b.Events)))
	for _, ev := range b.Events {
		e.blob(ev)
	}
	events = len(e.b)
	e.uint(uint64(len(b.Changes)))
	for i := range b.Changes {
		encodeChange(e, &b.Changes[i])
	}
	e.bool(b.Message != nil)
	if b.Message != nil {
		encodeMessage(e, b.Message)
		e.uint(uint64(kind))
		e.uint(uint64(crc))
		e.uint(uint64(body))
		e.b = append(append(e.b, prefix...), text...)
	}
	return e.b, events, body
}

// decoded is a payload taken apart. Body shares memory with the payload.
type decoded struct {
	Batch
	kind int
	crc  uint32
	body []byte
}

func decodeEvents(d *dec, events [][]byte) [][]byte {
	for range d.count() {
		events = append(events, d.blob())
	}
	return events
}

func decodePayload(p []byte) (*decoded, error) { return (&dec{b: p}).payload() }

// skimPayload reads what the index needs, and finds malformed what decodePayload does.
func skimPayload(p []byte) (*decoded, error) { return (&dec{b: p, skim: true}).payload() }

func (d *dec) payload() (*decoded, error) {
	out := &decoded{}
	return out, d.into(out)
}

// into takes a payload apart, into what out has of memory.
func (d *dec) into(out *decoded) error {
	out.Events, out.Changes = decodeEvents(d, out.Events[:0]), out.Changes[:0]
	for range d.count() {
		out.Changes = append(out.Changes, decodeChange(d))
	}
	if d.bool() {
		if out.Message == nil {
			out.Message = &Message{}
		}
		decodeMessage(d, out.Message)
		out.kind = int(d.uint())
		out.crc = uint32(d.uint())
		out.body = d.blob()
	} else {
		out.Message = nil
	}
	if d.bad || len(d.b) != 0 {
		return errShort
	}
	return nil
}
