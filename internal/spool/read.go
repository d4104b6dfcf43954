package spool

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"postern.dev/postern/internal/smtp"
)

// load gives a live message, from memory where it is there.
func (s *Spool) load(id smtp.ID) (*decoded, error) {
	s.mu.Lock()
	if n, e := s.live.of(id); e != nil {
		if m, ok := s.live.memory[n]; ok {
			kind := int(e.kind)
			s.mu.Unlock()
			return &decoded{Batch: Batch{Message: m.message}, kind: kind, body: m.body}, nil
		}
	}
	s.mu.Unlock()
	d, _, err := s.stored(id)
	return d, err
}

// stored reads the record of a live message from the log. The writer may move the
// message meanwhile and the segment go: then it is looked for again.
func (s *Spool) stored(id smtp.ID) (d *decoded, p Position, err error) {
	for {
		p, length, seg := s.whereIs(id)
		if seg == nil {
			return nil, 0, fmt.Errorf("message %s: %w", id, ErrUnknown)
		}
		b := make([]byte, headerSize+length)
		if _, err = seg.file.ReadAt(b, p.offset()); err == nil {
			d, err = messageIn(b, p)
		}
		if err == nil {
			return d, p, nil
		}
		if now, _, _ := s.whereIs(id); now == p {
			return nil, 0, fmt.Errorf("read message %s: %w", id, err)
		}
	}
}

// whereIs gives the record of a live message; the segment is nil where it is not live.
func (s *Spool) whereIs(id smtp.ID) (p Position, length int, seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, e := s.live.of(id)
	if e == nil {
		return 0, 0, nil
	}
	return e.at, int(e.length), s.segments[e.at.segment()]
}

// messageIn takes the record apart that stands in b and belongs at p.
func messageIn(b []byte, p Position) (*decoded, error) {
	out := &decoded{}
	if err := payloadAt(b, p, &dec{}, out); err != nil {
		return nil, err
	}
	return out, nil
}

// payloadAt takes the record apart with d that stands in b and belongs at p; it has a
// message.
func payloadAt(b []byte, p Position, d *dec, out *decoded) error {
	h, ok := readHeader(b)
	if !ok || h.at != p || headerSize+h.length > len(b) {
		return ErrCorrupt
	}
	d.b = b[headerSize : headerSize+h.length]
	if checksum(d.b) != h.crc || d.into(out) != nil || out.Message == nil {
		return ErrCorrupt
	}
	return nil
}

// Message reads the envelope of a live message.
func (s *Spool) Message(id smtp.ID) (*Message, error) {
	d, err := s.load(id)
	if err != nil {
		return nil, err
	}
	return d.Message, nil
}

// OpenBody opens the body of a live message. A body that is not what was written
// fails with ErrCorrupt before its end is reached.
func (s *Spool) OpenBody(id smtp.ID) (*Reader, error) {
	_, r, err := s.Open(id)
	return r, err
}

// Open reads the envelope of a live message and opens its body.
func (s *Spool) Open(id smtp.ID) (*Message, *Reader, error) {
	d, err := s.load(id)
	if err != nil {
		return nil, nil, err
	}
	r, err := s.body(id, d)
	return d.Message, r, err
}

func (s *Spool) body(id smtp.ID, d *decoded) (*Reader, error) {
	if d.kind != bodyFile {
		return &Reader{ReadSeeker: bytes.NewReader(d.body), inline: d.body, size: int64(len(d.body))}, nil
	}
	f, err := s.fs.Open("big/"+id.String(), false)
	if err != nil {
		return nil, fmt.Errorf("open body of %s: %w", id, err)
	}
	size, err := f.Size()
	if err != nil || size != d.Message.Size {
		f.Close()
		return nil, fmt.Errorf("open body of %s: %w", id, ErrCorrupt)
	}
	return &Reader{ReadSeeker: &checked{SectionReader: io.NewSectionReader(f, 0, size), want: d.crc}, size: size, close: f.Close}, nil
}

// State gives the present states of a live message's recipients.
func (s *Spool) State(id smtp.ID) ([]RecipientState, error) {
	s.mu.Lock()
	n, e := s.live.of(id)
	if e == nil {
		s.mu.Unlock()
		return nil, fmt.Errorf("message %s: %w", id, ErrUnknown)
	}
	states, far := s.states(n, nil)
	s.mu.Unlock()
	s.fetch(id, states, far)
	return states, nil
}

// states gives what is in memory of a message's recipients, and in which records the
// reasons stand that are not; they are appended to states. The lock is held.
func (s *Spool) states(n uint32, states []RecipientState) (_ []RecipientState, far map[int]Position) {
	for i := range s.live.recipients(n) {
		st, p := s.live.expand(n, i)
		if states = append(states, st); p != 0 {
			if far == nil {
				far = map[int]Position{}
			}
			far[i] = p
		}
	}
	return states, far
}

// fetch reads reasons from the log. Where the writer has moved a message meanwhile and
// the segment is gone, its recipients are given as they stand now.
func (s *Spool) fetch(id smtp.ID, states []RecipientState, far map[int]Position) {
	for i, p := range far {
		for p != 0 {
			reason, ok := s.reasonAt(p, id, i)
			if ok {
				states[i].Reason = reason
				break
			}
			st, now, live := s.recipient(id, i)
			if !live || now == p {
				break // there is no reason to be had any more
			}
			states[i], p = st, now
		}
	}
}

// recipient gives what is in memory of one recipient of a live message.
func (s *Spool) recipient(id smtp.ID, i int) (st RecipientState, far Position, live bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, e := s.live.of(id)
	if e == nil {
		return st, 0, false
	}
	st, far = s.live.expand(n, i)
	return st, far, true
}

// reasonAt reads the reason of one recipient from the record at p.
func (s *Spool) reasonAt(p Position, id smtp.ID, recipient int) (reason string, ok bool) {
	s.mu.Lock()
	seg := s.segments[p.segment()]
	s.mu.Unlock()
	if seg == nil {
		return "", false
	}
	return reasonIn(seg.file, p, id, recipient)
}

// reasonIn finds the reason of one recipient in the record at p.
func reasonIn(f File, p Position, id smtp.ID, recipient int) (reason string, ok bool) {
	head := make([]byte, headerSize)
	if _, err := f.ReadAt(head, p.offset()); err != nil {
		return "", false
	}
	h, whole := readHeader(head)
	if !whole || h.at != p {
		return "", false
	}
	b := make([]byte, h.length)
	if _, err := f.ReadAt(b, p.offset()+headerSize); err != nil {
		return "", false
	}
	d, err := skimPayload(b)
	if err != nil {
		return "", false
	}
	if m := d.Message; m != nil && m.ID == id && recipient < len(m.Recipients) {
		reason, ok = m.Recipients[recipient].Reason, true
	}
	for i := range d.Changes {
		if c := &d.Changes[i]; c.ID == id && c.Recipient == recipient {
			reason, ok = c.Reason, true
		}
	}
	return reason, ok
}

// Stats are counts of a spool.
type Stats struct {
	Messages int
	Segments int
	Lag      uint64 // distance of the follower behind what is durable; segments weigh 2^32
}

// Stats counts.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Messages: s.live.find.n, Segments: len(s.segments), Lag: uint64(s.durable - min(s.forgot, s.durable))}
}

// Durable is the end of what is durable: a follower that has come this far has seen
// everything that was committed before the call.
func (s *Spool) Durable() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(s.durable)
}

// Read gives the durable events from a position on, whole batches up to about most
// events, and the position behind them. It waits until there is something behind the
// position, be it a batch without events, or until ctx ends.
func (s *Spool) Read(ctx context.Context, from uint64, most int) (events [][]byte, next uint64, err error) {
	p := Position(from)
	var w window // of the log, where the events are not in memory any more
	for {
		s.mu.Lock()
		end, grown, closed := s.durable, s.grown, s.closed
		events, p = s.outbox.from(p, most)
		s.mu.Unlock()
		for p < end && len(events) < most {
			var more [][]byte
			more, p, err = s.eventsAt(&w, p)
			if err != nil {
				return events, uint64(p), err
			}
			events = append(events, more...)
		}
		if p > Position(from) {
			return events, uint64(p), nil
		}
		if closed {
			return nil, uint64(p), errClosed
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, uint64(p), ctx.Err()
		}
	}
}

// eventsAt reads the events of the record at p, or of the next record behind it.
func (s *Spool) eventsAt(w *window, p Position) ([][]byte, Position, error) {
	s.mu.Lock()
	seg := s.segments[p.segment()]
	var end, behind int64
	if seg != nil {
		end, behind = seg.end, seg.aside[p.offset()]
	}
	var nextNumber uint32
	if p.offset() >= end {
		nextNumber = s.following(p.segment())
	}
	s.mu.Unlock()
	if behind > 0 {
		// A torn record may have a sound header, and events that look as if they were.
		return nil, at(seg.number, behind), nil
	}
	if seg == nil || p.offset() >= end {
		if nextNumber == 0 {
			return nil, p, fmt.Errorf("read events at %d: behind the end", p)
		}
		return nil, at(nextNumber, 0), nil
	}
	b, err := w.read(seg, p, headerSize)
	if err != nil {
		return nil, p, fmt.Errorf("read events at %d: %w", p, err)
	}
	h, ok := readHeader(b)
	if !ok || h.at != p {
		return nil, s.skip(seg, p), nil
	}
	if b, err = w.read(seg, p+headerSize, h.events); err != nil {
		return nil, p, fmt.Errorf("read events at %d: %w", p, err)
	}
	d := &dec{b: b}
	events := decodeEvents(d, nil)
	next := at(seg.number, p.offset()+space(h.length))
	if d.bad {
		return nil, next, nil // set aside and reported at recovery
	}
	return events, next, nil
}

// following gives the number of the segment after one, 0 where there is none. The lock is
// held.
func (s *Spool) following(number uint32) (next uint32) {
	for n := range s.segments {
		if n > number && (next == 0 || n < next) {
			next = n
		}
	}
	return next
}

// skip passes over a place that recovery has set aside.
func (s *Spool) skip(seg *segment, p Position) Position {
	b := make([]byte, seg.end-p.offset())
	if _, err := seg.file.ReadAt(b, p.offset()); err != nil {
		return at(seg.number, seg.end)
	}
	for o := int64(align); o+headerSize <= int64(len(b)); o += align {
		if h, ok := readHeader(b[o:]); ok && h.at == at(seg.number, p.offset()+o) {
			return h.at
		}
	}
	return at(seg.number, seg.end)
}

// Forget tells that the follower has made everything before upto durable.
func (s *Spool) Forget(upto uint64) {
	s.mu.Lock()
	s.forgot = max(s.forgot, Position(upto))
	s.mu.Unlock()
	s.reclaim()
}
