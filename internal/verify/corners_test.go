package verify_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/policy"
)

// corners are the values of each field that a policy's own constants set apart: the
// constants, what lies just beside them, and something that is none of them. The
// messages made of them are the brute force that the prover is held against; they
// share nothing with its classes.
type corners struct {
	arrivals []arrival
	domains  []string
	locals   []string
	boxes    []policy.Address
	hosts    []string // client.name, client.helo
	sizes    []int64
	times    []time.Time
	results  []string
	headers  map[string][]string
	values   []string
}

// arrival is whose session it is, as Topology.OriginOf has it.
type arrival struct {
	listener, customer, user string
	origin                   policy.Origin
	peer                     netip.Addr
}

func cornersOf(ps ...*policy.Program) *corners {
	c := &corners{
		domains: []string{"elsewhere.example", "q"},
		locals:  []string{"someone", "a", "k"},
		hosts:   []string{"", "host.test"},
		sizes:   []int64{0, 2000},
		times:   []time.Time{time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC), time.Date(2025, 1, 5, 0, 30, 0, 0, time.UTC)},
		results: []string{"none", "pass", "fail", "softfail"},
		headers: map[string][]string{},
		values:  []string{"", "1", "12", "Hello invoice 17", "inv", "x", "zz top"},
	}
	peers := []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::1")}
	for _, p := range ps {
		for i := range p.Filters {
			peers = c.expr(p.Filters[i].If, peers)
			for _, a := range p.Filters[i].Do {
				c.box(a.Rcpt)
			}
		}
		for i := range p.Asserts {
			peers = c.expr(p.Asserts[i].Always, peers)
		}
		peers = c.topology(p.Topology, peers)
	}
	c.tidy()
	c.arrive(ps[0].Topology, peers)
	return c
}

func (c *corners) topology(t *policy.Topology, peers []netip.Addr) []netip.Addr {
	for _, h := range t.Inside {
		peers = append(peers, h.Address.Addr())
		c.patterns(h.Domains)
	}
	for _, u := range t.Customers {
		for _, n := range u.Networks {
			peers = append(peers, n.Addr())
		}
		c.patterns(u.Senders)
	}
	for _, a := range slices.Concat(t.Reports, t.Sinks, t.Postmasters) {
		c.box(a)
	}
	c.patterns(t.Accept)
	return peers
}

func (c *corners) patterns(ps []policy.Pattern) {
	for _, p := range ps {
		c.box(p.Address)
		c.domain(p.Domain)
	}
}

func (c *corners) box(a policy.Address) {
	if a != (policy.Address{}) {
		c.boxes = append(c.boxes, a)
		c.locals = append(c.locals, a.Local)
		c.domain(a.Domain)
	}
}

func (c *corners) domain(s string) {
	if d, err := policy.NormaliseDomain(strings.TrimPrefix(s, ".")); err == nil {
		c.domains = append(c.domains, d, "x."+d, "evil"+d)
	}
}

func (c *corners) expr(x policy.Expr, peers []netip.Addr) []netip.Addr {
	switch x := x.(type) {
	case *policy.Not:
		return c.expr(x.X, peers)
	case *policy.Binary:
		return c.expr(x.R, c.expr(x.L, peers))
	case *policy.List:
		for _, a := range x.Items {
			peers = c.expr(a, peers)
		}
	case *policy.Call:
		if x.Func == "header" || x.Func == "has_header" {
			name, _ := x.Args[0].(*policy.Literal).Value.(string)
			c.headers[strings.ToLower(name)] = nil
			return peers
		}
		for _, a := range x.Args {
			peers = c.expr(a, peers)
		}
	case *policy.Literal:
		switch v := x.Value.(type) {
		case int64:
			c.sizes = append(c.sizes, max(0, v-1), v, v+1)
			for _, h := range []int64{v - 1, v, v + 1} {
				c.times = append(c.times, time.Date(2026, 1, 6, int(h+24)%24, 30, 0, 0, time.UTC))
			}
		case string:
			return c.text(v, peers)
		}
	}
	return peers
}

// text takes a constant for all that it may be.
func (c *corners) text(s string, peers []netip.Addr) []netip.Addr {
	if n, err := policy.ParsePrefix(s); err == nil {
		return append(peers, n.Addr(), n.Addr().Next(), n.Addr().Prev())
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		c.times = append(c.times, t, t.Add(-1), t.Add(1))
		return peers
	}
	if a, err := policy.ParseAddress(s); err == nil {
		c.box(a)
		return peers
	}
	c.domain(s)
	if s != "" { // no path has an empty local part but the null reverse-path
		c.locals = append(c.locals, strings.ToLower(s))
	}
	c.values = append(c.values, s, "q"+s)
	return peers
}

func unique[T comparable](in []T) []T {
	seen := map[T]bool{}
	var out []T
	for _, x := range in {
		if !seen[x] {
			seen[x] = true
			out = append(out, x)
		}
	}
	return out
}

func (c *corners) tidy() {
	c.domains, c.locals, c.boxes, c.values = unique(c.domains), unique(c.locals), unique(c.boxes), unique(c.values)
	c.hosts = unique(append(c.hosts, c.domains...))
	c.sizes, c.times = unique(c.sizes), unique(c.times)
	for i, v := range c.values {
		c.values[i] = strings.TrimSpace(v)
	}
	for name := range c.headers {
		c.headers[name] = c.values
	}
}

// arrive lists every session that some client can have.
func (c *corners) arrive(t *policy.Topology, peers []netip.Addr) {
	for _, l := range t.Listeners {
		for _, ip := range unique(peers) {
			if !ip.IsValid() {
				continue
			}
			c.settle(t, policy.Arrival{Listener: l.Name, Peer: ip})
			for _, u := range t.Customers {
				if l.Auth && len(u.Users) > 0 {
					c.settle(t, policy.Arrival{Listener: l.Name, Peer: ip, AuthUser: u.Users[0], AuthCustomer: u.Name})
				}
			}
			if l.Auth {
				c.settle(t, policy.Arrival{Listener: l.Name, Peer: ip, AuthUser: "who", AuthCustomer: "of-the-store"})
			}
		}
	}
}

func (c *corners) settle(t *policy.Topology, a policy.Arrival) {
	if origin, customer, ok := t.OriginOf(a); ok {
		c.arrivals = append(c.arrivals, arrival{listener: a.Listener, origin: origin, customer: customer, user: a.AuthUser, peer: a.Peer.Unmap()})
	}
}

func one[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// message makes one message of the corners.
func (c *corners) message(r *rand.Rand) *policy.Facts {
	a := one(r, c.arrivals)
	f := &policy.Facts{Listener: a.listener, Origin: a.origin, Customer: a.customer, AuthUser: a.user,
		Client: policy.Client{Address: a.peer, Name: one(r, c.hosts), Helo: one(r, c.hosts)},
		Rcpt:   c.mailbox(r), Now: one(r, c.times)}
	if r.IntN(5) > 0 {
		f.Sender = c.mailbox(r)
	}
	if r.IntN(2) == 0 {
		f.TLS = policy.TLS{On: true, Version: one(r, []string{"1.2", "1.3"})}
	}
	f.Content = &policy.Content{Size: one(r, c.sizes), SPF: one(r, c.results), DKIM: one(r, c.results), DMARC: one(r, c.results)}
	for _, name := range sortedNames(c.headers) {
		for range r.IntN(3) {
			f.Content.Headers = append(f.Content.Headers, policy.HeaderField{Name: name, Value: one(r, c.headers[name])})
		}
	}
	return f
}

func sortedNames(m map[string][]string) []string {
	var out []string
	for n := range m {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func (c *corners) mailbox(r *rand.Rand) policy.Address {
	if len(c.boxes) > 0 && r.IntN(3) == 0 {
		return one(r, c.boxes)
	}
	return policy.Address{Local: one(r, c.locals), Domain: one(r, c.domains)}
}
