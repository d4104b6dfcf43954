package sat

import (
	"errors"
	"fmt"
	"slices"
)

// ErrIncomplete tells that each step of a proof holds and that they do not add up to a
// contradiction.
var ErrIncomplete = errors.New("proof ends without a contradiction")

// Check goes through a proof that clauses and assumptions cannot all be true, and
// tells the first step that does not follow. It knows unit propagation and nothing
// else, and shares no code with the search: who trusts these lines need not trust the
// solver.
func Check(clauses [][]Lit, assumptions []Lit, proof Proof) error {
	k := &checker{known: map[uint64][]int32{}}
	for i, c := range clauses {
		if slices.Contains(c, 0) {
			return fmt.Errorf("clause %d: literal 0", i)
		}
		k.add(c)
	}
	for i, step := range proof {
		switch {
		case step.Deleted:
			k.remove(step.Clause)
		case !k.contradicts(step.Clause, Lit.Not):
			return fmt.Errorf("step %d: %v does not follow", i, step.Clause)
		default:
			k.add(step.Clause)
		}
	}
	if !k.contradicts(assumptions, func(l Lit) Lit { return l }) {
		return ErrIncomplete
	}
	return nil
}

// checker holds the clauses that are in force and what follows from them by unit
// propagation.
type checker struct {
	clauses [][]Lit            // the first two literals are watched; nil: deleted
	watches [][]int32          // by literal: the clauses that watch it
	value   []bool             // by literal: is it true
	trail   []Lit              // what is true, in order
	head    int                // how far the trail was propagated
	refuted bool               // the clauses alone are contradictory
	known   map[uint64][]int32 // clauses by hash, for remove
}

// index gives a literal's place in watches and value.
func index(l Lit) int {
	if l < 0 {
		return -2*int(l) + 1
	}
	return 2 * int(l)
}

// grow makes room for the literals.
func (k *checker) grow(lits []Lit) {
	for _, l := range lits {
		for len(k.value) <= index(max(l, -l))+1 {
			k.value, k.watches = append(k.value, false), append(k.watches, nil)
		}
	}
}

// contradicts tells whether the literals, each turned by sense, lead to a conflict.
func (k *checker) contradicts(clause []Lit, sense func(Lit) Lit) bool {
	k.grow(clause)
	start, conflict := len(k.trail), k.refuted
	for _, l := range clause {
		conflict = conflict || !k.set(sense(l))
	}
	conflict = conflict || !k.propagate()
	for _, l := range k.trail[start:] {
		k.value[index(l)] = false
	}
	k.trail, k.head = k.trail[:start], start
	return conflict
}

// set makes l true and tells whether it could be.
func (k *checker) set(l Lit) bool {
	if k.value[index(l.Not())] {
		return false
	}
	if !k.value[index(l)] {
		k.value[index(l)] = true
		k.trail = append(k.trail, l)
	}
	return true
}

// propagate tells whether the trail leads to no conflict.
func (k *checker) propagate() bool {
	for ; k.head < len(k.trail); k.head++ {
		f := k.trail[k.head].Not()
		list := k.watches[index(f)]
		kept := list[:0]
		for i, at := range list {
			moved, fine := k.visit(at, f)
			if !moved {
				kept = append(kept, at)
			}
			if !fine {
				k.watches[index(f)] = append(kept, list[i+1:]...)
				return false
			}
		}
		k.watches[index(f)] = kept
	}
	return true
}

// visit finds another literal to watch in place of f, or sets the other watched one.
func (k *checker) visit(at int32, f Lit) (moved, fine bool) {
	c := k.clauses[at]
	if c == nil {
		return true, true
	}
	if c[0] == f {
		c[0], c[1] = c[1], c[0]
	}
	if k.value[index(c[0])] {
		return false, true
	}
	for i := 2; i < len(c); i++ {
		if !k.value[index(c[i].Not())] {
			c[1], c[i] = c[i], c[1]
			k.watches[index(c[1])] = append(k.watches[index(c[1])], at)
			return true, true
		}
	}
	return false, k.set(c[0])
}

// add puts a clause in force and follows it up.
func (k *checker) add(clause []Lit) {
	k.grow(clause)
	c := slices.Clone(clause)
	slices.Sort(c)
	c = slices.Compact(c)
	at := int32(len(k.clauses))
	k.clauses = append(k.clauses, c)
	h := hash(c)
	k.known[h] = append(k.known[h], at)
	open := 0
	for i, l := range c {
		if !k.value[index(l.Not())] && open < 2 {
			c[open], c[i] = c[i], c[open]
			open++
		}
	}
	if len(c) > 1 {
		k.watches[index(c[0])] = append(k.watches[index(c[0])], at)
		k.watches[index(c[1])] = append(k.watches[index(c[1])], at)
	}
	if open == 0 || open == 1 && !k.set(c[0]) || !k.propagate() {
		k.refuted = true
	}
}

// remove puts a clause out of force. What followed from it stays known: it was shown
// to follow from the first clauses, so that dropping it would only cost time.
func (k *checker) remove(clause []Lit) {
	c := slices.Clone(clause)
	slices.Sort(c)
	h := hash(c)
	for i, at := range k.known[h] {
		if len(k.clauses[at]) == len(c) && !slices.ContainsFunc(k.clauses[at], func(l Lit) bool { return !slices.Contains(c, l) }) {
			k.clauses[at] = nil
			k.known[h] = slices.Delete(k.known[h], i, i+1)
			return
		}
	}
}

// hash is FNV-1a over the literals of a sorted clause.
func hash(c []Lit) uint64 {
	h := uint64(14695981039346656037)
	for _, l := range c {
		h = (h ^ uint64(uint32(l))) * 1099511628211
	}
	return h
}
