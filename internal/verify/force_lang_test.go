package verify_test

import (
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The automata here serve the brute force. They share nothing with the prover's:
// expressions are taken apart by derivatives (Brzozowski 1964), globs by their places.

// letter is a character, or an octet that begins none, that stands for those like it.
type letter struct {
	r    rune // as an expression reads it
	text string
}

// reader reads a text letter by letter. States are numbered from 0, which is the
// beginning; label tells apart what conditions tell apart.
type reader interface {
	step(state int32, l letter) int32
	label(state int32) string
	cuts() []rune // where letters begin to be read otherwise
}

// node is an expression without anchors; equal ones are one.
type node struct {
	id    int
	op    byte // '0' nothing, '1' the empty text, 'c' class, '.' cat, '|' alternation, '*' star
	kids  []*node
	class []rune // pairs of first and last
	null  bool   // it has the empty text
}

// derived reads an expression; a state is what remains to be read.
type derived struct {
	nodes  map[string]*node
	states []*node
	number map[*node]int32
	memo   map[[2]int32]*node
	all    *node
	bounds []rune
}

// newDerived makes the reader of a regular expression that is searched for. ok is
// false where an anchor stands inside.
func newDerived(s string) (d *derived, ok bool) {
	x, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return nil, false
	}
	d = &derived{nodes: map[string]*node{}, number: map[*node]int32{}, memo: map[[2]int32]*node{}}
	d.all = d.star(d.of([]rune{0, unicode.MaxRune}))
	root, ok := d.search(x.Simplify())
	if ok {
		d.state(root)
	}
	return d, ok
}

func (d *derived) state(n *node) int32 {
	s, known := d.number[n]
	if !known {
		s = int32(len(d.states))
		d.number[n] = s
		d.states = append(d.states, n)
	}
	return s
}

func (d *derived) step(s int32, l letter) int32 { return d.state(d.derive(d.states[s], l.r)) }
func (d *derived) cuts() []rune                 { return d.bounds }
func (d *derived) label(s int32) string         { return strconv.FormatBool(d.states[s].null) }

func (d *derived) intern(n node) *node {
	key := string(n.op)
	for _, k := range n.kids {
		key += " " + strconv.Itoa(k.id)
	}
	for _, r := range n.class {
		key += " " + strconv.Itoa(int(r))
	}
	if known := d.nodes[key]; known != nil {
		return known
	}
	n.id = len(d.nodes)
	d.nodes[key] = &n
	return &n
}

func (d *derived) nothing() *node { return d.intern(node{op: '0'}) }
func (d *derived) empty() *node   { return d.intern(node{op: '1', null: true}) }

func (d *derived) of(class []rune) *node {
	for i := 0; i+1 < len(class); i += 2 {
		d.bounds = append(d.bounds, class[i], class[i+1]+1)
	}
	return d.intern(node{op: 'c', class: class})
}

func (d *derived) star(n *node) *node {
	return d.intern(node{op: '*', kids: []*node{n}, null: true})
}

func (d *derived) cat(a, b *node) *node {
	switch {
	case a.op == '0' || b.op == '0':
		return d.nothing()
	case a.op == '1':
		return b
	case b.op == '1':
		return a
	case a.op == '.': // to the right
		return d.cat(a.kids[0], d.cat(a.kids[1], b))
	}
	return d.intern(node{op: '.', kids: []*node{a, b}, null: a.null && b.null})
}

func (d *derived) alt(ns ...*node) *node {
	var kids []*node
	null := false
	for _, n := range ns {
		switch n.op {
		case '0':
		case '|':
			kids = append(kids, n.kids...)
		default:
			kids = append(kids, n)
		}
		null = null || n.null
	}
	slices.SortFunc(kids, func(a, b *node) int { return a.id - b.id })
	kids = slices.Compact(kids)
	switch {
	case slices.Contains(kids, d.all):
		return d.all
	case len(kids) == 0:
		return d.nothing()
	case len(kids) == 1:
		return kids[0]
	}
	return d.intern(node{op: '|', kids: kids, null: null})
}

// derive gives what remains of an expression once r was read.
func (d *derived) derive(n *node, r rune) *node {
	key := [2]int32{int32(n.id), r}
	if known := d.memo[key]; known != nil {
		return known
	}
	out := d.nothing()
	switch n.op {
	case 'c':
		for i := 0; i+1 < len(n.class); i += 2 {
			if n.class[i] <= r && r <= n.class[i+1] {
				out = d.empty()
			}
		}
	case '.':
		out = d.cat(d.derive(n.kids[0], r), n.kids[1])
		if n.kids[0].null {
			out = d.alt(out, d.derive(n.kids[1], r))
		}
	case '|':
		var ns []*node
		for _, k := range n.kids {
			ns = append(ns, d.derive(k, r))
		}
		out = d.alt(ns...)
	case '*':
		out = d.cat(d.derive(n.kids[0], r), n)
	}
	d.memo[key] = out
	return out
}

// search takes the anchors off both ends; where there is none, anything may stand.
func (d *derived) search(x *syntax.Regexp) (*node, bool) {
	switch x.Op {
	case syntax.OpCapture:
		return d.search(x.Sub[0])
	case syntax.OpAlternate:
		out := d.nothing()
		for _, k := range x.Sub {
			n, ok := d.search(k)
			if !ok {
				return nil, false
			}
			out = d.alt(out, n)
		}
		return out, true
	}
	parts := []*syntax.Regexp{x}
	if x.Op == syntax.OpConcat {
		parts = x.Sub
	}
	front, back := d.all, d.all
	for len(parts) > 0 && parts[0].Op == syntax.OpBeginText {
		front, parts = d.empty(), parts[1:]
	}
	for len(parts) > 0 && parts[len(parts)-1].Op == syntax.OpEndText {
		back, parts = d.empty(), parts[:len(parts)-1]
	}
	out := back
	for _, k := range slices.Backward(parts) {
		n, ok := d.plain(k)
		if !ok {
			return nil, false
		}
		out = d.cat(n, out)
	}
	return d.cat(front, out), true
}

// plain translates what has no anchors.
func (d *derived) plain(x *syntax.Regexp) (*node, bool) {
	var subs []*node
	for _, k := range x.Sub {
		n, ok := d.plain(k)
		if !ok {
			return nil, false
		}
		subs = append(subs, n)
	}
	out := d.empty()
	switch x.Op {
	case syntax.OpEmptyMatch:
	case syntax.OpNoMatch:
		out = d.nothing()
	case syntax.OpLiteral:
		for _, r := range slices.Backward(x.Rune) {
			class := []rune{r, r}
			if x.Flags&syntax.FoldCase != 0 {
				for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
					class = append(class, f, f)
				}
			}
			out = d.cat(d.of(class), out)
		}
	case syntax.OpCharClass:
		out = d.of(x.Rune)
	case syntax.OpAnyChar:
		out = d.of([]rune{0, unicode.MaxRune})
	case syntax.OpAnyCharNotNL:
		out = d.of([]rune{0, '\n' - 1, '\n' + 1, unicode.MaxRune})
	case syntax.OpCapture:
		out = subs[0]
	case syntax.OpStar:
		out = d.star(subs[0])
	case syntax.OpPlus:
		out = d.cat(subs[0], d.star(subs[0]))
	case syntax.OpQuest:
		out = d.alt(subs[0], d.empty())
	case syntax.OpConcat:
		for _, n := range slices.Backward(subs) {
			out = d.cat(n, out)
		}
	case syntax.OpAlternate:
		out = d.alt(subs...)
	default:
		return nil, false
	}
	return out, true
}

// named numbers states that have names.
type named struct {
	names  []string
	number map[string]int32
}

func (n *named) state(s string) int32 {
	i, known := n.number[s]
	if !known {
		if n.number == nil {
			n.number = map[string]int32{}
		}
		i = int32(len(n.names))
		n.number[s] = i
		n.names = append(n.names, s)
	}
	return i
}

// places reads a glob, octet by octet: a state is the set of places in it.
type places struct {
	named
	glob string
}

func newPlaces(glob string) *places {
	p := &places{glob: glob}
	p.state(p.from([]bool{true}))
	return p
}

// from spells a set of places, one octet each, with those behind stars.
func (p *places) from(at []bool) string {
	var out strings.Builder
	open := false
	for i := range len(p.glob) + 1 {
		open = open || i < len(at) && at[i]
		if open {
			out.WriteByte(byte(i))
		}
		open = open && i < len(p.glob) && p.glob[i] == '*'
	}
	return out.String()
}

func (p *places) step(s int32, l letter) int32 {
	at := p.names[s]
	for i := range len(l.text) {
		next := make([]bool, len(p.glob)+1)
		for _, k := range []byte(at) {
			switch {
			case int(k) == len(p.glob):
			case p.glob[k] == '*':
				next[k] = true
			case p.glob[k] == '?' || p.glob[k] == l.text[i]:
				next[k+1] = true
			}
		}
		at = p.from(next)
	}
	return p.state(at)
}

func (p *places) label(s int32) string {
	at := p.names[s]
	return strconv.FormatBool(at != "" && int(at[len(at)-1]) == len(p.glob))
}

func (p *places) cuts() []rune { return each(p.glob) }

func each(ss ...string) (out []rune) {
	for _, s := range ss {
		for _, r := range s {
			out = append(out, r, r+1)
		}
	}
	return out
}

// constants reads texts: a state is what was read while it can become one of them.
type constants struct {
	named
	of []string
}

const lost = "\x00lost"

func newConstants(of []string) *constants {
	c := &constants{of: of}
	c.state("")
	return c
}

func (c *constants) step(s int32, l letter) int32 {
	next := c.names[s] + l.text
	if !slices.ContainsFunc(c.of, func(k string) bool { return strings.HasPrefix(k, next) }) {
		next = lost
	}
	return c.state(next)
}

func (c *constants) cuts() []rune { return each(c.of...) }

func (c *constants) label(s int32) string {
	if slices.Contains(c.of, c.names[s]) {
		return c.names[s]
	}
	return lost
}

// tails reads suffixes: a state is the longest end of what was read that begins one.
type tails struct {
	named
	of []string
}

func newTails(of []string) *tails {
	t := &tails{of: of}
	t.state("")
	return t
}

func (t *tails) step(s int32, l letter) int32 {
	next := t.names[s] + l.text
	for !slices.ContainsFunc(t.of, func(k string) bool { return strings.HasPrefix(k, next) }) {
		next = next[1:]
	}
	return t.state(next)
}

func (t *tails) cuts() []rune { return each(t.of...) }

func (t *tails) label(s int32) string {
	out := ""
	for _, k := range t.of {
		out += strconv.FormatBool(strings.HasSuffix(t.names[s], k))
	}
	return out
}

// form reads what a field can hold at all: "" is the label of a text that it cannot.
type form struct {
	bounds []rune
	next   func(s int32, l letter) int32
	ok     []bool // by state; the last is never left
}

// dead reports a state that is never left for a good one.
func (p *form) dead(s int32) bool { return int(s) == len(p.ok)-1 && !p.ok[s] }

func (p *form) step(s int32, l letter) int32 { return p.next(s, l) }
func (p *form) cuts() []rune                 { return p.bounds }
func (p *form) label(s int32) string {
	if p.ok[s] {
		return "ok"
	}
	return ""
}

// anyText is nearly anything; the labels of a domain are joined by dots; a local part
// has no capital and no line end; a header's value neither begins nor ends with a
// space, and has neither NUL nor line ends.
func anyText() *form {
	return &form{next: func(int32, letter) int32 { return 0 }, ok: []bool{true}}
}

func domainText() *form {
	return &form{bounds: append(each("-._"), 'a', 'z'+1, '0', '9'+1), ok: []bool{false, true, false}, next: func(s int32, l letter) int32 {
		switch {
		case s == 2 || s == 0 && l.r == '.':
			return 2
		case l.r == '.':
			return 0
		case l.r >= 'a' && l.r <= 'z' || l.r >= '0' && l.r <= '9' || l.r == '-' || l.r == '_':
			return 1
		}
		return 2
	}}
}

func localText() *form {
	return &form{bounds: append(each("\r\n@"), 'A', 'Z'+1), ok: []bool{false, true, false}, next: func(s int32, l letter) int32 {
		if s == 2 || l.r == '\r' || l.r == '\n' || l.r >= 'A' && l.r <= 'Z' {
			return 2
		}
		return 1
	}}
}

func valueText() *form {
	return &form{bounds: append(each("\r\n\x00\u0085\u00a0"), ' '+1), ok: []bool{true, true, false, false}, next: func(s int32, l letter) int32 {
		inner := l.r != 0 && l.r != '\r' && l.r != '\n'
		outer := inner && l.r > ' ' && l.r != 0x85 && l.r != 0xa0
		switch {
		case s == 3 || !inner || s == 0 && !outer:
			return 3
		case outer:
			return 1
		}
		return 2
	}}
}

// lettersFor gives, for every run of characters that no reader tells apart, one of
// each length in octets, and an octet that begins no character.
func lettersFor(rs []reader) []letter {
	cuts := []rune{0, 0x80, 0x800, 0xd800, 0xe000, 0xfffd, 0xfffe, 0x10000, unicode.MaxRune + 1}
	for _, r := range rs {
		cuts = append(cuts, r.cuts()...)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	out := []letter{{utf8.RuneError, "\xff"}}
	for _, r := range cuts {
		if r <= unicode.MaxRune && (r < 0xd800 || r >= 0xe000) {
			out = append(out, letter{r, string(r)})
		}
	}
	// Readable ones first, for what is found to be readable.
	slices.SortStableFunc(out, func(a, b letter) int { return plainness(a) - plainness(b) })
	return out
}

func plainness(l letter) int {
	switch {
	case l.r >= 'a' && l.r <= 'z':
		return 0
	case l.r > ' ' && l.r <= '~':
		return 1
	}
	return 2
}
