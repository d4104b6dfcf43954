package journal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"hash"
	"strings"

	"postern.dev/postern/internal/ledger"
)

// masker puts keyed hashes in place of people's addresses. The domain stays: it is a
// host's name, and what counts are made by.
type masker struct{ mac hash.Hash }

// newMasker makes one; nil for no key masks nothing.
func newMasker(key []byte) *masker {
	if key == nil {
		return nil
	}
	return &masker{hmac.New(sha256.New, key)}
}

var maskEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// address hashes an address as it is looked up: in lower case. What has no @ is hashed
// as a whole, but for the null reverse-path.
func (m *masker) address(s string) string {
	if m == nil || s == "" || s == "<>" {
		return s
	}
	domain := ""
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		domain = strings.ToLower(s[i:])
	}
	m.mac.Reset()
	m.mac.Write([]byte(ledger.RecipientKey(s)))
	return "h:" + maskEncoding.EncodeToString(m.mac.Sum(nil)[:10]) + domain
}

// text hashes what looks like an address in a peer's reply or an operator's note. A
// local part can hold nearly anything; what stands unquoted between white space and
// brackets is taken for one. An apostrophe or an equals sign within it is part of it, as
// in the return paths that carry a recipient's address.
func (m *masker) text(s string) string {
	if m == nil || !strings.Contains(s, "@") {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		n := strings.IndexAny(s, " \t\r\n<>()[],;:\"")
		if n < 0 {
			n = len(s)
		}
		b.WriteString(m.word(s[:n]))
		if n < len(s) {
			b.WriteByte(s[n])
			n++
		}
		s = s[n:]
	}
	return b.String()
}

// word hashes a word that looks like an address, but for what stands around it.
func (m *masker) word(s string) string {
	if !strings.Contains(s, "@") {
		return s
	}
	rest := strings.TrimLeft(s, "'=")
	bare := strings.TrimRight(rest, ".!?'=")
	return s[:len(s)-len(rest)] + m.address(bare) + rest[len(bare):]
}

// event masks what an event, which is ours to change, says of people.
func (m *masker) event(e ledger.Event) {
	if m == nil {
		return
	}
	switch e := e.(type) {
	case *ledger.Accepted:
		e.Sender, e.AuthUser, e.Subject, e.MessageID = m.address(e.Sender), m.address(e.AuthUser), 0, m.text(e.MessageID)
		for i := range e.Decisions {
			e.Decisions[i].Recipient = m.address(e.Decisions[i].Recipient)
		}
	case *ledger.Refused:
		e.Sender, e.Recipient, e.Reply = m.address(e.Sender), m.address(e.Recipient), m.text(e.Reply)
	case *ledger.Attempted:
		e.Reply = m.text(e.Reply)
	case *ledger.HandedOff:
		e.Address, e.Reply = m.address(e.Address), m.text(e.Reply)
	case *ledger.Bounced:
		e.Reply = m.text(e.Reply)
	case *ledger.Held:
		e.Reason = m.text(e.Reason)
	case *ledger.Dropped:
		e.Reason = m.text(e.Reason)
	case *ledger.Reported:
		for i := range e.Keys {
			if name, value, ok := strings.Cut(e.Keys[i], "="); ok {
				e.Keys[i] = name + "=" + m.text(value)
			}
		}
	case *ledger.GuardTripped:
		e.Address = m.address(e.Address)
	case *ledger.IncidentChanged:
		e.Note = m.text(e.Note)
	case *ledger.Admin:
		e.Object, e.Note = m.text(e.Object), m.text(e.Note)
	case *ledger.ShapingChanged:
		e.Reply, e.Note = m.text(e.Reply), m.text(e.Note)
	}
}
