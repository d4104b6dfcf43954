package policy

import "sort"

// Problem is a fault in a policy, at its place in the configuration.
type Problem struct {
	Pos     Pos
	Warning bool   // the policy loads all the same
	Message string // lower case, without position
	Hint    string // the usual remedy, or ""
	Text    string // the offending text, as far as it is known, for underlining
}

// Error gives "file:line:column: message".
func (p Problem) Error() string { return p.Pos.String() + ": " + p.Message }

// problems gathers the faults of one load.
type problems struct{ list []Problem }

func (ps *problems) add(pos Pos, text, message, hint string) {
	ps.list = append(ps.list, Problem{Pos: pos, Message: message, Hint: hint, Text: text})
}

func (ps *problems) warn(pos Pos, text, message, hint string) {
	ps.list = append(ps.list, Problem{Pos: pos, Warning: true, Message: message, Hint: hint, Text: text})
}

func (ps *problems) fatal() bool {
	for _, p := range ps.list {
		if !p.Warning {
			return true
		}
	}
	return false
}

// nearest gives the candidate that s was probably meant to be, or "": within a
// third of its length in edits.
func nearest(s string, candidates []string) string {
	sorted := append([]string(nil), candidates...)
	sort.Strings(sorted)
	best, distance := "", len(s)/3+1
	for _, c := range sorted {
		if d := editDistance(s, c); d <= distance && d < len(c) {
			if best == "" || d < distance {
				best, distance = c, d
			}
		}
	}
	return best
}

// editDistance is Levenshtein's, with one row of memory.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next := min(row[j]+1, row[j-1]+1, diagonal+cost)
			diagonal, row[j] = row[j], next
		}
	}
	return row[len(b)]
}

// DidYouMean makes the hint for an unknown name: the nearest candidate, or "".
func DidYouMean(s string, candidates []string) string {
	if n := nearest(s, candidates); n != "" {
		return "did you mean " + quote(n) + "?"
	}
	return ""
}

func quote(s string) string { return `"` + s + `"` }
