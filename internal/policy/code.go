package policy

import (
	"cmp"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
)

// predicate answers one condition for one message.
type predicate func(*env) Result

// test is a compiled condition. Tests are laid out as code before they are asked.
type test struct {
	op    opcode
	of    dim    // of opText and opSuffix
	field string // of opHeader: a name in lower case
	want  bool   // of opText and opHeader: that the text is one of these, or that it is not
	texts []string
	kids  []test
	run   predicate // of opOther
}

// opcode tells tests apart; those that cost less come first.
type opcode uint8

const (
	opYes opcode = iota
	opNo
	opText   // a text of the facts is one of some constants
	opSuffix // a text of the facts ends with a constant
	opNot
	opAnd
	opOr
	opOther
	opHeader // an occurrence of a header field is one of some constants
)

// code is all conditions of a Program in one piece, since most of what it costs to ask
// one is memory that is not in a cache. A junction stands before its parts.
type code struct {
	seed   maphash.Seed
	steps  []step
	consts []constant // those of one set in the order of their marks
	blob   string     // their texts
	calls  []predicate
	uses   uint32   // bit d: a test reads the text
	names  []string // of the header fields that tests read, sorted
}

// step is one test.
type step struct {
	op    opcode
	of    dim
	want  bool
	lacks lack   // what it cannot be asked without
	at, n uint32 // constants; of opOther at is in calls
	next  uint32 // the first step after it and its parts
}

// constant is the hash of a text and where it is in the blob.
type constant struct{ mark, at, n uint32 }

// layout makes code.
type layout struct {
	code
	blob strings.Builder
	seen map[string]constant
	read map[string]bool // header fields
}

func newLayout(seed maphash.Seed) *layout {
	return &layout{code: code{seed: seed}, seen: map[string]constant{}, read: map[string]bool{}}
}

// done gives the code; the layout is not used afterwards.
func (l *layout) done() code {
	l.code.blob = l.blob.String()
	l.names = slices.Sorted(maps.Keys(l.read))
	return l.code
}

// add appends a test and tells where it begins.
func (l *layout) add(t *test) uint32 {
	at := uint32(len(l.steps))
	l.steps = append(l.steps, step{op: t.op, of: t.of, want: t.want})
	s := step{op: t.op, of: t.of, want: t.want, at: uint32(len(l.consts)), n: uint32(len(t.texts))}
	switch t.op {
	case opText, opSuffix:
		s.lacks = t.of.lacks()
		l.uses |= 1 << t.of
		l.constants(t.texts)
	case opHeader:
		s.lacks = lackContent
		l.constants([]string{t.field})
		l.read[t.field] = true
		l.constants(t.texts)
	case opOther:
		s.at = uint32(len(l.calls))
		l.calls = append(l.calls, t.run)
	}
	for i := range t.kids {
		l.add(&t.kids[i])
	}
	s.next = uint32(len(l.steps))
	l.steps[at] = s
	return at
}

// constants appends a set of texts in the order of their hashes.
func (l *layout) constants(texts []string) {
	from := len(l.consts)
	for _, s := range texts {
		c, known := l.seen[s]
		if !known {
			c = constant{mark: uint32(maphash.String(l.seed, s)), at: uint32(l.blob.Len()), n: uint32(len(s))}
			l.blob.WriteString(s)
			l.seen[s] = c
		}
		l.consts = append(l.consts, c)
	}
	slices.SortFunc(l.consts[from:], func(a, b constant) int { return cmp.Compare(a.mark, b.mark) })
}

// holds asks the test that begins at a step.
func (c *code) holds(e *env, at uint32) Result {
	s := &c.steps[at]
	if s.lacks&e.lacks != 0 {
		return Unknown
	}
	switch s.op {
	case opYes:
		return Yes
	case opText:
		return truth(c.among(s.at, s.n, e.mark(s.of), e.text(s.of)) == s.want)
	case opSuffix:
		return truth(strings.HasSuffix(e.text(s.of), c.text(&c.consts[s.at])))
	case opNot:
		return -c.holds(e, at+1)
	case opAnd:
		return c.all(e, at+1, s.next)
	case opOr:
		return c.any(e, at+1, s.next)
	case opOther:
		return c.calls[s.at](e)
	case opHeader:
		return c.header(e, s)
	}
	return No
}

// all is "and" in strong three-valued logic, the least of its parts.
func (c *code) all(e *env, at, end uint32) Result {
	r := Yes
	for ; at < end; at = c.steps[at].next {
		if v := c.holds(e, at); v < r {
			if r = v; r == No {
				break
			}
		}
	}
	return r
}

// any is "or", the greatest of its parts.
func (c *code) any(e *env, at, end uint32) Result {
	r := No
	for ; at < end; at = c.steps[at].next {
		if v := c.holds(e, at); v > r {
			if r = v; r == Yes {
				break
			}
		}
	}
	return r
}

// linear is how long a set is searched from its beginning.
const linear = 16

// among reports whether a text is in a set of constants, by its hash first.
func (c *code) among(at, n, mark uint32, s string) bool {
	set := c.consts[at : at+n]
	if n > linear {
		i, _ := slices.BinarySearchFunc(set, mark, func(k constant, mark uint32) int { return cmp.Compare(k.mark, mark) })
		end := i
		for end < len(set) && set[end].mark == mark {
			end++
		}
		set = set[i:end]
	}
	for i := range set {
		if k := &set[i]; k.mark == mark && c.text(k) == s {
			return true
		}
	}
	return false
}

func (c *code) text(k *constant) string { return c.blob[k.at : k.at+k.n] }

// header asks each occurrence of a field until one is as wanted, with an index those
// that it has found.
func (c *code) header(e *env, s *step) Result {
	headers := e.facts.Content.Headers
	name, mark := c.text(&c.consts[s.at]), c.consts[s.at].mark
	if e.reading == nil {
		for i := range headers {
			h := &headers[i]
			if h.Name == name && c.among(s.at+1, s.n, uint32(maphash.String(c.seed, h.Value)), h.Value) == s.want {
				return Yes
			}
		}
		return No
	}
	for i := range e.reading.fields {
		f := &e.reading.fields[i]
		if f.name != mark {
			continue
		}
		if h := &headers[f.at]; h.Name == name && c.among(s.at+1, s.n, f.value, h.Value) == s.want {
			return Yes
		}
	}
	return No
}
