package verify_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern.dev/postern/internal/policy"
)

// arrivals makes the classes of whose session it is: listener, client, customer and
// user, as far as sessions go together. Of customers it has what the prover grants
// them, which is more than there is: any user, and those of the store any address.
func (b *force) arrivals() {
	t := b.programs[0].Topology
	var all []arrival
	users := append(b.asks("arrival").constants, "", "who")
	for _, l := range t.Listeners {
		for _, ip := range b.peers() {
			host := slices.IndexFunc(t.Inside, func(h policy.InsideHost) bool { return h.Address.Addr().Unmap() == ip })
			switch {
			case host >= 0:
				all = append(all, arrival{listener: l.Name, origin: policy.Inside, peer: ip})
			case l.From == policy.FromStrangers:
				all = append(all, arrival{listener: l.Name, origin: policy.Stranger, peer: ip})
			}
			if l.From != policy.FromCustomers && !l.Auth {
				continue
			}
			for _, u := range unique(users) {
				all = append(all, arrival{listener: l.Name, origin: policy.Customer, peer: ip, user: u, customer: "of-the-store"})
				for _, c := range t.Customers {
					if l.Auth || slices.ContainsFunc(c.Networks, func(n netip.Prefix) bool { return n.Contains(ip) }) {
						all = append(all, arrival{listener: l.Name, origin: policy.Customer, peer: ip, user: u, customer: c.Name})
					}
				}
			}
		}
	}
	atoms := b.reading("arrival")
	seen := map[string]bool{}
	for _, a := range all {
		f := blank()
		a.set(f)
		group := string(a.origin) + " " + a.customer
		if a.origin == policy.Inside {
			group += hostOf(b.programs[0], f)
		}
		if k := group + " " + b.answers(atoms, f); !seen[k] {
			seen[k] = true
			b.values["arrival"] = append(b.values["arrival"], value{a.set, group})
		}
	}
}

func (a arrival) set(f *policy.Facts) {
	f.Listener, f.Origin, f.Client.Address, f.AuthUser, f.Customer = a.listener, a.origin, a.peer, a.user, a.customer
}

// peers gives the first address of every stretch that networks do not divide.
func (b *force) peers() []netip.Addr {
	var out []netip.Addr
	for _, s := range []string{"198.51.100.7", "2001:db8:1::7", "0.0.0.0", "::", "::1:0:0:0"} {
		out = append(out, netip.MustParseAddr(s))
	}
	add := func(n netip.Prefix) {
		out = append(out, n.Addr())
		if last := lastOf(n).Next(); last.IsValid() {
			out = append(out, last)
		}
	}
	for _, s := range b.asks("arrival").constants {
		if n, err := policy.ParsePrefix(s); err == nil {
			add(n)
		}
	}
	for _, a := range b.list {
		if c, ok := a.x.(*policy.Call); ok && c.Func == "within" {
			for _, x := range c.Args[1:] {
				if l, isList := x.(*policy.List); isList {
					c = &policy.Call{Args: append([]policy.Expr{nil}, l.Items...)}
				}
			}
			for _, x := range c.Args[1:] {
				if n, err := policy.ParsePrefix(x.(*policy.Literal).Value.(string)); err == nil {
					add(n)
				}
			}
		}
	}
	for _, p := range b.programs {
		for _, c := range p.Topology.Customers {
			for _, n := range c.Networks {
				add(n)
			}
		}
		for _, h := range p.Topology.Inside {
			a := h.Address.Addr().Unmap()
			add(netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return unique(out)
}

func lastOf(n netip.Prefix) netip.Addr {
	o := n.Addr().AsSlice()
	for i := n.Bits(); i < len(o)*8; i++ {
		o[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(o)
	return a
}

// place is where the walk stands: a message, with the classes of each variable that
// it stands for, and what the filters so far have changed.
type place struct {
	f       policy.Facts
	content policy.Content
	left    []choice
	d       policy.Decision // recipient and tags here
}

// choice is what is left of the classes of a variable: the message has the first.
type choice struct {
	v  string
	of []value
	at []int32 // in the variable's classes
}

func (s *place) choice(v string) *choice {
	for i := range s.left {
		if s.left[i].v == v {
			return &s.left[i]
		}
	}
	return nil
}

func (s *place) copy() *place {
	out := *s
	out.content = *s.f.Content
	out.content.Headers = slices.Clone(out.content.Headers)
	out.f.Content = &out.content
	return &out
}

// keep gives the place with some classes of a variable left.
func (s *place) keep(c choice) *place {
	out := s.copy()
	out.left = slices.Clone(s.left)
	if was := out.choice(c.v); was != nil {
		*was = c
	} else {
		out.left = append(out.left, c)
	}
	c.of[c.at[0]].set(&out.f)
	if c.v == "rcpt" && !s.d.Rewritten {
		out.d.Rcpt = out.f.Rcpt
	}
	return out
}

// open gives the classes of a variable that are left.
func (b *force) open(v string, s *place) choice {
	if c := s.choice(v); c != nil {
		return *c
	}
	c := choice{v: v, of: b.classesOf(v, s)}
	for i := range c.of {
		c.at = append(c.at, int32(i))
	}
	return c
}

// answer reads a condition. need is an atom that has not the same answer for all
// that is left.
func (b *force) answer(x policy.Expr, s *place) (yes bool, need *atomOf) {
	switch x := x.(type) {
	case *policy.Not:
		yes, need = b.answer(x.X, s)
		return !yes, need
	case *policy.Binary:
		if x.Op != policy.And && x.Op != policy.Or {
			break
		}
		l, need := b.answer(x.L, s)
		if need != nil || l == (x.Op == policy.Or) {
			return l, need
		}
		return b.answer(x.R, s)
	}
	a := b.atoms[x]
	vars := a.read(s)
	for _, v := range vars {
		if len(a.vars) > 1 {
			if c := s.choice(v); c == nil || len(c.at) > 1 {
				return false, a
			}
		}
	}
	if len(a.vars) == 1 && len(vars) == 1 && !b.bound(vars[0]) {
		c := b.open(vars[0], s)
		truth := b.truthOf(a, c.of)
		for _, i := range c.at {
			if truth[i] != truth[c.at[0]] {
				return false, a
			}
		}
		return truth[c.at[0]], nil
	}
	if len(vars) == 1 {
		if c := s.choice(vars[0]); c == nil || len(c.at) > 1 {
			return false, a
		}
	}
	return b.holds(a, &s.f, &s.d), nil
}

// read gives the variables that an atom reads here: not a recipient that has been
// rewritten.
func (a *atomOf) read(s *place) []string {
	if !s.d.Rewritten || !slices.Contains(a.vars, "rcpt") {
		return a.vars
	}
	return slices.DeleteFunc(slices.Clone(a.vars), func(v string) bool { return v == "rcpt" })
}

func (b *force) truthOf(a *atomOf, of []value) []bool {
	if a.truth == nil {
		a.truth = make([]bool, len(of))
		for i := range of {
			f := blank()
			of[i].set(f)
			a.truth[i] = b.holds(a, f, &policy.Decision{Rcpt: f.Rcpt})
		}
	}
	return a.truth
}

// bound reports a header that conditions compare with another fact: its classes hang
// on that.
func (b *force) bound(v string) bool { return b.tied[v] && strings.HasPrefix(v, "header:") }

// branches gives the places that a is decided in: the classes left by its answer or,
// where it compares two facts, each by itself.
func (b *force) branches(a *atomOf, s *place) (out []*place) {
	vars := a.read(s)
	if len(a.vars) > 1 || b.bound(vars[0]) {
		for _, v := range vars {
			if c := s.choice(v); c != nil && len(c.at) == 1 {
				continue
			}
			if u := b.before(v, s); u != "" {
				v = u
			}
			c := b.open(v, s)
			for _, i := range c.at {
				out = append(out, s.keep(choice{v, c.of, []int32{i}}))
			}
			return out
		}
	}
	c := b.open(vars[0], s)
	truth := b.truthOf(a, c.of)
	for _, yes := range []bool{true, false} {
		var at []int32
		for _, i := range c.at {
			if truth[i] == yes {
				at = append(at, i)
			}
		}
		out = append(out, s.keep(choice{vars[0], c.of, at}))
	}
	return out
}

// before names a variable that conditions relate to a header and that is to be chosen
// before it.
func (b *force) before(v string, s *place) string {
	if !strings.HasPrefix(v, "header:") {
		return ""
	}
	for _, a := range b.list {
		if len(a.vars) < 2 || !slices.Contains(a.vars, v) {
			continue
		}
		for _, u := range a.vars {
			c := s.choice(u)
			if (c == nil || len(c.at) > 1) && (u < v || !strings.HasPrefix(u, "header:")) {
				return u
			}
		}
	}
	return ""
}

// classesOf gives the classes of a variable, for a header as things stand.
func (b *force) classesOf(v string, s *place) []value {
	name, isHeader := strings.CutPrefix(v, "header:")
	if isHeader && (b.values[v] == nil || b.bound(v)) {
		b.values[v] = b.headers(name, s)
	}
	return b.values[v]
}

// headers makes the classes of a header: the sets of answers that some occurrences of
// it together have, since each condition asks for one that fulfils it.
func (b *force) headers(name string, s *place) []value {
	ask, each := b.asks("header:"+name), 1
	if b.bound("header:" + name) {
		each = 2
		for _, a := range b.list {
			if slices.ContainsFunc(a.vars, func(v string) bool { return strings.HasPrefix(v, "header:") }) {
				ask.safely(a.x)
			}
		}
	}
	texts, known := b.texts[name]
	if !known {
		var ok bool
		texts, ok = textsOf(ask, valueText(), each)
		b.texts[name], b.exact = texts, b.exact && ok
	}
	if b.bound("header:" + name) {
		texts = slices.Clip(texts)
		texts = append(texts, s.f.Rcpt.Local, s.f.Sender.Domain)
		for _, p := range b.programs {
			for i := range p.Filters {
				for _, a := range p.Filters[i].Do {
					texts = append(texts, a.Rcpt.Local)
				}
			}
		}
		for _, h := range s.f.Content.Headers {
			texts = append(texts, h.Value)
		}
	}
	sets := b.occurrences(name, texts, s)
	var out []value
	for _, set := range sets {
		out = append(out, value{set: func(f *policy.Facts) {
			f.Content.Headers = slices.DeleteFunc(f.Content.Headers, func(h policy.HeaderField) bool { return h.Name == name })
			for _, x := range set {
				f.Content.Headers = append(f.Content.Headers, policy.HeaderField{Name: name, Value: x})
			}
		}})
	}
	return out
}

// occurrences joins texts while their answers together are new.
func (b *force) occurrences(name string, texts []string, s *place) [][]string {
	var atoms []*atomOf
	for _, a := range b.list {
		if slices.Contains(a.vars, "header:"+name) {
			atoms = append(atoms, a)
		}
	}
	sets, seen := [][]string{nil}, map[string]bool{}
	answers := []string{strings.Repeat("0", len(atoms)) + "-"}
	one := map[string]string{} // a text for each set of answers of one occurrence
	var order []string
	for _, x := range texts {
		if x != strings.TrimSpace(x) || strings.ContainsAny(x, "\r\n\x00") {
			continue
		}
		f := s.copy()
		f.content.Headers = append(f.content.Headers, policy.HeaderField{Name: name, Value: x})
		k := ""
		for _, a := range atoms {
			k += map[bool]string{true: "1", false: "0"}[b.holds(a, &f.f, &f.d)]
		}
		if k += "+"; one[k] == "" && !seen[k] {
			one[k], seen[k] = x, true
			order = append(order, k)
		}
	}
	have := map[string]bool{answers[0]: true}
	for i := 0; i < len(sets); i++ {
		for _, k := range order {
			both := joined(answers[i], k)
			if !have[both] {
				have[both] = true
				sets = append(sets, append(slices.Clip(sets[i]), one[k]))
				answers = append(answers, both)
			}
		}
		if len(sets) > 64 {
			b.exact = false
			break
		}
	}
	return sets
}

func joined(a, b string) string {
	out := []byte(b)
	for i := range out {
		if i < len(a) && a[i] == '1' {
			out[i] = '1'
		}
	}
	return string(out)
}

// each calls visit for a message of every class: leaves of the walk, with the
// decisions of all policies.
func (b *force) each(visit visitor) {
	begin := &place{f: *blank()}
	b.groups(begin, "arrival", func(s *place) {
		b.groups(s, "rcpt", func(s *place) {
			if b.bySender(s) {
				b.groups(s, "sender", func(s *place) { b.policies(s, 0, visit) })
				return
			}
			b.policies(s, 0, visit)
		})
	})
}

// groups chooses a group of sessions or addresses.
func (b *force) groups(s *place, v string, then func(*place)) {
	c := b.open(v, s)
	by := map[string][]int32{}
	var order []string
	for _, i := range c.at {
		g := c.of[i].group
		if by[g] == nil {
			order = append(order, g)
		}
		by[g] = append(by[g], i)
	}
	for _, g := range order {
		then(s.keep(choice{v, c.of, by[g]}))
	}
}

// bySender reports that the door looks at the sender.
func (b *force) bySender(s *place) bool {
	for _, p := range b.programs {
		for _, c := range p.Topology.Customers {
			if c.Name == s.f.Customer && len(c.Senders) > 0 {
				return true
			}
		}
	}
	return false
}

// full reports that there are too many messages.
func (b *force) full() bool {
	if b.leaves > maxLeaves {
		b.exact = false
	}
	return b.leaves > maxLeaves
}

// visitor looks at a message and what each policy decides.
type visitor func(f *policy.Facts, ds []policy.Decision)

// policies walks down the policies from the n-th on, then the asserts, one at a time.
func (b *force) policies(s *place, n int, visit visitor) {
	if n == len(b.programs) {
		b.asserts(s, visit)
		return
	}
	p := b.programs[n]
	s = s.copy()
	s.d = policy.Decision{Rcpt: s.f.Rcpt}
	if b.turnedAway(p, s) {
		b.policies(s, n+1, visit)
		return
	}
	b.filters(s, p, 0, func(s *place, decided string) {
		if d, _ := policy.Eval(p, &s.f); d.Filter != decided && b.fault == "" {
			b.fault = fmt.Sprintf("the walk decides by %q, Eval by %q: %+v %+v", decided, d.Filter, s.f, s.f.Content)
		}
		b.policies(s, n+1, visit)
	})
}

// turnedAway reports a message that does not come to the filters.
func (b *force) turnedAway(p *policy.Program, s *place) bool {
	if slices.Contains(p.Topology.Reports, s.f.Rcpt) || slices.Contains(p.Topology.Postmasters, s.f.Rcpt) || s.f.Origin == policy.Stranger && !accepted(p, &s.f) {
		return true
	}
	d, trace := policy.Eval(p, &s.f)
	return trace == nil && d.Disposition == policy.Refused && d.Text == "not your sender domain"
}

// filters walks down the list from i on.
func (b *force) filters(s *place, p *policy.Program, i int, decided func(s *place, filter string)) {
	for ; i < len(p.Filters); i++ {
		f := &p.Filters[i]
		yes, need := b.answer(f.If, s)
		if need != nil {
			for _, at := range b.branches(need, s) {
				if b.full() {
					return
				}
				b.filters(at, p, i, decided)
			}
			return
		}
		if !yes {
			continue
		}
		if f.Then != nil {
			decided(s, f.Name)
			return
		}
		for _, a := range f.Do {
			switch a.Kind {
			case policy.DoTag:
				s = s.copy()
				s.d.Effects.Tags = append(slices.Clip(s.d.Effects.Tags), a.Text)
			case policy.DoSetRcpt:
				s = s.copy()
				s.d.Rcpt, s.d.Rewritten = a.Rcpt, true
			}
		}
	}
	decided(s, "")
}

// asserts visits a message for every class that some assert sets apart.
func (b *force) asserts(s *place, visit visitor) {
	visited := false
	for _, p := range b.programs {
		for i := range p.Asserts {
			at := *s
			at.d, _ = policy.Eval(p, &s.f)
			b.assert(&at, p.Asserts[i].Always, visit)
			visited = true
		}
	}
	if !visited {
		b.leaf(s, visit)
	}
}

// assert chooses what an assert reads.
func (b *force) assert(s *place, x policy.Expr, visit visitor) {
	_, need := b.answer(x, s)
	if need == nil {
		b.leaf(s, visit)
		return
	}
	for _, at := range b.branches(need, s) {
		if b.full() {
			return
		}
		b.assert(at, x, visit)
	}
}

// leaf visits the message and, now and then, another of the classes that it stands
// for: what is decided must be the same.
func (b *force) leaf(s *place, visit visitor) {
	b.leaves++
	ds := b.decisions(s)
	visit(&s.f, ds)
	if b.r.IntN(4) > 0 {
		return
	}
	for _, v := range []string{"arrival", "rcpt", "sender", "client.name", "client.helo", "tls", "now", "size", "spf", "dkim", "dmarc"} {
		c := b.open(v, s)
		s = s.keep(choice{v, c.of, []int32{one(b.r, c.at)}})
	}
	again := b.decisions(s)
	visit(&s.f, again)
	for i := range ds {
		if (ds[i].Filter != again[i].Filter || ds[i].Disposition != again[i].Disposition) && b.fault == "" {
			b.fault = fmt.Sprintf("%+v %+v: decided by %q, and by %q for another class of what was not told apart", s.f, s.f.Content, again[i].Filter, ds[i].Filter)
		}
	}
}

func (b *force) decisions(s *place) []policy.Decision {
	out := make([]policy.Decision, len(b.programs))
	for i, p := range b.programs {
		out[i], _ = policy.Eval(p, &s.f)
	}
	return out
}
