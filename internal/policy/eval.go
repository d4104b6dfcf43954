package policy

import "slices"

// Eval decides what happens to one recipient of one message, and tells how. It is
// the only meaning of a policy: the door (reports, accept, sender domains) first,
// then the filters top down, then the default. A filter that reads a fact which is
// not known fails closed: Eval then refuses with 451. Before the end of DATA ask
// Early instead. The Trace has the filters that applied, which of those that read
// an unknown fact is the last.
func Eval(p *Program, f *Facts) (d Decision, t Trace) {
	t = p.eval(f, &d, false)
	if checked {
		p.checkEval(f, &d, t)
	}
	return d, t
}

// Explain is Eval with every filter down to the decision in its Trace.
func Explain(p *Program, f *Facts) (d Decision, t Trace) {
	t = p.eval(f, &d, true)
	return d, t
}

// eval runs down the filters: all of them, or those that the index says can apply.
func (p *Program) eval(f *Facts, d *Decision, plain bool) Trace {
	d.Rcpt = f.Rcpt
	w := p.begin(f, plain)
	var trace Trace
	if !p.door(w, d) {
		w.gather()
		trace = p.decide(w, d)
	}
	w.end()
	return trace
}

func (p *Program) decide(w *walk, d *Decision) Trace {
	var trace Trace
	for i := w.next(); i < len(p.rules); i = w.next() {
		r := &p.rules[i]
		result := p.code.holds(&w.env, r.at)
		trace = w.note(trace, i, result)
		switch result {
		case No:
			continue
		case Unknown:
			d.Filter, d.Pos = r.name, r.pos
			d.refuse(451, [3]int{4, 3, 0}, "policy cannot be decided now, try again later")
			return trace
		}
		changed := r.acts && w.env.apply(&p.Filters[i], d, p)
		if r.then != nil {
			d.Filter, d.Pos = r.name, r.pos
			p.finish(w, d, r)
			return trace
		}
		if changed {
			w.changed()
		}
	}
	p.byDefault(w, d)
	return trace
}

// note adds a step. The trace of one step is made beforehand.
func (w *walk) note(t Trace, i int, result Result) Trace {
	if !w.plain {
		switch {
		case result == No:
			return t
		case result == Yes && t == nil:
			return w.index.applied[i : i+1 : i+1]
		}
	}
	return append(t, w.program.rules[i].step(result))
}

// Early gives the refusal that the envelope alone decides: decided is true only if
// every completion of the message would be refused. Then d is the refusal that the
// first filter in reach gives, and it is right to give it at RCPT.
func Early(p *Program, f *Facts) (d Decision, decided bool) {
	d, decided = p.early(f, false)
	if checked {
		p.checkEarly(f, &d, decided)
	}
	return d, decided
}

func (p *Program) early(f *Facts, plain bool) (Decision, bool) {
	d := Decision{Rcpt: f.Rcpt}
	w := p.begin(f, plain)
	defer w.end()
	if p.door(w, &d) {
		return d, d.Disposition == Refused
	}
	w.gather()
	var first *Decision
	for i := w.next(); i < len(p.rules); i = w.next() {
		r := &p.rules[i]
		result := p.code.holds(&w.env, r.at)
		if result == No {
			continue
		}
		var changed bool
		if result == Yes {
			changed = w.env.apply(&p.Filters[i], &d, p)
		} else {
			changed = w.env.maybe(&p.Filters[i])
		}
		if changed {
			w.changed()
		}
		if r.then == nil {
			continue
		}
		out := d
		out.Filter, out.Pos = r.name, r.pos
		p.finish(w, &out, r)
		if out.Disposition != Refused {
			return Decision{}, false
		}
		if first == nil {
			first = &out
		}
		if result == Yes {
			return *first, true
		}
	}
	if p.byDefault(w, &d); d.Disposition != Refused {
		return Decision{}, false
	}
	if first == nil {
		first = &d
	}
	return *first, true
}

// apply adds what a filter does besides deciding; changed tells whether filters
// below read it.
func (e *env) apply(f *Filter, d *Decision, p *Program) (changed bool) {
	for i := range f.Do {
		a := &f.Do[i]
		switch a.Kind {
		case DoLog:
			d.Effects.Logs = append(d.Effects.Logs, a.Text)
		case DoTag:
			d.Effects.Tags = append(d.Effects.Tags, a.Text)
			e.tags, changed = d.Effects.Tags, true
		case DoSetHeader:
			d.Effects.Headers = append(d.Effects.Headers, HeaderField{Name: a.Name, Value: a.Text})
		case DoPool:
			d.Pool = a.Text
		case DoLimit:
			d.Effects.Limits = append(d.Effects.Limits, Limit{Filter: f.Name, Rate: a.Rate})
		case DoCopy:
			d.Effects.Copies = append(d.Effects.Copies, Copy{Filter: f.Name, Rcpt: a.Rcpt, Inside: p.InsideFor(a.Rcpt)})
		case DoSetRcpt:
			d.Rcpt, d.Rewritten = a.Rcpt, true
			e.setRcpt(a.Rcpt)
			changed = true
		}
	}
	return changed
}

// maybe notes what a filter would change if it applied, of which it is not known.
func (e *env) maybe(f *Filter) (changed bool) {
	for i := range f.Do {
		switch f.Do[i].Kind {
		case DoTag:
			e.maybeTags = append(e.maybeTags, f.Do[i].Text)
			changed = true
		case DoSetRcpt:
			e.lacks |= lackRcpt
			changed = true
		}
	}
	return changed
}

// door decides what the topology alone decides.
func (p *Program) door(w *walk, d *Decision) bool {
	t, f := p.Topology, w.env.facts
	for i := range t.Reports {
		if t.Reports[i] == f.Rcpt {
			d.Disposition = Consume
			return true
		}
	}
	if f.Rcpt.Local == "postmaster" && slices.Contains(t.Postmasters, f.Rcpt) {
		p.toPostmaster(w, d)
		return true
	}
	switch {
	case f.Origin == Stranger && !matchAny(t.Accept, f.Rcpt):
		d.refuse(550, [3]int{5, 7, 1}, "relaying denied")
		return true
	case w.barred:
		d.refuse(550, [3]int{5, 7, 1}, "not your sender domain")
		return true
	}
	return false
}

// customer gives the pool of the customer that facts are of, and whether the sender is
// somebody else's.
func (p *Program) customer(f *Facts) (pool string, barred bool) {
	c := p.customers[f.Customer]
	if c == nil {
		return "", false
	}
	return c.Pool, f.Origin == Customer && !c.maySend(f.Sender)
}

// toPostmaster takes what anybody writes to the postmaster of this host. It goes to the
// operator's address where that is safe: at an inside host that sends nothing on, or a
// declared sink that is at no inside host. Otherwise it is held, to be read in the queue.
func (p *Program) toPostmaster(w *walk, d *Decision) {
	if p.postmasterReachable() {
		d.Rcpt, d.Rewritten = p.Topology.Postmaster, true
		p.deliver(w, d, "")
		return
	}
	d.Disposition, d.Text = Hold, "postmaster"
}

func (p *Program) postmasterReachable() bool {
	t := p.Topology
	h := p.InsideFor(t.Postmaster)
	return h == "" && t.DeclaredSink(t.Postmaster) || h != "" && !t.resends(h)
}

// HoldsForPostmaster reports whether what anybody writes to an address is held, to be read
// in the queue.
func (p *Program) HoldsForPostmaster(rcpt Address) bool {
	return rcpt.Local == "postmaster" && slices.Contains(p.Topology.Postmasters, rcpt) && !slices.Contains(p.Topology.Reports, rcpt) && !p.postmasterReachable()
}

func (t *Topology) resends(host string) bool {
	for i := range t.Inside {
		if t.Inside[i].Name == host {
			return t.Inside[i].Resends
		}
	}
	return false
}

// maySend reports whether a reverse-path is the customer's. The null reverse-path is
// anybody's.
func (c *CustomerDef) maySend(a Address) bool {
	return len(c.Senders) == 0 || a == (Address{}) || matchAny(c.Senders, a)
}

// byDefault is what happens to what no filter decides: customers' mail goes out by
// the default pool, everything else is refused.
func (p *Program) byDefault(w *walk, d *Decision) {
	if w.env.facts.Origin == Customer {
		p.deliver(w, d, "")
		return
	}
	d.refuse(550, [3]int{5, 7, 1}, "relaying denied")
}

func (p *Program) finish(w *walk, d *Decision, r *rule) {
	if r.drop {
		d.Disposition = Drop
		return
	}
	switch t := r.then; t.Kind {
	case ThenSkip:
		p.byDefault(w, d)
	case ThenDeliver:
		p.deliver(w, d, t.Pool)
	case ThenReject:
		text := t.Text
		if text == "" {
			text = "refused by policy"
		}
		d.refuse(t.Code, t.Enhanced, text)
	case ThenHold:
		d.Disposition, d.Text = Hold, t.Text
	case ThenBounce:
		d.Disposition, d.Text = Bounce, t.Text
	}
}

// deliver settles pool and next hop. The inside host of a domain is its only next
// hop, whatever pool a filter names.
func (p *Program) deliver(w *walk, d *Decision, pool string) {
	d.Disposition = Deliver
	if pool != "" {
		d.Pool = pool
	}
	if d.Pool == "" {
		if d.Pool = w.pool; d.Pool == "" {
			d.Pool = p.Topology.DefaultPool
		}
	}
	d.Inside = p.InsideFor(d.Rcpt)
}

func (d *Decision) refuse(code int, enhanced [3]int, text string) {
	d.Disposition, d.Code, d.Text = Refused, code, text
	if enhanced == ([3]int{}) {
		enhanced = [3]int{code / 100, 7, 1}
	}
	d.Enhanced = enhanced
}

// Holds reports whether an assert holds for one decision, by index into Asserts.
func (p *Program) Holds(assert int, f *Facts, d *Decision) Result {
	var e env
	e.reset(f, p)
	e.setRcpt(d.Rcpt)
	e.decision, e.tags = d, d.Effects.Tags
	return p.code.holds(&e, p.asserts[assert])
}

// Applies gives one filter's answer about a message by itself, by index into
// Filters: the recipient as it came, and no tags.
func (p *Program) Applies(filter int, f *Facts) Result {
	var e env
	e.reset(f, p)
	return p.code.holds(&e, p.rules[filter].at)
}
