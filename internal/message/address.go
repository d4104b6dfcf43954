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
	var word, bracketed string
	depth, begin := 0, -1 // of comments; of the word
	take := func(end int) {
		if begin >= 0 && strings.IndexByte(s[begin:end], '@') >= 0 {
			word = s[begin:end]
		}
		begin = -1
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case c == '(':
			if depth == 0 {
				take(i)
			}
			depth++
		case c == ')':
			depth = max(0, depth-1)
		case depth > 0:
		case c == '"':
			end := closingQuote(s, i)
			if begin < 0 {
				begin = i
			}
			i = end
		case c == '<':
			take(i)
			end := strings.IndexByte(s[i:], '>')
			if end < 0 {
				end = len(s) - i
			}
			if inner := strings.TrimSpace(s[i+1 : i+end]); mailbox(inner) {
				bracketed = withoutRoute(inner)
			}
			i += end
		case c == ',' || c == ';':
			take(i)
			return choose(bracketed, word), s[i+1:]
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			take(i)
		case c == ':' && begin >= 0 && strings.IndexByte(s[begin:i], '@') < 0:
			begin = -1 // a group's name
		case begin < 0:
			begin = i
		}
	}
	if depth == 0 {
		take(len(s))
	}
	return choose(bracketed, word), ""
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

func choose(bracketed, word string) string {
	if bracketed != "" {
		return bracketed
	}
	word = strings.TrimRight(word, ".>")
	if mailbox(word) {
		return word
	}
	return ""
}

// mailbox reports something on both sides of the last @ and no white space around it.
func mailbox(s string) bool {
	i := strings.LastIndexByte(s, '@')
	return i > 0 && i < len(s)-1 && !strings.ContainsAny(s[i:], " \t\r\n<")
}

// withoutRoute takes off a source route (RFC 5322, section 4.4).
func withoutRoute(s string) string {
	if s[0] == '@' {
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
