package spool

import (
	"fmt"

	"postern.dev/postern/internal/smtp"
)

// A record that settles a message may stand in a later segment than the message. If the
// later one went first, the message would come back at the next start, so segments go
// in their order only. Lest a message that waits for days keep all that came after it,
// the writer moves the live messages of the oldest segment to the end of the log once
// the log is mostly dead.
const (
	cleanFrom     = 4       // segments below which nothing is moved
	cleanMessages = 256     // moved at once
	cleanOctets   = 1 << 20 // moved at once, or one message
)

// reclaim removes the segments that nobody needs, the oldest first: no live message,
// no event that the follower has not made durable.
func (s *Spool) reclaim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		n, seg := s.oldest()
		if seg == nil || seg.live > 0 || !seg.sealed || seg == s.current || s.forgot < at(n, seg.end) {
			return
		}
		seg.file.Close()
		if err := s.fs.Remove(segmentName(n)); err != nil {
			s.o.Log.Warn("spool segment not removed", "segment", segmentName(n), "err", err)
		}
		delete(s.segments, n)
		s.gone = at(n, seg.end)
	}
}

// oldest gives the first segment, nil where there is none. The lock is held.
func (s *Spool) oldest() (number uint32, first *segment) {
	for n, seg := range s.segments {
		if first == nil || n < number {
			number, first = n, seg
		}
	}
	return number, first
}

// clean moves some live messages out of the oldest segment, if the log is mostly dead.
// Only the writer calls it, between two groups: what it reads of a message is then the
// last that the log says of it.
func (s *Spool) clean() {
	s.mu.Lock()
	number, seg := s.oldest()
	due := len(s.segments) >= cleanFrom && seg != s.current && seg.live > 0 && s.forgot >= at(number, seg.end) &&
		s.octets < int64(len(s.segments))*s.o.SegmentSize/2
	s.mu.Unlock()
	if !due {
		return
	}
	if s.moving == nil {
		s.moving = s.standing(number)
	}
	var group []*commit
	for octets := 0; len(s.moving) > 0 && len(group) < cleanMessages && octets < cleanOctets; {
		id := s.moving[len(s.moving)-1]
		s.moving = s.moving[:len(s.moving)-1]
		c, err := s.move(id, number)
		if err != nil {
			s.o.Log.Error("spool message not moved", "id", id.String(), "err", err)
		}
		if c != nil {
			group = append(group, c)
			octets += len(c.payload)
		}
	}
	if len(s.moving) == 0 {
		s.moving = nil
	}
	if len(group) > 0 {
		s.flush(group)
	}
}

// standing lists the messages that stand in a segment, without keeping others from the
// index for long.
func (s *Spool) standing(number uint32) (ids []smtp.ID) {
	for page := 0; ; page++ {
		s.mu.Lock()
		if page >= len(s.live.pages) {
			s.mu.Unlock()
			return ids
		}
		for i := range s.live.pages[page] {
			if e := &s.live.pages[page][i]; e.live > 0 && e.at.segment() == number {
				ids = append(ids, e.id)
			}
		}
		s.mu.Unlock()
	}
}

// move makes the commit that writes a message again as it stands now; nil where it has
// left the segment meanwhile. It carries no events: those of its first record stay
// the only ones.
func (s *Spool) move(id smtp.ID, number uint32) (*commit, error) {
	states, err := s.State(id)
	if err != nil {
		return nil, nil // settled meanwhile
	}
	d, at, err := s.stored(id)
	if err != nil {
		return nil, err
	}
	if at.segment() != number {
		return nil, nil
	}
	m := *d.Message
	m.Recipients = append([]Recipient(nil), m.Recipients...)
	b := &Batch{Message: &m}
	for i, st := range states {
		m.Recipients[i].State, m.Recipients[i].Reason = st.State, st.Reason
		if st.State != Settled && (st.Attempts > 0 || !st.NotBefore.IsZero()) {
			b.Changes = append(b.Changes, Change{ID: id, Recipient: i, State: st.State, Attempts: st.Attempts, NotBefore: st.NotBefore, Reason: st.Reason})
		}
	}
	c := &commit{batch: b, kind: d.kind, done: make(chan error, 1), set: s.timed.known, made: s.madeBy(s.timed.known)}
	c.payload, c.events, c.body = encodePayload(b, d.kind, d.crc, nil, d.body)
	if len(c.payload) > maxPayload {
		return nil, fmt.Errorf("record of %d octets: too large", len(c.payload))
	}
	c.crc = checksum(c.payload)
	return c, nil
}
