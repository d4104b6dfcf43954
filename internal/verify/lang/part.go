package lang

import "strings"

// LocalOf makes the condition on an address that c holds on its local part: on what
// stands before the last @, "" where there is none.
func LocalOf(c Cond) Cond {
	return Cond{&cond{name: "local part " + c.String(), inner: &c, local: true}}
}

// DomainOf makes the condition on an address that c holds on its domain: on what
// stands behind the last @, "" where there is none.
func DomainOf(c Cond) Cond { return Cond{&cond{name: "domain " + c.String(), inner: &c}} }

// partOf gives the part of an address.
func partOf(s string, local bool) string {
	i := strings.LastIndexByte(s, '@')
	switch {
	case i < 0:
		return ""
	case local:
		return s[:i]
	}
	return s[i+1:]
}

// split is the machine of a condition on a part of an address. The last @ divides and
// each may be the last: for the domain the inner machine begins again at each; for
// the local part it reads on, and what it said at the last one is kept.
type split struct {
	m      machine
	local  bool
	part   partition
	at     []uint16 // the symbols of @ in the inner machine
	states []halfway
	ids    map[halfway]int32
	trans  map[uint64]int32 // by state and symbol
	begin  int32            // of the inner machine; unknown until it is asked
}

// halfway is a state: that of the inner machine, whether an @ was read and, of a
// local part, whether the inner machine accepted there.
type halfway struct {
	q        int32
	seen, ok bool
}

// atSign is the symbol of @, which no machine has: its symbols are fewer.
const atSign uint16 = maxSymbols - 1

func newSplit(c Cond, local bool) (*split, bool) {
	inner, exact := c.get().machine()
	s := &split{m: inner, local: local, part: meet(inner.classes(), ranges([]rune("@@")))}
	s.at = inner.spell(nil, &letter{text: "@", r: '@'})
	s.reset()
	return s, exact
}

func (s *split) reset() {
	s.states, s.ids, s.trans, s.begin = make([]halfway, 2), map[halfway]int32{}, map[uint64]int32{}, unknown
}

func (s *split) classes() partition { return s.part }
func (s *split) counts() bool       { return s.m.counts() }

func (s *split) spell(to []uint16, l *letter) []uint16 {
	if l.text == "@" {
		return append(to, atSign)
	}
	return s.m.spell(to, l)
}

func (s *split) start(m *meter) int32 {
	if s.begin == unknown || s.begin == overflow {
		s.begin = s.m.start(m)
	}
	if s.begin == overflow {
		return overflow
	}
	return s.state(halfway{q: s.begin, ok: s.m.accepts(s.begin)}, m)
}

func (s *split) state(h halfway, m *meter) int32 {
	if id, known := s.ids[h]; known {
		return id
	}
	if !m.take(8) {
		return overflow
	}
	id := int32(len(s.states))
	s.states, s.ids[h] = append(s.states, h), id
	return id
}

func (s *split) next(id int32, symbol uint16, m *meter) int32 {
	key := uint64(id)<<16 | uint64(symbol)
	if t, known := s.trans[key]; known {
		return t
	}
	h := s.states[id]
	switch {
	case symbol != atSign && !s.local && !h.seen: // before the first @ nothing counts
	case symbol != atSign:
		h.q = s.m.next(h.q, symbol, m)
	case s.local:
		h.seen, h.ok = true, s.m.accepts(h.q)
		for _, at := range s.at {
			if h.q = s.m.next(h.q, at, m); h.q == overflow {
				break
			}
		}
	default:
		h.seen, h.q = true, s.begin
	}
	if h.q == overflow {
		return overflow
	}
	t := s.state(h, m)
	if t != overflow {
		s.trans[key] = t
	}
	return t
}

func (s *split) accepts(id int32) bool {
	h := s.states[id]
	if s.local || !h.seen {
		return h.ok
	}
	return s.m.accepts(h.q)
}

// trim forgets all: the states of the inner machine may not outlive it either.
func (s *split) trim() {
	s.m.trim()
	s.reset()
}
