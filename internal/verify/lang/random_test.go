package lang_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify/lang"
)

// pieces are what strings are made of where it matters: characters that fold to each
// other, U+FFFD beside octets that regexp reads as it, octets that make a character
// together, word and line boundaries, and characters of each length.
var pieces = []string{
	"a", "b", "k", "K", "\u212a", "s", "ſ", "i", "ı", "İ", "_", "0", " ", ".", "-", "\n", "\r", "\x00",
	"@", "\ufffd", "\x80", "\xff", "\xc3", "\xa9", "é", "\xe2\x82", "€", "\xf0\x9f", "😀", "\xed\xa0\x80", "\u0085", "Σ", "ς",
}

func word(r *rand.Rand, from []string, most int) string {
	var b strings.Builder
	for range r.IntN(most + 1) {
		b.WriteString(from[r.IntN(len(from))])
	}
	return b.String()
}

var atoms = []string{
	"a", "b", "k", "K", "s", "ſ", "\u212a", "@", "ı", "é", "€", "😀", "_", " ", "0", `\.`, "-", `\n`, `\x00`,
	".", `(?s:.)`, "[ab]", "[^a]", "[^ab\n]", `[a-k]`, `[[:^alpha:]]`, `\w`, `\W`, `\s`, `\S`, `\d`, `\pL`, `\PL`, `\p{Greek}`, `[\x{80}-\x{10ffff}]`,
	`\x{fffd}`, `[^\x{fffd}]`, `[\x{d7ff}-\x{e000}]`, `\x{d800}`, `[\x{d800}-\x{dbff}]`, `[^\x00-\x7f]`,
	"^", "$", `\A`, `\z`, `\b`, `\B`, "(?m:^)", "(?m:$)", "(?m:^$)", "", "ab", "ks",
}

// expression grows a regular expression.
func expression(r *rand.Rand, depth int) string {
	if depth == 0 || r.IntN(4) == 0 {
		return atoms[r.IntN(len(atoms))]
	}
	x, y := expression(r, depth-1), expression(r, depth-1)
	switch r.IntN(12) {
	case 0:
		return "(?:" + x + ")*"
	case 1:
		return "(?:" + x + ")+"
	case 2:
		return "(" + x + ")?"
	case 3:
		return fmt.Sprintf("(?:%s){%d,%d}", x, r.IntN(2), 1+r.IntN(3))
	case 4:
		return "(?i:" + x + ")"
	case 5, 6:
		return "(?:" + x + "|" + y + ")"
	case 7:
		return "^" + x
	case 8:
		return x + "$"
	case 9:
		return "^(?:" + x + y + ")$"
	}
	return x + y
}

// condition gives a random condition: an expression mostly.
func condition(r *rand.Rand) lang.Cond {
	from := pieces
	if r.IntN(4) > 0 {
		from = []string{"a", "b", "k", "é", "€", ".", "\ufffd", "\n", "@"}
	}
	switch r.IntN(14) {
	case 12:
		return lang.LocalOf(condition(r))
	case 13:
		return lang.DomainOf(condition(r))
	case 0:
		return lang.Suffix(word(r, from, 3))
	case 1:
		return lang.Prefix(word(r, from, 3))
	case 2:
		return lang.Equal(word(r, from, 3))
	case 3:
		set := make([]string, r.IntN(6))
		for i := range set {
			set[i] = word(r, from, 2)
		}
		return lang.OneOf(set...)
	case 4, 5:
		return lang.Glob(word(r, append([]string{"*", "?", "*", "?", "?"}, from...), 5))
	}
	for {
		if c, err := lang.Match(expression(r, 3)); err == nil {
			return c
		}
	}
}

// every calls fn with each string of up to n of the pieces, until it says stop.
func every(from []string, n int, fn func(string) bool) bool {
	var grow func(s string, n int) bool
	grow = func(s string, n int) bool {
		if !fn(s) {
			return false
		}
		for _, p := range from {
			if n > 0 && !grow(s+p, n-1) {
				return false
			}
		}
		return true
	}
	return grow("", n)
}

func holdAll(lits []lang.Lit, s string) bool {
	for _, l := range lits {
		if !l.Holds(s) {
			return false
		}
	}
	return true
}

// TestFindAgainstBruteForce draws conjunctions and looks for a string that Find says
// is not there, or that is better than the one it found.
func TestFindAgainstBruteForce(t *testing.T) {
	rounds := 1_000
	if os.Getenv("POSTERN_SOAK") != "" {
		rounds = 40_000
	}
	count := map[lang.Result]int{}
	for seed := range rounds {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		lits := make([]lang.Lit, 2, 4)
		if r.IntN(4) == 0 {
			lits = lits[:2+r.IntN(3)]
		}
		for i := range lits {
			lits[i] = lang.Lit{Cond: condition(r), Neg: r.IntN(2) == 0}
		}
		s, res := lang.Find(lits, lang.Options{})
		count[res]++
		if res == lang.Found && !holdAll(lits, s) {
			t.Fatalf("seed %d: %v: found %q, which is none", seed, lits, s)
		}
		if res == lang.Unknown && !inexact(lits) {
			t.Errorf("seed %d: %v: unknown", seed, lits)
		}
		some := make([]string, 6)
		for i := range some {
			some[i] = pieces[r.IntN(len(pieces))]
		}
		every(some, 4, func(w string) bool {
			if res == lang.Unknown || !holdAll(lits, w) || (res == lang.Found && !lang.Better(w, s)) {
				return true
			}
			t.Fatalf("seed %d: %v: %s %q, but there is %q", seed, lits, res, s, w)
			return false
		})
		checkCore(t, seed, lits, res)
	}
	t.Logf("%v", count)
	if count[lang.None] < rounds/10 || count[lang.Found] < rounds/4 || count[lang.Unknown] > rounds/20 {
		t.Errorf("one-sided: %v", count)
	}
}

func inexact(lits []lang.Lit) bool {
	for _, l := range lits {
		if _, exact := lang.Walk(l.Cond, ""); !exact {
			return true
		}
	}
	return false
}

// checkCore holds a core to its two promises.
func checkCore(t *testing.T, seed int, lits []lang.Lit, res lang.Result) {
	t.Helper()
	core := lang.Core(lits, lang.Options{})
	if (core != nil) != (res == lang.None) {
		t.Fatalf("seed %d: %v: %s, core %v", seed, lits, res, core)
	}
	if res != lang.None {
		return
	}
	pick := func(without int) []lang.Lit {
		var some []lang.Lit
		for k, i := range core {
			if k != without {
				some = append(some, lits[i])
			}
		}
		return some
	}
	if _, r := lang.Find(pick(-1), lang.Options{}); r != lang.None {
		t.Fatalf("seed %d: %v: core %v is not refuted: %s", seed, lits, core, r)
	}
	for k := range core {
		if _, r := lang.Find(pick(k), lang.Options{}); r == lang.None {
			t.Fatalf("seed %d: %v: core %v does not need %d", seed, lits, core, core[k])
		}
	}
}

// TestAutomataAgainstTheirConditions walks the automata along random strings.
func TestAutomataAgainstTheirConditions(t *testing.T) {
	walked := 0
	for seed := range 20_000 {
		r := rand.New(rand.NewPCG(uint64(seed), 8))
		c := condition(r)
		for range 20 {
			s := word(r, pieces, 6)
			holds, exact := lang.Walk(c, s)
			if !exact {
				break
			}
			walked++
			if holds != c.Holds(s) {
				t.Fatalf("seed %d: %s on %q: automaton %v", seed, c, s, holds)
			}
		}
	}
	if walked < 200_000 {
		t.Errorf("%d walks only", walked)
	}
}

// TestHoldsIsTheirMeaning compares Holds with what the gateway evaluates.
func TestHoldsIsTheirMeaning(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	some := []string{"a", "b", "*", "?", "é", "\xff", "\xa9"}
	for range 100_000 {
		p, s := word(r, some, 6), word(r, some, 6)
		if lang.Glob(p).Holds(s) != policy.Glob(p, s) {
			t.Fatalf("glob %q on %q", p, s)
		}
		if lang.Suffix(p).Holds(s) != strings.HasSuffix(s, p) || lang.Prefix(p).Holds(s) != strings.HasPrefix(s, p) {
			t.Fatalf("suffix or prefix %q on %q", p, s)
		}
		if lang.Equal(p).Holds(s) != (p == s) || lang.OneOf("a", p, "b").Holds(s) != (s == "a" || s == "b" || s == p) {
			t.Fatalf("equal or one of %q on %q", p, s)
		}
	}
}

// FuzzFind asks of Find what can be asked without a second solver.
func FuzzFind(f *testing.F) {
	f.Add(`(?i)@aol\.com$`, `@aol\.`, "*@*", "a@aol.com", byte(2))
	f.Add(`\bk\b`, `(?m)^.$`, "??", "\xe2\x84\xaa\n", byte(1))
	f.Add(`^\x{D800}a`, `\PL{3}`, "?\xa9*", "\ufffda", byte(0))
	f.Add(`(a|b)*a(a|b){6}$`, `[^\x{80}-\x{10ffff}]`, "*a??????", "é\xff", byte(6))
	f.Fuzz(func(t *testing.T, x, y, glob, s string, neg byte) {
		if len(x)+len(y)+len(glob) > 60 {
			return
		}
		a, err := lang.Match(x)
		if err != nil {
			return
		}
		b, err := lang.Match(y)
		if err != nil {
			return
		}
		lits := []lang.Lit{{Cond: a, Neg: neg&1 != 0}, {Cond: b, Neg: neg&2 != 0}, {Cond: lang.Glob(glob), Neg: neg&4 != 0}}
		got, r := lang.Find(lits, lang.Options{MaxStates: 2000})
		if r == lang.Found && !holdAll(lits, got) {
			t.Fatalf("%v: found %q, which is none", lits, got)
		}
		if holdAll(lits, s) && (r == lang.None || r == lang.Found && lang.Better(s, got)) {
			t.Fatalf("%v: %s %q, but there is %q", lits, r, got, s)
		}
		for _, l := range lits {
			if holds, exact := lang.Walk(l.Cond, s); exact && holds != l.Cond.Holds(s) {
				t.Fatalf("%s on %q: automaton %v", l.Cond, s, holds)
			}
		}
	})
}

// TestSurrogatesAreLeftToRegexp pins why a literal surrogate has no exact automaton:
// no string holds one, and yet regexp matches.
func TestSurrogatesAreLeftToRegexp(t *testing.T) {
	c := match(t, `^\x{d800}x`)
	if _, exact := lang.Walk(c, ""); exact {
		t.Error("taken for exact")
	}
	if !regexp.MustCompile(`^\x{d800}x`).MatchString("\ufffdx") {
		t.Skip("regexp is mended")
	}
	if s, r := lang.Find([]lang.Lit{yes(c)}, lang.Options{}); r == lang.None || r == lang.Found && !c.Holds(s) {
		t.Errorf("got %q, %s", s, r)
	}
}
