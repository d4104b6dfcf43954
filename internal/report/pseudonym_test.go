package report

import (
	"regexp"
	"strings"
	"testing"
)

// FuzzPseudonymous holds the scanner to the expression that it stands for.
func FuzzPseudonymous(f *testing.F) {
	hex := strings.Repeat("0aF", 10)
	for _, s := range []string{"", "redacted", "x [ReDacted] y", hex + "12", hex + "12@x", "g" + hex + "12", hex + "1", hex + "123", "_" + hex + "12", "<" + hex + "12>", "redacteD", "redacte"} {
		f.Add(s)
	}
	same := regexp.MustCompile(`(?i)redacted|\b[0-9a-f]{32}\b`)
	f.Fuzz(func(t *testing.T, s string) {
		for i := range len(s) {
			if s[i] >= 0x80 {
				return // (?i) folds letters beyond ASCII
			}
		}
		if got, want := pseudonymous(s), same.MatchString(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	})
}
