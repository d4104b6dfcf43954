package shaping

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"

	"postern.dev/postern/internal/ahocorasick"
)

// MaxRules bounds the rules of a node, the shipped ones included.
const MaxRules = 64 * words

const words = 64

// maxText is as much of a reply as rules look at, in octets.
const maxText = 4096

// set is a set of rules by number.
type set [words]uint64

func (s *set) add(n int) { s[n/64] |= 1 << (n % 64) }

// and keeps what both hold.
func (s *set) and(o *set) {
	for i := range s {
		s[i] &= o[i]
	}
}

// matcher finds the rules that a reply matches. What can be told from provider, code
// and stage is told with bits, what a text must hold with one pass over it; expressions
// are run on what is left.
type matcher struct {
	rules     []Rule
	used      int             // words of a set that hold rules
	general   set             // rules that no provider confines
	provider  map[string]*set // with the general ones
	codes     [600]uint16     // into codeSets
	codeSets  []set
	unlimited set // rules that need no literal
	index     *ahocorasick.Automaton
}

var errTooMany = errors.New("too many rules")

func newMatcher(rules []Rule) (*matcher, error) {
	if len(rules) > MaxRules {
		return nil, fmt.Errorf("%w: %d, and %d are the most", errTooMany, len(rules), MaxRules)
	}
	m := &matcher{rules: rules, used: (len(rules) + 63) / 64, provider: map[string]*set{}}
	var texts []string
	var values []int32
	for i := range rules {
		r := &rules[i]
		if len(r.Providers) == 0 {
			m.general.add(i)
		}
		needed := r.literals()
		if needed == nil {
			m.unlimited.add(i)
		}
		for _, n := range needed {
			texts, values = append(texts, n), append(values, int32(i))
		}
	}
	for i := range rules {
		for _, p := range rules[i].Providers {
			if m.provider[p] == nil {
				s := m.general
				m.provider[p] = &s
			}
			m.provider[p].add(i)
		}
	}
	m.byCode()
	m.index = ahocorasick.New(texts, values)
	return m, nil
}

// literals gives what a text must hold one of for the rule to match, nil if that is
// not known.
func (r *Rule) literals() []string {
	var all []string
	for _, re := range r.Text {
		ls := literals(re.String())
		if ls == nil {
			return nil
		}
		all = append(all, ls...)
	}
	return all
}

// byCode makes one set for each group of codes that the same rules are about.
func (m *matcher) byCode() {
	seen := map[set]uint16{}
	for code := range m.codes {
		var s set
		for i := range m.rules {
			if m.rules[i].matchCode(code) {
				s.add(i)
			}
		}
		n, there := seen[s]
		if !there {
			n = uint16(len(m.codeSets))
			seen[s] = n
			m.codeSets = append(m.codeSets, s)
		}
		m.codes[code] = n
	}
}

func (r *Rule) matchCode(code int) bool {
	if len(r.Codes) == 0 {
		return code == 0 || code >= 400
	}
	return slices.ContainsFunc(r.Codes, func(c CodeRange) bool { return code >= c.From && code <= c.To })
}

// match calls fn with the number of each rule that a reply of a provider matches, in
// order, until it gives false.
func (m *matcher) match(provider string, r *Reply, fn func(n int) bool) {
	if r.Code < 0 || r.Code >= len(m.codes) {
		return
	}
	c := m.codeSets[m.codes[r.Code]]
	if p := m.provider[provider]; p != nil {
		c.and(p)
	} else {
		c.and(&m.general)
	}
	if m.none(&c) {
		return
	}
	text := r.Text
	if len(text) > maxText {
		text = text[:maxText]
	}
	found := m.unlimited
	m.find(text, &found)
	c.and(&found)
	for w := range m.used {
		for left := c[w]; left != 0; left &= left - 1 {
			n := w*64 + bits.TrailingZeros64(left)
			if m.rules[n].matchRest(r, text) && !fn(n) {
				return
			}
		}
	}
}

func (m *matcher) none(s *set) bool {
	for i := range m.used {
		if s[i] != 0 {
			return false
		}
	}
	return true
}

// find adds the rules of which a literal stands in the text. The index folds ASCII
// itself.
func (m *matcher) find(text string, found *set) {
	for i := 0; i < len(text); i++ {
		if text[i] >= utf8.RuneSelf {
			text = folded(text)
			break
		}
	}
	var memory [64]int32
	for _, n := range ahocorasick.Scan(m.index, text, memory[:0]) {
		found.add(int(n))
	}
}

// matchRest looks at what the sets have not told: stage, enhanced code, expressions.
func (r *Rule) matchRest(reply *Reply, text string) bool {
	if len(r.Stages) > 0 && !slices.Contains(r.Stages, reply.Stage) {
		return false
	}
	if len(r.Enhanced) > 0 {
		code, ok := parseEnhanced(reply.Enhanced)
		if !ok || !slices.ContainsFunc(r.Enhanced, func(e Enhanced) bool { return e.match(code) }) {
			return false
		}
	}
	if len(r.Text) == 0 {
		return true
	}
	for _, re := range r.Text {
		if re.MatchString(text) {
			return true
		}
	}
	return false
}

func (e Enhanced) match(code Enhanced) bool {
	for i := range e {
		if e[i] >= 0 && e[i] != code[i] {
			return false
		}
	}
	return true
}

// parseEnhanced reads "4.7.28" without an allocation.
func parseEnhanced(s string) (e Enhanced, ok bool) {
	for i := range e {
		part := s
		if k := strings.IndexByte(s, '.'); k >= 0 && i < 2 {
			part, s = s[:k], s[k+1:]
		} else if i < 2 {
			return e, false
		}
		if part == "" || len(part) > 3 {
			return e, false
		}
		for j := 0; j < len(part); j++ {
			if part[j] < '0' || part[j] > '9' {
				return e, false
			}
			e[i] = e[i]*10 + int(part[j]-'0')
		}
	}
	return e, true
}
