package lang

import "slices"

// Find looks for a string on which every literal holds, and the shape. Where there
// is one it gives that which a person likes best: with the fewest control characters
// and octets that are not UTF-8, of these the shortest in octets, of these the one
// with most letters, lower case first, then digits, then punctuation, ASCII before
// the rest. None is a proof that there is no such string.
func Find(lits []Lit, o Options) (string, Result) {
	s, r, _ := find(lits, o)
	return s, r
}

// Core shrinks a set of literals for which Find says None: it gives the places of a
// subset that is still refuted (together with the shape), and would not be without
// any one of them, as far as the cap lets it tell. It gives nil if the set itself is
// not refuted, and an empty subset if the shape alone is.
func Core(lits []Lit, o Options) []int {
	core := make([]int, len(lits))
	for i := range core {
		core[i] = i
	}
	core, refuted := refute(lits, core, o)
	if !refuted {
		return nil
	}
	for i := 0; i < len(core); {
		rest, still := refute(lits, slices.Delete(slices.Clone(core), i, i+1), o)
		if !still {
			i++
			continue
		}
		// What was needed in the larger set is needed in the smaller one.
		i, _ = slices.BinarySearch(rest, core[i])
		core = rest
	}
	return core
}

// refute reports whether the literals at some places are refuted, and by which.
func refute(lits []Lit, at []int, o Options) ([]int, bool) {
	some := make([]Lit, len(at))
	for i, j := range at {
		some[i] = lits[j]
	}
	_, r, blamed := find(some, o)
	core := []int{}
	for i, j := range at {
		if blamed[i] {
			core = append(core, j)
		}
	}
	return core, r == None
}

// find does the work. With None it tells which literals refute: for every string,
// one that does not hold on it is blamed.
func find(lits []Lit, o Options) (string, Result, []bool) {
	all := slices.Clone(lits)
	for _, c := range o.Shape {
		all = append(all, Lit{Cond: c})
	}
	blamed := make([]bool, len(all))
	if list, ok := constants(all, blamed); ok {
		s, r := among(list, all, blamed)
		return s, r, blamed
	}
	s, r := newProduct(all, o, blamed).search()
	if r == Found && refuter(all, s) >= 0 {
		// A condition without an exact machine was left out. None needs no such check:
		// there is no string even without that condition.
		return "", Unknown, blamed
	}
	return s, r, blamed
}

// constants gives the shortest list of strings to which a literal binds the answer,
// and blames that literal.
func constants(all []Lit, blamed []bool) (list []string, ok bool) {
	at := -1
	for i, l := range all {
		set, bound := l.Cond.get().constants()
		if bound && !l.Neg && (at < 0 || len(set) < len(list)) {
			list, at = set, i
		}
	}
	if at >= 0 {
		blamed[at] = true
	}
	return list, at >= 0
}

// among looks for the answer in a list.
func among(list []string, all []Lit, blamed []bool) (best string, r Result) {
	r = None
	for _, s := range list {
		if i := refuter(all, s); i >= 0 {
			blamed[i] = true
		} else if r == None || costOfString(s).compare(costOfString(best)) < 0 {
			best, r = s, Found
		}
	}
	return best, r
}

// refuter gives the first literal that does not hold on s, -1 where all do.
func refuter(all []Lit, s string) int {
	return slices.IndexFunc(all, func(l Lit) bool { return !l.Holds(s) })
}
