package lang

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Cond is a condition on a string. Making one is cheap; the automaton behind it is
// built by the first Find that needs it and kept, so that a Cond may be used again
// and again, by one goroutine at a time. The zero Cond holds on no string.
type Cond struct{ c *cond }

// cond is what the copies of a Cond share: re, a pattern, a set, or a condition on a part.
type cond struct {
	name    string
	re      *regexp.Regexp
	pattern []item
	set     []string // sorted; read where the others are nil
	inner   *Cond    // on a part of an address
	local   bool     // which
	m       machine
	exact   bool // m accepts exactly the strings on which the condition holds
}

// Match makes a condition of a regular expression in Go's syntax. It holds where
// regexp.MatchString does, which searches.
func Match(re string) (Cond, error) {
	r, err := regexp.Compile(re)
	if err != nil {
		return Cond{}, fmt.Errorf("compile %q: %w", re, err)
	}
	return Cond{&cond{name: fmt.Sprintf("matches %q", re), re: r}}, nil
}

// Glob makes a condition on the whole string: * stands for any run of octets, ? for
// one octet, as in policy.Glob.
func Glob(p string) Cond {
	items := []item{}
	for i := range len(p) {
		switch p[i] {
		case '*':
			items = append(items, item{op: star})
		case '?':
			items = append(items, item{op: octet})
		default:
			items = append(items, item{op: literal, b: p[i]})
		}
	}
	return Cond{&cond{name: fmt.Sprintf("glob %q", p), pattern: items}}
}

// Suffix makes the condition strings.HasSuffix.
func Suffix(s string) Cond {
	return Cond{&cond{name: fmt.Sprintf("ends with %q", s), pattern: slices.Concat([]item{{op: star}}, literals(s))}}
}

// Prefix makes the condition strings.HasPrefix.
func Prefix(s string) Cond {
	return Cond{&cond{name: fmt.Sprintf("begins with %q", s), pattern: append(literals(s), item{op: star})}}
}

// Equal makes the condition of being s.
func Equal(s string) Cond {
	return Cond{&cond{name: fmt.Sprintf("is %q", s), set: []string{s}}}
}

// OneOf makes the condition of being one of a set, which may be large.
func OneOf(set ...string) Cond {
	sorted := slices.Clone(set)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	return Cond{&cond{name: fmt.Sprintf("is one of %d strings", len(sorted)), set: sorted}}
}

// String describes the condition for a trace.
func (c Cond) String() string { return c.get().name }

// Holds reports whether the condition holds on s. It asks package regexp and the
// strings themselves, not the automaton.
func (c Cond) Holds(s string) bool {
	d := c.get()
	switch {
	case d.re != nil:
		return d.re.MatchString(s)
	case d.pattern != nil:
		return matchPattern(d.pattern, s)
	case d.inner != nil:
		return d.inner.Holds(partOf(s, d.local))
	}
	_, found := slices.BinarySearch(d.set, s)
	return found
}

func (c Cond) get() *cond {
	if c.c == nil {
		return &cond{name: "never"}
	}
	return c.c
}

// constants gives the strings on which alone the condition holds, if it is of that
// sort.
func (c *cond) constants() ([]string, bool) {
	return c.set, c.re == nil && c.pattern == nil && c.inner == nil
}

// machine gives the condition's automaton.
func (c *cond) machine() (machine, bool) {
	if c.m != nil {
		return c.m, c.exact
	}
	switch {
	case c.re != nil:
		c.m, c.exact = newSearch(c.re.String())
	case c.pattern != nil:
		c.m, c.exact = newGlob(c.pattern)
	case c.inner != nil:
		c.m, c.exact = newSplit(*c.inner, c.local)
	default:
		c.m, c.exact = newSet(c.set)
	}
	return c.m, c.exact
}

// Lit is a condition or, with Neg, its opposite.
type Lit struct {
	Cond Cond
	Neg  bool
}

// Holds reports whether the literal holds on s.
func (l Lit) Holds(s string) bool { return l.Cond.Holds(s) != l.Neg }

// String describes the literal for a trace.
func (l Lit) String() string {
	if l.Neg {
		return "not " + l.Cond.String()
	}
	return l.Cond.String()
}

// Result is the outcome of a search.
type Result uint8

// The outcomes.
const (
	Unknown Result = iota // the cap was hit, or a condition is beyond the automata
	Found                 // there is such a string
	None                  // proved: there is no such string
)

func (r Result) String() string {
	return [...]string{"unknown", "found", "none"}[r]
}

// defaultStates bounds a search that sets no cap: a few tenths of a second at most.
const defaultStates = 50_000

// Options of a search.
type Options struct {
	MaxStates int    // of the product; 50,000 where zero. Work and memory are bounded in proportion.
	Shape     []Cond // conditions that hold in any case: what is known of the string beforehand
	// Stop is asked now and then whether to give up before. Nil never does.
	Stop func() bool
}

func (o Options) states() int {
	if o.MaxStates <= 0 {
		return defaultStates
	}
	return o.MaxStates
}

// Compiler makes conditions and keeps them, so that equal ones share an automaton.
// Its owner bounds its life; the zero Compiler is ready. It is used by one goroutine
// at a time.
type Compiler struct{ kept map[string]Cond }

// Match is [Match], once for each expression.
func (k *Compiler) Match(re string) (Cond, error) {
	return k.keep("matches "+re, func() (Cond, error) { return Match(re) })
}

// Glob is [Glob], once for each pattern.
func (k *Compiler) Glob(p string) Cond { return k.sure("glob "+p, func() Cond { return Glob(p) }) }

// Suffix is [Suffix], once for each string.
func (k *Compiler) Suffix(s string) Cond {
	return k.sure("suffix "+s, func() Cond { return Suffix(s) })
}

// Prefix is [Prefix], once for each string.
func (k *Compiler) Prefix(s string) Cond {
	return k.sure("prefix "+s, func() Cond { return Prefix(s) })
}

// Equal is [Equal], once for each string.
func (k *Compiler) Equal(s string) Cond { return k.sure("equal "+s, func() Cond { return Equal(s) }) }

// OneOf is [OneOf], once for each list.
func (k *Compiler) OneOf(set ...string) Cond {
	return k.sure(fmt.Sprintf("oneof %q", set), func() Cond { return OneOf(set...) })
}

// DomainShape is [DomainShape], once.
func (k *Compiler) DomainShape() Cond { return k.sure("shape domain", DomainShape) }

// LocalShape is [LocalShape], once.
func (k *Compiler) LocalShape() Cond { return k.sure("shape local", LocalShape) }

// AddressShape is [AddressShape], once.
func (k *Compiler) AddressShape() Cond { return k.sure("shape address", AddressShape) }

// HeaderValueShape is [HeaderValueShape], once.
func (k *Compiler) HeaderValueShape() Cond { return k.sure("shape header", HeaderValueShape) }

func (k *Compiler) sure(key string, build func() Cond) Cond {
	c, _ := k.keep(key, func() (Cond, error) { return build(), nil })
	return c
}

func (k *Compiler) keep(key string, build func() (Cond, error)) (Cond, error) {
	if c, ok := k.kept[key]; ok {
		return c, nil
	}
	c, err := build()
	if err != nil {
		return c, err
	}
	if k.kept == nil {
		k.kept = map[string]Cond{}
	}
	k.kept[strings.Clone(key)] = c
	return c, nil
}
