package verify

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"postern.dev/postern/internal/policy"
)

// smtText writes a string constant.
func smtText(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"':
			b.WriteString(`""`)
		case r < ' ' || r > '~' || r == '\\':
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func smtAnd(fs []string) string { return smtJoin("and", "true", fs) }
func smtOr(fs []string) string  { return smtJoin("or", "false", fs) }

func smtJoin(op, none string, fs []string) string {
	switch len(fs) {
	case 0:
		return none
	case 1:
		return fs[0]
	}
	return "(" + op + " " + strings.Join(fs, " ") + ")"
}

func smtOneOf(term string, of []string) string {
	var fs []string
	for _, s := range of {
		fs = append(fs, "(= "+term+" "+smtText(s)+")")
	}
	return smtOr(fs)
}

func smtIs(a policy.Address, local, domain string) string {
	return fmt.Sprintf("(and (= %s %s) (= %s %s))", local, smtText(a.Local), domain, smtText(a.Domain))
}

// smtWithin is "the client's address is in that network".
func smtWithin(p netip.Prefix) string {
	is, term, width := "v4", "a4", 32
	if p.Addr().Is6() {
		is, term, width = "(not v4)", "a6", 128
	}
	if p.Bits() == 0 {
		return is
	}
	var bits strings.Builder
	for i, o := 0, p.Addr().AsSlice(); i < p.Bits(); i++ {
		bits.WriteByte('0' + o[i/8]>>(7-i%8)&1)
	}
	return fmt.Sprintf("(and %s (= ((_ extract %d %d) %s) #b%s))", is, width-1, width-p.Bits(), term, bits.String())
}

// free declares a Boolean of which nothing is known.
func (w *script) free(x policy.Expr) string {
	w.frees++
	name := fmt.Sprintf("free-%d", w.frees)
	w.defs = append(w.defs, smtDef{name, fmt.Sprintf("(declare-const %s Bool) ; %q\n", name, Spell(x))})
	return name
}

// cond writes a condition as it is read here.
func (w *script) cond(x policy.Expr) string {
	switch x := x.(type) {
	case *policy.Not:
		return "(not " + w.cond(x.X) + ")"
	case *policy.Binary:
		switch x.Op {
		case policy.And:
			return "(and " + w.cond(x.L) + " " + w.cond(x.R) + ")"
		case policy.Or:
			return "(or " + w.cond(x.L) + " " + w.cond(x.R) + ")"
		}
		return w.compare(x)
	case *policy.Literal:
		return fmt.Sprint(x.Value)
	case *policy.Field:
		return x.Name // tls.on
	case *policy.Call:
		return w.call(x)
	}
	return w.free(x)
}

// texts gives the values of a text operand, each with when there is it.
func (w *script) texts(x policy.Expr) (out []smtValue) {
	if c, ok := x.(*policy.Call); ok {
		name, _ := literalText(c.Args[0])
		name = strings.ToLower(name)
		for i, n := range w.order {
			for k := range w.headers[n] {
				if n == name {
					out = append(out, smtValue{fmt.Sprintf("has%d.%d", i, k), fmt.Sprintf("h%d.%d", i, k)})
				}
			}
		}
		return out
	}
	return []smtValue{{"true", w.term(x.(*policy.Field).Name)}}
}

// term writes a text field of a message of the scene.
func (w *script) term(name string) string {
	switch name {
	case "origin":
		return smtText(string(w.sc.origin))
	case "customer", "auth.user":
		if w.sc.origin != policy.Customer {
			return `""`
		}
	case "decision.disposition":
		return w.decision.disposition
	case "decision.filter":
		return w.decision.filter
	case "decision.pool":
		return w.decision.pool
	case "decision.inside":
		return w.decision.inside
	case "rcpt.domain":
		return w.rd
	case "rcpt.local":
		return w.rl
	case "rcpt", "rcpt.address", "decision.rcpt":
		return `(str.++ ` + w.rl + ` "@" ` + w.rd + `)`
	case "sender", "sender.address":
		return `(ite (= sender.domain "") "" (str.++ sender.local "@" sender.domain))`
	case "now.weekday":
		out := smtText(time.Saturday.String())
		for d := time.Sunday; d < time.Saturday; d++ {
			out = fmt.Sprintf("(ite (= (mod (+ 4 (div now 86400000000000)) 7) %d) %s %s)", int(d), smtText(d.String()), out)
		}
		return out
	}
	return name
}

// some is "a value of x fulfils test".
func (w *script) some(x policy.Expr, test func(term string) string) string {
	var fs []string
	for _, v := range w.texts(x) {
		fs = append(fs, "(and "+v.when+" "+test(v.term)+")")
	}
	return smtOr(fs)
}

func (w *script) compare(x *policy.Binary) string {
	l, r, op := x.L, x.R, x.Op
	if _, swapped := l.(*policy.Literal); swapped {
		l, r, op = r, l, mirrored(op)
	}
	lit, constant := r.(*policy.Literal)
	if !constant {
		return w.some(l, func(a string) string {
			return w.some(r, func(b string) string { return smtEqual(a, b, op) })
		})
	}
	s, isText := lit.Value.(string)
	if isText && !utf8.ValidString(s) {
		return w.free(x)
	}
	f, isField := l.(*policy.Field)
	if !isField {
		return w.some(l, func(a string) string { return smtEqual(a, smtText(s), op) })
	}
	switch kindOf(f.Name) {
	case kindNumber, kindTime:
		return w.ordered(f.Name, op, lit)
	case kindFlag:
		return smtEqual(f.Name, fmt.Sprint(lit.Value), op)
	case kindIP:
		return smtEqual(w.network(s), "true", op)
	case kindAddress:
		a, _ := policy.ParseAddress(s)
		return smtEqual(w.isAddress(f.Name, a), "true", op)
	}
	return smtEqual(w.term(f.Name), smtText(normal(f.Name, s)), op)
}

func smtEqual(a, b string, op policy.Op) string {
	if op == policy.Ne {
		return "(not (= " + a + " " + b + "))"
	}
	return "(= " + a + " " + b + ")"
}

func (w *script) isAddress(name string, a policy.Address) string {
	if addressOf(name) == rcptTerm {
		return smtIs(a, w.rl, w.rd)
	}
	return smtIs(a, "sender.local", "sender.domain")
}

func (w *script) network(s string) string {
	p, _ := policy.ParsePrefix(s)
	return smtWithin(p)
}

func (w *script) ordered(name string, op policy.Op, lit *policy.Literal) string {
	term, n := name, int64(0)
	switch v := lit.Value.(type) {
	case int64:
		n = v
	case string:
		if at, err := time.Parse(time.RFC3339, v); err == nil {
			n = at.UnixNano()
		} else {
			n, _ = policy.ParseSize(v)
		}
	}
	if name == "now.hour" {
		term = "(mod (div now 3600000000000) 24)"
	}
	number := fmt.Sprint(n)
	if n < 0 {
		number = fmt.Sprintf("(- %d)", -n)
	}
	if op == policy.Eq || op == policy.Ne {
		return smtEqual(term, number, op)
	}
	return fmt.Sprintf("(%s %s %s)", op, term, number)
}

func (w *script) call(x *policy.Call) string {
	switch x.Func {
	case "has_header":
		return w.some(x, func(string) string { return "true" })
	case "tag":
		s, _ := literalText(x.Args[0])
		return smtOr(w.tags[s])
	case "in", "within":
		return w.member(x)
	}
	s, _ := literalText(x.Args[1])
	name := ""
	if f, ok := x.Args[0].(*policy.Field); ok {
		name = f.Name
	}
	folded := kindOf(name) == kindDomain || kindOf(name) == kindAddress
	re, ok := "", utf8.ValidString(s)
	switch x.Func {
	case "matches":
		re, ok = smtSearch(s)
	case "ends_with":
		if folded {
			s = strings.TrimSuffix(strings.ToLower(s), ".")
		}
		if kindOf(name) == kindAddress {
			return w.addressEnds(name, s)
		}
		return w.some(x.Args[0], func(t string) string { return smtEnds(t, s) })
	case "glob":
		if folded {
			s = strings.ToLower(s)
		}
		ok = ok && !strings.Contains(s, "?")
		re = "(re.++ (str.to_re " + strings.Join(smtEach(strings.Split(s, "*")), ") re.all (str.to_re ") + `) (str.to_re ""))`
	}
	if !ok {
		return w.free(x)
	}
	return w.some(x.Args[0], func(t string) string { return "(str.in_re " + t + " " + re + ")" })
}

// smtEnds is "a term ends with s", as a regular language: z3 decides that where it gives
// up on str.suffixof.
func smtEnds(term, s string) string {
	return "(str.in_re " + term + " (re.++ re.all (str.to_re " + smtText(s) + ")))"
}

// addressEnds says of an address what it ends with by its parts: a domain has no @ in it,
// and the null reverse-path has neither part.
func (w *script) addressEnds(name, s string) string {
	local, domain := "sender.local", "sender.domain"
	if addressOf(name) == rcptTerm {
		local, domain = w.rl, w.rd
	}
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return smtEnds(domain, s)
	}
	if s[i+1:] == "" {
		return "false"
	}
	return "(and (= " + domain + " " + smtText(s[i+1:]) + ") " + smtEnds(local, s[:i]) + ")"
}

func smtEach(ss []string) []string {
	out := make([]string, len(ss))
	for i, s := range ss {
		out[i] = smtText(s)
	}
	return out
}

func (w *script) member(x *policy.Call) string {
	items := x.Args[1:]
	if l, ok := x.Args[1].(*policy.List); ok {
		items = l.Items
	}
	f, isField := x.Args[0].(*policy.Field)
	var fs []string
	for _, s := range texts(items) {
		switch {
		case isField && kindOf(f.Name) == kindIP:
			fs = append(fs, w.network(s))
		case isField && kindOf(f.Name) == kindAddress:
			a, _ := policy.ParseAddress(s)
			fs = append(fs, w.isAddress(f.Name, a))
		case isField:
			fs = append(fs, "(= "+w.term(f.Name)+" "+smtText(normal(f.Name, s))+")")
		default:
			fs = append(fs, w.some(x.Args[0], func(t string) string { return "(= " + t + " " + smtText(s) + ")" }))
		}
	}
	return smtOr(fs)
}
