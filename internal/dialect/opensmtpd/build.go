package opensmtpd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// own are networks that strangers do not send from.
var own = []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"}

// Model reads smtpd.conf and models each of its listeners.
func Model(name string, read dialect.Read) (*dialect.Model, error) {
	text, err := read(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	m := &modeller{tables: map[string][]string{}, relays: map[string]bool{}, filters: map[string][]word{}}
	var listens [][]word
	for _, s := range scan(name, string(text), map[string]string{}) {
		switch {
		case s[0].is("table") && len(s) > 2:
			m.table(s, read)
		case s[0].is("action") && len(s) > 2:
			m.relays[s[1].text] = s[2].is("relay")
		case s[0].is("match"):
			m.rules = append(m.rules, s)
		case s[0].is("listen") && len(s) > 2:
			listens = append(listens, s)
		case s[0].is("filter") && len(s) > 1:
			m.filters[s[1].text] = s
		case s[0].is("pki"), s[0].is("ca"), s[0].is("smtp"), s[0].is("queue"), s[0].is("mta"), s[0].is("bounce"), s[0].is("srs"), s[0].is("admd"), s[0].is("proc"):
		default:
			return nil, dialect.Faults{{Pos: s[0].pos, Message: fmt.Sprintf("%.60q begins no statement that is known", s[0].text)}}
		}
	}
	if bad := m.undefined(); len(bad) > 0 {
		return nil, bad
	}
	out := &dialect.Model{Dialect: "opensmtpd"}
	for _, l := range listens {
		if err := m.listener(l, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// undefined gives a fault for each rule with an action that nothing defines.
func (m *modeller) undefined() (bad dialect.Faults) {
	for _, r := range m.rules {
		for i := 1; i+1 < len(r); i++ {
			if _, known := m.relays[r[i+1].text]; r[i].is("action") && !known {
				bad = append(bad, dialect.Fault{Pos: r[i+1].pos, Message: fmt.Sprintf("no action %q", r[i+1].text)})
			}
		}
	}
	return bad
}

// table reads an inline or file: table; of a mapping it has the keys.
func (m *modeller) table(s []word, read dialect.Read) {
	name := s[1].text
	if file, is := strings.CutPrefix(s[2].text, "file:"); is {
		text, err := read(file)
		if err != nil {
			return
		}
		m.tables[name] = []string{}
		for _, l := range strings.Split(string(text), "\n") {
			if f := strings.Fields(l); len(f) > 0 && f[0][0] != '#' {
				m.tables[name] = append(m.tables[name], f[0])
			}
		}
		return
	}
	if !s[2].is("{") {
		return
	}
	m.tables[name] = []string{}
	for i := 3; i < len(s) && !s[i].is("}"); i++ {
		switch {
		case s[i].is(","):
		case s[i].is("="):
			i++
		default:
			m.tables[name] = append(m.tables[name], s[i].text)
		}
	}
}

func (m *modeller) listener(l []word, out *dialect.Model) error {
	svc := dialect.Service{Name: "listen on " + l[2].text, Pos: l[0].pos}
	m.tag, m.proxied = "", false
	filter := -1
	for i := 3; i < len(l); i++ {
		switch {
		case l[i].is("tag") && i+1 < len(l):
			m.tag = l[i+1].text
		case l[i].is("proxy-v2"):
			m.proxied = true
		case l[i].is("auth"):
			svc.Note = "it takes mail only after a login"
		case l[i].is("filter"):
			filter = i + 1
		case l[i].is("port") && i+1 < len(l):
			svc.Name += " port " + l[i+1].text
		}
	}
	if a, err := netip.ParseAddr(l[2].text); err == nil && a.IsLoopback() || l[2].is("socket") || l[2].is("lo0") || l[2].is("lo") || l[2].text == "localhost" {
		svc.Note = "nobody outside reaches it"
	}
	if svc.Note != "" {
		out.Services = append(out.Services, svc)
		return nil
	}
	var err error
	m.gaps, m.maybe = nil, false
	if svc.Sure, err = m.program(l, filter); err != nil {
		return err
	}
	m.gaps, m.maybe = nil, true
	if svc.Maybe, err = m.program(l, filter); err != nil {
		return err
	}
	if svc.Gaps = m.gaps; len(m.gaps) == 0 {
		svc.Maybe = nil
	}
	for _, g := range m.gaps {
		if !slices.Contains(out.Gaps, g) {
			out.Gaps = append(out.Gaps, g)
		}
	}
	out.Services = append(out.Services, svc)
	return nil
}

func (m *modeller) program(l []word, filter int) (*policy.Program, error) {
	var fs []policy.Filter
	add := func(pos policy.Pos, c policy.Expr, kind policy.Final) {
		kind.Pos = pos
		fs = append(fs, policy.Filter{Pos: pos, Name: fmt.Sprintf("rule %d, line %d", len(fs)+1, pos.Line), If: dialect.Whole(c, pos), Then: &kind})
	}
	no := policy.Final{Kind: policy.ThenReject, Code: 550, Enhanced: [3]int{5, 7, 1}}
	pos := l[0].pos
	if !m.proxied {
		for _, n := range own {
			add(pos, dialect.Within(pos, "client.address", n), no)
		}
		for _, n := range m.operators() {
			add(pos, dialect.Within(pos, "client.address", n), no)
		}
	}
	if filter >= 0 && filter < len(l) {
		add(l[filter].pos, m.gap(l[filter], "what this filter refuses is not followed").hi, no)
	}
	m.owned = nil
	for _, r := range m.rules {
		c, relay := m.rule(r)
		if relay {
			add(r[0].pos, c.lo, policy.Final{Kind: policy.ThenDeliver})
		} else {
			add(r[0].pos, c.hi, no)
		}
	}
	add(pos, dialect.True(pos), no)
	return dialect.Program(fs, m.topology(pos, l[2].text))
}

// operators are the public networks of tables and rules that an operator can have to himself.
func (m *modeller) operators() []string {
	var out []string
	for _, r := range m.rules {
		for i := 1; i+1 < len(r); i++ {
			if !r[i].is("src") || i >= 2 && r[i-2].is("!") || r[len(r)-1].is("reject") {
				continue
			}
			items, _ := m.items(r[i+1])
			for _, it := range items {
				if n, err := network(it); err == nil && (n.Addr().Is4() && n.Bits() >= 20 || n.Addr().Is6() && n.Bits() >= 32) {
					out = append(out, n.String())
				}
			}
		}
	}
	return out
}

func (m *modeller) topology(pos policy.Pos, name string) *policy.Topology {
	all, _ := policy.ParsePattern("*", pos)
	t := &policy.Topology{
		Hostname: "mail.invalid", Accept: []policy.Pattern{all}, DefaultPool: "out",
		Listeners: []policy.Listener{{Pos: pos, Name: name, From: policy.FromStrangers}},
		Pools:     []policy.Pool{{Pos: pos, Name: "out"}},
	}
	here := policy.InsideHost{Name: "here", Address: netip.MustParseAddrPort("0.0.0.1:25"), Pos: pos}
	seen := map[string]bool{}
	for _, d := range append(m.owned, "localhost") {
		if pt, err := policy.ParsePattern(d, pos); err == nil && !seen[d] && pt.Kind != policy.MatchAll {
			seen[d] = true
			here.Domains = append(here.Domains, pt)
		}
	}
	t.Inside = []policy.InsideHost{here}
	return t
}
