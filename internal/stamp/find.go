package stamp

import (
	"strings"

	"postern.dev/postern/internal/smtp"
)

// MaxFound bounds what Find gives.
const MaxFound = 64

// Find gives the candidates for stamps in a text, in lower case and in the order in
// which they stand: at most MaxFound. A candidate is a run of letters and digits with
// the length, the alphabet, the version and the spelling of a stamp; whether it is one
// is for Verify to say. The two digits of an undecoded "=3D" (RFC 2045, section 6.7)
// or "%3D" (RFC 3986, section 2.1) before a stamp are not taken for a part of it.
func Find(text string) []string {
	var out []string
	for start := 0; start < len(text) && len(out) < MaxFound; {
		if !stampChar(text[start]) {
			start++
			continue
		}
		end := start + 1
		for end < len(text) && stampChar(text[end]) {
			end++
		}
		run := text[start:end]
		if len(run) == Length+2 && start > 0 && (text[start-1] == '=' || text[start-1] == '%') {
			run = run[2:]
		}
		if shaped(run) {
			out = append(out, strings.ToLower(run))
		}
		start = end
	}
	return out
}

// shaped reports what could be a stamp by its characters alone.
func shaped(s string) bool {
	if len(s) != Length || !begins(s[0]) || !ends(s[Length-1]) {
		return false
	}
	for i := range len(s) {
		if !inAlphabet(s[i]) {
			return false
		}
	}
	return true
}

func stampChar(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// inAlphabet reports a character of the encoding, in either case.
func inAlphabet(c byte) bool {
	switch lower(c) {
	case 'i', 'l', 'o', 'u':
		return false
	}
	return stampChar(c)
}

// begins reports a first character that says this version: its upper three bits.
func begins(c byte) bool { return c >= '0'+version<<2 && c < '0'+(version+1)<<2 }

// ends reports a last character whose two spare bits are zero.
func ends(c byte) bool { return strings.IndexByte("048cgmrw", lower(c)) >= 0 }

// returnPrefix begins the local part of a stamped return path.
const returnPrefix = "b-"

// ReturnPath makes the stamped reverse-path (VERP): 52 octets before the @, within the
// 64 of RFC 5321, section 4.5.3.1.1.
func ReturnPath(token, domain string) smtp.Path {
	return smtp.Path{Local: returnPrefix + token, Domain: domain}
}

// FromReturnPath finds the stamp in a return path's local part, also where a
// forwarder (SRS0=, SRS1=) or a signer (prvs=) has wrapped it, where its case was
// changed or where something was put behind a plus sign. The token is in lower case
// and not yet verified.
func FromReturnPath(local string) (token string, ok bool) {
	low := strings.ToLower(local)
	for i := strings.LastIndex(low, returnPrefix); i >= 0; i = strings.LastIndex(low[:i], returnPrefix) {
		rest := low[i+len(returnPrefix):]
		if (i > 0 && stampChar(low[i-1])) || len(rest) < Length || (len(rest) > Length && stampChar(rest[Length])) {
			continue
		}
		if found := Find(rest[:Length]); len(found) == 1 {
			return found[0], true
		}
	}
	return "", false
}
