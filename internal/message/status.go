package message

import (
	"strconv"
	"strings"
)

// maxRecipients bounds the groups that are read of a DSN.
const maxRecipients = 10_000

// readStatus reads the message/delivery-status parts: one, as a rule; some mailers give
// that type to their text too, and some leave out the empty line behind a part's header.
func (r *Report) readStatus(parts []*Part) {
	for _, p := range parts {
		for body := p.Decoded(); len(body) > 0 && len(r.Recipients) < maxRecipients; {
			var block []Field
			block, body = readBlock(body)
			r.statusBlock(block)
		}
	}
	for i := 0; i < len(parts) && len(r.Recipients) == 0; i++ {
		r.statusBlock(parts[i].Header.Fields)
	}
	r.originalTo()
}

// originalTo lists the recipients of a DSN.
func (r *Report) originalTo() {
	for i := range r.Recipients {
		switch d := &r.Recipients[i]; {
		case d.Original != "":
			r.OriginalTo = append(r.OriginalTo, d.Original)
		case d.Final != "":
			r.OriginalTo = append(r.OriginalTo, d.Final)
		}
	}
}

// statusBlock reads the fields between two empty lines: a group as a rule (RFC 3464,
// section 2.1), several where empty lines are missing.
func (r *Report) statusBlock(block []Field) {
	r.Fields = append(r.Fields, block...)
	start := 0
	for i := range block {
		name := block[i].Name
		if (strings.EqualFold(name, "Final-Recipient") || strings.EqualFold(name, "Original-Recipient")) && Get(block[start:i], name) != "" {
			r.statusGroup(block[start:i])
			start = i
		}
	}
	r.statusGroup(block[start:])
}

// statusGroup reads one group: the message's fields wherever they stand, and those of
// a recipient.
func (r *Report) statusGroup(group []Field) {
	var d DSNRecipient
	of := false
	for i := range group {
		value := group[i].Value
		switch strings.ToLower(group[i].Name) {
		case "reporting-mta":
			r.ReportingMTA = afterType(value)
		case "original-envelope-id":
			r.OriginalEnv = value
		case "arrival-date":
			if r.Arrival.IsZero() {
				r.Arrival = Date(value)
			}
		case "original-recipient":
			d.Original, of = statusAddress(value), true
		case "final-recipient":
			d.Final, of = statusAddress(value), true
		case "action":
			d.Action, of = strings.ToLower(firstWord(value)), true
		case "status":
			d.Status, of = statusCode(value), true
		case "remote-mta":
			d.RemoteMTA = afterType(value)
		case "diagnostic-code":
			d.Diagnostic, of = afterType(value), true
		}
	}
	if !of {
		return
	}
	if d.Status == "" {
		if d.Status = enhanced(d.Diagnostic); d.Status != "" {
			r.Derived[DerivedStatus] = "diagnostic-code"
		}
	}
	if d.Action == "" && d.Status != "" {
		d.Action = map[byte]string{'2': "delivered", '4': "delayed", '5': "failed"}[d.Status[0]]
		r.Derived[DerivedAction] = "status"
	}
	r.Recipients = append(r.Recipients, d)
}

// statusAddress reads "rfc822; local@domain" or "utf-8; ..." (RFC 6533, section 3). An
// address without the type is taken as it is.
func statusAddress(value string) string {
	kind, _, _ := strings.Cut(value, ";")
	a := bare(afterType(value))
	if strings.EqualFold(strings.TrimSpace(kind), "utf-8") {
		return unescapeUnicode(a)
	}
	return a
}

// unescapeUnicode reads \x{20AC} (RFC 6533, section 3).
func unescapeUnicode(s string) string {
	if !strings.Contains(s, `\x{`) {
		return s
	}
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, `\x{`)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		digits, rest, closed := strings.Cut(after, "}")
		v, err := strconv.ParseUint(digits, 16, 21)
		if !closed || err != nil || len(digits) > 6 {
			b.WriteString(`\x{`)
			s = after
			continue
		}
		b.WriteRune(rune(v)) // what is no character becomes U+FFFD
		s = rest
	}
}

func firstWord(s string) string {
	if i := strings.IndexAny(s, " \t(;"); i >= 0 {
		return s[:i]
	}
	return s
}

// statusCode reads "5.1.1 (text)"; "" where no code stands first (RFC 3463, section 2).
func statusCode(s string) string {
	word := strings.TrimRight(firstWord(strings.TrimLeft(s, " \t#")), ".,:")
	if isStatus(word) {
		return word
	}
	return ""
}

func isStatus(s string) bool {
	if len(s) < 5 || len(s) > 9 || s[1] != '.' || (s[0] != '2' && s[0] != '4' && s[0] != '5') {
		return false
	}
	subject, detail, ok := strings.Cut(s[2:], ".")
	return ok && digits(subject) && digits(detail)
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 3
}

// enhanced finds the status code in a peer's reply: "550 5.1.1 ...", "550-5.1.1 ..." or
// "550 #5.1.0 ...".
func enhanced(reply string) string {
	for i := 0; i < len(reply) && i < 400; i++ {
		if c := reply[i]; c != '2' && c != '4' && c != '5' || (i > 0 && reply[i-1] != ' ' && reply[i-1] != '-' && reply[i-1] != '#' && reply[i-1] != '(') {
			continue
		}
		end := i
		for end < len(reply) && (reply[end] == '.' || reply[end] >= '0' && reply[end] <= '9') {
			end++
		}
		if word := strings.TrimRight(reply[i:end], "."); isStatus(word) {
			return word
		}
	}
	return ""
}
