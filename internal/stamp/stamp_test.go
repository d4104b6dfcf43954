package stamp_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/stamp"
)

// counter is a source of predictable octets.
type counter byte

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(*c)
		*c++
	}
	return len(p), nil
}

func ring(t testing.TB) *stamp.Ring {
	t.Helper()
	k, err := stamp.NewKey(3, time.Unix(1.7e9, 0), new(counter))
	if err != nil {
		t.Fatal(err)
	}
	r, err := stamp.NewRing([]stamp.Key{k})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func token() stamp.Token {
	return stamp.Token{Message: smtp.NewID(time.Unix(1.7e9, 0), [6]byte{1, 2, 3, 4, 5, 6}), Customer: stamp.CustomerTag("acme"), Recipient: 7}
}

// TestGolden keeps the format: stamps that are out in the world must verify for ever.
func TestGolden(t *testing.T) {
	const want = "4c0rqkz5d00020g30g2gchfxe6qg01y3fhppe05dbrvz8qzdt4"
	got := ring(t).Mint(token())
	if len(got) != stamp.Length {
		t.Errorf("%d characters, want %d", len(got), stamp.Length)
	}
	if got != want {
		t.Errorf("minted %s, want %s", got, want)
	}
}

func TestVerify(t *testing.T) {
	r := ring(t)
	s := r.Mint(token())
	other, err := r.Rotate(time.Unix(1.8e9, 0), new(counter))
	if err != nil {
		t.Fatal(err)
	}
	flipped := []byte(s)
	flipped[30] ^= 1
	for _, c := range []struct {
		name, s string
		want    error
	}{
		{"ours", s, nil},
		{"in upper case", strings.ToUpper(s), nil},
		{"short", s[1:], stamp.ErrNotStamp},
		{"other letters", strings.Repeat("u", 50), stamp.ErrNotStamp},
		{"one bit flipped", string(flipped), stamp.ErrForged},
		{"of a later key", other.Mint(token()), stamp.ErrUnknownKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := r.Verify(c.s)
			if !errors.Is(err, c.want) || (err == nil && got != token()) {
				t.Errorf("got %+v, %v, want %v", got, err, c.want)
			}
		})
	}
	if got, err := other.Verify(s); err != nil || got != token() {
		t.Errorf("after a rotation: %+v, %v", got, err)
	}
}

func TestKeyFileRoundTrip(t *testing.T) {
	r := ring(t)
	again, err := stamp.ParseKeys(bytes.NewReader(r.Format()))
	if err != nil {
		t.Fatal(err)
	}
	if again.Mint(token()) != r.Mint(token()) {
		t.Error("the ring read back mints other stamps")
	}
}

func TestKeyFileFaults(t *testing.T) {
	for in, want := range map[string]string{
		"":                                   "no key",
		"1 2026-01-01T00:00:00Z zz\n":        "line 1: key 1: the secret",
		"# x\n99 2026-01-01T00:00:00Z 00":    "line 2: key id",
		"1 yesterday 00":                     "not RFC 3339",
		"1":                                  "a key is",
		"1 2026-01-01T00:00:00Z 00 sometime": "a key is",
	} {
		if _, err := stamp.ParseKeys(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", in, err, want)
		}
	}
}

func TestReturnPath(t *testing.T) {
	s := ring(t).Mint(token())
	p := stamp.ReturnPath(s, "bounce.esp.example")
	if len(p.Local) > 64 {
		t.Errorf("local part of %d octets", len(p.Local))
	}
	for _, local := range []string{p.Local, strings.ToUpper(p.Local), "SRS0=abcd=XY=bounce.esp.example=" + p.Local, "prvs=0123456789=" + p.Local, p.Local + "+tag"} {
		if got, ok := stamp.FromReturnPath(local); !ok || got != s {
			t.Errorf("%s: got %q, %v", local, got, ok)
		}
	}
	for _, local := range []string{"user", "b-short", p.Local + "x"} {
		if got, ok := stamp.FromReturnPath(local); ok {
			t.Errorf("%s: got %q", local, got)
		}
	}
}

// FuzzVerify finds no string that verifies except what was minted.
func FuzzVerify(f *testing.F) {
	r := ring(f)
	f.Add(r.Mint(token()))
	f.Add(strings.Repeat("0", 50))
	f.Fuzz(func(t *testing.T, s string) {
		got, err := r.Verify(s)
		if err == nil && r.Mint(got) != strings.ToLower(s) {
			t.Fatalf("%q verifies as %+v", s, got)
		}
		for _, c := range stamp.Find(s) {
			if len(c) != stamp.Length {
				t.Fatalf("found %q", c)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	r := ring(b)
	s := r.Mint(token())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Verify(s); err != nil {
			b.Fatal(err)
		}
	}
}
