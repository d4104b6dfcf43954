package verify

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// smtMost is the last character that SMT-LIB's strings have.
const smtMost = 0x2ffff

// smtSearch translates an expression in Go's syntax to a regular language: the texts
// in which it is found. ok is false where an anchor stands inside.
func smtSearch(s string) (re string, ok bool) {
	x, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return "", false
	}
	return smtAnchored(x.Simplify())
}

// smtAnchored takes the anchors off both ends.
func smtAnchored(x *syntax.Regexp) (string, bool) {
	switch x.Op {
	case syntax.OpCapture:
		return smtAnchored(x.Sub[0])
	case syntax.OpAlternate:
		var out []string
		for _, k := range x.Sub {
			re, ok := smtAnchored(k)
			if !ok {
				return "", false
			}
			out = append(out, re)
		}
		return smtJoin("re.union", "re.none", out), true
	}
	parts := []*syntax.Regexp{x}
	if x.Op == syntax.OpConcat {
		parts = x.Sub
	}
	front, back := "re.all", "re.all"
	for len(parts) > 0 && parts[0].Op == syntax.OpBeginText {
		front, parts = `(str.to_re "")`, parts[1:]
	}
	for len(parts) > 0 && parts[len(parts)-1].Op == syntax.OpEndText {
		back, parts = `(str.to_re "")`, parts[:len(parts)-1]
	}
	out := []string{front}
	for _, k := range parts {
		re, ok := smtRegexp(k)
		if !ok {
			return "", false
		}
		out = append(out, re)
	}
	return "(re.++ " + strings.Join(append(out, back), " ") + ")", true
}

// smtRegexp translates what has no anchors.
func smtRegexp(x *syntax.Regexp) (string, bool) {
	var subs []string
	for _, k := range x.Sub {
		re, ok := smtRegexp(k)
		if !ok {
			return "", false
		}
		subs = append(subs, re)
	}
	switch x.Op {
	case syntax.OpEmptyMatch:
		return `(str.to_re "")`, true
	case syntax.OpNoMatch:
		return "re.none", true
	case syntax.OpLiteral:
		return smtLiteral(x), true
	case syntax.OpCharClass:
		return smtClass(x.Rune), true
	case syntax.OpAnyChar:
		return "re.allchar", true
	case syntax.OpAnyCharNotNL:
		return smtClass([]rune{0, '\n' - 1, '\n' + 1, unicode.MaxRune}), true
	case syntax.OpCapture:
		return subs[0], true
	case syntax.OpStar:
		return "(re.* " + subs[0] + ")", true
	case syntax.OpPlus:
		return "(re.+ " + subs[0] + ")", true
	case syntax.OpQuest:
		return "(re.opt " + subs[0] + ")", true
	case syntax.OpConcat:
		return smtJoin("re.++", `(str.to_re "")`, subs), true
	case syntax.OpAlternate:
		return smtJoin("re.union", "re.none", subs), true
	}
	return "", false
}

func smtLiteral(x *syntax.Regexp) string {
	if x.Flags&syntax.FoldCase == 0 && !slices.ContainsFunc(x.Rune, func(r rune) bool { return r > smtMost || !utf8.ValidRune(r) }) {
		return "(str.to_re " + smtText(string(x.Rune)) + ")"
	}
	var out []string
	for _, r := range x.Rune {
		class := []rune{r, r}
		if x.Flags&syntax.FoldCase != 0 {
			for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
				class = append(class, f, f)
			}
		}
		out = append(out, smtClass(class))
	}
	return smtJoin("re.++", `(str.to_re "")`, out)
}

// smtClass writes a class of characters, as pairs of first and last.
func smtClass(rs []rune) string {
	var out []string
	for i := 0; i+1 < len(rs); i += 2 {
		if rs[i] <= smtMost {
			out = append(out, fmt.Sprintf(`(re.range "\u{%x}" "\u{%x}")`, rs[i], min(rs[i+1], smtMost)))
		}
	}
	return smtJoin("re.union", "re.none", out)
}
