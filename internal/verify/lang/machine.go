package lang

import "encoding/binary"

// The states that every machine has: from reject it never accepts again, from accept
// it does whatever comes. overflow is the answer of a machine that ran out of means.
const (
	overflow int32 = -1
	reject   int32 = 0
	accept   int32 = 1
)

// machine is a deterministic automaton over symbols of its own.
type machine interface {
	// classes divides the characters into those that the machine takes for the same.
	classes() partition
	// counts reports a machine for which it matters how many octets a character has.
	counts() bool
	// spell appends the symbols by which a letter is read.
	spell(to []uint16, l *letter) []uint16
	start(m *meter) int32
	next(q int32, symbol uint16, m *meter) int32
	accepts(q int32) bool
	// trim forgets states if they are many. No state number outlives it.
	trim()
}

// meter bounds a search: what is left of its work and memory, in words touched.
type meter struct{ left int }

func (m *meter) take(n int) bool {
	m.left -= n
	return m.left >= 0
}

// keepWords is how much a machine keeps from one search to the next.
const keepWords = 1 << 20

// maxSymbols bounds the symbols of a machine.
const maxSymbols = 1 << 16

// unknown marks a transition that has not been taken yet.
const unknown int32 = -2

// subsets is a machine's memory: each state is a sorted list of numbers, and a row
// of transitions.
type subsets struct {
	symbols int
	ids     map[string]int32
	sets    [][]uint32
	trans   []int32
	words   int
	key     []byte
}

func (s *subsets) reset() {
	s.ids, s.words = map[string]int32{}, 0
	s.sets = append(s.sets[:0], nil, nil)
	s.trans = s.trans[:0]
	for q := reject; q <= accept; q++ {
		for range s.symbols {
			s.trans = append(s.trans, q)
		}
	}
}

func (s *subsets) trim() {
	if s.words > keepWords {
		s.reset()
	}
}

// intern gives the state of a set.
func (s *subsets) intern(set []uint32, m *meter) int32 {
	s.key = s.key[:0]
	for _, v := range set {
		s.key = binary.LittleEndian.AppendUint32(s.key, v)
	}
	if q, ok := s.ids[string(s.key)]; ok {
		return q
	}
	size := len(set) + s.symbols
	if !m.take(size) {
		return overflow
	}
	s.words += size
	q := int32(len(s.sets))
	s.ids[string(s.key)] = q
	s.sets = append(s.sets, append([]uint32(nil), set...))
	for range s.symbols {
		s.trans = append(s.trans, unknown)
	}
	return q
}
