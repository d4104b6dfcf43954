package postfix

import (
	"errors"
	"net/netip"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// domains is a set of domains as match lists and tables name it: what it covers, as a
// condition on the domain, and which of that is owned for certain.
type domains struct {
	cond  policy.Expr // nil: every domain
	owned []string    // domains; with a leading dot what lies below
}

func (d *domains) join(o domains) {
	d.cond = dialect.Or(d.cond, o.cond)
	d.owned = append(d.owned, o.owned...)
}

// domainList reads a list of domains such as mydestination or relay_domains: names,
// .names, type:table, /file, with !. below says that a name stands for what lies below
// it too.
func (m *modeller) domainList(name string, below bool) domains {
	p := m.get(name)
	all := domains{cond: dialect.False(p.pos)}
	items := m.flatten(list(p.value), p.pos, 0)
	for i := len(items) - 1; i >= 0; i-- { // the first that matches decides
		item, negated := strings.CutPrefix(items[i], "!")
		d := m.domainItem(item, p.pos, below)
		if negated {
			all.cond = dialect.And(dialect.Not(d.cond), all.cond)
			continue
		}
		all.join(d)
	}
	return all
}

func (m *modeller) domainItem(item string, pos policy.Pos, below bool) domains {
	if !strings.Contains(item, ":") {
		return domain(strings.ToLower(item), pos, below)
	}
	t, err := m.tables.open(item, pos)
	if err != nil {
		return domains{cond: m.gap(pos, item, err.Error())}
	}
	return m.domainTable(t, pos, below)
}

// domainTable gives the domains that a table has a value for.
func (m *modeller) domainTable(t *table, pos policy.Pos, below bool) domains {
	if t.all != nil {
		return domains{}
	}
	out := domains{cond: dialect.False(pos)}
	var keys []string
	for _, e := range t.keyed {
		if strings.Contains(e.key, "@") {
			continue
		}
		out.owned = append(out.owned, dialect.Owned(e.key, below)...)
		keys = append(keys, e.key)
	}
	out.cond = domainKeys("rcpt.domain", keys, pos, below)
	for i := len(t.rules) - 1; i >= 0; i-- {
		ru := &t.rules[i]
		if ru.re == "" {
			continue
		}
		c := dialect.Matches(pos, "rcpt.domain", ru.re)
		if ru.negate {
			c = dialect.Not(c)
		} else if tail := dialect.LiteralTail(ru.re); tail != "" {
			out.owned = append(out.owned, tail, "."+tail)
		}
		out.cond = dialect.Or(c, out.cond)
	}
	return out
}

// domain is one name of a list.
func domain(name string, pos policy.Pos, below bool) domains {
	return domains{cond: domainKeys("rcpt.domain", []string{name}, pos, below), owned: dialect.Owned(name, below)}
}

// domainKeys holds where a domain is one of some keys, or lies below one where below is
// set; without it a key with a leading dot covers what lies below.
func domainKeys(fact string, keys []string, pos policy.Pos, below bool) policy.Expr {
	var exact []string
	var ends []policy.Expr
	for _, k := range keys {
		switch {
		case fact != "client.helo" && !dialect.IsDomain(strings.TrimPrefix(k, ".")):
			// No domain in a mail or of a host is that.
		case strings.HasPrefix(k, "."):
			if !below {
				ends = append(ends, dialect.Call(pos, "ends_with", dialect.Fact(pos, fact), dialect.Text(pos, k)))
			}
		default:
			exact = append(exact, k)
			if below {
				ends = append(ends, dialect.Call(pos, "ends_with", dialect.Fact(pos, fact), dialect.Text(pos, "."+k)))
			}
		}
	}
	return dialect.Or(append([]policy.Expr{dialect.In(pos, fact, exact)}, ends...)...)
}

// flatten puts the lines of files named by /path in the place of the name.
func (m *modeller) flatten(items []string, pos policy.Pos, depth int) []string {
	var out []string
	for _, item := range items {
		if !strings.HasPrefix(item, "/") {
			out = append(out, item)
			continue
		}
		text, err := m.tables.read(item)
		if err != nil || depth > 8 {
			if err == nil {
				err = errors.New("files that contain one another")
			}
			m.gap(pos, item, err.Error())
			continue
		}
		var lines []string
		for _, l := range logical(item, text) {
			lines = append(lines, list(l.value)...)
		}
		out = append(out, m.flatten(lines, pos, depth+1)...)
	}
	return out
}

// trusted is who counts as being in mynetworks: as a condition, which networks of that
// can be told to be the operator's, and which cannot.
type trusted struct {
	cond policy.Expr
	nets []netip.Prefix
}

// plausible reports a network that a server's operator can have to himself: a private
// one, or a public one of at most 4,096 addresses. The narrower bound is for networks
// that stand in an access table, where customers and partners stand too.
func plausible(p netip.Prefix) bool {
	a := p.Addr()
	if private(p) {
		return true
	}
	if a.Is4() {
		return p.Bits() >= 20
	}
	return p.Bits() >= 32
}

var privateNets = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

func private(p netip.Prefix) bool {
	for _, n := range privateNets {
		if n.Bits() <= p.Bits() && n.Contains(p.Addr()) {
			return true
		}
	}
	return false
}
