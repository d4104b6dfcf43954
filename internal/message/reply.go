package message

import "strings"

// replyAt finds the first SMTP reply that refuses (RFC 5321, section 4.2.1) in a text
// of words: three digits, 4 or 5 first, that stand alone, with words or an enhanced
// code behind them. -1 where there is none.
func replyAt(s string) int {
	for i := 0; i+3 <= len(s); i++ {
		if s[i] != '4' && s[i] != '5' || s[i+1] < '0' || s[i+1] > '7' || !digit(s[i+2]) {
			continue
		}
		if i > 0 && (alphanumeric(s[i-1]) || strings.IndexByte(".-_@/=%$+", s[i-1]) >= 0 && !strings.HasSuffix(s[:i], "...")) {
			continue
		}
		if i > 0 && s[i-1] == '#' && i+3 < len(s) && s[i+3] == '.' {
			continue
		}
		if i+3 == len(s) || replyFollows(s[i+3:]) {
			return i
		}
	}
	return -1
}

// replyFollows reports what may stand behind a reply code: a blank, a hyphen or a mark
// and then words, an enhanced code or an address, and no unit of measure.
func replyFollows(s string) bool {
	if alphanumeric(s[0]) || strings.IndexByte("./%_@", s[0]) >= 0 {
		return false
	}
	rest := strings.TrimLeft(s, " -:\t#'\"<([")
	if rest == "" || rest[0] < ' ' {
		return true
	}
	for _, unit := range []string{"hour", "minute", "second", "day", "byte", "kb", "mb", "time", "message", "recipient", "error(s)", "bit"} {
		if len(rest) >= len(unit) && strings.EqualFold(rest[:len(unit)], unit) && s[0] == ' ' && unit != "message" && unit != "recipient" {
			return false
		}
	}
	return true
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func alphanumeric(c byte) bool {
	return digit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80
}

// statusIn finds an enhanced status code anywhere in a text: "(#5.1.1)", "[5.7.1]",
// "550 5.1.1", "Status: 5.1.1". An address of the Internet is none.
func statusIn(s string) string {
	for i := 0; i+5 <= len(s); i++ {
		if s[i] != '4' && s[i] != '5' && s[i] != '2' || s[i+1] != '.' {
			continue
		}
		if i > 0 && (alphanumeric(s[i-1]) || strings.IndexByte(".@_/", s[i-1]) >= 0 && !strings.HasSuffix(s[:i], "..")) {
			continue
		}
		end := i
		for end < len(s) && (s[end] == '.' || digit(s[end])) {
			end++
		}
		word := strings.TrimRight(s[i:end], ".")
		if isStatus(word) && (end == len(s) || !alphanumeric(s[end]) && s[end] != '_' || s[end] >= 0x80) {
			return word
		}
		i = end
	}
	return ""
}

// generic reports a status code without a detail, which says no more than that there
// was a failure, or for how long it was tried.
func generic(status string) bool {
	return status == "" || strings.HasSuffix(status, ".0.0")
}

// refine takes the status code that a reply gives in place of a group's own, where that
// says nothing more than the class (x.0.0) or the subject (x.y.0), or that a host gave up (x.4.7), or is what
// sendmail writes whatever the reply to RCPT was (5.1.1): the host that refused knows
// why.
func refine(own, diagnostic string) (status string, changed bool) {
	said := statusIn(diagnostic)
	if own == said && expired(own) {
		// "554 4.4.7 Message expired <421 4.4.2 Connection timed out>"
		said = statusIn(diagnostic[strings.Index(diagnostic, said)+len(said):])
	}
	switch {
	case said == "" || said == own || said[0] == '2':
		return own, false
	case own == "":
		return said, true
	case generic(said) || expired(said):
		return own, false
	case generic(own) || expired(own), strings.HasSuffix(own, ".0") && strings.HasPrefix(said, own[:len(own)-1]):
		return said, true
	case own == "5.1.1" && said[0] == '5' && replyAt(diagnostic) == 0 && strings.HasPrefix(strings.TrimLeft(diagnostic[3:], " -"), said):
		return said, true
	}
	return own, false
}

func expired(status string) bool { return strings.HasSuffix(status, ".4.7") }
