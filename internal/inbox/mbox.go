package inbox

import (
	"bytes"

	"postern.dev/postern/internal/message"
)

// LooksLikeMail reports text that begins like a mail or an mbox: with a header that has
// a field or two that mail has.
func LooksLikeMail(head []byte) bool {
	if bytes.HasPrefix(head, []byte("From ")) {
		return true
	}
	fields, _ := message.ReadHeader(head)
	known := 0
	for _, name := range []string{"From", "To", "Subject", "Date", "Message-ID", "Received", "Return-Path", "MIME-Version", "Content-Type", "Delivered-To"} {
		if message.Get(fields, name) != "" {
			known++
		}
	}
	return known >= 2
}

// SplitMbox gives the mails of an mbox (RFC 4155), or the one mail that a text is. A
// mail begins with "From " at the start of a line behind an empty one; ">From " is given
// back its beginning as it was.
func SplitMbox(b []byte) (mails [][]byte) {
	if !bytes.HasPrefix(b, []byte("From ")) {
		if len(bytes.TrimSpace(b)) == 0 {
			return nil
		}
		return [][]byte{b}
	}
	for len(b) > 0 {
		_, rest, _ := bytes.Cut(b, []byte("\n"))
		end := separator(rest)
		if m := rest[:end]; len(bytes.TrimSpace(m)) > 0 {
			mails = append(mails, unquote(m))
		}
		b = rest[end:]
	}
	return mails
}

// separator finds where the next mail begins, or the end.
func separator(b []byte) int {
	from := 0
	for {
		i := bytes.Index(b[from:], []byte("\nFrom "))
		if i < 0 {
			return len(b)
		}
		at := from + i + 1
		line := b[:at-1]
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 || line[len(line)-1] == '\n' {
			return at
		}
		from = at
	}
}

// unquote takes one ">" off lines that begin with ">From ", whatever more stand before it
// (mboxrd).
func unquote(m []byte) []byte {
	if !bytes.Contains(m, []byte(">From ")) {
		return m
	}
	var out []byte
	for line := range bytes.Lines(m) {
		if line[0] == '>' && bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From ")) {
			line = line[1:]
		}
		out = append(out, line...)
	}
	return out
}
