package verify

import (
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"time"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify/lang"
)

// sort is the kind of values that a term has.
type termSort uint8

const (
	sortText   termSort = iota // one string
	sortIP                     // one address
	sortNumber                 // one number, 0 and above
	sortTime                   // one time
	sortFlag                   // yes or no
	sortHeader                 // any number of strings
	sortFree                   // nothing is known of it
)

// term is something of a message that conditions speak about.
type term struct {
	sort   termSort
	name   string // "rcpt.domain", "header:subject"
	domain bool   // its values are domains
	field  uint8  // of sortText: how it is read from a message
	atoms  []int32
}

// testKind tells what an atom asks of its term.
type testKind uint8

const (
	testSet    testKind = iota // one of set
	testNotSet                 // some occurrence is none of set (headers only)
	testSuffix                 // ends with text
	testLang                   // regular expression or glob
	testAny                    // there is an occurrence (headers only)
	testNets                   // within one of nets
	testRange                  // lo <= value <= hi
	testWhen                   // value op when
	testHour                   // lo <= hour (UTC) <= hi
	testFlag                   // it is so
	testFree                   // nothing is known
)

// atom is one indivisible question about one term.
type atom struct {
	term   int32
	kind   testKind
	set    []string // sorted
	first  string   // of set, as the policy has it
	text   string
	cond   lang.Cond
	nets   []netip.Prefix
	lo, hi int64
	op     policy.Op
	when   time.Time
	expr   policy.Expr // of testFree: the condition as written
}

// universe holds the terms and atoms of one policy; equal ones are one.
type universe struct {
	terms  []term
	names  map[string]int32
	atoms  []atom
	keys   map[string]int32
	buf    []byte
	sets   map[literal][]int32 // testSet atoms by member
	suffix map[literal][]int32 // testSuffix atoms by suffix
}

type literal struct {
	term int32
	text string
}

func newUniverse() *universe {
	return &universe{names: map[string]int32{}, keys: map[string]int32{}, sets: map[literal][]int32{}, suffix: map[literal][]int32{}}
}

// termNamed gives the term of that name, made when it is first asked for.
func (u *universe) termNamed(name string, s termSort, domain bool) int32 {
	if id, ok := u.names[name]; ok {
		return id
	}
	id := int32(len(u.terms))
	u.terms = append(u.terms, term{sort: s, name: name, domain: domain, field: fieldOf(name)})
	u.names[name] = id
	return id
}

// intern gives the number of an atom, the same for the same question.
func (u *universe) intern(a atom) int32 {
	u.buf = a.key(u.buf[:0])
	if id, ok := u.keys[string(u.buf)]; ok {
		return id
	}
	id := int32(len(u.atoms))
	u.atoms = append(u.atoms, a)
	u.keys[string(u.buf)] = id
	u.terms[a.term].atoms = append(u.terms[a.term].atoms, id)
	switch a.kind {
	case testSet:
		for _, s := range a.set {
			k := literal{a.term, s}
			u.sets[k] = append(u.sets[k], id)
		}
	case testSuffix:
		k := literal{a.term, a.text}
		u.suffix[k] = append(u.suffix[k], id)
	}
	return id
}

// key spells an atom so that different questions differ.
func (a *atom) key(b []byte) []byte {
	b = strconv.AppendInt(b, int64(a.term), 10)
	b = append(b, ':', byte('a'+a.kind), ':')
	switch a.kind {
	case testSet, testNotSet:
		for _, s := range a.set {
			b = strconv.AppendInt(b, int64(len(s)), 10)
			b = append(append(b, ':'), s...)
		}
	case testNets:
		for _, n := range a.nets {
			b = n.AppendTo(b)
			b = append(b, ',')
		}
	case testRange, testHour:
		b = strconv.AppendInt(b, a.lo, 10)
		b = append(b, ',')
		b = strconv.AppendInt(b, a.hi, 10)
	case testWhen:
		b = append(append(b, a.op...), ' ')
		b = a.when.AppendFormat(b, time.RFC3339Nano)
	default:
		b = append(b, a.text...)
	}
	return b
}

// of makes the formula that asks an atom.
func (u *universe) of(a atom) *form { return &form{op: opAtom, atom: u.intern(a)} }

// setOf asks whether a text term is one of a set.
func (u *universe) setOf(t int32, set ...string) *form {
	if len(set) == 0 {
		return falsity()
	}
	s := append([]string(nil), set...)
	sort.Strings(s)
	n := 0
	for i, x := range s {
		if i == 0 || x != s[n-1] {
			s[n] = x
			n++
		}
	}
	return u.of(atom{term: t, kind: testSet, set: s[:n], first: set[0]})
}

func (u *universe) suffixOf(t int32, suffix string) *form {
	return u.of(atom{term: t, kind: testSuffix, text: suffix})
}

// holds answers an atom about a text for a known value.
func (a *atom) holds(s string) bool {
	switch a.kind {
	case testSet, testNotSet:
		i := sort.SearchStrings(a.set, s)
		return (i < len(a.set) && a.set[i] == s) == (a.kind == testSet)
	case testSuffix:
		return strings.HasSuffix(s, a.text)
	case testLang:
		return a.cond.Holds(s)
	case testAny:
		return true
	}
	return false
}

// contains answers an atom about an address.
func (a *atom) contains(ip netip.Addr) bool {
	for _, n := range a.nets {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// at answers an atom about a time.
func (a *atom) at(t time.Time) bool {
	switch a.kind {
	case testHour:
		h := int64(t.UTC().Hour())
		return a.lo <= h && h <= a.hi
	case testSet:
		return a.holds(t.UTC().Weekday().String())
	case testLang, testSuffix:
		return a.holds(t.UTC().Weekday().String())
	}
	c := t.Compare(a.when)
	switch a.op {
	case policy.Eq:
		return c == 0
	case policy.Lt:
		return c < 0
	case policy.Le:
		return c <= 0
	case policy.Gt:
		return c > 0
	}
	return c >= 0
}
