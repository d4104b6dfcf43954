package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
)

// Short spellings for trees.
func lit(v any) policy.Expr { return &policy.Literal{Value: v} }
func field(n string) policy.Expr {
	return &policy.Field{Name: n}
}
func bin(l policy.Expr, op policy.Op, r policy.Expr) policy.Expr {
	return &policy.Binary{L: l, Op: op, R: r}
}
func call(f string, args ...policy.Expr) policy.Expr { return &policy.Call{Func: f, Args: args} }
func list(vs ...string) policy.Expr {
	l := &policy.List{}
	for _, v := range vs {
		l.Items = append(l.Items, lit(v))
	}
	return l
}
func not(x policy.Expr) policy.Expr { return &policy.Not{X: x} }
func header(n string) policy.Expr   { return call("header", lit(n)) }

func domainPattern(t testing.TB, ss ...string) []policy.Pattern {
	t.Helper()
	var ps []policy.Pattern
	for _, s := range ss {
		p, err := policy.ParsePattern(s, policy.Pos{})
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	return ps
}

// esp is the topology of the 2008 sender: everything is accepted at the door.
func esp(t testing.TB) *policy.Topology {
	return &policy.Topology{
		Hostname: "gw.esp.example",
		Listeners: []policy.Listener{{Name: "internet", From: policy.FromStrangers},
			{Name: "injection", From: policy.FromCustomers}},
		Accept:  domainPattern(t, "*"),
		Reports: []policy.Address{{Local: "fbl", Domain: "fbl.esp.example"}},
		Customers: []policy.CustomerDef{{Name: "acme", Networks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
			Senders: domainPattern(t, "news.acme.example")}},
		Inside: []policy.InsideHost{{Name: "mailroom", Address: netip.MustParseAddrPort("10.9.0.7:25"),
			Domains: domainPattern(t, "replies.esp.example", ".in.esp.example")}},
		Pools:       []policy.Pool{{Name: "general"}, {Name: "aol"}},
		DefaultPool: "general",
	}
}

func aolRange(then policy.FinalKind) policy.Filter {
	return policy.Filter{Name: "aol-range", If: call("in", field("rcpt.domain"), list("aol.com", "aim.com")),
		Then: &policy.Final{Kind: then, Pool: "aol"}}
}

func dropInternet() policy.Filter {
	return policy.Filter{Name: "drop-internet-bounces", If: bin(field("listener"), policy.Eq, lit("internet")),
		Do: []policy.Action{{Kind: policy.DoLog, Text: "bounce"}}, Then: &policy.Final{Kind: policy.ThenDrop}}
}

func mustNew(t testing.TB, top *policy.Topology, fs ...policy.Filter) *policy.Program {
	t.Helper()
	p, problems := policy.New(fs, nil, top)
	if p == nil {
		t.Fatalf("policy does not load: %v", problems)
	}
	return p
}

func stranger(rcpt string) *policy.Facts {
	a, _ := policy.ParseAddress(rcpt)
	return &policy.Facts{Listener: "internet", Origin: policy.Stranger, Rcpt: a, Sender: policy.Address{Local: "x", Domain: "evil.example"},
		Client: policy.Client{Address: netip.MustParseAddr("198.51.100.7")}, Now: time.Unix(1.2e9, 0), Content: &policy.Content{}}
}

func acme(rcpt string) *policy.Facts {
	f := stranger(rcpt)
	f.Listener, f.Origin, f.Customer = "injection", policy.Customer, "acme"
	f.Sender = policy.Address{Local: "n", Domain: "news.acme.example"}
	return f
}

// TestOrderDecides re-enacts the leak: the same two filters, in both orders.
func TestOrderDecides(t *testing.T) {
	leaky := mustNew(t, esp(t), aolRange(policy.ThenDeliver), dropInternet())
	repaired := mustNew(t, esp(t), dropInternet(), aolRange(policy.ThenDeliver))
	for _, c := range []struct {
		name   string
		p      *policy.Program
		f      *policy.Facts
		want   policy.Disposition
		filter string
		pool   string
	}{
		{"stranger to aol, leaky order", leaky, stranger("v@aol.com"), policy.Deliver, "aol-range", "aol"},
		{"stranger elsewhere, leaky order", leaky, stranger("v@other.example"), policy.Drop, "drop-internet-bounces", ""},
		{"stranger to aol, repaired", repaired, stranger("v@aol.com"), policy.Drop, "drop-internet-bounces", ""},
		{"customer to aol, repaired", repaired, acme("v@aol.com"), policy.Deliver, "aol-range", "aol"},
		{"customer elsewhere", repaired, acme("v@other.example"), policy.Deliver, "", "general"},
		{"report address", leaky, stranger("fbl@fbl.esp.example"), policy.Consume, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, _ := policy.Eval(c.p, c.f)
			if d.Disposition != c.want || d.Filter != c.filter || d.Pool != c.pool {
				t.Errorf("got %s by %q over %q, want %s by %q over %q", d.Disposition, d.Filter, d.Pool, c.want, c.filter, c.pool)
			}
		})
	}
}

func TestRelaysIsTheDefinition(t *testing.T) {
	p := mustNew(t, esp(t))
	for _, c := range []struct {
		name   string
		origin policy.Origin
		rcpt   string
		inside string
		want   bool
	}{
		{"stranger to the world", policy.Stranger, "a@aol.com", "", true},
		{"stranger to an inside host of the domain", policy.Stranger, "a@replies.esp.example", "mailroom", false},
		{"stranger to a subdomain of a suffix", policy.Stranger, "a@x.in.esp.example", "mailroom", false},
		{"the apex is not under its suffix", policy.Stranger, "a@in.esp.example", "mailroom", true},
		{"stranger to an inside host of another domain", policy.Stranger, "a@aol.com", "mailroom", true},
		{"stranger to the MX of an inside domain", policy.Stranger, "a@replies.esp.example", "", true},
		{"customer anywhere", policy.Customer, "a@aol.com", "", false},
		{"inside host anywhere", policy.Inside, "a@aol.com", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := policy.ParseAddress(c.rcpt)
			if got := p.Relays(c.origin, a, c.inside); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	p := mustNew(t, esp(t))
	inside := stranger("a@aol.com")
	inside.Origin = policy.Inside
	foreign := acme("a@aol.com")
	foreign.Sender.Domain = "other.example"
	null := acme("a@aol.com")
	null.Sender = policy.Address{}
	closed := esp(t)
	closed.Accept = domainPattern(t, "bounce.esp.example")
	for _, c := range []struct {
		name string
		p    *policy.Program
		f    *policy.Facts
		want policy.Disposition
	}{
		{"stranger", p, stranger("a@aol.com"), policy.Refused},
		{"inside host", p, inside, policy.Refused},
		{"customer", p, acme("a@aol.com"), policy.Deliver},
		{"customer with another's sender domain", p, foreign, policy.Refused},
		{"customer with the null reverse-path", p, null, policy.Deliver},
		{"stranger not at the door", mustNew(t, closed, policy.Filter{Name: "all", If: lit(true), Then: &policy.Final{Kind: policy.ThenDeliver}}),
			stranger("a@aol.com"), policy.Refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d, _ := policy.Eval(c.p, c.f); d.Disposition != c.want {
				t.Errorf("got %s %q, want %s", d.Disposition, d.Text, c.want)
			}
		})
	}
}

// TestConditions runs one condition for one message.
func TestConditions(t *testing.T) {
	f := stranger("User+tag@Sub.AOL.com.")
	f.Rcpt, _ = policy.Normalise(smtp.Path{Local: "User+tag", Domain: "Sub.AOL.com."})
	f.Client = policy.Client{Address: netip.MustParseAddr("192.0.2.9"), Name: "mail.evil.example", Helo: "mail"}
	f.TLS = policy.TLS{On: true, Version: "1.3"}
	f.Content = &policy.Content{Size: 2048, SPF: "fail", Headers: []policy.HeaderField{{Name: "subject", Value: "Hello"},
		{Name: "x-a", Value: "1"}, {Name: "x-a", Value: "2"}}}
	for _, c := range []struct {
		name string
		x    policy.Expr
		want policy.Result
	}{
		{"domain equality", bin(field("rcpt.domain"), policy.Eq, lit("sub.aol.com")), policy.Yes},
		{"literals are normalised", bin(field("rcpt.domain"), policy.Eq, lit("SUB.aol.com.")), policy.Yes},
		{"address", bin(field("rcpt"), policy.Eq, lit("user+tag@sub.aol.com")), policy.Yes},
		{"local part in lower case", bin(field("rcpt.local"), policy.Eq, lit("User+Tag")), policy.Yes},
		{"ends_with", call("ends_with", field("rcpt.domain"), lit(".aol.com")), policy.Yes},
		{"ends_with is plain", call("ends_with", field("rcpt.domain"), lit("ol.com")), policy.Yes},
		{"glob", call("glob", field("rcpt.domain"), lit("*.aol.*")), policy.Yes},
		{"glob is the whole", call("glob", field("rcpt.domain"), lit("aol*")), policy.No},
		{"matches searches", call("matches", field("client.name"), lit("evil")), policy.Yes},
		{"within", call("within", field("client.address"), lit("192.0.2.0/24")), policy.Yes},
		{"in networks", call("in", field("client.address"), list("10.0.0.0/8", "192.0.2.9")), policy.Yes},
		{"size as a number", bin(field("size"), policy.Gt, lit(int64(2047))), policy.Yes},
		{"size with a unit", bin(field("size"), policy.Le, lit("2KiB")), policy.Yes},
		{"swapped operands", bin(lit(int64(10)), policy.Lt, field("size")), policy.Yes},
		{"tls", field("tls.on"), policy.Yes},
		{"time", bin(field("now"), policy.Lt, lit("2026-01-01T00:00:00Z")), policy.Yes},
		{"spf", bin(field("spf"), policy.Eq, lit("fail")), policy.Yes},
		{"header one of several", bin(header("X-A"), policy.Eq, lit("2")), policy.Yes},
		{"header differs in one", bin(header("X-A"), policy.Ne, lit("2")), policy.Yes},
		{"absent header is false", bin(header("X-B"), policy.Ne, lit("2")), policy.No},
		{"has_header", call("has_header", lit("subject")), policy.Yes},
		{"header is case-sensitive in its value", bin(header("Subject"), policy.Eq, lit("hello")), policy.No},
		{"two fields", bin(field("sender.domain"), policy.Ne, field("rcpt.domain")), policy.Yes},
		{"and", bin(field("tls.on"), policy.And, lit(false)), policy.No},
		{"or", bin(lit(false), policy.Or, field("tls.on")), policy.Yes},
		{"not", not(field("tls.on")), policy.No},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := mustNew(t, esp(t), policy.Filter{Name: "f", If: c.x, Then: &policy.Final{Kind: policy.ThenDrop}})
			_, trace := policy.Explain(p, f)
			if trace[0].Result != c.want {
				t.Errorf("got %v, want %v", trace[0].Result, c.want)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	deep := call("within", field("client.address"), lit("10.0.0.1/8"))
	for _, c := range []struct {
		name    string
		x       policy.Expr
		message string
		hint    string
	}{
		{"unknown field", bin(field("rcpt.domian"), policy.Eq, lit("a")), `unknown field "rcpt.domian"`, `did you mean "rcpt.domain"?`},
		{"unknown function", call("match", field("rcpt"), lit("a")), `unknown function "match"`, `did you mean "matches"?`},
		{"unknown listener", bin(field("listener"), policy.Eq, lit("internets")), `unknown listener "internets"`, `did you mean "internet"?`},
		{"unknown origin", bin(field("origin"), policy.Eq, lit("custommer")), `unknown origin "custommer"`, `did you mean "customer"?`},
		{"self is no origin of a filter", bin(field("origin"), policy.Eq, lit("self")), `unknown origin "self"`, ""},
		{"bad expression", call("matches", field("rcpt"), lit("(")), "bad regular expression", "RE2"},
		{"ordering of text", bin(field("rcpt.domain"), policy.Lt, lit("a")), "cannot be ordered", ""},
		{"number with text", bin(field("size"), policy.Gt, lit("much")), "a number is compared with a string", "10MiB"},
		{"host bits", deep, "not an IP address or network", ""},
		{"text as condition", field("rcpt.domain"), "rcpt.domain is a domain, not a condition", ""},
		{"header as condition", header("X"), "not a condition", "has_header"},
		{"decision outside an assert", bin(field("decision.pool"), policy.Eq, lit("aol")), "in an assert only", ""},
		{"within on text", call("within", field("rcpt.domain"), lit("10.0.0.0/8")), "tests an IP address", "ends_with"},
		{"unknown tag", call("tag", lit("vip")), `no filter above sets the tag "vip"`, ""},
		{"address for a domain", bin(field("rcpt"), policy.Eq, lit("aol.com")), `"aol.com" is not an address`, ".domain"},
		{"two constants", bin(lit("a"), policy.Eq, lit("a")), "two constants", ""},
		{"arity", call("in", field("rcpt.domain")), "in() takes 2 argument(s), not 1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, problems := policy.New([]policy.Filter{{Name: "f", If: c.x, Then: &policy.Final{Kind: policy.ThenDrop}}}, nil, esp(t))
			if p != nil {
				t.Fatal("it loads")
			}
			if len(problems) != 1 || !strings.Contains(problems[0].Message, c.message) || !strings.Contains(problems[0].Hint, c.hint) {
				t.Errorf("got %+v, want %q with hint %q", problems, c.message, c.hint)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		name    string
		x       policy.Expr
		message string
	}{
		{"unanchored", call("matches", field("rcpt"), lit("@aol\\.com")), "not anchored"},
		{"suffix without dot", call("ends_with", field("rcpt.domain"), lit("esp.example")), "no leading dot"},
		{"case", bin(field("rcpt.domain"), policy.Eq, lit("AOL.com")), `"AOL.com" is compared as "aol.com"`},
		{"empty list", call("in", field("rcpt.domain"), list()), "can never hold"},
		{"customer of the store", bin(field("customer"), policy.Eq, lit("beta")), `unknown customer "beta"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, problems := policy.New([]policy.Filter{{Name: "f", If: c.x, Then: &policy.Final{Kind: policy.ThenDrop}}}, nil, esp(t))
			if p == nil || len(problems) != 1 || !problems[0].Warning || !strings.Contains(problems[0].Message, c.message) {
				t.Errorf("got %+v, want the warning %q", problems, c.message)
			}
		})
	}
}

func TestReadings(t *testing.T) {
	for _, c := range []struct {
		local, domain string
		want          []string // each must be among the readings
	}{
		{"u%v.example", "a.example", []string{"u@v.example"}},
		{"v.example!u", "a.example", []string{"u@v.example"}},
		{"u@v.example", "a.example", []string{"u@v.example"}},
		{"a.example!v.example!u", "b.example", []string{"v.example!u@a.example", "u@v.example"}},
		{"u%v.example%w.example", "a.example", []string{"u%v.example@w.example", "u@v.example"}},
		{"imceasmtp-u+40v.example", "a.example", []string{"u@v.example"}},
		{"@x.example:u@v.example", "a.example", []string{"u@v.example"}},
	} {
		t.Run(c.local, func(t *testing.T) {
			got, ok := policy.Readings(smtp.Path{Local: c.local, Domain: c.domain})
			if !ok {
				t.Fatal("no readings")
			}
			for _, want := range c.want {
				found := false
				for _, a := range got {
					found = found || a.String() == want
				}
				if !found {
					t.Errorf("%q is not among %v", want, got)
				}
			}
		})
	}
	var many strings.Builder
	for i := range 80 {
		fmt.Fprintf(&many, "u%%d%d", i)
	}
	if _, ok := policy.Readings(smtp.Path{Local: many.String(), Domain: "d.example"}); ok {
		t.Error("an address with too many readings is not refused")
	}
}

func TestOriginOf(t *testing.T) {
	top := esp(t)
	for _, c := range []struct {
		name     string
		a        policy.Arrival
		origin   policy.Origin
		customer string
		ok       bool
	}{
		{"customer's network on the customers' listener", policy.Arrival{Listener: "injection", Peer: netip.MustParseAddr("10.1.2.3")}, policy.Customer, "acme", true},
		{"the same written as an IPv6 address", policy.Arrival{Listener: "injection", Peer: netip.MustParseAddr("::ffff:10.1.2.3")}, policy.Customer, "acme", true},
		{"customer's network on the strangers' listener", policy.Arrival{Listener: "internet", Peer: netip.MustParseAddr("10.1.2.3")}, policy.Stranger, "", true},
		{"somebody on the customers' listener", policy.Arrival{Listener: "injection", Peer: netip.MustParseAddr("192.0.2.1")}, policy.Stranger, "", false},
		{"AUTH on the strangers' listener", policy.Arrival{Listener: "internet", Peer: netip.MustParseAddr("192.0.2.1"), AuthUser: "u", AuthCustomer: "acme"}, policy.Customer, "acme", true},
		{"inside host on the strangers' listener", policy.Arrival{Listener: "internet", Peer: netip.MustParseAddr("10.9.0.7")}, policy.Inside, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, cu, ok := top.OriginOf(c.a)
			if o != c.origin || cu != c.customer || ok != c.ok {
				t.Errorf("got %s %q %v, want %s %q %v", o, cu, ok, c.origin, c.customer, c.ok)
			}
		})
	}
}
