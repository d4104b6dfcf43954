package policytest

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/policy"
)

// words are the values that facts are drawn from: the policy's own constants, values
// just beside them, and a few that it never names.
type words struct {
	texts     []string // domains, local parts, header values
	domains   []string
	addresses []netip.Addr
	sizes     []int64
	mailboxes []policy.Address
}

func defaultWords() words {
	return words{
		texts:     []string{"", "1", "Hello", "invoice 17", "Invoice", "hello", "other", "ſ", "elvin", "\u212aelvin", "\xffinvoice"},
		domains:   []string{"other.example", "aol.com", "gw.esp.example"},
		addresses: []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("::ffff:10.1.2.3"), netip.MustParseAddr("2001:db8::1")},
		sizes:     []int64{0, 1000},
	}
}

// gather reads every constant of a policy.
func (w *words) gather(p *policy.Program) {
	for i := range p.Filters {
		w.expr(p.Filters[i].If)
		for _, a := range p.Filters[i].Do {
			w.address(a.Rcpt)
		}
	}
	for i := range p.Asserts {
		w.expr(p.Asserts[i].Always)
	}
	t := p.Topology
	for _, h := range t.Inside {
		w.addresses = append(w.addresses, h.Address.Addr())
		w.patterns(h.Domains)
	}
	for _, c := range t.Customers {
		for _, n := range c.Networks {
			w.network(n)
		}
		w.patterns(c.Senders)
	}
	for _, a := range t.Reports {
		w.address(a)
	}
	w.patterns(t.Accept)
}

func (w *words) patterns(ps []policy.Pattern) {
	for _, p := range ps {
		w.address(p.Address)
		w.text(p.Domain)
	}
}

func (w *words) address(a policy.Address) {
	if a != (policy.Address{}) {
		w.mailboxes = append(w.mailboxes, a)
		w.texts = append(w.texts, a.Local)
		w.text(a.Domain)
	}
}

func (w *words) expr(x policy.Expr) {
	switch x := x.(type) {
	case *policy.Not:
		w.expr(x.X)
	case *policy.Binary:
		w.expr(x.L)
		w.expr(x.R)
	case *policy.Call:
		for _, a := range x.Args {
			w.expr(a)
		}
	case *policy.List:
		for _, a := range x.Items {
			w.expr(a)
		}
	case *policy.Literal:
		switch v := x.Value.(type) {
		case string:
			w.text(v)
		case int64:
			w.sizes = append(w.sizes, max(0, v-1), v, v+1)
		}
	}
}

// text takes a constant for all that it may be.
func (w *words) text(s string) {
	if s == "" {
		return
	}
	if n, err := policy.ParsePrefix(s); err == nil {
		w.network(n)
		return
	}
	if a, err := policy.ParseAddress(s); err == nil {
		w.address(a)
		return
	}
	w.texts = append(w.texts, s)
	bare := strings.TrimPrefix(s, ".")
	if d, err := policy.NormaliseDomain(bare); err == nil {
		w.domains = append(w.domains, d, "x."+d, "evil"+d)
	}
}

// network takes the first and the last address of a network and those beside them.
func (w *words) network(n netip.Prefix) {
	first := n.Addr()
	w.addresses = append(w.addresses, first, first.Next())
	if before := first.Prev(); before.IsValid() {
		w.addresses = append(w.addresses, before)
	}
}

// Early makes the envelope of a transaction for one recipient, as it is known at
// RCPT. Listener, client and origin go together as in a real session.
func (p *Policy) Early(r *rand.Rand) *policy.Facts {
	t := p.Program.Topology
	for {
		a := policy.Arrival{Listener: one(r, t.Listeners).Name, Peer: one(r, p.words.addresses)}
		if len(t.Customers) > 0 && r.IntN(4) == 0 {
			c := one(r, t.Customers)
			a.AuthUser, a.AuthCustomer = one(r, c.Users), c.Name
		}
		origin, customer, ok := t.OriginOf(a)
		if !ok {
			continue // refused before any filter
		}
		f := &policy.Facts{Listener: a.Listener, Origin: origin, AuthUser: a.AuthUser, Customer: customer,
			Client: policy.Client{Address: a.Peer.Unmap(), Helo: one(r, p.words.domains)},
			Rcpt:   p.mailbox(r), Now: time.Unix(1.7e9+int64(r.IntN(200))*40_000, 0)}
		if r.IntN(6) > 0 {
			f.Sender = p.mailbox(r)
		}
		if r.IntN(2) == 0 {
			f.Client.Name = one(r, p.words.domains)
		}
		if r.IntN(2) == 0 {
			f.TLS = policy.TLS{On: true, Version: one(r, []string{"1.2", "1.3"})}
		}
		return f
	}
}

func (p *Policy) mailbox(r *rand.Rand) policy.Address {
	if len(p.words.mailboxes) > 0 && r.IntN(3) == 0 {
		return one(r, p.words.mailboxes)
	}
	local := strings.ToLower(one(r, p.words.texts))
	if local == "" {
		local = "a"
	}
	return policy.Address{Local: local, Domain: one(r, p.words.domains)}
}

// Complete makes a transaction whose message is there.
func (p *Policy) Complete(r *rand.Rand) *policy.Facts {
	f := p.Early(r)
	f.Content = p.Content(r)
	return f
}

// Content makes a message.
func (p *Policy) Content(r *rand.Rand) *policy.Content {
	results := []string{"none", "pass", "fail", "softfail"}
	c := &policy.Content{Size: one(r, p.words.sizes), SPF: one(r, results), DKIM: one(r, results), DMARC: one(r, results)}
	for range r.IntN(5) {
		value := one(r, slices.Concat(p.words.texts, p.words.domains))
		if r.IntN(3) == 0 {
			value = one(r, p.words.texts) + " " + value + one(r, p.words.texts)
		}
		c.Headers = append(c.Headers, policy.HeaderField{Name: strings.ToLower(one(r, slices.Concat(headerNames(), []string{"received"}))), Value: value})
	}
	return c
}
