package verify_test

import (
	"net/netip"
	"testing"
	"time"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify"
)

func bin(l policy.Expr, op policy.Op, r policy.Expr) policy.Expr {
	return &policy.Binary{L: l, Op: op, R: r}
}

func is(n, s string) policy.Expr    { return bin(field(n), policy.Eq, lit(s)) }
func isNot(n, s string) policy.Expr { return bin(field(n), policy.Ne, lit(s)) }

func on(f, n string, v string) policy.Expr {
	return &policy.Call{Func: f, Args: []policy.Expr{field(n), lit(v)}}
}

func oneOf(n string, vs ...string) policy.Expr {
	l := &policy.List{}
	for _, v := range vs {
		l.Items = append(l.Items, lit(v))
	}
	return &policy.Call{Func: "in", Args: []policy.Expr{field(n), l}}
}

func relay(x policy.Expr) policy.Filter {
	return policy.Filter{Name: "relay", If: x, Then: &policy.Final{Kind: policy.ThenDeliver}}
}

func refuse(x policy.Expr) policy.Filter {
	return policy.Filter{Name: "refuse", If: x, Then: &policy.Final{Kind: policy.ThenReject, Code: 550}}
}

func box(local, domain string) policy.Address { return policy.Address{Local: local, Domain: domain} }

// everything is a topology that accepts everything, so that one delivering filter relays.
func everything() *policy.Topology {
	return &policy.Topology{Hostname: "gw.esp.example", DefaultPool: "p", Pools: []policy.Pool{{Name: "p"}},
		Listeners: []policy.Listener{{Name: "l", From: policy.FromStrangers}}, Accept: []policy.Pattern{{Kind: policy.MatchAll}}}
}

func stranger(from, to policy.Address) *policy.Facts {
	return &policy.Facts{Listener: "l", Origin: policy.Stranger, Client: policy.Client{Address: netip.MustParseAddr("198.51.100.7")},
		Sender: from, Rcpt: to, Now: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC), Content: &policy.Content{Size: 1}}
}

func inHeader(f, name, v string) policy.Expr {
	return &policy.Call{Func: f, Args: []policy.Expr{&policy.Call{Func: "header", Args: []policy.Expr{lit(name)}}, lit(v)}}
}

func headed(f *policy.Facts, name, value string) *policy.Facts {
	f.Content.Headers = append(f.Content.Headers, policy.HeaderField{Name: name, Value: value})
	return f
}

// TestStrangerIsFound holds policies that once were called closed, or unknown, and
// relay the message beside them.
func TestStrangerIsFound(t *testing.T) {
	a, v := box("a", "a.example"), box("v", "victim.example")
	for _, c := range []struct {
		name    string
		message *policy.Facts
		filters []policy.Filter
		hard    bool // it may be unknown
	}{
		{"no occurrence of a header that a glob would match whatever it is", headed(stranger(a, v), "x-a", "1"), []policy.Filter{
			refuse(inHeader("glob", "Subject", "*")),
			relay(bin(bin(inHeader("matches", "Subject", `aol\.com$`), policy.And, inHeader("matches", "X-Job", "x*")), policy.Or, inHeader("matches", "X-A", "x*"))),
		}, false},
		{"null sender beside a named local part", stranger(policy.Address{}, v), []policy.Filter{refuse(is("sender.local", "postmaster")), relay(is("sender", ""))}, false},
		{"null sender whose local part is not", stranger(policy.Address{}, v), []policy.Filter{relay(both(is("sender.domain", ""), isNot("sender.local", "a")))}, false},
		{"null sender by local part", stranger(policy.Address{}, v), []policy.Filter{relay(both(is("sender.local", ""), on("matches", "sender.address", "^$")))}, false},
		{"null sender by expression", stranger(policy.Address{}, v), []policy.Filter{relay(both(on("matches", "sender.address", "^$"), isNot("sender.local", "a")))}, false},
		{"null sender by length", stranger(policy.Address{}, v), []policy.Filter{relay(both(is("sender", ""), on("matches", "sender.local", "^$")))}, false},
		{"suffix of a dot alone", stranger(a, v), []policy.Filter{relay(both(oneOf("rcpt.domain", "victim.example", "b.example"), bin(both(on("ends_with", "rcpt.domain", "."), is("rcpt.local", "v")), policy.Or, is("rcpt.local", "no"))))}, false},
		{"suffix of a dot alone on an address", stranger(a, v), []policy.Filter{relay(both(oneOf("rcpt.domain", "victim.example", "b.example"), on("ends_with", "rcpt", ".")))}, false},
		{"merged domains and an expression on the address", stranger(a, v), []policy.Filter{relay(both(oneOf("rcpt.domain", "a.example", "victim.example"), on("matches", "rcpt.address", `@victim\.example$`)))}, false},
		{"merged local parts and an expression on the address", stranger(a, v), []policy.Filter{relay(both(oneOf("rcpt.local", "a", "v"), on("matches", "rcpt.address", `^v@`)))}, false},
		{"suffix of a local part and an expression on the address", stranger(a, box("xzv", "victim.example")), []policy.Filter{relay(both(on("ends_with", "rcpt.local", "zv"), on("matches", "rcpt.address", `^[^@]{3}@`)))}, false},
		{"an expression on the domain and one on the address", stranger(a, v), []policy.Filter{relay(both(on("matches", "rcpt.domain", `^v.*m\.e`), on("matches", "rcpt.address", `^[uv]@[^.]*\.example$`)))}, false},
		{"local part with an at sign", stranger(a, box("x@y", "victim.example")), []policy.Filter{relay(both(on("ends_with", "rcpt", "@y@victim.example"), on("matches", "rcpt.local", "@")))}, false},
		{"two comparisons of facts", stranger(a, v), []policy.Filter{refuse(bin(field("sender.domain"), policy.Eq, field("rcpt.domain"))), relay(bin(field("sender.local"), policy.Ne, field("rcpt.local")))}, false},
		{"one comparison before and after a rewrite", stranger(a, box("v", "a.example")), []policy.Filter{
			refuse(bin(field("sender.domain"), policy.Ne, field("rcpt.domain"))),
			{Name: "to", If: lit(true), Do: []policy.Action{{Kind: policy.DoSetRcpt, Rcpt: box("w", "other.example")}}},
			relay(bin(field("sender.domain"), policy.Ne, field("rcpt.domain")))}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, problems := policy.New(c.filters, nil, everything())
			if p == nil {
				t.Fatal(problems)
			}
			if d, _ := policy.Eval(p, c.message); d.Disposition != policy.Deliver {
				t.Fatalf("the message is not relayed: %+v", d)
			}
			r := verify.Check(p, verify.Options{NoWarnings: true, NoRepairs: true})
			if s := r.Claims[0].Status; s != verify.Open && !(c.hard && s == verify.Unknown) {
				t.Errorf("%s is %s: %+v", r.Claims[0].Code, s, r.Findings)
			}
			if s := disagreement(p, r, byForce(p, []*policy.Facts{c.message})); s != "" && !c.hard {
				t.Error(s)
			}
		})
	}
}

// TestUnknownHidesNothing holds asserts of which one fate is unknown and a later one
// open.
func TestUnknownHidesNothing(t *testing.T) {
	p, problems := policy.New([]policy.Filter{
		{Name: "unknown", If: never(), Then: &policy.Final{Kind: policy.ThenDrop}},
		relay(lit(true)),
	}, []policy.Assert{{Name: "refused", Always: is("decision.disposition", "refused")}}, everything())
	if p == nil {
		t.Fatal(problems)
	}
	for _, f := range verify.Check(p, verify.Options{NoWarnings: true, NoRepairs: true}).Findings {
		if f.Code == verify.AssertHolds {
			if f.Status != verify.Open || f.Filter != "relay" {
				t.Errorf("%s %s: %s", f.Status, f.Filter, f.Message)
			}
			return
		}
	}
	t.Error("the assert is called closed")
}

// never compares two facts that it holds to different values, which the prover does
// not know.
func never() policy.Expr {
	return both(bin(field("sender.domain"), policy.Eq, field("rcpt.domain")), both(is("sender.domain", "a.example"), is("rcpt.domain", "b.example")))
}

// TestSinkHasPlace holds PV007 to the place of the sink that it is about.
func TestSinkHasPlace(t *testing.T) {
	top := everything()
	top.Sinks = []policy.Address{box("ok", "partner.example"), box("a%victim.example", "partner.example")}
	top.SinkPos = []policy.Pos{{File: "x.hcl", Line: 1}, {File: "x.hcl", Line: 2}}
	p, problems := policy.New([]policy.Filter{refuse(lit(true))}, nil, top)
	if p == nil {
		t.Fatal(problems)
	}
	for _, f := range verify.Check(p, verify.Options{NoWarnings: true}).Findings {
		if f.Code == verify.AddressReadings && f.Pos == top.SinkPos[1] {
			return
		}
	}
	t.Error("no finding at the second sink")
}

// TestPostmasterIsRead holds PV007 to the address that mail for the postmaster goes to
// without a filter being asked: where a host gets it, and not where it is held.
func TestPostmasterIsRead(t *testing.T) {
	for _, c := range []struct {
		name, local string
		resends     bool
		want        int
	}{
		{"plain", "ops", false, 0},
		{"with another reading", "ops%victim.example", false, 1},
		{"held", "ops%victim.example", true, 0},
	} {
		top := everything()
		top.Inside = []policy.InsideHost{{Name: "room", Domains: []policy.Pattern{{Kind: policy.MatchDomain, Domain: "mail.example"}}, Resends: c.resends}}
		top.Postmasters, top.Postmaster = []policy.Address{box("postmaster", "gw.example")}, box(c.local, "mail.example")
		top.PostmasterPos = policy.Pos{File: "x.hcl", Line: 3}
		p, problems := policy.New([]policy.Filter{refuse(lit(true))}, nil, top)
		if p == nil {
			t.Fatal(problems)
		}
		n := 0
		for _, f := range verify.Check(p, verify.Options{NoWarnings: true}).Findings {
			if f.Code == verify.AddressReadings && f.Pos == top.PostmasterPos {
				n++
			}
		}
		if n != c.want {
			t.Errorf("%s: %d findings, want %d", c.name, n, c.want)
		}
	}
}

// TestEnough holds the search for warnings to its end, and to what it says of it.
func TestEnough(t *testing.T) {
	var filters []policy.Filter
	for _, name := range []string{"a", "b", "c", "d"} {
		f := refuse(is("rcpt.domain", name+".example"))
		f.Name = name
		filters = append(filters, f)
	}
	filters[3].If = is("rcpt.domain", "a.example") // shadowed
	p, problems := policy.New(filters, nil, everything())
	if p == nil {
		t.Fatal(problems)
	}
	for _, most := range []int{2, 100} {
		asked := 0
		r := verify.Check(p, verify.Options{Enough: func() bool { asked++; return asked > most }})
		warned := false
		for _, f := range r.Findings {
			warned = warned || f.Code == verify.ShadowedFilter
		}
		if cut := len(r.Cut) > 0; cut == warned || cut != (most == 2) {
			t.Errorf("enough after %d: cut %+v, warned %v", most, r.Cut, warned)
		}
		if most == 2 && r.Cut[0].Seen != 2 {
			t.Errorf("%+v", r.Cut)
		}
	}
}
