package asyncos

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"strings"
)

// Expressions are those of Python's re, searched for; RE2 has no look-around, no
// backreferences and no conditions.
var (
	errLook    = errors.New("an expression with look-around is not followed")
	errBack    = errors.New("an expression with a backreference or a condition is not followed")
	errStrange = errors.New("the expression is not understood")
)

// translate gives an expression of Python in RE2, or why there is none.
func translate(re string) (string, error) {
	for _, s := range []string{"(?=", "(?!", "(?<=", "(?<!"} {
		if strings.Contains(re, s) {
			return "", errLook
		}
	}
	if strings.Contains(re, "(?P=") || strings.Contains(re, "(?(") {
		return "", errBack
	}
	if strings.Contains(re, "[[:") {
		return "", errStrange // a class of POSIX here, and none in Python
	}
	var b strings.Builder
	for i := 0; i < len(re); i++ {
		if re[i] != '\\' || i+1 == len(re) {
			b.WriteByte(re[i])
			continue
		}
		i++
		switch c := re[i]; {
		case c >= '1' && c <= '9':
			return "", errBack
		case c|0x20 >= 'a' && c|0x20 <= 'z' && strings.IndexByte("AbBdDsSwWZnrtfvax", c) < 0, c == 'x' && strings.HasPrefix(re[i+1:], "{"):
			return "", errStrange // RE2 has escapes of its own
		case c == 'Z':
			b.WriteString(`\z`)
		case c >= 0x80 || strings.IndexByte(`"'@ %&,;:=<>/~!#`, c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	out := b.String()
	// Python's $ also matches before a final line end, which no address or field has.
	if _, err := syntax.Parse(out, syntax.Perl); err != nil {
		return "", errStrange
	}
	return out, nil
}

// foldless makes an expression that ignores case.
func foldless(re string) string { return "(?i:" + re + ")" }

// caseMatters reports an expression that can tell letters by their case.
func caseMatters(re string) bool {
	return strings.ToLower(re) != strings.ToUpper(re) && !strings.HasPrefix(re, "(?i)")
}

func matchesText(re, text string) bool {
	r, err := regexp.Compile(re)
	return err == nil && r.MatchString(text)
}
