package unpack_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"strings"
	"testing"

	"postern.dev/postern/internal/message/unpack"
)

func gz(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s)) // into memory
	_ = w.Close()
	return b.String()
}

func zipped(files ...string) string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i+1 < len(files); i += 2 {
		if w, err := z.Create(files[i]); err == nil {
			_, _ = w.Write([]byte(files[i+1])) // into memory
		}
	}
	_ = z.Close()
	return b.String()
}

func TestDocuments(t *testing.T) {
	const doc = "<?xml version=\"1.0\"?><a/>"
	long := doc + strings.Repeat(" ", 2000)
	for _, c := range []struct {
		name, raw string
		limits    unpack.Limits
		names     string
		err       error
	}{
		{name: "bare XML", raw: doc, names: ","},
		{name: "bare JSON", raw: " {}", names: ","},
		{name: "gzip", raw: gz(doc), names: ","},
		{name: "gzip that breaks off", raw: gz(long)[:40], names: ","},
		{name: "zip with a folder", raw: zipped("d/", "", "d/a.xml", doc, "b.txt", "text"), names: "d/a.xml,"},
		{name: "gzip in gzip", raw: gz(gz(doc)), names: ","},
		{name: "too deep", raw: gz(gz(gz(doc))), err: unpack.ErrNone},
		{name: "mail", raw: "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; name=x\n\nhello\n--b\nContent-Type: a/b; name=y.xml\n\n" + doc + "\n--b--\n", names: "y.xml,"},
		{name: "mail of words", raw: "From: a@b.example\n\nhello", err: unpack.ErrNone},
		{name: "nothing", raw: "", err: unpack.ErrNone},
		{name: "no zip", raw: "PK\x03\x04 and no more", err: zip.ErrFormat},
		{name: "no gzip", raw: "\x1f\x8b and no more", err: gzip.ErrHeader},
		{name: "too large", raw: gz(long), limits: unpack.Limits{Size: 1000}, err: unpack.ErrTooLarge},
		{name: "too large bare", raw: long, limits: unpack.Limits{Size: 1000}, err: unpack.ErrTooLarge},
		{name: "too large in all", raw: zipped("a", long, "b", long), limits: unpack.Limits{Size: 3000}, names: "a,", err: unpack.ErrTooLarge},
		{name: "too many", raw: zipped("a", doc, "b", doc, "c", doc), limits: unpack.Limits{Documents: 2}, names: "a,b,", err: unpack.ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			docs, err := unpack.Documents([]byte(c.raw), c.limits)
			names := ""
			for _, d := range docs {
				names += d.Name + ","
			}
			if !errors.Is(err, c.err) || names != c.names {
				t.Errorf("got %q, %v", names, err)
			}
		})
	}
}
