package message

import (
	"bytes"
	"encoding/base64"
	"mime/quotedprintable"
	"strings"
)

// builder writes a multipart with CRLF line ends.
type builder struct {
	b        bytes.Buffer
	boundary string
}

// field writes one field; a long value is folded before words. A line of white space only
// would look like the end of the header (RFC 5322, section 3.2.2, forbids to make one).
func (b *builder) field(name, value string) {
	b.b.WriteString(name)
	b.b.WriteByte(':')
	column := len(name) + 1
	for word := range strings.SplitSeq(strings.TrimSpace(oneLine(value)), " ") {
		if word != "" && column+1+len(word) > 76 && column > len(name)+1 {
			b.b.WriteString("\r\n")
			column = 0
		}
		b.b.WriteByte(' ')
		b.b.WriteString(word)
		column += 1 + len(word)
	}
	b.b.WriteString("\r\n")
}

func (b *builder) end() { b.b.WriteString("\r\n") }

func (b *builder) multipart(kind string, eightBit bool) {
	b.field("Content-Type", kind+"; boundary=\""+b.boundary+"\"")
	if eightBit {
		b.field("Content-Transfer-Encoding", "8bit")
	}
}

// part begins the next part.
func (b *builder) part() { b.b.WriteString("\r\n--" + b.boundary + "\r\n") }

// close ends the multipart and gives the message.
func (b *builder) close() []byte {
	b.b.WriteString("\r\n--" + b.boundary + "--\r\n")
	return b.b.Bytes()
}

// text writes a text part with its header, encoded where it is not ASCII.
func (b *builder) text(s string) {
	if isASCII(s) {
		b.field("Content-Type", "text/plain; charset=us-ascii")
		b.end()
		b.b.WriteString(s)
		return
	}
	b.field("Content-Type", "text/plain; charset=utf-8")
	b.field("Content-Transfer-Encoding", "quoted-printable")
	b.end()
	w := quotedprintable.NewWriter(&b.b)
	_, _ = w.Write([]byte(s)) // a buffer takes everything
	_ = w.Close()
}

func (b *builder) write(p []byte) {
	b.b.Write(p)
	if !bytes.HasSuffix(p, []byte("\r\n")) {
		b.end()
	}
}

func (b *builder) base64(p []byte) {
	const octets = 57 // 76 characters
	for len(p) > 0 {
		n := min(len(p), octets)
		b.b.WriteString(base64.StdEncoding.EncodeToString(p[:n]))
		b.end()
		p = p[n:]
	}
}

// uniqueBoundary gives a boundary that does not occur in what the multipart will hold.
func uniqueBoundary(boundary string, content []byte) string {
	boundary = strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("'+_-./=", r)) {
			return r
		}
		return -1
	}, boundary)
	boundary = boundary[:min(len(boundary), 50)]
	for n := 0; boundary == "" || bytes.Contains(content, []byte("--"+boundary)); n++ {
		boundary = strings.TrimRight(boundary, "'") + string("0123456789abcdef"[n%16])
		if len(boundary) > 69 {
			boundary = boundary[20:]
		}
	}
	return boundary
}

// oneLine keeps a peer's words within their line and within bounds.
func oneLine(s string) string {
	if len(s) > 900 {
		s = s[:900]
	}
	s = strings.ToValidUTF8(s, "?")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// asciiOnly puts a question mark for what is not ASCII.
func asciiOnly(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0x80 {
			return '?'
		}
		return r
	}, s)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// crlf makes every line end CRLF and takes out carriage returns that end none.
func crlf(b []byte) []byte {
	out := make([]byte, 0, len(b)+len(b)/32)
	for i, c := range b {
		switch {
		case c == '\n':
			out = append(out, '\r', '\n')
		case c == '\r' && (i+1 == len(b) || b[i+1] == '\n'):
		case c == '\r':
			out = append(out, ' ')
		default:
			out = append(out, c)
		}
	}
	return out
}
