package suppress

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds a line of an import, in octets: an address has 320 at most.
const maxLine = 4 << 10

// lines reads a file line by line in bounded memory. A line that is too long is passed
// over and told of.
type lines struct {
	r      *bufio.Reader
	number int64
}

// newLines unpacks what begins like gzip.
func newLines(r io.Reader) (*lines, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	magic, err := br.Peek(2)
	if err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("read gzip: %w", err)
		}
		br = bufio.NewReaderSize(z, 256<<10)
	}
	if bom, err := br.Peek(3); err == nil && bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		_, _ = br.Discard(3)
	}
	return &lines{r: br}, nil
}

var errLong = fmt.Errorf("line has more than %d octets", maxLine)

// next gives a line without its end; errLong for one that is too long; io.EOF behind
// the last.
func (l *lines) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if len(line) == 0 && err != nil {
		return nil, err
	}
	l.number++
	long := len(line) > maxLine
	for errors.Is(err, bufio.ErrBufferFull) {
		long = true
		line, err = l.r.ReadSlice('\n')
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if long {
		return nil, errLong
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

var errQuote = errors.New("quote without its end")

// fields splits a line at a separator; quotes hold a field together and end on their
// line. It gives the fields in out, and the column of the octet each begins at, from 1.
func fields(line []byte, separator byte, out [][]byte, at []int) ([][]byte, []int, error) {
	for i := 0; ; i++ {
		at = append(at, i+1)
		var field []byte
		if i < len(line) && line[i] == '"' {
			end, quoted, ok := unquote(line[i:])
			if !ok {
				return out, at, errQuote
			}
			field, i = quoted, i+end
			if i < len(line) && line[i] != separator {
				return out, at, errQuote
			}
		} else {
			n := bytes.IndexByte(line[i:], separator)
			if n < 0 {
				n = len(line) - i
			}
			field, i = bytes.TrimSpace(line[i:i+n]), i+n
		}
		out = append(out, field)
		if i >= len(line) {
			return out, at, nil
		}
	}
}

// unquote reads a quoted field; two quotes within it are one.
func unquote(b []byte) (length int, field []byte, ok bool) {
	for i := 1; i < len(b); i++ {
		if b[i] != '"' {
			continue
		}
		if i+1 < len(b) && b[i+1] == '"' {
			i++
			continue
		}
		return i + 1, bytes.ReplaceAll(b[1:i], []byte(`""`), []byte(`"`)), true
	}
	return 0, nil, false
}
