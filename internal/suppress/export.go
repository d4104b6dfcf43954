package suppress

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"
)

// Export writes the entries that a query chooses as CSV, in a form that Import reads. An
// address of which only the hash is kept stands as "hash:KEY:DIGITS". It gives how many
// there were.
func (s *Store) Export(ctx context.Context, w io.Writer, q Query) (int64, error) {
	bw := bufio.NewWriterSize(w, 256<<10)
	_, _ = bw.WriteString("address,customer,reason,detail,created,expires,source\n")
	var n int64
	var row []byte
	err := s.Walk(ctx, q, func(e *Entry) (bool, error) {
		n++
		row = row[:0]
		for i, f := range [...]string{s.Shown(e), e.Customer, e.Reason.String(), e.Detail, date(e.Created), date(e.Expires), e.Source} {
			if i > 0 {
				row = append(row, ',')
			}
			row = quote(row, f)
		}
		_, err := bw.Write(append(row, '\n'))
		return true, err
	})
	if err == nil {
		err = bw.Flush()
	}
	if err != nil {
		return n, fmt.Errorf("export suppression list: %w", err)
	}
	return n, nil
}

// Shown gives the entry's address, or its hash where that is all there is.
func (s *Store) Shown(e *Entry) string {
	if e.Address != "" {
		return e.Address
	}
	return "hash:" + s.secret.id() + ":" + hex.EncodeToString(e.Hash[:])
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// quote appends a field, in quotes where it needs them; a line stays a line.
func quote(b []byte, f string) []byte {
	if !strings.ContainsAny(f, ",;\t\"\r\n") {
		return append(b, f...)
	}
	b = append(b, '"')
	for i := range len(f) {
		switch c := f[i]; c {
		case '"':
			b = append(b, '"', '"')
		case '\r', '\n':
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
