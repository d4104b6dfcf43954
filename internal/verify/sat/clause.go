package sat

import "slices"

// A clause is a run of words in the arena: its size, its quality, its literals. The
// first two literals are the watched ones. Binary clauses lie there too, but are
// propagated from the watch lists alone.
const (
	header = 2
	none   = 0       // no clause
	binary = 1 << 31 // in a watch: the clause has but two literals

	// The quality of a learnt clause: how many decision levels its literals came from
	// (LBD, of Audemard and Simon), and how many reductions it may yet survive for
	// having been of use.
	isLearnt   = 1 << 31
	isDoomed   = 1 << 30
	usedShift  = 28
	usedMask   = 3 << usedShift
	glueMask   = 1<<usedShift - 1
	coreGlue   = 2 // as good as this: kept for ever
	usefulGlue = 6 // as good as this: survives two reductions after its last use
)

// watch is an entry of a watch list. The blocker is another literal of the clause:
// while it is true the clause need not be looked at.
type watch struct {
	clause  uint32
	blocker lit
}

func (s *Solver) literals(c uint32) []uint32 {
	return s.arena[c+header : c+header+s.arena[c]]
}

// next gives the place of the clause behind c.
func (s *Solver) next(c uint32) uint32 { return c + header + s.arena[c] }

// attach files the clauses that were added since the last query, and sweeps when
// something new holds at level 0 and the searching since has outweighed a sweep.
func (s *Solver) attach() {
	if fresh := uint32(len(s.arena)) - s.attached; fresh > s.attached/2 {
		s.attachAll()
	}
	for c := s.attached; int(c) < len(s.arena); c = s.next(c) {
		s.watchClause(c)
	}
	s.attached = uint32(len(s.arena))
	if s.stats.Propagations-s.sweptAt <= int64(len(s.arena)) {
		return
	}
	if s.propagate() != none {
		s.refuted()
	} else if len(s.trail) > s.swept {
		s.sweep()
	}
}

// watchClause enters a clause into the lists of its first two literals.
func (s *Solver) watchClause(c uint32) {
	p, q, at := lit(s.arena[c+header]), lit(s.arena[c+header+1]), c
	if s.arena[c] == 2 {
		at |= binary
	}
	s.watches[p] = append(s.watches[p], watch{at, q})
	s.watches[q] = append(s.watches[q], watch{at, p})
}

// attachAll makes all watch lists anew, in one block with some room to grow in each.
// Binary clauses come first: they are cheapest and force most.
func (s *Solver) attachAll() {
	s.counts = append(s.counts[:0], make([]uint32, len(s.watches))...)
	total, long := 0, false
	for c := uint32(1); int(c) < len(s.arena); c = s.next(c) {
		s.counts[s.arena[c+header]]++
		s.counts[s.arena[c+header+1]]++
	}
	for _, n := range s.counts {
		total += int(room(n))
	}
	if cap(s.block) < total {
		s.block = make([]watch, total+total/4)
	}
	at := uint32(0)
	for p, n := range s.counts {
		s.watches[p] = s.block[at : at : at+room(n)]
		at += room(n)
	}
	for c := uint32(1); int(c) < len(s.arena); c = s.next(c) {
		if s.arena[c] == 2 {
			s.watchClause(c)
		} else {
			long = true
		}
	}
	for c := uint32(1); long && int(c) < len(s.arena); c = s.next(c) {
		if s.arena[c] != 2 {
			s.watchClause(c)
		}
	}
	s.attached = uint32(len(s.arena))
}

func room(n uint32) uint32 { return n + n/2 + 2 }

// store puts the learnt clause into the arena.
func (s *Solver) store(glue uint32) uint32 {
	c := uint32(len(s.arena))
	s.arena = append(s.arena, uint32(len(s.learnt)), isLearnt|min(glue, glueMask))
	for _, p := range s.learnt {
		s.arena = append(s.arena, uint32(p))
	}
	s.watchClause(c)
	s.attached = uint32(len(s.arena))
	s.stats.Learnt++
	return c
}

// reduce dooms the worse half of the learnt clauses that were of no use lately, and
// sweeps. It is called at level 0, where no clause is a reason that matters.
func (s *Solver) reduce() {
	s.stats.Reductions++
	var worst []uint64 // glue, size, place: sorted as numbers
	for c := uint32(1); int(c) < len(s.arena); c = s.next(c) {
		q := s.arena[c+1]
		glue := q & glueMask
		switch {
		case q&isLearnt == 0 || s.arena[c] == 2 || glue <= coreGlue:
		case q&usedMask != 0:
			s.arena[c+1] -= 1 << usedShift
		default:
			worst = append(worst, uint64(min(glue, 1<<16-1))<<48|uint64(min(s.arena[c], 1<<16-1))<<32|uint64(c))
		}
	}
	slices.Sort(worst)
	for _, w := range worst[len(worst)/2:] {
		s.arena[uint32(w)+1] |= isDoomed
	}
	s.sweep()
}

// sweep drops doomed clauses and those that hold at level 0, strips false literals
// from the others, and closes the gaps. It is called at level 0 with everything
// propagated; the reasons of level 0, which go stale, are never looked at.
func (s *Solver) sweep() {
	for ; s.swept < len(s.trail); s.swept++ {
		s.record(false, s.trail[s.swept:s.swept+1]) // before the clauses that forced it go
	}
	s.sweptAt = s.stats.Propagations
	to := uint32(1)
	for from := uint32(1); int(from) < len(s.arena); {
		size, quality, behind := s.arena[from], s.arena[from+1], s.next(from)
		s.learnt = s.learnt[:0]
		gone := quality&isDoomed != 0
		for _, u := range s.literals(from) {
			gone = gone || s.values[u] > 0
			s.learnt = append(s.learnt, lit(u))
		}
		if gone {
			s.drop(quality)
			from = behind
			continue
		}
		kept := uint32(0)
		for _, p := range s.learnt {
			if s.values[p] == 0 {
				s.arena[to+header+kept] = uint32(p)
				kept++
			}
		}
		s.arena[to], s.arena[to+1] = kept, quality
		if kept < size && quality&isLearnt != 0 {
			s.shrunk(to)
		}
		to, from = to+header+kept, behind
	}
	s.arena = s.arena[:to]
	s.attachAll()
}

// drop accounts for the clause in s.learnt, which goes.
func (s *Solver) drop(quality uint32) {
	if quality&isLearnt == 0 {
		s.stats.Clauses--
		return
	}
	s.stats.Learnt--
	s.record(true, s.learnt)
}

// shrunk tells the log that clause c took the place of the one in s.learnt.
func (s *Solver) shrunk(c uint32) {
	if s.log == nil {
		return
	}
	var now []lit
	for _, u := range s.literals(c) {
		now = append(now, lit(u))
	}
	s.record(false, now)
	s.record(true, s.learnt)
}
