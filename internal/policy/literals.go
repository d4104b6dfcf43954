package policy

import (
	"regexp/syntax"
	"unicode"
	"unicode/utf8"
)

const (
	leastLiteral = 2  // octets: a shorter one occurs nearly everywhere
	mostLiterals = 64 // of one expression
)

// requiredLiterals gives texts in ASCII lower case of which every match of an
// expression contains one, in whatever ASCII case; nil where there are none of use.
func requiredLiterals(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		if s := plainRun(re.Rune, re.Flags&syntax.FoldCase != 0); len(s) >= leastLiteral {
			return []string{s}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return requiredLiterals(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return requiredLiterals(re.Sub[0])
		}
	case syntax.OpConcat:
		var best []string
		for _, sub := range re.Sub {
			if lits := requiredLiterals(sub); better(lits, best) {
				best = lits
			}
		}
		return best
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			lits := requiredLiterals(sub)
			if lits == nil || len(all)+len(lits) > mostLiterals {
				return nil
			}
			all = append(all, lits...)
		}
		return all
	}
	return nil
}

// better prefers the set whose shortest text is longer, then the smaller set.
func better(a, b []string) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) > 0
	}
	if x, y := shortest(a), shortest(b); x != y {
		return x > y
	}
	return len(a) < len(b)
}

func shortest(ss []string) int {
	n := len(ss[0])
	for _, s := range ss[1:] {
		n = min(n, len(s))
	}
	return n
}

// plainRun gives the longest run of a literal's runes that stand in a match octet by
// octet, but for ASCII case. Under (?i) k also matches the Kelvin sign, s the long s,
// and other letters their own kin: the run ends there. U+FFFD matches any octet that
// is not UTF-8.
func plainRun(rs []rune, fold bool) string {
	var best, run []byte
	for _, r := range rs {
		if r == utf8.RuneError || (fold && !foldsInASCII(r)) {
			run = run[:0]
			continue
		}
		run = utf8.AppendRune(run, r)
		if len(run) > len(best) {
			best = append(best[:0], run...)
		}
	}
	return lowerASCII(string(best))
}

// foldsInASCII reports a rune all of whose case variants are ASCII.
func foldsInASCII(r rune) bool {
	if r >= utf8.RuneSelf {
		return false
	}
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if f >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = lowerOctet(c)
	}
	return string(b)
}

func lowerOctet(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
