package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// Errors of reading a message.
var (
	// ErrTooLarge tells that the message is larger than the limit.
	ErrTooLarge = errors.New("message too large")
	// ErrBareLine tells of a CR or LF that is not part of a CRLF: a message that two
	// servers could read differently (SMTP smuggling).
	ErrBareLine = errors.New("bare CR or LF")
	// ErrLineTooLong tells of a text line over the limit.
	ErrLineTooLong = errors.New("line too long")
	// ErrNUL tells of a NUL octet.
	ErrNUL = errors.New("NUL in message")
)

// dotReader reads a message up to the line with the single dot (RFC 5321, section
// 4.5.2). Line ends are CRLF and nothing else. It works in blocks on the buffered
// reader's memory and allocates nothing for a line.
type dotReader struct {
	r       *bufio.Reader
	limit   int64 // octets of the message
	maxLine int
	n       int64
	line    int  // octets of the line so far
	start   bool // at the beginning of a line
	lf      bool // a CR was given out and its LF is next
	nuls    bool // NULs are let through: nobody keeps what is read
	done    bool
	err     error
	stick   bool // err leaves the connection out of step
}

// Read implements io.Reader.
func (d *dotReader) Read(p []byte) (int, error) {
	for {
		if d.err != nil {
			return 0, d.err
		}
		if d.done {
			return 0, io.EOF
		}
		if len(p) == 0 {
			return 0, nil
		}
		n := d.lines(p)
		if n == 0 {
			n = d.block(p)
		}
		if n > 0 {
			if d.n += int64(n); d.n > d.limit {
				d.err = ErrTooLarge
				return 0, d.err
			}
			return n, nil
		}
	}
}

// fail ends the reading; the connection cannot go on.
func (d *dotReader) fail(err error) int {
	d.err, d.stick = err, true
	return 0
}

// lines copies the whole lines that are in the buffer already and need no second
// look. Everything else is left to block.
func (d *dotReader) lines(p []byte) (n int) {
	if d.lf {
		return 0
	}
	buf, _ := d.r.Peek(d.r.Buffered())
	for {
		rest := buf[n:]
		i := bytes.IndexByte(rest, '\r')
		if i < 0 || i+1 >= len(rest) || rest[i+1] != '\n' || i+2 > len(p)-n {
			break
		}
		line := rest[:i]
		if (d.start && i > 0 && line[0] == '.') || d.line+i > d.maxLine || bytes.IndexByte(line, '\n') >= 0 || bytes.IndexByte(line, 0) >= 0 {
			break
		}
		n += copy(p[n:], rest[:i+2])
		d.line, d.start = 0, true
	}
	d.discard(n)
	return n
}

// block copies what can be copied at once: part of a line, or a whole one.
func (d *dotReader) block(p []byte) int {
	if d.lf {
		p[0] = '\n'
		d.discard(1)
		d.lf, d.line, d.start = false, 0, true
		return 1
	}
	if d.start {
		if dot, ok := d.lineStart(); !ok || dot {
			return 0
		}
	}
	if _, err := d.r.Peek(1); err != nil {
		return d.fail(unexpected(err))
	}
	buf, _ := d.r.Peek(d.r.Buffered())
	end := bytes.IndexByte(buf, '\r')
	part := buf
	if end >= 0 {
		part = buf[:end]
	}
	if bytes.IndexByte(part, '\n') >= 0 {
		return d.fail(ErrBareLine)
	}
	if len(part) > 0 {
		return d.text(p, part)
	}
	// A CR is next: it must be followed by LF.
	pair, err := d.r.Peek(2)
	if err != nil {
		return d.fail(unexpected(err))
	}
	if pair[1] != '\n' {
		return d.fail(ErrBareLine)
	}
	return d.lineEnd(p)
}

// text copies octets of a line.
func (d *dotReader) text(p, part []byte) int {
	n := copy(p, part)
	if d.line += n; d.line > d.maxLine {
		return d.fail(ErrLineTooLong)
	}
	nul := !d.nuls && bytes.IndexByte(part[:n], 0) >= 0
	d.discard(n)
	d.start = false
	if nul {
		d.err = ErrNUL
		return 0
	}
	return n
}

// lineEnd copies a CRLF, by octets where p is short.
func (d *dotReader) lineEnd(p []byte) int {
	p[0] = '\r'
	if len(p) < 2 {
		d.discard(1)
		d.lf, d.start = true, false
		return 1
	}
	p[1] = '\n'
	d.discard(2)
	d.line, d.start = 0, true
	return 2
}

// lineStart looks at the first octets of a line: a dot alone ends the message, a dot
// before something else is left out.
func (d *dotReader) lineStart() (end, ok bool) {
	first, err := d.r.Peek(1)
	if err != nil {
		d.fail(unexpected(err))
		return false, false
	}
	if first[0] != '.' {
		return false, true
	}
	three, err := d.r.Peek(3)
	if err != nil && len(three) < 2 {
		d.fail(unexpected(err))
		return false, false
	}
	if three[1] == '\n' {
		d.fail(ErrBareLine)
		return false, false
	}
	if three[1] == '\r' {
		if len(three) < 3 {
			d.fail(unexpected(err))
			return false, false
		}
		if three[2] != '\n' {
			d.fail(ErrBareLine)
			return false, false
		}
		d.discard(3)
		d.done = true
		return true, true
	}
	d.discard(1)
	d.start = false
	return false, true
}

// discard drops octets that were peeked at; it cannot fail.
func (d *dotReader) discard(n int) { _, _ = d.r.Discard(n) }

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// dotWriter stuffs dots and ends the message (RFC 5321, section 4.5.2). What is
// written must have CRLF line ends.
type dotWriter struct {
	w     *bufio.Writer
	start bool
	last  [2]byte
}

func newDotWriter(w *bufio.Writer) *dotWriter { return &dotWriter{w: w, start: true} }

// Write implements io.Writer.
func (d *dotWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		dot, n := d.cut(p)
		if dot {
			if err := d.w.WriteByte('.'); err != nil {
				return 0, err
			}
		}
		if _, err := d.w.Write(p[:n]); err != nil {
			return 0, err
		}
		p = p[n:]
	}
	return total, nil
}

// cut tells how much of p, of one octet at least, goes out as it is, and whether a dot
// goes before it.
func (d *dotWriter) cut(p []byte) (dot bool, n int) {
	dot = d.start && p[0] == '.'
	n = len(p)
	if i := bytes.Index(p, []byte("\n.")); i >= 0 {
		n = i + 1
	}
	d.start = p[n-1] == '\n'
	d.note(p[:n])
	return dot, n
}

func (d *dotWriter) note(p []byte) {
	if len(p) >= 2 {
		d.last = [2]byte(p[len(p)-2:])
	} else {
		d.last = [2]byte{d.last[1], p[0]}
	}
}

// end is what ends the message.
func (d *dotWriter) end() string {
	if d.last == [2]byte{'\r', '\n'} || d.last == [2]byte{} {
		return ".\r\n"
	}
	return "\r\n.\r\n"
}

// Close ends the message, puts more behind it and flushes.
func (d *dotWriter) Close(more []byte) error {
	if _, err := d.w.WriteString(d.end()); err != nil {
		return err
	}
	if _, err := d.w.Write(more); err != nil {
		return err
	}
	return d.w.Flush()
}
