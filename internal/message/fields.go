package message

import "strings"

// readFields reads a text in which somebody has put the fields of a DSN (RFC 3464,
// section 2) without their part, as those do who forward one. nil where they are not
// there.
func readFields(text string, h *Header) *Report {
	low := strings.ToLower(text)
	at := lineStart(low, "final-recipient:")
	if at < 0 {
		at = lineStart(low, "original-recipient:")
	}
	if at < 0 || lineStart(low, "action:") < 0 && lineStart(low, "status:") < 0 && lineStart(low, "diagnostic-code:") < 0 {
		return nil
	}
	if heard(DecodeWords(h.Get("Subject")))&(saidFailed|saidDelayed) == 0 && !fromDaemon(h) {
		return nil
	}
	start := at
	for _, name := range []string{"reporting-mta:", "action:", "arrival-date:", "original-recipient:"} {
		if i := lineStart(low[:at], name); i >= 0 {
			start = min(start, i)
		}
	}
	r := &Report{Format: FormatDSN, Derived: map[string]string{}}
	var groups string
	groups, r.Original = cutOriginal(text[start:])
	for body := []byte(groups); len(body) > 0 && len(r.Recipients) < maxRecipients; {
		var block []Field
		block, body = readBlock(body)
		r.statusBlock(block)
	}
	if len(r.Recipients) == 0 {
		return nil
	}
	r.originalTo()
	p := readProse(text[:start], h, r.Original)
	r.fill(p)
	r.settle()
	r.Derived[DerivedRecipient] = "text"
	return r
}

// lineStart gives where a line begins with a mark, -1 where none does.
func lineStart(low, mark string) int {
	for from := 0; ; {
		i := strings.Index(low[from:], mark)
		if i < 0 {
			return -1
		}
		if i += from; i == 0 || low[i-1] == '\n' {
			return i
		}
		from = i + 1
	}
}

// unquoted takes one level of quoting off a text most lines of which have it.
func unquoted(text string) string {
	if strings.Count(text, "\n>") < 3 {
		return text
	}
	quoted, lines := 0, 0
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		lines++
		if line[0] == '>' {
			quoted++
		}
	}
	if quoted*3 < lines*2 {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimPrefix(strings.TrimPrefix(line, ">"), " "))
	}
	return b.String()
}
