package verify_test

import (
	"slices"
	"strings"

	"postern.dev/postern/internal/policy"
)

// asked is what conditions ask of a text, in every spelling that the compiler may
// bring it to: more than is asked only makes more classes.
type asked struct {
	constants, tails, globs, searches []string
}

func (a *asked) constant(s string) {
	a.constants = append(a.constants, s, strings.ToLower(s))
	if d, err := policy.NormaliseDomain(s); err == nil {
		a.constants = append(a.constants, d)
	}
}

func (a *asked) tail(s string) {
	low := strings.ToLower(s)
	a.tails = append(a.tails, s, low, strings.TrimSuffix(low, "."))
}

// readers makes the readers of what is asked; ok is false where an expression is
// beyond them.
func (a *asked) readers() (out []reader, ok bool) {
	if len(a.constants) > 0 {
		out = append(out, newConstants(unique(a.constants)))
	}
	if len(a.tails) > 0 {
		out = append(out, newTails(unique(a.tails)))
	}
	for _, g := range unique(a.globs) {
		out = append(out, newPlaces(g))
	}
	for _, s := range unique(a.searches) {
		d, ok := newDerived(s)
		if !ok {
			return nil, false
		}
		out = append(out, d)
	}
	return out, true
}

// question notes one condition about a text.
func (a *asked) question(x policy.Expr) {
	switch x := x.(type) {
	case *policy.Binary:
		for _, side := range []policy.Expr{x.L, x.R} {
			if l, ok := side.(*policy.Literal); ok {
				a.constant(l.Value.(string))
			}
		}
	case *policy.Call:
		switch x.Func {
		case "in":
			for _, it := range x.Args[1].(*policy.List).Items {
				a.constant(it.(*policy.Literal).Value.(string))
			}
		case "ends_with", "glob", "matches":
			s := x.Args[1].(*policy.Literal).Value.(string)
			switch x.Func {
			case "ends_with":
				a.tail(s)
			case "glob":
				a.globs = append(a.globs, s, strings.ToLower(s))
			default:
				a.searches = append(a.searches, s)
			}
		}
	}
}

func (a *asked) also(b asked) {
	a.constants = append(a.constants, b.constants...)
	a.tails = append(a.tails, b.tails...)
	a.globs = append(a.globs, b.globs...)
	a.searches = append(a.searches, b.searches...)
}

// maxTuples bounds the states of a walk.
const maxTuples = 6000

// walker goes through the product of readers, the shortest texts first.
type walker struct {
	readers []reader
	letters []letter
	memo    [][]int32 // by reader, state and letter; -1 is not known
	tuples  int
}

func newWalker(rs []reader) *walker {
	return &walker{readers: rs, letters: lettersFor(rs), memo: make([][]int32, len(rs))}
}

// reached is a tuple of states with a text that leads there.
type reached struct {
	at   []int32
	text string
}

func key(at []int32) string {
	b := make([]byte, 0, 4*len(at))
	for _, s := range at {
		b = append(b, byte(s), byte(s>>8), byte(s>>16), byte(s>>24))
	}
	return string(b)
}

// walk gives every tuple that a text reaches from the beginning, with as many
// texts for each as asked for. only keeps to letters. ok is false where there are
// too many.
func (w *walker) walk(from []int32, texts int, only func(letter) bool) (out []reached, ok bool) {
	return w.walkParts(from, 0, len(w.readers), len(w.readers), texts, only)
}

func (w *walker) after(at []int32, l int32) []int32 {
	next := make([]int32, len(at))
	for i, s := range at {
		k := int(s)*len(w.letters) + int(l)
		for len(w.memo[i]) <= k {
			w.memo[i] = append(w.memo[i], -1)
		}
		if w.memo[i][k] < 0 {
			w.memo[i][k] = w.readers[i].step(s, w.letters[l])
		}
		next[i] = w.memo[i][k]
	}
	return next
}

func (w *walker) labels(at []int32) string {
	var b strings.Builder
	for i, s := range at {
		b.WriteString(w.readers[i].label(s))
		b.WriteByte(0)
	}
	return b.String()
}

func every(letter) bool { return true }

// textsOf gives texts of a shape that stand for all: of those that agree in every
// answer to what is asked, as many as asked for.
func textsOf(a asked, sh *form, each int) ([]string, bool) {
	rs, ok := a.readers()
	w := newWalker(append([]reader{sh}, rs...))
	if !ok {
		return nil, false
	}
	all, ok := w.walk(make([]int32, len(w.readers)), each, every)
	var out []string
	seen := map[string]int{}
	for _, r := range all {
		if sh.label(r.at[0]) == "" {
			continue
		}
		if k := w.labels(r.at); seen[k] < each {
			seen[k]++
			out = append(out, r.text)
		}
	}
	return out, ok
}

// boxAsked is what is asked of an address: of its parts and of the whole.
type boxAsked struct{ local, domain, whole asked }

// address notes a constant address.
func (b *boxAsked) address(a policy.Address) {
	if a != (policy.Address{}) {
		b.local.constant(a.Local)
		b.domain.constant(a.Domain)
	}
}

func (b *boxAsked) patterns(ps []policy.Pattern) {
	for _, p := range ps {
		switch p.Kind {
		case policy.MatchDomain:
			b.domain.constant(p.Domain)
		case policy.MatchSuffix:
			b.domain.tail(p.Domain)
			b.domain.constant(p.Domain)
		case policy.MatchAddress:
			b.address(p.Address)
		}
	}
}

// split takes constants and suffixes of whole addresses apart, where they can be.
func (b *boxAsked) split() {
	for _, s := range b.whole.constants {
		if a, err := policy.ParseAddress(s); err == nil {
			b.address(a)
		}
	}
	b.whole.constants = nil
}

// boxesOf gives addresses that stand for all: of those that agree in every answer,
// as many as asked for that differ in their domains.
func boxesOf(b boxAsked, each int) ([]policy.Address, bool) {
	b.split()
	locals, ok1 := b.local.readers()
	domains, ok2 := b.domain.readers()
	whole, ok3 := b.whole.readers()
	if !ok1 || !ok2 || !ok3 {
		return nil, false
	}
	locals = append([]reader{localText()}, locals...)
	domains = append([]reader{domainText()}, domains...)
	w := newWalker(slices.Concat(locals, domains, whole))
	begin := make([]int32, len(w.readers))
	d := len(locals)
	firsts, ok := w.walkParts(begin, 0, d, d+len(domains), 1, every)
	if !ok {
		return nil, false
	}
	var out []policy.Address
	began, seen := map[string]bool{}, map[string]int{}
	at := slices.IndexFunc(w.letters, func(l letter) bool { return l.r == '@' })
	for _, f := range firsts {
		name := ""
		for i := range d {
			name += w.readers[i].label(f.at[i]) + "\x00"
		}
		if locals[0].label(f.at[0]) == "" {
			continue
		}
		from := w.after(f.at, int32(at))
		copy(from, f.at[:d])
		for i := d; i < d+len(domains); i++ {
			from[i] = 0
		}
		k := name + key(from[d:])
		if began[k] {
			continue
		}
		began[k] = true
		seconds, ok := w.walkParts(from, d, len(w.readers), len(w.readers), each, func(l letter) bool { return l.r < 0x80 && l.r != '@' })
		if !ok {
			return nil, false
		}
		for _, s := range seconds {
			if domains[0].label(s.at[d]) == "" {
				continue
			}
			k := name
			for i := d; i < len(w.readers); i++ {
				k += w.readers[i].label(s.at[i]) + "\x00"
			}
			if seen[k] < each {
				seen[k]++
				out = append(out, policy.Address{Local: f.text, Domain: s.text})
			}
		}
	}
	return out, true
}

// walkParts walks with some readers held still: those of lo to hi move, and those
// from whole on.
func (w *walker) walkParts(from []int32, lo, hi, whole, texts int, only func(letter) bool) ([]reached, bool) {
	queue := []reached{{from, ""}}
	seen := map[string]int{key(from): 1}
	var out []reached
	for len(queue) > 0 {
		r := queue[0]
		queue = queue[1:]
		out = append(out, r)
		if w.tuples++; w.tuples > maxTuples {
			return nil, false
		}
		for i, l := range w.letters {
			if !only(l) {
				continue
			}
			next := w.after(r.at, int32(i))
			if f, ok := w.readers[lo].(*form); ok && f.dead(next[lo]) {
				continue
			}
			copy(next[:lo], r.at[:lo])
			if hi < whole {
				copy(next[hi:whole], r.at[hi:whole])
			}
			if k := key(next); seen[k] < texts {
				seen[k]++
				queue = append(queue, reached{next, r.text + l.text})
			}
		}
	}
	return out, true
}
