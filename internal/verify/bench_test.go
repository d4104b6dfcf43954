package verify_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify"
)

// lists makes policies of realistic and of hard shapes, by seed. Their last filter
// drops what strangers send, so that they are closed unless leaky.
type lists struct {
	r   *rand.Rand
	top *policy.Topology
}

func newLists(seed uint64) *lists {
	t := &policy.Topology{
		Hostname: "gw.esp.example", Accept: []policy.Pattern{{Kind: policy.MatchAll}}, DefaultPool: "p0",
		Listeners: []policy.Listener{{Name: "internet", From: policy.FromStrangers}, {Name: "submission", From: policy.FromStrangers, Auth: true},
			{Name: "injection", From: policy.FromCustomers}, {Name: "private", From: policy.FromCustomers, Auth: true}},
	}
	for i := range 8 {
		t.Pools = append(t.Pools, policy.Pool{Name: fmt.Sprintf("p%d", i)})
	}
	for i := range 20 {
		t.Customers = append(t.Customers, policy.CustomerDef{Name: fmt.Sprintf("c%d", i), Senders: []policy.Pattern{{Kind: policy.MatchAll}},
			Networks: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", i))}})
	}
	return &lists{r: rand.New(rand.NewPCG(seed, 7)), top: t}
}

func (g *lists) domains(n int) *policy.List {
	l := &policy.List{}
	for range n {
		l.Items = append(l.Items, lit(fmt.Sprintf("d%d.example", g.r.IntN(20_000))))
	}
	return l
}

// atom is one condition, of the fields that ESPs' filters look at.
func (g *lists) atom() policy.Expr {
	switch g.r.IntN(6) {
	case 0:
		return call("in", field("rcpt.domain"), g.domains(1+g.r.IntN(8)))
	case 1:
		return call("ends_with", field("rcpt.domain"), lit(fmt.Sprintf(".d%d.example", g.r.IntN(20_000))))
	case 2:
		return call("in", field("sender.domain"), g.domains(1+g.r.IntN(8)))
	case 3:
		return call("within", field("client.address"), lit(fmt.Sprintf("10.%d.%d.0/24", g.r.IntN(20), g.r.IntN(256))))
	case 4:
		return cmp(field("size"), policy.Gt, lit(int64(g.r.IntN(1000)*1024)))
	}
	return cmp(call("header", lit(fmt.Sprintf("X-Tag-%d", g.r.IntN(200)))), policy.Eq, lit("1"))
}

func (g *lists) real(n int, leaky bool) []policy.Filter {
	fs := make([]policy.Filter, 0, n)
	for i := range n - 1 {
		f := policy.Filter{Name: fmt.Sprintf("f%d", i), If: both(g.atom(), g.atom())}
		switch k := g.r.IntN(10); {
		case k < 8:
			f.If = both(cmp(field("origin"), policy.Eq, lit("customer")), f.If)
			f.Then = &policy.Final{Kind: policy.ThenDeliver, Pool: fmt.Sprintf("p%d", g.r.IntN(8))}
		default:
			f.Then = &policy.Final{Kind: policy.ThenDrop}
		}
		if leaky && i == n*9/10 {
			f.If = call("in", field("rcpt.domain"), &policy.List{Items: []policy.Expr{lit("aol.com"), lit("aim.com")}})
			f.Then = &policy.Final{Kind: policy.ThenDeliver, Pool: "p1"}
		}
		fs = append(fs, f)
	}
	return append(fs, policy.Filter{Name: "guard", If: cmp(field("origin"), policy.Eq, lit("stranger")), Then: &policy.Final{Kind: policy.ThenDrop}})
}

// headers makes overlapping filters on headers alone: a third deliver, each covered
// by the drop of all its parts' union above it.
func (g *lists) headers(n int) []policy.Filter {
	var fs []policy.Filter
	h := func() policy.Expr {
		return cmp(call("header", lit(fmt.Sprintf("X-Tag-%d", g.r.IntN(n/5)))), policy.Eq, lit("1"))
	}
	add := func(x policy.Expr, k policy.FinalKind) {
		fs = append(fs, policy.Filter{Name: fmt.Sprintf("f%d", len(fs)), If: x, Then: &policy.Final{Kind: k}})
	}
	for len(fs) < n {
		a, b, c := h(), h(), h()
		add(both(a, b), policy.ThenDrop)
		add(both(a, &policy.Not{X: b}), policy.ThenDrop)
		add(both(both(a, c), h()), policy.ThenDeliver)
	}
	return fs
}

// boxes makes overlapping boxes over recipients, senders and networks.
func (g *lists) boxes(n int) []policy.Filter {
	var fs []policy.Filter
	for i := range n - 1 {
		x := both(both(call("in", field("rcpt.domain"), g.few(6)), call("in", field("sender.domain"), g.few(6))),
			call("within", field("client.address"), lit(fmt.Sprintf("10.%d.0.0/%d", g.r.IntN(16)*16, 12))))
		k := policy.ThenDrop
		if i > n/2 && g.r.IntN(4) == 0 {
			k = policy.ThenDeliver
		}
		fs = append(fs, policy.Filter{Name: fmt.Sprintf("f%d", i), If: x, Then: &policy.Final{Kind: k}})
	}
	return fs
}

func (g *lists) few(n int) *policy.List {
	l := &policy.List{}
	for range n {
		l.Items = append(l.Items, lit(fmt.Sprintf("d%d.example", g.r.IntN(200))))
	}
	return l
}

func lit(v any) policy.Expr      { return &policy.Literal{Value: v} }
func field(n string) policy.Expr { return &policy.Field{Name: n} }
func call(n string, args ...policy.Expr) policy.Expr {
	return &policy.Call{Func: n, Args: args}
}
func cmp(l policy.Expr, op policy.Op, r policy.Expr) policy.Expr {
	return &policy.Binary{Op: op, L: l, R: r}
}
func both(l, r policy.Expr) policy.Expr { return cmp(l, policy.And, r) }

func compile(tb testing.TB, fs []policy.Filter, top *policy.Topology) *policy.Program {
	tb.Helper()
	p, problems := policy.New(fs, nil, top)
	if p == nil {
		tb.Fatal(problems)
	}
	return p
}

func BenchmarkProve(b *testing.B) {
	for _, c := range []struct {
		name string
		make func(*lists) []policy.Filter
		want verify.Status
		full bool
	}{
		{"real/n=1000", func(g *lists) []policy.Filter { return g.real(1000, false) }, verify.Closed, false},
		{"real/n=10000", func(g *lists) []policy.Filter { return g.real(10_000, false) }, verify.Closed, false},
		{"real/n=100000", func(g *lists) []policy.Filter { return g.real(100_000, false) }, verify.Closed, false},
		{"leaky-with-repair/n=1000", func(g *lists) []policy.Filter { return g.real(1000, true) }, verify.Open, true},
		{"leaky-with-repair/n=10000", func(g *lists) []policy.Filter { return g.real(10_000, true) }, verify.Open, true},
		{"headers/n=10000", func(g *lists) []policy.Filter { return g.headers(10_000) }, verify.Closed, false},
		{"boxes/n=10000", func(g *lists) []policy.Filter { return g.boxes(10_000) }, verify.Open, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := newLists(1)
			p := compile(b, c.make(g), g.top)
			b.ReportAllocs()
			for b.Loop() {
				r := verify.Check(p, verify.Options{NoWarnings: true, NoRepairs: !c.full})
				if r.Status != c.want {
					b.Fatalf("status %s, want %s", r.Status, c.want)
				}
				b.ReportMetric(float64(r.Stats.Queries), "queries/op")
			}
		})
	}
}
