package sat

// assign makes p true at the present level.
func (s *Solver) assign(p lit, reason uint32) {
	s.values[p], s.values[p.not()] = 1, -1
	s.vars[p.variable()] = variable{reason, int32(len(s.limits))}
	s.trail = append(s.trail, p)
}

// cancel takes back every level above the given one.
func (s *Solver) cancel(level int) {
	if len(s.limits) <= level {
		return
	}
	start := s.limits[level]
	for i := len(s.trail) - 1; i >= start; i-- {
		p := s.trail[i]
		s.values[p], s.values[p.not()] = 0, 0
		s.phase[p.variable()] = p&1 == 0
		s.order.insert(p.variable())
	}
	s.trail, s.limits, s.head = s.trail[:start], s.limits[:level], start
}

// propagate follows up what the trail forces and gives the clause that has become
// false, or none.
func (s *Solver) propagate() uint32 {
	for s.head < len(s.trail) {
		p := s.trail[s.head]
		s.head++
		s.stats.Propagations++
		if c := s.visit(p.not()); c != none {
			return c
		}
	}
	return none
}

// visit looks at the clauses that watch f, which has become false: each finds another
// literal to watch, or forces its last one, or is the conflict that is returned.
func (s *Solver) visit(f lit) uint32 {
	ws, values, kept := s.watches[f], s.values, 0
	conflict := uint32(none)
	i := 0
scan:
	for i < len(ws) {
		w := ws[i]
		i++
		value := values[w.blocker]
		if value > 0 {
			ws[kept] = w
			kept++
			continue
		}
		forced := w.blocker
		if w.clause&binary == 0 {
			c := s.literals(w.clause)
			forced = lit(c[0]) ^ lit(c[1]) ^ f
			w.blocker = forced
			if value = values[forced]; value <= 0 {
				for k := 2; k < len(c); k++ {
					if p := lit(c[k]); values[p] >= 0 {
						c[0], c[1], c[k] = uint32(forced), uint32(p), uint32(f)
						s.watches[p] = append(s.watches[p], w)
						continue scan
					}
				}
			}
		}
		ws[kept] = w
		kept++
		if value < 0 {
			conflict = w.clause &^ binary
			break
		}
		if value == 0 {
			s.assign(forced, w.clause&^binary)
		}
	}
	if kept < i {
		kept += copy(ws[kept:], ws[i:])
		s.watches[f] = ws[:kept]
	}
	return conflict
}

// stopEvery is how many decisions and conflicts lie between two looks at Budget.Stop.
const stopEvery = 128

// search runs until an answer is found or the budget is spent.
func (s *Solver) search(b Budget) Status {
	conflicts, propagations := s.stats.Conflicts+b.Conflicts, s.stats.Propagations+b.Propagations
	for step := 1; !s.unsat; step++ {
		if b.Stop != nil && step%stopEvery == 0 && b.Stop() {
			return Unknown
		}
		if c := s.propagate(); c != none {
			s.stats.Conflicts++
			if len(s.limits) == 0 {
				s.refuted()
				break
			}
			s.learn(c)
			continue
		}
		if b.Conflicts > 0 && s.stats.Conflicts >= conflicts || b.Propagations > 0 && s.stats.Propagations >= propagations {
			return Unknown
		}
		if s.pace.reduceDue(s.stats.Conflicts) {
			s.cancel(0)
			s.reduce()
			continue
		}
		if s.pace.restartDue(s.stats.Conflicts) {
			s.stats.Restarts++
			s.cancel(len(s.assumptions))
		}
		p, status := s.decide()
		if status != Unknown {
			return status
		}
		s.stats.Decisions++
		s.limits = append(s.limits, len(s.trail))
		s.assign(p, none)
	}
	return Unsat
}

// decide picks the next literal to try: first the assumptions, a level each, then the
// most active open variable. It answers Unsat when an assumption is false, and Sat
// when nothing is open.
func (s *Solver) decide() (lit, Status) {
	for len(s.limits) < len(s.assumptions) {
		p := s.assumptions[len(s.limits)]
		switch {
		case s.values[p] < 0:
			s.blame(p)
			return 0, Unsat
		case s.values[p] == 0:
			return p, Unknown
		}
		s.limits = append(s.limits, len(s.trail)) // holds already: a level without a literal
	}
	for len(s.order.heap) > 0 {
		v := s.order.pop()
		if s.values[v<<1] != 0 {
			continue
		}
		if s.phase[v] {
			return lit(v << 1), Unknown
		}
		return lit(v<<1 | 1), Unknown
	}
	return 0, Sat
}

// refuted notes that the clauses alone have no model.
func (s *Solver) refuted() {
	s.unsat = true
	s.record(false, nil)
}

// pace says when to restart and when to reduce. Restarts come when the clauses learnt
// lately are worse than those of the long run (Biere and Fröhlich, "Evaluating CDCL
// restart schemes"), and in every other stretch of the search, which suits satisfiable
// queries, by Luby's sequence.
type pace struct {
	fast, slow   float64 // averages of the glue of learnt clauses
	restart      int64   // no restart before this conflict
	reduce       int64   // the next reduction
	interval     int64   // conflicts until the one after
	stable       bool    // restarts by Luby's sequence
	turn         int64   // the conflict at which stable changes
	stretch      int64
	lubyU, lubyV int64
}

const (
	restartMargin  = 1.1
	restartPause   = 10   // conflicts
	lubyUnit       = 1024 // conflicts
	firstReduction = 1000 // conflicts
	moreReduction  = 50
	firstStretch   = 1000
)

func newPace() pace {
	return pace{
		restart: restartPause, reduce: firstReduction, interval: firstReduction,
		turn: firstStretch, stretch: firstStretch, lubyU: 1, lubyV: 1,
	}
}

// learnt takes the glue of a learnt clause into account.
func (p *pace) learnt(glue uint32, conflicts int64) {
	g := float64(glue)
	p.fast += (g - p.fast) / float64(min(32, conflicts))
	p.slow += (g - p.slow) / float64(min(8192, conflicts))
}

func (p *pace) restartDue(conflicts int64) bool {
	if conflicts >= p.turn {
		p.stable = !p.stable
		p.stretch += p.stretch / 2
		p.turn = conflicts + p.stretch
		p.restart = conflicts + restartPause
		return false
	}
	if conflicts < p.restart || !p.stable && p.fast < restartMargin*p.slow {
		return false
	}
	p.restart = conflicts + restartPause
	if p.stable {
		if p.lubyU&-p.lubyU == p.lubyV { // Knuth's reluctant doubling
			p.lubyU, p.lubyV = p.lubyU+1, 1
		} else {
			p.lubyV *= 2
		}
		p.restart = conflicts + p.lubyV*lubyUnit
	}
	return true
}

func (p *pace) reduceDue(conflicts int64) bool {
	if conflicts < p.reduce {
		return false
	}
	p.interval += moreReduction
	p.reduce = conflicts + p.interval
	return true
}
