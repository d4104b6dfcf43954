package verify

import (
	"fmt"
	"strings"

	"postern.dev/postern/internal/policy"
)

// leak is a filter by which a message is relayed that should not be.
type leak struct {
	index int // in the list of filters
	state answer
	facts *policy.Facts
	copy  *policy.Action // it is by a copy
}

// Bounds on what is said about one policy. A file of a hundred thousand filters that all
// relay is as open as one, and a finding for each helps nobody.
const (
	maxLeaks   = 500 // findings of one claim
	maxMended  = 16  // of PV002 for which a repair is sought
	maxGuarded = 64  // filters that one repair gives a clause to
)

// leaks gives every filter of the list that relays for a scene: that delivers, or
// copies, to anything but the inside host of the final recipient's domain and the
// declared sinks. p is the list as a program, for the replay.
func (v *prover) leaks(sc *scene, p *policy.Program) []leak {
	return v.leaksUpTo(sc, p, len(p.Filters))
}

// leaksUpTo gives the first leaks, most of them at the most.
func (v *prover) leaksUpTo(sc *scene, p *policy.Program, most int) []leak {
	l := v.read(sc, p.Filters)
	finals := make([]*form, 0, len(l.lines)) // of the lines above
	var out []leak
	for n := range l.lines {
		ln := &l.lines[n]
		v.here = ln.f
		k, leaks := v.leakAt(l, n, finals, p)
		if v.late() && k.state != found {
			return out
		}
		if leaks {
			if out = append(out, k); len(out) >= most {
				return out
			}
		}
		if ln.f.Then != nil {
			finals = append(finals, ln.cond)
		}
		if v.o.Progress != nil && n%256 == 0 {
			v.o.Progress(n, len(l.lines))
		}
	}
	return out
}

// leakAt asks how line n relays: by a copy, or by its own delivery. What is not known
// of one way does not keep another from being found.
func (v *prover) leakAt(l *list, n int, above []*form, p *policy.Program) (leak, bool) {
	ln := &l.lines[n]
	worst := leak{index: ln.index, state: none}
	for i := range ln.f.Do {
		if a := &ln.f.Do[i]; a.Kind == policy.DoCopy && v.undeclared(a.Rcpt) {
			switch k, is := v.copyLeak(l, n, a, p); {
			case is && k.state == found:
				return k, true
			case is && worst.state == none:
				worst = k
			}
		}
	}
	if ln.f.Then == nil || ln.f.Then.Kind != policy.ThenDeliver {
		return worst, worst.state != none
	}
	r, f := v.ask(l.sc, []*form{ln.cond, v.outside(l.sc, ln.after)}, above, func(f *policy.Facts) bool {
		d, _ := policy.Eval(p, f)
		return d.Filter == ln.f.Name && d.Disposition == policy.Deliver && d.Inside == "" && !v.top.DeclaredSink(d.Rcpt)
	})
	if r != none && worst.state != unknown || r == found {
		worst = leak{index: ln.index, state: r, facts: f}
	}
	return worst, worst.state != none
}

// undeclared reports a constant address that is neither inside nor a sink.
func (v *prover) undeclared(a policy.Address) bool {
	return v.p.InsideFor(a) == "" && !v.top.DeclaredSink(a)
}

// copyLeak looks for a message that a copying filter applies to and that is not
// refused or bounced in the end: then the copy goes out.
func (v *prover) copyLeak(l *list, n int, a *policy.Action, p *policy.Program) (leak, bool) {
	ln := &l.lines[n]
	worst := none
	for k := n; k < len(l.lines); k++ {
		end := &l.lines[k]
		if end.f.Then == nil || !accepts(end.f.Then.Kind, l.sc.origin) {
			continue
		}
		r, f := v.ask(l.sc, []*form{ln.cond, end.cond}, l.finalsAbove(k), func(f *policy.Facts) bool {
			d, _ := policy.Eval(p, f)
			return d.Filter == end.f.Name && copied(&d, ln.f.Name, a.Rcpt)
		})
		if r == found {
			return leak{index: ln.index, state: r, facts: f, copy: a}, true
		}
		if r == unknown {
			worst = r
		}
		if ln.f.Then != nil || v.ended {
			break
		}
	}
	return leak{index: ln.index, state: worst, copy: a}, worst != none
}

func copied(d *policy.Decision, filter string, to policy.Address) bool {
	for _, c := range d.Effects.Copies {
		if c.Filter == filter && c.Rcpt == to {
			return true
		}
	}
	return false
}

// accepts reports whether a final action takes a message, so that its copies go out.
func accepts(k policy.FinalKind, o policy.Origin) bool {
	switch k {
	case policy.ThenDeliver, policy.ThenDrop, policy.ThenHold:
		return true
	case policy.ThenSkip:
		return o == policy.Customer
	}
	return false
}

// relays proves that no stranger's message is relayed.
func (v *prover) relays(r *report) {
	if len(v.top.Customers)+len(v.top.Inside) > 0 {
		r.assume(RelayForStrangers, "a session shows the client's own address: no NAT or proxy stands in front that makes strangers look like somebody else")
	}
	if len(v.top.Inside) > 0 {
		r.assume(RelayForStrangers, "an inside host keeps what it is given for its domains, but for those that resend (PV002)")
	}
	if len(v.top.Customers) > 0 {
		r.assume(RelayForStrangers, "customers' passwords and networks are theirs alone")
	}
	sc := v.stranger()
	if len(sc.listeners) == 0 {
		return
	}
	found := v.leaksUpTo(sc, v.p, maxLeaks)
	var repair *Repair
	if len(found) > 0 && !v.o.NoRepairs {
		repair = v.repair(sc, found, func(p *policy.Program) []leak { return v.leaksUpTo(sc, p, maxLeaks) })
	}
	for _, k := range found {
		r.add(v.relayFinding(RelayForStrangers, k, repair))
	}
	v.andMore(r, RelayForStrangers, found)
}

// andMore says that the search has ended before the list did.
func (v *prover) andMore(r *report, c Code, found []leak) {
	if len(found) < maxLeaks {
		return
	}
	at := v.p.Filters[found[len(found)-1].index].Pos
	r.add(Finding{Code: c, Severity: Fault, Status: Unknown, Pos: at, Message: fmt.Sprintf("%d filters so far: those below were not looked at", maxLeaks), Hint: "mend these first"})
}

func (v *prover) relayFinding(code Code, k leak, repair *Repair) Finding {
	f := &v.p.Filters[k.index]
	out := Finding{Code: code, Severity: Fault, Status: Open, Filter: f.Name, Pos: f.Pos, Repair: repair}
	if k.state == unknown {
		out.Status = Unknown
		out.Message = fmt.Sprintf("filter %q: not proven that it relays for nobody", f.Name)
		out.Hint = "a condition is too hard or compares two facts: say in it whose mail it is for, as origin == \"customer\""
		return out
	}
	d, _ := policy.Eval(v.p, k.facts)
	to := d.Rcpt.String()
	if k.copy != nil {
		to = k.copy.Rcpt.String()
	}
	out.Message = fmt.Sprintf("filter %q relays for strangers: mail to %s goes out%s", f.Name, to, byPool(d, k))
	out.Witness = &Witness{Hops: []policy.Facts{*k.facts}, Decisions: []policy.Decision{d}}
	out.Blockers = v.blockers(k)
	switch {
	case k.copy != nil:
		out.Hint = fmt.Sprintf("declare where the copy goes: sinks = [%q]", to)
	case d.Rewritten:
		out.Hint = fmt.Sprintf("if mail of strangers is to go to %s, declare it: sinks = [%q]", to, to)
	case repair != nil:
		out.Hint = repair.String()
	}
	return out
}

func byPool(d policy.Decision, k leak) string {
	if k.copy != nil {
		return " as a copy"
	}
	if d.Pool == "" {
		return ""
	}
	return " over pool " + d.Pool
}

// blockers gives the final filters below the guilty one that apply to the witness
// too and would not have relayed it.
func (v *prover) blockers(k leak) []Blocker {
	var out []Blocker
	for i := k.index + 1; i < len(v.p.Filters); i++ {
		f := &v.p.Filters[i]
		if f.Then != nil && f.Then.Kind != policy.ThenDeliver && v.p.Applies(i, k.facts) == policy.Yes {
			out = append(out, Blocker{Filter: f.Name, Pos: f.Pos})
		}
	}
	return out
}

// String tells a repair in words.
func (r *Repair) String() string {
	var parts []string
	for _, m := range r.Moves {
		parts = append(parts, fmt.Sprintf("move filter %q before %q", m.Filter, m.Before))
	}
	for _, g := range r.Guards {
		parts = append(parts, fmt.Sprintf("add to filter %q: && %s", g.Filter, g.Clause))
	}
	return strings.Join(parts, "; ")
}
