package bounce

import "strings"

// byStatus reads the codes of the IANA registry of enhanced status codes that say
// something: RFC 3463, 4954, 5248, 7372, 7505, 7293 and others.
func byStatus(detail string) (Category, bool) {
	switch detail {
	case "1.1", "1.3", "1.4", "1.6", "2.4", "7.17":
		return BadMailbox, true
	case "1.2", "1.10", "7.18":
		return BadDomain, true
	case "1.7", "1.8", "7.27":
		return InvalidSender, true
	case "1.9", "6.1", "6.2", "6.3", "6.4", "6.5", "6.6", "6.7", "6.8", "6.9", "6.10", "7.7":
		return Content, true
	case "2.1", "7.13":
		return InactiveMailbox, true
	case "2.2":
		return MailboxFull, true
	case "2.3", "3.4":
		return TooLarge, true
	case "3.1", "3.2", "3.5":
		return RemoteSystem, true
	case "3.3", "5.1", "5.2", "5.4", "5.5", "5.6":
		return Protocol, true
	case "4.1":
		return NoAnswer, true
	case "4.2":
		return Connection, true
	case "4.3", "4.4", "4.6":
		return Routing, true
	case "4.5", "5.3", "7.28":
		return RateLimited, true
	case "4.7":
		return Expired, true
	case "7.8", "7.9", "7.20", "7.21", "7.22", "7.23", "7.24", "7.25", "7.26", "7.29":
		return Authentication, true
	case "7.10", "7.11", "7.30":
		return TLS, true
	}
	return Other, false
}

// bySubject makes what can be made of a status without detail, then of the reply code.
func bySubject(enhanced, text string, code int) Category {
	if enhanced == "" {
		enhanced = enhancedIn(text)
	}
	if len(enhanced) > 4 {
		subject, _, _ := strings.Cut(enhanced[2:], ".")
		switch subject {
		case "1":
			return BadMailbox
		case "3":
			return RemoteSystem
		case "4":
			return Routing
		case "5":
			return Protocol
		case "6":
			return Content
		case "7":
			return Policy
		}
	}
	switch code {
	case 452, 552:
		return MailboxFull
	case 450, 451, 421:
		return RemoteSystem
	case 500, 501, 502, 503, 504, 555:
		return Protocol
	case 530, 535:
		return Relaying
	case 556:
		return BadDomain
	}
	return Other
}
