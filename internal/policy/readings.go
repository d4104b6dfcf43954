package policy

import (
	"strconv"
	"strings"

	"postern.dev/postern/internal/smtp"
)

// maxReadings bounds the work on an address made to have many.
const maxReadings = 64

// Readings gives every mailbox that some mail system could take the path to mean,
// the literal one first: a%b@c is also a@b, b!a@c is also a@b, "a@b"@c is also a@b,
// IMCEASMTP-a+40b@c is also a@b, and so on inwards. A stranger's recipient is acceptable only if
// every reading of it is: the next host may honour a form that this one does not
// (percent hack, bang paths, encapsulation as in CVE-1999-0682). A path with more readings than any
// honest one gives ok false.
func Readings(p smtp.Path) (all []Address, ok bool) {
	first, err := Normalise(p)
	if err != nil {
		return nil, false
	}
	all = []Address{first}
	for i := 0; i < len(all); i++ {
		for _, next := range inner(all[i]) {
			if contains(all, next) {
				continue
			}
			if len(all) == maxReadings {
				return nil, false
			}
			all = append(all, next)
		}
	}
	return all, true
}

func contains(all []Address, a Address) bool {
	for _, b := range all {
		if a == b {
			return true
		}
	}
	return false
}

// inner gives the readings that lie one step inside a local part.
func inner(a Address) []Address {
	var out []Address
	add := func(local, domain string) {
		if local == "" || domain == "" {
			return
		}
		d, err := NormaliseDomain(domain)
		if err != nil {
			return
		}
		out = append(out, Address{Local: local, Domain: d})
	}
	for i := 0; i < len(a.Local) && len(out) < maxReadings; i++ {
		switch a.Local[i] {
		case '%', '@':
			add(a.Local[:i], a.Local[i+1:])
			add(a.Local[:i], cutRest(a.Local[i+1:]))
		case '!':
			add(a.Local[i+1:], a.Local[:i])
		}
	}
	if rest, found := strings.CutPrefix(a.Local, "imceasmtp-"); found {
		if s, good := unimcea(rest); good {
			if i := strings.LastIndexByte(s, '@'); i > 0 {
				add(s[:i], s[i+1:])
			}
		}
	}
	return append(out, routed(a)...)
}

// routed reads a source route that hides in a quoted local part: "@a:u@b"@c.
func routed(a Address) []Address {
	if !strings.HasPrefix(a.Local, "@") {
		return nil
	}
	_, rest, found := strings.Cut(a.Local, ":")
	if !found {
		return nil
	}
	if i := strings.LastIndexByte(rest, '@'); i > 0 {
		if d, err := NormaliseDomain(rest[i+1:]); err == nil {
			return []Address{{Local: rest[:i], Domain: d}}
		}
	}
	return nil
}

// cutRest ends a domain where the next separator begins, for forms like a%b%c.
func cutRest(s string) string {
	if i := strings.IndexAny(s, "%@!"); i >= 0 {
		return s[:i]
	}
	return ""
}

// unimcea undoes Exchange's encapsulation: +XX is an octet, _ is /.
func unimcea(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(v))
		i += 2
	}
	return b.String(), true
}

// ReadingsOf gives every reading of an address in normal form, itself first; one
// with more readings than any honest address has gives those found so far.
func ReadingsOf(a Address) []Address {
	all := []Address{a}
	for i := 0; i < len(all) && len(all) < maxReadings; i++ {
		for _, next := range inner(all[i]) {
			if !contains(all, next) {
				all = append(all, next)
			}
		}
	}
	return all
}
