package stamp_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
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

func line(id int) string {
	return strconv.Itoa(id) + " 2026-01-01T00:00:00Z " + strings.Repeat("A", 52) + "\n"
}

func TestKeyFileFaults(t *testing.T) {
	for in, want := range map[string]string{
		"":                                   "no key",
		"1 2026-01-01T00:00:00Z zz\n":        "line 1: key 1: the secret",
		"# x\n99 2026-01-01T00:00:00Z 00":    "line 2: key id",
		"1 yesterday 00":                     "not RFC 3339",
		"1":                                  "a key is",
		line(1) + line(1):                    "line 2: key 1 stands twice",
		"x " + strings.Repeat("x", 1<<17):    "read keys",
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

func TestFromReturnPathRefuses(t *testing.T) {
	s := ring(t).Mint(token())
	for _, local := range []string{"", "b-", "job-" + s, s, "b-" + s[1:] + "u", "b-" + s[:49] + "-"} {
		if got, ok := stamp.FromReturnPath(local); ok {
			t.Errorf("%s: got %q", local, got)
		}
	}
	wrapped := "SRS1=hash=first.example==hash=tt=b-one.example=b-" + s
	if got, ok := stamp.FromReturnPath(wrapped); !ok || got != s {
		t.Errorf("wrapped twice: got %q, %v", got, ok)
	}
}

func TestFind(t *testing.T) {
	s := ring(t).Mint(token())
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"alone", s, []string{s}},
		{"in a Message-ID", "<" + s + "@esp.example>", []string{s}},
		{"in upper case", "<" + strings.ToUpper(s) + "@ESP.EXAMPLE>", []string{s}},
		{"in a return path", "b-" + s + "@bounce.esp.example", []string{s}},
		{"in a URL", "https://esp.example/u/" + s + "?x=1", []string{s}},
		{"behind an undecoded equals sign", "u?t=3D" + s + " ", []string{s}},
		{"behind a percent-encoding", "u?t%3D" + s + "%26", []string{s}},
		{"twice", s + " " + s, []string{s, s}},
		{"touching a letter", "x" + s, nil},
		{"touching a digit behind", s + "0", nil},
		{"of another version", "9" + s[1:], nil},
		{"with a letter of no stamp", s[:20] + "u" + s[21:], nil},
		{"with spare bits set", s[:49] + "5", nil},
		{"nothing", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := stamp.Find(c.text); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got := stamp.Find(strings.Repeat(s+" ", 1000)); len(got) != stamp.MaxFound {
		t.Errorf("found %d, want the bound %d", len(got), stamp.MaxFound)
	}
}

func TestRotate(t *testing.T) {
	r, now := ring(t), time.Unix(1.7e9, 0)
	var stamps []string
	for n := range 40 {
		stamps = append(stamps, r.Mint(token()))
		now = now.Add(-time.Hour) // a clock that runs backwards must not bring an old key back
		next, err := r.Rotate(now, rand.NewChaCha8([32]byte{byte(n)}))
		if err != nil {
			t.Fatal(err)
		}
		if next.Mint(token()) == stamps[n] {
			t.Fatalf("rotation %d: the old key mints on", n)
		}
		r = next
	}
	live := 0
	for _, k := range r.Keys() {
		if !k.Retired {
			live++
		}
	}
	if len(r.Keys()) != 32 || live != 1 {
		t.Errorf("%d keys, %d live; want 32 and 1", len(r.Keys()), live)
	}
	if again, err := stamp.ParseKeys(bytes.NewReader(r.Format())); err != nil || again.Mint(token()) != r.Mint(token()) {
		t.Errorf("the ring does not survive its file: %v", err)
	}
}

// TestCodeIsHMAC compares with the standard library.
func TestCodeIsHMAC(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		k, err := stamp.NewKey(uint8(rnd.IntN(32)), time.Unix(0, 0), rand.NewChaCha8([32]byte{byte(rnd.Uint32())}))
		if err != nil {
			t.Fatal(err)
		}
		r, err := stamp.NewRing([]stamp.Key{k})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding).
			DecodeString(r.Mint(stamp.Token{Customer: rnd.Uint32(), Recipient: uint16(rnd.Uint32())}))
		if err != nil {
			t.Fatal(err)
		}
		m := hmac.New(sha256.New, k.Secret)
		m.Write(raw[:19])
		if want := m.Sum(nil)[:12]; !bytes.Equal(raw[19:], want) {
			t.Fatalf("code %x, want %x", raw[19:], want)
		}
	}
}

// TestEveryBitCounts flips each bit of a stamp in turn.
func TestEveryBitCounts(t *testing.T) {
	r := ring(t)
	s := r.Mint(token())
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	for i := range s {
		for bit := range 5 {
			b := []byte(s)
			b[i] = alphabet[strings.IndexByte(alphabet, b[i])^(1<<bit)]
			if _, err := r.Verify(string(b)); err == nil {
				t.Fatalf("bit %d of character %d does not count", bit, i)
			}
		}
	}
}

func TestNewRingRefuses(t *testing.T) {
	good := stamp.Key{ID: 1, Secret: make([]byte, 32)}
	for name, keys := range map[string][]stamp.Key{
		"no key":       {},
		"all retired":  {{ID: 1, Secret: make([]byte, 32), Retired: true}},
		"short secret": {{ID: 1, Secret: make([]byte, 31)}},
		"id too high":  {{ID: 32, Secret: make([]byte, 32)}},
		"id twice":     {good, good},
	} {
		if _, err := stamp.NewRing(keys); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := stamp.NewKey(1, time.Now(), strings.NewReader("short")); err == nil {
		t.Error("a source that dries up made a key")
	}
}

// FuzzVerify finds no string that verifies except what was minted.
func FuzzVerify(f *testing.F) {
	r := ring(f)
	f.Add(r.Mint(token()))
	f.Add(strings.Repeat("0", 50))
	f.Add(strings.ToUpper(r.Mint(token())))
	f.Add("5" + r.Mint(token())[1:])
	f.Fuzz(func(t *testing.T, s string) {
		got, err := r.Verify(s)
		if err == nil && r.Mint(got) != strings.ToLower(s) {
			t.Fatalf("%q verifies as %+v", s, got)
		}
		if err != nil && !errors.Is(err, stamp.ErrNotStamp) && !errors.Is(err, stamp.ErrForged) && !errors.Is(err, stamp.ErrUnknownKey) {
			t.Fatalf("%q: %v", s, err)
		}
	})
}

// FuzzFind finds a stamp between any two texts that do not touch it, and nothing that
// has not the shape of one.
func FuzzFind(f *testing.F) {
	r := ring(f)
	s := r.Mint(token())
	f.Add("<", "@esp.example>")
	f.Add(s, strings.ToUpper(s))
	f.Add("b-", "+x")
	f.Add("%3", "")
	f.Fuzz(func(t *testing.T, before, after string) {
		found := stamp.Find(before + " " + strings.ToUpper(s) + "." + after)
		if len(found) < stamp.MaxFound && !slices.Contains(found, s) {
			t.Fatalf("not found between %q and %q", before, after)
		}
		for _, c := range found {
			if _, err := r.Verify(c); errors.Is(err, stamp.ErrNotStamp) {
				t.Fatalf("found %q, which has not the shape", c)
			}
		}
		if token, ok := stamp.FromReturnPath(before); ok && len(token) != stamp.Length {
			t.Fatalf("%q gives %q", before, token)
		}
	})
}

// FuzzParseKeys reads back what it formats.
func FuzzParseKeys(f *testing.F) {
	f.Add(string(ring(f).Format()))
	f.Add("1 2026-01-01T00:00:00Z " + strings.Repeat("ab", 32) + " retired\n2 2026-01-01T00:00:00Z " + strings.Repeat("A", 52))
	f.Fuzz(func(t *testing.T, s string) {
		r, err := stamp.ParseKeys(strings.NewReader(s))
		if err != nil {
			return
		}
		again, err := stamp.ParseKeys(bytes.NewReader(r.Format()))
		if err != nil || !bytes.Equal(again.Format(), r.Format()) {
			t.Fatalf("%q does not come back: %v", s, err)
		}
	})
}

func BenchmarkMint(b *testing.B) {
	r := ring(b)
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Mint(token())
	}
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
