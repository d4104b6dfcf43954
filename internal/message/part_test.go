package message_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime/quotedprintable"
	"slices"
	"strings"
	"testing"

	gomessage "github.com/emersion/go-message"

	"postern.dev/postern/internal/message"
)

func TestContentType(t *testing.T) {
	for _, c := range []struct {
		in, kind string
		params   map[string]string
	}{
		{`text/plain`, "text/plain", nil},
		{`TEXT/Plain; Charset=US-ASCII`, "text/plain", map[string]string{"charset": "US-ASCII"}},
		{`multipart/report; report-type="feedback-report"; boundary="a;b=c"`, "multipart/report", map[string]string{"report-type": "feedback-report", "boundary": "a;b=c"}},
		{`multipart/mixed; boundary="a\"b\\c"`, "multipart/mixed", map[string]string{"boundary": `a"b\c`}},
		{`multipart/mixed; boundary="unclosed`, "multipart/mixed", map[string]string{"boundary": "unclosed"}},
		{`multipart/mixed;; boundary = x ; `, "multipart/mixed", map[string]string{"boundary": "x"}},
		{`multipart/mixed; boundary*0="ab"; boundary*1="cd"`, "multipart/mixed", map[string]string{"boundary": "abcd"}},
		{`multipart/mixed; boundary=a; boundary=b`, "multipart/mixed", map[string]string{"boundary": "a"}},
		{`text/plain (a comment)`, "text/plain", nil},
		{`text`, "", nil}, {`/`, "", nil}, {``, "", nil}, {`;boundary=x`, "", map[string]string{"boundary": "x"}},
	} {
		kind, params := message.ContentType(c.in)
		if kind != c.kind || !maps.Equal(params, c.params) {
			t.Errorf("%q: got %q, %q", c.in, kind, params)
		}
	}
}

func TestDecoded(t *testing.T) {
	for _, c := range []struct{ name, encoding, in, want string }{
		{"none", "7bit", "a=3Db", "a=3Db"},
		{"base64", "BASE64", "aGVs\r\nbG8=\r\n", "hello"},
		{"base64 with rubbish", "base64", "aG!!Vs bG-8=", "hello"},
		{"base64 in pieces", "base64", "aGVsbG8=\naGVsbG8=", "hellohello"},
		{"base64 without padding", "base64", "aGVsbG8", "hello"},
		{"base64 cut off", "base64", "aGVsb", "hel"},
		{"quoted-printable", "Quoted-Printable", "a=3Db=\r\nc =  \r\nd", "a=bc d"},
		{"broken escapes", "quoted-printable", "a=ZZ b= c=", "a=ZZ b= c"},
		{"lower-case escapes", "quoted-printable", "=c3=a4", "\u00e4"},
		{"unknown", "x-uuencode", "abc", "abc"},
	} {
		p := message.Open([]byte("Content-Transfer-Encoding: "+c.encoding+"\n\n"+c.in), message.Limits{})
		if got := string(p.Decoded()); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	p := message.Open([]byte("Content-Transfer-Encoding: base64\n\n"+strings.Repeat("AAAA", 1000)), message.Limits{Decoded: 100})
	if n := len(p.Decoded()); n != 100 {
		t.Errorf("%d octets, want the bound", n)
	}
	if n := len(p.Decoded()); n != 0 {
		t.Errorf("%d octets beyond the bound", n)
	}
}

// bodies gives the decoded leaves of a message.
func bodies(t *testing.T, msg []byte) (out []string) {
	t.Helper()
	if err := message.Walk(msg, message.Limits{}, func(p *message.Part) error {
		if len(p.Parts()) == 0 {
			out = append(out, p.Type+":"+string(p.Decoded()))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWalk(t *testing.T) {
	const head = "Content-Type: multipart/mixed; boundary=b\n\n"
	for _, c := range []struct {
		name, in string
		want     []string
	}{
		{"plain", "A: b\n\nx", []string{"text/plain:x"}},
		{"two parts", head + "preamble\n--b\n\none\n--b\nContent-Type: text/html\n\ntwo\n--b--\nepilogue", []string{"text/plain:one", "text/html:two"}},
		{"no closing boundary", head + "--b\n\none\n--b\n\ntwo\n", []string{"text/plain:one", "text/plain:two\n"}},
		{"white space behind the boundary", head + "--b \t\n\none\n--b--  \n", []string{"text/plain:one"}},
		{"a boundary that goes on", head + "--b\n\none\n--bb\n\ntwo\n--b--\n", []string{"text/plain:one\n--bb\n\ntwo"}},
		{"a boundary within a line", head + "--b\n\none --b\ntwo\n--b--\n", []string{"text/plain:one --b\ntwo"}},
		{"parts behind the closing boundary", head + "--b\n\none\n--b--\n--b\n\ntwo\n--b--\n", []string{"text/plain:one", "text/plain:two"}},
		{"no boundary said", "Content-Type: multipart/mixed\n\n--x1y2z3\nContent-Type: text/html\n\none\n--x1y2z3--\n", []string{"text/html:one"}},
		{"nothing in it", head + "only text", []string{"multipart/mixed:only text"}},
		{"digest", "Content-Type: multipart/digest; boundary=b\n\n--b\n\nA: b\n\none\n--b--\n", []string{"text/plain:one"}},
		{"message in a message", "Content-Type: message/rfc822\n\nContent-Type: text/html\n\none", []string{"text/html:one"}},
		{"message with an mbox line", "Content-Type: message/rfc822\n\n\n>From x\nContent-Type: text/html\n\none", []string{"text/html:one"}},
		{"encoded message", "Content-Type: message/global\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte("A: b\n\none")), []string{"text/plain:one"}},
		{"inner boundary not closed", "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\none\n--o\n\ntwo\n--o--\n", []string{"text/plain:one", "text/plain:two"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := bodies(t, []byte(c.in)); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWalkStops(t *testing.T) {
	msg := []byte("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nA: b\n\ninner\n--b\n\ntwo\n--b--\n")
	stop := errors.New("stop")
	var seen []string
	err := message.Walk(msg, message.Limits{}, func(p *message.Part) error {
		seen = append(seen, p.Type)
		if p.Type == "message/rfc822" {
			return message.ErrSkipPart
		}
		if len(seen) == 3 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || !slices.Equal(seen, []string{"multipart/mixed", "message/rfc822", "text/plain"}) {
		t.Errorf("saw %v, %v", seen, err)
	}
}

// mimeTree writes a random well-formed message.
func mimeTree(rnd *rand.Rand, b *bytes.Buffer, depth int) {
	switch n := rnd.IntN(6); {
	case n < 2 && depth < 4:
		boundary := fmt.Sprintf("=_%d_%x", depth, rnd.Uint64())
		fmt.Fprintf(b, "Content-Type: multipart/mixed;\r\n\tboundary=\"%s\"\r\n\r\npreamble\r\n", boundary)
		for range 1 + rnd.IntN(4) {
			fmt.Fprintf(b, "\r\n--%s\r\n", boundary)
			mimeTree(rnd, b, depth+1)
		}
		fmt.Fprintf(b, "\r\n--%s--\r\n", boundary)
	case n == 2:
		b.WriteString("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n")
		text := base64.StdEncoding.EncodeToString(octets(rnd))
		for ; len(text) > 76; text = text[76:] {
			b.WriteString(text[:76] + "\r\n")
		}
		b.WriteString(text)
	case n == 3:
		b.WriteString("Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
		w := quotedprintable.NewWriter(b)
		w.Binary = true
		_, _ = w.Write(octets(rnd))
		_ = w.Close()
	default:
		b.WriteString("X-Folded: one\r\n two\r\n\r\n")
		for range rnd.IntN(5) {
			b.WriteString("line of text -- with dashes\r\n--\r\n")
		}
		b.WriteString("end")
	}
}

func octets(rnd *rand.Rand) []byte {
	p := make([]byte, rnd.IntN(300))
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	return p
}

// TestWalkAgrees compares with another reader on well-formed mail.
func TestWalkAgrees(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 8))
	for n := range 500 {
		b := bytes.NewBufferString("From: a@b.example\r\nMIME-Version: 1.0\r\n")
		mimeTree(rnd, b, 0)
		e, err := gomessage.Read(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatalf("mail %d: the other reader: %v", n, err)
		}
		var want []string
		if err := e.Walk(func(_ []int, e *gomessage.Entity, err error) error {
			if err != nil && !gomessage.IsUnknownCharset(err) {
				return err
			}
			kind, _, _ := e.Header.ContentType()
			if kind == "" {
				kind = "text/plain"
			}
			if strings.HasPrefix(kind, "multipart/") {
				return nil
			}
			body, err := io.ReadAll(e.Body)
			want = append(want, kind+":"+string(body))
			return err
		}); err != nil {
			t.Fatalf("mail %d: the other reader: %v", n, err)
		}
		if got := bodies(t, b.Bytes()); !slices.Equal(got, want) {
			t.Fatalf("mail %d:\n%s\ngot  %q\nwant %q", n, b, got, want)
		}
	}
}

// FuzzWalk finds mail that breaks the walk or its bounds.
func FuzzWalk(f *testing.F) {
	for _, msg := range fixtures(f) {
		f.Add(msg)
	}
	l := message.Limits{Depth: 5, Parts: 20, Decoded: 1 << 16}
	f.Fuzz(func(t *testing.T, msg []byte) {
		parts, decoded := 0, 0
		if err := message.Walk(msg, l, func(p *message.Part) error {
			parts++
			if p.Depth >= l.Depth {
				t.Fatalf("depth %d", p.Depth)
			}
			if p.Header.Get("Content-Transfer-Encoding") != "" {
				if d := p.Decoded(); len(d) != len(p.Body) {
					decoded += len(d)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if parts > l.Parts || decoded > l.Decoded {
			t.Fatalf("%d parts, %d octets decoded", parts, decoded)
		}
	})
}
