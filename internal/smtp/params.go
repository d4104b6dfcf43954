package smtp

import (
	"strconv"
	"strings"
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

// wantsUTF8 looks for SMTPUTF8 before the path is read, which depends on it.
func wantsUTF8(args string) bool {
	for f := range strings.FieldsSeq(args) {
		if strings.EqualFold(f, "SMTPUTF8") {
			return true
		}
	}
	return false
}

func parseMailParams(args string) (p MailParams, bad *Reply) {
	for f := range strings.FieldsSeq(args) {
		name, value, _ := strings.Cut(f, "=")
		switch strings.ToUpper(name) {
		case "SIZE":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 {
				return p, errValue(name)
			}
			p.Size = n
		case "BODY":
			switch strings.ToUpper(value) {
			case "8BITMIME":
				p.EightBit = true
			case "7BIT":
			default:
				return p, errValue(name)
			}
		case "SMTPUTF8":
			p.UTF8 = true
		case "RET":
			p.Return = strings.ToUpper(value)
			if p.Return != "FULL" && p.Return != "HDRS" {
				return p, errValue(name)
			}
		case "ENVID":
			s, ok := DecodeXtext(value)
			if !ok || len(s) > 100 || s == "" {
				return p, errValue(name)
			}
			p.EnvID = s
		case "AUTH": // RFC 4954, section 5: accepted, and trusted for nothing
		default:
			return p, errParam(name)
		}
	}
	return p, nil
}

func parseRcptParams(args string) (p RcptParams, bad *Reply) {
	for f := range strings.FieldsSeq(args) {
		name, value, _ := strings.Cut(f, "=")
		switch strings.ToUpper(name) {
		case "NOTIFY":
			n, ok := parseNotify(value)
			if !ok {
				return p, errValue(name)
			}
			p.Notify = n
		case "ORCPT":
			kind, addr, ok := strings.Cut(value, ";")
			if _, xok := DecodeXtext(addr); !ok || !xok || kind == "" || len(value) > 500 {
				return p, errValue(name)
			}
			p.ORcpt = value
		default:
			return p, errParam(name)
		}
	}
	return p, nil
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
