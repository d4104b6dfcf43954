package dialect

import (
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"postern.dev/postern/internal/policy"
)

// Owned gives what somebody who names a domain as his own can have meant: not what lies
// below a public suffix such as com or co.uk.
func Owned(name string, below bool) []string {
	bare := strings.TrimPrefix(name, ".")
	if strings.ContainsAny(bare, "@[]") || !IsDomain(bare) {
		return nil
	}
	public := PublicName(bare)
	switch {
	case strings.HasPrefix(name, "."):
		if below || public {
			return nil
		}
		return []string{name}
	case !below || public:
		return []string{name}
	}
	return []string{name, "." + name}
}

// IsDomain reports a text that some domain can be.
func IsDomain(s string) bool {
	_, err := policy.NormaliseDomain(s)
	return err == nil
}

// PublicName reports a domain below which anybody can have one.
func PublicName(name string) bool {
	switch name {
	case "localhost", "localdomain", "local", "lan", "internal", "intranet", "corp", "home":
		return false // of no use outside
	}
	suffix, _ := publicsuffix.PublicSuffix(name)
	return suffix == name
}

// LiteralTail gives the domain that every text that an expression matches must be or lie
// below, where the expression shows it: "(^|\.)corp\.example$".
func LiteralTail(re string) string {
	re = strings.TrimPrefix(re, "(?i)")
	if !strings.HasSuffix(re, "$") || strings.Contains(re, "|") && !strings.HasPrefix(re, `(^|\.)`) {
		return ""
	}
	body := re[:len(re)-1]
	at := len(body)
	for at > 0 {
		c := body[at-1]
		if c == '.' {
			if at < 2 || body[at-2] != '\\' {
				break
			}
			at -= 2
			continue
		}
		if !labelByte(c) {
			break
		}
		at--
	}
	tail := strings.ToLower(strings.ReplaceAll(body[at:], `\.`, "."))
	start := body[:at]
	switch {
	case strings.HasPrefix(tail, "."): // something.tail: it may begin anywhere
		tail = strings.TrimPrefix(tail, ".")
	case start == "^" || strings.HasSuffix(start, `(^|\.)`) || strings.HasSuffix(start, `^(.*\.)?`) || strings.HasSuffix(start, "@"):
	default:
		return ""
	}
	if len(Owned(tail, true)) < 2 {
		return ""
	}
	return tail
}

// Provider reports a domain of a large mailbox provider, which is nobody's own.
func Provider(dom string) bool {
	return slices.Contains([]string{
		"aol.com", "aim.com", "gmail.com", "googlemail.com", "yahoo.com", "ymail.com", "hotmail.com", "outlook.com", "live.com", "msn.com",
		"icloud.com", "me.com", "mac.com", "comcast.net", "gmx.de", "gmx.net", "web.de", "t-online.de", "mail.ru", "yandex.ru", "qq.com",
		"163.com", "126.com", "orange.fr", "wanadoo.fr", "free.fr", "laposte.net", "libero.it", "naver.com", "att.net", "verizon.net",
	}, dom)
}

func labelByte(c byte) bool {
	return c == '-' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
