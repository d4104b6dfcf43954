package policy

import (
	"cmp"
	"slices"
	"strings"

	"postern.dev/postern/internal/ahocorasick"
)

// filing makes an index: it files each filter where it is found.
type filing struct {
	*index
	needs
	masks  []uint64 // of a filter: the partitions where it can apply
	wanted []need   // of a filter
	cost   []float64

	filed [][]int32 // of an atom: the filters under it
	signs []uint32  // of an atom: its bit, if it has one
	marks []uint32  // of a filter: the bits that it needs
	named []named   // what the table is made of
	names []string  // of header fields, as they are numbered
}

// named is an atom that can be looked up, header the number of its field.
type named struct {
	atom   *atom
	header int32
	value  int32
}

// file chooses the shape and fills it; false where the seed will not do.
func (f *filing) file(gridFrom float64) bool {
	f.cost = f.costs()
	f.filed = make([][]int32, len(f.atoms))
	var always, late []int32
	expected := 0.0
	for i := range f.wanted {
		c, atoms := f.wanted[i].cheapest(f.cost)
		expected += c
		if c >= 1 {
			always = append(always, int32(i))
			continue
		}
		if f.put(int32(i), atoms) {
			late = append(late, int32(i))
		}
	}
	if expected > gridFrom {
		f.grid = newGrid(f)
	}
	if f.grid == nil {
		f.sign()
		f.fileAlways(always)
		f.late = f.lay(0, late)
		f.name(func(atom int) int32 { return f.lay(f.signs[atom], f.filed[atom]) })
	}
	return f.table.fill(f.values(), func(i int) uint64 { return f.key(f.named[i].atom, f.named[i].header) }) && f.fillNames()
}

// put files a filter under atoms; late where one of them is of the content.
func (f *filing) put(filter int32, atoms []int32) (late bool) {
	for _, a := range atoms {
		if b := f.filed[a]; len(b) == 0 || b[len(b)-1] != filter {
			f.filed[a] = append(b, filter)
		}
		late = late || f.atoms[a].dim.late()
	}
	return late
}

// lay lays a bucket out and gives its number.
func (f *filing) lay(sign uint32, filters []int32) int32 {
	at := int32(len(f.index.filed))
	head := entry{sign: sign, filter: int32(len(filters))}
	out := append(f.index.filed, head)
	for _, i := range filters {
		head.mask |= f.masks[i]
		out = append(out, entry{mask: f.masks[i], sign: f.marks[i], filter: i})
	}
	out[at] = head
	f.index.filed = out
	return at
}

// fileAlways makes a bucket for each partition of the filters that no atom excludes;
// partitions with the same filters share one.
func (f *filing) fileAlways(always []int32) {
	var lists [partitionCount][]int32
	for part := range partitionCount {
		for _, i := range always {
			if f.masks[i]>>part&1 != 0 {
				lists[part] = append(lists[part], i)
			}
		}
		f.always[part] = -1
		for other := range part {
			if slices.Equal(lists[other], lists[part]) {
				f.always[part] = f.always[other]
				break
			}
		}
		if f.always[part] < 0 {
			f.always[part] = f.lay(0, lists[part])
		}
	}
}

// sign gives atoms a bit each, those first that most filters need besides what they
// are filed under; a message has the bits of its atoms, and a filter that lacks one
// need not be asked. Bits are shared where there are more atoms than bits.
func (f *filing) sign() {
	const width = 32
	f.signs, f.marks = make([]uint32, len(f.atoms)), make([]uint32, len(f.wanted))
	count := make([]int, len(f.atoms))
	var wanted []int32
	each := func(take func(i int, a int32)) {
		for i := range f.wanted {
			for _, a := range f.wanted[i].singles(nil) {
				if b := f.filed[a]; len(b) > 0 {
					if _, here := slices.BinarySearch(b, int32(i)); here {
						continue
					}
				}
				take(i, a)
			}
		}
	}
	each(func(_ int, a int32) {
		if count[a]++; count[a] == 1 {
			wanted = append(wanted, a)
		}
	})
	slices.SortStableFunc(wanted, func(a, b int32) int { return cmp.Compare(count[b], count[a]) })
	for k, a := range wanted {
		f.signs[a] = 1 << (k % width)
		switch d := f.atoms[a].dim; {
		case d.late():
			f.lateSign |= f.signs[a]
		case d == dimTag, d == dimRcpt, ofRcpt>>d&1 != 0:
			f.openSign |= f.signs[a]
		}
	}
	each(func(i int, a int32) { f.marks[i] |= f.signs[a] })
}

// singles appends the atoms that must be true each by itself.
func (n *need) singles(out []int32) []int32 {
	switch {
	case n.kind == needBoth:
		return n.r.singles(n.l.singles(out))
	case n.kind == needOne && len(n.atoms) == 1:
		return append(out, n.atoms[0])
	}
	return out
}

// name notes how the atoms are looked up that filters are filed under or signed with;
// number gives the number of an atom's bucket.
func (f *filing) name(number func(atom int) int32) {
	numbers := map[string]int32{} // of header fields
	for _, name := range f.program.code.names {
		f.headers[f.header(numbers, name)].tested = true
	}
	contained := map[int32][]int32{}
	for i := range f.atoms {
		if len(f.filed[i]) == 0 && (f.signs == nil || f.signs[i] == 0) {
			continue
		}
		a, b, h := &f.atoms[i], number(i), int32(0)
		f.dims |= 1 << a.dim
		switch {
		case a.dim == dimNet:
			f.index.networks.add(a.net)
		case a.suffix:
			f.dots[a.dim] |= 1 << min(strings.Count(a.text, "."), 63)
		case a.dim == dimHeader, a.dim == dimHeaderIs, a.dim == dimHeaderIn:
			h = f.header(numbers, a.name)
		}
		switch a.dim {
		case dimHeader:
			f.headers[h].present = b
			continue
		case dimHeaderIs:
			f.headers[h].tested = true
		case dimHeaderIn:
			contained[h] = append(contained[h], int32(i), b)
			continue
		}
		f.named = append(f.named, named{atom: a, header: h, value: b})
	}
	for h, pairs := range contained {
		f.headers[h].contains = f.automaton(pairs)
	}
}

// header numbers a header field and makes it known by its name.
func (f *filing) header(numbers map[string]int32, name string) int32 {
	h, known := numbers[name]
	if !known {
		h = int32(len(f.headers))
		numbers[name] = h
		f.headers = append(f.headers, headerIndex{present: -1})
		f.names = append(f.names, name)
	}
	return h
}

// automaton finds the texts of atoms, given as pairs of atom and bucket.
func (f *filing) automaton(pairs []int32) *ahocorasick.Automaton {
	var texts []string
	var values []int32
	for k := 0; k < len(pairs); k += 2 {
		texts = append(texts, f.atoms[pairs[k]].text)
		values = append(values, pairs[k+1])
	}
	return ahocorasick.New(texts, values)
}

// fillNames numbers the header fields by name, apart from the buckets: a number that is
// given by a clash is still one of its sort.
func (f *filing) fillNames() bool {
	numbers := make([]int32, len(f.names))
	for i := range numbers {
		numbers[i] = int32(i)
	}
	return f.byName.fill(numbers, func(i int) uint64 { return f.hash(f.names[i]) })
}

func (f *filing) values() []int32 {
	out := make([]int32, len(f.named))
	for i := range f.named {
		out[i] = f.named[i].value
	}
	return out
}
