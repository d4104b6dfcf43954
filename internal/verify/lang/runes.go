package lang

import (
	"cmp"
	"slices"
	"unicode"
	"unicode/utf8"
)

// partition divides the code points into classes: those from lo[i] up to the next
// are of class of[i]. There are n classes.
type partition struct {
	lo []rune
	of []int32
	n  int
}

func whole() partition { return partition{lo: []rune{0}, of: []int32{0}, n: 1} }

// class gives the class of a code point.
func (p *partition) class(r rune) int32 {
	i, found := slices.BinarySearch(p.lo, r)
	if !found {
		i--
	}
	return p.of[i]
}

// ranges is the partition into a set, given as sorted pairs, and the rest.
func ranges(pairs []rune) partition {
	p := whole()
	p.n = 2
	for i := 0; i+1 < len(pairs); i += 2 {
		p.begin(pairs[i], 1)
		p.begin(pairs[i+1]+1, 0)
	}
	return p
}

// begin lets a class begin at a code point that is not below the last.
func (p *partition) begin(at rune, class int32) {
	last := len(p.lo) - 1
	switch {
	case at > unicode.MaxRune:
	case p.lo[last] == at:
		p.of[last] = class
	default:
		p.lo, p.of = append(p.lo, at), append(p.of, class)
	}
}

// orbits is the partition in which the runes of the map that have equal numbers are
// a class; what is not in the map is class 0.
func orbits(number map[rune]int32, n int32) partition {
	all := make([]rune, 0, len(number))
	for r := range number {
		all = append(all, r)
	}
	slices.Sort(all)
	p := whole()
	p.n = int(n) + 1
	for _, r := range all {
		p.begin(r, number[r])
		p.begin(r+1, 0)
	}
	return p
}

// meet is the coarsest partition that is finer than both.
func meet(p, q partition) partition {
	if q.n == 1 {
		return p
	}
	if p.n == 1 {
		return q
	}
	out := partition{lo: make([]rune, 0, len(p.lo)+len(q.lo)), of: make([]int32, 0, len(p.lo)+len(q.lo))}
	number := make(map[int64]int32, p.n+q.n)
	for i, j := 0, 0; ; {
		pair := int64(p.of[i])<<32 | int64(q.of[j])
		c, known := number[pair]
		if !known {
			c = int32(len(number))
			number[pair] = c
		}
		if last := len(out.of) - 1; last < 0 || out.of[last] != c {
			out.lo, out.of = append(out.lo, max(p.lo[i], q.lo[j])), append(out.of, c)
		}
		nextP, nextQ := p.end(i), q.end(j)
		if nextP > unicode.MaxRune && nextQ > unicode.MaxRune {
			break
		}
		if nextP <= nextQ {
			i++
		}
		if nextQ <= nextP {
			j++
		}
	}
	out.n = len(number)
	return out
}

// end gives the first code point after the i-th interval.
func (p *partition) end(i int) rune {
	if i+1 < len(p.lo) {
		return p.lo[i+1]
	}
	return unicode.MaxRune + 1
}

// letter is a member of the alphabet: a character, or an octet that is not UTF-8.
type letter struct {
	text string
	r    rune // U+FFFD for the octet, as regexp reads it
	cost cost
}

// cost orders strings by how much a person likes to read them: fewest control
// characters and broken octets first, then shortest, then by taste.
type cost struct{ ugly, octets, taste uint32 }

func (c cost) plus(d cost) cost { return cost{c.ugly + d.ugly, c.octets + d.octets, c.taste + d.taste} }

func (c cost) compare(d cost) int {
	return cmp.Or(cmp.Compare(c.ugly, d.ugly), cmp.Compare(c.octets, d.octets), cmp.Compare(c.taste, d.taste))
}

// stray is an octet that is UTF-8 nowhere, whatever stands beside it.
const stray = "\xff"

func strayLetter() letter {
	return letter{text: stray, r: utf8.RuneError, cost: cost{ugly: 1, octets: 1, taste: 100}}
}

func costOf(r rune) cost {
	c := cost{octets: uint32(utf8.RuneLen(r))}
	switch {
	case r >= 'a' && r <= 'z':
		c.taste = 10
	case r >= 'A' && r <= 'Z':
		c.taste = 11
	case r >= '0' && r <= '9':
		c.taste = 12
	case r == '.' || r == '-' || r == '_' || r == '@':
		c.taste = 14
	case r > ' ' && r < 0x7f:
		c.taste = 16
	case r == ' ':
		c.taste = 20
	case r == '\t':
		c.taste = 24
	case r < 0xa0:
		c.ugly, c.taste = 1, 60
	case unicode.IsLetter(r):
		c.taste = 40
	case r != utf8.RuneError && unicode.IsGraphic(r):
		c.taste = 50
	default:
		c.taste = 60
	}
	return c
}

// costOfString measures a string as the search does.
func costOfString(s string) cost {
	var sum cost
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			sum = sum.plus(strayLetter().cost)
		} else {
			sum = sum.plus(costOf(r))
		}
		i += n
	}
	return sum
}

// spokesmen gives the character that a person likes best of each class. With
// lengths, of each class and length in UTF-8.
func spokesmen(p *partition, lengths bool) []letter {
	best := make([]letter, 4*p.n)
	offer := func(class int32, r rune) {
		slot := &best[4*class]
		if lengths {
			slot = &best[4*int(class)+utf8.RuneLen(r)-1]
		}
		if c := costOf(r); slot.text == "" || c.compare(slot.cost) < 0 {
			*slot = letter{text: string(r), r: r, cost: c}
		}
	}
	for _, r := range "éßж中€😀" {
		offer(p.class(r), r)
	}
	for i, lo := range p.lo {
		hi := p.end(i) - 1
		for _, r := range [][2]rune{{0, 0x7f}, {0x80, 0x7ff}, {0x800, 0xd7ff}, {0xe000, 0xffff}, {0x10000, unicode.MaxRune}} {
			from, to := max(lo, r[0]), min(hi, r[1])
			if to >= 0x80 {
				to = min(to, from+3) // the first few will do where there are thousands
			}
			for ; from <= to; from++ {
				offer(p.of[i], from)
			}
		}
	}
	return slices.DeleteFunc(best, func(l letter) bool { return l.text == "" })
}
