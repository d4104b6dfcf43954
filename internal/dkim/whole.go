package dkim

import (
	"bytes"
	"strings"
	"time"
)

// SignWhole signs a message that is all in memory, with CRLF line ends. It gives the
// DKIM-Signature fields, in the order of the signers, to put before it.
func SignWhole(message []byte, now time.Time, signers ...*Signer) (fields [][]byte, err error) {
	header, body, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	var forms []Canonicalization
	for _, s := range signers {
		forms = append(forms, s.Body)
	}
	hash := NewBody(forms...)
	_, _ = hash.Write(body)
	lines := split(append(bytes.Clone(header), "\r\n"...))
	sums := map[Canonicalization][]byte{}
	for _, s := range signers {
		if sums[s.Body] == nil {
			sums[s.Body] = hash.Sum(s.Body)
		}
		f, err := s.Sign(lines, sums[s.Body], now)
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// split cuts a header into its fields, each with its continuation lines.
func split(header []byte) (fields [][]byte) {
	for line := range bytes.Lines(header) {
		if n := len(fields); n > 0 && (line[0] == ' ' || line[0] == '\t') {
			fields[n-1] = append(fields[n-1], line...)
			continue
		}
		fields = append(fields, bytes.Clone(line))
	}
	return fields
}

// Mark gives the b= of a field that Sign has made: what the ledger knows a signature by.
func Mark(field []byte) string {
	_, b, _ := strings.Cut(string(field), "\tb=")
	return strings.NewReplacer("\r", "", "\n", "", "\t", "", " ", "").Replace(b)
}
