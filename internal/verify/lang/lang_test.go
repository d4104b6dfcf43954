package lang_test

import (
	"testing"

	"postern.dev/postern/internal/verify/lang"
)

func match(t testing.TB, re string) lang.Cond {
	t.Helper()
	c, err := lang.Match(re)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func yes(c lang.Cond) lang.Lit { return lang.Lit{Cond: c} }
func no(c lang.Cond) lang.Lit  { return lang.Lit{Cond: c, Neg: true} }

func TestFind(t *testing.T) {
	re := func(s string) lang.Cond { return match(t, s) }
	shaped := func(c lang.Cond) lang.Options { return lang.Options{Shape: []lang.Cond{c}} }
	for _, c := range []struct {
		name string
		lits []lang.Lit
		o    lang.Options
		want string
		r    lang.Result
	}{
		{name: "nothing asked", r: lang.Found},
		{name: "one expression", lits: []lang.Lit{yes(re(`^a+$`)), no(re(`^a$`))}, want: "aa", r: lang.Found},
		{name: "implied", lits: []lang.Lit{yes(re(`(?i)@aol\.com$`)), no(re(`(?i)@aol\.`))}, r: lang.None},
		{name: "implied but for case", lits: []lang.Lit{yes(re(`(?i)@aol\.com$`)), no(re(`@aol\.`))}, want: "@aoL.com", r: lang.Found},
		{name: "domains", lits: []lang.Lit{yes(re(`\.corp\.example$`)), no(re(`(^|\.)example$`))}, o: shaped(lang.DomainShape()), r: lang.None},
		{name: "a domain", lits: []lang.Lit{yes(re(`\.corp\.example$`)), no(lang.Equal("a.corp.example"))}, o: shaped(lang.DomainShape()), want: "b.corp.example", r: lang.Found},
		{name: "bounce VERP", lits: []lang.Lit{yes(re(`^bounce-[0-9]+-[a-z]+=[a-z.]+$`)), no(re(`^bounce-1`)), yes(lang.Suffix(".com"))}, want: "bounce-0-a=.com", r: lang.Found},
		{name: "Kelvin", lits: []lang.Lit{yes(re(`(?i)^k$`)), no(re(`[kK]`))}, want: "\u212a", r: lang.Found},
		{name: "octets of a rune", lits: []lang.Lit{yes(lang.Glob("??")), yes(re(`^.$`)), no(re(`[\x00-\x7f]`))}, want: "é", r: lang.Found},
		{name: "stray octet", lits: []lang.Lit{yes(lang.Glob("?")), yes(re(`[^\x00-\x7f]`))}, want: "\xff", r: lang.Found},
		{name: "rune, not octet", lits: []lang.Lit{yes(re(`^[^\x00-\x7f]$`))}, want: "é", r: lang.Found},
		{name: "glob and suffix", lits: []lang.Lit{yes(lang.Glob("*.corp.example")), no(lang.Suffix(".example"))}, r: lang.None},
		{name: "one of", lits: []lang.Lit{yes(lang.OneOf("b", "a", "aol.com")), no(re(`^.$`))}, want: "aol.com", r: lang.Found},
		{name: "none of", lits: []lang.Lit{no(lang.OneOf("a", "b", "")), yes(re(`^[ab]?$`))}, r: lang.None},
	} {
		got, r := lang.Find(c.lits, c.o)
		if got != c.want || r != c.r {
			t.Errorf("%s: got %q, %s, want %q, %s", c.name, got, r, c.want, c.r)
		}
	}
}
