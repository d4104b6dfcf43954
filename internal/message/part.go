package message

import (
	"bytes"
	"errors"
	"iter"
	"strings"
)

// Part is one entity of a message (RFC 2045, section 2.4): the message itself, a part
// of a multipart, or a message within a message.
type Part struct {
	Header Header
	Type   string            // Content-Type in lower case; "text/plain" where not given
	Params map[string]string // its parameters, names in lower case; nil where there are none
	Body   []byte            // as it stands, transfer encoding and all
	Depth  int               // 0 for the message itself

	walk *walk
	sub  []*Part
	done bool // sub is known
}

// walk is what the parts of one message share: what may still be spent on it.
type walk struct {
	limits  Limits
	parts   int
	decoded int
}

// ErrSkipPart is returned by a function given to Walk to leave the inside of a part out.
var ErrSkipPart = errors.New("skip this part")

// Open reads a message's own header. Its parts are read when they are asked for. A
// message that lost its Content-Type and has the parts of a multipart is taken for one.
func Open(msg []byte, l Limits) *Part {
	w := &walk{limits: l.withDefaults()}
	p := w.open(msg, 0, "text/plain")
	if p.Header.Get("Content-Type") == "" && guessBoundary(p.Body) != "" {
		p.Type = "multipart/mixed"
	}
	return p
}

// Walk calls fn for the message and for every part within it, from the outside in and
// in order, messages within messages included. It reads leniently: closing boundaries
// may be missing, parameters unfolded, encodings broken. Depth, number of parts and
// decoded octets are bounded; what lies beyond is not visited. An error of fn ends the
// walk and is returned, but for ErrSkipPart.
func Walk(msg []byte, l Limits, fn func(*Part) error) error {
	return Open(msg, l).walkParts(fn)
}

func (p *Part) walkParts(fn func(*Part) error) error {
	if err := fn(p); err != nil {
		if errors.Is(err, ErrSkipPart) {
			return nil
		}
		return err
	}
	for _, sub := range p.Parts() {
		if err := sub.walkParts(fn); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) open(b []byte, depth int, fallback string) *Part {
	w.parts++
	p := &Part{Depth: depth, walk: w}
	// A header beyond its limit is used as far as it was read.
	p.Header, p.Body, _ = ParseHeader(b, w.limits)
	p.Type, p.Params = ContentType(p.Header.Get("Content-Type"))
	if p.Type == "" {
		p.Type = fallback
	}
	return p
}

// Parts gives the parts of a multipart, or the message within a message; nothing where
// the bounds are reached.
func (p *Part) Parts() []*Part {
	if p.done {
		return p.sub
	}
	p.done = true
	if p.Depth+1 >= p.walk.limits.Depth {
		return nil
	}
	switch {
	case strings.HasPrefix(p.Type, "multipart/"):
		p.sub = p.split()
	case p.Type == "message/rfc822" || p.Type == "message/global" || p.Type == "message/news":
		if p.walk.parts < p.walk.limits.Parts {
			p.sub = []*Part{p.walk.open(withoutMbox(p.Decoded()), p.Depth+1, "text/plain")}
		}
	}
	return p.sub
}

// withoutMbox takes off empty lines and a mailbox file's first line.
func withoutMbox(b []byte) []byte {
	b = bytes.TrimLeft(b, "\r\n")
	if i := bytes.IndexByte(b, '\n'); i > 0 && mboxLine(string(b[:min(i, 8)])) {
		return b[i+1:]
	}
	return b
}

// split takes a multipart's body apart (RFC 2046, section 5.1.1). The preamble is left
// out; text behind a closing boundary too, unless the boundary comes again.
func (p *Part) split() []*Part {
	fallback := "text/plain"
	if p.Type == "multipart/digest" {
		fallback = "message/rfc822"
	}
	body := p.Decoded()
	boundary := p.Params["boundary"]
	if boundary == "" || !hasDelimiter(body, boundary) {
		boundary = guessBoundary(body)
	}
	if boundary == "" {
		return nil
	}
	var parts []*Part
	for b := range between(body, boundary) {
		if p.walk.parts >= p.walk.limits.Parts {
			break
		}
		parts = append(parts, p.walk.open(b, p.Depth+1, fallback))
	}
	return parts
}

// hasDelimiter reports whether a boundary occurs.
func hasDelimiter(body []byte, boundary string) bool {
	start, _, _ := nextDelimiter(body, 0, boundary)
	return start >= 0
}

// between gives the octets between the delimiters of a multipart.
func between(body []byte, boundary string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		_, at, closes := nextDelimiter(body, 0, boundary)
		for at >= 0 {
			start, next, closing := nextDelimiter(body, at, boundary)
			end := start
			if start < 0 {
				end = len(body)
			}
			part := body[at:end]
			if start >= 0 {
				// The line end before a delimiter belongs to it.
				part = bytes.TrimSuffix(bytes.TrimSuffix(part, []byte("\n")), []byte("\r"))
			}
			if !closes && !yield(part) {
				return
			}
			if start < 0 {
				return
			}
			at, closes = next, closing
		}
	}
}

// nextDelimiter finds the next line that is the boundary's: where it begins, where the
// line behind it begins, and whether it closes. Nothing found is -1.
func nextDelimiter(body []byte, from int, boundary string) (start, next int, closes bool) {
	dashed := []byte("--" + boundary)
	for at := from; at < len(body); {
		i := bytes.Index(body[at:], dashed)
		if i < 0 {
			return -1, -1, false
		}
		start, at = at+i, at+i+len(dashed)
		if start > 0 && body[start-1] != '\n' {
			continue
		}
		end := len(body)
		if n := bytes.IndexByte(body[at:], '\n'); n >= 0 {
			end = at + n + 1
		}
		switch rest := bytes.TrimSpace(body[at:end]); {
		case len(rest) == 0:
			return start, end, false
		case bytes.Equal(rest, []byte("--")):
			return start, end, true
		}
	}
	return -1, -1, false
}

// guessBoundary gives the boundary of a multipart that does not say it or says another:
// the first line of two dashes with a part's field behind it.
func guessBoundary(body []byte) string {
	for at := 0; at < len(body); {
		end := len(body)
		if i := bytes.IndexByte(body[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		line := bytes.TrimSpace(body[at:end])
		if len(line) > 4 && len(line) <= 200 && bytes.HasPrefix(line, []byte("--")) && beginsField(body[end:]) {
			return string(line[2:])
		}
		at = end
	}
	return ""
}

func beginsField(b []byte) bool {
	return len(b) > 8 && bytes.EqualFold(b[:8], []byte("content-"))
}

// ContentType takes the value of a Content-Type field apart: the type in lower case,
// "" where there is none of the form "a/b", and the parameters with their names in
// lower case. Parameters in parts (RFC 2231, section 3) are put together.
func ContentType(value string) (string, map[string]string) {
	kind, rest, _ := strings.Cut(value, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	if i := strings.IndexAny(kind, " \t("); i >= 0 {
		kind = kind[:i]
	}
	if a, b, ok := strings.Cut(kind, "/"); !ok || a == "" || b == "" {
		kind = ""
	}
	var params map[string]string
	for n := 0; rest != "" && n < 64; n++ {
		var name, v string
		name, v, rest = nextParam(rest)
		if name == "" {
			continue
		}
		if params == nil {
			params = make(map[string]string, 4)
		}
		base, section, continued := strings.Cut(name, "*")
		if continued && section != "" && section != "0" && section != "0*" {
			params[base] += v // sections come in order in practice
		} else if _, twice := params[base]; !twice {
			params[base] = v
		}
	}
	return kind, params
}

// nextParam reads one parameter off the front of s.
func nextParam(s string) (name, value, rest string) {
	s = strings.TrimLeft(s, " \t;")
	i := strings.IndexAny(s, "=;")
	if i < 0 {
		return "", "", ""
	}
	if s[i] == ';' {
		return "", "", s[i:]
	}
	name = strings.ToLower(strings.TrimSpace(s[:i]))
	s = strings.TrimLeft(s[i+1:], " \t")
	if s != "" && s[0] == '"' {
		value, rest = quotedString(s)
		return name, value, rest
	}
	end := strings.IndexByte(s, ';')
	if end < 0 {
		end = len(s)
	}
	return name, strings.TrimSpace(s[:end]), s[end:]
}

// quotedString reads a quoted-string (RFC 5322, section 3.2.4) at the beginning of s;
// a missing closing quote is put at the end.
func quotedString(s string) (value, rest string) {
	end := strings.IndexAny(s[1:], `"\`)
	if end >= 0 && s[1+end] == '"' {
		return s[1 : 1+end], s[2+end:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		case '"':
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}
