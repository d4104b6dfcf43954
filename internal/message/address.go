package message

import "strings"

// maxAddresses bounds what Addresses gives.
const maxAddresses = 10_000

// Addresses gives the mailboxes of an address list (RFC 5322, section 3.4) as
// "local@domain", in order. It reads leniently: display names with or without quotes,
// comments, groups and missing brackets; what holds no @ is left out.
func Addresses(value string) []string {
	var out []string
	for value != "" && len(out) < maxAddresses {
		var a string
		if a, value = nextAddress(value); a != "" {
			out = append(out, a)
		}
	}
	return out
}

// Address gives the first mailbox of a header's value or of a report's field, without
// brackets and type ("rfc822;"); "" where there is none.
func Address(value string) string {
	value = afterType(value)
	for value != "" {
		var a string
		if a, value = nextAddress(value); a != "" {
			return a
		}
	}
	return ""
}

// nextAddress reads up to the next comma or semicolon that separates addresses. What
// stands in brackets wins over what stands before them.
func nextAddress(s string) (address, rest string) {
	a := addressReader{s: s, begin: -1}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case c == '(':
			i = a.comment(i)
		case c == '"':
			if a.begin < 0 {
				a.begin = i
			}
			i = closingQuote(s, i)
		case c == '<':
			i = a.bracket(i)
		case c == ',' || c == ';':
			a.end(i)
			return a.choose(), s[i+1:]
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			a.end(i)
		case c == ':' && a.begin >= 0 && strings.IndexByte(s[a.begin:i], '@') < 0:
			a.begin = -1 // a group's name
		case a.begin < 0:
			a.begin = i
		}
	}
	a.end(len(s))
	return a.choose(), ""
}

// addressReader is what one address of a list has shown so far.
type addressReader struct {
	s               string
	begin           int // of the word being read; -1 where there is none
	word, bracketed string
}

// end ends the word being read, if any.
func (a *addressReader) end(at int) {
	if a.begin >= 0 && a.begin < at && strings.IndexByte(a.s[a.begin:at], '@') >= 0 {
		a.word = a.s[a.begin:at]
	}
	a.begin = -1
}

// comment gives the last place of the comment that begins at i.
func (a *addressReader) comment(i int) int {
	a.end(i)
	depth := 0
	for ; i < len(a.s); i++ {
		switch a.s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return i
}

// bracket takes what stands in the brackets that begin at i, and gives their last
// place.
func (a *addressReader) bracket(i int) int {
	a.end(i)
	end := strings.IndexByte(a.s[i:], '>')
	if end < 0 {
		end = len(a.s) - i
	}
	if inner := withoutRoute(strings.TrimSpace(a.s[i+1 : i+end])); mailbox(inner) {
		a.bracketed = inner
	}
	return i + end
}

func (a *addressReader) choose() string {
	if a.bracketed != "" {
		return a.bracketed
	}
	if word := strings.TrimRight(a.word, ".>"); mailbox(word) {
		return word
	}
	return ""
}

// closingQuote gives the place of the quote that ends a quoted-string begun at i; i
// itself where there is none.
func closingQuote(s string, i int) int {
	for k := i + 1; k < len(s); k++ {
		switch s[k] {
		case '\\':
			k++
		case '"':
			return k
		}
	}
	return i
}

// mailbox reports something on both sides of the last @ and no white space around it.
func mailbox(s string) bool {
	i := strings.LastIndexByte(s, '@')
	return i > 0 && i < len(s)-1 && !strings.ContainsAny(s[i:], " \t\r\n<")
}

// withoutRoute takes off a source route (RFC 5322, section 4.4).
func withoutRoute(s string) string {
	if strings.HasPrefix(s, "@") {
		if _, after, ok := strings.Cut(s, ":"); ok && after != "" {
			return after
		}
	}
	return s
}

// bare takes the brackets off an address that is given as it stood in the envelope.
func bare(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.IndexByte(s, '<'); i >= 0 {
		if inner, _, ok := strings.Cut(s[i+1:], ">"); ok {
			return strings.TrimSpace(inner)
		}
	}
	return strings.Trim(s, "<> \t")
}

// domainOf gives the domain of an address in lower case; "" where there is none.
func domainOf(address string) string {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return ""
	}
	return strings.ToLower(address[i+1:])
}
