package postfix

import (
	"fmt"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/policy"
)

// writer makes filters of steps. A list that only has to be got through marks its end
// with a tag; the list that decides delivers.
type writer struct {
	m       *modeller
	filters []policy.Filter
	names   map[string]int
}

// elsewhere is where a rewriting with a part of the sender's choosing can lead.
var elsewhere = policy.Address{Local: "anyone", Domain: "elsewhere.invalid"}

func (w *writer) add(name string, pos policy.Pos, cond policy.Expr, do []policy.Action, then *policy.Final) {
	if l, is := cond.(*policy.Literal); is && l.Value == false {
		return
	}
	if w.names[name]++; w.names[name] > 1 {
		name = fmt.Sprintf("%s (%d)", name, w.names[name])
	}
	w.filters = append(w.filters, policy.Filter{Pos: pos, Name: name, If: dialect.Whole(cond, pos), Do: do, Then: then})
}

func reject(pos policy.Pos) *policy.Final {
	return &policy.Final{Pos: pos, Kind: policy.ThenReject, Code: 550, Enhanced: [3]int{5, 7, 1}}
}

// strangers leaves out who is no stranger, and sessions that cannot be.
func (w *writer) strangers(s *service) {
	m := w.m
	if !m.spoofed {
		var nets []policy.Expr
		for _, n := range m.mynetworks.nets {
			nets = append(nets, dialect.Within(s.pos, "client.address", n.String()))
		}
		if len(nets) > 0 {
			w.add("trusted networks", s.pos, dialect.And(dialect.Or(nets...), m.mynetworks.cond), nil, reject(s.pos))
		}
	}
	if m.yes("smtpd_helo_required") {
		w.add("smtpd_helo_required", m.get("smtpd_helo_required").pos, dialect.Equal(s.pos, "client.helo", ""), nil, reject(s.pos))
	}
}

// list writes a list that has to be got through.
func (w *writer) list(name string, steps []step, at place) {
	done, set := "through "+name, false
	for _, s := range steps {
		cond := s.cond
		if at.helo {
			cond = dialect.And(dialect.Not(dialect.Equal(s.pos, "client.helo", "")), cond)
		}
		if set {
			cond = dialect.And(dialect.Not(dialect.Tagged(s.pos, done)), cond)
		}
		switch s.then {
		case refuse:
			w.add(s.name, s.pos, cond, nil, reject(s.pos))
		case permit:
			w.add(s.name, s.pos, cond, []policy.Action{{Pos: s.pos, Kind: policy.DoTag, Text: done}}, nil)
			set = len(w.filters) > 0 && w.filters[len(w.filters)-1].Do != nil || set
		}
	}
}

// decide writes the list whose permits deliver, and before each what rewrites the
// recipient to where the sender chooses.
func (w *writer) decide(name string, steps []step) {
	rewrites := w.m.rewrites()
	end := w.m.get(name).pos
	steps = append(steps, step{then: permit, name: name + ": end of the list", pos: end})
	for _, s := range steps {
		if s.then == refuse {
			w.add(s.name, s.pos, s.cond, nil, reject(s.pos))
			continue
		}
		for _, r := range rewrites {
			w.add(r.name, r.pos, dialect.And(s.cond, r.cond),
				[]policy.Action{{Pos: r.pos, Kind: policy.DoSetRcpt, Rcpt: elsewhere}}, &policy.Final{Pos: r.pos, Kind: policy.ThenDeliver})
		}
		w.add(s.name, s.pos, s.cond, nil, &policy.Final{Pos: s.pos, Kind: policy.ThenDeliver})
	}
}

// rewrites gives the rules that send mail to where a part of its address says.
func (m *modeller) rewrites() []step {
	var out []step
	for _, name := range []string{"canonical_maps", "recipient_canonical_maps", "virtual_alias_maps", "recipient_bcc_maps"} {
		p := m.get(name)
		for _, item := range list(p.value) {
			t, err := m.tables.open(item, p.pos)
			if err != nil {
				if m.maybe {
					out = append(out, step{cond: m.gap(p.pos, name+": "+item, err.Error()), name: name + ": " + item, pos: p.pos})
				} else {
					m.note(p.pos, name+": "+item, err.Error())
				}
				continue
			}
			out = append(out, chosen(t, name+": "+item, p.pos)...)
		}
	}
	return out
}

// chosen gives the rules of a table whose result has a domain of the sender's choosing.
func chosen(t *table, name string, pos policy.Pos) []step {
	var out []step
	var earlier []policy.Expr
	for i := range t.rules {
		ru := &t.rules[i]
		if ru.re == "" {
			continue
		}
		where := ru.pos
		if where.Line == 0 {
			where = pos
		}
		c := dialect.Matches(where, "rcpt.address", ru.re)
		if ru.negate {
			earlier = append(earlier, c)
			continue // nothing is captured
		}
		if ru.groups && freeDomain(ru.value) {
			out = append(out, step{cond: dialect.And(append(earlier[:len(earlier):len(earlier)], c)...), name: name, pos: where})
		}
		earlier = append(earlier, dialect.Not(c))
	}
	return out
}
