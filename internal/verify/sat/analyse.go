package sat

import "slices"

// mark is what analyse, minimise and Add note at a variable.
type mark uint8

const (
	markSeen      mark = iota + 1 // in the learnt clause
	markRedundant                 // follows from the learnt clause
	markPoison                    // does not
	markTrue                      // in the clause that is added, as it is
	markFalse                     // or negated
)

// deepest bounds the recursion of redundant.
const deepest = 500

func (s *Solver) unmark() {
	for _, p := range s.touched {
		s.marks[p.variable()] = 0
	}
}

// touch marks a variable until the next unmark.
func (s *Solver) touch(p lit, m mark) {
	s.marks[p.variable()] = m
	s.touched = append(s.touched, p)
}

// learn derives a clause from a conflict, goes back to where it forces a literal, and
// adds it.
func (s *Solver) learn(conflict uint32) {
	s.analyse(conflict)
	glue := s.levels()
	s.minimise()
	s.unmark()
	back := int32(0)
	for i, p := range s.learnt[1:] {
		if level := s.vars[p.variable()].level; level > back {
			back = level
			s.learnt[1], s.learnt[1+i] = s.learnt[1+i], s.learnt[1] // the last to be taken back is watched
		}
	}
	s.order.weight *= decay
	s.pace.learnt(glue, s.stats.Conflicts)
	s.cancel(int(back))
	s.record(false, s.learnt)
	if len(s.learnt) == 1 {
		s.assign(s.learnt[0], none)
		return
	}
	s.assign(s.learnt[0], s.store(glue))
}

// analyse resolves the conflict with the reasons of the present level's literals
// until one is left (the first unique implication point), which comes first in
// s.learnt.
func (s *Solver) analyse(conflict uint32) {
	s.learnt, s.touched = append(s.learnt[:0], 0), s.touched[:0]
	present := int32(len(s.limits))
	open, p := 0, lit(0)
	c, i := conflict, len(s.trail)
	for {
		s.use(c)
		for _, u := range s.literals(c) {
			q := lit(u)
			level := s.vars[q.variable()].level
			if q == p || level == 0 || s.marks[q.variable()] != 0 {
				continue
			}
			s.touch(q, markSeen)
			s.order.bump(q.variable())
			if level == present {
				open++
			} else {
				s.learnt = append(s.learnt, q)
			}
		}
		for i--; s.marks[s.trail[i].variable()] == 0; i-- {
		}
		p = s.trail[i]
		if open--; open == 0 {
			break
		}
		s.marks[p.variable()] = 0 // resolved away
		c = s.vars[p.variable()].reason
	}
	s.learnt[0] = p.not()
}

// use lets a learnt clause that took part in a conflict live longer.
func (s *Solver) use(c uint32) {
	q := s.arena[c+1]
	if q&isLearnt == 0 {
		return
	}
	times := uint32(1)
	if q&glueMask <= usefulGlue {
		times = 2
	}
	s.arena[c+1] = q&^usedMask | times<<usedShift
}

// levels counts the levels of the learnt clause, and stamps them for redundant.
// Minimising does not change their number: of the literals of a level at least one
// stays.
func (s *Solver) levels() uint32 {
	s.stamp++
	if s.stamp == 0 { // once around
		clear(s.levelMark)
		s.stamp = 1
	}
	glue := uint32(0)
	for _, p := range s.learnt {
		if level := s.vars[p.variable()].level; s.levelMark[level] != s.stamp {
			s.levelMark[level] = s.stamp
			glue++
		}
	}
	return glue
}

// minimise drops the literals of the learnt clause that follow from the others.
func (s *Solver) minimise() {
	kept := s.learnt[:1]
	for _, p := range s.learnt[1:] {
		if !s.redundant(p, 0) {
			kept = append(kept, p)
		}
	}
	s.learnt = kept
}

// redundant tells whether p is false whenever the marked literals are.
func (s *Solver) redundant(p lit, depth int) bool {
	v := s.vars[p.variable()]
	m := s.marks[p.variable()]
	if v.level == 0 || m == markRedundant || m == markSeen && depth > 0 {
		return true
	}
	if m == markPoison || v.reason == none || depth > deepest || s.levelMark[v.level] != s.stamp {
		return false
	}
	verdict := markRedundant
	for _, u := range s.literals(v.reason) {
		if q := lit(u); q != p.not() && !s.redundant(q, depth+1) {
			verdict = markPoison
			break
		}
	}
	if m == 0 {
		s.touch(p, verdict)
	}
	return verdict == markRedundant
}

// blame collects into s.core the assumptions that make the assumption p false.
func (s *Solver) blame(p lit) {
	s.core = append(s.core, p)
	if s.vars[p.variable()].level == 0 {
		return
	}
	s.touched = s.touched[:0]
	s.touch(p, markSeen)
	for i := len(s.trail) - 1; i >= s.limits[0]; i-- {
		q := s.trail[i]
		if s.marks[q.variable()] == 0 {
			continue
		}
		reason := s.vars[q.variable()].reason
		if reason == none {
			s.core = append(s.core, q) // decided: below the assumptions' levels, an assumption
			continue
		}
		for _, u := range s.literals(reason) {
			if r := lit(u); s.marks[r.variable()] == 0 && s.vars[r.variable()].level > 0 {
				s.touch(r, markSeen)
			}
		}
	}
	s.unmark()
}

// What Core spends on leaving out an assumption, and how many it tries to leave out.
const (
	coreConflicts    = 50
	corePropagations = 20_000
	coreTries        = 64
)

// Core gives, after Unsat, assumptions that suffice for it, in the order in which they
// were made: none when the clauses alone have no model. It tries with little effort to
// leave out what is not needed, so the core is small but need not be minimal. It has
// no meaning after another answer.
func (s *Solver) Core() []Lit {
	if !s.minimal {
		s.shrinkCore()
	}
	out := make([]Lit, 0, len(s.core))
	for _, p := range s.core {
		out = append(out, p.outside())
	}
	return out
}

// shrinkCore asks again without one assumption after another.
func (s *Solver) shrinkCore() {
	asked, core := slices.Clone(s.assumptions), slices.Clone(s.core)
	needed := map[lit]bool{}
	for tries := 0; tries < coreTries; tries++ {
		i := slices.IndexFunc(core, func(p lit) bool { return !needed[p] })
		if i < 0 {
			break
		}
		needed[core[i]] = true // unless it goes now
		s.assumptions = append(append(s.assumptions[:0], core[:i]...), core[i+1:]...)
		if s.solve(Budget{Conflicts: coreConflicts, Propagations: corePropagations}) == Unsat {
			core = append(core[:0], s.core...)
		}
	}
	s.core, s.model, s.minimal = s.core[:0], s.model[:0], true
	for i, p := range asked {
		if slices.Contains(core, p) && !slices.Contains(asked[:i], p) {
			s.core = append(s.core, p)
		}
	}
	s.assumptions = append(s.assumptions[:0], asked...)
}
