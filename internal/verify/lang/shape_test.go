package lang_test

import (
	"math/rand/v2"
	"testing"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/verify/lang"
)

// TestShapesHoldOnWhatIsNormal normalises random paths: a shape that leaves out what
// can come would make the prover blind to it.
func TestShapesHoldOnWhatIsNormal(t *testing.T) {
	var k lang.Compiler
	r := rand.New(rand.NewPCG(5, 11))
	some := []string{"a", "B", "xn--", "ü", "Ü", "ß", ".", ".", "-", "_", "0", "9", "。", "ａ", "İ", "\u212a", "@", "%", "!", `"`, `\`, ":", "\t", "\u0085", " "}
	literals := []string{"[192.0.2.1]", "[IPv6:2001:DB8::1]", "[ipv6:::ffff:192.0.2.1]", "[IPv6:64:ff9b::192.0.2.1]", "[::1]"}
	normal := 0
	for range 100_000 {
		p := smtp.Path{Local: word(r, some, 5), Domain: word(r, some, 7)}
		if r.IntN(10) == 0 {
			p.Domain = literals[r.IntN(len(literals))]
		}
		if parsed, err := smtp.ParseMailbox(p.String()); err == nil && r.IntN(2) == 0 {
			p = parsed
		}
		a, err := policy.Normalise(p)
		if err != nil {
			continue
		}
		normal++
		if !k.DomainShape().Holds(a.Domain) || !k.LocalShape().Holds(a.Local) || !k.AddressShape().Holds(a.String()) {
			t.Fatalf("%+v is normal and has not its shape", a)
		}
	}
	if normal < 5_000 {
		t.Errorf("%d normal paths only", normal)
	}
}

func TestShapes(t *testing.T) {
	for _, c := range []struct {
		name  string
		shape lang.Cond
		not   []string
		holds []string
	}{
		{"domain", lang.DomainShape(), []string{".", "a.", ".a", "a..b", "A.example", "a b", "ü.example", "a@b", "a\n"}, []string{"", "a", "a.example", "_dmarc.a-b.example", "[192.0.2.1]", "[ipv6:2001:db8::1]"}},
		{"local", lang.LocalShape(), []string{"A", "a\n", "a\rb"}, []string{"", "a", `a b"c`, "é@", "a%b"}},
		{"address", lang.AddressShape(), []string{"a", "a@", "a@B"}, []string{"", "a@b", "@b", "a@b@c.example", "a@[192.0.2.1]"}},
		{"header value", lang.HeaderValueShape(), []string{" a", "a ", "\ta", "a\nb", "a\r", "\x00", "\u00a0"}, []string{"", "a", "é", "a b", "a\tb", "\xff \xff"}},
	} {
		for _, s := range c.not {
			if c.shape.Holds(s) {
				t.Errorf("%s holds on %q", c.name, s)
			}
		}
		for _, s := range c.holds {
			if !c.shape.Holds(s) {
				t.Errorf("%s does not hold on %q", c.name, s)
			}
		}
	}
}
