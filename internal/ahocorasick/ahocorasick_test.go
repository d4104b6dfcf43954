package ahocorasick_test

import (
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/internal/ahocorasick"
)

// occurring gives the numbers of the texts that an automaton finds in s.
func occurring(texts []string, s string) []int32 {
	values := make([]int32, len(texts))
	for i := range values {
		values[i] = int32(i)
	}
	a := ahocorasick.New(texts, values)
	out := ahocorasick.Scan(a, s, nil)
	if again := ahocorasick.Scan(a, []byte(s), nil); !slices.Equal(again, out) {
		panic("octets and string differ")
	}
	return out
}

// FuzzAutomaton compares the automaton with strings.Contains.
func FuzzAutomaton(f *testing.F) {
	f.Add("he she his hers", "ushers")
	f.Add("aa a aaa", "AaA")
	f.Add("abcd bc c", "xabcx")
	f.Fuzz(func(t *testing.T, joined, s string) {
		texts := strings.Fields(strings.ToLower(joined))
		for i := range texts {
			texts[i] = lower(texts[i])
		}
		found := map[int32]bool{}
		for _, v := range occurring(texts, s) {
			found[v] = true
		}
		for i, text := range texts {
			if want := strings.Contains(lower(s), text); want && !found[int32(i)] {
				t.Fatalf("%q in %q: not found", text, s)
			} else if !want && found[int32(i)] && len(joined) < 200 {
				t.Fatalf("%q in %q: found", text, s)
			}
		}
	})
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
