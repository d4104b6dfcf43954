//go:build !postern_both

package policy

// checked is for tests: see checked.go.
const checked = false

func (*Program) checkEval(*Facts, *Decision, Trace) {}

func (*Program) checkEarly(*Facts, *Decision, bool) {}
