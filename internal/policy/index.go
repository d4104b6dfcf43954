package policy

import (
	"hash/maphash"
	"sync"

	"postern.dev/postern/internal/ahocorasick"
)

// index finds, for one transaction, the filters that can give anything but No. It
// decides nothing: what it yields is asked in order, by the code that the plain loop
// runs. Each filter is filed once, under the atoms of its condition that are
// rarest (as a solver watches a literal); the rest, and what listener and origin
// alone exclude, is settled when it is built.
//
// What an evaluation reads lies close together, since most of its time is memory that
// is not in a cache: one look-up is one slot of the table, and leads to one bucket.
type index struct {
	program    *Program
	partitions partitions

	table    table              // atoms -> bucket, a number in filed or in the grid
	dims     uint32             // bit d: the table has atoms of the dim
	dots     [domainDims]uint64 // in a suffix: bit n is set where one has n, the last bit for more
	networks networkIndex
	headers  []headerIndex
	byName   table   // names of header fields -> number in headers
	filed    []entry // buckets, each a head and its filters in order
	always   [partitionCount]int32
	late     int32  // the bucket of those filed under atoms of the content
	lateSign uint32 // the bits of atoms of the content
	openSign uint32 // and of those of the recipient and of tags

	grid    *grid // nil where the buckets are short
	applied Trace // one Step for each filter, as Trace shows it where it alone applied
	walks   sync.Pool
}

// entry is a filter in a bucket, with what can be told about it without asking it. The
// first of a bucket is its head: what its atom brings to a message's sign, all masks
// together, and the number of its filters.
type entry struct {
	mask   uint64 // the partitions where it can apply
	sign   uint32 // bits that a message must have for it to apply
	filter int32
}

// headerIndex is what is looked up in each occurrence of one field.
type headerIndex struct {
	present  int32 // bucket, -1 for none
	tested   bool  // its values are compared with constants
	contains *ahocorasick.Automaton
}

// newIndex builds the index of a compiled policy; as a grid where the buckets would
// let more than gridFrom filters through. It is nil, by a chance not worth counting
// on, where another seed is wanted.
func newIndex(p *Program, gridFrom float64) *index {
	x := &index{program: p, partitions: newPartitions(p.Topology), applied: make(Trace, len(p.rules))}
	x.table.seed, x.networks.seed = p.code.seed, maphash.String(p.code.seed, "network")
	f := filing{index: x, needs: needs{ids: map[atom]int32{}}, masks: make([]uint64, len(p.rules)), wanted: make([]need, len(p.rules))}
	for i := range p.rules {
		condition := p.Filters[i].If
		no, _ := x.partitions.settle(condition)
		f.masks[i] = ^no
		f.wanted[i] = f.of(condition, true)
		x.applied[i] = p.rules[i].step(Yes)
	}
	if !f.file(gridFrom) {
		return nil
	}
	x.walks.New = func() any { return &walk{index: x, program: p} }
	return x
}

func (x *index) hash(s string) uint64 { return maphash.String(x.table.seed, s) }

// key gives an atom's key in the table.
func (x *index) key(a *atom, header int32) uint64 {
	switch a.dim {
	case dimNet:
		return networkKey(x.networks.seed, a.net.Addr(), a.net.Bits())
	case dimRcpt, dimSender:
		return mailboxKey(a.dim, x.hash(a.name), x.hash(a.text))
	case dimHeaderIs:
		return valueKey(header, x.hash(a.text))
	}
	return textKey(a.dim, x.hash(a.text))
}

// has reports whether the table has atoms of a dim.
func (x *index) has(d dim) bool { return x.dims>>d&1 != 0 }
