package message

import (
	"bytes"
	"mime"
	"net/mail"
	"strings"
	"time"
)

// Bounds of what is read of a message; the rest is left out.
const (
	maxHeader = 1 << 20
	maxFields = 10_000
	maxDepth  = 32
	maxParts  = 1000
)

// ReadHeader reads the header of a message as it comes: folded lines, an mbox "From "
// line before it, white space before the colon. It gives the fields and what follows
// the empty line; a line that is no field ends the header, as in mail that lacks the
// empty line.
func ReadHeader(msg []byte) (fields []Field, body []byte) {
	rest := msg
	for first := true; len(rest) > 0; first = false {
		line, next := cutLine(rest)
		switch {
		case len(line) == 0:
			return fields, next
		case first && (bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From "))):
		case (line[0] == ' ' || line[0] == '\t') && len(fields) > 0:
			f := &fields[len(fields)-1]
			f.Value = strings.TrimSpace(f.Value + " " + strings.TrimSpace(string(line)))
		default:
			name, value, ok := cutField(line)
			if !ok {
				return fields, rest
			}
			fields = append(fields, Field{Name: name, Value: value})
		}
		rest = next
		if len(msg)-len(rest) > maxHeader || len(fields) > maxFields {
			return fields, rest
		}
	}
	return fields, nil
}

// cutLine takes a line without its end; CRLF and LF both end one.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return b, nil
	}
	return bytes.TrimSuffix(b[:i], []byte("\r")), b[i+1:]
}

func cutField(line []byte) (name, value string, ok bool) {
	i := bytes.IndexByte(line, ':')
	if i <= 0 {
		return "", "", false
	}
	n := bytes.TrimRight(line[:i], " \t")
	for _, c := range n {
		if c <= ' ' || c >= 127 {
			return "", "", false
		}
	}
	return string(n), strings.TrimSpace(string(line[i+1:])), len(n) > 0
}

// Get gives the value of the first field of a name, in any case.
func Get(fields []Field, name string) string {
	for i := range fields {
		if strings.EqualFold(fields[i].Name, name) {
			return fields[i].Value
		}
	}
	return ""
}

// All gives the values of all fields of a name.
func All(fields []Field, name string) (out []string) {
	for i := range fields {
		if strings.EqualFold(fields[i].Name, name) {
			out = append(out, fields[i].Value)
		}
	}
	return out
}

// Address finds the first address in a header value or report field: "local@domain",
// with or without brackets, type prefix ("rfc822;") and display name.
func Address(value string) string {
	if _, after, ok := strings.Cut(value, ";"); ok && !strings.ContainsAny(value[:len(value)-len(after)], "<@") {
		value = after
	}
	if i := strings.LastIndexByte(value, '<'); i >= 0 {
		if inner, _, ok := strings.Cut(value[i+1:], ">"); ok {
			return strings.TrimSpace(inner)
		}
	}
	for f := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ' ' || r == ',' || r == '"' || r == '\t' }) {
		if strings.Contains(f, "@") {
			return strings.Trim(f, "<>()")
		}
	}
	return strings.TrimSpace(value)
}

// Date reads a date leniently: RFC 5322, and what real mailers write.
func Date(value string) time.Time {
	value, _, _ = strings.Cut(value, " (")
	if t, err := mail.ParseDate(strings.TrimSpace(value)); err == nil {
		return t.UTC()
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05", "Mon Jan 2 15:04:05 2006", "Mon, 2 Jan 2006 15:04:05 MST", "2 Jan 2006 15:04:05 -0700"} {
		if t, err := time.Parse(layout, strings.TrimSpace(value)); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// mediaType reads a Content-Type leniently: what mime cannot parse is read by hand.
func mediaType(value string) (kind string, params map[string]string) {
	if kind, params, err := mime.ParseMediaType(value); err == nil {
		return strings.ToLower(kind), params
	}
	params = map[string]string{}
	for i, p := range strings.Split(value, ";") {
		if i == 0 {
			kind = strings.ToLower(strings.TrimSpace(p))
			continue
		}
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		params[strings.ToLower(strings.TrimSpace(k))] = strings.Trim(strings.TrimSpace(v), `"`)
	}
	return kind, params
}
