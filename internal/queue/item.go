package queue

import (
	"encoding/binary"

	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// ref names an item by its place in the arena; 0 names none.
type ref uint32

// place is the list that an item stands in.
type place uint8

// The places.
const (
	nowhere  place = iota // held, or somebody has it
	inLane                // ready
	inWheel               // waits for its time
	inDomain              // waits until its domain's site is known
	inParked              // suspended by an order that is about it, or its domain, alone
)

// item is one recipient that is not done with. There may be tens of millions, so it
// holds no pointer, for which the collector would look, and no text: what it shares
// with others is interned, and the rest stays in the spool.
type item struct {
	at         int64 // of the next attempt, Unix milliseconds; 0 is at once
	id         smtp.ID
	rcpt       uint32
	next, prev ref    // in the list of its place
	slot       uint32 // of its place: the wheel's slot, the lane's number
	domain     uint32
	flow       uint32
	reason     uint32 // why it is held
	attempts   uint16
	state      spool.State
	place      place
	busy       bool // a worker or an operator has it
	noticed    bool // its sender knows of the delay
}

// list is a chain of items, first in, first out.
type list struct {
	head, tail ref
	n          int
}

const (
	chunkBits = 14
	chunkSize = 1 << chunkBits
)

// arena holds the items in pieces that never move, and finds them by message and
// recipient. What was freed is used again; memory is not given back.
type arena struct {
	chunks []*[chunkSize]item
	free   ref
	used   ref // the highest ref that was ever in use
	live   int
	index  [256]shard
}

func (a *arena) at(r ref) *item { return &a.chunks[r>>chunkBits][r&(chunkSize-1)] }

// add makes an item that is known by its message and recipient.
func (a *arena) add(id smtp.ID, rcpt int) ref {
	r := a.free
	if r != 0 {
		a.free = a.at(r).next
	} else {
		a.used++
		r = a.used
		if int(r>>chunkBits) >= len(a.chunks) {
			a.chunks = append(a.chunks, new([chunkSize]item))
		}
	}
	*a.at(r) = item{id: id, rcpt: uint32(rcpt)}
	a.live++
	h := hash(id, uint32(rcpt))
	a.index[byte(h)].put(a, h, r)
	return r
}

// find gives the item of a recipient, 0 where there is none.
func (a *arena) find(id smtp.ID, rcpt int) ref {
	h := hash(id, uint32(rcpt))
	s := &a.index[byte(h)]
	if i, ok := s.find(a, h, id, uint32(rcpt)); ok {
		return s.slots[i]
	}
	return 0
}

// drop frees an item that stands in no list any more.
func (a *arena) drop(r ref) {
	it := a.at(r)
	h := hash(it.id, it.rcpt)
	a.index[byte(h)].remove(a, h, it)
	*it = item{next: a.free, state: spool.Settled}
	a.free = r
	a.live--
}

func (a *arena) push(l *list, r ref) {
	it := a.at(r)
	it.prev, it.next = l.tail, 0
	if l.tail != 0 {
		a.at(l.tail).next = r
	} else {
		l.head = r
	}
	l.tail = r
	l.n++
}

func (a *arena) unshift(l *list, r ref) {
	it := a.at(r)
	it.prev, it.next = 0, l.head
	if l.head != 0 {
		a.at(l.head).prev = r
	} else {
		l.tail = r
	}
	l.head = r
	l.n++
}

func (a *arena) remove(l *list, r ref) {
	it := a.at(r)
	if it.prev != 0 {
		a.at(it.prev).next = it.next
	} else {
		l.head = it.next
	}
	if it.next != 0 {
		a.at(it.next).prev = it.prev
	} else {
		l.tail = it.prev
	}
	it.next, it.prev = 0, 0
	l.n--
}

// shard is a part of the index: a table with linear probing that holds nothing but
// refs, since the keys stand in the items. There are many, so that one that grows
// takes no time that anybody would notice.
type shard struct {
	slots []ref
	n     int
}

// hash spreads the random part of an id, and the recipient.
func hash(id smtp.ID, rcpt uint32) uint64 {
	h := binary.LittleEndian.Uint64(id[4:]) ^ uint64(rcpt)*0x9e3779b97f4a7c15
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// home is where a hash wants to stand; the low octet has chosen the shard.
func (s *shard) home(h uint64) int { return int(h>>8) & (len(s.slots) - 1) }

func (s *shard) put(a *arena, h uint64, r ref) {
	if 4*(s.n+1) > 3*len(s.slots) {
		old := s.slots
		s.slots = make([]ref, max(16, 2*len(old)))
		for _, o := range old {
			if o != 0 {
				s.set(hash(a.at(o).id, a.at(o).rcpt), o)
			}
		}
	}
	s.set(h, r)
	s.n++
}

func (s *shard) set(h uint64, r ref) {
	i := s.home(h)
	for s.slots[i] != 0 {
		i = (i + 1) & (len(s.slots) - 1)
	}
	s.slots[i] = r
}

func (s *shard) find(a *arena, h uint64, id smtp.ID, rcpt uint32) (int, bool) {
	if len(s.slots) == 0 {
		return 0, false
	}
	for i := s.home(h); s.slots[i] != 0; i = (i + 1) & (len(s.slots) - 1) {
		if it := a.at(s.slots[i]); it.id == id && it.rcpt == rcpt {
			return i, true
		}
	}
	return 0, false
}

// remove takes an item out and moves those behind it up, so that no gap parts them
// from their home.
func (s *shard) remove(a *arena, h uint64, it *item) {
	i, ok := s.find(a, h, it.id, it.rcpt)
	if !ok {
		return
	}
	mask := len(s.slots) - 1
	for j := (i + 1) & mask; s.slots[j] != 0; j = (j + 1) & mask {
		o := a.at(s.slots[j])
		home := s.home(hash(o.id, o.rcpt))
		if (j-home)&mask >= (j-i)&mask {
			s.slots[i] = s.slots[j]
			i = j
		}
	}
	s.slots[i] = 0
	s.n--
}
