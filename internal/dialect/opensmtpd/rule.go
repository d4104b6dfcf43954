package opensmtpd

import (
	"strings"

	"postern.dev/postern/internal/dialect"
)

// ruleReader reads one match rule.
type ruleReader struct {
	m             *modeller
	r             []word
	i             int
	neg           bool // the option is negated
	local         band // who is local
	from, to, all band
	relay         bool // its action sends mail on
}

// rule gives the condition of a match rule and whether it sends mail on. Without from it
// is from local, without for it is for local.
func (m *modeller) rule(r []word) (band, bool) {
	pos := r[0].pos
	x := &ruleReader{m: m, r: r, local: exact(dialect.False(pos)), all: exact(dialect.True(pos))}
	if m.proxied {
		x.local = exact(dialect.Or(dialect.Within(pos, "client.address", "127.0.0.0/8"), dialect.Within(pos, "client.address", "::1")))
	}
	x.from, x.to = x.local, x.here()
	for x.i = 1; x.i < len(r); x.i++ {
		if x.neg = r[x.i].is("!"); x.neg {
			if x.i++; x.i >= len(r) {
				break
			}
		}
		x.option(r[x.i])
	}
	return x.all.and(x.from).and(x.to), x.relay
}

func (x *ruleReader) never() band  { return exact(dialect.False(x.r[0].pos)) }
func (x *ruleReader) always() band { return exact(dialect.True(x.r[0].pos)) }
func (x *ruleReader) here() band   { return exact(dialect.Equal(x.r[0].pos, "rcpt.domain", "localhost")) }

// arg is the next word, an empty one at the end.
func (x *ruleReader) arg() word {
	if x.i++; x.i < len(x.r) {
		return x.r[x.i]
	}
	return word{pos: x.r[0].pos}
}

// value is the condition that a fact is in the table, or matches the expression, that follows.
func (x *ruleReader) value(what string) band {
	w := x.arg()
	if w.is("regex") {
		return x.m.operand(what, x.arg(), true)
	}
	return x.m.operand(what, w, false)
}

func (x *ruleReader) set(b band) band {
	if x.neg {
		return b.not()
	}
	return b
}

// login passes over the table of users behind auth.
func (x *ruleReader) login() {
	if x.i+1 < len(x.r) && (x.r[x.i+1].quoted || strings.HasPrefix(x.r[x.i+1].text, "<")) {
		x.i++
	}
}

func (x *ruleReader) option(k word) {
	switch k.text {
	case "from":
		x.from = x.sender()
	case "for":
		x.to = x.recipient()
	case "tag":
		b := x.never()
		if x.arg().text == x.m.tag {
			b = x.always()
		}
		x.all = x.all.and(x.set(b))
	case "auth":
		x.login()
		x.all = x.all.and(x.set(x.never()))
	case "helo", "mail-from", "rcpt-to":
		x.all = x.all.and(x.set(x.value(k.text)))
	case "action":
		x.relay = x.m.relays[x.arg().text]
	case "reject":
	default:
		x.all = x.all.and(x.set(x.m.gap(k, "this option is not followed")))
	}
}

// sender reads what follows from. Strangers have no login.
func (x *ruleReader) sender() band {
	switch w := x.arg(); w.text {
	case "any":
		return x.set(x.always())
	case "local":
		return x.set(x.local)
	case "socket":
		return x.set(x.never())
	case "auth":
		x.login()
		return x.set(x.never())
	case "src", "rdns", "mail-from":
		return x.set(x.value(w.text))
	default:
		return x.m.gap(w, "what this stands for is not known")
	}
}

// recipient reads what follows for.
func (x *ruleReader) recipient() band {
	switch w := x.arg(); w.text {
	case "any":
		return x.set(x.always())
	case "local":
		return x.set(x.here())
	case "domain", "rcpt-to":
		if x.i+1 < len(x.r) && !x.neg && fromOutside(x.r) {
			x.m.own(x.r[x.i+1:])
		}
		return x.set(x.value(w.text))
	default:
		return x.m.gap(w, "what this stands for is not known")
	}
}

// fromOutside reports a rule that takes mail from everybody and does not reject it: what
// it is for is declared as the server's own. What only local clients may send to is not.
func fromOutside(r []word) bool {
	for i := 0; i+1 < len(r); i++ {
		if r[i].is("from") && r[i+1].is("any") {
			return !r[len(r)-1].is("reject")
		}
	}
	return false
}

// own notes the domains and addresses that a for clause names: those that somebody can
// have to himself.
func (m *modeller) own(clause []word) {
	if clause[0].is("regex") {
		if len(clause) > 1 {
			items, _ := m.items(clause[1])
			for _, it := range items {
				if tail := dialect.LiteralTail(it); tail != "" && !dialect.Provider(tail) {
					m.owned = append(m.owned, tail, "."+tail)
				}
			}
		}
		return
	}
	items, _ := m.items(clause[0])
	for _, it := range items {
		it = strings.ToLower(it)
		local, domain, is := strings.Cut(it, "@")
		if !is {
			local, domain = "", it
		}
		domain = strings.TrimPrefix(domain, "*")
		if dialect.Provider(strings.TrimPrefix(domain, ".")) || strings.Contains(domain, "*") {
			continue
		}
		for _, d := range dialect.Owned(domain, false) {
			if local != "" && local != "*" {
				d = local + "@" + d
			}
			m.owned = append(m.owned, d)
		}
	}
}
