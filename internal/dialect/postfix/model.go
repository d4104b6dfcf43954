package postfix

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// modeller makes the programs of one service.
type modeller struct {
	*settings
	tables     *reader
	classes    map[string]bool
	mynetworks trusted
	authorised policy.Expr // recipients that permit_auth_destination permits
	owned      []string
	spoofed    bool // strangers can claim any address: PROXY or XCLIENT from anywhere
	login      bool // and any login
	maybe      bool // gaps permit

	gaps        []dialect.Gap
	gapNames    map[string]int
	assumptions []string
}

func (m *modeller) note(pos policy.Pos, text, why string) int {
	key := pos.String() + "\x00" + text
	if n, is := m.gapNames[key]; is {
		return n
	}
	m.gaps = append(m.gaps, dialect.Gap{Pos: pos, Text: text, Why: why})
	m.gapNames[key] = len(m.gaps)
	return len(m.gaps)
}

// gap is a condition of which nothing is known: false among what is sure, and up to the
// sender where gaps permit. A header field that no message has stands for it.
func (m *modeller) gap(pos policy.Pos, text, why string) policy.Expr {
	n := m.note(pos, text, why)
	if !m.maybe {
		return dialect.False(pos)
	}
	return dialect.Call(pos, "has_header", dialect.Text(pos, fmt.Sprintf("%s%d", dialect.GapHeader, n)))
}

func (m *modeller) assume(text string) {
	if !slices.Contains(m.assumptions, text) {
		m.assumptions = append(m.assumptions, text)
	}
}

// below reports whether a name stands for what lies below it in some lists
// (parent_domain_matches_subdomains).
func (m *modeller) below(list_ string) bool {
	return slices.Contains(list(m.get("parent_domain_matches_subdomains").value), list_)
}

// prepare reads who is trusted and what is authorised.
func (m *modeller) prepare() {
	m.classes = map[string]bool{}
	for _, c := range list(m.get("smtpd_restriction_classes").value) {
		m.classes[c] = true
	}
	m.xclient()
	m.mynetworks = m.networks()
	d := m.domainList("mydestination", m.below("mydestination"))
	d.join(m.domainList("virtual_alias_domains", m.below("virtual_alias_domains")))
	d.join(m.domainList("virtual_mailbox_domains", m.below("virtual_mailbox_domains")))
	d.join(m.domainList("relay_domains", m.below("relay_domains")))
	m.authorised, m.owned = dialect.And(unrouted(d.cond), d.cond), d.owned
	if m.yes("allow_untrusted_routing") {
		p := m.get("allow_untrusted_routing")
		m.authorised = dialect.Or(m.authorised, m.gap(p.pos, "allow_untrusted_routing = yes",
			"a host behind this one may send on what is addressed to user%elsewhere@here"))
	}
}

// unrouted holds for a recipient without a further address in its local part: with one,
// no destination is authorised and no recipient table permits, whether Postfix honours
// the form or not.
func unrouted(at policy.Expr) policy.Expr {
	var pos policy.Pos
	if at != nil {
		pos = at.Position()
	}
	return dialect.Not(dialect.Matches(pos, "rcpt.local", "[%!@]"))
}

// xclient finds who may say what another client's address and login are.
func (m *modeller) xclient() {
	if p := m.get("smtpd_upstream_proxy_protocol"); p.value != "" {
		m.spoofed = true
	}
	p := m.get("smtpd_authorized_xclient_hosts")
	for _, item := range m.flatten(list(p.value), p.pos, 0) {
		n, err := prefix(item)
		if err != nil {
			m.gap(p.pos, "smtpd_authorized_xclient_hosts: "+item, "who that is is not in the configuration")
			continue
		}
		if !plausible(n) {
			m.spoofed, m.login = true, true
		}
	}
}

// networks reads mynetworks.
func (m *modeller) networks() trusted {
	p := m.get("mynetworks")
	if strings.TrimSpace(m.raw("mynetworks").value) == "" {
		return m.ownNetworks()
	}
	out := trusted{cond: dialect.False(p.pos)}
	items := m.flatten(list(p.value), p.pos, 0)
	for i := len(items) - 1; i >= 0; i-- {
		item, negated := strings.CutPrefix(items[i], "!")
		c, nets := m.network(item, p.pos)
		if negated {
			out.cond = dialect.And(dialect.Not(c), out.cond)
			continue
		}
		out.cond = dialect.Or(c, out.cond)
		out.nets = append(out.nets, nets...)
	}
	return out
}

// ownNetworks is mynetworks made from the addresses of the machine.
func (m *modeller) ownNetworks() trusted {
	style := m.get("mynetworks_style")
	loop := []netip.Prefix{privateNets[3], privateNets[5]}
	out := trusted{nets: loop, cond: dialect.Or(dialect.Within(style.pos, "client.address", loop[0].String()), dialect.Within(style.pos, "client.address", loop[1].String()))}
	if style.value != "host" {
		out.cond = dialect.Or(out.cond, m.gap(style.pos, "mynetworks_style = "+style.value,
			"the networks of the machine's interfaces are trusted, which are not in the configuration"))
	}
	return out
}

func (m *modeller) network(item string, pos policy.Pos) (policy.Expr, []netip.Prefix) {
	n, err := prefix(item)
	switch {
	case err == nil:
		c := dialect.Within(pos, "client.address", n.String())
		if !plausible(n) {
			return c, nil
		}
		if !private(n) {
			m.assume(fmt.Sprintf("strangers cannot send from %s, which mynetworks trusts", n))
		}
		return c, []netip.Prefix{n}
	case strings.Contains(item, ":"):
		return m.networkTable(item, pos)
	}
	return m.gap(pos, "mynetworks: "+item, "a name is trusted, whose addresses are not in the configuration"), nil
}

// networkTable is a table in mynetworks: who is found in it is trusted, whatever the answer.
func (m *modeller) networkTable(item string, pos policy.Pos) (policy.Expr, []netip.Prefix) {
	t, err := m.tables.open(item, pos)
	if err != nil {
		return m.gap(pos, "mynetworks: "+item, err.Error()), nil
	}
	if t.all != nil {
		return nil, nil
	}
	var cond policy.Expr = dialect.False(pos)
	var nets []netip.Prefix
	for _, e := range t.keyed {
		c, n := m.network(e.key, pos)
		cond, nets = dialect.Or(cond, c), append(nets, n...)
	}
	for i := range t.rules {
		ru := &t.rules[i]
		if ru.re != "" || ru.negate {
			return m.gap(pos, "mynetworks: "+item, "which addresses an expression matches is not followed"), nil
		}
		c, n := m.network(ru.net.String(), ru.pos)
		cond, nets = dialect.Or(cond, c), append(nets, n...)
	}
	return cond, nets
}

func matchesText(re, text string) bool {
	r, err := regexp.Compile(re)
	return err == nil && r.MatchString(text)
}

// onAddress tells how an expression for names does on addresses.
type reach uint8

const (
	never reach = iota
	sometimes
	always
)

func onAddress(re string) reach {
	all := true
	for _, a := range []string{"198.51.100.7", "192.0.2.9", "8.8.8.8", "203.0.113.200", "2001:db8::1"} {
		all = all && matchesText(re, a)
	}
	if all {
		return always
	}
	tree, err := syntax.Parse(re, syntax.Perl)
	if err == nil && needsLetter(tree) {
		return never
	}
	return sometimes
}

// needsLetter reports an expression that matches no text without a letter from g to z,
// which no address has.
func needsLetter(t *syntax.Regexp) bool {
	switch t.Op {
	case syntax.OpLiteral:
		return slices.ContainsFunc(t.Rune, func(r rune) bool { return r|0x20 >= 'g' && r|0x20 <= 'z' })
	case syntax.OpConcat:
		return slices.ContainsFunc(t.Sub, needsLetter)
	case syntax.OpAlternate:
		return !slices.ContainsFunc(t.Sub, func(s *syntax.Regexp) bool { return !needsLetter(s) })
	case syntax.OpCapture, syntax.OpPlus:
		return needsLetter(t.Sub[0])
	case syntax.OpRepeat:
		return t.Min > 0 && needsLetter(t.Sub[0])
	}
	return false
}

// errGuard is why smtpd would not start.
var errGuard = errors.New("smtpd refuses to start: neither smtpd_relay_restrictions nor smtpd_recipient_restrictions has what rejects other destinations")

// required reports whether a list has one of the restrictions without which smtpd does
// not start, before a bare permit and not under warn_if_reject.
func (m *modeller) required(items []string, depth int) bool {
	for i := 0; i < len(items) && depth < 32; i++ {
		switch word := strings.ToLower(items[i]); {
		case word == "warn_if_reject":
			i++
		case word == "permit":
			return false
		case word == "reject", word == "defer", word == "defer_if_permit", word == "check_relay_domains",
			word == "reject_unauth_destination", word == "defer_unauth_destination":
			return true
		case m.classes[items[i]]:
			if m.required(list(m.get(items[i]).value), depth+1) {
				return true
			}
		}
	}
	return false
}
