package verify

import (
	"net/netip"
	"strings"
)

// relations tells what follows for other atoms from those that a query takes for
// given. It settles most of a list without the solver.
type relations struct {
	u        *universe
	must     map[int32]bool
	terms    map[int32]*bound
	conflict bool // what is given cannot be together
}

// bound is what is given about one term.
type bound struct {
	items   []string // the only values that it can have, where listed
	suffix  string   // that it ends with, where not
	nets    []netip.Prefix
	lo, hi  int64
	ranged  bool
	touched map[int32]int // how many of items fulfil an atom
}

// relate gathers what the conjuncts of f give.
func (v *prover) relate(f *form) *relations {
	r := &relations{u: v.u, must: map[int32]bool{}, terms: map[int32]*bound{}}
	for _, c := range f.conjuncts() {
		switch {
		case c.op == opAtom:
			r.give(c.atom, true)
		case c.op == opNot && c.kids[0].op == opAtom:
			r.give(c.kids[0].atom, false)
		}
	}
	for id, b := range r.terms {
		r.settle(id, b)
	}
	return r
}

func (r *relations) give(id int32, yes bool) {
	if was, ok := r.must[id]; ok && was != yes {
		r.conflict = true
	}
	r.must[id] = yes
	a := &r.u.atoms[id]
	if s := r.u.terms[a.term].sort; !yes || s == sortHeader || s == sortTime {
		return
	}
	b := r.terms[a.term]
	if b == nil {
		b = &bound{lo: 0, hi: 1<<62 - 1}
		r.terms[a.term] = b
	}
	switch a.kind {
	case testSet:
		if b.items == nil || len(a.set) < len(b.items) {
			b.items = a.set
		}
	case testSuffix:
		if len(a.text) > len(b.suffix) {
			b.suffix = a.text
		}
	case testNets:
		if b.nets == nil || len(a.nets) < len(b.nets) {
			b.nets = a.nets
		}
	case testRange:
		b.lo, b.hi, b.ranged = max(b.lo, a.lo), min(b.hi, a.hi), true
		r.conflict = r.conflict || b.lo > b.hi
	}
}

// settle narrows a term's values by everything that is given about it.
func (r *relations) settle(id int32, b *bound) {
	if b.items == nil {
		return
	}
	var left []string
	for _, s := range b.items {
		if r.allows(id, s) {
			left = append(left, s)
		}
	}
	b.items = left
	if len(left) == 0 {
		r.conflict = true
		return
	}
	b.touched = map[int32]int{}
	for _, s := range left {
		for _, a := range r.u.sets[literal{id, s}] {
			b.touched[a]++
		}
		for i := range len(s) {
			for _, a := range r.u.suffix[literal{id, s[i:]}] {
				b.touched[a]++
			}
		}
	}
}

func (r *relations) allows(term int32, s string) bool {
	if t := &r.u.terms[term]; t.domain && s == "" && t.name == "rcpt.domain" {
		return false
	}
	for id, yes := range r.must {
		if a := &r.u.atoms[id]; a.term == term && a.holds(s) != yes {
			return false
		}
	}
	return true
}

// others is known for atoms that are not given themselves: what is given must stay
// in the formula that gives it.
func (r *relations) others(id int32) int8 {
	if _, given := r.must[id]; given {
		return 0
	}
	return r.known(id)
}

// known gives +1 for an atom that follows from what is given, -1 for one that
// cannot hold then, else 0.
func (r *relations) known(id int32) int8 {
	if yes, given := r.must[id]; given {
		return sign(yes)
	}
	a := &r.u.atoms[id]
	b := r.terms[a.term]
	if b == nil {
		return 0
	}
	switch {
	case a.kind == testNets && b.nets != nil:
		return netsRelation(b.nets, a.nets)
	case a.kind == testRange && b.ranged:
		if a.lo <= b.lo && b.hi <= a.hi {
			return 1
		}
		if a.hi < b.lo || b.hi < a.lo {
			return -1
		}
	case b.items != nil:
		return r.ofItems(id, a, b)
	case b.suffix != "":
		return suffixRelation(b.suffix, a)
	}
	return 0
}

func sign(b bool) int8 {
	if b {
		return 1
	}
	return -1
}

func (r *relations) ofItems(id int32, a *atom, b *bound) int8 {
	n := 0
	switch a.kind {
	case testSet, testSuffix:
		n = b.touched[id]
	case testLang:
		if len(b.items) > 16 {
			return 0
		}
		for _, s := range b.items {
			if a.holds(s) {
				n++
			}
		}
	default:
		return 0
	}
	switch n {
	case 0:
		return -1
	case len(b.items):
		return 1
	}
	return 0
}

// suffixRelation is known for a term that ends with s.
func suffixRelation(s string, a *atom) int8 {
	switch a.kind {
	case testSuffix:
		if strings.HasSuffix(s, a.text) {
			return 1
		}
		if !strings.HasSuffix(a.text, s) {
			return -1
		}
	case testSet:
		for _, x := range a.set {
			if strings.HasSuffix(x, s) {
				return 0
			}
		}
		return -1
	}
	return 0
}

// netsRelation is known for an address within ns.
func netsRelation(ns, others []netip.Prefix) int8 {
	inside, touched := true, false
	for _, n := range ns {
		in := false
		for _, o := range others {
			if o.Overlaps(n) {
				touched = true
				in = in || o.Bits() <= n.Bits()
			}
		}
		inside = inside && in
	}
	switch {
	case inside:
		return 1
	case !touched:
		return -1
	}
	return 0
}
