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
				if i+1 < len(r) && !r[i+1].is("regex") && w.is("domain") && !neg && !r[len(r)-1].is("reject") {
					items, _ := m.items(r[i+1])
					m.owned = append(m.owned, items...)
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
