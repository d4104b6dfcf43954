package verify

import (
	"fmt"
	"strings"

	"postern.dev/postern/internal/policy"
)

// spellFilter writes a filter without positions, so that equal ones are equal.
func spellFilter(f *policy.Filter) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s if %s", f.Name, Spell(f.If))
	for _, a := range f.Do {
		fmt.Fprintf(&b, " %s(%q %q %s %d/%d)", a.Kind, a.Text, a.Name, a.Rcpt, a.Rate.Count, a.Rate.Seconds)
	}
	if t := f.Then; t != nil {
		fmt.Fprintf(&b, " then %s(%s %d %v %q)", t.Kind, t.Pool, t.Code, t.Enhanced, t.Text)
	}
	return b.String()
}

func spell(lines []line) string {
	var b strings.Builder
	for i := range lines {
		b.WriteString(spellFilter(lines[i].f))
		b.WriteByte('\n')
	}
	return b.String()
}

// Spell writes a condition in the configuration's syntax, with parentheses where
// they are needed.
func Spell(x policy.Expr) string {
	switch x := x.(type) {
	case *policy.Literal:
		if s, ok := x.Value.(string); ok {
			return fmt.Sprintf("%q", s)
		}
		return fmt.Sprint(x.Value)
	case *policy.List:
		return "[" + spellAll(x.Items) + "]"
	case *policy.Field:
		return x.Name
	case *policy.Not:
		return "!" + inner(x.X)
	case *policy.Binary:
		if x.Op == policy.And || x.Op == policy.Or {
			return inner(x.L) + " " + string(x.Op) + " " + inner(x.R)
		}
		return Spell(x.L) + " " + string(x.Op) + " " + Spell(x.R)
	case *policy.Call:
		return x.Func + "(" + spellAll(x.Args) + ")"
	}
	return "?"
}

func spellAll(xs []policy.Expr) string {
	parts := make([]string, 0, len(xs))
	for _, x := range xs {
		parts = append(parts, Spell(x))
	}
	return strings.Join(parts, ", ")
}

func inner(x policy.Expr) string {
	if b, ok := x.(*policy.Binary); ok {
		return "(" + Spell(b) + ")"
	}
	return Spell(x)
}
