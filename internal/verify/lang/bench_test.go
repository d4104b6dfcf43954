package lang_test

import (
	"math/rand/v2"
	"testing"

	"postern.dev/postern/internal/verify/lang"
)

// benchmarkFind measures the first question about conditions, compiling them, and
// one about conditions that are known.
func benchmarkFind(b *testing.B, want lang.Result, o lang.Options, lits func() []lang.Lit) {
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, r := lang.Find(lits(), o); r != want {
				b.Fatal(r)
			}
		}
	})
	b.Run("warm", func(b *testing.B) {
		all := lits()
		b.ReportAllocs()
		for b.Loop() {
			if _, r := lang.Find(all, o); r != want {
				b.Fatal(r)
			}
		}
	})
}

func BenchmarkImplication(b *testing.B) {
	benchmarkFind(b, lang.None, lang.Options{}, func() []lang.Lit {
		return []lang.Lit{yes(match(b, `(?i)@aol\.com$`)), no(match(b, `(?i)@aol\.`))}
	})
}

func BenchmarkDomainSyntax(b *testing.B) {
	syntax := `^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$`
	benchmarkFind(b, lang.None, lang.Options{}, func() []lang.Lit {
		return []lang.Lit{yes(match(b, syntax)), yes(match(b, `\.corp\.example$`)), no(match(b, `(^|\.)example$`))}
	})
}

func BenchmarkDomainShape(b *testing.B) {
	shape := lang.DomainShape()
	benchmarkFind(b, lang.None, lang.Options{Shape: []lang.Cond{shape}}, func() []lang.Lit {
		return []lang.Lit{yes(match(b, `\.corp\.example$`)), no(match(b, `(^|\.)example$`))}
	})
}

func BenchmarkBounceVERP(b *testing.B) {
	benchmarkFind(b, lang.Found, lang.Options{}, func() []lang.Lit {
		return []lang.Lit{yes(match(b, `^bounce-[0-9]+-[a-z]+=[a-z.]+$`)), no(match(b, `^bounce-1`)), yes(lang.Suffix(".com"))}
	})
}

func BenchmarkUnicode(b *testing.B) {
	benchmarkFind(b, lang.Found, lang.Options{}, func() []lang.Lit {
		return []lang.Lit{yes(match(b, `^\pL+ \p{Greek}+$`)), no(match(b, `(?i)[\p{Lu}k]`)), yes(lang.Glob("*??????"))}
	})
}

// BenchmarkExponential is the family of which facts report 2.0 s for 24,576 states.
func BenchmarkExponential(b *testing.B) {
	benchmarkFind(b, lang.Unknown, lang.Options{}, func() []lang.Lit {
		return []lang.Lit{yes(match(b, `^[ab]*a[ab]{24}$`)), yes(match(b, `^[ab]*b[ab]{24}$`))}
	})
}

func BenchmarkCore(b *testing.B) {
	lits := []lang.Lit{no(match(b, `^x`)), yes(match(b, `(?i)@aol\.com$`)), yes(lang.Glob("*o*")), no(match(b, `(?i)@aol\.`)), no(lang.Equal("a@aol.com"))}
	b.ReportAllocs()
	for b.Loop() {
		if core := lang.Core(lits, lang.Options{}); len(core) != 2 {
			b.Fatal(core)
		}
	}
}

// BenchmarkRandomPair is the average over pairs as the tests draw them, compiled
// anew each time.
func BenchmarkRandomPair(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 7))
	all := make([]string, 0, 4000)
	for len(all) < cap(all) {
		re := expression(r, 3)
		if _, err := lang.Match(re); err == nil {
			all = append(all, re)
		}
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		lang.Find([]lang.Lit{{Cond: match(b, all[i]), Neg: i%4 == 0}, {Cond: match(b, all[i+1]), Neg: i%3 == 0}}, lang.Options{})
		i = (i + 2) % len(all)
	}
}
