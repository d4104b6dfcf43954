package policy

import (
	"fmt"
	"hash/maphash"
)

// Program is a checked and compiled policy. It never changes once made, and may be
// used from any number of goroutines.
type Program struct {
	Topology *Topology
	Filters  []Filter
	Asserts  []Assert

	rules     []rule
	asserts   []uint32 // in code
	code      code
	inside    map[string]string // exact domain -> inside host
	suffix    []insideSuffix
	names     map[string]int // filter -> index
	customers map[string]*CustomerDef
	index     *index
}

// rule is a filter made ready to run: what every decision reads of it, in one line of
// the cache.
type rule struct {
	name string
	pos  Pos
	then *Final
	at   uint32 // in code
	acts bool   // it does something besides deciding
	drop bool   // it decides, and nothing else needs to be known
}

func newRule(f *Filter) rule {
	return rule{name: f.Name, pos: f.Pos, then: f.Then, acts: len(f.Do) > 0, drop: f.Then != nil && f.Then.Kind == ThenDrop}
}

// step is the rule's part in a decision.
func (r *rule) step(result Result) Step {
	return Step{Filter: r.name, Pos: r.pos, Result: result, Final: r.then != nil}
}

type insideSuffix struct {
	pattern Pattern
	host    string
}

// New checks a policy against its topology, brings its constants into normal form
// and compiles it. It reports every fault that it finds; the Program is nil when one
// of them is not a warning. It keeps filters, asserts and t, which must not be
// changed afterwards.
func New(filters []Filter, asserts []Assert, t *Topology) (*Program, []Problem) {
	return NewUntil(filters, asserts, t, nil)
}

// NewUntil is New that gives up when late says so, with a fault at the filter where it
// was. late is asked often and must not take back what it has said; nil is never late.
func NewUntil(filters []Filter, asserts []Assert, t *Topology, late func() bool) (*Program, []Problem) {
	c := &compiler{topology: t, filters: filters, fields: fieldTable(), tags: map[string]bool{}}
	p := &Program{Topology: t, Filters: filters, Asserts: asserts, names: map[string]int{}}
	var conditions, always []test
	c.uniqueNames(filters)
	for i := range filters {
		f := &filters[i]
		p.names[f.Name] = i
		if late != nil && i%32 == 0 && late() {
			return nil, append(c.list, tooLate(f.Pos, "what stands below was not compiled"))
		}
		if f.If == nil {
			c.add(f.Pos, "", fmt.Sprintf("filter %q has no condition", f.Name), "write if = true to apply it to everything")
			continue
		}
		p.rules = append(p.rules, newRule(f))
		conditions = append(conditions, c.condition(f.If))
		c.checkActions(f)
	}
	c.assert = true
	for i := range asserts {
		always = append(always, c.condition(asserts[i].Always))
	}
	p.indexInside(t)
	p.indexCustomers()
	if c.fatal() {
		return nil, c.list
	}
	for p.index == nil {
		if late != nil && late() {
			return nil, append(c.list, tooLate(lastPos(filters), "no index was made"))
		}
		p.layOut(conditions, always)
		p.index = newIndex(p, gridFrom)
	}
	return p, c.list
}

func tooLate(at Pos, what string) Problem {
	return Problem{Pos: at, Message: "time was up here: " + what, Hint: "give it more with -budget, or make the policy smaller"}
}

func lastPos(filters []Filter) Pos {
	if len(filters) == 0 {
		return Pos{}
	}
	return filters[len(filters)-1].Pos
}

// layOut makes code of the conditions, with a seed of its own for the hashes.
func (p *Program) layOut(conditions, always []test) {
	l := newLayout(maphash.MakeSeed())
	for i := range conditions {
		p.rules[i].at = l.add(&conditions[i])
	}
	p.asserts = p.asserts[:0]
	for i := range always {
		p.asserts = append(p.asserts, l.add(&always[i]))
	}
	p.code = l.done()
}

func (c *compiler) uniqueNames(filters []Filter) {
	seen := map[string]Pos{}
	for i := range filters {
		f := &filters[i]
		if f.Name == "" {
			c.add(f.Pos, "", "filter without a name", "")
			continue
		}
		if first, twice := seen[f.Name]; twice {
			c.add(f.Pos, f.Name, fmt.Sprintf("second filter %q; the first is at %s", f.Name, first), "filters are known by their names, which must differ")
			continue
		}
		seen[f.Name] = f.Pos
	}
}

func (c *compiler) checkActions(f *Filter) {
	if len(f.Do) == 0 && f.Then == nil {
		c.add(f.Pos, f.Name, fmt.Sprintf("filter %q does nothing", f.Name), "give it then = ..., or a non-final action such as log = \"...\"")
	}
	for i := range f.Do {
		a := &f.Do[i]
		switch a.Kind {
		case DoTag:
			c.tags[a.Text] = true
		case DoPool:
			c.known("pool", a.Pos, a.Text)
		case DoLimit:
			if a.Rate.Count <= 0 || a.Rate.Seconds <= 0 {
				c.add(a.Pos, "", "a limit is a positive count in a positive time", `write it as limit = "100/1m"`)
			}
		case DoCopy, DoSetRcpt:
			c.checkSink(a)
		}
	}
	if f.Then == nil {
		return
	}
	if f.Then.Kind == ThenDeliver && f.Then.Pool != "" {
		c.known("pool", f.Then.Pos, f.Then.Pool)
	}
	if f.Then.Kind == ThenReject && (f.Then.Code < 400 || f.Then.Code > 599) {
		c.add(f.Then.Pos, "", fmt.Sprintf("reject() with code %d", f.Then.Code), "a refusal is 4xx or 5xx")
	}
}

// checkSink warns of a constant recipient that nobody declared.
func (c *compiler) checkSink(a *Action) {
	if c.topology.insideFor(a.Rcpt) != "" {
		return
	}
	for _, s := range c.topology.Sinks {
		if s == a.Rcpt {
			return
		}
	}
	c.warn(a.Pos, a.Rcpt.String(), fmt.Sprintf("%s sends to %s, which is neither inside nor a declared sink", a.Kind, a.Rcpt), fmt.Sprintf("declare it: sinks = [%q]", a.Rcpt.String()))
}

func (p *Program) indexInside(t *Topology) {
	p.inside = map[string]string{}
	for i := range t.Inside {
		h := &t.Inside[i]
		for _, d := range h.Domains {
			if d.Kind == MatchDomain {
				p.inside[d.Domain] = h.Name
			} else {
				p.suffix = append(p.suffix, insideSuffix{pattern: d, host: h.Name})
			}
		}
	}
}

// indexCustomers keeps the first of a name.
func (p *Program) indexCustomers() {
	cs := p.Topology.Customers
	p.customers = make(map[string]*CustomerDef, len(cs))
	for i := len(cs) - 1; i >= 0; i-- {
		p.customers[cs[i].Name] = &cs[i]
	}
}

// InsideFor names the inside host that is the next hop of an address's domain, ""
// where its MX is. An exact domain goes before a suffix, a longer suffix before a
// shorter.
func (p *Program) InsideFor(a Address) string {
	if h, ok := p.inside[a.Domain]; ok {
		return h
	}
	best, host := -1, ""
	for i := range p.suffix {
		if s := &p.suffix[i]; s.pattern.Match(a) && len(s.pattern.Domain) > best {
			best, host = len(s.pattern.Domain), s.host
		}
	}
	return host
}

// insideFor is InsideFor before there is a Program.
func (t *Topology) insideFor(a Address) string {
	p := Program{}
	p.indexInside(t)
	return p.InsideFor(a)
}

// FilterPos gives the place of a filter, the zero Pos for the default "" and for an
// unknown name.
func (p *Program) FilterPos(name string) Pos {
	if i, ok := p.names[name]; ok {
		return p.Filters[i].Pos
	}
	return Pos{}
}

// mentions reports whether a condition reads one of the fields.
func mentions(x Expr, fields ...string) bool {
	switch x := x.(type) {
	case *Not:
		return mentions(x.X, fields...)
	case *Binary:
		return mentions(x.L, fields...) || mentions(x.R, fields...)
	case *Call:
		for _, a := range x.Args {
			if mentions(a, fields...) {
				return true
			}
		}
	case *Field:
		for _, f := range fields {
			if x.Name == f {
				return true
			}
		}
	}
	return false
}

// Mentions reports whether any filter's condition reads one of the fields.
func (p *Program) Mentions(fields ...string) bool {
	for i := range p.Filters {
		if mentions(p.Filters[i].If, fields...) {
			return true
		}
	}
	return false
}
