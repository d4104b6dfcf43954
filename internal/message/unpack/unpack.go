// Package unpack finds the documents in a mail or a file: reports that are attached,
// packed with gzip or zip, or bare. It goes by what the octets are and not by what they
// are called, and never unpacks more than it is told. It is pure.
package unpack

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"postern.dev/postern/internal/message"
)

// ErrTooLarge tells that the documents exceed the limits.
var ErrTooLarge = errors.New("documents too large")

// ErrNone tells that there is no document.
var ErrNone = errors.New("no document found")

// Limits bound what is unpacked. Zero values take the default.
type Limits struct {
	Size      int // octets of all documents, unpacked; default 64 MiB
	Documents int // default 16
	Depth     int // packings within packings; default 2
}

func (l Limits) withDefaults() Limits {
	if l.Size <= 0 {
		l.Size = 64 << 20
	}
	if l.Documents <= 0 {
		l.Documents = 16
	}
	if l.Depth <= 0 {
		l.Depth = 2
	}
	return l
}

// Document is one of them, unpacked.
type Document struct {
	Name string // of the file, where it has one
	Body []byte
}

// Kinds of octets.
type kind int

const (
	other kind = iota
	gzipped
	zipped
	xmlText
	jsonText
)

// kindOf goes by the first octets.
func kindOf(b []byte) kind {
	switch {
	case bytes.HasPrefix(b, []byte("\x1f\x8b")):
		return gzipped
	case bytes.HasPrefix(b, []byte("PK\x03\x04")):
		return zipped
	}
	b = bytes.TrimLeft(bytes.TrimPrefix(b[:min(len(b), 200)], []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case bytes.HasPrefix(b, []byte("<?xml")), bytes.HasPrefix(b, []byte("<feedback")), bytes.HasPrefix(b, []byte("<!--")):
		return xmlText
	case bytes.HasPrefix(b, []byte("{")), bytes.HasPrefix(b, []byte("[")):
		return jsonText
	}
	return other
}

// Documents gives the XML and JSON documents of a mail, of a packed file, or the bare
// document itself. The error is nil, ErrNone, or tells why there is nothing to be had;
// with ErrTooLarge come the documents within the limits.
func Documents(raw []byte, l Limits) ([]Document, error) {
	u := unpacker{limits: l.withDefaults()}
	var err error
	if kindOf(raw) == other {
		err = u.mail(raw)
	} else {
		err = u.open("", raw, 0)
	}
	if err == nil && len(u.found) == 0 {
		err = ErrNone
	}
	return u.found, err
}

type unpacker struct {
	limits Limits
	size   int
	found  []Document
}

// mail looks at the leaves of a mail.
func (u *unpacker) mail(raw []byte) error {
	var last error
	err := message.Walk(raw, message.Limits{Decoded: u.limits.Size}, func(p *message.Part) error {
		if strings.HasPrefix(p.Type, "multipart/") || strings.HasPrefix(p.Type, "message/") {
			return nil
		}
		body := p.Decoded()
		if kindOf(body) == other {
			return nil
		}
		if err := u.open(p.Params["name"], body, 0); err != nil {
			last = err
			if errors.Is(err, ErrTooLarge) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("unpack mail: %w", err)
	}
	if len(u.found) == 0 {
		return last
	}
	return nil
}

// open takes a document, or what is packed.
func (u *unpacker) open(name string, b []byte, depth int) error {
	switch k := kindOf(b); {
	case k == xmlText || k == jsonText:
		return u.add(name, b)
	case k == other || depth >= u.limits.Depth:
		return nil
	case k == gzipped:
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return fmt.Errorf("unpack gzip: %w", err)
		}
		return u.read(strings.TrimSuffix(name, ".gz"), r, depth)
	default:
		return u.archive(b, depth)
	}
}

func (u *unpacker) archive(b []byte, depth int) error {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return fmt.Errorf("unpack zip: %w", err)
	}
	for _, f := range z.File {
		if len(u.found) >= u.limits.Documents {
			return ErrTooLarge
		}
		if f.FileInfo().IsDir() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return fmt.Errorf("unpack zip: %w", err)
		}
		err = u.read(f.Name, r, depth)
		_ = r.Close() // it was read only
		if err != nil {
			return err
		}
	}
	return nil
}

// read unpacks up to what is left of the limit. What breaks off in the middle is kept as
// far as it goes.
func (u *unpacker) read(name string, r io.Reader, depth int) error {
	left := u.limits.Size - u.size
	b, err := io.ReadAll(io.LimitReader(r, int64(left)+1))
	if len(b) > left {
		return ErrTooLarge
	}
	if err != nil && len(b) == 0 {
		return fmt.Errorf("unpack: %w", err)
	}
	return u.open(name, b, depth+1)
}

func (u *unpacker) add(name string, b []byte) error {
	if len(u.found) >= u.limits.Documents || u.size+len(b) > u.limits.Size {
		return ErrTooLarge
	}
	u.size += len(b)
	u.found = append(u.found, Document{name, b})
	return nil
}
