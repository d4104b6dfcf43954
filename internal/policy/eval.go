package policy

// Eval decides what happens to one recipient of one message, and tells how. It is
// the only meaning of a policy: the door (reports, accept, sender domains) first,
// then the filters top down, then the default. A filter that reads a fact which is
// not known fails closed: Eval then refuses with 451. Before the end of DATA ask
// Early instead.
func Eval(p *Program, f *Facts) (Decision, Trace) {
	e := env{facts: f, rcpt: f.Rcpt}
	if d, decided := p.door(f); decided {
		return d, nil
	}
	d := Decision{Rcpt: f.Rcpt}
	trace := make(Trace, 0, len(p.rules))
	for i := range p.rules {
		r := &p.rules[i]
		result := r.holds(&e)
		trace = append(trace, Step{Filter: r.filter.Name, Pos: r.filter.Pos, Result: result, Final: r.filter.Then != nil})
		switch result {
		case No:
			continue
		case Unknown:
			d.Filter, d.Pos = r.filter.Name, r.filter.Pos
			return d.refuse(451, [3]int{4, 3, 0}, "policy cannot be decided now, try again later"), trace
		}
		e.apply(r.filter, &d, p)
		if t := r.filter.Then; t != nil {
			d.Filter, d.Pos = r.filter.Name, r.filter.Pos
			if t.Kind == ThenSkip {
				return p.byDefault(f, d), trace
			}
			return p.finish(f, d, t), trace
		}
	}
	return p.byDefault(f, d), trace
}

// Early gives the refusal that the envelope alone decides: decided is true only if
// every completion of the message would be refused. Then d is the refusal that the
// first filter in reach gives, and it is right to give it at RCPT.
func Early(p *Program, f *Facts) (d Decision, decided bool) {
	if d, done := p.door(f); done {
		return d, d.Disposition == Refused
	}
	e := env{facts: f, rcpt: f.Rcpt}
	d = Decision{Rcpt: f.Rcpt}
	var first *Decision
	for i := range p.rules {
		r := &p.rules[i]
		result := r.holds(&e)
		if result == No {
			continue
		}
		if result == Yes {
			e.apply(r.filter, &d, p)
		} else {
			e.maybe(r.filter)
		}
		t := r.filter.Then
		if t == nil {
			continue
		}
		out := d
		out.Filter, out.Pos = r.filter.Name, r.filter.Pos
		if t.Kind == ThenSkip {
			out = p.byDefault(f, out)
		} else {
			out = p.finish(f, out, t)
		}
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
	out := p.byDefault(f, d)
	if out.Disposition != Refused {
		return Decision{}, false
	}
	if first == nil {
		first = &out
	}
	return *first, true
}

// apply adds what a filter does besides deciding.
func (e *env) apply(f *Filter, d *Decision, p *Program) {
	for i := range f.Do {
		a := &f.Do[i]
		switch a.Kind {
		case DoLog:
			d.Effects.Logs = append(d.Effects.Logs, a.Text)
		case DoTag:
			d.Effects.Tags = append(d.Effects.Tags, a.Text)
			e.tags = d.Effects.Tags
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
			e.rcpt = a.Rcpt
		}
	}
}

// maybe notes what a filter would change if it applied, of which it is not known.
func (e *env) maybe(f *Filter) {
	for i := range f.Do {
		switch f.Do[i].Kind {
		case DoTag:
			e.maybeTags = append(e.maybeTags, f.Do[i].Text)
		case DoSetRcpt:
			e.rcptUnknown = true
		}
	}
}

// door decides what the topology alone decides.
func (p *Program) door(f *Facts) (Decision, bool) {
	d := Decision{Rcpt: f.Rcpt}
	t := p.Topology
	for i := range t.Reports {
		if t.Reports[i] == f.Rcpt {
			d.Disposition = Consume
			return d, true
		}
	}
	switch f.Origin {
	case Stranger:
		if !matchAny(t.Accept, f.Rcpt) {
			return d.refuse(550, [3]int{5, 7, 1}, "relaying denied"), true
		}
	case Customer:
		if c := t.customer(f.Customer); c != nil && !c.maySend(f.Sender) {
			return d.refuse(550, [3]int{5, 7, 1}, "not your sender domain"), true
		}
	}
	return d, false
}

// customer finds a customer of the file.
func (t *Topology) customer(name string) *CustomerDef {
	for i := range t.Customers {
		if t.Customers[i].Name == name {
			return &t.Customers[i]
		}
	}
	return nil
}

// maySend reports whether a reverse-path is the customer's. The null reverse-path is
// anybody's.
func (c *CustomerDef) maySend(a Address) bool {
	return len(c.Senders) == 0 || a == (Address{}) || matchAny(c.Senders, a)
}

// byDefault is what happens to what no filter decides: customers' mail goes out by
// the default pool, everything else is refused.
func (p *Program) byDefault(f *Facts, d Decision) Decision {
	if f.Origin == Customer {
		return p.deliver(f, d, "")
	}
	return d.refuse(550, [3]int{5, 7, 1}, "relaying denied")
}

func (p *Program) finish(f *Facts, d Decision, t *Final) Decision {
	switch t.Kind {
	case ThenDeliver:
		return p.deliver(f, d, t.Pool)
	case ThenReject:
		text := t.Text
		if text == "" {
			text = "refused by policy"
		}
		return d.refuse(t.Code, t.Enhanced, text)
	case ThenDrop:
		d.Disposition = Drop
	case ThenHold:
		d.Disposition, d.Text = Hold, t.Text
	case ThenBounce:
		d.Disposition, d.Text = Bounce, t.Text
	}
	return d
}

// deliver settles pool and next hop. The inside host of a domain is its only next
// hop, whatever pool a filter names.
func (p *Program) deliver(f *Facts, d Decision, pool string) Decision {
	d.Disposition = Deliver
	if pool != "" {
		d.Pool = pool
	}
	if d.Pool == "" {
		d.Pool = p.Topology.DefaultPool
		if c := p.Topology.customer(f.Customer); c != nil && c.Pool != "" {
			d.Pool = c.Pool
		}
	}
	d.Inside = p.InsideFor(d.Rcpt)
	return d
}

func (d Decision) refuse(code int, enhanced [3]int, text string) Decision {
	d.Disposition, d.Code, d.Text = Refused, code, text
	if enhanced == ([3]int{}) {
		enhanced = [3]int{code / 100, 7, 1}
	}
	d.Enhanced = enhanced
	return d
}

// Holds reports whether an assert holds for one decision, by index into Asserts.
func (p *Program) Holds(assert int, f *Facts, d *Decision) Result {
	return p.asserts[assert](&env{facts: f, rcpt: d.Rcpt, decision: d, tags: d.Effects.Tags})
}

// Applies gives one filter's answer about a message by itself, by index into
// Filters: the recipient as it came, and no tags.
func (p *Program) Applies(filter int, f *Facts) Result {
	return p.rules[filter].holds(&env{facts: f, rcpt: f.Rcpt})
}
