package message

import "strings"

// messageField reports the fields that a message has and a report's other lists of
// names and values have not.
func messageField(name string) bool {
	switch strings.ToLower(name) {
	case "received", "return-path", "message-id", "mime-version", "from", "to", "date", "subject", "content-type", "content-transfer-encoding",
		"reply-to", "cc", "sender", "x-mailer", "dkim-signature", "domainkey-signature", "delivered-to", "x-originating-ip", "user-agent", "in-reply-to", "references", "errors-to", "precedence", "x-priority", "list-unsubscribe":
		return true
	}
	return false
}

// namesMessage reports a part whose header is a message's own: a trace field, or an
// author and a date or a subject.
func namesMessage(fields []Field) bool {
	if Get(fields, "Received") != "" || Get(fields, "Return-Path") != "" {
		return true
	}
	return Get(fields, "From") != "" && (Get(fields, "Date") != "" || Get(fields, "Subject") != "" || Get(fields, "Message-ID") != "")
}

// inlineOriginal reads a text that is a returned message, or its header, from its first
// line that is not empty; nil where it is none.
func inlineOriginal(text string) *Original {
	text = strings.TrimLeft(text, "\r\n")
	if n, _ := headerAt(text); n < 3 {
		return nil
	}
	return inlineMessage(text)
}

// headerAt counts the fields of a message that stand at the beginning of a text, and
// gives their first one.
func headerAt(text string) (n int, first string) {
	lines := 0
	for at := 0; at < len(text) && lines < 200; lines++ {
		next, line := lineAt(text, at)
		at = next
		switch colon := fieldEnd(line); {
		case colon > 0:
			name := strings.TrimRight(line[:colon], " \t")
			if messageField(name) {
				if n++; n == 1 {
					first = name
				}
			} else if n == 0 {
				return 0, ""
			}
		case line != "" && (line[0] == ' ' || line[0] == '\t') && n > 0:
		case mboxLine(line) && lines == 0:
		default:
			return n, first
		}
		if n >= 4 {
			return n, first
		}
	}
	return n, first
}

// cutOriginal parts a text into what the report says and the mail that it returns below
// that: from the first line on at which a message's header stands, also one that is
// quoted or indented as a whole.
func cutOriginal(text string) (prose string, original *Original) {
	for at := 0; at < len(text); {
		next, line := lineAt(text, at)
		mark := quoteMark(line)
		if begins := strings.TrimPrefix(line, mark); fieldEnd(begins) > 0 && messageField(strings.TrimRight(begins[:fieldEnd(begins)], " \t")) {
			rest := text[at:]
			if mark != "" {
				rest = unquote(rest, mark)
			}
			n, first := headerAt(rest)
			if n >= 3 || n == 2 && strings.EqualFold(first, "Received") {
				return text[:at], inlineMessage(rest)
			}
		}
		at = next
	}
	return text, nil
}

// quoteMark gives what a quoted line begins with.
func quoteMark(line string) string {
	for _, m := range []string{"> ", ">", "| "} {
		if strings.HasPrefix(line, m) {
			return m
		}
	}
	return ""
}

func unquote(text, mark string) string {
	var b strings.Builder
	for at := 0; at < len(text) && b.Len() < maxOriginal; {
		next, line := lineAt(text, at)
		line = strings.TrimPrefix(line, mark)
		if line == strings.TrimSpace(mark) {
			line = ""
		}
		b.WriteString(line)
		b.WriteByte('\n')
		at = next
	}
	return b.String()
}

func inlineMessage(text string) *Original {
	h, body, _ := ParseHeader([]byte(text), Limits{}) // what is read within the limits is used
	return &Original{Header: h.Fields, HeaderOnly: len(strings.TrimSpace(string(body))) == 0, Body: body[:min(len(body), maxOriginal)], Size: int64(len(text))}
}
