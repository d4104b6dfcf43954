package policytest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"postern.dev/postern/internal/policy"
)

// Params bounds what Random grows. A bound that is zero leaves the thing out.
type Params struct {
	Listeners int // at most so many, at least one of each kind of trust where it is 2 or more
	Customers int
	Inside    int // inside hosts
	Pools     int
	Filters   int // at most
	Asserts   int // at most
	Depth     int // of nested conditions
	// Content lets conditions read what is known at the end of DATA only.
	Content bool
	// Regexps lets conditions use matches() and glob().
	Regexps bool
	// Rewrites lets filters set recipients, copy and tag.
	Rewrites bool
}

// Small is for brute force: few names, short lists, shallow conditions.
func Small() Params {
	return Params{Listeners: 2, Customers: 1, Inside: 1, Pools: 2, Filters: 6, Asserts: 2, Depth: 2, Content: true, Regexps: true, Rewrites: true}
}

// Wide is for differential tests: everything that the language has.
func Wide() Params {
	return Params{Listeners: 4, Customers: 3, Inside: 3, Pools: 3, Filters: 24, Asserts: 3, Depth: 4, Content: true, Regexps: true, Rewrites: true}
}

// Policy is a random policy, which loads.
type Policy struct {
	Program *policy.Program
	words   words
}

// Random grows a policy. It panics where policy.New refuses what it has grown: that
// is a fault of this package.
func Random(r *rand.Rand, p Params) *Policy {
	g := grower{r: r, p: p}
	t := g.topology()
	filters := g.filters()
	asserts := g.asserts(filters)
	program, problems := policy.New(filters, asserts, t)
	if program == nil {
		panic(fmt.Sprintf("policytest: a policy that does not load: %v", problems))
	}
	out := &Policy{Program: program, words: defaultWords()}
	out.words.gather(program)
	return out
}

// grower makes the parts of one policy.
type grower struct {
	r    *rand.Rand
	p    Params
	top  *policy.Topology
	tags []string // that filters above set
}

// Names that everything is drawn from. They are few and close to each other, so that
// filters overlap and near misses are near.
func domains() []string {
	return []string{"aol.com", "mx.aol.com", "evilaol.com", "b.example", "in.esp.example", "x.in.esp.example",
		"replies.esp.example", "bounce.esp.example", "news.acme.example", "example"}
}

func suffixes() []string {
	return []string{".aol.com", ".com", "aol.com", ".esp.example", ".example", "example"}
}

func locals() []string { return []string{"a", "sales", "bounce+7", "postmaster"} }

func networks() []string {
	return []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.9.0.7", "192.0.2.0/24", "192.0.2.9", "2001:db8::/32", "0.0.0.0/0"}
}

func headerNames() []string { return []string{"Subject", "X-Job", "X-A"} }

func headerValues() []string { return []string{"1", "2", "Hello", "invoice 17", "INVOICE", ""} }

func expressions() []string {
	return []string{`(?i)invoice`, `invoice [0-9]+$`, `^Hello`, `(?i)hel+o|inv`, `[12]`, `^$`, `x*`, `aol\.com$`, `^(sales|bounce)`, `^a@[a-z]+\.`, `(?i:K)elvin|s`}
}

func globs() []string { return []string{"*.com", "a*", "*aol*", "?", "*", "10?"} }

func one[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

func some[T any](r *rand.Rand, of []T, most int) []T {
	var out []T
	for range 1 + r.IntN(most) {
		out = append(out, one(r, of))
	}
	return out
}

func (g *grower) topology() *policy.Topology {
	t := &policy.Topology{Hostname: "gw.esp.example", DefaultPool: "p0"}
	g.top = t
	for i := range max(1, g.p.Listeners) {
		l := policy.Listener{Name: fmt.Sprintf("l%d", i), From: policy.FromStrangers, Auth: g.r.IntN(2) == 0}
		if i%2 == 1 {
			l.From = policy.FromCustomers
		}
		t.Listeners = append(t.Listeners, l)
	}
	for i := range max(1, g.p.Pools) {
		t.Pools = append(t.Pools, policy.Pool{Name: fmt.Sprintf("p%d", i), Sources: []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, byte(i + 1)})}})
	}
	for i := range g.p.Customers {
		c := policy.CustomerDef{Name: fmt.Sprintf("c%d", i), Networks: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i + 1), 0, 0}), 16)},
			Users: []string{fmt.Sprintf("u%d", i)}}
		if g.r.IntN(2) == 0 {
			c.Senders = g.patterns(2)
		}
		if g.r.IntN(3) == 0 {
			c.Pool = one(g.r, t.Pools).Name
		}
		t.Customers = append(t.Customers, c)
	}
	g.inside()
	t.Accept = g.patterns(3)
	if g.r.IntN(2) == 0 {
		t.Accept = append(t.Accept, policy.Pattern{Kind: policy.MatchAll})
	}
	if g.r.IntN(2) == 0 {
		t.Reports = append(t.Reports, policy.Address{Local: "fbl", Domain: one(g.r, domains())})
	}
	if g.r.IntN(2) == 0 {
		t.Sinks = append(t.Sinks, g.address())
	}
	if g.r.IntN(3) == 0 {
		t.Postmasters, t.Postmaster = append(t.Postmasters, policy.Address{Local: "postmaster", Domain: one(g.r, domains())}), g.address()
	}
	return t
}

// inside gives each domain to one host at most.
func (g *grower) inside() {
	own := []string{"replies.esp.example", "in.esp.example", ".in.esp.example", ".acme.example", "b.example"}
	for i := range min(g.p.Inside, len(own)) {
		h := policy.InsideHost{Name: fmt.Sprintf("h%d", i), Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(7 + i)}), 25),
			Resends: g.r.IntN(3) == 0}
		for j := i; j < len(own); j += g.p.Inside {
			h.Domains = append(h.Domains, pattern(own[j]))
		}
		g.top.Inside = append(g.top.Inside, h)
	}
}

func pattern(s string) policy.Pattern {
	p, err := policy.ParsePattern(s, policy.Pos{})
	if err != nil {
		panic(fmt.Sprintf("policytest: pattern %q: %v", s, err))
	}
	return p
}

func (g *grower) patterns(most int) []policy.Pattern {
	var out []policy.Pattern
	for range 1 + g.r.IntN(most) {
		s := one(g.r, domains())
		switch g.r.IntN(5) {
		case 0:
			s = "." + s
		case 1:
			s = one(g.r, locals()) + "@" + s
		}
		out = append(out, pattern(s))
	}
	return out
}

func (g *grower) address() policy.Address {
	return policy.Address{Local: one(g.r, locals()), Domain: one(g.r, domains())}
}

func (g *grower) filters() []policy.Filter {
	var out []policy.Filter
	for i := range 1 + g.r.IntN(max(1, g.p.Filters)) {
		f := policy.Filter{Name: fmt.Sprintf("f%d", i), Pos: policy.Pos{File: "random.hcl", Line: i + 1, Column: 1}, If: g.condition(g.p.Depth, false)}
		if g.r.IntN(4) > 0 {
			f.Then = g.final()
		}
		if f.Then == nil || g.r.IntN(4) == 0 {
			f.Do = g.actions(f.Then == nil)
		}
		out = append(out, f)
	}
	return out
}

func (g *grower) final() *policy.Final {
	kinds := []policy.FinalKind{policy.ThenDeliver, policy.ThenDeliver, policy.ThenReject, policy.ThenReject, policy.ThenDrop,
		policy.ThenHold, policy.ThenBounce, policy.ThenSkip}
	t := &policy.Final{Kind: one(g.r, kinds)}
	switch t.Kind {
	case policy.ThenDeliver:
		if g.r.IntN(2) == 0 {
			t.Pool = one(g.r, g.top.Pools).Name
		}
	case policy.ThenReject:
		t.Code, t.Text = one(g.r, []int{550, 554, 450}), "no"
	}
	return t
}

func (g *grower) actions(atLeastOne bool) []policy.Action {
	var out []policy.Action
	for range g.r.IntN(3) {
		out = append(out, g.action())
	}
	if atLeastOne && len(out) == 0 {
		out = append(out, g.action())
	}
	return out
}

func (g *grower) action() policy.Action {
	kinds := 4
	if g.p.Rewrites {
		kinds = 8
	}
	switch g.r.IntN(kinds) {
	case 0:
		return policy.Action{Kind: policy.DoLog, Text: one(g.r, locals())}
	case 1:
		return policy.Action{Kind: policy.DoPool, Text: one(g.r, g.top.Pools).Name}
	case 2:
		return policy.Action{Kind: policy.DoLimit, Rate: policy.Rate{Count: 1 + g.r.IntN(9), Seconds: 60}}
	case 3:
		return policy.Action{Kind: policy.DoSetHeader, Name: one(g.r, headerNames()), Text: one(g.r, headerValues())}
	case 4:
		return policy.Action{Kind: policy.DoCopy, Rcpt: g.address()}
	case 5:
		return policy.Action{Kind: policy.DoSetRcpt, Rcpt: g.address()}
	}
	tag := one(g.r, []string{"vip", "bulk"})
	g.tags = append(g.tags, tag)
	return policy.Action{Kind: policy.DoTag, Text: tag}
}

// asserts read the decision as well as the facts.
func (g *grower) asserts(filters []policy.Filter) []policy.Assert {
	var out []policy.Assert
	for i := range g.p.Asserts {
		if g.r.IntN(2) == 0 {
			continue
		}
		var about policy.Expr
		switch g.r.IntN(4) {
		case 0:
			about = binary(Field("decision.pool"), policy.Ne, Literal(one(g.r, g.top.Pools).Name))
		case 1:
			about = binary(Field("decision.disposition"), policy.Ne, Literal(string(one(g.r, []policy.Disposition{policy.Deliver, policy.Drop, policy.Bounce}))))
		case 2:
			about = binary(Field("decision.filter"), policy.Ne, Literal(one(g.r, filters).Name))
		default:
			about = call("in", Field("decision.rcpt"), list(g.address().String(), g.address().String()))
		}
		out = append(out, policy.Assert{Name: fmt.Sprintf("a%d", i), Pos: policy.Pos{File: "random.hcl", Line: 1000 + i, Column: 1},
			Always: binary(about, policy.Or, g.condition(g.p.Depth, true))})
	}
	return out
}
