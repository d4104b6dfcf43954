package bounce

// maxText bounds what is read of a reply; what decides stands at its beginning.
const maxText = 1200

// normal appends the words of a reply in lower case, each behind one space, with a space
// at the end. Reply codes and enhanced codes, which multi-line replies repeat, and
// addresses are left out: an address may spell anything.
func normal(out []byte, text string) []byte {
	text = text[:min(len(text), maxText)]
	for i := 0; i < len(text); {
		if text[i] <= ' ' {
			i++
			continue
		}
		start := i
		for i < len(text) && text[i] > ' ' {
			i++
		}
		out = words(out, text[start:i])
	}
	return append(out, ' ')
}

// words appends the words of a piece of text without blanks.
func words(out []byte, token string) []byte {
	if rest, ok := cutCode(token); ok {
		token = rest
	}
	for token != "" {
		from, to, found := address(token)
		if !found {
			return split(out, token)
		}
		out = split(out, token[:from])
		token = token[to:]
	}
	return out
}

// cutCode takes "550", "550-", "5.7.1" and "550-5.7.1" from the front of a token.
func cutCode(token string) (rest string, ok bool) {
	if len(token) >= 3 && (token[0] == '4' || token[0] == '5') && digit(token[1]) && digit(token[2]) {
		switch {
		case len(token) == 3:
			return "", true
		case token[3] == '-':
			rest, _ = cutCode(token[4:])
			return rest, true
		}
	}
	if code, n := enhancedAt(token); code != "" && (n == len(token) || !letter(token[n])) {
		return token[n:], true
	}
	return token, false
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// enhancedAt reads an enhanced status code (RFC 3463, section 2) at the front of s.
func enhancedAt(s string) (code string, length int) {
	if len(s) < 5 || (s[0] != '4' && s[0] != '5') || s[1] != '.' {
		return "", 0
	}
	i, parts := 2, 0
	for parts < 2 {
		start := i
		for i < len(s) && digit(s[i]) && i-start < 4 {
			i++
		}
		if n := i - start; n < 1 || n > 3 {
			return "", 0
		}
		if parts++; parts == 1 {
			if i >= len(s) || s[i] != '.' {
				return "", 0
			}
			i++
		}
	}
	if i+1 < len(s) && s[i] == '.' && digit(s[i+1]) {
		return "", 0 // an address of the Internet
	}
	return s[:i], i
}

// address finds local@domain within a token.
func address(token string) (from, to int, found bool) {
	at := -1
	for i := 0; i < len(token); i++ {
		if token[i] == '@' {
			at = i
			break
		}
	}
	if at < 0 {
		return 0, 0, false
	}
	from = at
	for from > 0 && !delimits(token[from-1]) {
		from--
	}
	to = at + 1
	for to < len(token) && (letter(token[to]) || digit(token[to]) || token[to] == '-' || token[to] == '_' || token[to] >= 0x80 ||
		token[to] == '.' && to+1 < len(token) && token[to+1] != '.') {
		to++
	}
	return from, to, true
}

// delimits reports what stands around an address and not in it.
func delimits(c byte) bool {
	switch c {
	case '<', '>', '(', ')', '[', ']', '"', '\'', ':', ';', ',', '=', '`', '|':
		return true
	}
	return false
}

// split appends the words between marks.
func split(out []byte, s string) []byte {
	inside := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !letter(c) && !digit(c) && c < 0x80 {
			inside = false
			continue
		}
		if !inside {
			inside = true
			out = append(out, ' ')
		}
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	return out
}
