package verify

import (
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify/sat"
)

// class is a set of values of one term that the query's atoms cannot tell apart.
type class struct {
	v     sat.Lit
	text  string // the value that stands for it, of a text
	fresh bool   // text is one of many: any that ends with suffix and that no atom names
	ends  string // that suffix, "" for any
	ip    netip.Addr
	n     int64
	at    time.Time
	atoms []int32 // that hold for it, those of the automata excepted
}

// classes is a term cut into the classes that the query's atoms make.
type classes struct {
	id    int32
	name  string
	sort  termSort
	atoms []int32
	langs []int32 // the atoms among them that automata decide
	list  []class
	taken map[string]bool // texts that atoms name
	tails []string        // suffixes that atoms name, longest first
	bound *bound
}

// classify cuts every term that the query uses and ties the classes to the atoms:
// exactly one class holds (for a header any number), and an atom holds if a class
// does that fulfils it. So what the solver finds can be, for all but automata.
func (q *query) classify(rel *relations) {
	by := map[int32]*classes{}
	for _, id := range q.used {
		a := &q.v.u.atoms[id]
		t := &q.v.u.terms[a.term]
		if t.sort == sortFlag || t.sort == sortFree {
			continue
		}
		c := by[a.term]
		if c == nil {
			c = &classes{id: a.term, name: t.name, sort: t.sort, bound: rel.terms[a.term]}
			by[a.term] = c
			q.terms = append(q.terms, c)
		}
		c.atoms = append(c.atoms, id)
		if a.kind == testLang && t.sort != sortTime {
			c.langs = append(c.langs, id)
		}
	}
	for _, c := range q.terms {
		switch c.sort {
		case sortText, sortHeader:
			q.texts(c)
		case sortIP:
			q.addresses(c)
		case sortNumber:
			q.numbers(c)
		case sortTime:
			q.times(c)
		}
		q.tie(c)
	}
	q.nullSender()
}

// tie joins a term's classes and atoms.
func (q *query) tie(c *classes) {
	c.merge(len(c.langs) > 0 || q.wholeRead(c.name))
	where := map[int32][]sat.Lit{}
	for i := range c.list {
		k := &c.list[i]
		k.v = q.s.NewVar()
		for _, a := range k.atoms {
			q.s.Add(k.v.Not(), q.atoms[a])
			where[a] = append(where[a], k.v)
		}
	}
	for _, a := range c.atoms {
		if q.v.u.atoms[a].kind == testLang && c.sort != sortTime {
			continue
		}
		q.s.Add(append(where[a], q.atoms[a].Not())...)
	}
	if c.sort == sortHeader {
		return
	}
	all := make([]sat.Lit, len(c.list))
	for i := range c.list {
		all[i] = c.list[i].v
	}
	q.s.Add(all...)
	q.atMostOne(all)
	if len(all) > 0 {
		q.s.SetPhase(all[c.preferred(q.v.u)])
	}
}

// preferred gives the class that a reader would name first: a constant that the
// policy's condition has first, else one that nothing is said of.
func (c *classes) preferred(u *universe) int {
	for i := range c.list {
		if k := &c.list[i]; c.bound != nil && !k.fresh && k.text != "" {
			for _, id := range k.atoms {
				if u.atoms[id].first == k.text {
					return i
				}
			}
		}
	}
	return 0
}

// atMostOne is the ladder encoding: linear in the number of literals.
func (q *query) atMostOne(ls []sat.Lit) {
	if len(ls) <= 5 {
		for i := range ls {
			for j := range i {
				q.s.Add(ls[i].Not(), ls[j].Not())
			}
		}
		return
	}
	above := q.s.NewVar() // one of those so far
	q.s.Add(ls[0].Not(), above)
	for _, l := range ls[1 : len(ls)-1] {
		q.s.Add(l.Not(), above.Not())
		next := q.s.NewVar()
		q.s.Add(above.Not(), next)
		q.s.Add(l.Not(), next)
		above = next
	}
	q.s.Add(ls[len(ls)-1].Not(), above.Not())
}

// merge joins the classes that fulfil the same atoms, keeping the first. Where
// automata read the term too, only classes without a name of their own are alike.
func (c *classes) merge(apart bool) {
	seen := map[string]bool{}
	out := c.list[:0]
	var key []byte
	for _, k := range c.list {
		slices.Sort(k.atoms)
		key = key[:0]
		for _, a := range k.atoms {
			key = strconv.AppendInt(key, int64(a), 36)
			key = append(key, ' ')
		}
		if apart && !k.fresh {
			key = append(key, k.text...)
		} else if apart {
			key = append(append(key, '\x00'), k.ends...)
		} else if k.text == "" && ofSender(c.name) {
			key = append(key, '\x00') // the null reverse-path is like no other
		}
		if !seen[string(key)] {
			seen[string(key)] = true
			out = append(out, k)
		}
	}
	c.list = out
}

// wholeRead reports the part of an address that conditions read as a whole too: its
// constants are not alike then, whatever is asked of the part.
func (q *query) wholeRead(name string) bool {
	of, _, _ := strings.Cut(name, ".")
	if of != senderTerm && of != rcptTerm {
		return false
	}
	return slices.ContainsFunc(q.terms, func(c *classes) bool { return c.name == of+".address" })
}

func ofSender(name string) bool { return strings.HasPrefix(name, senderTerm+".") }

// texts makes the classes of a text or a header: every constant that an atom names,
// for every suffix a text that ends with it and is none of them, and one text that is
// nothing of all this.
func (q *query) texts(c *classes) {
	u := q.v.u
	var names, tails []string
	holders := map[string][]int32{}
	enders := map[string][]int32{}
	for _, id := range c.atoms {
		switch a := &u.atoms[id]; a.kind {
		case testSet, testNotSet:
			names = append(names, a.set...)
			if a.kind == testSet {
				for _, s := range a.set {
					holders[s] = append(holders[s], id)
				}
			}
		case testSuffix:
			tails = append(tails, a.text)
			enders[a.text] = append(enders[a.text], id)
		}
	}
	if ofSender(c.name) && !strings.HasSuffix(c.name, ".address") {
		names = append(names, "") // of the null reverse-path
	}
	names, tails = sortedSet(names), sortedSet(tails)
	sort.SliceStable(tails, func(i, j int) bool { return len(tails[i]) > len(tails[j]) })
	c.taken = map[string]bool{}
	for _, s := range names {
		c.taken[s] = true
	}
	c.tails = tails
	add := func(k class) {
		k.atoms = append(k.atoms, holders[k.text]...)
		for i := 0; i <= len(k.text) && len(enders) > 0; i++ {
			k.atoms = append(k.atoms, enders[k.text[i:]]...)
		}
		k.atoms = append(k.atoms, q.others(c, k.text)...)
		c.list = append(c.list, k)
	}
	if only := q.only(c); only != nil {
		for _, s := range only {
			add(class{text: s})
		}
		return
	}
	if c.bound == nil || c.bound.items == nil || c.sort == sortHeader {
		for _, tail := range append(tails, "") {
			add(class{text: c.invent(tail), fresh: true, ends: tail})
		}
		slices.Reverse(c.list)
	} else {
		names = c.bound.items
	}
	for _, s := range q.leading(c, names) {
		if possible(c.name, s) {
			add(class{text: s})
		}
	}
}

// leading puts the constants that a condition has first before the others: of those
// that are alike the first one stands for all, and readers know it.
func (q *query) leading(c *classes, names []string) []string {
	first := map[string]bool{}
	for _, id := range c.atoms {
		first[q.v.u.atoms[id].first] = true
	}
	out := make([]string, 0, len(names))
	for _, want := range []bool{true, false} {
		for _, s := range names {
			if first[s] == want {
				out = append(out, s)
			}
		}
	}
	return out
}

// others gives the atoms of the rarer kinds that hold for a text.
func (q *query) others(c *classes, s string) []int32 {
	if c.sort != sortHeader {
		return nil
	}
	var out []int32
	for _, id := range c.atoms {
		if a := &q.v.u.atoms[id]; (a.kind == testNotSet || a.kind == testAny) && a.holds(s) {
			out = append(out, id)
		}
	}
	return out
}

// only gives the values of a term that has just these.
func (q *query) only(c *classes) []string {
	if c.name == "listener" {
		return q.sc.listeners
	}
	return values(c.name)
}

// possible reports whether a field can have a value: the domain of an envelope
// address is in normal form, and that of a recipient is not empty.
func possible(name, s string) bool {
	switch name {
	case "rcpt.local":
		return s != ""
	case "rcpt.domain":
		d, err := policy.NormaliseDomain(s)
		return err == nil && d == s
	case "sender.domain":
		if s == "" {
			return true
		}
		d, err := policy.NormaliseDomain(s)
		return err == nil && d == s
	}
	return true
}

// invent makes a text that ends with tail, that no atom names and that ends with no
// longer suffix than it must.
func (c *classes) invent(tail string) string {
	for _, s := range inventions(c.name, tail) {
		if c.newText(s, tail) {
			return s
		}
	}
	for i := 0; ; i++ {
		s := "x" + strconv.Itoa(i) + "z" + strconv.FormatInt(int64(i*7919+13), 36) + tail
		if c.newText(s, tail) || i > 10_000 {
			return s
		}
	}
}

func (c *classes) newText(s, tail string) bool {
	if c.taken[s] {
		return false
	}
	for _, t := range c.tails {
		if len(t) <= len(tail) {
			break
		}
		if strings.HasSuffix(s, t) {
			return false
		}
	}
	return true
}

// inventions proposes texts that a reader takes for what they are.
func inventions(name, tail string) []string {
	if tail != "" {
		var out []string
		for _, s := range []string{"mail", "evil", "any", "w", "q", "1", "k"} {
			out = append(out, s+tail)
		}
		return out
	}
	switch name {
	case "rcpt.domain":
		return []string{"elsewhere.example", "victim.example", "other.test"}
	case "sender.domain":
		return []string{"stranger.example", "sender.example", "other.test"}
	case "rcpt.local":
		return []string{"someone", "victim", "reader"}
	case "sender.local":
		return []string{"anyone", "sender", "x"}
	case "client.name", "client.helo":
		return []string{"host.stranger.example", "mail.sender.example", "host.other.test"}
	case "customer":
		return []string{"another-customer", "a-customer", "one-more-customer"}
	case "auth.user":
		return []string{"someone", "a-user", "another-user"}
	case "tls.version":
		return []string{"1.3", "1.2"}
	case "tls.cipher":
		return []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"}
	}
	return []string{"something", "anything", "some text", "a text"}
}

// addresses makes the classes of client.address: cut points of all networks, and a
// few addresses that documents use.
func (q *query) addresses(c *classes) {
	var cuts []netip.Addr
	for _, s := range []string{"198.51.100.7", "203.0.113.9", "192.0.2.5", "2001:db8::7", "0.0.0.0", "::", "::1:0:0:0"} {
		cuts = append(cuts, netip.MustParseAddr(s))
	}
	holders := map[netip.Prefix][]int32{}
	bits := map[int]bool{}
	for _, id := range c.atoms {
		for _, n := range q.v.u.atoms[id].nets {
			cuts = append(cuts, n.Addr(), after(n))
			holders[n] = append(holders[n], id)
			bits[n.Bits()] = true
		}
	}
	for _, ip := range cuts {
		if q.v.late() {
			return
		}
		if !ip.IsValid() || ip.Is4In6() || !c.within(ip) {
			continue // an IPv4 address is never seen in that form
		}
		k := class{ip: ip}
		for b := range bits {
			if p, err := ip.Prefix(b); err == nil {
				k.atoms = append(k.atoms, holders[p]...)
			}
		}
		slices.Sort(k.atoms)
		k.atoms = slices.Compact(k.atoms)
		c.list = append(c.list, k)
	}
}

// within keeps to the networks that the query gives.
func (c *classes) within(ip netip.Addr) bool {
	if c.bound == nil || c.bound.nets == nil {
		return true
	}
	for _, n := range c.bound.nets {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// after gives the first address behind a network, invalid where there is none.
func after(n netip.Prefix) netip.Addr {
	b := n.Addr().AsSlice()
	for i := n.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a.Next()
}

func (q *query) numbers(c *classes) {
	cuts := []int64{2000, 0}
	for _, id := range c.atoms {
		a := &q.v.u.atoms[id]
		cuts = append(cuts, a.lo, a.hi+1)
	}
	slices.Sort(cuts[2:])
	for _, n := range slices.Compact(cuts) {
		if n < 0 || n >= 1<<62-1 {
			continue
		}
		if q.v.late() {
			return // no answer is made of this
		}
		k := class{n: n}
		for _, id := range c.atoms {
			if a := &q.v.u.atoms[id]; a.lo <= n && n <= a.hi {
				k.atoms = append(k.atoms, id)
			}
		}
		c.list = append(c.list, k)
	}
}

// times makes the classes of now: around each constant, and where hours or weekdays
// count, each hour of a week from there.
func (q *query) times(c *classes) {
	cuts := []time.Time{time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)}
	week := false
	for _, id := range c.atoms {
		if a := &q.v.u.atoms[id]; a.kind == testWhen {
			cuts = append(cuts, a.when.Add(-1), a.when, a.when.Add(1), a.when.Add(-7*24*time.Hour))
		} else {
			week = true
		}
	}
	hours := 1
	if week {
		hours = 7*24 + 1
	}
	for _, t := range cuts {
		for h := range hours {
			at := t.UTC().Add(time.Duration(h) * time.Hour)
			if h > 0 {
				at = at.Truncate(time.Hour)
			}
			if q.v.late() {
				return
			}
			k := class{at: at}
			for _, id := range c.atoms {
				if q.v.u.atoms[id].at(at) {
					k.atoms = append(k.atoms, id)
				}
			}
			c.list = append(c.list, k)
		}
	}
}

// nullSender ties the two parts of the null reverse-path: both are empty or none is.
func (q *query) nullSender() {
	var local, domain *classes
	for _, c := range q.terms {
		switch c.name {
		case "sender.local":
			local = c
		case "sender.domain":
			domain = c
		}
	}
	if local == nil || domain == nil {
		return
	}
	for i := range domain.list {
		for j := range local.list {
			if (domain.list[i].text == "") != (local.list[j].text == "") {
				q.s.Add(domain.list[i].v.Not(), local.list[j].v.Not())
			}
		}
	}
}
