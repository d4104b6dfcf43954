package config

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// chunk is how much of a large file is parsed at once, in octets. A file is cut between
// blocks only.
const chunk = 256 << 10

// cut is a place between two blocks.
type cut struct{ at, line int }

// parse reads a file's syntax, a large one in parts, so that reading can end when time
// is up. The body is nil where it is not to be used.
func (l *loader) parse(src []byte, name string, cuts []cut) *hclsyntax.Body {
	var whole *hclsyntax.Body
	faulty := false
	begin := cut{0, 1}
	for i := range len(cuts) + 1 {
		end := len(src)
		if i < len(cuts) {
			end = cuts[i].at
		}
		at := hcl.Pos{Byte: begin.at, Line: begin.line, Column: 1}
		if l.late(hcl.Range{Filename: name, Start: at, End: at}) {
			return nil
		}
		f, ds := hclsyntax.ParseConfig(src[begin.at:end], name, at)
		l.addHCL(ds)
		faulty = faulty || f == nil || ds.HasErrors()
		if !faulty {
			whole = l.joinBody(whole, f.Body.(*hclsyntax.Body))
		}
		if i < len(cuts) {
			begin = cuts[i]
		}
	}
	if faulty {
		return nil // what follows from a syntax error is noise
	}
	return whole
}

// joinBody adds what a file has further down.
func (l *loader) joinBody(to, more *hclsyntax.Body) *hclsyntax.Body {
	if to == nil {
		return more
	}
	for name, a := range more.Attributes {
		if first, twice := to.Attributes[name]; twice {
			l.add(a.NameRange, fmt.Sprintf("second %s; the first is at %s", name, position(first.NameRange)), "")
			continue
		}
		to.Attributes[name] = a
	}
	to.Blocks = append(to.Blocks, more.Blocks...)
	to.SrcRange.End, to.EndRange = more.SrcRange.End, more.EndRange
	return to
}

// late reports that time is up, and notes once where it was.
func (l *loader) late(where hcl.Range) bool {
	if !l.ended && l.isLate != nil && l.isLate() {
		l.ended = true
		l.add(where, "time was up here: what stands below was not read", outOfTime)
	}
	return l.ended
}

// outOfTime is what to do about it.
const outOfTime = "give it more with -budget, or make the policy smaller"
