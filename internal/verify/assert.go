package verify

import (
	"fmt"

	"postern.dev/postern/internal/policy"
)

// asserts proves every assert for every message past the door, whatever its origin.
func (v *prover) asserts(r *report) {
	if len(v.p.Asserts) == 0 {
		return
	}
	scenes := v.scenes()
	for i := range v.p.Asserts {
		a := &v.p.Asserts[i]
		var worst *Finding
		for _, sc := range scenes {
			f := v.assertIn(sc, i)
			if f != nil && (worst == nil || f.Status == Open) {
				worst = f
			}
			if v.ended || worst != nil && worst.Status == Open {
				break
			}
		}
		if worst != nil {
			worst.Assert, worst.Pos = a.Name, a.Pos
			r.add(*worst)
		}
		if v.ended {
			return
		}
	}
}

// scenes are all the sorts of sessions whose mail runs through the filters.
func (v *prover) scenes() []*scene {
	var out []*scene
	if sc := v.stranger(); len(sc.listeners) > 0 {
		out = append(out, sc)
	}
	for i := range v.top.Inside {
		if v.top.Inside[i].Address.IsValid() {
			out = append(out, v.insider(&v.top.Inside[i]))
		}
	}
	if sc := v.customer(); len(sc.listeners) > 0 {
		out = append(out, sc)
	}
	return out
}

// assertIn looks for a message of the scene that breaks an assert: nil if there is
// none. What is not known of one fate does not keep another from being found.
func (v *prover) assertIn(sc *scene, n int) *Finding {
	a := &v.p.Asserts[n]
	l := v.read(sc, v.p.Filters)
	var worst *Finding
	for _, ft := range v.fates(l) {
		if ft.by != nil {
			v.here = ft.by
		}
		st := v.stateOf(l, ft)
		rd := &reader{v: v, sc: sc, st: st, fate: ft}
		breaks := not(rd.cond(a.Always))
		state, f := v.ask(sc, []*form{ft.cond, breaks}, ft.above, func(f *policy.Facts) bool {
			d, _ := policy.Eval(v.p, f)
			return d.Filter == ft.filter && v.p.Holds(n, f, &d) == policy.No
		})
		switch {
		case v.late() && state != found:
			return worst
		case state == found:
			d, _ := policy.Eval(v.p, f)
			return &Finding{Code: AssertHolds, Severity: Fault, Status: Open, Filter: ft.filter,
				Message: fmt.Sprintf("assert %q does not hold: %s is decided by %s as %s", a.Name, describe(f), by(ft.filter), outcome(&d)),
				Witness: &Witness{Hops: []policy.Facts{*f}, Decisions: []policy.Decision{d}}}
		case state == unknown && worst == nil:
			worst = &Finding{Code: AssertHolds, Severity: Fault, Status: Unknown, Filter: ft.filter,
				Message: fmt.Sprintf("assert %q: not proven for what %s decides", a.Name, by(ft.filter))}
		}
	}
	return worst
}

// stateOf gives the state that a fate's own decision sees.
func (v *prover) stateOf(l *list, ft *fate) *state {
	for i := range l.lines {
		if l.lines[i].f.Name == ft.filter && l.lines[i].f.Then != nil {
			return l.lines[i].after
		}
	}
	return l.end
}

func by(filter string) string {
	if filter == "" {
		return "the default"
	}
	return fmt.Sprintf("filter %q", filter)
}

// outcome puts a decision in a few words.
func outcome(d *policy.Decision) string {
	switch {
	case d.Disposition == policy.Deliver && d.Inside != "":
		return "deliver to inside host " + d.Inside
	case d.Disposition == policy.Deliver:
		return "deliver over pool " + d.Pool
	case d.Disposition == policy.Refused:
		return fmt.Sprintf("refused with %d", d.Code)
	}
	return string(d.Disposition)
}
