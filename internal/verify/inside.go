package verify

import (
	"fmt"
	"slices"

	"postern.dev/postern/internal/policy"
)

// taint is an inside host that a stranger's message can come to, with the messages
// that take it there.
type taint struct {
	host  *policy.InsideHost
	state answer
	hops  []policy.Facts
}

// insides proves that no stranger relays by way of an inside host: what he can get
// to a host that resends may come out of it as any message to anybody, and is
// followed through the policy again, host by host, until nothing new is in reach.
func (v *prover) insides(r *report) {
	if len(v.top.Inside) == 0 {
		return
	}
	w := &way{v: v, r: r, seen: map[string]bool{}, reported: map[int]Finding{}}
	// First by what is found, then by what is not known.
	w.follow(found)
	w.follow(unknown)
	for _, i := range w.order {
		r.add(w.reported[i])
	}
	if h := v.postmasterHost(); h != "" && !v.resends(h) {
		r.assume(RelayByInside, fmt.Sprintf("inside host %q does not send on what it is given (resends = false)", h))
	}
	seen := w.seen
	for i := range v.top.Inside {
		if h := &v.top.Inside[i]; !seen[h.Name] && h.Resends {
			r.assume(RelayByInside, fmt.Sprintf("inside host %q gets no mail of strangers but through this gateway", h.Name))
		}
	}
}

// way is the search by way of inside hosts: a host that is seen is not gone to again,
// and a filter is reported once.
type way struct {
	v        *prover
	r        *report
	seen     map[string]bool
	order    []int
	reported map[int]Finding
}

// follow goes from the stranger from host to host, to those that a message was found
// to come to or, where least is unknown, may come to for all that is known.
func (w *way) follow(least answer) {
	v := w.v
	var next []taint
	if sc := v.stranger(); len(sc.listeners) > 0 {
		next = v.handedTo(sc, taint{state: found}, least, w.seen)
	}
	if least == unknown { // and from those that are known already
		for i := range v.top.Inside {
			if h := &v.top.Inside[i]; w.seen[h.Name] && h.Resends && h.Address.IsValid() {
				next = append(next, v.handedTo(v.insider(h), taint{host: h, state: unknown}, least, w.seen)...)
			}
		}
	}
	for len(next) > 0 && !v.late() {
		t := next[0]
		next = next[1:]
		if !t.host.Resends {
			w.r.assume(RelayByInside, fmt.Sprintf("inside host %q does not send on what it is given (resends = false)", t.host.Name))
			continue
		}
		if !t.host.Address.IsValid() {
			continue
		}
		sc := v.insider(t.host)
		ks := v.leaksUpTo(sc, v.p, maxLeaks)
		v.andMore(w.r, RelayByInside, ks)
		for _, k := range ks {
			w.report(t, k, sc)
		}
		next = append(next, v.handedTo(sc, t, least, w.seen)...)
	}
}

// report notes a leak, unless the same filter is known to be as bad.
func (w *way) report(t taint, k leak, sc *scene) {
	was, known := w.reported[k.index]
	if !known {
		w.order = append(w.order, k.index)
	} else if was.Status == Open || k.state == unknown || t.state == unknown {
		return
	}
	w.reported[k.index] = w.v.insideFinding(t, k, sc, len(w.order) <= maxMended)
}

// postmasterHost names the inside host of what comes for the postmaster, which gets it
// unless it resends; "" where there is none.
func (v *prover) postmasterHost() string {
	if len(v.top.Postmasters) == 0 {
		return ""
	}
	return v.p.InsideFor(v.top.Postmaster)
}

func (v *prover) resends(host string) bool {
	return slices.ContainsFunc(v.top.Inside, func(h policy.InsideHost) bool { return h.Name == host && h.Resends })
}

// handedTo gives the hosts, not seen before, that a message of the scene can be
// handed to.
func (v *prover) handedTo(sc *scene, from taint, least answer, seen map[string]bool) []taint {
	l := v.read(sc, v.p.Filters)
	var out []taint
	for i := range v.top.Inside {
		h := &v.top.Inside[i]
		if seen[h.Name] {
			continue
		}
		for n := range l.lines {
			v.here = l.lines[n].f
			state, f := v.handsTo(l, n, h)
			if v.late() && state != found {
				return out
			}
			if state == none || state == unknown && least == found {
				continue
			}
			seen[h.Name] = true
			t := taint{host: h, state: state, hops: append([]policy.Facts(nil), from.hops...)}
			if f != nil {
				t.hops = append(t.hops, *f)
			}
			if from.state == unknown {
				t.state = unknown // the hops do not begin with a stranger
			}
			out = append(out, t)
			break
		}
	}
	return out
}

// handsTo asks whether line n hands a message to an inside host, by a copy or by its
// own delivery.
func (v *prover) handsTo(l *list, n int, h *policy.InsideHost) (answer, *policy.Facts) {
	ln := &l.lines[n]
	worst := none
	for i := range ln.f.Do {
		if a := &ln.f.Do[i]; a.Kind == policy.DoCopy && v.p.InsideFor(a.Rcpt) == h.Name {
			switch k, _ := v.copyLeak(l, n, a, v.p); k.state {
			case found:
				return found, k.facts
			case unknown:
				worst = unknown
			}
		}
	}
	if ln.f.Then == nil || ln.f.Then.Kind != policy.ThenDeliver {
		return worst, nil
	}
	r, f := v.ask(l.sc, []*form{ln.cond, v.toHost(l.sc, ln.after, h)}, l.finalsAbove(n), func(f *policy.Facts) bool {
		d, _ := policy.Eval(v.p, f)
		return d.Filter == ln.f.Name && d.Disposition == policy.Deliver && d.Inside == h.Name
	})
	if r == none {
		r = worst
	}
	return r, f
}

func (v *prover) insideFinding(t taint, k leak, sc *scene, mend bool) Finding {
	f := &v.p.Filters[k.index]
	out := Finding{Code: RelayByInside, Severity: Fault, Status: Open, Filter: f.Name, Pos: f.Pos}
	if k.state == unknown || t.state == unknown {
		out.Status = Unknown
		out.Message = fmt.Sprintf("filter %q: not proven that nothing of strangers goes out through it by way of inside host %q", f.Name, t.host.Name)
		return out
	}
	w := &Witness{Hops: append(append([]policy.Facts(nil), t.hops...), *k.facts)}
	for i := range w.Hops {
		d, _ := policy.Eval(v.p, &w.Hops[i])
		w.Decisions = append(w.Decisions, d)
	}
	out.Witness = w
	last := w.Decisions[len(w.Decisions)-1]
	out.Message = fmt.Sprintf("filter %q relays what inside host %q sends on: a stranger's message comes to it and goes out to %s", f.Name, t.host.Name, last.Rcpt)
	out.Blockers = v.blockers(k)
	if mend && !v.o.NoRepairs {
		out.Repair = v.repair(sc, []leak{k}, func(p *policy.Program) []leak { return v.only(v.leaks(sc, p), f.Name, p) })
	}
	out.Hint = fmt.Sprintf("if %q sends nothing on, say resends = false in its block; else keep its mail from going out", t.host.Name)
	return out
}

// only keeps the leaks of one filter.
func (v *prover) only(ks []leak, name string, p *policy.Program) []leak {
	var out []leak
	for _, k := range ks {
		if p.Filters[k.index].Name == name {
			out = append(out, k)
		}
	}
	return out
}

// backscatter proves that no stranger makes the gateway send a DSN to an address of
// his choosing.
func (v *prover) backscatter(r *report) {
	if len(v.top.Inside) > 0 {
		r.assume(Backscatter, "a stranger's message that its inside host refuses is given up without a DSN, as the queue does")
	}
	sc := v.stranger()
	if len(sc.listeners) == 0 {
		return
	}
	l := v.read(sc, v.p.Filters)
	null := v.u.setOf(v.part(senderTerm, "domain"), "")
	for n := range l.lines {
		ln := &l.lines[n]
		if ln.f.Then == nil || ln.f.Then.Kind != policy.ThenBounce {
			continue
		}
		v.here = ln.f
		state, f := v.ask(sc, []*form{ln.cond, not(null)}, l.finalsAbove(n), func(f *policy.Facts) bool {
			d, _ := policy.Eval(v.p, f)
			return d.Filter == ln.f.Name && d.Disposition == policy.Bounce
		})
		if v.late() && state != found {
			return
		}
		if state == none {
			continue
		}
		out := Finding{Code: Backscatter, Severity: Fault, Status: Open, Filter: ln.f.Name, Pos: ln.f.Pos,
			Hint: "refuse instead: then = reject(), or say whose mail it is for: origin == \"customer\""}
		out.Message = fmt.Sprintf("filter %q bounces a stranger's message: the DSN goes to whatever address he writes", ln.f.Name)
		if state == unknown {
			out.Status, out.Message = Unknown, fmt.Sprintf("filter %q: not proven that it bounces nothing of strangers", ln.f.Name)
		} else {
			d, _ := policy.Eval(v.p, f)
			out.Witness = &Witness{Hops: []policy.Facts{*f}, Decisions: []policy.Decision{d}}
		}
		r.add(out)
	}
}
