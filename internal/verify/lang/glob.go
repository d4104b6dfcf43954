package lang

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// op is what an item of a pattern stands for.
type op uint8

const (
	literal op = iota // the octet b
	octet             // one octet
	star              // any run of octets
)

// item is an element of a pattern.
type item struct {
	op op
	b  byte
}

func literals(s string) []item {
	items := make([]item, len(s), len(s)+1)
	for i := range len(s) {
		items[i] = item{op: literal, b: s[i]}
	}
	return items
}

// matchPattern reports whether a pattern takes the whole of s. It goes back to the
// last star only, which suffices: an earlier one can take nothing that the last
// could not.
func matchPattern(p []item, s string) bool {
	back, mark, i, j := -1, 0, 0, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i].op == star:
			i++
			back, mark = i, j
		case i < len(p) && (p[i].op == octet || p[i].b == s[j]):
			i++
			j++
		case back >= 0:
			mark++
			i, j = back, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i].op == star {
		i++
	}
	return i == len(p)
}

// glob is the machine of a pattern. Its symbols are octets: those of the literals
// and one for all others. A state is the set of positions in the pattern; those
// before the last star that was reached are left out, as what they lead to the star
// leads to as well.
type glob struct {
	subsets
	items  []item
	text   string // the literal octets
	symbol [256]uint16
	octets bool // ? occurs
	set    []uint32
}

// newGlob makes the machine of a pattern. It is exact where each run of literals is
// UTF-8.
func newGlob(items []item) (*glob, bool) {
	g := &glob{subsets: subsets{symbols: 1}}
	var text []byte
	exact, from := true, 0
	for _, it := range items {
		if n := len(g.items); it.op == star && n > 0 && g.items[n-1].op == star {
			continue
		}
		g.items = append(g.items, it)
		if it.op != literal {
			g.octets = g.octets || it.op == octet
			exact = exact && utf8.Valid(text[from:])
			from = len(text)
			continue
		}
		text = append(text, it.b)
		if g.symbol[it.b] == 0 {
			g.symbol[it.b] = uint16(g.symbols)
			g.symbols++
		}
	}
	g.text = string(text)
	g.reset()
	return g, exact && utf8.Valid(text[from:])
}

func (g *glob) classes() partition { return literalClasses(g.text) }

func (g *glob) counts() bool { return g.octets }

// spell reads a character that no literal has as one other octet, unless the octets
// are counted.
func (g *glob) spell(to []uint16, l *letter) []uint16 {
	if !g.octets && !strings.Contains(g.text, l.text) {
		return append(to, 0)
	}
	for i := range len(l.text) {
		to = append(to, g.symbol[l.text[i]])
	}
	return to
}

func (g *glob) start(m *meter) int32 {
	g.set = g.set[:0]
	g.reach(0)
	return g.state(m)
}

func (g *glob) next(q int32, symbol uint16, m *meter) int32 {
	at := int(q)*g.symbols + int(symbol)
	if t := g.trans[at]; t != unknown {
		return t
	}
	set := g.sets[q]
	if !m.take(len(set)) {
		return overflow
	}
	g.set = g.set[:0]
	for _, pos := range set {
		if int(pos) == len(g.items) {
			continue
		}
		switch it := g.items[pos]; {
		case it.op == star:
			g.reach(pos)
		case it.op == octet || g.symbol[it.b] == symbol:
			g.reach(pos + 1)
		}
	}
	t := g.state(m)
	if t != overflow {
		g.trans[at] = t
	}
	return t
}

// reach adds a position, and the next if this one may stand for nothing. Positions
// come in order, some twice.
func (g *glob) reach(pos uint32) {
	if n := len(g.set); n == 0 || g.set[n-1] < pos {
		g.set = append(g.set, pos)
	}
	if int(pos) < len(g.items) && g.items[pos].op == star {
		g.reach(pos + 1)
	}
}

func (g *glob) state(m *meter) int32 {
	if len(g.set) == 0 {
		return reject
	}
	for i, pos := range slices.Backward(g.set) {
		if int(pos) == len(g.items) || g.items[pos].op != star {
			continue
		}
		if int(pos) == len(g.items)-1 {
			return accept
		}
		return g.intern(g.set[i:], m)
	}
	return g.intern(g.set, m)
}

func (g *glob) accepts(q int32) bool {
	if q <= accept {
		return q == accept
	}
	set := g.sets[q]
	return int(set[len(set)-1]) == len(g.items)
}

// literalClasses is the partition into the characters of a text, each by itself, and
// all others.
func literalClasses(text string) partition {
	number := map[rune]int32{}
	for _, r := range text {
		if number[r] == 0 {
			number[r] = int32(len(number)) + 1
		}
	}
	return orbits(number, int32(len(number)))
}
