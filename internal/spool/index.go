package spool

import (
	"iter"
	"math"
	"time"

	"postern.dev/postern/internal/smtp"
)

// index is what the spool keeps in memory of its live messages. There may be tens of
// millions, so that it holds neither pointers, for which the collector would look, nor
// texts: about 70 octets for a message with one recipient, 16 for each further one. Its
// methods are called with the spool's lock held.
type index struct {
	find    table
	pages   []*[pageSize]slot
	used    uint32 // the highest number that was ever in use
	free    uint32 // first of the slots that are free again, linked by next
	first   uint32 // in the order of acceptance
	last    uint32
	born    uint32 // messages so far, for telling those that came after a List
	many    map[uint32][]status
	memory  map[uint32]remembered
	reasons reasons
	far     map[place]Position // of the records that hold reasons for which there was no room
}

const (
	pageBits = 12
	pageSize = 1 << pageBits
)

// slot is a live message: where it stands and how its recipients fare. Number 0 names
// none.
type slot struct {
	id         smtp.ID
	length     uint32 // of the record's payload
	at         Position
	prev, next uint32
	born       uint32
	live       uint32 // recipients that are not settled
	one        status // of the only recipient; those of several stand in index.many
	kind       uint8
}

// status is the present state of one recipient.
type status struct {
	notBefore int64  // Unix milliseconds, 0 for now
	reason    uint32 // number of the last reply, or of why it is held
	attempts  uint16
	state     State
}

// place is a recipient of a slot.
type place struct{ slot, recipient uint32 }

// remembered is a message that has just come in. It is delivered from memory: reading
// it back would cost more than anything else that the spool does for it.
type remembered struct {
	message *Message
	body    []byte
	octets  int64 // that these two hold
}

func newIndex() *index {
	x := &index{many: map[uint32][]status{}, memory: map[uint32]remembered{}, reasons: newReasons(), far: map[place]Position{}}
	x.find.x = x
	return x
}

func (x *index) slot(n uint32) *slot { return &x.pages[n>>pageBits][n&(pageSize-1)] }

// of finds a message, nil where it is not live.
func (x *index) of(id smtp.ID) (uint32, *slot) {
	n := x.find.find(id)
	if n == 0 {
		return 0, nil
	}
	return n, x.slot(n)
}

// enter makes a message live, behind all others.
func (x *index) enter(id smtp.ID) (uint32, *slot) {
	n := x.free
	if n != 0 {
		x.free = x.slot(n).next
	} else {
		x.used++
		if n = x.used; int(n>>pageBits) >= len(x.pages) {
			x.pages = append(x.pages, new([pageSize]slot))
		}
	}
	x.born++
	e := x.slot(n)
	*e = slot{id: id, born: x.born, prev: x.last}
	if x.last != 0 {
		x.slot(x.last).next = n
	} else {
		x.first = n
	}
	x.last = n
	x.find.put(id, n)
	return n, e
}

// leave forgets a message.
func (x *index) leave(n uint32) {
	e := x.slot(n)
	if e.prev != 0 {
		x.slot(e.prev).next = e.next
	} else {
		x.first = e.next
	}
	if e.next != 0 {
		x.slot(e.next).prev = e.prev
	} else {
		x.last = e.prev
	}
	x.clear(n)
	x.find.remove(e.id)
	*e = slot{next: x.free}
	x.free = n
}

// clear lets go of what a slot holds outside of itself.
func (x *index) clear(n uint32) {
	for i := range x.recipients(n) {
		st := x.status(n, i)
		x.unreason(n, i, *st)
		*st = status{}
	}
	delete(x.many, n)
	delete(x.memory, n)
}

// hold gives a slot room for n recipients.
func (x *index) hold(n uint32, recipients int) {
	if recipients != 1 {
		x.many[n] = make([]status, recipients)
	}
}

// status gives the place of one recipient's state, nil where there is no such one.
func (x *index) status(n uint32, i int) *status {
	all, ok := x.many[n]
	switch {
	case ok && i >= 0 && i < len(all):
		return &all[i]
	case !ok && i == 0:
		return &x.slot(n).one
	}
	return nil
}

// set puts a recipient into a state that record p tells of.
func (x *index) set(n uint32, i int, p Position, st RecipientState) {
	s := x.status(n, i)
	x.unreason(n, i, *s)
	*s = status{state: st.State, attempts: uint16(min(st.Attempts, math.MaxUint16))}
	if !st.NotBefore.IsZero() {
		s.notBefore = st.NotBefore.UnixMilli()
	}
	if st.State == Settled || st.Reason == "" {
		return
	}
	if s.reason = x.reasons.add(st.Reason); s.reason == tooMany {
		x.far[place{n, uint32(i)}] = p
	}
}

func (x *index) unreason(n uint32, i int, st status) {
	if st.reason == tooMany {
		delete(x.far, place{n, uint32(i)})
		return
	}
	x.reasons.remove(st.reason)
}

// expand gives a recipient's state as others see it; far tells in which record its
// reason stands, where it is not in memory.
func (x *index) expand(n uint32, i int) (st RecipientState, far Position) {
	s := x.status(n, i)
	st = RecipientState{State: s.state, Attempts: int(s.attempts)}
	if s.notBefore != 0 {
		st.NotBefore = time.UnixMilli(s.notBefore).UTC()
	}
	if s.reason == tooMany {
		return st, x.far[place{n, uint32(i)}]
	}
	st.Reason = x.reasons.text(s.reason)
	return st, 0
}

// recipients tells how many a message has.
func (x *index) recipients(n uint32) int {
	if all, ok := x.many[n]; ok {
		return len(all)
	}
	return 1
}

// inOrder yields the slots in the order of acceptance.
func (x *index) inOrder() iter.Seq2[uint32, *slot] {
	return func(yield func(uint32, *slot) bool) {
		for n := x.first; n != 0; n = x.slot(n).next {
			if !yield(n, x.slot(n)) {
				return
			}
		}
	}
}

// reasons keeps each text once. What peers reply is often the same for many, and
// sometimes different for each: then the octets are bounded, and the rest is read from
// the log when somebody asks.
type reasons struct {
	find   map[string]uint32
	all    []reason
	free   []uint32
	octets int
}

type reason struct {
	text string
	uses int
}

const (
	tooMany    = math.MaxUint32 // instead of a number: there was no room
	maxReasons = 16 << 20       // octets of texts, with about 100 for each
)

func newReasons() reasons { return reasons{find: map[string]uint32{}, all: make([]reason, 1)} }

// add counts one more use of a text and gives its number.
func (r *reasons) add(text string) uint32 {
	n, known := r.find[text]
	if !known {
		if r.octets+len(text)+100 > maxReasons {
			return tooMany
		}
		if k := len(r.free); k > 0 {
			n, r.free = r.free[k-1], r.free[:k-1]
		} else {
			n = uint32(len(r.all))
			r.all = append(r.all, reason{})
		}
		r.all[n].text, r.find[text] = text, n
		r.octets += len(text) + 100
	}
	r.all[n].uses++
	return n
}

// remove counts one use less.
func (r *reasons) remove(n uint32) {
	if n == 0 {
		return
	}
	if r.all[n].uses--; r.all[n].uses == 0 {
		delete(r.find, r.all[n].text)
		r.octets -= len(r.all[n].text) + 100
		r.all[n] = reason{}
		r.free = append(r.free, n)
	}
}

func (r *reasons) text(n uint32) string { return r.all[n].text }
