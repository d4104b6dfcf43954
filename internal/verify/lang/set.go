package lang

import (
	"sort"
	"strings"
	"unicode/utf8"
)

// set is the machine of a list of strings. A state is the part of the sorted list
// that agrees with what was read, so that a list of many thousands costs what is
// walked of it. Where one string is left, what remains of it is the state: the many
// domains under one parent share its walk.
type set struct {
	list  []string
	part  partition
	spans []span
	tails map[string]int32
	trans map[uint64]int32 // by state and octet
}

// span is list[lo:hi], which agree in the first depth octets.
type span struct{ lo, hi, depth int }

// newSet makes the machine of a sorted list. It is exact where the strings are UTF-8.
func newSet(list []string) (*set, bool) {
	exact := true
	for _, s := range list {
		exact = exact && utf8.ValidString(s)
	}
	s := &set{list: list, part: literalClasses(strings.Join(list, ""))}
	s.reset()
	return s, exact
}

func (s *set) reset() {
	s.spans, s.tails, s.trans = make([]span, 2), map[string]int32{}, map[uint64]int32{}
}

func (s *set) classes() partition { return s.part }

func (s *set) counts() bool { return false }

func (s *set) spell(to []uint16, l *letter) []uint16 {
	if s.part.class(l.r) == 0 || l.text == stray {
		return append(to, 0xff) // in no string of UTF-8
	}
	for i := range len(l.text) {
		to = append(to, uint16(l.text[i]))
	}
	return to
}

func (s *set) start(m *meter) int32 {
	return s.state(span{0, len(s.list), 0}, m)
}

func (s *set) state(at span, m *meter) int32 {
	if at.lo == at.hi {
		return reject
	}
	q := int32(len(s.spans))
	if at.hi == at.lo+1 {
		tail := s.list[at.lo][at.depth:]
		if known, ok := s.tails[tail]; ok {
			return known
		}
		s.tails[tail] = q
	}
	if !m.take(8) {
		return overflow
	}
	s.spans = append(s.spans, at)
	return q
}

func (s *set) next(q int32, symbol uint16, m *meter) int32 {
	if q == reject {
		return reject
	}
	key := uint64(q)<<8 | uint64(symbol)
	if t, ok := s.trans[key]; ok {
		return t
	}
	at := s.spans[q]
	part := s.list[at.lo:at.hi]
	from := sort.Search(len(part), func(i int) bool { return len(part[i]) > at.depth && uint16(part[i][at.depth]) >= symbol })
	to := sort.Search(len(part), func(i int) bool { return len(part[i]) > at.depth && uint16(part[i][at.depth]) > symbol })
	t := s.state(span{at.lo + from, at.lo + to, at.depth + 1}, m)
	if t != overflow {
		s.trans[key] = t
	}
	return t
}

func (s *set) accepts(q int32) bool {
	return q > accept && len(s.list[s.spans[q].lo]) == s.spans[q].depth
}

func (s *set) trim() {
	if 8*len(s.spans) > keepWords {
		s.reset()
	}
}
