package verify

import (
	"slices"

	"postern.dev/postern/internal/policy"
)

// textFields are the text terms that a message has, in the order of fieldText.
func textFields() []string {
	return []string{"", "listener", "customer", "auth.user", "client.name", "client.helo", "tls.version", "tls.cipher",
		"sender.domain", "sender.local", "sender.address", "rcpt.domain", "rcpt.local", "rcpt.address", "spf", "dkim", "dmarc"}
}

func fieldOf(name string) uint8 {
	if i := slices.Index(textFields(), name); i > 0 {
		return uint8(i)
	}
	return 0
}

// fieldText reads a text term.
func fieldText(field uint8, f *policy.Facts) string {
	switch field {
	case 1:
		return f.Listener
	case 2:
		return f.Customer
	case 3:
		return f.AuthUser
	case 4:
		return f.Client.Name
	case 5:
		return f.Client.Helo
	case 6:
		return f.TLS.Version
	case 7:
		return f.TLS.Cipher
	case 8:
		return f.Sender.Domain
	case 9:
		return f.Sender.Local
	case 10:
		return f.Sender.String()
	case 11:
		return f.Rcpt.Domain
	case 12:
		return f.Rcpt.Local
	case 13:
		return f.Rcpt.String()
	case 14:
		return f.Content.SPF
	case 15:
		return f.Content.DKIM
	case 16:
		return f.Content.DMARC
	}
	return ""
}

// value answers a formula for a message: Unknown where it hangs on a free atom.
func (u *universe) value(f *form, m *policy.Facts) policy.Result {
	switch f.op {
	case opTrue:
		return policy.Yes
	case opFalse:
		return policy.No
	case opNot:
		return -u.value(f.kids[0], m)
	case opAtom:
		return u.answer(f.atom, m)
	}
	out, worst := policy.Yes, policy.No
	if f.op == opOr {
		out, worst = policy.No, policy.Yes
	}
	for _, k := range f.kids {
		r := u.value(k, m)
		if r == worst {
			return r
		}
		if r == policy.Unknown {
			out = r
		}
	}
	return out
}

// answer answers an atom for a message.
func (u *universe) answer(id int32, m *policy.Facts) policy.Result {
	a := &u.atoms[id]
	t := &u.terms[a.term]
	switch t.sort {
	case sortText:
		return result(a.holds(fieldText(t.field, m)))
	case sortHeader:
		name := t.name[len("header:"):]
		for i := range m.Content.Headers {
			if h := &m.Content.Headers[i]; h.Name == name && a.holds(h.Value) {
				return policy.Yes
			}
		}
		return policy.No
	case sortIP:
		return result(a.contains(m.Client.Address.Unmap()))
	case sortNumber:
		return result(a.lo <= m.Content.Size && m.Content.Size <= a.hi)
	case sortTime:
		return result(a.at(m.Now))
	case sortFlag:
		return result(m.TLS.On)
	}
	return policy.Unknown
}

func result(b bool) policy.Result {
	if b {
		return policy.Yes
	}
	return policy.No
}
