package message

import (
	"fmt"
	"io"
	"mime"
	"strings"

	"golang.org/x/text/encoding/htmlindex"
)

// DecodeWords gives a header's value with its encoded-words (RFC 2047) read: UTF-8. A
// word in an unknown character set or encoding stays as it stands.
func DecodeWords(value string) string {
	if !strings.Contains(value, "=?") {
		return value
	}
	d := mime.WordDecoder{CharsetReader: charsetReader}
	out, err := d.DecodeHeader(value)
	if err != nil {
		return value
	}
	return out
}

// charsetReader reads a character set by the name that the web knows it by.
func charsetReader(charset string, r io.Reader) (io.Reader, error) {
	e, err := htmlindex.Get(charset)
	if err != nil {
		return nil, fmt.Errorf("character set %q: %w", charset, err)
	}
	return e.NewDecoder().Reader(r), nil
}
