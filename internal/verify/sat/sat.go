package sat

import "math"

// Lit is a literal in the manner of DIMACS: the variable v, counted from 1, is
// Lit(v), its negation Lit(-v). Lit(0) is none.
type Lit int32

// Not gives the negation.
func (l Lit) Not() Lit { return -l }

// Status is the answer to a query.
type Status int8

// The answers. Unknown is the zero value, so that a forgotten answer proves nothing.
const (
	Unsat   Status = iota - 1 // no assignment satisfies clauses and assumptions
	Unknown                   // the budget ran out
	Sat                       // Value tells an assignment
)

// String names the answer as the field does.
func (s Status) String() string {
	switch s {
	case Unsat:
		return "unsat"
	case Sat:
		return "sat"
	}
	return "unknown"
}

// Budget bounds a query by work, not by time, so that an answer does not depend on
// the machine. A zero field sets no bound.
type Budget struct {
	Conflicts    int64 // dead ends met
	Propagations int64 // literals assigned and followed up
	// Stop is asked now and then whether to give up all the same. Nil never does.
	Stop func() bool
}

// Stats counts a solver's work since New or Reset.
type Stats struct {
	Vars         int // variables
	Clauses      int // clauses given that are neither trivially true nor units
	Learnt       int // learnt clauses held at present, binary ones included
	Words        int // 32-bit words of clause storage
	Conflicts    int64
	Decisions    int64
	Propagations int64
	Restarts     int64
	Reductions   int64 // times that the worse half of the learnt clauses was dropped
}

// Solver holds clauses and answers queries about them. Make one with New.
type Solver struct {
	arena    []uint32  // clauses; see clause.go
	attached uint32    // clauses from here on are in no watch list yet
	watches  [][]watch // by literal: the clauses to look at when it becomes false
	block    []watch   // what watch lists are cut from
	counts   []uint32  // scratch of attachAll

	values    []int8 // by literal: 1 true, -1 false, 0 open
	vars      []variable
	phase     []bool // by variable: the value it had last
	preferred []bool // by variable: the value that SetPhase wants
	trail     []lit  // what is true, in order of assignment
	limits    []int  // by decision level: where it begins in the trail
	head      int    // how far the trail has been propagated

	order order // open variables, by activity

	marks     []mark // by variable: scratch of analyse and minimise
	touched   []lit  // literals whose marks are to be cleared
	learnt    []lit
	levelMark []uint32 // by level: the conflict that last met it
	stamp     uint32

	assumptions []lit
	core        []lit
	minimal     bool   // core has been minimised
	model       []int8 // values at the last Sat

	pace    pace
	swept   int   // how many literals held at level 0 at the last sweep
	sweptAt int64 // propagations until then
	unsat   bool  // the clauses alone have no model
	log     func(deleted bool, clause []Lit)
	lits    []Lit // scratch of record
	stats   Stats
}

// variable says why and where a variable was assigned.
type variable struct {
	reason uint32 // the clause that forced it, or none
	level  int32
}

// lit is a literal inside the solver: twice the variable, plus one when negated.
type lit uint32

func (l lit) not() lit         { return l ^ 1 }
func (l lit) variable() uint32 { return uint32(l >> 1) }

func (l lit) outside() Lit {
	if l&1 != 0 {
		return -Lit(l >> 1)
	}
	return Lit(l >> 1)
}

// New makes a solver without variables and clauses.
func New() *Solver {
	s := &Solver{}
	s.Reset()
	return s
}

// Reset forgets variables, clauses, log and counts but keeps the memory: what a
// stream of small queries needs.
func (s *Solver) Reset() {
	s.arena, s.attached = append(s.arena[:0], 0), 1 // no clause has the place none
	s.watches, s.values = append(s.watches[:0], nil, nil), append(s.values[:0], 0, 0)
	s.vars, s.marks = append(s.vars[:0], variable{}), append(s.marks[:0], 0)
	s.phase, s.preferred = append(s.phase[:0], false), append(s.preferred[:0], false)
	s.trail, s.limits, s.head = s.trail[:0], s.limits[:0], 0
	s.order.reset()
	s.core, s.model, s.minimal = s.core[:0], s.model[:0], false
	s.pace = newPace()
	s.swept, s.sweptAt, s.unsat, s.log, s.stats = 0, 0, false, nil, Stats{}
}

// NewVar makes a variable and gives its positive literal.
func (s *Solver) NewVar() Lit {
	s.watches = append(s.watches, nil, nil)
	s.values = append(s.values, 0, 0)
	s.vars = append(s.vars, variable{})
	s.marks = append(s.marks, 0)
	s.phase = append(s.phase, false)
	s.preferred = append(s.preferred, false)
	s.order.grow()
	s.stats.Vars++
	return Lit(len(s.vars) - 1)
}

// inside turns a literal round, making the variables up to it that do not exist yet.
func (s *Solver) inside(l Lit) lit {
	if l == 0 || l == math.MinInt32 {
		panic("sat: not a literal") // dropping it would make a clause say more than it does
	}
	v, sign := uint32(l), uint32(0)
	if l < 0 {
		v, sign = uint32(-l), 1
	}
	for int(v) >= len(s.vars) {
		s.NewVar()
	}
	return lit(v<<1 | sign)
}

// SetPhase asks that l be true wherever a model leaves the choice. Without it a
// variable is false by preference.
func (s *Solver) SetPhase(l Lit) {
	p := s.inside(l)
	s.preferred[p.variable()] = p&1 == 0
}

// Add adds a clause: at least one of the literals is true. The empty clause makes
// everything unsatisfiable. Variables that do not exist are made. The slice is not
// kept.
func (s *Solver) Add(clause ...Lit) {
	at := len(s.arena)
	s.arena = append(s.arena, 0, 0)
	s.touched = s.touched[:0]
	holds := false
	for _, l := range clause {
		p := s.inside(l)
		v, sign := p.variable(), markTrue+mark(p&1)
		switch {
		case s.values[p] > 0 || s.marks[v] == markTrue+markFalse-sign:
			holds = true // true already, or with its negation
		case s.values[p] == 0 && s.marks[v] == 0:
			s.marks[v] = sign
			s.touched = append(s.touched, p)
			s.arena = append(s.arena, uint32(p))
		}
	}
	s.unmark()
	size := len(s.arena) - at - header
	if holds || s.unsat || size < 2 {
		s.arena = s.arena[:at]
	}
	switch {
	case holds || s.unsat:
	case size == 0:
		s.refuted()
	case size == 1:
		s.assign(s.touched[0], none)
	default:
		s.arena[at] = uint32(size)
		s.stats.Clauses++
	}
}

// Solve looks for an assignment that satisfies all clauses and the assumptions. The
// solver can be asked again, with further clauses and other assumptions, after any
// answer; what it has learnt it keeps.
func (s *Solver) Solve(b Budget, assumptions ...Lit) Status {
	s.assumptions = s.assumptions[:0]
	for _, l := range assumptions {
		s.assumptions = append(s.assumptions, s.inside(l))
	}
	return s.solve(b)
}

func (s *Solver) solve(b Budget) Status {
	s.core, s.model, s.minimal = s.core[:0], s.model[:0], false
	if s.unsat {
		return Unsat
	}
	s.attach()
	copy(s.phase, s.preferred)
	if most := len(s.vars) + len(s.assumptions) + 1; len(s.levelMark) < most {
		s.levelMark = make([]uint32, most+most/2)
	}
	status := s.search(b)
	if status == Sat {
		s.model = append(s.model, s.values...)
	}
	s.cancel(0)
	return status
}

// Value tells whether l is true in the model that the last Solve found. Variables
// made since are false. It has no meaning after another answer than Sat.
func (s *Solver) Value(l Lit) bool {
	v := max(l, -l)
	if 2*int(v) >= len(s.model) {
		return l < 0
	}
	return s.model[2*v] > 0 == (l > 0)
}

// Stats counts the work so far.
func (s *Solver) Stats() Stats {
	st := s.stats
	st.Words = len(s.arena)
	return st
}
