package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"postern.dev/postern/internal/policy"
)

// Bounds of the header of a message; real ones stay far below.
const (
	maxHeader = 1 << 20 // octets
	maxFields = 10_000
)

var errHeaderTooLarge = errors.New("header too large")

// head is the header of a message as it came: the fields with their octets, and
// what stood between header and body.
type head struct {
	fields []rawField
	size   int64 // octets read, with the empty line
}

// rawField is one field: the name in lower case and all its lines with their CRLF.
type rawField struct {
	name  string
	raw   []byte
	start int // of raw in the whole header, while that is being read
}

// readHead reads the header. What follows it, from the first octet of the body,
// remains in r; body holds octets that were read and turned out to belong to it (a
// message without an empty line between header and body, or without a header).
func readHead(r *bufio.Reader) (h *head, body []byte, err error) {
	h = &head{fields: make([]rawField, 0, 16)}
	text := make([]byte, 0, 1<<10) // all fields on end
	for {
		start := len(text)
		text, err = appendLine(text, r)
		line := text[start:]
		h.size += int64(len(line))
		if h.size > maxHeader {
			return nil, nil, errHeaderTooLarge
		}
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return nil, nil, err
		case len(line) == 0 || isBlank(line):
			h.settle(text[:start])
			return h, nil, nil
		case (line[0] == ' ' || line[0] == '\t') && len(h.fields) > 0:
		default:
			name, ok := fieldName(line)
			if !ok {
				h.settle(text[:start])
				return h, line, nil
			}
			if len(h.fields) == maxFields {
				return nil, nil, errHeaderTooLarge
			}
			h.fields = append(h.fields, rawField{name: name, start: start})
		}
		if err != nil {
			h.settle(text)
			return h, nil, nil
		}
	}
}

// settle gives each field its octets, once the text does not move any more.
func (h *head) settle(text []byte) {
	end := len(text)
	for i := len(h.fields) - 1; i >= 0; i-- {
		f := &h.fields[i]
		f.raw = text[f.start:end:end]
		end = f.start
	}
}

// appendLine reads one line with its CRLF.
func appendLine(b []byte, r *bufio.Reader) ([]byte, error) {
	start := len(b)
	for {
		part, err := r.ReadSlice('\n')
		b = append(b, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return b, err
		}
		if len(b)-start > maxHeader {
			return b, errHeaderTooLarge
		}
	}
}

func isBlank(line []byte) bool { return len(bytes.TrimRight(line, "\r\n")) == 0 }

// fieldName gives the name of a header line: printable ASCII before the colon (RFC
// 5322, section 2.2), with the obsolete white space allowed.
func fieldName(line []byte) (string, bool) {
	i := bytes.IndexByte(line, ':')
	if i <= 0 {
		return "", false
	}
	name := bytes.TrimRight(line[:i], " \t")
	for _, c := range name {
		if c <= ' ' || c >= 127 {
			return "", false
		}
	}
	return lower(name), len(name) > 0
}

// lower gives a field name in lower case; the usual ones cost no memory.
func lower(name []byte) string {
	var b [32]byte
	if len(name) > len(b) {
		return strings.ToLower(string(name))
	}
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b[i] = c
	}
	switch string(b[:len(name)]) {
	case "received":
		return "received"
	case "from":
		return "from"
	case "to":
		return "to"
	case "date":
		return "date"
	case "message-id":
		return "message-id"
	case "subject":
		return "subject"
	case "mime-version":
		return "mime-version"
	case "content-type":
		return "content-type"
	case "content-transfer-encoding":
		return "content-transfer-encoding"
	case "dkim-signature":
		return "dkim-signature"
	case "reply-to":
		return "reply-to"
	case "list-unsubscribe":
		return "list-unsubscribe"
	case "list-unsubscribe-post":
		return "list-unsubscribe-post"
	}
	return string(b[:len(name)])
}

// value gives a field's value, unfolded and trimmed.
func (f *rawField) value() string {
	_, v, _ := bytes.Cut(f.raw, []byte(":"))
	if bytes.IndexByte(v, '\n') == len(v)-1 {
		return string(bytes.TrimSpace(v))
	}
	var b strings.Builder
	for line := range bytes.SplitSeq(v, []byte("\n")) {
		b.Write(bytes.TrimRight(line, "\r"))
	}
	return strings.TrimSpace(b.String())
}

// get gives the value of the first field of a name, "" where there is none.
func (h *head) get(name string) string {
	for i := range h.fields {
		if h.fields[i].name == name {
			return h.fields[i].value()
		}
	}
	return ""
}

// facts gives the header as the policy sees it.
func (h *head) facts() []policy.HeaderField {
	out := make([]policy.HeaderField, len(h.fields))
	for i := range h.fields {
		out[i] = policy.HeaderField{Name: h.fields[i].name, Value: h.fields[i].value()}
	}
	return out
}

// count tells how many fields of a name there are.
func (h *head) count(name string) int {
	n := 0
	for i := range h.fields {
		if h.fields[i].name == name {
			n++
		}
	}
	return n
}

// remove takes out the fields for which drop holds and gives them back in order.
func (h *head) remove(drop func(*rawField) bool) []rawField {
	var gone []rawField
	kept := h.fields[:0]
	for i := range h.fields {
		if f := h.fields[i]; drop(&f) {
			gone = append(gone, f)
		} else {
			kept = append(kept, f)
		}
	}
	h.fields = kept
	return gone
}

// bytes gives the header with trace put before it and the empty line after it.
func (h *head) bytes(trace []byte) []byte {
	n := len(trace) + 2
	for i := range h.fields {
		n += len(h.fields[i].raw) + 2
	}
	b := append(make([]byte, 0, n), trace...)
	for i := range h.fields {
		b = append(b, h.fields[i].raw...)
		if !bytes.HasSuffix(b, []byte("\r\n")) {
			b = append(b, "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// terminate gives a last line without a CRLF one.
func (h *head) terminate() {
	for i := range h.fields {
		if f := &h.fields[i]; !bytes.HasSuffix(f.raw, []byte("\r\n")) {
			f.raw = append(f.raw, "\r\n"...)
		}
	}
}

// original gives the octets as they came, for signatures.
func (h *head) original() []byte { return h.bytes(nil) }

// add appends a field; name and value must be clean.
func (h *head) add(name, value string) {
	h.fields = append(h.fields, rawField{name: strings.ToLower(name), raw: fmt.Appendf(nil, "%s: %s\r\n", name, value)})
}
