package lang

import (
	"cmp"
	"slices"
)

// product is the search through the tuples of states of several machines.
type product struct {
	parts    []part
	alphabet []letter
	spelt    [][][]uint16 // by part and letter
	meter    meter
	cap      int
	stop     func() bool

	states []int32 // the tuples, one after the other
	nodes  []node
	table  []int32 // hash table of nodes, -1 where empty; its length is a power of two
	queue  []entry // a heap
	tuple  []int32 // scratch
}

// part is one literal of the product.
type part struct {
	m      machine
	neg    bool
	blamed *bool
}

// dead reports a state from which the literal will not hold any more.
func (p *part) dead(q int32) bool {
	if p.neg {
		return q == accept
	}
	return q == reject
}

func (p *part) holds(q int32) bool { return p.m.accepts(q) != p.neg }

// node is a tuple that was reached: by which letter from where, at what cost.
type node struct {
	from, letter int32
	cost         cost
	done         bool
}

type entry struct {
	cost cost
	node int32
}

func (e entry) compare(f entry) int {
	return cmp.Or(e.cost.compare(f.cost), cmp.Compare(e.node, f.node))
}

// newProduct prepares the search for a string on which all literals hold. What has
// no exact machine is left out.
func newProduct(all []Lit, o Options, blamed []bool) *product {
	p := &product{cap: o.states(), stop: o.Stop, meter: meter{o.states() * wordsPerState}, table: newTable(256)}
	for i, l := range all {
		m, exact := l.Cond.get().machine()
		if !exact {
			continue
		}
		m.trim()
		p.parts = append(p.parts, part{m: m, neg: l.Neg, blamed: &blamed[i]})
	}
	p.tuple = make([]int32, len(p.parts))
	p.spell(alphabet(p.parts))
	return p
}

// wordsPerState bounds work and memory of the machines by the cap on the product.
const wordsPerState = 400

// alphabet gives the letters that stand for every string. Take any octets s. Package
// regexp reads them as characters, an octet that begins none as U+FFFD. Write a
// letter for each: for a character the one that speaks for its class in the
// partition that is finer than those of all machines, for a stray octet the letter
// stray. No machine of an expression sees a difference, as the classes are cut at
// all of its boundaries, and stray has the class of U+FFFD.
//
// Nor does a machine of a glob or set whose literals are UTF-8. A character of a
// literal is a class of its own, hence its own spokesman. Any other cannot be part of
// an occurrence of a literal: an occurrence begins with an octet that no character
// has inside, and where UTF-8 begins validly, decoding does not go astray. A stray
// octet cannot be either. So they count by their number of octets at most, and only
// for ?; then a class has a spokesman of each length (and stray is one octet).
//
// The letters stand side by side without merging: octet 0xFF is part of no character.
func alphabet(parts []part) []letter {
	all, lengths := whole(), false
	for i := range parts {
		all = meet(all, parts[i].m.classes())
		lengths = lengths || parts[i].m.counts()
	}
	letters := append(spokesmen(&all, lengths), strayLetter())
	slices.SortFunc(letters, func(a, b letter) int {
		return cmp.Or(a.cost.compare(b.cost), cmp.Compare(a.text, b.text))
	})
	return letters
}

// spell keeps those letters that some machine spells differently from all before
// them, which are liked better.
func (p *product) spell(letters []letter) {
	p.spelt = make([][][]uint16, len(p.parts))
	seen := map[string]bool{}
	var key []byte
	var all []uint16
	ends := make([]int, len(p.parts)+1)
	for i := range letters {
		key, all = key[:0], nil
		for k := range p.parts {
			all = p.parts[k].m.spell(all, &letters[i])
			ends[k+1] = len(all)
			key = append(key, byte(ends[k+1]-ends[k]))
			for _, symbol := range all[ends[k]:] {
				key = append(key, byte(symbol), byte(symbol>>8))
			}
		}
		if seen[string(key)] {
			continue
		}
		seen[string(key)] = true
		p.alphabet = append(p.alphabet, letters[i])
		for k := range p.parts {
			p.spelt[k] = append(p.spelt[k], all[ends[k]:ends[k+1]])
		}
	}
}

// stopEvery is how many states lie between two looks at Options.Stop.
const stopEvery = 64

// search walks the product, the best string first.
func (p *product) search() (string, Result) {
	for k := range p.parts {
		q := p.parts[k].m.start(&p.meter)
		if q == overflow {
			return "", Unknown
		}
		if p.tuple[k] = q; p.parts[k].dead(q) {
			*p.parts[k].blamed = true
			return "", None
		}
	}
	p.reach(node{from: -1})
	for step := 0; len(p.queue) > 0; step++ {
		if p.stop != nil && step%stopEvery == 0 && p.stop() {
			return "", Unknown
		}
		e := p.pop()
		if p.nodes[e.node].done {
			continue
		}
		p.nodes[e.node].done = true
		if p.accepting(e.node) {
			return p.text(e.node), Found
		}
		for l := range p.alphabet {
			alive, ok := p.step(e.node, l)
			if !ok {
				return "", Unknown
			}
			if alive {
				p.reach(node{from: e.node, letter: int32(l), cost: e.cost.plus(p.alphabet[l].cost)})
			}
		}
		if len(p.nodes) > p.cap {
			return "", Unknown
		}
	}
	return "", None
}

// accepting reports whether all literals hold where a node stands, and blames one
// that does not.
func (p *product) accepting(n int32) bool {
	at := p.states[int(n)*len(p.parts):]
	for k := range p.parts {
		if !p.parts[k].holds(at[k]) {
			*p.parts[k].blamed = true
			return false
		}
	}
	return true
}

// step computes the tuple that a letter leads to. It is not alive where a literal
// can hold no more, which is blamed; ok is false where a machine gave up.
func (p *product) step(n int32, l int) (alive, ok bool) {
	at := int(n) * len(p.parts)
	for k := range p.parts {
		q := p.states[at+k]
		for _, symbol := range p.spelt[k][l] {
			if q = p.parts[k].m.next(q, symbol, &p.meter); q == overflow {
				return false, false
			}
		}
		if p.parts[k].dead(q) {
			*p.parts[k].blamed = true
			return false, true
		}
		p.tuple[k] = q
	}
	return true, true
}

// reach records that the tuple can be had so, unless it was had at less cost.
func (p *product) reach(n node) {
	at := p.slot()
	id := p.table[at]
	switch {
	case id < 0:
		id = int32(len(p.nodes))
		p.table[at] = id
		p.nodes = append(p.nodes, n)
		p.states = append(p.states, p.tuple...)
	case p.nodes[id].done || n.cost.compare(p.nodes[id].cost) >= 0:
		return
	default:
		p.nodes[id] = n
	}
	p.push(entry{n.cost, id})
	if 2*len(p.nodes) > len(p.table) {
		p.grow()
	}
}

func newTable(n int) []int32 {
	t := make([]int32, n)
	for i := range t {
		t[i] = -1
	}
	return t
}

// grow doubles the hash table.
func (p *product) grow() {
	p.table = newTable(2 * len(p.table))
	width := len(p.parts)
	for id := range p.nodes {
		copy(p.tuple, p.states[id*width:])
		p.table[p.slot()] = int32(id)
	}
}

// slot finds the place of the tuple in the table, or the empty one for it.
func (p *product) slot() int {
	h := uint64(14695981039346656037)
	for _, q := range p.tuple {
		h = (h ^ uint64(uint32(q))) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	mask := len(p.table) - 1
	width := len(p.parts)
	for at := int(h) & mask; ; at = (at + 1) & mask {
		id := int(p.table[at])
		if id < 0 || slices.Equal(p.tuple, p.states[id*width:(id+1)*width]) {
			return at
		}
	}
}

// text gives the string that leads to a node.
func (p *product) text(n int32) string {
	var back []int32
	for ; p.nodes[n].from >= 0; n = p.nodes[n].from {
		back = append(back, p.nodes[n].letter)
	}
	var s []byte
	for _, l := range slices.Backward(back) {
		s = append(s, p.alphabet[l].text...)
	}
	return string(s)
}

func (p *product) push(e entry) {
	p.queue = append(p.queue, e)
	i := len(p.queue) - 1
	for i > 0 {
		up := (i - 1) / 2
		if p.queue[up].compare(e) <= 0 {
			break
		}
		p.queue[i] = p.queue[up]
		i = up
	}
	p.queue[i] = e
}

func (p *product) pop() entry {
	first, last := p.queue[0], len(p.queue)-1
	e := p.queue[last]
	p.queue = p.queue[:last]
	i := 0
	for {
		down := 2*i + 1
		if down >= last {
			break
		}
		if down+1 < last && p.queue[down+1].compare(p.queue[down]) < 0 {
			down++
		}
		if e.compare(p.queue[down]) <= 0 {
			break
		}
		p.queue[i] = p.queue[down]
		i = down
	}
	if last > 0 {
		p.queue[i] = e
	}
	return first
}
