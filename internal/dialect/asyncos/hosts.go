package asyncos

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

const (
	groupTag = "sender group "
	sorted   = "sender group found"
	relaying = "relaying"
)

// ownable reports a network that an operator can have to himself: private, or public of
// at most 4,096 addresses (of IPv6, a /48).
func ownable(n netip.Prefix) bool {
	if n.Addr().IsPrivate() || n.Addr().IsLoopback() || n.Addr().IsLinkLocalUnicast() {
		return n.Bits() >= 7
	}
	return n.Addr().Is4() && n.Bits() >= 20 || n.Addr().Is6() && n.Bits() >= 48
}

// admit writes the HAT: who is refused, who is no stranger, and the group of the others.
func (m *modeller) admit() {
	l := m.l
	if !l.hat {
		if !l.public {
			m.add("HAT", l.pos, dialect.Not(m.unknown(l.pos, "HAT of "+l.name, "it is not there: whom the listener admits is not known", false)), nil, reject(l.pos))
		}
		return
	}
	if !slices.ContainsFunc(l.groups, func(g group) bool { return strings.EqualFold(g.name, "ALL") }) {
		m.note(l.pos, "HAT of "+l.name, "it has no ALL at its end: who is in no group is taken to be accepted")
	}
	for i := range l.groups {
		m.group(&l.groups[i])
	}
}

func tagAction(pos policy.Pos, tags ...string) []policy.Action {
	var out []policy.Action
	for _, t := range tags {
		out = append(out, policy.Action{Pos: pos, Kind: policy.DoTag, Text: t})
	}
	return out
}

// group writes one sender group. The first that a host falls into counts.
func (m *modeller) group(g *group) {
	if g.action == "CONTINUE" {
		return
	}
	var low, own []policy.Expr
	items := g.items
	if len(items) == 0 && strings.EqualFold(g.name, "ALL") {
		items = []string{"ALL"}
	}
	for _, item := range items {
		c, mine := m.host(g, item)
		low = append(low, c)
		if mine {
			own = append(own, c)
		}
	}
	first := func(c policy.Expr) policy.Expr {
		if m.tags[sorted] {
			return dialect.And(dialect.Not(dialect.Tagged(g.pos, sorted)), c)
		}
		return c
	}
	name := "HAT: " + g.name
	if g.action == "RELAY" && len(own) > 0 {
		m.add(name, g.pos, first(dialect.Or(own...)), nil, reject(g.pos))
	}
	tags := []string{sorted, groupTag + g.name}
	switch g.action {
	case "REJECT", "TCPREFUSE":
		m.add(name, g.pos, first(dialect.Or(low...)), nil, reject(g.pos))
		return
	case "ACCEPT":
	case "RELAY":
		tags = append(tags, relaying)
	default:
		unknown := m.unknown(g.pos, g.name+" "+g.action, "what this policy does is not in the configuration", false)
		if m.add(name, g.pos, dialect.And(first(dialect.Or(low...)), unknown), tagAction(g.pos, relaying), nil) {
			m.tags[relaying] = true
		}
	}
	if m.add(name, g.pos, first(dialect.Or(low...)), tagAction(g.pos, tags...), nil) {
		for _, t := range tags {
			m.tags[t] = true
		}
	}
}

// host is one entry of a sender group. mine says that strangers do not have it.
func (m *modeller) host(g *group, item string) (c policy.Expr, mine bool) {
	low := strings.ToLower(item)
	if low == "all" {
		return nil, false
	}
	if nets, ok := hostRange(item); ok {
		mine = true
		var within []policy.Expr
		for _, n := range nets {
			within = append(within, dialect.Within(g.pos, "client.address", n.String()))
			mine = mine && ownable(n)
			if g.action == "RELAY" && ownable(n) && !n.Addr().IsPrivate() && !n.Addr().IsLoopback() {
				m.assume(fmt.Sprintf("strangers cannot send from %s, which sender group %s lets relay", n, g.name))
			}
		}
		return dialect.Or(within...), mine
	}
	if strings.ContainsAny(low, "[:@") || !strings.Contains(low, ".") || !named(low) {
		// Some stranger has any reputation, and stands on a list or does not.
		return m.chosen(g.pos, "a client that is "+item), false
	}
	if g.action == "RELAY" {
		return m.unknown(g.pos, g.name+": "+item, "a name in the DNS is trusted, which whoever holds the address can set", false), false
	}
	if domain, sub := strings.CutPrefix(low, "."); sub {
		return dialect.Call(g.pos, "ends_with", dialect.Fact(g.pos, "client.name"), dialect.Text(g.pos, "."+domain)), false
	}
	return dialect.Equal(g.pos, "client.name", low), false
}

// pattern holds for recipients that an entry of the RAT, of the routes or of a mapping
// names: domain, .partial, user@, user@domain, @domain, ALL.
func pattern(pos policy.Pos, s string) policy.Expr {
	s = strings.ToLower(strings.TrimSpace(s))
	local, domain, at := strings.Cut(s, "@")
	switch {
	case s == "all":
		return nil
	case !at:
		domain = s
	case domain == "":
		return dialect.Equal(pos, "rcpt.local", local)
	}
	var in policy.Expr
	if strings.HasPrefix(domain, ".") {
		in = dialect.Call(pos, "ends_with", dialect.Fact(pos, "rcpt.domain"), dialect.Text(pos, domain))
	} else {
		in = dialect.Equal(pos, "rcpt.domain", domain)
	}
	if local == "" || !at {
		return in
	}
	return dialect.And(dialect.Equal(pos, "rcpt.local", local), in)
}

// accepted holds for recipients that the RAT accepts: its first entry that matches
// decides. all is what an entry ALL counts as.
func (m *modeller) accepted(all bool) policy.Expr {
	var out policy.Expr = dialect.False(m.l.pos)
	for _, e := range slices.Backward(m.l.rat) {
		c := pattern(e.pos, e.addr)
		if c == nil && !all {
			continue
		}
		if e.accept {
			out = dialect.Or(c, out)
		} else {
			out = dialect.And(dialect.Not(c), out)
		}
	}
	return out
}

// hop is what an SMTP route does with mail.
type hop uint8

const (
	byMX hop = iota
	discard
	toHost
)

func (r *route) hop() hop {
	for _, h := range r.hosts {
		switch strings.ToLower(h) {
		case "usedns", "use_dns":
			return byMX
		case "/dev/null":
			return discard
		}
	}
	return toHost
}

// ordered gives the routes of domains, the most specific first, and that of ALL.
func ordered(rs []route) (own []route, all *route) {
	for i := range rs {
		if rs[i].dom == "all" || rs[i].dom == "." {
			all = &rs[i]
			continue
		}
		own = append(own, rs[i])
	}
	slices.SortStableFunc(own, func(a, b route) int {
		if x, y := strings.HasPrefix(a.dom, "."), strings.HasPrefix(b.dom, "."); x != y {
			if x {
				return 1
			}
			return -1
		}
		return len(b.dom) - len(a.dom)
	})
	return own, all
}

// inside holds for recipients whose route is a host of the operator's, or nothing.
func (m *modeller) inside(all hop) policy.Expr {
	own, def := ordered(m.cfg.routes)
	var out policy.Expr = dialect.False(m.l.pos)
	if def != nil && def.hop() == discard || all == toHost {
		out = nil
	}
	for _, r := range slices.Backward(own) {
		c := pattern(r.pos, r.dom)
		if r.hop() == byMX {
			out = dialect.And(dialect.Not(c), out)
		} else {
			out = dialect.Or(c, out)
		}
	}
	return out
}

// resends gives the routes whose host is one that a listener lets relay: what it is
// given, it may send on.
func (m *modeller) resends() []route {
	var out []route
	for _, r := range m.cfg.routes {
		for _, h := range r.hosts {
			h, _, _ = strings.Cut(strings.Trim(h, "[]"), "/")
			if r.hop() == toHost && m.cfg.relayFor(strings.Trim(h, "[]")) {
				out = append(out, r)
				break
			}
		}
	}
	return out
}

// relayFor reports a host that some listener's HAT lets relay. Groups go by their order.
func (c *config) relayFor(host string) bool {
	a, err := netip.ParseAddr(host)
	for i := range c.listeners {
		for _, g := range c.listeners[i].groups {
			for _, item := range g.items {
				nets, ok := hostRange(item)
				in := ok && err == nil && slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Contains(a) })
				name := strings.EqualFold(item, host) || strings.HasPrefix(item, ".") && strings.HasSuffix(strings.ToLower(host), strings.ToLower(item))
				if g.action == "RELAY" && (in || err != nil && name) {
					return true
				}
			}
		}
	}
	return false
}
