package spool

import (
	"encoding/binary"

	"postern.dev/postern/internal/smtp"
)

// table finds messages by their identity: tables with linear probing that hold nothing
// but the numbers of slots, since the identities stand in those. That is a fifth of
// what a map takes, and half of its time at a start. There are many, so that one that
// grows takes no time that anybody would notice.
type table struct {
	x      *index
	shards [256]shard
	n      int
}

type shard struct {
	slots []uint32
	n     int
}

// hash spreads the random part of an identity, and the lowest of its time.
func hash(id smtp.ID) uint64 {
	h := binary.LittleEndian.Uint64(id[4:])
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// home is where a hash wants to stand; the low octet has chosen the shard.
func (s *shard) home(h uint64) int { return int(h>>8) & (len(s.slots) - 1) }

// find gives the number of a message, 0 where there is none.
func (t *table) find(id smtp.ID) uint32 {
	h := hash(id)
	s := &t.shards[byte(h)]
	if i, ok := t.place(s, h, id); ok {
		return s.slots[i]
	}
	return 0
}

func (t *table) place(s *shard, h uint64, id smtp.ID) (int, bool) {
	if s.n == 0 {
		return 0, false
	}
	for i := s.home(h); s.slots[i] != 0; i = (i + 1) & (len(s.slots) - 1) {
		if t.x.slot(s.slots[i]).id == id {
			return i, true
		}
	}
	return 0, false
}

// put enters a message that is not there yet; its slot has its identity.
func (t *table) put(id smtp.ID, n uint32) {
	h := hash(id)
	s := &t.shards[byte(h)]
	if 4*(s.n+1) > 3*len(s.slots) {
		old := s.slots
		s.slots = make([]uint32, max(16, 2*len(old)))
		for _, o := range old {
			if o != 0 {
				s.set(hash(t.x.slot(o).id), o)
			}
		}
	}
	s.set(h, n)
	s.n++
	t.n++
}

func (s *shard) set(h uint64, n uint32) {
	i := s.home(h)
	for s.slots[i] != 0 {
		i = (i + 1) & (len(s.slots) - 1)
	}
	s.slots[i] = n
}

// remove takes a message out, whose slot still has its identity, and moves those behind
// it up, so that no gap parts them from their home.
func (t *table) remove(id smtp.ID) {
	h := hash(id)
	s := &t.shards[byte(h)]
	i, ok := t.place(s, h, id)
	if !ok {
		return
	}
	mask := len(s.slots) - 1
	for j := (i + 1) & mask; s.slots[j] != 0; j = (j + 1) & mask {
		home := s.home(hash(t.x.slot(s.slots[j]).id))
		if (j-home)&mask >= (j-i)&mask {
			s.slots[i] = s.slots[j]
			i = j
		}
	}
	s.slots[i] = 0
	s.n--
	t.n--
}
