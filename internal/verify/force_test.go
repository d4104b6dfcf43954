package verify_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/policy"
)

// force is brute force over all classes: every variable of a message (whose session
// it is, the two addresses, each header, ...) is cut into the classes that the
// conditions of some policies can tell apart, and the product of all classes is gone
// through. It is gone through lazily: classes are kept together until a condition has
// another answer for some of them than for others. What a condition answers, and what
// is decided, is asked of the evaluator.
type force struct {
	programs []*policy.Program
	asked    *policy.Program // whose asserts are the atoms of all conditions
	atoms    map[policy.Expr]*atomOf
	list     []*atomOf
	values   map[string][]value  // classes by variable
	texts    map[string][]string // of headers
	tied     map[string]bool     // variables that some condition compares with another
	r        *rand.Rand
	leaves   int
	exact    bool // nothing was cut short
	fault    string
}

// atomOf is a condition without junctions.
type atomOf struct {
	x     policy.Expr
	index int
	vars  []string // that it reads
	truth []bool   // of one variable's classes: its answers
}

// value is one class of one variable: how a message comes to have it. Sessions and
// addresses come in groups, which is what the door and the topology make of them.
type value struct {
	set   func(*policy.Facts)
	group string
}

// maxLeaves bounds the messages that stand for all.
const maxLeaves = 60_000

// newForce prepares the classes of the policies, which share a topology's listeners
// and hosts; exact is false where they are too many or beyond the automata.
func newForce(r *rand.Rand, ps ...*policy.Program) *force {
	b := &force{tied: map[string]bool{}, programs: ps, atoms: map[policy.Expr]*atomOf{}, values: map[string][]value{}, texts: map[string][]string{}, r: r, exact: true}
	for _, p := range ps {
		for i := range p.Filters {
			b.split(p.Filters[i].If)
		}
		for i := range p.Asserts {
			b.split(p.Asserts[i].Always)
		}
	}
	var asserts []policy.Assert
	for i, a := range b.list {
		asserts = append(asserts, policy.Assert{Name: fmt.Sprintf("atom-%d", i), Always: a.x})
	}
	filters := []policy.Filter{}
	for _, p := range ps { // what asserts may name
		for i := range p.Filters {
			if !slices.ContainsFunc(filters, func(f policy.Filter) bool { return f.Name == p.Filters[i].Name }) {
				filters = append(filters, policy.Filter{Name: p.Filters[i].Name, If: lit(true), Do: append([]policy.Action{{Kind: policy.DoLog, Text: "x"}}, p.Filters[i].Do...)})
			}
		}
	}
	var problems []policy.Problem
	if b.asked, problems = policy.New(filters, asserts, ps[0].Topology); b.asked == nil {
		panic(fmt.Sprint("atoms do not load: ", problems))
	}
	b.classes()
	return b
}

// split takes a condition apart.
func (b *force) split(x policy.Expr) {
	switch x := x.(type) {
	case *policy.Not:
		b.split(x.X)
		return
	case *policy.Binary:
		if x.Op == policy.And || x.Op == policy.Or {
			b.split(x.L)
			b.split(x.R)
			return
		}
	}
	if b.atoms[x] != nil {
		return
	}
	a := &atomOf{x: x, index: len(b.list), vars: unique(variables(x))}
	for _, v := range a.vars {
		b.tied[v] = b.tied[v] || len(a.vars) > 1
	}
	b.atoms[x] = a
	b.list = append(b.list, a)
}

// variables names what an expression reads.
func variables(x policy.Expr) []string {
	switch x := x.(type) {
	case *policy.Binary:
		return append(variables(x.L), variables(x.R)...)
	case *policy.Call:
		if x.Func == "tag" {
			return nil
		}
		if x.Func == "header" || x.Func == "has_header" {
			return []string{"header:" + strings.ToLower(x.Args[0].(*policy.Literal).Value.(string))}
		}
		return variables(x.Args[0])
	case *policy.Field:
		of, _, _ := strings.Cut(x.Name, ".")
		switch of {
		case "listener", "origin", "customer", "auth":
			return []string{"arrival"}
		case "client":
			if x.Name == "client.address" {
				return []string{"arrival"}
			}
			return []string{x.Name}
		case "decision":
			if x.Name == "decision.rcpt" {
				return []string{"rcpt"}
			}
			return nil
		}
		return []string{of}
	}
	return nil
}

// holds asks the evaluator whether an atom holds of a message, past filters that have
// changed the recipient and set tags.
func (b *force) holds(a *atomOf, f *policy.Facts, d *policy.Decision) bool {
	return b.asked.Holds(a.index, f, d) == policy.Yes
}

// reading gives the atoms that read just one variable.
func (b *force) reading(v string) []*atomOf {
	var out []*atomOf
	for _, a := range b.list {
		if len(a.vars) == 1 && a.vars[0] == v {
			out = append(out, a)
		}
	}
	return out
}

// classes makes the classes of all variables.
func (b *force) classes() {
	b.arrivals()
	b.boxes()
	b.text("client.name", func(f *policy.Facts, s string) { f.Client.Name = s })
	b.text("client.helo", func(f *policy.Facts, s string) { f.Client.Helo = s })
	results := []string{"none", "pass", "fail", "softfail", "neutral", "temperror", "permerror", "policy", ""}
	for _, v := range []struct {
		name string
		set  func(*policy.Facts, string)
	}{{"spf", func(f *policy.Facts, s string) { f.Content.SPF = s }}, {"dkim", func(f *policy.Facts, s string) { f.Content.DKIM = s }},
		{"dmarc", func(f *policy.Facts, s string) { f.Content.DMARC = s }}} {
		merge(b, v.name, results, v.set)
	}
	merge(b, "size", b.sizes(), func(f *policy.Facts, n int64) { f.Content.Size = n })
	merge(b, "now", b.times(), func(f *policy.Facts, t time.Time) { f.Now = t })
	var ts []policy.TLS
	for _, on := range []bool{false, true} {
		for _, s := range append(b.asks("tls").constants, "", "1.3") {
			ts = append(ts, policy.TLS{On: on, Version: s, Cipher: s})
		}
	}
	merge(b, "tls", ts, func(f *policy.Facts, t policy.TLS) { f.TLS = t })
}

// asks gathers what the conditions ask of a variable, whatever part of it.
func (b *force) asks(v string) (out asked) {
	for _, a := range b.list {
		if slices.Contains(a.vars, v) {
			out.safely(a.x)
		}
	}
	return out
}

// safely is question where constants may be other than texts.
func (a *asked) safely(x policy.Expr) {
	if c, ok := x.(*policy.Binary); ok {
		for _, side := range []policy.Expr{c.L, c.R} {
			if l, ok := side.(*policy.Literal); ok {
				if _, text := l.Value.(string); !text {
					return
				}
			}
		}
	}
	a.question(x)
}

// merge keeps of the candidates for a variable one for each set of answers.
func merge[T any](b *force, v string, from []T, set func(*policy.Facts, T)) {
	atoms := b.reading(v)
	seen := map[string]bool{}
	for _, x := range from {
		f := blank()
		set(f, x)
		if k := b.answers(atoms, f); !seen[k] {
			seen[k] = true
			b.values[v] = append(b.values[v], value{set: func(f *policy.Facts) { set(f, x) }})
		}
	}
}

func (b *force) answers(atoms []*atomOf, f *policy.Facts) string {
	out := make([]byte, len(atoms))
	for i, a := range atoms {
		out[i] = '0'
		if b.holds(a, f, &policy.Decision{Rcpt: f.Rcpt}) {
			out[i] = '1'
		}
	}
	return string(out)
}

// blank is a message with plain values.
func blank() *policy.Facts {
	return &policy.Facts{Client: policy.Client{Address: netip.MustParseAddr("198.51.100.7"), Helo: "host.test"},
		Sender: policy.Address{Local: "q", Domain: "q"}, Rcpt: policy.Address{Local: "q", Domain: "q"},
		Now: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC), Content: &policy.Content{Size: 2000, SPF: "none", DKIM: "none", DMARC: "none"}}
}

func (b *force) text(v string, set func(*policy.Facts, string)) {
	texts, ok := textsOf(b.asks(v), anyText(), 1)
	b.exact = b.exact && ok
	merge(b, v, texts, set)
}

func (b *force) sizes() []int64 {
	out := []int64{2000, 0}
	for _, n := range b.numbers("size") {
		out = append(out, max(n-1, 0), max(n, 0), n+1)
	}
	return out
}

// numbers gives the numbers that a variable is compared with.
func (b *force) numbers(v string) (out []int64) {
	for _, a := range b.list {
		if x, ok := a.x.(*policy.Binary); ok && slices.Contains(a.vars, v) {
			for _, side := range []policy.Expr{x.L, x.R} {
				if l, ok := side.(*policy.Literal); ok {
					if n, isInt := l.Value.(int64); isInt {
						out = append(out, n)
					} else if n, err := policy.ParseSize(fmt.Sprint(l.Value)); err == nil {
						out = append(out, n)
					}
				}
			}
		}
	}
	return out
}

// times gives, around each time that is named, every hour of a week.
func (b *force) times() []time.Time {
	named := []time.Time{time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)}
	for _, s := range b.asks("now").constants {
		if t, err := time.Parse(time.RFC3339, s); err == nil {
			named = append(named, t.Add(-1), t, t.Add(1), t.Add(-8*24*time.Hour))
		}
	}
	if len(b.reading("now")) == 0 {
		return named[:1]
	}
	out := slices.Clone(named)
	for _, t := range named {
		for h := range 7 * 24 {
			out = append(out, t.UTC().Add(time.Duration(h)*time.Hour))
		}
	}
	return out
}

// boxes makes the classes of the two addresses.
func (b *force) boxes() {
	rcpts, senders := b.boxesOf("rcpt"), b.boxesOf("sender")
	if slices.ContainsFunc(b.list, func(a *atomOf) bool { return slices.Contains(a.vars, "rcpt") && slices.Contains(a.vars, "sender") }) {
		rcpts, senders = b.crossed(rcpts, senders)
	}
	b.box("rcpt", rcpts)
	b.box("sender", append(senders, policy.Address{}))
}

func (b *force) boxesOf(of string) []policy.Address {
	all, ok := boxesOf(b.boxAsked(of), 1)
	b.exact = b.exact && ok
	return append(all, policy.Address{Local: "q", Domain: "[192.0.2.1]"})
}

// crossed gives the addresses where conditions compare the domains of both: then a
// domain has a class by what both sides make of it, with two domains each, one to be
// equal and one not.
func (b *force) crossed(rcpts, senders []policy.Address) (rs, ss []policy.Address) {
	ask, other := b.boxAsked("rcpt"), b.boxAsked("sender")
	ask.split()
	other.split()
	ask.domain.also(other.domain)
	for _, s := range slices.Concat(ask.whole.tails, other.whole.tails) {
		ask.domain.tail(s[strings.LastIndexByte(s, '@')+1:])
		b.exact = b.exact && !strings.Contains(s, "@")
	}
	domains, ok := textsOf(ask.domain, domainText(), 2)
	// An expression on a whole address ties its parts: which domains differ is not
	// known by the domains alone.
	b.exact = b.exact && ok && len(ask.whole.searches)+len(ask.whole.globs)+len(other.whole.searches)+len(other.whole.globs) == 0
	var rl, sl []string
	for _, a := range rcpts {
		rl = append(rl, a.Local)
	}
	for _, a := range senders {
		sl = append(sl, a.Local)
	}
	rl, sl = unique(rl), unique(sl)
	seen := map[string]int{}
	for _, d := range domains {
		var r, s []policy.Address
		k := ""
		for _, l := range rl {
			r = append(r, policy.Address{Local: l, Domain: d})
			k += b.made("rcpt", r[len(r)-1])
		}
		for _, l := range sl {
			s = append(s, policy.Address{Local: l, Domain: d})
			k += b.made("sender", s[len(s)-1])
		}
		if seen[k]++; seen[k] <= 2 {
			rs, ss = append(rs, r...), append(ss, s...)
		}
	}
	return rs, ss
}

// made tells what conditions and topologies make of an address.
func (b *force) made(of string, a policy.Address) string {
	f := blank()
	setBox(of)(f, a)
	k := b.group(of, a) + b.answers(b.reading(of), f)
	for _, x := range b.list { // a part of it may be compared with a header
		if len(x.vars) < 2 || !slices.Contains(x.vars, of) {
			continue
		}
		for _, v := range x.vars {
			if name, isHeader := strings.CutPrefix(v, "header:"); isHeader {
				for _, s := range []string{a.Local, a.Domain} {
					f := blank()
					f.Content.Headers = []policy.HeaderField{{Name: name, Value: s}}
					k += b.answers(b.reading(v), f)
				}
			}
		}
	}
	return k
}

func setBox(of string) func(*policy.Facts, policy.Address) {
	if of == "rcpt" {
		return func(f *policy.Facts, a policy.Address) { f.Rcpt = a }
	}
	return func(f *policy.Facts, a policy.Address) { f.Sender = a }
}

func (b *force) group(of string, a policy.Address) string {
	group := ""
	for _, p := range b.programs {
		group += standing(p, of, a) + " "
	}
	if of == "rcpt" && slices.Contains(b.rewrites(), a) {
		group += a.String() // rewritten to what it is
	}
	return group
}

func (b *force) box(of string, all []policy.Address) {
	set := setBox(of)
	crossed := b.tied["rcpt"] && b.tied["sender"]
	seen := map[string]bool{}
	for _, a := range all {
		k := b.made(of, a)
		if crossed {
			k += a.Domain
		}
		if !seen[k] {
			seen[k] = true
			b.values[of] = append(b.values[of], value{func(f *policy.Facts) { set(f, a) }, b.group(of, a)})
		}
	}
}

// rewrites gives the recipients that filters put in place of others, where two
// policies are compared: one may leave what the other rewrites to.
func (b *force) rewrites() (out []policy.Address) {
	if len(b.programs) < 2 {
		return nil
	}
	for _, p := range b.programs {
		for i := range p.Filters {
			for _, a := range p.Filters[i].Do {
				if a.Kind == policy.DoSetRcpt {
					out = append(out, a.Rcpt)
				}
			}
		}
	}
	return out
}

// standing tells what the topology makes of an address.
func standing(p *policy.Program, of string, a policy.Address) string {
	if of == "rcpt" {
		return fmt.Sprint(accepted(p, &policy.Facts{Rcpt: a}), slices.Contains(p.Topology.Reports, a), slices.Contains(p.Topology.Postmasters, a), p.InsideFor(a), p.Topology.DeclaredSink(a))
	}
	out := ""
	for _, c := range p.Topology.Customers {
		out += fmt.Sprint(slices.ContainsFunc(c.Senders, func(p policy.Pattern) bool { return p.Match(a) }), a == policy.Address{})
	}
	return out
}

// boxAsked gathers what is asked of an address by conditions and topologies.
func (b *force) boxAsked(of string) (out boxAsked) {
	for _, a := range b.list {
		for _, side := range sides(a.x) {
			f, ok := side.(*policy.Field)
			if !ok || !strings.HasPrefix(f.Name+".", of+".") && !(of == "rcpt" && f.Name == "decision.rcpt") {
				continue
			}
			switch f.Name {
			case of + ".local":
				out.local.question(a.x)
			case of + ".domain":
				out.domain.question(a.x)
			default:
				out.whole.question(a.x)
			}
		}
	}
	if of == "rcpt" {
		for _, a := range b.rewrites() {
			out.address(a)
		}
	}
	for _, p := range b.programs {
		t := p.Topology
		if of == "sender" {
			for _, c := range t.Customers {
				out.patterns(c.Senders)
			}
			continue
		}
		out.patterns(t.Accept)
		for _, h := range t.Inside {
			out.patterns(h.Domains)
		}
		for _, a := range slices.Concat(t.Reports, t.Sinks, t.Postmasters) {
			out.address(a)
		}
	}
	return out
}

func sides(x policy.Expr) []policy.Expr {
	switch x := x.(type) {
	case *policy.Binary:
		return []policy.Expr{x.L, x.R}
	case *policy.Call:
		return x.Args
	}
	return nil
}
