package smtp

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Length limits of RFC 5321, section 4.5.3.1, in octets.
const (
	maxLocal  = 256 // 64 in the RFC; return paths that carry a token and an address are longer
	maxDomain = 255
	maxPath   = 1024 // 256 in the RFC; with a source route and a long local part
)

var errPath = errors.New("malformed path")

// ParsePath reads a path in angle brackets at the beginning of s and gives what
// follows it. With utf8 (SMTPUTF8) characters beyond ASCII are allowed. A source
// route is kept in Path.Route.
func ParsePath(s string, utf8ok bool) (p Path, rest string, err error) {
	if s == "" || s[0] != '<' {
		return p, "", errPath
	}
	end, ok := closing(s, utf8ok)
	if !ok || end > maxPath {
		return p, "", errPath
	}
	inner, rest := s[1:end], s[end+1:]
	if inner == "" {
		return p, rest, nil
	}
	if inner[0] == '@' {
		route, mailbox, found := strings.Cut(inner, ":")
		if !found || len(route) < 2 || mailbox == "" {
			return p, "", errPath
		}
		p.Route, inner = route, mailbox
	}
	p.Local, p.Domain, err = splitMailbox(inner)
	return p, rest, err
}

// closing finds the bracket that ends a path, outside of quotes, and refuses octets
// that have no place in one.
func closing(s string, utf8ok bool) (int, bool) {
	for i := 1; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == 0x7f || (c >= 0x80 && !utf8ok) {
			return 0, false
		}
	}
	if utf8ok && !utf8.ValidString(s) {
		return 0, false
	}
	quoted := false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '<'):
			return 0, false
		case !quoted && c == '>':
			return i, true
		}
	}
	return 0, false
}

// splitMailbox takes a mailbox apart and dequotes its local part.
func splitMailbox(s string) (local, domain string, err error) {
	if s[0] == '"' {
		local, s, err = dequote(s)
		if err != nil {
			return "", "", err
		}
		if s == "" {
			return local, "", nil
		}
	} else {
		i := strings.IndexByte(s, '@')
		if i < 0 {
			i = len(s)
		}
		local, s = s[:i], s[i:]
		if !dotString(local) {
			return "", "", errPath
		}
	}
	if len(local) > maxLocal || local == "" {
		return "", "", errPath
	}
	if s == "" {
		return local, "", nil
	}
	if s[0] != '@' || !plausibleDomain(s[1:]) {
		return "", "", errPath
	}
	return local, s[1:], nil
}

func dequote(s string) (string, string, error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
			if i < len(s) {
				b.WriteByte(s[i])
			}
		case '"':
			return b.String(), s[i+1:], nil
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", errPath
}

// dotString reports an unquoted local part. Dots in odd places are let through: real
// addresses have them.
func dotString(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x80 && !atext(c) && c != '.' {
			return false
		}
	}
	return s != ""
}

func atext(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// plausibleDomain reports a domain or an address literal by its characters.
func plausibleDomain(s string) bool {
	if s == "" || len(s) > maxDomain {
		return false
	}
	if s[0] == '[' {
		return s[len(s)-1] == ']' && !strings.ContainsAny(s[1:len(s)-1], "[]\\ @<>")
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < 0x80 && !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return s[0] != '.'
}

// ascii reports a path that needs no SMTPUTF8.
func (p Path) ascii() bool {
	for _, s := range []string{p.Local, p.Domain, p.Route} {
		for i := 0; i < len(s); i++ {
			if s[i] >= 0x80 {
				return false
			}
		}
	}
	return true
}

// String gives the mailbox as it stands between angle brackets: the local part is
// quoted where it must be, the source route left out. The null reverse-path is "".
func (p Path) String() string {
	if p.IsNull() {
		return ""
	}
	local := p.Local
	if !dotString(local) || strings.HasPrefix(local, ".") || strings.HasSuffix(local, ".") || strings.Contains(local, "..") {
		local = quoteLocal(local)
	}
	if p.Domain == "" {
		return local
	}
	return local + "@" + p.Domain
}

func quoteLocal(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

// ParseMailbox reads "local@domain" without brackets, as configurations and headers
// spell it.
func ParseMailbox(s string) (Path, error) {
	p, rest, err := ParsePath("<"+s+">", true)
	if err != nil || rest != "" {
		return Path{}, errPath
	}
	return p, nil
}
