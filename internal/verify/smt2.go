package verify

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"postern.dev/postern/internal/policy"
)

// SMT2 gives obligations of a policy as scripts in SMT-LIB 2.6, by name, so that a
// solver of another hand, such as z3 or cvc5, can check them: for each filter that
// can relay for strangers (PV001) or bounce what they send (PV003), "there is a
// message for which it does". unsat says that there is none.
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
		w := newScript(p)
		common := w.policy()
		for _, g := range w.goals() {
			text := fmt.Sprintf("; %s\n%s(assert %s)\n(check-sat)\n", g.name, common, g.form)
			if !yield(g.name, text) {
				return
			}
		}
	}
}

// script writes one policy for strangers.
type script struct {
	p        *policy.Program
	decls    strings.Builder
	headers  map[string]int // mentions
	order    []string
	frees    int
	tags     map[string][]string // of filters so far, by what sets them
	rl, rd   string              // the recipient here
	after    []smtAddress        // what the decision of each filter ends with
	bindings strings.Builder
}

type smtAddress struct{ local, domain string }

type goal struct{ name, form string }

func newScript(p *policy.Program) *script {
	w := &script{p: p, headers: map[string]int{}, tags: map[string][]string{}, rl: "rcpt.local", rd: "rcpt.domain"}
	for i := range p.Filters {
		w.mentions(p.Filters[i].If)
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

// policy writes what holds of every stranger's message past the door, and the
// filters top down: live-N is "no final filter above N applies".
func (w *script) policy() string {
	var b strings.Builder
	b.WriteString("(set-logic ALL)\n" + smtShapes)
	for _, n := range []string{"listener", "client.name", "client.helo", "tls.version", "tls.cipher", "sender.domain", "sender.local", "rcpt.domain", "rcpt.local", "spf", "dkim", "dmarc"} {
		fmt.Fprintf(&b, "(declare-const %s String)\n", n)
	}
	b.WriteString("(declare-const tls.on Bool)\n(declare-const v4 Bool)\n(declare-const a4 (_ BitVec 32))\n(declare-const a6 (_ BitVec 128))\n")
	b.WriteString("(assert (not (= ((_ extract 127 32) a6) #x00000000000000000000ffff))) ; an IPv4 address is read as one\n")
	b.WriteString("(declare-const size Int)\n(assert (>= size 0))\n(declare-const now Int) ; nanoseconds since 1970\n")
	b.WriteString("(assert (str.in_re rcpt.domain domain))\n(assert (str.in_re rcpt.local local))\n")
	b.WriteString("(assert (or (and (= sender.local \"\") (= sender.domain \"\")) (and (str.in_re sender.domain domain) (str.in_re sender.local local))))\n")
	for _, n := range []string{"spf", "dkim", "dmarc"} {
		b.WriteString("(assert " + smtOneOf(n, values(n)) + ")\n")
	}
	for i, n := range w.order {
		for k := range w.headers[n] {
			fmt.Fprintf(&b, "(declare-const h%d.%d String) ; %q\n(declare-const has%d.%d Bool)\n(assert (str.in_re h%d.%d value))\n", i, k, n, i, k, i, k)
		}
	}
	w.filters()
	b.WriteString(w.decls.String())
	b.WriteString("(assert " + w.door() + ")\n")
	b.WriteString(w.bindings.String())
	return b.String()
}

// door is what the topology lets through of strangers.
func (w *script) door() string {
	t := w.p.Topology
	var ls []string
	for _, l := range t.Listeners {
		if l.From == policy.FromStrangers {
			ls = append(ls, l.Name)
		}
	}
	fs := []string{smtOneOf("listener", ls), w.matches(t.Accept, "rcpt.local", "rcpt.domain")}
	for _, a := range slices.Concat(t.Reports, t.Postmasters) {
		fs = append(fs, "(not "+smtIs(a, "rcpt.local", "rcpt.domain")+")")
	}
	for _, h := range t.Inside {
		if a := h.Address.Addr().Unmap(); a.IsValid() {
			p, _ := a.Prefix(a.BitLen())
			fs = append(fs, "(not "+smtWithin(p)+")")
		}
	}
	return smtAnd(fs)
}

func (w *script) filters() {
	live := "true"
	for i := range w.p.Filters {
		f := &w.p.Filters[i]
		c := w.cond(f.If)
		fmt.Fprintf(&w.bindings, "(define-fun live-%d () Bool %s)\n(define-fun if-%d () Bool %s) ; %q\n", i, live, i, c, f.Name)
		if f.Then != nil {
			live = fmt.Sprintf("(and live-%d (not if-%d))", i, i)
		} else {
			live = fmt.Sprintf("live-%d", i)
		}
		at := smtAddress{w.rl, w.rd}
		for _, a := range f.Do {
			switch a.Kind {
			case policy.DoSetRcpt:
				at = smtAddress{smtText(a.Rcpt.Local), smtText(a.Rcpt.Domain)}
			case policy.DoTag:
				if f.Then == nil {
					w.tags[a.Text] = append(w.tags[a.Text], fmt.Sprintf("if-%d", i))
				}
			}
		}
		w.after = append(w.after, at)
		if f.Then == nil && at.local != w.rl {
			fmt.Fprintf(&w.bindings, "(define-fun local-%d () String (ite if-%d %s %s))\n(define-fun domain-%d () String (ite if-%d %s %s))\n",
				i, i, at.local, w.rl, i, i, at.domain, w.rd)
			w.rl, w.rd = fmt.Sprintf("local-%d", i), fmt.Sprintf("domain-%d", i)
		}
	}
}

// goals are the ways in which a claim can be broken.
func (w *script) goals() []goal {
	var out []goal
	for i := range w.p.Filters {
		f := &w.p.Filters[i]
		reached := fmt.Sprintf("live-%d if-%d", i, i)
		var relays []string
		for _, a := range f.Do {
			if a.Kind == policy.DoCopy && w.p.InsideFor(a.Rcpt) == "" && !w.p.Topology.DeclaredSink(a.Rcpt) {
				relays = append(relays, w.goesOut(i))
			}
		}
		if f.Then != nil && f.Then.Kind == policy.ThenDeliver {
			relays = append(relays, "(not "+w.matches(insidePatterns(w.p.Topology), w.after[i].local, w.after[i].domain)+")")
		}
		if len(relays) > 0 {
			out = append(out, goal{fmt.Sprintf("%s %s", RelayForStrangers, f.Name), fmt.Sprintf("(and %s %s)", reached, smtOr(relays))})
		}
		if f.Then != nil && f.Then.Kind == policy.ThenBounce {
			out = append(out, goal{fmt.Sprintf("%s %s", Backscatter, f.Name), fmt.Sprintf("(and %s (not (= sender.domain \"\")))", reached)})
		}
	}
	return out
}

// goesOut is when a copy that filter i makes is sent: a final filter from there on
// takes the message.
func (w *script) goesOut(i int) string {
	var fs []string
	for k := i; k < len(w.p.Filters); k++ {
		if t := w.p.Filters[k].Then; t != nil && accepts(t.Kind, policy.Stranger) {
			fs = append(fs, fmt.Sprintf("(and live-%d if-%d)", k, k))
		}
	}
	return smtOr(fs)
}

func (w *script) matches(ps []policy.Pattern, local, domain string) string {
	var fs []string
	for _, p := range ps {
		switch p.Kind {
		case policy.MatchAll:
			return "true"
		case policy.MatchDomain:
			fs = append(fs, "(= "+domain+" "+smtText(p.Domain)+")")
		case policy.MatchSuffix:
			fs = append(fs, fmt.Sprintf("(and (str.suffixof %s %s) (not (= %s %s)))", smtText(p.Domain), domain, domain, smtText(p.Domain)))
		case policy.MatchAddress:
			fs = append(fs, smtIs(p.Address, local, domain))
		}
	}
	return smtOr(fs)
}
