package opensmtpd

import (
	"strings"

	"postern.dev/postern/internal/dialect"
)

// rule gives the condition of a match rule and whether it sends mail on. Without from it
// is from local, without for it is for local.
func (m *modeller) rule(r []word) (band, bool) {
	pos := r[0].pos
	never, always := exact(dialect.False(pos)), exact(dialect.True(pos))
	from, to, all := never, exact(dialect.Equal(pos, "rcpt.domain", "localhost")), always
	if m.proxied {
		from = exact(dialect.Within(pos, "client.address", "127.0.0.0/8"))
	}
	local, relay := from, false
	for i := 1; i < len(r); i++ {
		neg := r[i].is("!")
		if neg {
			i++
		}
		arg := func() word { // the next word
			if i++; i < len(r) {
				return r[i]
			}
			return word{pos: pos}
		}
		value := func(what string) band {
			w := arg()
			if w.is("regex") {
				return m.operand(what, arg(), true)
			}
			return m.operand(what, w, false)
		}
		set := func(b band) band {
			if neg {
				return b.not()
			}
			return b
		}
		login := func() {
			if i+1 < len(r) && (r[i+1].quoted || strings.HasPrefix(r[i+1].text, "<")) {
				i++
			}
		}
		if i >= len(r) {
			break
		}
		switch k := r[i]; k.text {
		case "from":
			switch w := arg(); w.text {
			case "any":
				from = set(always)
			case "local":
				from = set(local)
			case "socket":
				from = set(never)
			case "auth":
				login()
				from = set(never)
			case "src", "rdns", "mail-from":
				from = set(value(w.text))
			default:
				from = m.gap(w, "not known")
			}
		case "for":
			switch w := arg(); w.text {
			case "any":
				to = set(always)
			case "local":
				to = set(exact(dialect.Equal(pos, "rcpt.domain", "localhost")))
			case "domain", "rcpt-to":
				if i+1 < len(r) && !neg && fromOutside(r) {
					m.own(r[i+1:])
				}
				to = set(value(w.text))
			default:
				to = m.gap(w, "not known")
			}
		case "tag":
			b := never
			if arg().text == m.tag {
				b = always
			}
			all = all.and(set(b))
		case "auth":
			login()
			all = all.and(set(never))
		case "helo", "mail-from", "rcpt-to":
			all = all.and(set(value(k.text)))
		case "action":
			relay = m.relays[arg().text]
		case "reject":
		default:
			all = all.and(set(m.gap(k, "this option is not followed")))
		}
	}
	return all.and(from).and(to), relay
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
