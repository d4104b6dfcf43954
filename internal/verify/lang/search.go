package lang

import (
	"encoding/binary"
	"regexp/syntax"
	"slices"
	"unicode"
)

// search is the machine of a regular expression that is searched for. A state is the
// set of instructions that may come next. Assertions about what was read are settled
// as a state is made; those about what will be read stay in the set, and with them,
// as its last element, what sort of character was read.
type search struct {
	subsets
	prog     *syntax.Prog
	part     partition
	chars    []rune // a character of each class
	anchored bool   // no attempt begins after the beginning
	words    bool   // \b or \B occurs
	lines    bool   // (?m) occurs

	here, there sparse
	stack       []uint32
	visits      int    // instructions visited by spread
	final       []int8 // of each state: 0 not yet asked, 1 accepts, 2 does not
}

// sparse is a set of instructions that is quick to clear.
type sparse struct {
	mark []uint32
	gen  uint32
	all  []uint32
}

func (s *sparse) clear() {
	if s.gen++; s.gen == 0 {
		clear(s.mark)
		s.gen = 1
	}
	s.all = s.all[:0]
}

func (s *sparse) add(pc uint32) bool {
	if s.mark[pc] == s.gen {
		return false
	}
	s.mark[pc] = s.gen
	return true
}

// What was or will be read, as far as assertions care.
const (
	edge    rune = -1 // the beginning or the end
	unread  rune = -2 // not known yet
	plain   rune = ' '
	wordish rune = 'a'
)

// pastBit tells the last element of a set, which says what was read, from the rest.
const pastBit = 1 << 31

// newSearch makes the machine of an expression that package regexp has compiled. It
// is not exact where regexp is not: it takes a literal surrogate at the beginning of
// an anchored expression for U+FFFD.
func newSearch(re string) (*search, bool) {
	parsed, err := syntax.Parse(re, syntax.Perl)
	if err != nil {
		return nil, false
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, false
	}
	s := &search{prog: prog}
	exact := s.divide()
	s.here.mark = make([]uint32, len(prog.Inst))
	s.there.mark = make([]uint32, len(prog.Inst))
	s.chars = make([]rune, s.part.n)
	for i := len(s.part.lo) - 1; i >= 0; i-- {
		s.chars[s.part.of[i]] = s.part.lo[i]
	}
	s.symbols = s.part.n
	s.reset()
	s.anchored = true
	for _, past := range []rune{'\n', wordish, plain} {
		s.there.clear()
		if s.spread(&s.there, uint32(prog.Start), past, unread) || len(s.there.all) > 0 {
			s.anchored = false
		}
	}
	return s, exact
}

// divide cuts the characters at every boundary of the program's classes and
// assertions, and reports whether the machine is exact.
func (s *search) divide() bool {
	single, folded := map[rune]int32{}, map[rune]int32{}
	seen := map[string]bool{}
	exact, newline := true, false
	s.part = whole()
	for i := range s.prog.Inst {
		switch in := &s.prog.Inst[i]; in.Op {
		case syntax.InstEmptyWidth:
			op := syntax.EmptyOp(in.Arg)
			s.words = s.words || op&(syntax.EmptyWordBoundary|syntax.EmptyNoWordBoundary) != 0
			s.lines = s.lines || op&(syntax.EmptyBeginLine|syntax.EmptyEndLine) != 0
		case syntax.InstRuneAnyNotNL:
			newline = true
		case syntax.InstRune, syntax.InstRune1:
			if len(in.Rune) == 1 {
				r := in.Rune[0]
				exact = exact && (r < 0xd800 || r > 0xdfff)
				if in.Op == syntax.InstRune && syntax.Flags(in.Arg)&syntax.FoldCase != 0 {
					addOrbit(folded, r)
				} else if single[r] == 0 {
					single[r] = int32(len(single)) + 1
				}
				continue
			}
			if key := runesKey(in.Rune); !seen[key] {
				seen[key] = true
				s.part = meet(s.part, ranges(in.Rune))
			}
		}
	}
	if s.words {
		s.part = meet(s.part, ranges([]rune("09AZ__az")))
	}
	if s.lines || newline {
		s.part = meet(s.part, ranges([]rune("\n\n")))
	}
	s.part = meet(s.part, orbits(single, int32(len(single))))
	s.part = meet(s.part, orbits(folded, int32(len(folded))))
	return exact && s.part.n < maxSymbols
}

// addOrbit numbers the characters that fold to r alike.
func addOrbit(folded map[rune]int32, r rune) {
	if folded[r] != 0 {
		return
	}
	n := int32(len(folded)) + 1
	folded[r] = n
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		folded[f] = n
	}
}

func runesKey(rs []rune) string {
	key := make([]byte, 0, 4*len(rs))
	for _, r := range rs {
		key = binary.LittleEndian.AppendUint32(key, uint32(r))
	}
	return string(key)
}

func (s *search) classes() partition { return s.part }

func (s *search) counts() bool { return false }

func (s *search) spell(to []uint16, l *letter) []uint16 {
	return append(to, uint16(s.part.class(l.r)))
}

// past gives the sort of a character that was read.
func (s *search) past(r rune) rune {
	switch {
	case s.lines && r == '\n':
		return '\n'
	case s.words && syntax.IsWordChar(r):
		return wordish
	}
	return plain
}

func (s *search) start(m *meter) int32 {
	s.there.clear()
	return s.state(s.spread(&s.there, uint32(s.prog.Start), edge, unread), edge, m)
}

func (s *search) next(q int32, symbol uint16, m *meter) int32 {
	at := int(q)*s.symbols + int(symbol)
	if t := s.trans[at]; t != unknown {
		return t
	}
	s.visits = 0
	r := s.chars[symbol]
	now, matched := s.settled(q, r)
	past := s.past(r)
	s.there.clear()
	for _, pc := range now {
		if in := &s.prog.Inst[pc]; !matched && reads(in, r) {
			matched = s.spread(&s.there, in.Out, past, unread)
		}
	}
	matched = matched || s.spread(&s.there, uint32(s.prog.Start), past, unread)
	if !m.take(len(now) + s.visits) {
		return overflow
	}
	t := s.state(matched, past, m)
	if t != overflow {
		s.trans[at] = t
	}
	return t
}

// settled gives the instructions of a state once it is known what comes next, or
// reports a match.
func (s *search) settled(q int32, next rune) (now []uint32, matched bool) {
	set := s.sets[q]
	last := len(set) - 1
	if last < 0 || set[last] < pastBit {
		return set, false
	}
	past := rune(int32(set[last]<<1) >> 1)
	s.here.clear()
	for _, pc := range set[:last] {
		if s.spread(&s.here, pc, past, next) {
			return nil, true
		}
	}
	return s.here.all, false
}

// state gives the state of the set that was gathered in there.
func (s *search) state(matched bool, past rune, m *meter) int32 {
	if matched {
		return accept
	}
	set := s.there.all
	if len(set) == 0 && s.anchored {
		return reject
	}
	slices.Sort(set)
	if slices.ContainsFunc(set, func(pc uint32) bool { return s.prog.Inst[pc].Op == syntax.InstEmptyWidth }) {
		set = append(set, uint32(past)|pastBit)
		s.there.all = set
	}
	return s.intern(set, m)
}

func (s *search) accepts(q int32) bool {
	if q <= accept {
		return q == accept
	}
	for int(q) >= len(s.final) {
		s.final = append(s.final, 0)
	}
	if s.final[q] == 0 {
		s.final[q] = 2
		if _, matched := s.settled(q, edge); matched {
			s.final[q] = 1
		}
	}
	return s.final[q] == 1
}

func (s *search) trim() {
	if s.subsets.words > keepWords {
		s.reset()
		s.final = s.final[:0]
	}
}

// spread adds to the set the instructions that pc leads to without reading. It
// reports a match.
func (s *search) spread(set *sparse, pc uint32, past, next rune) bool {
	s.stack = append(s.stack[:0], pc)
	for len(s.stack) > 0 {
		pc := s.stack[len(s.stack)-1]
		s.stack = s.stack[:len(s.stack)-1]
		s.visits++
		if !set.add(pc) {
			continue
		}
		switch in := &s.prog.Inst[pc]; in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			s.stack = append(s.stack, in.Out, in.Arg)
		case syntax.InstCapture, syntax.InstNop:
			s.stack = append(s.stack, in.Out)
		case syntax.InstEmptyWidth:
			switch {
			case next == unread && syntax.EmptyOp(in.Arg)&(syntax.EmptyBeginLine|syntax.EmptyBeginText) == 0:
				set.all = append(set.all, pc)
			case in.MatchEmptyWidth(past, next):
				s.stack = append(s.stack, in.Out)
			}
		case syntax.InstMatch:
			return true
		case syntax.InstFail:
		default:
			set.all = append(set.all, pc)
		}
	}
	return false
}

// reads reports whether an instruction takes a character.
func reads(in *syntax.Inst, r rune) bool {
	switch in.Op {
	case syntax.InstRuneAny:
		return true
	case syntax.InstRuneAnyNotNL:
		return r != '\n'
	case syntax.InstRune1:
		return r == in.Rune[0]
	case syntax.InstRune:
		return in.MatchRune(r)
	}
	return false
}
