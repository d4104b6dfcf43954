package verify

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/internal/policy"
)

// state is what the filters above a place may have changed of what conditions see.
type state struct {
	rewrites []rewrite          // of the recipient, in order
	tags     map[string][]*form // when each tag has been set
	pools    []poolSet          // by pool = ..., in order
}

type rewrite struct {
	when *form
	to   policy.Address
}

type poolSet struct {
	when *form
	pool string
}

// reader turns conditions into formulas, for one scene at one place of the list.
type reader struct {
	v    *prover
	sc   *scene
	st   *state
	fate *fate // of the decision that an assert is about, else nil
}

// cond reads a condition. What is settled by the scene is put in at once, so that
// most filters come out as false without an atom being made.
func (r *reader) cond(x policy.Expr) *form {
	switch x := x.(type) {
	case *policy.Not:
		return not(r.cond(x.X))
	case *policy.Binary:
		switch x.Op {
		case policy.And:
			l := r.cond(x.L)
			if l.isFalse() {
				return l
			}
			return and(l, r.cond(x.R))
		case policy.Or:
			l := r.cond(x.L)
			if l.isTrue() {
				return l
			}
			return or(l, r.cond(x.R))
		}
		return r.compare(x)
	case *policy.Call:
		return r.call(x)
	case *policy.Literal:
		b, _ := x.Value.(bool)
		return constant(b)
	case *policy.Field:
		return r.flag(x)
	}
	return r.free(x)
}

func (r *reader) flag(x *policy.Field) *form {
	if x.Name != "tls.on" {
		return r.free(x)
	}
	return r.v.u.of(atom{term: r.v.u.termNamed("tls.on", sortFlag, false), kind: testFlag})
}

// free makes an atom of which nothing is known. The same condition has the same
// answer, but where a filter above may have changed what it sees or the decision is
// read: there each occurrence is its own, which over-approximates and so cannot hide
// a leak. Positions tell nothing: two policies that are compared share them.
func (r *reader) free(x policy.Expr) *form {
	name := "free:" + Spell(x)
	if len(r.st.rewrites) > 0 || r.fate != nil {
		name += " #" + strconv.Itoa(len(r.v.u.terms))
	}
	return r.v.u.of(atom{term: r.v.u.termNamed(name, sortFree, false), kind: testFree, expr: x})
}

// compare reads a comparison, in the way of the policy's compiler.
func (r *reader) compare(x *policy.Binary) *form {
	l, rt, op := x.L, x.R, x.Op
	if _, swapped := l.(*policy.Literal); swapped {
		l, rt, op = rt, l, mirrored(op)
	}
	lit, ok := rt.(*policy.Literal)
	if !ok {
		return r.same(x, l, rt, op)
	}
	if c, isCall := l.(*policy.Call); isCall && c.Func == "header" {
		return r.header(c, op, lit)
	}
	f, ok := l.(*policy.Field)
	if !ok {
		return r.free(x)
	}
	positive := op == policy.Eq || op == policy.Ne
	var out *form
	switch kindOf(f.Name) {
	case kindText, kindDomain:
		s, _ := lit.Value.(string)
		out = r.text(f.Name, func(t int32) *form { return r.v.u.setOf(t, normal(f.Name, s)) })
	case kindAddress:
		s, _ := lit.Value.(string)
		out = r.isAddress(f.Name, s)
	case kindIP:
		s, _ := lit.Value.(string)
		out = r.within(f.Name, []string{s})
	case kindFlag:
		b, _ := lit.Value.(bool)
		out = r.flag(f)
		if !b {
			out = not(out)
		}
	case kindNumber:
		return r.number(f.Name, op, lit)
	case kindTime:
		s, _ := lit.Value.(string)
		return r.when(op, s)
	default:
		return r.free(x)
	}
	if !positive {
		return r.free(x)
	}
	if op == policy.Ne {
		return not(out)
	}
	return out
}

func mirrored(op policy.Op) policy.Op {
	switch op {
	case policy.Lt:
		return policy.Gt
	case policy.Le:
		return policy.Ge
	case policy.Gt:
		return policy.Lt
	case policy.Ge:
		return policy.Le
	}
	return op
}

// header reads a comparison of a header with a constant: it holds if one occurrence
// fulfils it, whichever the operator.
func (r *reader) header(c *policy.Call, op policy.Op, lit *policy.Literal) *form {
	s, _ := lit.Value.(string)
	kind := testSet
	if op == policy.Ne {
		kind = testNotSet
	}
	return r.v.u.of(atom{term: r.headerTerm(c), kind: kind, set: []string{s}})
}

func (r *reader) headerTerm(c *policy.Call) int32 {
	name := ""
	if len(c.Args) > 0 {
		name, _ = literalText(c.Args[0])
	}
	return r.v.u.termNamed("header:"+strings.ToLower(name), sortHeader, false)
}

func literalText(x policy.Expr) (string, bool) {
	l, ok := x.(*policy.Literal)
	if !ok {
		return "", false
	}
	s, ok := l.Value.(string)
	return s, ok
}

// text asks something of a text field: of the term, and of the constants that the
// scene, the decision or a rewriting filter puts in its place.
func (r *reader) text(name string, ask func(t int32) *form) *form {
	if s, fixed := r.fixed(name); fixed {
		return r.ofConstant(name, s, ask)
	}
	if fs := r.decided(name); fs != nil {
		var out []*form
		for _, p := range fs {
			out = append(out, and(p.when, r.ofConstant(name, p.pool, ask)))
		}
		return or(out...)
	}
	if name == "now.weekday" {
		return ask(r.v.u.termNamed("now", sortTime, false))
	}
	of, part, _ := strings.Cut(name, ".")
	if part == "" && (of == rcptTerm || of == senderTerm) {
		name = of + ".address"
	}
	out := ask(r.v.u.termNamed(name, sortText, kindOf(name) == kindDomain))
	if of == rcptTerm {
		for _, w := range r.st.rewrites {
			out = or(and(w.when, r.ofConstant(name, component(w.to, name), ask)), and(not(w.when), out))
		}
	}
	if name == "listener" && out.op == opAtom {
		return r.listener(out)
	}
	return out
}

// listener settles a question about the listener where all of the scene's agree.
func (r *reader) listener(f *form) *form {
	a := &r.v.u.atoms[f.atom]
	yes := 0
	for _, l := range r.sc.listeners {
		if a.holds(l) {
			yes++
		}
	}
	switch yes {
	case 0:
		return falsity()
	case len(r.sc.listeners):
		return truth()
	}
	return f
}

// ofConstant answers for a known value.
func (r *reader) ofConstant(name, s string, ask func(t int32) *form) *form {
	f := ask(r.v.u.termNamed("constant:"+name, sortText, kindOf(name) == kindDomain))
	if f.op != opAtom {
		return f
	}
	return constant(r.v.u.atoms[f.atom].holds(s))
}

func component(a policy.Address, name string) string {
	switch name {
	case "rcpt.domain":
		return a.Domain
	case "rcpt.local":
		return a.Local
	}
	return a.String()
}

// fixed gives the fields that the scene settles.
func (r *reader) fixed(name string) (string, bool) {
	switch name {
	case "origin":
		return string(r.sc.origin), true
	case "customer", "auth.user":
		return "", r.sc.origin != policy.Customer
	}
	if r.fate != nil {
		switch name {
		case "decision.disposition":
			return string(r.fate.disposition), true
		case "decision.filter":
			return r.fate.filter, true
		}
	}
	return "", false
}

// decided gives the values that a decision's pool and inside host can have, each
// with when it has it; nil for other fields.
func (r *reader) decided(name string) []poolSet {
	if r.fate == nil {
		return nil
	}
	switch name {
	case "decision.pool":
		return r.fate.pools
	case "decision.inside":
		return r.fate.inside
	}
	return nil
}

// isAddress asks whether an address field is the constant s, "" being the null
// reverse-path.
func (r *reader) isAddress(name, s string) *form {
	var a policy.Address
	if s != "" {
		var err error
		if a, err = policy.ParseAddress(s); err != nil {
			return falsity()
		}
	}
	of := addressOf(name)
	domain := r.text(of+".domain", func(t int32) *form { return r.v.u.setOf(t, a.Domain) })
	if s == "" {
		return domain
	}
	return and(domain, r.text(of+".local", func(t int32) *form { return r.v.u.setOf(t, a.Local) }))
}

// addressOf names the address that a field of kind address reads.
func addressOf(name string) string {
	if name == "decision.rcpt" {
		return rcptTerm
	}
	of, _, _ := strings.Cut(name, ".")
	return of
}

func (r *reader) within(name string, items []string) *form {
	var ns []netip.Prefix
	for _, s := range items {
		p, err := policy.ParsePrefix(s)
		if err != nil {
			return r.v.u.of(atom{term: r.v.u.termNamed("free:"+s, sortFree, false), kind: testFree})
		}
		ns = append(ns, p)
	}
	if r.sc.host != nil && name == "client.address" {
		for _, n := range ns {
			if n.Contains(r.sc.host.Address.Addr().Unmap()) {
				return truth()
			}
		}
		return falsity()
	}
	return r.v.nets(ns)
}

// number reads a comparison of size or now.hour.
func (r *reader) number(name string, op policy.Op, lit *policy.Literal) *form {
	n, ok := lit.Value.(int64)
	if s, isText := lit.Value.(string); isText {
		v, err := policy.ParseSize(s)
		n, ok = v, err == nil
	}
	if !ok {
		return r.free(lit)
	}
	const most = 1<<62 - 1
	lo, hi, neg := n, n, false
	switch op {
	case policy.Ne:
		neg = true
	case policy.Lt:
		lo, hi = -most, n-1
	case policy.Le:
		lo, hi = -most, n
	case policy.Gt:
		lo, hi = n+1, most
	case policy.Ge:
		lo, hi = n, most
	}
	a := atom{term: r.v.u.termNamed("size", sortNumber, false), kind: testRange, lo: lo, hi: hi}
	if name == "now.hour" {
		a.term, a.kind = r.v.u.termNamed("now", sortTime, false), testHour
	}
	f := r.v.u.of(a)
	if neg {
		return not(f)
	}
	return f
}

func (r *reader) when(op policy.Op, s string) *form {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return falsity()
	}
	a := atom{term: r.v.u.termNamed("now", sortTime, false), kind: testWhen, op: op, when: t}
	if op == policy.Ne {
		a.op = policy.Eq
		return not(r.v.u.of(a))
	}
	return r.v.u.of(a)
}

// same reads a comparison of two facts. It is free but for the two cases that are
// worth more: the same field twice, and constants in both places.
func (r *reader) same(x *policy.Binary, l, rt policy.Expr, op policy.Op) *form {
	a, aok := l.(*policy.Field)
	b, bok := rt.(*policy.Field)
	if aok && bok && a.Name == b.Name {
		return constant(op == policy.Eq)
	}
	if aok && bok && (op == policy.Eq || op == policy.Ne) { // one value each: != is the opposite, and sides do not matter
		if a.Name > b.Name {
			a, b = b, a
		}
		f := r.free(&policy.Binary{Pos: x.Pos, Op: policy.Eq, L: a, R: b})
		if op == policy.Ne {
			return not(f)
		}
		return f
	}
	return r.free(x)
}

// call reads a function.
func (r *reader) call(x *policy.Call) *form {
	switch x.Func {
	case "in":
		return r.in(x)
	case "within":
		return r.callWithin(x)
	case "has_header":
		return r.v.u.of(atom{term: r.headerTerm(x), kind: testAny})
	case "tag":
		s, _ := literalText(x.Args[0])
		return or(r.st.tags[s]...)
	case "matches", "ends_with", "glob":
		return r.pattern(x)
	}
	return r.free(x)
}

func (r *reader) callWithin(x *policy.Call) *form {
	f, ok := x.Args[0].(*policy.Field)
	if !ok {
		return r.free(x)
	}
	items := x.Args[1:]
	if l, isList := x.Args[1].(*policy.List); isList {
		items = l.Items
	}
	return r.within(f.Name, texts(items))
}

func texts(xs []policy.Expr) []string {
	out := make([]string, 0, len(xs))
	for _, x := range xs {
		s, _ := literalText(x)
		out = append(out, s)
	}
	return out
}

func (r *reader) in(x *policy.Call) *form {
	list, ok := x.Args[1].(*policy.List)
	if !ok {
		return r.free(x)
	}
	items := texts(list.Items)
	if c, isCall := x.Args[0].(*policy.Call); isCall {
		if len(items) == 0 {
			return falsity()
		}
		return r.v.u.of(atom{term: r.headerTerm(c), kind: testSet, set: sortedSet(items)})
	}
	f, ok := x.Args[0].(*policy.Field)
	if !ok {
		return r.free(x)
	}
	switch kindOf(f.Name) {
	case kindIP:
		if len(items) == 0 {
			return falsity()
		}
		return r.within(f.Name, items)
	case kindAddress:
		return r.inAddresses(f.Name, items)
	case kindText, kindDomain:
		for i := range items {
			items[i] = normal(f.Name, items[i])
		}
		return r.text(f.Name, func(t int32) *form { return r.v.u.setOf(t, items...) })
	}
	return r.free(x)
}

// inAddresses asks for one of many addresses, by local part.
func (r *reader) inAddresses(name string, items []string) *form {
	by := map[string][]string{}
	for _, s := range items {
		if a, err := policy.ParseAddress(s); err == nil {
			by[a.Local] = append(by[a.Local], a.Domain)
		}
	}
	of := addressOf(name)
	var fs []*form
	for _, local := range sortedKeys(by) {
		fs = append(fs, and(
			r.text(of+".domain", func(t int32) *form { return r.v.u.setOf(t, by[local]...) }),
			r.text(of+".local", func(t int32) *form { return r.v.u.setOf(t, local) })))
	}
	return or(fs...)
}

// pattern reads matches, ends_with and glob.
func (r *reader) pattern(x *policy.Call) *form {
	s, ok := literalText(x.Args[1])
	if !ok {
		return r.free(x)
	}
	if c, isCall := x.Args[0].(*policy.Call); isCall {
		a, ok := r.v.textAtom(x.Func, s)
		if !ok {
			return r.free(x)
		}
		a.term = r.headerTerm(c)
		return r.v.u.of(a)
	}
	f, ok := x.Args[0].(*policy.Field)
	if !ok {
		return r.free(x)
	}
	k := kindOf(f.Name)
	if k != kindText && k != kindDomain && k != kindAddress {
		return r.free(x)
	}
	if k == kindDomain || k == kindAddress {
		switch x.Func {
		case "ends_with":
			s = strings.TrimSuffix(strings.ToLower(s), ".")
		case "glob":
			s = strings.ToLower(s)
		}
	}
	if s == "" && x.Func == "ends_with" {
		return truth() // a dot alone, which is nothing in normal form
	}
	if k == kindAddress && x.Func == "ends_with" {
		return r.addressSuffix(f.Name, s)
	}
	a, ok := r.v.textAtom(x.Func, s)
	if !ok {
		return r.free(x)
	}
	name := f.Name
	if k == kindAddress {
		name = addressOf(name)
	}
	return r.text(name, func(t int32) *form { b := a; b.term = t; return r.v.u.of(b) })
}

func (v *prover) textAtom(function, s string) (atom, bool) {
	switch function {
	case "ends_with":
		return atom{kind: testSuffix, text: s}, true
	case "glob":
		return atom{kind: testLang, text: "g" + s, cond: v.conds.Glob(s)}, true
	}
	c, err := v.conds.Match(s)
	return atom{kind: testLang, text: "m" + s, cond: c}, err == nil
}

// addressSuffix splits a suffix of an address into one of its domain or, with an @,
// the whole domain and a suffix of the local part: exact, as a domain has no @.
func (r *reader) addressSuffix(name, s string) *form {
	of := addressOf(name)
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return r.text(of+".domain", func(t int32) *form { return r.v.u.suffixOf(t, s) })
	}
	domain := r.text(of+".domain", func(t int32) *form { return r.v.u.setOf(t, s[i+1:]) })
	if s[i+1:] == "" {
		return falsity() // no address ends with an @
	}
	if s[:i] == "" {
		return domain
	}
	return and(domain, r.text(of+".local", func(t int32) *form { return r.v.u.suffixOf(t, s[:i]) }))
}
