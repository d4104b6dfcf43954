package verify

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"postern.dev/postern/internal/policy"
)

// SMT2 gives obligations of a policy as scripts in SMT-LIB 2.6, by name, so that a
// solver of another hand, such as z3 or cvc5, can check them. unsat says that no
// message does what the name says:
//
//	PV001 FILTER             it relays for strangers
//	PV003 FILTER             it bounces what they send
//	PV002 strangers to HOST  a stranger's message comes to an inside host that resends
//	PV002 HOST to HOST       what such a host sends comes to another
//	PV002 HOST by FILTER     what such a host sends is relayed by the filter
//	PV005 CUSTOMER           the door takes a sender that is not the customer's
//	PV006 ASSERT of ORIGIN   a message of that origin breaks the assert
//
// PV002 is open where its parts join: from strangers to a host, from host to host, and
// out. Each part alone is no fault. What PV004, PV007 and PV008 say is read off the
// configuration, without a question to a solver.
//
// The scripts share nothing with the prover's classes and automata. Texts are of the
// theory of strings, so they are sequences of characters: octets that are not UTF-8
// are left out, which the prover allows for. Addresses are bit vectors, times and
// sizes integers. A header is as many optional occurrences as conditions mention it:
// of a message that fulfils them, one occurrence for each suffices. A condition that
// does not translate (an expression with an anchor inside, a ? of a glob, which is an
// octet) is a free Boolean, named free-N: then sat shows nothing, unsat still proves.
func SMT2(p *policy.Program, _ Options) iter.Seq2[string, string] {
	return func(yield func(name, text string) bool) {
		for _, sc := range smtScenes(p) {
			w := newScript(p, sc)
			w.filters()
			for _, g := range w.goals() {
				if !yield(g.name, w.text(g)) {
					return
				}
			}
		}
	}
}

// script writes one policy for one sort of session.
type script struct {
	p        *policy.Program
	sc       smtScene
	headers  map[string]int // mentions
	order    []string
	frees    int
	tags     map[string][]string // of filters so far, by what sets them
	rl, rd   string              // the recipient here
	pool     string              // that filters have set so far, "" where none does
	after    []smtState          // what the decision of each filter sees; the last is that of the end
	decision *smtDecision        // that an assert reads
	defs     []smtDef
}

// smtDef declares or defines a name.
type smtDef struct{ name, text string }

// smtScene is a sort of session: an origin and, of an inside host, which.
type smtScene struct {
	origin policy.Origin
	host   *policy.InsideHost
}

func (sc smtScene) String() string {
	if sc.host != nil {
		return sc.host.Name
	}
	return string(sc.origin)
}

func smtScenes(p *policy.Program) []smtScene {
	out := []smtScene{{origin: policy.Stranger}}
	for i := range p.Topology.Inside {
		if h := &p.Topology.Inside[i]; h.Address.IsValid() {
			out = append(out, smtScene{origin: policy.Inside, host: h})
		}
	}
	return append(out, smtScene{origin: policy.Customer})
}

// smtValue is a term, and when there is it.
type smtValue struct{ when, term string }

// smtState is what a decision sees: the recipient, the pool set, and the tags.
type smtState struct {
	local, domain, pool string
	tags                map[string][]string
}

type goal struct{ name, form string }

func newScript(p *policy.Program, sc smtScene) *script {
	w := &script{p: p, sc: sc, headers: map[string]int{}, tags: map[string][]string{}, rl: "rcpt.local", rd: "rcpt.domain"}
	for i := range p.Filters {
		w.mentions(p.Filters[i].If)
	}
	for i := range p.Asserts {
		w.mentions(p.Asserts[i].Always)
	}
	return w
}

func (w *script) mentions(x policy.Expr) {
	switch x := x.(type) {
	case *policy.Not:
		w.mentions(x.X)
	case *policy.Binary:
		w.mentions(x.L)
		w.mentions(x.R)
	case *policy.Call:
		if x.Func == "header" || x.Func == "has_header" {
			name, _ := literalText(x.Args[0])
			if name = strings.ToLower(name); w.headers[name] == 0 {
				w.order = append(w.order, name)
			}
			w.headers[name]++
			return
		}
		for _, a := range x.Args {
			w.mentions(a)
		}
	}
}

const smtShapes = `(define-fun label () RegLan (re.+ (re.union (re.range "a" "z") (re.range "0" "9") (str.to_re "-") (str.to_re "_"))))
(define-fun domain () RegLan (re.union (re.++ label (re.* (re.++ (str.to_re ".") label)))
  (re.++ (str.to_re "[") (re.opt (str.to_re "ipv6:")) (re.+ (re.union (re.range "0" "9") (re.range "a" "f") (str.to_re ":") (str.to_re "."))) (str.to_re "]"))))
(define-fun local () RegLan (re.+ (re.union (re.range "\u{0}" "\u{9}") (re.range "\u{b}" "\u{c}") (re.range "\u{e}" "@") (re.range "[" "\u{2ffff}"))))
(define-fun inner () RegLan (re.union (re.range "\u{1}" "\u{9}") (re.range "\u{b}" "\u{c}") (re.range "\u{e}" "\u{2ffff}")))
(define-fun outer () RegLan (re.union (re.range "!" "\u{84}") (re.range "\u{86}" "\u{9f}") (re.range "\u{a1}" "\u{2ffff}")))
(define-fun value () RegLan (re.opt (re.++ outer (re.opt (re.++ (re.* inner) outer)))))
`

// text writes one obligation: what holds of every message of the scene past the door,
// the filters top down (live-N is "no final filter above N applies"), and the goal. Of
// the definitions and of what a message has it gives those that the goal hangs on.
func (w *script) text(g goal) string {
	body := "(assert " + w.door() + ")\n(assert " + g.form + ")\n(check-sat)\n"
	for _, d := range slices.Backward(w.defs) { // each hangs on earlier ones only
		if mentioned(body, d.name) {
			body = d.text + body
		}
	}
	return "; " + g.name + "\n(set-logic ALL)\n" + smtShapes + w.message(body) + body
}

// mentioned reports that a name is used.
func mentioned(body, name string) bool {
	return strings.Contains(body, name+" ") || strings.Contains(body, name+")")
}

// message declares what a message has.
func (w *script) message(body string) string {
	var b strings.Builder
	say := func(name, sort, holds string) {
		if mentioned(body, name) {
			b.WriteString("(declare-const " + name + " " + sort + ")\n" + holds)
		}
	}
	for _, n := range []string{"listener", "client.name", "client.helo", "tls.version", "tls.cipher", "customer", "auth.user"} {
		say(n, "String", "")
	}
	for _, n := range []string{"spf", "dkim", "dmarc"} {
		say(n, "String", "(assert "+smtOneOf(n, values(n))+")\n")
	}
	say("rcpt.domain", "String", "(assert (str.in_re rcpt.domain domain))\n")
	say("rcpt.local", "String", "(assert (str.in_re rcpt.local local))\n")
	if mentioned(body, "sender.domain") || mentioned(body, "sender.local") {
		b.WriteString("(declare-const sender.domain String)\n(declare-const sender.local String)\n" +
			"(assert (or (and (= sender.local \"\") (= sender.domain \"\")) (and (str.in_re sender.domain domain) (str.in_re sender.local local))))\n")
	}
	say("tls.on", "Bool", "")
	say("v4", "Bool", "")
	say("a4", "(_ BitVec 32)", "")
	say("a6", "(_ BitVec 128)", "(assert (not (= ((_ extract 127 32) a6) #x00000000000000000000ffff))) ; an IPv4 address is read as one\n")
	say("size", "Int", "(assert (>= size 0))\n")
	say("now", "Int", "; now is in nanoseconds since 1970\n")
	for i, n := range w.order {
		for k := range w.headers[n] {
			say(fmt.Sprintf("has%d.%d", i, k), "Bool", "")
			say(fmt.Sprintf("h%d.%d", i, k), "String", fmt.Sprintf("(assert (or (not has%d.%d) (str.in_re h%d.%d value))) ; %q\n", i, k, i, k, n))
		}
	}
	return b.String()
}

// define adds a definition.
func (w *script) define(name, sort, text, comment string) {
	if comment != "" {
		comment = fmt.Sprintf(" ; %q", comment)
	}
	w.defs = append(w.defs, smtDef{name, "(define-fun " + name + " () " + sort + " " + text + ")" + comment + "\n"})
}

// door is what the topology lets through of the scene's messages.
func (w *script) door() string {
	t := w.p.Topology
	fs := []string{smtOneOf("listener", w.listeners())}
	for _, a := range slices.Concat(t.Reports, t.Postmasters) {
		fs = append(fs, "(not "+smtIs(a, "rcpt.local", "rcpt.domain")+")")
	}
	switch w.sc.origin {
	case policy.Stranger:
		fs = append(fs, w.matches(t.Accept, "rcpt.local", "rcpt.domain"))
		for _, h := range t.Inside {
			if h.Address.IsValid() {
				fs = append(fs, "(not "+smtHost(h)+")")
			}
		}
	case policy.Inside:
		fs = append(fs, smtHost(*w.sc.host))
	case policy.Customer:
		fs = append(fs, `(not (= customer ""))`)
		for _, c := range t.Customers {
			fs = append(fs, "(or (not (= customer "+smtText(c.Name)+")) "+w.comes(c)+")")
		}
	}
	return smtAnd(fs)
}

// listeners are those where a session of the scene can begin.
func (w *script) listeners() []string {
	var ls []string
	for _, l := range w.p.Topology.Listeners {
		if w.sc.origin == policy.Inside || w.sc.origin == policy.Stranger && l.From == policy.FromStrangers ||
			w.sc.origin == policy.Customer && (l.From == policy.FromCustomers || l.Auth) {
			ls = append(ls, l.Name)
		}
	}
	return ls
}

func smtHost(h policy.InsideHost) string {
	a := h.Address.Addr().Unmap()
	return smtWithin(netip.PrefixFrom(a, a.BitLen()))
}

// comes is how a customer of the file can come: signed in or from its networks, and
// from its own senders.
func (w *script) comes(c policy.CustomerDef) string {
	var auth, nets []string
	for _, l := range w.p.Topology.Listeners {
		if l.Auth {
			auth = append(auth, l.Name)
		}
	}
	for _, n := range c.Networks {
		nets = append(nets, smtWithin(n))
	}
	came := smtOr(append(nets, smtOneOf("listener", auth)))
	if len(c.Senders) == 0 {
		return came
	}
	return "(and " + came + " (or (= sender.domain \"\") " + w.matches(c.Senders, "sender.local", "sender.domain") + "))"
}

func (w *script) filters() {
	live := "true"
	for i := range w.p.Filters {
		f := &w.p.Filters[i]
		c := w.cond(f.If)
		w.define(fmt.Sprintf("live-%d", i), "Bool", live, "")
		w.define(fmt.Sprintf("if-%d", i), "Bool", c, f.Name)
		if f.Then != nil {
			live = fmt.Sprintf("(and live-%d (not if-%d))", i, i)
		} else {
			live = fmt.Sprintf("live-%d", i)
		}
		w.after = append(w.after, w.does(f, i))
	}
	w.define(fmt.Sprintf("live-%d", len(w.p.Filters)), "Bool", live, "")
	w.after = append(w.after, smtState{w.rl, w.rd, w.pool, maps.Clone(w.tags)})
}

// does gives what filter i changes for its own decision and, where it is not final,
// brings it into what is seen below.
func (w *script) does(f *policy.Filter, i int) smtState {
	at := smtState{w.rl, w.rd, w.pool, maps.Clone(w.tags)}
	applies := fmt.Sprintf("if-%d", i)
	for _, a := range f.Do {
		switch a.Kind {
		case policy.DoSetRcpt:
			at.local, at.domain = smtText(a.Rcpt.Local), smtText(a.Rcpt.Domain)
		case policy.DoPool:
			at.pool = smtText(a.Text)
		case policy.DoTag:
			at.tags[a.Text] = append(slices.Clip(at.tags[a.Text]), applies)
		}
	}
	if f.Then != nil {
		return at
	}
	w.tags = at.tags
	if at.local != w.rl {
		w.define(fmt.Sprintf("local-%d", i), "String", "(ite "+applies+" "+at.local+" "+w.rl+")", "")
		w.define(fmt.Sprintf("domain-%d", i), "String", "(ite "+applies+" "+at.domain+" "+w.rd+")", "")
		w.rl, w.rd = fmt.Sprintf("local-%d", i), fmt.Sprintf("domain-%d", i)
	}
	if at.pool != w.pool {
		was := w.pool
		if was == "" {
			was = `""`
		}
		w.define(fmt.Sprintf("pool-%d", i), "String", "(ite "+applies+" "+at.pool+" "+was+")", "")
		w.pool = fmt.Sprintf("pool-%d", i)
	}
	return at
}
