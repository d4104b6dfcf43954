package policy

import (
	"math/bits"
	"slices"
)

const (
	gridFrom  = 32       // expected visits of the buckets at which the grid is better
	gridLimit = 64 << 20 // octets
)

// grid is the other shape of the index, for lists in which no atom is rare (Lakshman
// and Stiliadis, 1998): for each group of facts a bit vector of the filters that it
// does not exclude; the filters that can apply are those in all of them.
type grid struct {
	words  int
	groups []gridGroup // those that exclude most first
	group  []int32     // of a bucket: in groups
	bits   [][]uint64  // of a bucket: its filters
	parts  [partitionCount][]uint64
}

// gridGroup is the facts that one look-up settles.
type gridGroup struct {
	of   dim
	late bool
	free []uint64 // filters that need nothing of these facts
}

// family puts kinds of fact together that speak of the same thing, so that a list of
// domains and addresses is one need.
func (d dim) family() dim {
	switch d {
	case dimRcpt:
		return dimRcptDomain
	case dimSender:
		return dimSenderDomain
	case dimHeaderIs, dimHeaderIn:
		return dimHeader
	}
	return d
}

// within gives the atoms of one family that a need has, ok false where it can do
// without them.
func (n *need) within(family dim, atoms []atom, cost []float64) (c float64, out []int32, ok bool) {
	switch n.kind {
	case needNever:
		return 0, nil, true
	case needOne:
		for _, a := range n.atoms {
			if atoms[a].dim.family() != family {
				return 1, nil, false
			}
			c += cost[a]
		}
		return c, n.atoms, true
	case needBoth, needEither:
		cl, l, lok := n.l.within(family, atoms, cost)
		cr, r, rok := n.r.within(family, atoms, cost)
		switch {
		case n.kind == needEither:
			return cl + cr, slices.Concat(l, r), lok && rok
		case lok && (!rok || cl <= cr):
			return cl, l, true
		}
		return cr, r, rok
	}
	return 1, nil, false
}

// newGrid files every filter in every family; nil where that would take too much
// memory.
func newGrid(f *filing) *grid {
	g := &grid{words: (len(f.wanted) + 63) / 64}
	if len(f.atoms)*g.words*8 > gridLimit {
		return nil
	}
	f.filed = make([][]int32, len(f.atoms))
	for d := range dims {
		if d.family() != d {
			continue
		}
		group := gridGroup{of: d, late: d.late(), free: make([]uint64, g.words)}
		for i := range f.wanted {
			_, atoms, ok := f.wanted[i].within(d, f.atoms, f.cost)
			if !ok {
				group.free[i/64] |= 1 << (i % 64)
				continue
			}
			f.put(int32(i), atoms)
		}
		if ones(group.free) < len(f.wanted) {
			g.groups = append(g.groups, group)
		}
	}
	slices.SortStableFunc(g.groups, func(a, b gridGroup) int { return ones(a.free) - ones(b.free) })
	g.fill(f)
	return g
}

// fill makes bit vectors of the buckets and the partitions.
func (g *grid) fill(f *filing) {
	number := map[dim]int32{}
	for i := range g.groups {
		number[g.groups[i].of] = int32(i)
	}
	f.name(func(atom int) int32 {
		v := make([]uint64, g.words)
		for _, i := range f.filed[atom] {
			v[i/64] |= 1 << (i % 64)
		}
		g.bits = append(g.bits, v)
		g.group = append(g.group, number[f.atoms[atom].dim.family()])
		return int32(len(g.bits) - 1)
	})
	for part := range g.parts {
		g.parts[part] = make([]uint64, g.words)
		for i, m := range f.masks {
			g.parts[part][i/64] |= m >> part & 1 << (i % 64)
		}
	}
}

func ones(v []uint64) int {
	n := 0
	for _, w := range v {
		n += bits.OnesCount64(w)
	}
	return n
}

// gridWalk is how far a walk has come in the grid.
type gridWalk struct {
	word   int
	left   uint64     // filters of the word that are still to be asked
	hits   [][]uint64 // bit vectors to be joined, those of group g at marks[g]:marks[g+1]
	marks  []int32
	groups []int32 // that count
}

// start joins what the look-up has found, below the last filter.
func (w *walk) startGrid() {
	g, s := w.index.grid, &w.grid
	s.groups, s.hits, s.marks = s.groups[:0], s.hits[:0], s.marks[:0]
	for i := range g.groups {
		if g.groups[i].late && w.env.facts.Content == nil {
			continue // unknown excludes nothing
		}
		s.groups = append(s.groups, int32(i))
		s.marks = append(s.marks, int32(len(s.hits)))
		for _, found := range [...][]int32{w.env.reading.buckets, w.found} {
			for _, b := range found {
				if g.group[b] == int32(i) {
					s.hits = append(s.hits, g.bits[b])
				}
			}
		}
	}
	s.marks = append(s.marks, int32(len(s.hits)))
	from := int(w.last + 1)
	s.word = from / 64
	if s.word < g.words {
		s.left = w.joined(w.part, s.word) &^ (1<<(from%64) - 1)
	}
}

// joined gives the filters of one word that nothing excludes.
func (w *walk) joined(part uint8, word int) uint64 {
	g, s := w.index.grid, &w.grid
	v := g.parts[part][word]
	for k, i := range s.groups {
		if v == 0 {
			return 0
		}
		may := g.groups[i].free[word]
		for _, h := range s.hits[s.marks[k]:s.marks[k+1]] {
			may |= h[word]
		}
		v &= may
	}
	return v
}

// nextInGrid gives the next filter that nothing excludes.
func (w *walk) nextInGrid() int {
	g, s := w.index.grid, &w.grid
	for s.word < g.words {
		if s.left != 0 {
			w.last = int32(s.word*64 + bits.TrailingZeros64(s.left))
			s.left &= s.left - 1
			return int(w.last)
		}
		if s.word++; s.word < g.words {
			s.left = w.joined(w.part, s.word)
		}
	}
	return len(w.program.rules)
}
