package message

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strings"
)

// Part is one leaf of a message, or a message/rfc822 part, which Walk enters too.
type Part struct {
	Type   string // "text/plain", in lower case
	Params map[string]string
	Header []Field
	Body   []byte // transfer encoding undone
	Depth  int
}

// Walk visits the parts of a message in order, until visit gives false. A missing
// closing boundary, a wrong encoding and nesting beyond the bounds lose nothing that
// can be read.
func Walk(msg []byte, visit func(*Part) bool) {
	w := walker{visit: visit, left: maxParts}
	fields, body := ReadHeader(msg)
	w.entity(fields, body, "text/plain", 0)
}

type walker struct {
	visit func(*Part) bool
	left  int
	done  bool
}

// entity visits one entity; def is its type where it names none.
func (w *walker) entity(fields []Field, body []byte, def string, depth int) {
	if w.done || w.left <= 0 || depth > maxDepth {
		return
	}
	w.left--
	kind, params := mediaType(Get(fields, "Content-Type"))
	if kind == "" {
		kind = def
	}
	if strings.HasPrefix(kind, "multipart/") {
		inner := "text/plain"
		if kind == "multipart/digest" {
			inner = "message/rfc822"
		}
		parts, ok := splitParts(body, params["boundary"])
		if ok {
			for _, p := range parts {
				f, b := ReadHeader(p)
				w.entity(f, b, inner, depth+1)
			}
			return
		}
	}
	p := &Part{Type: kind, Params: params, Header: fields, Body: decodeBody(body, Get(fields, "Content-Transfer-Encoding")), Depth: depth}
	if !w.visit(p) {
		w.done = true
	}
}

// splitParts cuts a multipart body. Without a boundary parameter the first line that
// looks like one is taken.
func splitParts(body []byte, boundary string) (parts [][]byte, ok bool) {
	if boundary == "" {
		boundary = guessBoundary(body)
	}
	if boundary == "" {
		return nil, false
	}
	delimiter := []byte("--" + boundary)
	var start = -1
	for at := 0; at < len(body); {
		line, rest := cutLine(body[at:])
		next := len(body) - len(rest)
		if bytes.HasPrefix(line, delimiter) {
			tail := bytes.TrimRight(line[len(delimiter):], " \t")
			if len(tail) == 0 || bytes.Equal(tail, []byte("--")) {
				if start >= 0 {
					parts = append(parts, trimEnd(body[start:at]))
				}
				start = next
				if len(tail) > 0 || len(parts) > maxParts {
					return parts, true
				}
			}
		}
		at = next
	}
	if start >= 0 && start <= len(body) { // no closing boundary
		parts = append(parts, body[start:])
	}
	return parts, len(parts) > 0
}

// trimEnd takes off the line end that belongs to the boundary.
func trimEnd(b []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
}

func guessBoundary(body []byte) string {
	for rest := body; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		if len(line) > 4 && len(line) < 80 && bytes.HasPrefix(line, []byte("--")) && bytes.IndexByte(line, ' ') < 0 {
			return string(line[2:])
		}
	}
	return ""
}

// decodeBody undoes a transfer encoding as far as it can be.
func decodeBody(b []byte, encoding string) []byte {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "quoted-printable":
		out, _ := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(b)))
		return out
	case "base64":
		clean := make([]byte, 0, len(b))
		for _, c := range b {
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/' {
				clean = append(clean, c)
			}
		}
		out := make([]byte, base64.RawStdEncoding.DecodedLen(len(clean)))
		n, _ := base64.RawStdEncoding.Decode(out, clean[:len(clean)/4*4+max(0, len(clean)%4)])
		return out[:n]
	}
	return b
}
