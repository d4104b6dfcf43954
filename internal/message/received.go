package message

import (
	"net/netip"
	"strings"
	"time"
)

// Received is a trace field taken apart (RFC 5321, section 4.4), as far as it goes.
type Received struct {
	From     string // as the client called itself
	FromAddr netip.Addr
	By       string
	With     string
	ID       string
	For      string
	Date     time.Time
}

// ParseReceived reads the value of a Received field.
func ParseReceived(value string) (r Received) {
	body, date, ok := cutLast(value, ';')
	if ok {
		r.Date = Date(date)
	}
	for a := range strings.FieldsFuncSeq(body, func(c rune) bool { return strings.ContainsRune("[]() ", c) }) {
		if addr, err := netip.ParseAddr(strings.TrimPrefix(a, "IPv6:")); err == nil && !r.FromAddr.IsValid() {
			r.FromAddr = addr.Unmap()
		}
		if strings.EqualFold(a, "by") {
			break
		}
	}
	words := strings.Fields(dropComments(body))
	for i := 0; i+1 < len(words); i++ {
		switch strings.ToLower(words[i]) {
		case "from":
			r.From = words[i+1]
		case "by":
			r.By = strings.ToLower(strings.TrimSuffix(words[i+1], "."))
		case "with":
			r.With = words[i+1]
		case "id":
			r.ID = strings.Trim(words[i+1], "<>;")
		case "for":
			r.For = strings.Trim(words[i+1], "<>;")
		}
	}
	return r
}

func cutLast(s string, c byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, c)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// dropComments takes out what stands in parentheses.
func dropComments(s string) string {
	var b strings.Builder
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth = max(0, depth-1)
		default:
			if depth == 0 {
				b.WriteByte(s[i])
			}
		}
	}
	return b.String()
}
