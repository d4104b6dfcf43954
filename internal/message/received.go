package message

import (
	"net/netip"
	"strings"
	"time"
)

// Received is a trace field taken apart (RFC 5321, section 4.4), as far as it goes.
// What could not be read is zero.
type Received struct {
	From     string     // as the client called itself
	FromAddr netip.Addr // that the server saw; the client's own word where nothing else is said
	By       string     // in lower case
	With     string
	ID       string
	For      string    // without brackets
	Date     time.Time // in UTC
}

// ParseReceived reads the value of a Received field as mailers write it: Postfix, Exim,
// Sendmail, qmail, Exchange and others put the client's address into a comment each in
// its own way.
func ParseReceived(value string) (r Received) {
	body := value
	if i := strings.LastIndexByte(value, ';'); i >= 0 {
		body, r.Date = value[:i], Date(value[i+1:])
	}
	t := tokens{s: body}
	clause := ""
	for {
		word, comment, ok := t.next()
		if !ok {
			break
		}
		if comment {
			if clause == "from" {
				r.seen(word)
			}
			t.first = false
			continue
		}
		if k := clauseOf(word); k != "" && (clause == "" || !t.first) {
			clause, t.first = k, true
			continue
		}
		if t.first {
			r.set(clause, word)
		}
		t.first = false
	}
	if !r.FromAddr.IsValid() {
		r.FromAddr = address(r.From)
	}
	return r
}

// clauseOf gives the clause that a word begins, "" where it begins none.
func clauseOf(word string) string {
	switch len(word) {
	case 2, 3, 4:
		switch k := strings.ToLower(word); k {
		case "from", "by", "via", "with", "id", "for":
			return k
		}
	}
	return ""
}

// set takes the first word of a clause.
func (r *Received) set(clause, word string) {
	switch clause {
	case "from":
		if r.From == "" {
			r.From = strings.Trim(word, ";")
		}
	case "by":
		if r.By == "" {
			r.By = strings.ToLower(strings.TrimRight(strings.Trim(word, ";"), "."))
		}
	case "with":
		if r.With == "" {
			r.With = strings.Trim(word, ";")
		}
	case "id":
		if r.ID == "" {
			r.ID = strings.Trim(word, "<>;")
		}
	case "for":
		if r.For == "" {
			r.For = strings.Trim(word, "<>;")
		}
	}
}

// seen takes the address out of a comment behind "from", but for what the client said
// of itself (HELO). A later comment is nearer to what the server saw.
func (r *Received) seen(comment string) {
	said := false
	for word := range strings.FieldsFuncSeq(comment, func(c rune) bool { return strings.ContainsRune(" \t()", c) }) {
		low := strings.ToLower(word)
		switch {
		case low == "helo" || low == "ehlo":
			said = true
			continue
		case strings.HasPrefix(low, "helo=") || strings.HasPrefix(low, "ehlo=") || said:
			said = false
			continue
		}
		if i := strings.LastIndexByte(word, '['); i > 0 {
			word = word[i:] // "name[192.0.2.1]"
		}
		if a := address(word); a.IsValid() {
			r.FromAddr = a
			if word[0] == '[' {
				return
			}
		}
	}
}

// address reads an address, also as a literal in brackets (RFC 5321, section 4.1.3) or
// with a port behind it; not valid where there is none.
func address(s string) netip.Addr {
	s = strings.Trim(s, ",;'\"")
	if len(s) > 1 && s[0] == '[' {
		if i := strings.IndexByte(s, ']'); i > 0 {
			s = s[1:i]
		}
	}
	if len(s) > 5 && strings.EqualFold(s[:5], "ipv6:") {
		s = s[5:]
	}
	if s == "" || (s[0] > '9' && strings.IndexByte(s, ':') < 0) {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		if p, err := netip.ParseAddrPort(s); err == nil {
			return p.Addr().Unmap().WithZone("")
		}
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// tokens goes over a value word by word, comments as a whole.
type tokens struct {
	s     string
	first bool // the next word is the first of its clause
}

func (t *tokens) next() (word string, comment, ok bool) {
	s := strings.TrimLeft(t.s, " \t\r\n")
	if s == "" {
		return "", false, false
	}
	if s[0] == '(' {
		depth := 0
		for i := range len(s) {
			switch s[i] {
			case '(':
				depth++
			case ')':
				depth--
			}
			if depth == 0 {
				t.s = s[i+1:]
				return s[1:i], true, true
			}
		}
		t.s = ""
		return s[1:], true, true
	}
	end := strings.IndexAny(s, " \t\r\n(")
	if end < 0 {
		end = len(s)
	}
	t.s = s[end:]
	return s[:end], false, true
}
