package policy

import "hash/maphash"

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

// Reindexed gives the Program with a new index.
func Reindexed(p *Program) *Program {
	q := *p
	q.index = newIndex(&q, gridFrom)
	return &q
}

// Checked tells that every evaluation is made twice.
const Checked = checked

// testSeed is of the tests of this package alone.
var testSeed = maphash.MakeSeed()
