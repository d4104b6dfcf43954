package verify

import (
	"slices"

	"postern.dev/postern/internal/policy"
)

// Bounds of the search for a repair.
const (
	maxSingle = 12 // moves tried alone
	maxMoves  = 8  // in one repair
)

// repair looks for the smallest change after which prove finds no leak: one move,
// the shortest first; else several; else a clause on each leaking filter. What it
// gives has been proved.
func (v *prover) repair(sc *scene, leaks []leak, prove func(*policy.Program) []leak) *Repair {
	if !confirmed(leaks) {
		return nil
	}
	r := v.oneMove(leaks, prove)
	if r == nil {
		r = v.moves(leaks, prove)
	}
	if r == nil {
		r = v.guards(sc, leaks, prove)
	}
	if r == nil {
		return nil
	}
	v.price(r, sc.origin)
	return r
}

// confirmed reports that every leak has a message that shows it, and that order or a
// clause can mend it: a copy wants to be declared instead.
func confirmed(leaks []leak) bool {
	for _, k := range leaks {
		if k.state != found {
			return false
		}
	}
	return true
}

// program compiles a changed list. A change of order or an added clause cannot make
// a sound one unsound, but for tags that are then set too late: that is no repair.
func (v *prover) program(filters []policy.Filter) *policy.Program {
	p, _ := policy.NewUntil(filters, v.p.Asserts, v.top, v.late)
	return p
}

func (v *prover) oneMove(leaks []leak, prove func(*policy.Program) []leak) *Repair {
	first := leaks[0].index
	tried := 0
	for _, b := range v.candidates(leaks) {
		if tried++; tried > maxSingle {
			return nil
		}
		filters := moved(v.p.Filters, b, first)
		if p := v.program(filters); p != nil && len(prove(p)) == 0 {
			return &Repair{Moves: []Move{{Filter: v.p.Filters[b].Name, Before: v.p.Filters[first].Name}}, Filters: filters, program: p}
		}
	}
	return nil
}

// candidates gives the filters below the first leak that would have caught the
// witness of every leak, the nearest first.
func (v *prover) candidates(leaks []leak) []int {
	var out []int
	for i := leaks[0].index + 1; i < len(v.p.Filters); i++ {
		f := &v.p.Filters[i]
		if f.Then == nil || f.Then.Kind == policy.ThenDeliver {
			continue
		}
		every := true
		for _, k := range leaks {
			every = every && v.p.Applies(i, k.facts) == policy.Yes
		}
		if every {
			out = append(out, i)
		}
	}
	return out
}

// moved gives the list with the filter at from put before the one at to.
func moved(fs []policy.Filter, from, to int) []policy.Filter {
	out := slices.Delete(slices.Clone(fs), from, from+1)
	return slices.Insert(out, to, fs[from])
}

// moves repeats: the nearest filter that would have caught the first leak goes
// before it, and the list is proved again.
func (v *prover) moves(leaks []leak, prove func(*policy.Program) []leak) *Repair {
	r := &Repair{}
	p := v.p
	for range maxMoves {
		if len(leaks) == 0 {
			r.Filters, r.program = p.Filters, p
			return r
		}
		k := leaks[0]
		if k.state != found {
			return nil
		}
		b := nearestBlocker(p, k)
		if b < 0 {
			return nil
		}
		r.Moves = append(r.Moves, Move{Filter: p.Filters[b].Name, Before: p.Filters[k.index].Name})
		if p = v.program(moved(p.Filters, b, k.index)); p == nil {
			return nil
		}
		leaks = prove(p)
	}
	return nil
}

func nearestBlocker(p *policy.Program, k leak) int {
	for i := k.index + 1; i < len(p.Filters); i++ {
		f := &p.Filters[i]
		if f.Then != nil && f.Then.Kind != policy.ThenDeliver && p.Applies(i, k.facts) == policy.Yes {
			return i
		}
	}
	return -1
}

// guards joins a clause to each leaking filter that keeps the scene's origin out.
func (v *prover) guards(sc *scene, leaks []leak, prove func(*policy.Program) []leak) *Repair {
	r := &Repair{Filters: slices.Clone(v.p.Filters)}
	if len(leaks) > maxGuarded {
		return nil
	}
	for round := 0; len(leaks) > 0 && round < maxMoves; round++ {
		for _, k := range leaks {
			f := &r.Filters[k.index]
			at := f.If.Position()
			clause := &policy.Binary{Pos: at, Op: policy.Ne, L: &policy.Field{Pos: at, Name: "origin"}, R: &policy.Literal{Pos: at, Value: string(sc.origin)}}
			f.If = &policy.Binary{Pos: at, Op: policy.And, L: f.If, R: clause}
			r.Guards = append(r.Guards, Guard{Filter: f.Name, Clause: Spell(clause)})
		}
		p := v.program(slices.Clone(r.Filters))
		if p == nil {
			return nil
		}
		r.program = p
		leaks = prove(p)
	}
	if len(leaks) > 0 {
		return nil
	}
	return r
}

// price tells which messages, other than what leaked, the repair treats otherwise.
func (v *prover) price(r *Repair, leaking policy.Origin) {
	next := r.program
	d := &differ2{v: newProver(v.p, v.o), old: v.p, next: next, same: true, complete: true, leaking: leaking}
	d.w = newProver(next, v.o)
	d.w.u, d.v.conds, d.w.conds = d.v.u, v.conds, v.conds
	a, b := d.v.stranger(), d.w.stranger()
	if len(a.listeners) > 0 {
		d.pair(a, b)
	}
	for i := range v.top.Inside {
		d.pair(d.v.insider(&v.top.Inside[i]), d.w.insider(&v.top.Inside[i]))
	}
	d.pair(d.v.customer(), d.w.customer())
	r.Changes, r.Partial = d.changes, !d.complete
}
