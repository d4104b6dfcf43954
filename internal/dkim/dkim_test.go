package dkim_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"postern.dev/postern/internal/dkim"
)

// keys are made once: an RSA key takes its time.
var keys = sync.OnceValues(func() (rsa, ed *dkim.Key) {
	rsa, err := dkim.Generate(dkim.RSA, 2048, rand.Reader)
	if err != nil {
		panic(err)
	}
	ed, err = dkim.Generate(dkim.Ed25519, 0, rand.Reader)
	if err != nil {
		panic(err)
	}
	return rsa, ed
})

func key(a dkim.Algorithm) *dkim.Key {
	rsa, ed := keys()
	if a == dkim.RSA {
		return rsa
	}
	return ed
}

// zone answers for TXT records.
type zone map[string][]string

func (z zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	if r, ok := z[name]; ok {
		return r, nil
	}
	return nil, errors.New("no such name")
}

func signer(a dkim.Algorithm, header, body dkim.Canonicalization) *dkim.Signer {
	return &dkim.Signer{Domain: "acme.example", Selector: string(a[:3]), Key: key(a), Header: header, Body: body, Fields: dkim.StandardFields(), Oversign: dkim.StandardOversigned()}
}

func publish(t testing.TB) zone {
	z := zone{}
	for _, a := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
		r, err := key(a).Record()
		if err != nil {
			t.Fatal(err)
		}
		z[dkim.RecordName(string(a[:3]), "acme.example")] = []string{r}
	}
	return z
}

// sign signs a message given as fields and body, the body written in pieces.
func sign(t testing.TB, s *dkim.Signer, fields [][]byte, body []byte, r *mrand.Rand) []byte {
	t.Helper()
	h := dkim.NewBody(dkim.Simple, dkim.Relaxed)
	for rest := body; len(rest) > 0; {
		n := 1 + r.IntN(len(rest))
		if r.IntN(2) == 0 {
			n = min(n, 1+r.IntN(4))
		}
		_, _ = h.Write(rest[:n])
		rest = rest[n:]
	}
	sig, err := s.Sign(fields, h.Sum(s.Body), time.Unix(1764072000, 0))
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func verify(t testing.TB, z zone, message []byte) error {
	t.Helper()
	vs, err := msgauth.VerifyWithOptions(bytes.NewReader(message), &msgauth.VerifyOptions{LookupTXT: func(name string) ([]string, error) { return z.LookupTXT(t.Context(), name) }})
	if err != nil {
		return err
	}
	if len(vs) == 0 {
		return errors.New("no signature")
	}
	for _, v := range vs {
		if v.Err != nil {
			return v.Err
		}
	}
	return nil
}

func fieldsOf(lines ...string) (out [][]byte) {
	for _, l := range lines {
		out = append(out, []byte(l+"\r\n"))
	}
	return out
}

func bodies() map[string]string {
	return map[string]string{
		"empty": "", "one CRLF": "\r\n", "many CRLFs": strings.Repeat("\r\n", 3000), "no CRLF at the end": "text", "white space at the ends": "a \t \r\n\t b  c\r\n \r\n\t\r\n",
		"8bit": "gr\xc3\xbc\xc3\x9fe \xff\xfe\r\n", "long lines": strings.Repeat("x", 5000) + " " + strings.Repeat("y ", 2000) + "\r\n", "dots": ".\r\n..\r\n.x\r\n",
		"empty lines within": "a\r\n\r\n\r\n\r\nb\r\n\r\n\r\n", "only white space": " \t ", "a body": strings.Repeat("line of text\r\n", 5000),
		"long emptiness within": "a" + strings.Repeat("\r\n", 2000) + "b",
	}
}

// TestSignaturesVerify signs every body with every key in every form, and has another's
// code verify it; then changes the message, which must show.
func TestSignaturesVerify(t *testing.T) {
	r := mrand.New(mrand.NewPCG(1, 1))
	z := publish(t)
	fields := fieldsOf("Received: from x by y;\r\n\tWed, 25 Nov 2026 12:00:00 +0000", "From:  Acme\t<news@acme.example>  ", "To: ann@dest.example,\r\n bob@dest.example", "SUBJECT : =?utf-8?q?=C3=A4?= \r\n  folded ", "Date: Wed, 25 Nov 2026 12:00:00 +0000",
		"Message-ID: <1@acme.example>", "MIME-Version: 1.0", "X-Other: not signed", "List-Id: one", "List-Id: two")
	for name, body := range bodies() {
		for _, a := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
			for _, form := range []dkim.Canonicalization{dkim.Simple, dkim.Relaxed} {
				s := signer(a, form, form)
				sig := sign(t, s, fields, []byte(body), r)
				whole := append(append(append([]byte(nil), sig...), bytes.Join(fields, nil)...), "\r\n"+body...)
				if err := verify(t, z, whole); err != nil {
					t.Errorf("%s, %s, %s: %v\n%s", name, a, form, err, sig)
					continue
				}
				for what, bad := range map[string][]byte{
					"a changed body":             append(append([]byte(nil), whole...), "more\r\n"...),
					"a changed field":            bytes.Replace(whole, []byte("bob@dest"), []byte("eve@dest"), 1),
					"another From":               append([]byte("From: eve@evil.example\r\n"), whole...),
					"a field that was not there": append([]byte("Reply-To: eve@evil.example\r\n"), whole...),
				} {
					if verify(t, z, bad) == nil {
						t.Errorf("%s, %s, %s: %s does not show", name, a, form, what)
					}
				}
				if err := verify(t, z, bytes.Replace(whole, []byte("not signed"), []byte("changed"), 1)); err != nil {
					t.Errorf("%s: a change of an unsigned field: %v", name, err)
				}
			}
		}
	}
}

// TestSignatureFolds keeps every line within the limit, and each field whole.
func TestSignatureFolds(t *testing.T) {
	s := signer(dkim.RSA, dkim.Relaxed, dkim.Relaxed)
	s.Expire, s.Identity = time.Hour, "@news.acme.example"
	fields := fieldsOf("From: a@acme.example")
	sig := sign(t, s, fields, nil, mrand.New(mrand.NewPCG(1, 1)))
	for line := range strings.SplitSeq(strings.TrimSuffix(string(sig), "\r\n"), "\r\n") {
		if len(line) > 78 {
			t.Errorf("%d characters: %s", len(line), line)
		}
	}
	for _, tag := range []string{" x=1764075600;", " i=@news.acme.example;", "h=From:From:Sender"} {
		if want := tag != "h=From:From:Sender"; strings.Contains(string(sig), tag) != want {
			t.Errorf("%q in\n%s", tag, sig)
		}
	}
}

// FuzzBody holds the streamed hashes against another's code, whatever the body and the
// cuts.
func FuzzBody(f *testing.F) {
	for _, b := range bodies() {
		f.Add([]byte(b), uint64(1))
	}
	f.Fuzz(func(t *testing.T, body []byte, seed uint64) {
		if bytes.ContainsAny(bytes.ReplaceAll(body, []byte("\r\n"), nil), "\r\n") {
			t.Skip() // a bare CR or LF is not let in, and the other code repairs it
		}
		for _, form := range []dkim.Canonicalization{dkim.Simple, dkim.Relaxed} {
			r := mrand.New(mrand.NewPCG(seed, 1))
			h := dkim.NewBody(form)
			for rest := body; len(rest) > 0; {
				n := 1 + r.IntN(min(len(rest), 7))
				_, _ = h.Write(rest[:n])
				rest = rest[n:]
			}
			if got, want := base64.StdEncoding.EncodeToString(h.Sum(form)), oracle(t, body, form); got != want {
				t.Fatalf("%s of %q: %s, another says %s", form, body, got, want)
			}
		}
	})
}

// edKey signs for the oracle, which is only asked for its bh=.
func oracle(t testing.TB, body []byte, form dkim.Canonicalization) string {
	t.Helper()
	out := &bytes.Buffer{}
	msg := append([]byte("From: a@b.example\r\n\r\n"), body...)
	o := &msgauth.SignOptions{Domain: "b.example", Selector: "s", Signer: oracleKey(), HeaderCanonicalization: "relaxed", BodyCanonicalization: msgauth.Canonicalization(form)}
	if err := msgauth.Sign(out, bytes.NewReader(msg), o); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(out.String(), "bh=")
	bh, _, _ := strings.Cut(rest, ";")
	return strings.Join(strings.Fields(bh), "")
}

func TestSignable(t *testing.T) {
	for name, want := range map[string]bool{"Subject": true, "X-1_a.B": true, "X-1!#": false, "b=": false, "x=y": false, "": false, "a;b": false, "a:b": false, "a b": false, "a\r\nb": false, "\u00e9": false, "a\x7f": false} {
		if dkim.Signable(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// FuzzHeader signs any field that can be signed and has it verified.
func FuzzHeader(f *testing.F) {
	f.Add("Subject", " a\tb \r\n c")
	f.Add("sUBJECT ", "\r\n\t \r\n x")
	f.Add("b=", "0")
	f.Add("b", "=")
	f.Add("bh", " b=;")
	f.Fuzz(func(t *testing.T, name, value string) {
		field := name + ":" + value
		trimmed := strings.ReplaceAll(strings.ReplaceAll(field, "\r\n ", ""), "\r\n\t", "")
		if !dkim.Signable(name) || strings.ContainsAny(trimmed, "\r\n") || strings.HasSuffix(field, "\r") {
			t.Skip()
		}
		if strings.EqualFold(name, "dkim-signature") || strings.EqualFold(name, "from") {
			t.Skip()
		}
		for line := range strings.SplitSeq(value, "\r\n") {
			if strings.TrimSpace(line) == "" && strings.Contains(value, "\r\n") {
				t.Skip() // a line of white space only: readers differ on whether the header goes on
			}
		}
		z := publish(t)
		s := signer(dkim.Ed25519, dkim.Relaxed, dkim.Relaxed)
		s.Fields = []string{"From", name}
		fields := fieldsOf("From: a@acme.example", field)
		sig := sign(t, s, fields, []byte("x\r\n"), mrand.New(mrand.NewPCG(1, 1)))
		whole := append(append(append([]byte(nil), sig...), bytes.Join(fields, nil)...), "\r\nx\r\n"...)
		if err := verify(t, z, whole); err != nil {
			t.Fatalf("%q: %v\n%s", field, err, sig)
		}
	})
}

func TestParseKey(t *testing.T) {
	for _, a := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
		b, err := key(a).PEM()
		if err != nil {
			t.Fatal(err)
		}
		k, err := dkim.ParseKey(b)
		if err != nil || k.Algorithm != a {
			t.Fatalf("%s: %v", a, err)
		}
		if _, err := dkim.ParseKey(append(b, b...)); err == nil || !strings.Contains(err.Error(), "more than one") {
			t.Errorf("two keys: %v", err)
		}
	}
	for name, text := range map[string]string{"nothing": "", "a public key": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "noise": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "a key of elliptic curves": ecKey} {
		if _, err := dkim.ParseKey([]byte(text)); err == nil {
			t.Errorf("%s is taken for a key", name)
		}
	}
}

// TestPublished tells each fault of a record.
func TestPublished(t *testing.T) {
	rsa, ed := keys()
	record, _ := rsa.Record()
	other, _ := ed.Record()
	name := dkim.RecordName("s", "acme.example")
	for _, c := range []struct {
		what, want string
		records    []string
	}{
		{"as it is", "", []string{record}},
		{"with spaces and flags", "", []string{strings.Replace(record, "; p=", " ; t=s ; h=sha1:sha256 ; p= ", 1)}},
		{"without v= and k=", "", []string{strings.Replace(record, "v=DKIM1; k=rsa; ", "", 1)}},
		{"of another kind", "k=ed25519", []string{other}},
		{"revoked", "revoked", []string{"v=DKIM1; p="}},
		{"without a key", "no p=", []string{"v=DKIM1"}},
		{"with another key", "another key", []string{strings.Replace(record, "p=M", "p=N", 1)}},
		{"cut off", "not base64", []string{record[:len(record)-7]}},
		{"of SHA-1 only", "leaves out sha256", []string{record + "; h=sha1"}},
		{"of another version", "v=DKIM2", []string{"v=DKIM2; p=AAAA"}},
		{"twice", "2 TXT records", []string{record, record}},
		{"no list of tags", "no list", []string{"hello"}},
		{"none", "no TXT record", []string{}},
	} {
		err := rsa.Published(t.Context(), zone{name: c.records}, name)
		if (c.want == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), c.want) || !errors.Is(err, dkim.ErrNotPublished)) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if err := rsa.Published(t.Context(), zone{}, name); err == nil || errors.Is(err, dkim.ErrNotPublished) {
		t.Errorf("the DNS fails: %v", err)
	}
}

func BenchmarkSign(b *testing.B) {
	fields := fieldsOf("From: Acme <news@acme.example>", "To: ann@dest.example", "Subject: news", "Date: Wed, 25 Nov 2026 12:00:00 +0000", "Message-ID: <1@acme.example>", "MIME-Version: 1.0", "Content-Type: text/html; charset=utf-8")
	sum := make([]byte, 32)
	for _, a := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
		b.Run(string(a), func(b *testing.B) {
			s := signer(a, dkim.Relaxed, dkim.Relaxed)
			defer processor(b)()
			for b.Loop() {
				if _, err := s.Sign(fields, sum, time.Unix(1764072000, 0)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBody(b *testing.B) {
	body := bytes.Repeat([]byte("a line of text that is about as long as lines in mail are, sixty\r\n"), 1500)
	for _, f := range []dkim.Canonicalization{dkim.Simple, dkim.Relaxed} {
		b.Run(fmt.Sprint(f), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			defer processor(b)()
			for b.Loop() {
				h := dkim.NewBody(f)
				_, _ = h.Write(body)
				h.Sum(f)
			}
		})
	}
}
