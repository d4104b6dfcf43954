package stamp

import "strings"

// FieldName begins the field that carries a stamp by itself.
const FieldName = "X-Postern-Stamp"

// Fields gives the header fields, without line ends, that carry the stamp of one
// recipient, and the identifiers by which providers count complaints (RFC 9477; the
// Feedback-ID of Gmail's postmaster tools, whose third part names the kind of mail).
func Fields(token, message, customer, hostname string) []string {
	return []string{FieldName + ": " + token, "CFBL-Feedback-ID: " + token, "Feedback-ID: " + message + ":" + feedbackWord(customer) + ":postern:" + hostname}
}

// Stamped reports whether header fields carry a stamp already.
func Stamped(fields []string) bool {
	for _, f := range fields {
		if strings.HasPrefix(f, FieldName+": ") {
			return true
		}
	}
	return false
}

// feedbackWord keeps a customer's name within a Feedback-ID's syntax.
func feedbackWord(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, s)
}
