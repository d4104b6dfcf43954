package suppress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
)

// Reason says why an address is on the list.
type Reason uint8

// The reasons. Numbers are part of the stored form: append only.
const (
	HardBounce  Reason = iota + 1 // the address is no good
	Complaint                     // its owner has complained
	Manual                        // somebody has put it there
	Unsubscribe                   // its owner wants no more mail
)

// String names the reason, "hard-bounce".
func (r Reason) String() string {
	switch r {
	case HardBounce:
		return "hard-bounce"
	case Complaint:
		return "complaint"
	case Manual:
		return "manual"
	case Unsubscribe:
		return "unsubscribe"
	}
	return "unknown"
}

// ParseReason reads a reason's name, and what others call it in their exports.
func ParseReason(s string) (Reason, error) {
	switch strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(s), "_", "-"), " ", "-")) {
	case "hard-bounce", "bounce", "bounced", "hardbounce", "hard":
		return HardBounce, nil
	case "complaint", "spam", "spam-complaint", "abuse", "spam-report":
		return Complaint, nil
	case "manual", "blocked", "admin", "":
		return Manual, nil
	case "unsubscribe", "unsubscribed", "opt-out", "optout":
		return Unsubscribe, nil
	}
	return 0, errors.New("reason is none of hard-bounce, complaint, manual, unsubscribe")
}

// Entry is one address that is not to be mailed.
type Entry struct {
	Customer string    // "" for all customers
	Address  string    // normal form, local@domain; "" where only its hash is kept
	Hash     Hash      // of the address; set in what the Store gives
	Reason   Reason    // Manual where zero
	Detail   string    // a bounce category, a feedback type, an operator's note; at most 200 octets are kept
	Source   string    // the message or report that it came from, or the import; at most 100 octets
	Created  time.Time // in seconds
	Expires  time.Time // zero for never; in seconds
}

// Bounds of the texts of an entry, in octets.
const (
	maxDetail   = 200
	maxSource   = 100
	maxCustomer = 128
)

// Normalise reads an address as people and files write it, in angle brackets or
// without, and gives its normal form.
func Normalise(s string) (policy.Address, error) {
	s = strings.TrimSpace(s)
	if !strings.HasPrefix(s, "<") {
		s = "<" + s + ">"
	}
	p, rest, err := smtp.ParsePath(s, true)
	switch {
	case err != nil || rest != "" || p.Route != "" || p.Local == "":
		return policy.Address{}, errors.New("not an address")
	case p.Domain == "":
		return policy.Address{}, errors.New("an address without a domain")
	}
	a, err := policy.Normalise(p)
	if err != nil {
		return policy.Address{}, errors.New("not a domain name behind the @")
	}
	return a, nil
}

// active reports whether the entry is in force at a time.
func (e *Entry) active(now time.Time) bool { return e.Expires.IsZero() || now.Before(e.Expires) }

// The stored form: version, reason, then created and expires in seconds since 1970, and
// detail, source and address, each with its length before it.
const version = 1

func (e *Entry) encode(b []byte) []byte {
	b = append(b, version, byte(e.Reason))
	b = binary.AppendUvarint(b, seconds(e.Created))
	b = binary.AppendUvarint(b, seconds(e.Expires))
	for _, s := range [...]string{cut(e.Detail, maxDetail), cut(e.Source, maxSource), e.Address} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

var errMalformed = errors.New("malformed entry")

func (e *Entry) decode(b []byte) error {
	if len(b) < 2 || b[0] != version {
		return fmt.Errorf("%w: version", errMalformed)
	}
	e.Reason, b = Reason(b[1]), b[2:]
	for _, t := range [...]*time.Time{&e.Created, &e.Expires} {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return errMalformed
		}
		if b = b[n:]; v != 0 {
			*t = time.Unix(int64(v), 0).UTC()
		}
	}
	for _, s := range [...]*string{&e.Detail, &e.Source, &e.Address} {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > uint64(len(b)-n) {
			return errMalformed
		}
		*s = string(b[n : n+int(v)])
		b = b[n+int(v):]
	}
	return nil
}

func seconds(t time.Time) uint64 {
	if t.IsZero() || t.Unix() < 0 {
		return 0
	}
	return uint64(t.Unix())
}

// cut shortens a text to n octets, at a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
