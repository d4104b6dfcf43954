package smtp_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/pbkdf2"
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/smtp"
)

// certificate makes a server's TLS with a self-signed certificate.
func certificate(t testing.TB) *tls.Config {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"gw.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}}}
}

// line is a client that speaks line by line.
type line struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, addr string) *line {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return &line{t, c, bufio.NewReader(c)}
}

// say sends octets and gives the last line of the reply.
func (l *line) say(s string) string {
	l.t.Helper()
	if _, err := io.WriteString(l, s); err != nil {
		l.t.Fatal(err)
	}
	return l.hear()
}

func (l *line) hear() string {
	l.t.Helper()
	for {
		s, err := l.r.ReadString('\n')
		if err != nil {
			l.t.Fatalf("%q, %v", s, err)
		}
		if len(s) < 4 || s[3] != '-' {
			return strings.TrimSuffix(s, "\r\n")
		}
	}
}

// want says something and looks at the beginning of the reply.
func (l *line) want(s, reply string) {
	l.t.Helper()
	if got := l.say(s); !strings.HasPrefix(got, reply) {
		l.t.Fatalf("%q is answered %q, want %q", s, got, reply)
	}
}

func (l *line) tls() *line {
	l.t.Helper()
	c := tls.Client(l.Conn, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		l.t.Fatal(err)
	}
	return &line{l.t, c, bufio.NewReader(c)}
}

// users is one user's verifier.
type users map[string]smtp.Verifier

func (u users) Secret(name string) (smtp.Verifier, bool) { v, ok := u[name]; return v, ok }

// scramFinal makes a client's final message (RFC 5802, section 3) with nothing of the
// package under test.
func scramFinal(t testing.TB, password, gs2, bare, serverFirst string) (final string, signature []byte) {
	t.Helper()
	var salt, nonce string
	var iterations int
	for a := range strings.SplitSeq(serverFirst, ",") {
		switch a[:2] {
		case "r=":
			nonce = a[2:]
		case "s=":
			salt = a[2:]
		case "i=":
			if _, err := fmt.Sscan(a[2:], &iterations); err != nil {
				t.Fatal(err)
			}
		}
	}
	b, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		t.Fatal(err)
	}
	salted, err := pbkdf2.Key(sha256.New, password, b, iterations, 32)
	if err != nil {
		t.Fatal(err)
	}
	mac := func(key []byte, s string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s))
		return h.Sum(nil)
	}
	key := mac(salted, "Client Key")
	stored := sha256.Sum256(key)
	without := "c=" + base64.StdEncoding.EncodeToString([]byte(gs2)) + ",r=" + nonce
	message := bare + "," + serverFirst + "," + without
	for i, x := range mac(stored[:], message) {
		key[i] ^= x
	}
	return without + ",p=" + base64.StdEncoding.EncodeToString(key), mac(mac(salted, "Server Key"), message)
}

func TestScram(t *testing.T) {
	v, err := smtp.NewVerifier("pencil", []byte("0123456789abcdef"), 4096)
	if err != nil {
		t.Fatal(err)
	}
	addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: &recorder{}, TLS: certificate(t), ImplicitTLS: true,
		Credentials: users{"user": v, "a,b=c": v}, Limits: smtp.Limits{Errors: 100}})
	b64 := base64.StdEncoding.EncodeToString
	for _, c := range []struct {
		name, user, password, gs2 string
		change                    func(final string) string
		want                      string
	}{
		{name: "right", user: "user", password: "pencil", gs2: "n,,", want: "235 2.7.0"},
		{name: "client could bind channels", user: "user", password: "pencil", gs2: "y,,", want: "235 2.7.0"},
		{name: "name with comma and equals sign", user: "a=2Cb=3Dc", password: "pencil", gs2: "n,,", want: "235 2.7.0"},
		{name: "wrong password", user: "user", password: "Pencil", gs2: "n,,", want: "535 5.7.8"},
		{name: "unknown user", user: "nobody", password: "pencil", gs2: "n,,", want: "535 5.7.8"},
		{name: "nonce cut", user: "user", password: "pencil", gs2: "n,,", want: "535 5.7.8",
			change: func(s string) string { i := strings.Index(s, ",p="); return s[:i-1] + s[i:] }},
		{name: "another header than was said", user: "user", password: "pencil", gs2: "n,,", want: "535 5.7.8",
			change: func(s string) string { return strings.Replace(s, "c=biws", "c=eSws", 1) }},
		{name: "no proof", user: "user", password: "pencil", gs2: "n,,", want: "535 5.7.8",
			change: func(s string) string { return s[:strings.Index(s, ",p=")] }},
		{name: "channel binding asked for", user: "user", password: "pencil", gs2: "p=tls-unique,,", want: "501 5.5.2"},
		{name: "for somebody else", user: "user", password: "pencil", gs2: "n,a=other,", want: "501 5.5.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := dial(t, addr).tls()
			l.hear()
			l.want("EHLO c.example\r\n", "250 AUTH PLAIN SCRAM-SHA-256")
			bare := "n=" + c.user + ",r=fyko+d2lbbFgONRv9qkxdawL"
			first := l.say("AUTH SCRAM-SHA-256 " + b64([]byte(c.gs2+bare)) + "\r\n")
			text, ok := strings.CutPrefix(first, "334 ")
			if !ok {
				if !strings.HasPrefix(first, c.want) {
					t.Fatalf("got %q", first)
				}
				return
			}
			serverFirst, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			final, signature := scramFinal(t, c.password, c.gs2, bare, string(serverFirst))
			if c.change != nil {
				final = c.change(final)
			}
			got := l.say(b64([]byte(final)) + "\r\n")
			if strings.HasPrefix(c.want, "235") {
				if want := "334 " + b64([]byte("v="+b64(signature))); got != want {
					t.Fatalf("the server proves itself with %q, want %q", got, want)
				}
				got = l.say("\r\n")
			}
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestUnknownUserLooksLikeAny: the salt of a user that is not there stays the same.
func TestUnknownUserLooksLikeAny(t *testing.T) {
	addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: &recorder{}, TLS: certificate(t), ImplicitTLS: true, Credentials: users{}})
	salt := func(user string) string {
		l := dial(t, addr).tls()
		l.hear()
		l.say("EHLO c.example\r\n")
		text, _ := strings.CutPrefix(l.say("AUTH SCRAM-SHA-256 "+base64.StdEncoding.EncodeToString([]byte("n,,n="+user+",r=abc"))+"\r\n"), "334 ")
		b, _ := base64.StdEncoding.DecodeString(text)
		_, rest, _ := strings.Cut(string(b), ",s=")
		return rest
	}
	if a, b := salt("ghost"), salt("ghost"); a == "" || a != b {
		t.Errorf("%q and then %q", a, b)
	}
	if salt("ghost") == salt("spectre") {
		t.Error("two users have one salt")
	}
}

// peers is a backend that notes who comes.
type peers struct {
	discarding
	got chan netip.AddrPort
}

func (b peers) NewSession(_ context.Context, p *smtp.Peer) (smtp.Session, *smtp.Reply) {
	b.got <- p.Addr
	return b.discarding, nil
}

// TestProxyHeader reads the header in all its forms.
func TestProxyHeader(t *testing.T) {
	v2 := "\r\n\r\n\x00\r\nQUIT\n"
	v6 := strings.Repeat("\x00", 10) + "\xff\xff\xc0\x00\x02\x01"
	for _, c := range []struct{ name, header, want string }{
		{"TCP4", "PROXY TCP4 192.0.2.1 192.0.2.2 1000 25\r\n", "192.0.2.1:1000"},
		{"TCP6", "PROXY TCP6 2001:db8::1 2001:db8::2 1000 25\r\n", "[2001:db8::1]:1000"},
		{"unknown to the proxy", "PROXY UNKNOWN\r\n", "127.0.0.1"},
		{"unknown with addresses", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "127.0.0.1"},
		{"no CR", "PROXY TCP4 192.0.2.1 192.0.2.2 1000 25\n", ""},
		{"too few words", "PROXY TCP4 192.0.2.1\r\n", ""},
		{"another family", "PROXY TCP4 2001:db8::1 2001:db8::2 1000 25\r\n", ""},
		{"a zone", "PROXY TCP6 fe80::1%eth0 fe80::2 1000 25\r\n", ""},
		{"a port that is none", "PROXY TCP4 192.0.2.1 192.0.2.2 100000 25\r\n", ""},
		{"no end", "PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n", ""},
		{"something else", "EHLO c.example\r\n", ""},
		{"2, IPv4", v2 + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x03\xe8\x00\x19", "192.0.2.1:1000"},
		{"2, IPv4 with more behind", v2 + "\x21\x11\x00\x0f\xc0\x00\x02\x01\xc0\x00\x02\x02\x03\xe8\x00\x19\x04\x00\x00", "192.0.2.1:1000"},
		{"2, IPv4 in IPv6", v2 + "\x21\x21\x00\x24" + v6 + v6 + "\x03\xe8\x00\x19", "192.0.2.1:1000"},
		{"2, the proxy itself", v2 + "\x20\x00\x00\x00", "127.0.0.1"},
		{"2, no family", v2 + "\x21\x00\x00\x00", "127.0.0.1"},
		{"2, datagrams", v2 + "\x21\x12\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x03\xe8\x00\x19", ""},
		{"2, too short", v2 + "\x21\x11\x00\x04\xc0\x00\x02\x01", ""},
		{"2, too long", v2 + "\x21\x11\xff\xff" + strings.Repeat("\x00", 65535), ""},
		{"3", v2 + "\x31\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x03\xe8\x00\x19", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := peers{got: make(chan netip.AddrPort, 1)}
			addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: b, ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
			out := talk(t, addr, c.header, "QUIT\r\n")
			if c.want == "" {
				if out != "" || len(b.got) != 0 {
					t.Errorf("the session begins: %q", out)
				}
				return
			}
			if got := (<-b.got).String(); !strings.HasPrefix(got, c.want) || !strings.HasPrefix(out, "220 ") {
				t.Errorf("the client is %s, want %s; %q", got, c.want, out)
			}
		})
	}
}

// TestAddressesAreCounted: an IPv6 network of 64 bits counts as one address.
func TestAddressesAreCounted(t *testing.T) {
	addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: discarding{}, Limits: smtp.Limits{PerAddress: 2},
		ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	for _, c := range []struct{ from, want string }{
		{"2001:db8::1", "220 "}, {"2001:db8::2", "220 "}, {"2001:db8::3", "421 "}, {"2001:db8:0:1::1", "220 "},
		{"::ffff:192.0.2.1", "220 "}, {"::ffff:192.0.2.1", "220 "}, {"::ffff:192.0.2.1", "421 "}, {"::ffff:192.0.2.2", "220 "},
	} {
		dial(t, addr).want("PROXY TCP6 "+c.from+" 2001:db8::9 1000 25\r\n", c.want)
	}
}

// fussy is a backend whose sessions panic or answer oddly.
type fussy struct {
	discarding
	data func(io.Reader) *smtp.Reply
}

func (b fussy) NewSession(context.Context, *smtp.Peer) (smtp.Session, *smtp.Reply) { return b, nil }
func (b fussy) Data(_ context.Context, r io.Reader) *smtp.Reply                    { return b.data(r) }

// TestPanic: a session that panics ends, in DATA and in a chunk, and no other does.
func TestPanic(t *testing.T) {
	b := fussy{data: func(r io.Reader) *smtp.Reply {
		_, _ = r.Read(make([]byte, 1))
		panic("on purpose")
	}}
	addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: b})
	other := dial(t, addr)
	other.hear()
	start := "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
	if out := talk(t, addr, start+"DATA\r\nx\r\n.\r\n"); !strings.HasSuffix(out, "354 go ahead\r\n") {
		t.Errorf("DATA: %q", out)
	}
	if out := talk(t, addr, start+"BDAT 100000\r\n", strings.Repeat("01234567\r\n", 10000), "BDAT 0 LAST\r\n"); !strings.Contains(out, "421 4.3.0 internal error") {
		t.Errorf("BDAT: %q", out)
	}
	other.want("NOOP\r\n", "250 ")
}

// TestEarlyRefusal: a session may refuse before the end of data; the client gets its
// reply and the session stays in step.
func TestEarlyRefusal(t *testing.T) {
	b := fussy{data: func(io.Reader) *smtp.Reply {
		return &smtp.Reply{Code: 452, Enhanced: smtp.EnhancedCode{4, 3, 1}, Lines: []string{"full", "of \r\n control\x00s \u00e9 " + strings.Repeat("x", 2000)}}
	}}
	addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: b})
	start := "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
	for _, data := range []string{
		"DATA\r\n" + strings.Repeat("x\r\n.x\r\n", 50_000) + ".\r\n",
		"BDAT 200000\r\n" + strings.Repeat("xxxxxx\r\n", 25_000) + "BDAT 0 LAST\r\n",
	} {
		out := talk(t, addr, start+data+"NOOP\r\n")
		if !strings.Contains(out, "452-4.3.1 full\r\n452 4.3.1 of ?? control?s ? xxx") || !strings.HasSuffix(out, "x\r\n250 2.0.0 ok\r\n") {
			t.Errorf("got %.400q", out)
		}
		for l := range strings.Lines(out) {
			if len(l) > 512 {
				t.Errorf("a line of %d octets", len(l))
			}
		}
	}
}

// TestReplyBeforeReset: a client that is refused while it sends reads why.
func TestReplyBeforeReset(t *testing.T) {
	addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: discarding{}})
	for range 20 {
		l := dial(t, addr)
		l.hear()
		_, _ = io.WriteString(l, envelope+"bare\n"+strings.Repeat("x", 300_000))
		rest, err := io.ReadAll(l.r)
		if err != nil || !strings.HasSuffix(string(rest), "550 5.6.11 bare CR or LF\r\n") {
			t.Fatalf("%v, %q", err, rest)
		}
	}
}

// TestSessionEnds: a session as a whole has its time, however busy it is.
func TestSessionEnds(t *testing.T) {
	addr := listen(t, &smtp.Server{Hostname: "gw.example", Backend: discarding{}, Limits: smtp.Limits{Session: 200 * time.Millisecond}})
	l := dial(t, addr)
	l.hear()
	for got := ""; got != "421 timeout"; {
		if got = l.say("NOOP\r\n"); got != "250 ok" && got != "421 timeout" {
			t.Fatalf("got %q", got)
		}
	}
}
