package dkim

import (
	"bytes"
	"crypto/sha256"
	"hash"
)

// Canonicalization is the form in which header or body is signed (RFC 6376, section
// 3.4).
type Canonicalization string

// The forms.
const (
	Simple  Canonicalization = "simple"
	Relaxed Canonicalization = "relaxed"
)

// Body hashes a body, CRLF line ends and all, in the forms that were asked for, while
// it is written. Whatever the cuts between writes, the sums are those of the whole.
type Body struct {
	simple, relaxed *stream
}

// NewBody makes a Body for some forms.
func NewBody(forms ...Canonicalization) *Body {
	b := &Body{}
	for _, f := range forms {
		switch f {
		case Simple:
			b.simple = newStream(false)
		case Relaxed:
			b.relaxed = newStream(true)
		}
	}
	return b
}

// Write implements io.Writer; it never fails.
func (b *Body) Write(p []byte) (int, error) {
	for _, s := range []*stream{b.simple, b.relaxed} {
		if s != nil {
			s.write(p)
		}
	}
	return len(p), nil
}

// Sum gives the hash in one of the forms asked for, nil for another. Nothing may be
// written after it.
func (b *Body) Sum(f Canonicalization) []byte {
	s := b.simple
	if f == Relaxed {
		s = b.relaxed
	}
	if s == nil {
		return nil
	}
	return s.finish()
}

// stream is one canonical form on its way into a hash. Empty lines wait, since those
// at the end do not count; so does white space, since that at the end of a line does
// not either where the form is relaxed.
type stream struct {
	sum     hash.Hash
	buf     []byte // octets on their way into the hash
	relaxed bool
	empty   int  // CRLFs that wait
	blank   bool // white space waits
	cr      bool // a CR waits for its LF
	any     bool // something has been hashed
	ended   bool
	done    []byte
}

func newStream(relaxed bool) *stream {
	return &stream{sum: sha256.New(), buf: make([]byte, 0, 2048), relaxed: relaxed}
}

var (
	crlf  = []byte("\r\n")
	space = []byte(" ")
	many  = bytes.Repeat(crlf, 512)
)

func (s *stream) write(p []byte) {
	for len(p) > 0 {
		if s.cr {
			s.cr = false
			if p[0] == '\n' {
				s.line()
				p = p[1:]
				continue
			}
			s.put(crlf[:1]) // a CR by itself is text
		}
		switch c := p[0]; {
		case c == '\r':
			s.cr = true
			p = p[1:]
		case s.relaxed && (c == ' ' || c == '\t'):
			s.blank = true
			p = p[1:]
		default:
			n := s.run(p)
			s.put(p[:n])
			p = p[n:]
		}
	}
}

// run is how many octets follow that go into the hash as they are.
func (s *stream) run(p []byte) int {
	if !s.relaxed {
		if n := bytes.IndexByte(p, '\r'); n >= 0 {
			return n
		}
		return len(p)
	}
	for i, c := range p {
		if c > ' ' || c != '\r' && c != ' ' && c != '\t' {
			continue
		}
		if c == ' ' && i+1 < len(p) && p[i+1] > ' ' {
			continue // one space within a line stays as it is
		}
		return i
	}
	return len(p)
}

// emit hands octets to the hash in blocks.
func (s *stream) emit(p []byte) {
	if len(s.buf)+len(p) > cap(s.buf) {
		s.sum.Write(s.buf)
		s.buf = s.buf[:0]
	}
	if len(p) > cap(s.buf) {
		s.sum.Write(p)
		return
	}
	s.buf = append(s.buf, p...)
}

// put hashes text, after what waited.
func (s *stream) put(p []byte) {
	for ; s.empty > 0; s.empty -= min(s.empty, len(many)/2) {
		s.emit(many[:2*min(s.empty, len(many)/2)])
	}
	if s.blank {
		s.emit(space)
		s.blank = false
	}
	s.emit(p)
	s.any = true
}

// line ends a line.
func (s *stream) line() {
	s.blank = false
	s.empty++
}

func (s *stream) finish() []byte {
	if s.ended {
		return s.done
	}
	if s.cr {
		s.cr = false
		s.put(crlf[:1])
	}
	// A body ends in one CRLF; an empty one is a CRLF where the form is simple, and
	// nothing where it is relaxed (sections 3.4.3 and 3.4.4).
	if s.any || !s.relaxed {
		s.emit(crlf)
	}
	s.sum.Write(s.buf)
	s.done, s.ended = s.sum.Sum(nil), true
	return s.done
}
