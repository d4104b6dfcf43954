package message

import (
	"bytes"
	"errors"
	"strings"
)

// ErrTooLarge tells that a header exceeds its limits. What was read within them is
// returned beside it.
var ErrTooLarge = errors.New("header too large")

// Limits bound what is read. Zero values take the default.
type Limits struct {
	HeaderSize int // octets of one header; default 1 MiB
	Fields     int // fields of one header; default 2,000
	Depth      int // nested parts; default 32
	Parts      int // parts in all; default 1,000
	Decoded    int // octets that decoding transfer encodings may give in all; default 32 MiB
}

func (l Limits) withDefaults() Limits {
	for _, p := range []struct {
		v   *int
		def int
	}{{&l.HeaderSize, 1 << 20}, {&l.Fields, 2000}, {&l.Depth, 32}, {&l.Parts, 1000}, {&l.Decoded, 32 << 20}} {
		if *p.v <= 0 {
			*p.v = p.def
		}
	}
	return l
}

// Header is a message's or a part's header (RFC 5322, section 2.2).
type Header struct {
	Fields []Field  // in order
	Broken []string // lines that are neither field nor continuation, as they stood
}

// Get gives the value of the first field of a name, in any case; "" where there is
// none.
func (h *Header) Get(name string) string { return Get(h.Fields, name) }

// All gives the values of every field of a name, in order.
func (h *Header) All(name string) []string { return All(h.Fields, name) }

// Get gives the value of the first field of a name, in any case; "" where there is
// none.
func Get(fields []Field, name string) string {
	for i := range fields {
		if len(fields[i].Name) == len(name) && strings.EqualFold(fields[i].Name, name) {
			return fields[i].Value
		}
	}
	return ""
}

// All gives the values of every field of a name, in order.
func All(fields []Field, name string) []string {
	var out []string
	for i := range fields {
		if len(fields[i].Name) == len(name) && strings.EqualFold(fields[i].Name, name) {
			out = append(out, fields[i].Value)
		}
	}
	return out
}

// ReadHeader reads a header within the default limits and gives its fields and the
// body. See ParseHeader.
func ReadHeader(msg []byte) (fields []Field, body []byte) {
	h, body, _ := ParseHeader(msg, Limits{}) // what was read within the limits is used
	return h.Fields, body
}

// ParseHeader reads the header at the beginning of b and gives what follows the empty
// line behind it. It reads what real mail has: lines that end in LF alone, white space
// before the colon (RFC 5322, section 4.5), an mbox "From " line before or within,
// parameters that were not folded. Other lines that are no fields are kept aside where
// the header goes on behind them; where it does not, they begin the body and the empty
// line was missing. The error is nil or ErrTooLarge.
func ParseHeader(b []byte, l Limits) (Header, []byte, error) {
	l = l.withDefaults()
	end, ended := headerEnd(b[:min(len(b), l.HeaderSize)])
	// One string for the whole header: every name and most values are parts of it.
	r := headerReader{text: string(b[:end]), limit: l.Fields, start: -1}
	n, err := r.read()
	if err == nil && !ended && n == end && n < len(b) {
		err = ErrTooLarge
	}
	return r.h, b[n:], err
}

// readBlock reads a block of fields up to an empty line, leaving out what is no field.
func readBlock(b []byte) (fields []Field, rest []byte) {
	end, _ := headerEnd(b)
	r := headerReader{text: string(b[:end]), limit: Limits{}.withDefaults().Fields, start: -1, whole: true}
	n, err := r.read()
	if err != nil {
		n = end
	}
	return r.h.Fields, b[n:]
}

// headerEnd gives the end of the first empty line, else of b.
func headerEnd(b []byte) (end int, ended bool) {
	for at := 0; at < len(b); {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			break
		}
		if i == 0 || (i == 1 && b[at] == '\r') {
			return at + i + 1, true
		}
		at += i + 1
	}
	return len(b), false
}

// headerReader goes over a header line by line.
type headerReader struct {
	text  string
	limit int // of fields
	h     Header
	start int  // of the field being read; -1 where there is none
	colon int  // of the field being read
	whole bool // the header ends at an empty line only, whatever stands in it
}

// read gives the offset at which the body begins.
func (r *headerReader) read() (int, error) {
	r.h.Fields = make([]Field, 0, min(r.limit, 24))
	for at := 0; at < len(r.text); {
		next, line := lineAt(r.text, at)
		colon := fieldEnd(line)
		switch {
		case len(line) == 0:
			r.finish(at)
			return next, nil
		case (line[0] == ' ' || line[0] == '\t') && r.start >= 0:
			if isBlank(line) && !r.goesOn(next) {
				r.finish(at)
				return next, nil
			}
		case r.start >= 0 && r.unfolded(at, line):
		case colon > 0:
			r.finish(at)
			if len(r.h.Fields) >= r.limit {
				return at, ErrTooLarge
			}
			r.start, r.colon = at, at+colon
		case !r.whole && !mboxLine(line) && !r.goesOn(next):
			r.finish(at)
			return at, nil
		default:
			r.finish(at)
			r.setAside(line)
		}
		at = next
	}
	r.finish(len(r.text))
	return len(r.text), nil
}

// lineAt gives the line at an offset without its end, and where the next begins.
func lineAt(s string, at int) (next int, line string) {
	i := strings.IndexByte(s[at:], '\n')
	if i < 0 {
		return len(s), strings.TrimSuffix(s[at:], "\r")
	}
	return at + i + 1, strings.TrimSuffix(s[at:at+i], "\r")
}

func isBlank(line string) bool { return strings.TrimSpace(line) == "" }

// mboxLine reports the line that begins a message in a mailbox file.
func mboxLine(line string) bool {
	return strings.HasPrefix(strings.TrimLeft(line, ">"), "From ")
}

// fieldEnd gives the place of the colon behind a field's name, -1 where the line is no
// field: printable ASCII, then at most white space (RFC 5322, sections 2.2 and 4.5).
func fieldEnd(line string) int {
	for i := range len(line) {
		switch c := line[i]; {
		case c == ':' && i > 0:
			return i
		case c == ' ' || c == '\t':
			rest := strings.TrimLeft(line[i:], " \t")
			if i > 0 && rest != "" && rest[0] == ':' {
				return len(line) - len(rest)
			}
			return -1
		case c <= ' ' || c >= 0x7f || c == ':':
			return -1
		}
	}
	return -1
}

// goesOn reports whether a header may go on at an offset: a field stands there, or the
// empty line behind fields.
func (r *headerReader) goesOn(at int) bool {
	if at >= len(r.text) {
		return false
	}
	_, line := lineAt(r.text, at)
	if line == "" {
		return len(r.h.Fields) > 0 || r.start >= 0
	}
	return fieldEnd(line) > 0
}

// unfolded reports a line that is the parameter of the field before it, put on a line
// of its own without the white space that folding asks for.
func (r *headerReader) unfolded(at int, line string) bool {
	i := strings.IndexAny(line, "= \t:")
	return i > 0 && line[i] == '=' && strings.HasSuffix(strings.TrimRight(r.text[r.start:at], " \t\r\n"), ";")
}

func (r *headerReader) setAside(line string) {
	if !mboxLine(line) && len(r.h.Broken) < r.limit {
		r.h.Broken = append(r.h.Broken, line)
	}
}

// finish adds the field that ends at an offset.
func (r *headerReader) finish(end int) {
	if r.start < 0 {
		return
	}
	r.h.Fields = append(r.h.Fields, Field{
		Name:  strings.TrimRight(r.text[r.start:r.colon], " \t"),
		Value: unfold(r.text[r.colon+1 : end]),
	})
	r.start = -1
}

// unfold takes the line ends out of a field's value (RFC 5322, section 2.2.3) and the
// white space around it.
func unfold(s string) string {
	s = strings.TrimSpace(s)
	if strings.IndexByte(s, '\n') < 0 && strings.IndexByte(s, '\r') < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for at := 0; at < len(s); {
		next, line := lineAt(s, at)
		b.WriteString(strings.ReplaceAll(line, "\r", " "))
		at = next
	}
	return b.String()
}
