package history

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// maxNested bounds the nesting of a JSON object that is read.
const maxNested = 32

// object calls fn for each member of a JSON object (RFC 8259) with the raw value. It
// reads one pass without memory of its own; what is no object is ErrUnreadable, and so
// is one that ends in its middle.
func object(b []byte, fn func(name, value []byte)) error {
	b = space(b)
	if len(b) == 0 || b[0] != '{' {
		return ErrUnreadable
	}
	b = space(b[1:])
	if len(b) > 0 && b[0] == '}' {
		return ended(b[1:])
	}
	for {
		n := stringEnd(b)
		if n < 0 {
			return ErrUnreadable
		}
		name := b[1 : n-1]
		b = space(b[n:])
		if len(b) == 0 || b[0] != ':' {
			return ErrUnreadable
		}
		b = space(b[1:])
		if n = valueEnd(b, 0); n < 0 {
			return ErrUnreadable
		}
		fn(name, b[:n])
		b = space(b[n:])
		if len(b) == 0 {
			return ErrUnreadable
		}
		switch b[0] {
		case ',':
			b = space(b[1:])
		case '}':
			return ended(b[1:])
		default:
			return ErrUnreadable
		}
	}
}

func ended(b []byte) error {
	if len(space(b)) > 0 {
		return ErrUnreadable
	}
	return nil
}

func space(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\n' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// stringEnd gives the length of the string that b begins with, quotes included, or -1.
func stringEnd(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return -1
	}
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// valueEnd gives the length of the value that b begins with, or -1.
func valueEnd(b []byte, depth int) int {
	if len(b) == 0 || depth > maxNested {
		return -1
	}
	switch b[0] {
	case '"':
		return stringEnd(b)
	case '{', '[':
		return nestedEnd(b)
	}
	i := 0
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	if i == 0 {
		return -1
	}
	return i
}

// nestedEnd passes over an object or an array by its brackets.
func nestedEnd(b []byte) int {
	var stack [maxNested]byte
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			n := stringEnd(b[i:])
			if n < 0 {
				return -1
			}
			i += n - 1
		case '{', '[':
			if depth == maxNested {
				return -1
			}
			stack[depth] = b[i] + 2 // its closing bracket
			depth++
		case '}', ']':
			if depth--; stack[depth] != b[i] {
				return -1
			}
			if depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// str gives the text of a string value, bounded; of anything else, nothing.
func str(v []byte) []byte {
	if len(v) < 2 || v[0] != '"' {
		return nil
	}
	inner := v[1 : len(v)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner[:min(len(inner), maxText)]
	}
	var s string
	if json.Unmarshal(v, &s) != nil {
		return nil
	}
	return []byte(s[:min(len(s), maxText)])
}

// jsonTime reads seconds since 1970, or a time of RFC 3339.
func (p *Parser) jsonTime(v []byte) (time.Time, bool) {
	if len(v) > 0 && v[0] == '"' {
		return p.clock.cached(str(v), p.clock.iso)
	}
	if n := number(v); n > 0 && n < math.MaxInt32*8 {
		return time.Unix(n, 0).UTC(), true
	}
	return p.clock.cached(v, func(s string) (time.Time, bool) {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || f < 0 || f > math.MaxInt32*8 {
			return time.Time{}, false
		}
		sec, frac := math.Modf(f)
		return time.Unix(int64(sec), int64(frac*1e9)).UTC(), true
	})
}
