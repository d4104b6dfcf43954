package verify

import (
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify/sat"
)

// answer is the outcome of a query.
type answer int8

const (
	none    answer = iota // no message does it: proved
	found                 // a message does it, and Eval agrees
	unknown               // the budget ran out, or Eval disagrees about an over-approximation
)

// query asks whether there is a message of a scene for which some formulas hold and
// others do not.
type query struct {
	v     *prover
	sc    *scene
	s     *sat.Solver
	lits  map[*form]sat.Lit
	atoms map[int32]sat.Lit
	used  []int32 // atoms, in the order in which they were met
	terms []*classes

	inexact bool // something that is no theorem has been added: unsatisfiable proves nothing
}

// ask looks for a message of sc for which every form of hold is true and every form
// of fail false, and which try accepts: it replays the message through Eval, and what it
// accepts is an answer whatever the forms say. A nil try accepts all.
//
// Of a long list few filters matter to one question. So it first asks with none of
// fail, and adds those that the message found turns out to fulfil, one by one: where
// even that has no solution, the whole has none.
func (v *prover) ask(sc *scene, hold, fail []*form, try func(*policy.Facts) bool) (answer, *policy.Facts) {
	return v.askBoth(sc, hold, fail, nil, try)
}

// askBoth is ask where what must not hold comes from two lists, which are long and
// not worth joining.
func (v *prover) askBoth(sc *scene, hold, fail, fail2 []*form, try func(*policy.Facts) bool) (answer, *policy.Facts) {
	all := and(append([]*form{sc.pre}, hold...)...)
	if all.isFalse() {
		return none, nil
	}
	if v.late() {
		return unknown, nil
	}
	rel := v.relate(all)
	if all = all.reduce(rel.others, map[*form]*form{}); rel.conflict || all.isFalse() {
		v.stats.Covered++
		return none, nil
	}
	var active []*form
	for range maxRefine {
		var met *form
		q := &query{v: v, sc: sc, lits: map[*form]sat.Lit{}, atoms: map[int32]sat.Lit{}}
		r, f := q.run(all, active, rel, func(f *policy.Facts) verdict {
			met = nil
			if try != nil && try(f) {
				return accept // whatever the formulas make of it
			}
			if met = v.met(fail, f); met == nil {
				met = v.met(fail2, f)
			}
			if met != nil {
				return refine
			}
			return verdictOf(try == nil)
		})
		if met == nil || r == none || v.ended {
			return r, f
		}
		if met = met.reduce(rel.known, map[*form]*form{}); met.isTrue() {
			v.stats.Covered++
			return none, nil
		}
		active = append(active, met)
	}
	return v.askWhole(sc, all, append(fail[:len(fail):len(fail)], fail2...), rel, try)
}

// askWhole asks with all of fail at once.
func (v *prover) askWhole(sc *scene, all *form, fail []*form, rel *relations, try func(*policy.Facts) bool) (answer, *policy.Facts) {
	var left []*form
	memo := map[*form]*form{}
	for _, f := range fail {
		switch g := f.reduce(rel.known, memo); g.op {
		case opTrue:
			v.stats.Covered++
			return none, nil
		case opFalse:
		default:
			left = append(left, g)
		}
		if v.late() {
			return unknown, nil
		}
	}
	q := &query{v: v, sc: sc, lits: map[*form]sat.Lit{}, atoms: map[int32]sat.Lit{}}
	return q.run(all, left, rel, func(f *policy.Facts) verdict { return verdictOf(try == nil || try(f)) })
}

// met gives the first of the forms that a message fulfils, or may; where time is up,
// the next one that it would have looked at.
func (v *prover) met(fs []*form, m *policy.Facts) *form {
	for i, f := range fs {
		if i%64 == 63 && v.late() || v.u.value(f, m) != policy.No {
			return f
		}
	}
	return nil
}

// verdict is what becomes of a message that the solver found.
type verdict uint8

const (
	miss   verdict = iota // Eval says otherwise
	accept                // it shows what was asked for
	refine                // it fulfils a form that it must not: ask again with that
)

func verdictOf(ok bool) verdict {
	if ok {
		return accept
	}
	return miss
}

func (q *query) run(all *form, fail []*form, rel *relations, judge func(*policy.Facts) verdict) (answer, *policy.Facts) {
	v := q.v
	v.stats.Queries++
	v.solver.Reset()
	q.s = v.solver
	for _, c := range all.conjuncts() {
		q.s.Add(q.lit(c))
	}
	for _, f := range fail {
		q.refute(f)
	}
	q.classify(rel)
	misses := 0
	for round := 0; round < maxRounds && !v.late(); round++ {
		switch q.s.Solve(sat.Budget{Conflicts: v.o.Conflicts, Stop: v.late}) {
		case sat.Unsat:
			if q.inexact {
				return unknown, nil
			}
			return none, nil
		case sat.Unknown:
			return unknown, nil
		}
		m, settled := q.check()
		if !settled {
			continue
		}
		f := m.facts()
		switch judge(f) {
		case accept:
			return found, f
		case refine:
			return unknown, nil
		}
		// Eval says otherwise: an atom was left free. Another assignment of the free
		// ones may do; a proof is out of reach.
		if misses++; misses > maxMisses || !q.blockFree() {
			return unknown, nil
		}
	}
	return unknown, nil
}

const (
	maxRounds = 20_000 // of solver and theories
	maxMisses = 16
	maxRefine = 64 // forms added one by one
)

// refute adds that a formula does not hold.
func (q *query) refute(f *form) {
	switch f.op {
	case opOr:
		for _, k := range f.kids {
			q.refute(k)
		}
	case opAnd:
		c := make([]sat.Lit, 0, len(f.kids))
		for _, k := range f.kids {
			c = append(c, q.lit(k).Not())
		}
		q.s.Add(c...)
	default:
		q.s.Add(q.lit(f).Not())
	}
}

// lit gives the literal that stands for a formula, defining it in the solver.
func (q *query) lit(f *form) sat.Lit {
	switch f.op {
	case opAtom:
		return q.atom(f.atom)
	case opNot:
		return q.lit(f.kids[0]).Not()
	}
	if l, ok := q.lits[f]; ok {
		return l
	}
	l := q.s.NewVar()
	q.lits[f] = l
	switch f.op {
	case opTrue:
		q.s.Add(l)
	case opFalse:
		q.s.Add(l.Not())
	case opAnd:
		q.define(l, f.kids, false)
	case opOr:
		q.define(l.Not(), f.kids, true)
	}
	return l
}

// define makes l the conjunction of the kids, each negated where neg: a disjunction
// is the negation of one.
func (q *query) define(l sat.Lit, kids []*form, neg bool) {
	long := make([]sat.Lit, 0, len(kids)+1)
	long = append(long, l)
	for _, k := range kids {
		x := q.lit(k)
		if neg {
			x = x.Not()
		}
		q.s.Add(l.Not(), x)
		long = append(long, x.Not())
	}
	q.s.Add(long...)
}

func (q *query) atom(id int32) sat.Lit {
	if l, ok := q.atoms[id]; ok {
		return l
	}
	l := q.s.NewVar()
	q.atoms[id] = l
	q.used = append(q.used, id)
	return l
}

// blockFree forbids the present assignment of the free atoms; false if there are
// none.
func (q *query) blockFree() bool {
	var c []sat.Lit
	for _, id := range q.used {
		if k := q.v.u.atoms[id].kind; k == testFree {
			c = append(c, q.negated(q.atoms[id]))
		}
	}
	if len(c) == 0 {
		return false
	}
	q.s.Add(c...)
	q.inexact = true
	return true
}

// negated gives the literal over l's variable that is false now.
func (q *query) negated(l sat.Lit) sat.Lit {
	if q.s.Value(l) {
		return l.Not()
	}
	return l
}
