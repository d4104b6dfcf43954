package smtp

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// errParam refuses a parameter that is unknown or not offered (RFC 5321, section
// 4.1.1.11).
func errParam(name string) *Reply {
	return NewReply(555, EnhancedCode{5, 5, 4}, "parameter %s not recognised", printable(name))
}

func errValue(name string) *Reply {
	return NewReply(501, EnhancedCode{5, 5, 4}, "bad value of %s", printable(name))
}

// printable keeps a client's octets out of replies and logs.
func printable(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c >= 0x7f {
			b[i] = '?'
		}
	}
	return string(b[:min(len(b), 64)])
}

// decimal reads digits and nothing else. What is too large for 64 bits is as large as
// they can say (RFC 1870 allows 20 digits).
func decimal(s string) (n int64, ok bool) {
	if s == "" || len(s) > 20 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return n, true
}

// parameters calls take for each parameter, whose name it gives in upper case. None
// may stand twice (RFC 3461, section 4), and a value, where there is one, is not empty
// (RFC 5321, section 4.1.2).
func parameters(args string, take func(name, value string) *Reply) *Reply {
	var seen []string
	for f := range strings.FieldsSeq(args) {
		name, value, valued := strings.Cut(f, "=")
		name = strings.ToUpper(name)
		if slices.Contains(seen, name) || (valued && value == "") {
			return errValue(name)
		}
		seen = append(seen, name)
		if bad := take(name, value); bad != nil {
			return bad
		}
	}
	return nil
}

func parseMailParams(args string) (p MailParams, bad *Reply) {
	bad = parameters(args, func(name, value string) *Reply {
		switch name {
		case "SIZE":
			n, ok := decimal(value)
			if !ok {
				return errValue(name)
			}
			p.Size = n
		case "BODY":
			switch strings.ToUpper(value) {
			case "8BITMIME":
				p.EightBit = true
			case "7BIT":
			default:
				return errValue(name)
			}
		case "SMTPUTF8":
			if value != "" {
				return errValue(name)
			}
			p.UTF8 = true
		case "RET":
			p.Return = strings.ToUpper(value)
			if p.Return != "FULL" && p.Return != "HDRS" {
				return errValue(name)
			}
		case "ENVID":
			s, ok := DecodeXtext(value)
			if !ok || len(s) > 100 || s == "" {
				return errValue(name)
			}
			p.EnvID = s
		case "AUTH": // RFC 4954, section 5: accepted, and trusted for nothing
		default:
			return errParam(name)
		}
		return nil
	})
	return p, bad
}

func parseRcptParams(args string, utf8ok bool) (p RcptParams, bad *Reply) {
	bad = parameters(args, func(name, value string) *Reply {
		switch name {
		case "NOTIFY":
			n, ok := parseNotify(value)
			if !ok {
				return errValue(name)
			}
			p.Notify = n
		case "ORCPT":
			if !originalRecipient(value, utf8ok) {
				return errValue(name)
			}
			p.ORcpt = value
		default:
			return errParam(name)
		}
		return nil
	})
	return p, bad
}

// originalRecipient reports a value of ORCPT: an address type and an address in xtext
// (RFC 3461, section 4.2), or in UTF-8 as it is where that was declared (RFC 6533,
// section 3).
func originalRecipient(s string, utf8ok bool) bool {
	kind, addr, ok := strings.Cut(s, ";")
	if !ok || kind == "" || addr == "" || len(s) > 500 || strings.Trim(strings.ToLower(kind), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return false
	}
	if utf8ok && strings.EqualFold(kind, "utf-8") {
		return utf8.ValidString(addr)
	}
	_, ok = DecodeXtext(addr)
	return ok
}

func parseNotify(s string) (n Notify, ok bool) {
	for w := range strings.SplitSeq(strings.ToUpper(s), ",") {
		switch w {
		case "NEVER":
			n |= NotifyNever
		case "SUCCESS":
			n |= NotifySuccess
		case "FAILURE":
			n |= NotifyFailure
		case "DELAY":
			n |= NotifyDelay
		default:
			return 0, false
		}
	}
	return n, n&NotifyNever == 0 || n == NotifyNever
}

// String gives the NOTIFY value, "" where none was given.
func (n Notify) String() string {
	var w []string
	for i, name := range []string{"NEVER", "SUCCESS", "FAILURE", "DELAY"} {
		if n&(1<<i) != 0 {
			w = append(w, name)
		}
	}
	return strings.Join(w, ",")
}

// DecodeXtext undoes the xtext encoding (RFC 3461, section 4).
func DecodeXtext(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '=' {
				return "", false
			}
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

// EncodeXtext encodes octets as xtext (RFC 3461, section 4).
func EncodeXtext(s string) string {
	const hexadecimal = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '+' || c == '=' {
			b.WriteByte('+')
			b.WriteByte(hexadecimal[c>>4])
			b.WriteByte(hexadecimal[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
