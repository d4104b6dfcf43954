package mailauth_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"postern.dev/postern/internal/mailauth"
	"postern.dev/postern/internal/smtp"
)

var ctx = context.Background()

// zone is a DNS: "TXT name" and so on to its answers. A name that is not there does
// not exist; "fails" is a server that does not answer.
type zone map[string][]string

func (z zone) ask(kind, name string) ([]string, error) {
	all, ok := z[kind+" "+strings.ToLower(strings.TrimSuffix(name, "."))]
	switch {
	case !ok:
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case slices.Equal(all, []string{"fails"}):
		return nil, &net.DNSError{Err: "timeout", Name: name, IsTemporary: true, IsTimeout: true}
	}
	return all, nil
}

func (z zone) LookupTXT(_ context.Context, name string) ([]string, error) { return z.ask("TXT", name) }

func (z zone) LookupMX(_ context.Context, name string) (out []*net.MX, err error) {
	all, err := z.ask("MX", name)
	for _, s := range all {
		out = append(out, &net.MX{Host: s})
	}
	return out, err
}

func (z zone) LookupIPAddr(_ context.Context, host string) (out []net.IPAddr, err error) {
	all, err := z.ask("A", host)
	for _, s := range all {
		out = append(out, net.IPAddr{IP: net.ParseIP(s)})
	}
	return out, err
}

func (z zone) LookupAddr(_ context.Context, addr string) ([]string, error) { return z.ask("PTR", addr) }

// key is a signing key and the record that publishes it.
func key(n byte) (ed25519.PrivateKey, string) {
	k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	return k, "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(k.Public().(ed25519.PublicKey))
}

// signed puts a signature of a domain before a message.
func signed(t testing.TB, msg, domain string) string {
	t.Helper()
	k, _ := key(1)
	var b bytes.Buffer
	o := &dkim.SignOptions{Domain: domain, Selector: "s", Signer: k, HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed}
	if err := dkim.Sign(&b, strings.NewReader(msg), o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const mail = "From: Ann <ann@news.acme.example>\r\nTo: bob@far.example\r\nSubject: s\r\n\r\nbody\r\n"

// world is a DNS with one of everything.
func world() zone {
	_, record := key(1)
	_, other := key(2)
	return zone{
		"TXT acme.example":                   {"other", "v=spf1 ip4:192.0.2.0/24 -all"},
		"TXT soft.example":                   {"v=spf1 ~all"},
		"TXT neutral.example":                {"v=spf1 ?all"},
		"TXT two.example":                    {"v=spf1 -all", "v=spf1 +all"},
		"TXT broken.example":                 {"v=spf1 ipv4:192.0.2.1 -all"},
		"TXT away.example":                   {"fails"},
		"TXT included.example":               {"v=spf1 include:acme.example -all"},
		"TXT endless.example":                {"v=spf1 include:endless.example -all"},
		"TXT helo.example":                   {"v=spf1 a -all"},
		"A helo.example":                     {"192.0.2.1"},
		"TXT xn--bcher-kva.example":          {"v=spf1 ip4:192.0.2.1 -all"},
		"TXT s._domainkey.acme.example":      {record},
		"TXT s._domainkey.news.acme.example": {record},
		"TXT s._domainkey.evil.example":      {record},
		"TXT s._domainkey.other.example":     {other},
		"TXT s._domainkey.revoked.example":   {"v=DKIM1; k=ed25519; p="},
		"TXT s._domainkey.away.example":      {"fails"},
		"TXT _dmarc.acme.example":            {"v=DMARC1; p=reject"},
		"TXT _dmarc.strict.example":          {"v=DMARC1; p=reject; aspf=s; adkim=s"},
		"TXT _dmarc.away.example":            {"fails"},
		"TXT _dmarc.broken.example":          {"v=DMARC1; p=perhaps"},
		"TXT strict.example":                 {"v=spf1 ip4:192.0.2.1 -all"},
		"TXT bounce.strict.example":          {"v=spf1 ip4:192.0.2.1 -all"},
		"TXT _dmarc.xn--bcher-kva.example":   {"v=DMARC1; p=reject"},
		"PTR 192.0.2.1":                      {"liar.example.", "Helo.example."},
		"PTR 192.0.2.2":                      {"helo.example."},
		"PTR 192.0.2.3":                      {"fails"},
		"A liar.example":                     {"192.0.2.99"},
		"A six.example":                      {"2001:db8::1"},
		"PTR 2001:db8::1":                    {"six.example"},
	}
}

func path(s string) smtp.Path {
	if s == "" {
		return smtp.Path{}
	}
	p, err := smtp.ParseMailbox(s)
	if err != nil {
		panic(err)
	}
	return p
}

func TestSPF(t *testing.T) {
	for _, c := range []struct{ name, peer, helo, from, want, domain string }{
		{"pass", "192.0.2.1", "x.example", "a@acme.example", "pass", "acme.example"},
		{"mapped address", "::ffff:192.0.2.1", "x.example", "a@acme.example", "pass", "acme.example"},
		{"spelt otherwise", "192.0.2.1", "x.example", "a@ACME.example.", "pass", "acme.example"},
		{"fail", "198.51.100.1", "x.example", "a@acme.example", "fail", "acme.example"},
		{"softfail", "192.0.2.1", "x.example", "a@soft.example", "softfail", "soft.example"},
		{"neutral", "192.0.2.1", "x.example", "a@neutral.example", "neutral", "neutral.example"},
		{"no record", "192.0.2.1", "x.example", "a@none.example", "none", "none.example"},
		{"two records", "192.0.2.1", "x.example", "a@two.example", "permerror", "two.example"},
		{"a record that is wrong", "192.0.2.1", "x.example", "a@broken.example", "permerror", "broken.example"},
		{"a record without end", "192.0.2.1", "x.example", "a@endless.example", "permerror", "endless.example"},
		{"the DNS is away", "192.0.2.1", "x.example", "a@away.example", "temperror", "away.example"},
		{"include", "192.0.2.1", "x.example", "a@included.example", "pass", "included.example"},
		{"IDN", "192.0.2.1", "x.example", "a@Bücher.example", "pass", "xn--bcher-kva.example"},
		{"null sender: HELO", "192.0.2.1", "helo.example", "", "pass", "helo.example"},
		{"null sender, another address", "192.0.2.2", "helo.example", "", "fail", "helo.example"},
		{"null sender, HELO a literal", "192.0.2.1", "[192.0.2.1]", "", "none", ""},
		{"null sender, HELO one word", "192.0.2.1", "localhost", "", "none", ""},
		{"null sender, no HELO", "192.0.2.1", "", "", "none", ""},
		{"another domain within quotes", "192.0.2.1", "x.example", `"a@acme.example"@soft.example`, "softfail", "soft.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := mailauth.Check(ctx, world(), mailauth.Message{Peer: netip.MustParseAddr(c.peer), Helo: c.helo, From: path(c.from), Raw: []byte(mail)})
			if r.SPF != c.want || r.SPFDomain != c.domain {
				t.Errorf("%s for %q, want %s for %q", r.SPF, r.SPFDomain, c.want, c.domain)
			}
		})
	}
}

func TestDKIM(t *testing.T) {
	ours := signed(t, mail, "acme.example")
	for _, c := range []struct{ name, raw, want, best string }{
		{"none", mail, "", "none"},
		{"pass", ours, "acme.example=pass", "pass"},
		{"body changed", strings.Replace(ours, "body\r\n", "Body\r\n", 1), "acme.example=fail", "fail"},
		{"header changed", strings.Replace(ours, "Subject: s", "Subject: t", 1), "acme.example=fail", "fail"},
		{"another key", signed(t, mail, "other.example"), "other.example=fail", "fail"},
		{"no key", signed(t, mail, "none.example"), "none.example=permerror", "permerror"},
		{"key revoked", signed(t, mail, "revoked.example"), "revoked.example=permerror", "permerror"},
		{"the DNS is away", signed(t, mail, "away.example"), "away.example=temperror", "temperror"},
		{"no signature at all", "DKIM-Signature: nonsense\r\n" + mail, "=permerror", "permerror"},
		{"domain in capitals", signed(t, mail, "ACME.example"), "acme.example=pass", "pass"},
		{"two, one good", signed(t, signed(t, mail, "acme.example"), "none.example"), "none.example=permerror acme.example=pass", "pass"},
		{"no header", "\r\nbody\r\n", "", "none"},
		{"nothing", "", "", "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := mailauth.Check(ctx, world(), mailauth.Message{Peer: netip.MustParseAddr("192.0.2.1"), From: path("a@x.example"), Raw: []byte(c.raw)})
			var got []string
			for _, s := range r.DKIM {
				got = append(got, s.Domain+"="+s.Result)
			}
			if strings.Join(got, " ") != c.want || r.BestDKIM() != c.best {
				t.Errorf("got %q, best %s", got, r.BestDKIM())
			}
		})
	}
}

// TestPublishedSignature verifies the example of RFC 8463, appendix A, which others
// have signed.
func TestPublishedSignature(t *testing.T) {
	z := zone{"TXT brisbane._domainkey.football.example.com": {"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}}
	raw := strings.ReplaceAll(`DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
`, "\n", "\r\n")
	r := mailauth.Check(ctx, z, mailauth.Message{Raw: []byte(raw)})
	if r.BestDKIM() != "pass" || r.DKIM[0].Domain != "football.example.com" {
		t.Errorf("got %+v", r)
	}
}

// TestRest: a body that does not stand in memory is hashed as it is read, for one
// signature and for two; one that cannot be read decides nothing and leaves nothing.
func TestRest(t *testing.T) {
	large := mail + strings.Repeat(strings.Repeat("x", 98)+"\r\n", 20_000)
	for _, raw := range []string{signed(t, large, "acme.example"), signed(t, signed(t, large, "acme.example"), "news.acme.example")} {
		cut := strings.Index(raw, "\r\n\r\n") + 10
		check := func(rest io.Reader) string {
			r := mailauth.Check(ctx, world(), mailauth.Message{Raw: []byte(raw[:cut]), Rest: rest})
			return r.BestDKIM()
		}
		if got := check(strings.NewReader(raw[cut:])); got != "pass" {
			t.Errorf("whole: %s", got)
		}
		if got := check(strings.NewReader(raw[cut : cut+1000])); got != "fail" {
			t.Errorf("cut off: %s", got)
		}
		n := runtime.NumGoroutine()
		if got := check(io.MultiReader(strings.NewReader(raw[cut:cut+1000]), broken{})); got != "temperror" {
			t.Errorf("broken off: %s", got)
		}
		for begin := time.Now(); runtime.NumGoroutine() > n; runtime.Gosched() {
			if time.Since(begin) > 5*time.Second {
				t.Fatal("goroutines stay behind")
			}
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("disk is away") }

func TestDMARC(t *testing.T) {
	from := func(s string) string {
		return strings.Replace(mail, "From: Ann <ann@news.acme.example>\r\n", s, 1)
	}
	for _, c := range []struct{ name, peer, sender, raw, want, domain string }{
		{"by SPF, of the organisation", "192.0.2.1", "a@acme.example", mail, "pass", "news.acme.example"},
		{"by SPF of somebody else", "192.0.2.1", "a@strict.example", mail, "fail", "news.acme.example"},
		{"SPF fails", "198.51.100.1", "a@acme.example", mail, "fail", "news.acme.example"},
		{"by DKIM", "198.51.100.1", "a@acme.example", signed(t, mail, "acme.example"), "pass", "news.acme.example"},
		{"by DKIM of somebody else", "198.51.100.1", "a@acme.example", signed(t, mail, "evil.example"), "fail", "news.acme.example"},
		{"a signature that fails", "198.51.100.1", "a@acme.example", signed(t, mail, "other.example"), "fail", "news.acme.example"},
		{"no policy", "192.0.2.1", "a@acme.example", from("From: a@none.example\r\n"), "none", "none.example"},
		{"no From", "192.0.2.1", "a@acme.example", from(""), "none", ""},
		{"a From without an address", "192.0.2.1", "a@acme.example", from("From: Ann\r\n"), "none", ""},
		{"the DNS is away", "192.0.2.1", "a@acme.example", from("From: a@away.example\r\n"), "temperror", "away.example"},
		{"a policy that is wrong", "192.0.2.1", "a@acme.example", from("From: a@broken.example\r\n"), "permerror", "broken.example"},
		{"strict, the same domain", "192.0.2.1", "a@strict.example", from("From: a@strict.example\r\n"), "pass", "strict.example"},
		{"strict, a subdomain", "192.0.2.1", "a@bounce.strict.example", from("From: a@strict.example\r\n"), "fail", "strict.example"},
		{"IDN in the header, A-label in the envelope", "192.0.2.1", "a@xn--bcher-kva.example", from("From: a@bücher.example\r\n"), "pass", "xn--bcher-kva.example"},
		{"two From fields", "192.0.2.1", "a@acme.example", from("From: a@acme.example\r\nFrom: ceo@victim.example\r\n"), "permerror", "acme.example"},
		{"two authors", "192.0.2.1", "a@acme.example", from("From: a@acme.example, ceo@victim.example\r\n"), "permerror", "acme.example"},
		{"two authors of one domain", "192.0.2.1", "a@acme.example", from("From: a@acme.example, b@acme.example\r\n"), "pass", "acme.example"},
		{"an address in the display name", "192.0.2.1", "a@acme.example", from("From: \"ceo@victim.example\" <a@acme.example>\r\n"), "pass", "acme.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := mailauth.Check(ctx, world(), mailauth.Message{Peer: netip.MustParseAddr(c.peer), Helo: "x.example", From: path(c.sender), Raw: []byte(c.raw)})
			if r.DMARC != c.want || r.From != c.domain {
				t.Errorf("%s for %q, want %s for %q: %+v", r.DMARC, r.From, c.want, c.domain, r)
			}
		})
	}
}

func TestVouchers(t *testing.T) {
	raw := signed(t, signed(t, mail, "acme.example"), "none.example")
	r := mailauth.Check(ctx, world(), mailauth.Message{Peer: netip.MustParseAddr("192.0.2.1"), From: path("a@strict.example"), Raw: []byte(raw)})
	if got := r.Vouchers(); !slices.Equal(got, []string{"acme.example", "strict.example"}) {
		t.Errorf("got %v", got)
	}
}

// TestManySignatures: work on a message made of signatures is bounded.
func TestManySignatures(t *testing.T) {
	one := signed(t, mail, "acme.example")
	field, _, _ := strings.Cut(one, "From: ")
	var asked atomic.Int32
	z := counting{world(), &asked}
	r := mailauth.Check(ctx, z, mailauth.Message{Raw: []byte(strings.Repeat(field, 500) + mail)})
	if len(r.DKIM) > 10 || asked.Load() > 15 || r.BestDKIM() != "pass" {
		t.Errorf("%d signatures, %d questions, %s", len(r.DKIM), asked.Load(), r.BestDKIM())
	}
}

// counting counts the questions for TXT, which DKIM asks from several goroutines.
type counting struct {
	zone
	n *atomic.Int32
}

func (c counting) LookupTXT(ctx context.Context, name string) ([]string, error) {
	c.n.Add(1)
	return c.zone.LookupTXT(ctx, name)
}

func TestReverseName(t *testing.T) {
	z := world()
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("n%d.example", i))
		z[fmt.Sprintf("A n%d.example", i)] = []string{"192.0.2.98"}
	}
	z["PTR 192.0.2.4"] = many
	z["A n99.example"] = []string{"192.0.2.4"}
	for _, c := range []struct{ name, addr, want string }{
		{"the second resolves back", "192.0.2.1", "helo.example"},
		{"mapped", "::ffff:192.0.2.1", "helo.example"},
		{"none resolves back", "192.0.2.2", ""},
		{"the DNS is away", "192.0.2.3", ""},
		{"no name", "192.0.2.5", ""},
		{"IPv6", "2001:db8::1", "six.example"},
		{"more names than are tried", "192.0.2.4", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := mailauth.ReverseName(ctx, z, netip.MustParseAddr(c.addr)); got != c.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestOrganisational(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"a.b.example.com", "example.com"}, {"example.co.uk", "example.co.uk"}, {"a.example.co.uk", "example.co.uk"}, {"co.uk", "co.uk"}, {"localhost", "localhost"}, {"", ""},
	} {
		if got := mailauth.Organisational(c.in); got != c.want {
			t.Errorf("%q gives %q", c.in, got)
		}
	}
}

// FuzzCheck authenticates anything: it ends, with words of RFC 8601 only.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(mail), "a@acme.example", "helo.example")
	f.Add([]byte(signed(f, mail, "acme.example")), "", "x")
	f.Add([]byte("DKIM-Signature: v=1; a=; d=; s=\r\nFrom: <@>,\r\n\r\n"), `"a@b"@acme.example`, "[")
	words := []string{"none", "pass", "fail", "softfail", "neutral", "temperror", "permerror"}
	f.Fuzz(func(t *testing.T, raw []byte, from, helo string) {
		p, err := smtp.ParseMailbox(from)
		if err != nil {
			p = smtp.Path{}
		}
		r := mailauth.Check(ctx, world(), mailauth.Message{Peer: netip.MustParseAddr("192.0.2.1"), Helo: helo, From: p, Raw: raw})
		for _, w := range []string{r.SPF, r.BestDKIM(), r.DMARC} {
			if !slices.Contains(words, w) {
				t.Fatalf("%q is no result", w)
			}
		}
	})
}
