package shaping

import (
	"regexp/syntax"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of the literals that are taken out of expressions.
const (
	minLiteral  = 3  // shorter ones are in every text
	maxLiterals = 32 // of one expression
)

// fold gives one rune for all that differ in case alone, by the folding that regular
// expressions use, so that what an expression finds the index finds too: the ASCII
// lower case where there is one.
func fold(r rune) rune {
	if r < utf8.RuneSelf {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	if least < utf8.RuneSelf {
		return fold(least)
	}
	return least
}

// folded gives the folded form of a text.
func folded(s string) string { return strings.Map(fold, s) }

// needs tells what is known of the texts that an expression finds: either they are
// exactly those in exact, or each holds one of those in any. Neither: nothing is known.
type needs struct {
	exact []string
	any   []string
}

// literals gives folded strings of which every text that the expression finds holds at
// least one; nil where nothing useful is known.
func literals(expr string) []string {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil
	}
	n := needsOf(re, 0)
	return better(useful(n.exact), n.any)
}

// useful passes a set of literals that is short, and none of which is too short.
func useful(set []string) []string {
	if len(set) == 0 || len(set) > maxLiterals {
		return nil
	}
	for _, s := range set {
		if utf8.RuneCountInString(s) < minLiteral {
			return nil
		}
	}
	return set
}

// better chooses the set that lets less through: the longer its shortest literal is.
func better(a, b []string) []string {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	case shortest(b) > shortest(a):
		return b
	}
	return a
}

func shortest(set []string) int {
	n := len(set[0])
	for _, s := range set {
		n = min(n, len(s))
	}
	return n
}

func needsOf(re *syntax.Regexp, depth int) needs {
	if depth > 100 {
		return needs{}
	}
	switch re.Op {
	case syntax.OpLiteral:
		return needs{exact: []string{folded(string(re.Rune))}}
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return needs{exact: []string{""}}
	case syntax.OpCharClass:
		return classNeeds(re.Rune)
	case syntax.OpCapture:
		return needsOf(re.Sub[0], depth+1)
	case syntax.OpQuest:
		n := needsOf(re.Sub[0], depth+1)
		if len(n.exact) == 0 || len(n.exact) >= maxLiterals {
			return needs{}
		}
		return needs{exact: append([]string{""}, n.exact...)}
	case syntax.OpPlus:
		return atLeastOne(needsOf(re.Sub[0], depth+1))
	case syntax.OpRepeat:
		if re.Min < 1 {
			return needs{}
		}
		return atLeastOne(needsOf(re.Sub[0], depth+1))
	case syntax.OpAlternate:
		return alternateNeeds(re.Sub, depth)
	case syntax.OpConcat:
		return concatNeeds(re.Sub, depth)
	}
	return needs{}
}

// atLeastOne turns an exact set into one of which a text must hold a member.
func atLeastOne(n needs) needs { return needs{any: better(useful(n.exact), n.any)} }

func classNeeds(ranges []rune) needs {
	var set []string
	for i := 0; i+1 < len(ranges); i += 2 {
		if ranges[i+1]-ranges[i] > 8 {
			return needs{}
		}
		for r := ranges[i]; r <= ranges[i+1]; r++ {
			set = insert(set, string(fold(r)))
		}
	}
	if len(set) > 8 {
		return needs{}
	}
	return needs{exact: set}
}

func insert(set []string, s string) []string {
	for _, x := range set {
		if x == s {
			return set
		}
	}
	return append(set, s)
}

func alternateNeeds(subs []*syntax.Regexp, depth int) needs {
	var exact, some []string
	allExact, allKnown := true, true
	for _, sub := range subs {
		n := needsOf(sub, depth+1)
		allExact = allExact && len(n.exact) > 0
		for _, s := range n.exact {
			exact = insert(exact, s)
		}
		one := better(useful(n.exact), n.any)
		allKnown = allKnown && len(one) > 0
		for _, s := range one {
			some = insert(some, s)
		}
	}
	switch {
	case allExact && len(exact) <= maxLiterals:
		return needs{exact: exact}
	case allKnown && len(some) <= maxLiterals:
		return needs{any: some}
	}
	return needs{}
}

// concatNeeds joins neighbours that are exact, and keeps the best of what the parts
// need.
func concatNeeds(subs []*syntax.Regexp, depth int) needs {
	run, best := []string{""}, []string(nil)
	whole := true
	for _, sub := range subs {
		n := needsOf(sub, depth+1)
		if len(n.exact) > 0 && len(run)*len(n.exact) <= maxLiterals {
			var next []string
			for _, a := range run {
				for _, b := range n.exact {
					next = insert(next, a+b)
				}
			}
			run = next
			continue
		}
		whole = false
		best = better(best, useful(run))
		run = []string{""}
		if len(n.exact) > 0 {
			run = n.exact
		}
		best = better(best, n.any)
	}
	if whole {
		return needs{exact: run}
	}
	return needs{any: better(best, useful(run))}
}
