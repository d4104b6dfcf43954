package message

import (
	"bytes"
	"strings"
)

// Decoded gives the body without its transfer encoding (RFC 2045, section 6), as far
// as the message's bound on decoded octets reaches. Broken encodings give what can be
// read of them.
func (p *Part) Decoded() []byte {
	left := p.walk.limits.Decoded - p.walk.decoded
	var out []byte
	switch encoding := strings.ToLower(p.Header.Get("Content-Transfer-Encoding")); {
	case strings.HasPrefix(encoding, "base64"):
		out = decodeBase64(p.Body, left)
	case strings.HasPrefix(encoding, "quoted-printable"):
		out = decodeQuoted(p.Body, left)
	default:
		return p.Body
	}
	p.walk.decoded += len(out)
	return out
}

// base64Values maps an octet to its six bits, 0xff where it has none.
var base64Values = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	return t
}()

// decodeBase64 reads base64 and leaves out what is not of it. Padding ends a run, so
// that pieces that were encoded one by one are all read.
func decodeBase64(b []byte, limit int) []byte {
	out := make([]byte, 0, min(len(b)/4*3+3, max(limit, 0)))
	var bits uint32
	n := 0
	for _, c := range b {
		v := base64Values[c]
		switch {
		case v != 0xff:
			bits = bits<<6 | uint32(v)
			n++
		case c == '=':
			out = appendBits(out, bits, n)
			n = 0
		}
		if n == 4 {
			out = appendBits(out, bits, 4)
			n = 0
		}
		if len(out) >= limit {
			return out[:max(limit, 0)]
		}
	}
	out = appendBits(out, bits, n)
	return out[:min(len(out), max(limit, 0))]
}

// appendBits adds the whole octets of n groups of six bits.
func appendBits(out []byte, bits uint32, n int) []byte {
	switch n {
	case 4:
		return append(out, byte(bits>>16), byte(bits>>8), byte(bits))
	case 3:
		return append(out, byte(bits>>10), byte(bits>>2))
	case 2:
		return append(out, byte(bits>>4))
	}
	return out
}

// decodeQuoted reads quoted-printable; a wrong escape is kept as it stands.
func decodeQuoted(b []byte, limit int) []byte {
	out := make([]byte, 0, min(len(b), max(limit, 0)))
	for len(b) > 0 && len(out) < limit {
		i := bytes.IndexByte(b, '=')
		if i < 0 {
			out = append(out, b...)
			break
		}
		out = append(out, b[:i]...)
		b = b[i+1:]
		if n := softBreak(b); n >= 0 {
			b = b[n:]
			continue
		}
		if len(b) >= 2 {
			hi, lo := unhex(b[0]), unhex(b[1])
			if hi < 16 && lo < 16 {
				out = append(out, hi<<4|lo)
				b = b[2:]
				continue
			}
		}
		out = append(out, '=')
	}
	return out[:min(len(out), max(limit, 0))]
}

// softBreak gives the length of white space and a line end at the beginning of b, -1
// where something else stands there.
func softBreak(b []byte) int {
	for i, c := range b {
		switch c {
		case ' ', '\t', '\r':
		case '\n':
			return i + 1
		default:
			return -1
		}
	}
	return len(b)
}

// unhex gives a hexadecimal digit's value, 16 where there is none.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}
