package asyncos

import (
	"fmt"
	"slices"
	"strings"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// modeller makes a program of one listener.
type modeller struct {
	cfg   *config
	l     *listener
	order []*filter
	maybe bool // gaps permit

	takesAll   bool     // the RAT's ALL is ACCEPT, or there is no RAT to ask
	companions []string // addresses that the RAT accepts, where it does not take all
	filters    []policy.Filter
	names      map[string]int
	tags       map[string]bool
	edits      []edit
	holds      []hold
	unknowns   int
	*marks
}

// marks is what the two programs of a listener have in common.
type marks struct {
	choices     []string
	gaps        []dialect.Gap
	assumptions []string
	notes       []dialect.Gap
}

// edit is a filter's change of a header field, where tag is set.
type edit struct {
	tag, header, value string
	insert, known      bool
}

// hold is what keeps a message, where tag is set, from its recipients. Without a gap it
// does so for certain.
type hold struct {
	tag  string
	pos  policy.Pos
	text string
	why  string
	free bool // it goes where the sender says instead
}

func (m *modeller) note(pos policy.Pos, text, why string) int {
	g := dialect.Gap{Pos: pos, Text: text, Why: why}
	if i := slices.Index(m.gaps, g); i >= 0 {
		return i + 1
	}
	m.gaps = append(m.gaps, g)
	return len(m.gaps)
}

// unknown is a condition of which nothing is known: what high says among what is sure,
// and up to the sender where gaps permit.
func (m *modeller) unknown(pos policy.Pos, text, why string, high bool) policy.Expr {
	n := m.note(pos, text, why)
	m.unknowns++
	if !m.maybe {
		return constant(pos, high)
	}
	return dialect.Call(pos, "has_header", dialect.Text(pos, fmt.Sprintf("%s%d", dialect.GapHeader, n)))
}

// chosen is a condition that the sender makes true or false as he likes.
func (m *modeller) chosen(pos policy.Pos, text string) policy.Expr {
	i := slices.Index(m.choices, text)
	if i < 0 {
		i = len(m.choices)
		m.choices = append(m.choices, text)
	}
	return dialect.Call(pos, "has_header", dialect.Text(pos, fmt.Sprintf("%s%d", dialect.ChosenHeader, i+1)))
}

func (m *modeller) assume(s string) {
	if !slices.Contains(m.assumptions, s) {
		m.assumptions = append(m.assumptions, s)
	}
}

// remark is for people: nothing of it lets mail out.
func (m *modeller) remark(pos policy.Pos, text, why string) {
	if g := (dialect.Gap{Pos: pos, Text: text, Why: why}); !slices.Contains(m.notes, g) {
		m.notes = append(m.notes, g)
	}
}

func reject(pos policy.Pos) *policy.Final {
	return &policy.Final{Pos: pos, Kind: policy.ThenReject, Code: 550, Enhanced: [3]int{5, 7, 1}}
}

func drop(pos policy.Pos) *policy.Final { return &policy.Final{Pos: pos, Kind: policy.ThenDrop} }

// add adds a filter, unless it can never apply.
func (m *modeller) add(name string, pos policy.Pos, cond policy.Expr, do []policy.Action, then *policy.Final) bool {
	if l, is := cond.(*policy.Literal); is && l.Value == false {
		return false
	}
	if m.names[name]++; m.names[name] > 1 {
		name = fmt.Sprintf("%s (%d)", name, m.names[name])
	}
	m.filters = append(m.filters, policy.Filter{Pos: pos, Name: name, If: dialect.Whole(cond, pos), Do: do, Then: then})
	return true
}

// program makes the program: HAT, domain map, RAT, aliases, filters, the end.
func (m *modeller) program() (*policy.Program, error) {
	m.names, m.tags = map[string]int{}, map[string]bool{}
	m.prepare()
	m.admit()
	m.mapped("domain map", m.cfg.domains)
	if m.l.public {
		m.recipients()
	}
	m.mapped("alias", m.cfg.aliases)
	for _, f := range m.order {
		if !f.active {
			continue
		}
		if why := m.invalid(f); why != "" {
			m.remark(f.pos, "filter "+f.name, "the appliance skips it: "+why+"; what it was to stop goes on")
			continue
		}
		m.run(f, f.name, nil, nil)
	}
	m.deliver("end of the message filters", m.endPos(), nil, nil)
	all, _ := policy.ParsePattern("*", m.l.pos)
	return dialect.Program(m.filters, &policy.Topology{
		Hostname: "mail.invalid", Accept: []policy.Pattern{all}, DefaultPool: "out",
		Listeners: []policy.Listener{{Pos: m.l.pos, Name: "in", From: policy.FromStrangers}},
		Pools:     []policy.Pool{{Pos: m.l.pos, Name: "out"}},
	})
}

// endPos is what lets by mail that no filter stops: the RAT's ALL, else the listener.
func (m *modeller) endPos() policy.Pos {
	for _, e := range m.l.rat {
		if e.addr == "all" && e.accept {
			return e.pos
		}
	}
	return m.l.pos
}

// prepare finds what other recipients a sender can name.
func (m *modeller) prepare() {
	m.takesAll = !m.l.public || !m.l.hasRAT
	for _, e := range m.l.rat {
		if e.addr == "all" {
			m.takesAll = e.accept
			break
		}
		if !e.accept {
			continue
		}
		local, domain, at := strings.Cut(e.addr, "@")
		if !at {
			local, domain = "postmaster", e.addr
		}
		if strings.HasPrefix(domain, ".") {
			domain = "sub" + domain
		}
		if a, err := policy.ParseAddress(local + "@" + domain); err == nil {
			m.companions = append(m.companions, a.String())
		}
	}
	for _, al := range m.cfg.aliases {
		for _, to := range al.to {
			if a, err := policy.ParseAddress(to); err == nil {
				m.companions = append(m.companions, a.String())
			}
		}
	}
}

// recipients writes the RAT.
func (m *modeller) recipients() {
	l := m.l
	if !l.hasRAT {
		m.add("RAT", l.pos, dialect.Not(m.unknown(l.pos, "RAT of "+l.name, "it is not there: which recipients the listener accepts is not known", false)), nil, reject(l.pos))
		return
	}
	refused := dialect.Not(m.accepted(true))
	if m.tags[relaying] {
		refused = dialect.And(dialect.Not(dialect.Tagged(l.pos, relaying)), refused)
	}
	m.add("RAT", l.pos, refused, nil, reject(l.pos))
}

// mapped writes what gives a recipient another address. One of a constant address goes
// where the operator says; one that keeps what the sender wrote may go on.
func (m *modeller) mapped(what string, ms []mapping) {
	for _, p := range ms {
		for _, to := range p.to {
			if what == "alias" && !strings.HasPrefix(to, "@") && !strings.Contains(to, "$") {
				continue
			}
			cond := pattern(p.pos, p.key)
			m.add(what+" "+p.key, p.pos, dialect.And(cond, m.unknown(p.pos, what+" "+p.key+" "+to, "a recipient gets another domain, whose mail may go out", false)),
				nil, &policy.Final{Pos: p.pos, Kind: policy.ThenDeliver})
		}
	}
}

// outward holds for mail that goes to another host than one of the operator's.
func (m *modeller) outward(pos policy.Pos) policy.Expr {
	out := dialect.Not(m.inside(byMX))
	_, def := ordered(m.cfg.routes)
	if def != nil && def.hop() == toHost {
		out = dialect.And(out, dialect.Or(dialect.Not(m.inside(toHost)),
			m.unknown(def.pos, "SMTP route ALL "+strings.Join(def.hosts, " "), "whether that host sends on what is for others is not in the configuration", false)))
	}
	if m.l.public && m.l.hasRAT {
		// Without one that it accepts by name there is nothing to ask.
		if own := m.accepted(false); own != nil && slices.ContainsFunc(m.l.rat, func(e ratEntry) bool { return e.accept && e.addr != "all" }) {
			out = dialect.And(out, dialect.Or(dialect.Not(own), m.unknown(m.l.rat[0].pos, "RAT of "+m.l.name,
				"a domain that it accepts by name has no SMTP route: whether the hosts of its MX are the operator's is not in the configuration", false)))
		}
	}
	for _, r := range m.resends() {
		out = dialect.Or(out, dialect.And(pattern(r.pos, r.dom), m.unknown(r.pos, "SMTP route "+r.dom+" "+strings.Join(r.hosts, " "),
			"a listener lets that host relay: if it sends on what it is given (by the header To, say), strangers relay through it", false)))
	}
	for _, h := range m.holds {
		tag := dialect.Tagged(pos, h.tag)
		switch {
		case h.free:
			out = dialect.Or(tag, out)
		case h.why == "":
			out = dialect.And(dialect.Not(tag), out)
		default:
			out = dialect.And(dialect.Or(dialect.Not(tag), m.unknown(h.pos, h.text, h.why, false)), out)
		}
	}
	return out
}

// deliver ends a message: it goes out where low holds, and whatever high holds for goes
// no further down the list.
func (m *modeller) deliver(name string, pos policy.Pos, low, high policy.Expr) {
	m.add(name, pos, dialect.And(low, m.outward(pos)), nil, &policy.Final{Pos: pos, Kind: policy.ThenDeliver})
	m.add(name+": not outside", pos, high, nil, drop(pos))
}
