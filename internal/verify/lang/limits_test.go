package lang_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"postern.dev/postern/internal/verify/lang"
)

// TestCapHolds asks for more states than the cap allows. The family needs 2^n.
func TestCapHolds(t *testing.T) {
	re := func(s string) lang.Cond { return match(t, s) }
	for _, c := range []struct {
		name string
		lits []lang.Lit
		want lang.Result
	}{
		{"two windows", []lang.Lit{yes(re(`^[ab]*a[ab]{24}$`)), yes(re(`^[ab]*b[ab]{24}$`))}, lang.Unknown},
		{"negated window", []lang.Lit{yes(re(`^[ab]{60}$`)), yes(re(`a[ab]{29}a`)), no(re(`a[ab]{28}[ab]`))}, lang.Unknown},
		{"globs", []lang.Lit{yes(lang.Glob("*a????????????????????????")), yes(re(`^[ab]+$`)), yes(re(`b[ab]{24}$`)), no(re(`a`))}, lang.None},
		{"counters", []lang.Lit{yes(re(`^(?:[ab]{7})+$`)), yes(re(`^(?:[ab]{11})+$`)), yes(re(`^(?:[ab]{13})+$`)), yes(re(`^(?:[ab]{17})+$`)), no(re(`^(?:[ab]{19})*$`)), no(re(`^(?:[ab]{23})*$`)), no(re(`^a`))}, lang.Found},
		{"a large expression", []lang.Lit{yes(re(`^(?:\pL{0,900}x)*y$`)), yes(re(`(?:\w{500}|\d{700})+z`)), no(re(`^[^q]*$`))}, lang.Unknown},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s, r := lang.Find(c.lits, lang.Options{MaxStates: 20_000})
		runtime.ReadMemStats(&after)
		used := (after.TotalAlloc - before.TotalAlloc) >> 20
		if r != c.want || used > 64 {
			t.Errorf("%s: %.40q, %s, %d MiB", c.name, s, r, used)
		}
	}
}

// TestGoLimits takes expressions as large and as deep as package syntax allows.
func TestGoLimits(t *testing.T) {
	deep := strings.Repeat("(", 480) + "a" + strings.Repeat(")*", 480)
	for _, c := range []struct{ name, re, want string }{
		{"a thousand", `^a{1000}$`, strings.Repeat("a", 1000)},
		{"nested", `^(?:(?:a{10}){10}){10}$`, strings.Repeat("a", 1000)},
		{"deep", "^" + deep + "b$", "b"},
		{"long literal", "^" + strings.Repeat("ab", 2000) + "$", strings.Repeat("ab", 2000)},
		{"many alternatives", "^(?:" + strings.Repeat("x|", 3000) + "a)$", "a"},
		{"every class", `^\pL\pN\pS\pP\pZ\pM\p{Greek}\p{Han}$`, ""},
		{"fold of all", `(?i)^[\pL&&]k$`, ""},
	} {
		x := match(t, c.re)
		s, r := lang.Find([]lang.Lit{yes(x)}, lang.Options{})
		if r != lang.Found || !x.Holds(s) || (c.want != "" && s != c.want) {
			t.Errorf("%s: %s, %.60q", c.name, r, s)
		}
	}
	if _, err := lang.Match("a{1001}"); err == nil {
		t.Error("a{1001} is beyond Go's limit")
	}
}

// TestNegatedMultitude leaves out a set of many thousands.
func TestNegatedMultitude(t *testing.T) {
	set := make([]string, 0, 20_000)
	for i := range cap(set) {
		set = append(set, fmt.Sprintf("d%05d.example", i))
	}
	all := lang.OneOf(set...)
	five := match(t, `^d[0-9]{5}\.example$`)
	if s, r := lang.Find([]lang.Lit{no(all), yes(five)}, lang.Options{}); r != lang.Found || s != "d20000.example" {
		t.Errorf("got %q, %s", s, r)
	}
	below := match(t, `^d[01][0-9]{4}\.example$`)
	if s, r := lang.Find([]lang.Lit{no(all), yes(below)}, lang.Options{MaxStates: 200_000}); r != lang.None {
		t.Errorf("got %q, %s", s, r)
	}
	if s, r := lang.Find([]lang.Lit{yes(all), no(below)}, lang.Options{}); r != lang.None {
		t.Errorf("got %q, %s", s, r)
	}
}
