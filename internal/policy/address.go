package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"postern.dev/postern/internal/smtp"
)

// domainProfile maps for look-up (case, width, A-labels) and keeps underscores,
// which real host names carry.
func domainProfile() *idna.Profile {
	return idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))
}

// NormaliseDomain gives the normal form of a domain: lower-case A-labels (RFC 5890)
// without a trailing dot. An address literal keeps its brackets and is put in its
// shortest spelling.
func NormaliseDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		return normaliseLiteral(s)
	}
	d := strings.TrimSuffix(s, ".")
	if d == "" || len(d) > 255 {
		return "", fmt.Errorf("normalise domain %q: empty or too long", s)
	}
	if plainDomain(d) {
		return d, nil
	}
	if !utf8.ValidString(d) {
		return "", fmt.Errorf("normalise domain %q: not UTF-8", s)
	}
	a, err := domainProfile().ToASCII(d)
	if err != nil {
		return "", fmt.Errorf("normalise domain %q: not a domain name", s)
	}
	a = strings.TrimSuffix(strings.ToLower(a), ".")
	if !wellFormed(a) {
		return "", fmt.Errorf("normalise domain %q: not a domain name", s)
	}
	return a, nil
}

// plainDomain reports a domain that is in normal form as it stands, which nearly
// all are; A-labels go the long way, so that a fake one is found out.
func plainDomain(d string) bool {
	return wellFormed(d) && !strings.Contains(d, "xn--")
}

// wellFormed reports labels of 1 to 63 lower-case letters, digits, '-' and '_',
// joined by dots.
func wellFormed(d string) bool {
	label := 0
	for i := 0; i < len(d); i++ {
		switch c := d[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
			if label++; label > 63 {
				return false
			}
		default:
			return false
		}
	}
	return label > 0
}

func normaliseLiteral(s string) (string, error) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return "", fmt.Errorf("normalise domain %q: address literal without its bracket", s)
	}
	text := inner
	if len(text) > 5 && strings.EqualFold(text[:5], "ipv6:") {
		text = text[5:]
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return "", fmt.Errorf("normalise domain %q: not an address literal", s)
	}
	a = a.Unmap()
	if a.Is6() {
		return "[ipv6:" + a.String() + "]", nil
	}
	return "[" + a.String() + "]", nil
}

// Normalise gives the form of a path that filters see. The null reverse-path gives
// the zero Address. A path without a domain is an error: the caller knows its own
// host name and puts it in.
func Normalise(p smtp.Path) (Address, error) {
	if p.IsNull() {
		return Address{}, nil
	}
	if p.Domain == "" {
		return Address{}, fmt.Errorf("normalise %q: no domain", p.Local)
	}
	d, err := NormaliseDomain(p.Domain)
	if err != nil {
		return Address{}, err
	}
	return Address{Local: strings.ToLower(p.Local), Domain: d}, nil
}

// ParseAddress reads a constant address of a configuration, "local@domain". The
// last @ divides.
func ParseAddress(s string) (Address, error) {
	i := strings.LastIndexByte(s, '@')
	if i <= 0 || strings.ContainsAny(s, " <>\t\r\n") {
		return Address{}, fmt.Errorf("parse address %q: not local@domain", s)
	}
	d, err := NormaliseDomain(s[i+1:])
	if err != nil {
		return Address{}, err
	}
	return Address{Local: strings.ToLower(s[:i]), Domain: d}, nil
}

var errEmptyPattern = errors.New("parse pattern: empty")

// ParsePattern reads an entry of accept, domains or senders: a domain, a suffix
// with its leading dot, an address, or "*".
func ParsePattern(s string, pos Pos) (Pattern, error) {
	switch {
	case s == "":
		return Pattern{}, errEmptyPattern
	case s == "*":
		return Pattern{Pos: pos, Kind: MatchAll}, nil
	case strings.Contains(s, "@"):
		a, err := ParseAddress(s)
		return Pattern{Pos: pos, Kind: MatchAddress, Address: a}, err
	case s[0] == '.':
		d, err := NormaliseDomain(s[1:])
		return Pattern{Pos: pos, Kind: MatchSuffix, Domain: "." + d}, err
	}
	d, err := NormaliseDomain(s)
	return Pattern{Pos: pos, Kind: MatchDomain, Domain: d}, err
}

// String gives the pattern as a configuration spells it.
func (p Pattern) String() string {
	switch p.Kind {
	case MatchAll:
		return "*"
	case MatchAddress:
		return p.Address.String()
	}
	return p.Domain
}

// Match reports whether an address falls under the pattern.
func (p Pattern) Match(a Address) bool {
	switch p.Kind {
	case MatchAll:
		return true
	case MatchAddress:
		return p.Address == a
	case MatchSuffix:
		return strings.HasSuffix(a.Domain, p.Domain) && len(a.Domain) > len(p.Domain)
	}
	return p.Domain == a.Domain
}

func matchAny(ps []Pattern, a Address) bool {
	for i := range ps {
		if ps[i].Match(a) {
			return true
		}
	}
	return false
}
