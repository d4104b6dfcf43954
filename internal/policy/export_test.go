package policy

// PlainEarly is Early without the index.
func PlainEarly(p *Program, f *Facts) (Decision, bool) { return p.early(f, true) }

// AsGrid gives the Program with the other shape of index.
func AsGrid(p *Program) *Program {
	q := *p
	q.index = newIndex(&q, -1)
	return &q
}

// IsGrid tells which shape the index took.
func IsGrid(p *Program) bool { return p.index.grid != nil }

// RequiredLiterals is requiredLiterals of an expression.
var RequiredLiterals = requiredLiterals

// Occurring gives the numbers of the texts that an automaton finds in s.
func Occurring(texts []string, s string) []int32 {
	values := make([]int32, len(texts))
	for i := range values {
		values[i] = int32(i)
	}
	return newAutomaton(texts, values).scan(s, nil)
}

// Reindexed gives the Program with a new index.
func Reindexed(p *Program) *Program {
	q := *p
	q.index = newIndex(&q, gridFrom)
	return &q
}
