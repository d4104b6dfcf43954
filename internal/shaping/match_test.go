package shaping

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// slow finds matching rules without the index.
func slow(rules []Rule, provider string, r *Reply) (out []int) {
	for i := range rules {
		x := &rules[i]
		text := r.Text
		if len(text) > maxText {
			text = text[:maxText]
		}
		if (len(x.Providers) == 0 || slices.Contains(x.Providers, provider)) && x.matchCode(r.Code) && x.matchRest(r, text) {
			out = append(out, i)
		}
	}
	return out
}

func fast(m *matcher, provider string, r *Reply) (out []int) {
	m.match(provider, r, func(n int) bool { out = append(out, n); return true })
	return out
}

// expressions are of every kind of which literals are taken, and of those of which none
// can be.
var expressions = []string{
	`tss04`, `\[tss0[49]\]`, `(ts|tss|ipts)[0-9]+`, `rate limit`, `too (many|fast) (connections|sessions)`, `a?s31[0-9]{2}`, `weren.{1,3}t sent`,
	`^421`, `later$`, `\bRP-00[1-3]\b`, `x*`, `x+y`, `(abc)?def`, `(abc|)def`, `[a-z]+`, `.`, `(?:abc){2,3}`, `(?:abc){0,2}z`, `kelvin`, `straße`, `ﬀ`, `ſlow`,
	`(one|two|three|.)`, `(one|two[0-9])x`, `a|b|c`, `((((nested))))`, `(?-i:Case)`, `[[:space:]]retry`, `\x{1F600}`, `é{2}`, `(?s)a.b`, `$^`, `(a|ab)(c|bcd)(d*)`,
}

func regexps(t testing.TB, exprs []string) []Rule {
	t.Helper()
	var rules []Rule
	for i, e := range exprs {
		re, err := regexp.Compile("(?i)" + e)
		if err != nil {
			t.Fatal(err)
		}
		r := Rule{Name: fmt.Sprint(i), Text: []*regexp.Regexp{re}}
		if i%5 == 1 {
			r.Providers = []string{"p"}
		}
		if i%7 == 2 {
			r.Codes = []CodeRange{{0, 0}, {550, 559}}
		}
		if i%11 == 3 {
			r.Enhanced, r.Stages = []Enhanced{{4, -1, -1}}, []string{"rcpt", "end"}
		}
		if i%6 == 5 {
			r.Text = append(r.Text, regexp.MustCompile("(?i)second[ -]word"))
		}
		rules = append(rules, r)
	}
	return rules
}

// TestIndexFindsWhatExpressionsFind compares with and without the index, over texts put
// together of pieces of the expressions.
func TestIndexFindsWhatExpressionsFind(t *testing.T) {
	rules := regexps(t, expressions)
	m, err := newMatcher(rules)
	if err != nil {
		t.Fatal(err)
	}
	pieces := []string{"TSS04", "[tss09]", "ts1", "Rate LIMIT", "too many sessions", "too fast connections", "S3140", "as3150", "weren't sent", "weren’t sent", "421", "later",
		"RP-002", "xxy", "abcdef", "def", "abcabc", "KELVIN", "\u212aelvin", "STRASSE", "straße", "STRAẞE", "ﬀ", "SLOW", "ſlow", "one", "two5x", "nested", "case", "Case", "\tretry",
		"😀", "éé", "ÉÉ", "a\nb", "\xff", "\xc3", "abcd", "abd", "second-word", " ", ".", ""}
	rng := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range 6_000 {
		var b strings.Builder
		for range rng.IntN(6) {
			b.WriteString(pieces[rng.IntN(len(pieces))])
		}
		r := &Reply{Code: []int{0, 421, 450, 550, 554, 250, 999}[rng.IntN(7)], Text: b.String(), Enhanced: []string{"", "4.7.1", "5.1.1", "4.7"}[rng.IntN(4)], Stage: []string{"", "rcpt", "connect"}[rng.IntN(3)]}
		provider := []string{"", "p", "q"}[rng.IntN(3)]
		got, want := fast(m, provider, r), slow(rules, provider, r)
		if r.Code >= 600 {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v of %q: with the index %v, without %v", r, provider, got, want)
		}
		found += len(got)
	}
	if found < 6_000 {
		t.Errorf("only %d matches", found)
	}
}

// TestLiterals shows what is taken out of expressions.
func TestLiterals(t *testing.T) {
	for expr, want := range map[string]string{
		`tss04`:                   "tss04",
		`rate (limit|cap) hit`:    "rate cap hit rate limit hit",
		`too .* connections`:      " connections",
		`(abc)?def`:               "abcdef def",
		`(abc)*def`:               "def",
		`(abc)+`:                  "abc",
		`ab`:                      "", // too short to tell anything
		`abc|x`:                   "",
		`.*`:                      "",
		`a?s31[0-9]{2}`:           "as31 s31",
		`\bdeferred\b`:            "deferred",
		`(one|two|three) [ab]cde`: "one acde one bcde three acde three bcde two acde two bcde",
	} {
		got := literals("(?i)" + expr)
		slices.Sort(got)
		if g := strings.Join(got, " "); g != want {
			t.Errorf("%s: %q, want %q", expr, g, want)
		}
	}
}

// FuzzMatch compares with and without the index for any expression and text.
func FuzzMatch(f *testing.F) {
	for _, e := range expressions {
		f.Add(e, "421 4.7.0 [TSS04] too many connections, S3140", 421, "4.7.0")
	}
	f.Fuzz(func(t *testing.T, expr, text string, code int, enhanced string) {
		if len(expr) > 200 || len(text) > 10_000 {
			return
		}
		re, err := regexp.Compile("(?i)" + expr)
		if err != nil {
			return
		}
		rules := append(regexps(t, expressions), Rule{Name: "fuzzed", Text: []*regexp.Regexp{re}})
		m, err := newMatcher(rules)
		if err != nil {
			t.Fatal(err)
		}
		r := &Reply{Code: code, Text: text, Enhanced: enhanced, Stage: "rcpt"}
		got, want := fast(m, "p", r), slow(rules, "p", r)
		if code < 0 || code >= 600 {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q on %q: with the index %v, without %v", expr, text, got, want)
		}
	})
}
