package policy

import (
	"math"
	"slices"
	"strings"
	"sync"

	"postern.dev/postern/internal/ahocorasick"
)

// index finds, for one transaction, the filters that can give anything but No. It
// decides nothing: what it yields is asked in order, by the predicates that the plain
// loop asks. Each filter is filed once, under the atoms of its condition that are
// rarest (as a solver watches a literal); the rest, and what listener and origin
// alone exclude, is settled when it is built.
type index struct {
	program    *Program
	partitions partitions
	masks      []uint64 // of a filter: the partitions where it can apply

	exact    [dims]map[string]int32 // value -> bucket
	suffixes [domainDims]map[string]int32
	dots     [domainDims]uint64 // in a suffix: bit n is set where one has n, the last bit for more
	address  [dims]map[Address]int32
	networks networkIndex
	headers  map[string]*headerIndex // by name in lower case
	buckets  [][]int32               // filters in order
	families []dim                   // of a bucket
	always   [][]int32               // by partition: filters that no atom excludes
	late     []int32                 // filters filed under atoms of the content

	grid    *grid // nil where the buckets are short
	applied Trace // one Step for each filter, as Trace shows it where it alone applied
	walks   sync.Pool
}

// headerIndex is what is looked up in each occurrence of one field.
type headerIndex struct {
	present  int32 // bucket, -1 for none
	is       map[string]int32
	contains *ahocorasick.Automaton
}

// newIndex builds the index of a compiled policy; as a grid where the buckets would
// let more than gridFrom filters through.
func newIndex(p *Program, gridFrom float64) *index {
	x := &index{program: p, partitions: newPartitions(p.Topology), masks: make([]uint64, len(p.rules)), applied: make(Trace, len(p.rules))}
	n := needs{ids: map[atom]int32{}}
	wanted := make([]need, len(p.rules))
	for i := range p.rules {
		f := p.rules[i].filter
		no, _ := x.partitions.settle(f.If)
		x.masks[i] = ^no
		wanted[i] = n.of(f.If, true)
		x.applied[i] = p.rules[i].step(Yes)
	}
	x.file(&n, wanted, gridFrom)
	x.walks.New = func() any { return &walk{index: x, program: p} }
	return x
}

// file puts each filter where it is found.
func (x *index) file(n *needs, wanted []need, gridFrom float64) {
	cost := n.costs()
	filed := make([][]int32, len(n.atoms))
	x.always = make([][]int32, partitionCount)
	expected := 0.0
	for i := range wanted {
		c, atoms := wanted[i].cheapest(cost)
		expected += c
		if c >= 1 {
			x.fileAlways(int32(i))
			continue
		}
		late := false
		for _, a := range atoms {
			if b := filed[a]; len(b) == 0 || b[len(b)-1] != int32(i) {
				filed[a] = append(b, int32(i))
			}
			late = late || n.atoms[a].dim.late()
		}
		if late {
			x.late = append(x.late, int32(i))
		}
	}
	if expected > gridFrom {
		x.grid = newGrid(x, n, wanted, cost)
	}
	if x.grid == nil {
		x.nameBuckets(n.atoms, filed)
	}
}

func (x *index) fileAlways(i int32) {
	for part := range x.always {
		if x.masks[i]>>part&1 != 0 {
			x.always[part] = append(x.always[part], i)
		}
	}
}

// late reports what is known at the end of DATA only.
func (d dim) late() bool {
	switch d {
	case dimSPF, dimDKIM, dimDMARC, dimHeader, dimHeaderIs, dimHeaderIn:
		return true
	}
	return false
}

// costs estimates how often each atom is true: one in as many as its kind has
// values. A field that every message has tells nothing by its presence.
func (n *needs) costs() []float64 {
	var values [dims]int
	for i := range n.atoms {
		values[n.atoms[i].dim]++
	}
	out := make([]float64, len(n.atoms))
	for i := range n.atoms {
		a := &n.atoms[i]
		c := 1 / float64(max(values[a.dim], 2))
		switch {
		case a.suffix:
			c *= 2
		case a.dim == dimHeader && usual(a.name):
			c = 1
		case a.dim == dimHeader:
			c = 0.05
		case a.dim == dimHeaderIn:
			c = 0.02 / float64(len(a.text))
		case a.dim == dimHeaderIs:
			c = 0.002
		case a.dim == dimRcpt, a.dim == dimSender:
			c = min(c, 0.001)
		case a.dim == dimNet:
			c *= math.Exp2(float64(max(0, 24-a.net.Bits())) / 8)
		}
		out[i] = min(c, 1)
	}
	return out
}

// usual names the fields that are in every message (RFC 5322, section 3.6).
func usual(name string) bool {
	switch name {
	case "from", "to", "date", "subject", "message-id", "received", "mime-version", "content-type":
		return true
	}
	return false
}

// cheapest gives the atoms to file under that are true least often, and how often.
func (n *need) cheapest(cost []float64) (float64, []int32) {
	switch n.kind {
	case needNever:
		return 0, nil
	case needOne:
		c := 0.0
		for _, a := range n.atoms {
			c += cost[a]
		}
		return min(c, 1), n.atoms
	case needBoth:
		cl, l := n.l.cheapest(cost)
		cr, r := n.r.cheapest(cost)
		if cr < cl {
			return cr, r
		}
		return cl, l
	case needEither:
		cl, l := n.l.cheapest(cost)
		cr, r := n.r.cheapest(cost)
		if cl+cr >= 1 {
			return 1, nil
		}
		return cl + cr, slices.Concat(l, r)
	}
	return 1, nil
}

// nameBuckets makes the look-up tables of the atoms that filters are filed under.
func (x *index) nameBuckets(atoms []atom, filed [][]int32) {
	contained := map[string][]int32{}
	for i := range atoms {
		if len(filed[i]) == 0 {
			continue
		}
		b := int32(len(x.buckets))
		x.buckets = append(x.buckets, filed[i])
		a := &atoms[i]
		x.families = append(x.families, a.dim.family())
		switch a.dim {
		case dimNet:
			x.networks.add(a.net, b)
		case dimRcpt, dimSender:
			put(&x.address[a.dim], Address{Local: a.name, Domain: a.text}, b)
		case dimHeader:
			x.header(a.name).present = b
		case dimHeaderIs:
			put(&x.header(a.name).is, a.text, b)
		case dimHeaderIn:
			x.header(a.name)
			contained[a.name] = append(contained[a.name], int32(i), b)
		default:
			if a.suffix {
				put(&x.suffixes[a.dim], a.text, b)
				x.dots[a.dim] |= 1 << min(strings.Count(a.text, "."), 63)
			} else {
				put(&x.exact[a.dim], a.text, b)
			}
		}
	}
	x.networks.sort()
	for name, pairs := range contained {
		var texts []string
		var values []int32
		for k := 0; k < len(pairs); k += 2 {
			texts = append(texts, atoms[pairs[k]].text)
			values = append(values, pairs[k+1])
		}
		x.headers[name].contains = ahocorasick.New(texts, values)
	}
}

func put[K comparable](m *map[K]int32, k K, v int32) {
	if *m == nil {
		*m = map[K]int32{}
	}
	(*m)[k] = v
}

func (x *index) header(name string) *headerIndex {
	h := x.headers[name]
	if h == nil {
		if x.headers == nil {
			x.headers = map[string]*headerIndex{}
		}
		h = &headerIndex{present: -1}
		x.headers[name] = h
	}
	return h
}
