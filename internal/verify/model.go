package verify

import (
	"net/netip"
	"strings"
	"time"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify/lang"
	"postern.dev/postern/internal/verify/sat"
)

// model is a message that the solver and the automata agree on.
type model struct {
	q       *query
	texts   map[string]string
	headers []policy.HeaderField
	ip      netip.Addr
	size    int64
	now     time.Time
	tls     bool
}

// check makes a message of the solver's assignment. settled is false if an automaton
// says that there is none; then the solver has been told why.
func (q *query) check() (m *model, settled bool) {
	m = &model{q: q, texts: map[string]string{}, size: -1}
	settled = true
	chosen := map[string]*class{}
	for _, c := range q.terms {
		if c.sort == sortHeader {
			settled = q.checkHeader(c, m) && settled
			continue
		}
		k := q.chosen(c)
		if k == nil {
			continue // only atoms of automata, on an address as a whole
		}
		chosen[c.name] = k
		switch c.sort {
		case sortText:
			settled = q.checkText(c, k, m) && settled
		case sortIP:
			m.ip = k.ip
		case sortNumber:
			m.size = k.n
		case sortTime:
			m.now = k.at
		}
	}
	for _, id := range q.used {
		if a := &q.v.u.atoms[id]; a.kind == testFlag {
			m.tls = q.s.Value(q.atoms[id])
		}
	}
	if !settled {
		return m, false
	}
	for _, c := range q.terms {
		if of, whole := strings.CutSuffix(c.name, ".address"); whole && c.sort == sortText {
			settled = q.checkAddress(of, c, chosen, m) && settled
		}
	}
	return m, settled
}

func (q *query) chosen(c *classes) *class {
	for i := range c.list {
		if q.s.Value(c.list[i].v) {
			return &c.list[i]
		}
	}
	return nil
}

// signed gives an atom of the automata as the solver has it.
func (q *query) signed(id int32) lang.Lit {
	return lang.Lit{Cond: q.v.u.atoms[id].cond, Neg: !q.s.Value(q.atoms[id])}
}

// checkText finds a value of the class that fulfils the atoms of the automata.
func (q *query) checkText(c *classes, k *class, m *model) bool {
	m.texts[c.name] = k.text
	if len(c.langs) == 0 || strings.HasSuffix(c.name, ".address") {
		return true
	}
	if !k.fresh {
		ok := true
		for _, id := range c.langs {
			if l := q.signed(id); !l.Holds(k.text) {
				ok = false
			}
		}
		if !ok {
			for _, id := range c.langs {
				a := q.atoms[id]
				if !q.v.u.atoms[id].cond.Holds(k.text) {
					a = a.Not()
				}
				q.s.Add(k.v.Not(), a)
			}
		}
		return ok
	}
	lits := []lang.Lit{}
	if k.ends != "" {
		lits = append(lits, lang.Lit{Cond: lang.Suffix(k.ends)})
	}
	fixed := len(lits)
	for _, id := range c.langs {
		lits = append(lits, q.signed(id))
	}
	s, r, blamed := q.find(lits, q.shape(c.name), k.text, func(s string) (lang.Cond, bool) { return c.outside(s, k) })
	switch r {
	case lang.None:
		clause := []sat.Lit{k.v.Not()}
		for _, i := range blamed {
			if i >= fixed && i < fixed+len(c.langs) {
				clause = append(clause, q.negated(q.atoms[c.langs[i-fixed]]))
			}
		}
		q.s.Add(clause...)
		return false
	case lang.Found:
		m.texts[c.name] = s
	}
	return true
}

// outside names the condition by which a text is not of a fresh class: it is a
// constant that atoms name, or ends with a longer suffix.
func (c *classes) outside(s string, k *class) (lang.Cond, bool) {
	if c.taken[s] {
		return lang.Equal(s), true
	}
	for _, t := range c.tails {
		if len(t) <= len(k.ends) {
			break
		}
		if strings.HasSuffix(s, t) {
			return lang.Suffix(t), true
		}
	}
	return lang.Cond{}, false
}

// find looks for a text on which the literals hold and of which outside names no
// condition. What outside names is added as it is met, so that a thousand constants
// cost nothing until they matter. first is tried before anything is searched.
func (q *query) find(lits []lang.Lit, shape []lang.Cond, first string, outside func(string) (lang.Cond, bool)) (string, lang.Result, []int) {
	ok := true
	for _, l := range lits {
		ok = ok && l.Holds(first)
	}
	if ok {
		return first, lang.Found, nil
	}
	o := lang.Options{MaxStates: q.v.o.States, Shape: shape, Stop: q.v.late}
	all := lits
	for range 200 {
		s, r := lang.Find(all, o)
		switch r {
		case lang.None:
			return "", r, lang.Core(all, o)
		case lang.Unknown:
			return "", r, nil
		}
		c, out := outside(s)
		if !out {
			return s, r, nil
		}
		all = append(all[:len(all):len(all)], lang.Lit{Cond: c, Neg: true})
	}
	return "", lang.Unknown, nil
}

// shape gives what is known of a field's values beforehand.
func (q *query) shape(name string) []lang.Cond {
	switch name {
	case "rcpt.domain":
		return []lang.Cond{q.v.shapes.domain, q.v.shapes.something}
	case "rcpt.local":
		return []lang.Cond{q.v.shapes.local, q.v.shapes.something}
	case "sender.domain":
		return []lang.Cond{q.v.shapes.domain}
	case "sender.local":
		return []lang.Cond{q.v.shapes.local}
	}
	if strings.HasPrefix(name, "header:") {
		return []lang.Cond{q.v.shapes.value}
	}
	return nil
}

// checkHeader finds occurrences that fulfil the positive atoms and no negative one:
// the constants that the solver chose, and one more for each expression that holds
// on none of these.
func (q *query) checkHeader(c *classes, m *model) bool {
	name := strings.TrimPrefix(c.name, "header:")
	var values []string
	for i := range c.list {
		if k := &c.list[i]; q.s.Value(k.v) && (!k.fresh || len(k.atoms) > 0) {
			values = append(values, k.text)
		}
	}
	ok := true
	for _, s := range values {
		ok = q.checkConstant(c, s) && ok
	}
	if !ok {
		return false
	}
	for _, id := range c.langs {
		if !q.s.Value(q.atoms[id]) || holdsAny(&q.v.u.atoms[id], values) {
			continue
		}
		s, ok := q.occurrence(c, id)
		if !ok {
			return false
		}
		values = append(values, s)
	}
	for _, s := range values {
		m.headers = append(m.headers, policy.HeaderField{Name: name, Value: s})
	}
	return true
}

func holdsAny(a *atom, values []string) bool {
	for _, s := range values {
		if a.holds(s) {
			return true
		}
	}
	return false
}

// checkConstant tells the solver which expressions hold on an occurrence that it
// chose, where it has that wrong.
func (q *query) checkConstant(c *classes, s string) bool {
	ok := true
	for i := range c.list {
		k := &c.list[i]
		if k.text != s {
			continue
		}
		for _, id := range c.langs {
			if q.v.u.atoms[id].holds(s) && !q.s.Value(q.atoms[id]) {
				if k.fresh {
					return q.refresh(c, k)
				}
				q.s.Add(k.v.Not(), q.atoms[id])
				ok = false
			}
		}
	}
	return ok
}

// refresh finds another text for a class without a name, on which no expression
// holds that must not.
func (q *query) refresh(c *classes, k *class) bool {
	var lits []lang.Lit
	if k.ends != "" {
		lits = append(lits, lang.Lit{Cond: lang.Suffix(k.ends)})
	}
	fixed := len(lits)
	var ids []int32
	for _, id := range c.langs {
		if !q.s.Value(q.atoms[id]) {
			ids = append(ids, id)
			lits = append(lits, lang.Lit{Cond: q.v.u.atoms[id].cond, Neg: true})
		}
	}
	s, r, blamed := q.find(lits, q.shape(c.name), k.text, func(s string) (lang.Cond, bool) { return c.outside(s, k) })
	if r == lang.None {
		clause := []sat.Lit{k.v.Not()}
		for _, i := range blamed {
			if i >= fixed && i-fixed < len(ids) {
				clause = append(clause, q.atoms[ids[i-fixed]])
			}
		}
		q.s.Add(clause...)
		return false
	}
	if r == lang.Found {
		k.text = s
		return false // the solver's next model is the same, with this text
	}
	return true
}

// occurrence finds a text on which one expression holds and nothing that must not.
// It adds the negative atoms as they are met.
func (q *query) occurrence(c *classes, id int32) (string, bool) {
	lits := []lang.Lit{{Cond: q.v.u.atoms[id].cond}}
	ids := []int32{id}
	o := lang.Options{MaxStates: q.v.o.States, Shape: q.shape(c.name), Stop: q.v.late}
	for {
		s, r := lang.Find(lits, o)
		switch r {
		case lang.None:
			// There need be no occurrence at all: only with one is the rest a contradiction,
			// even where it is one by itself, as with a glob of * that must not match.
			clause := []sat.Lit{q.atoms[id].Not()}
			for _, i := range lang.Core(lits, o) {
				if i > 0 {
					clause = append(clause, q.negated(q.atoms[ids[i]]))
				}
			}
			q.s.Add(clause...)
			return "", false
		case lang.Unknown:
			return s, true // Eval has the last word
		}
		bad, broken := q.forbidden(c, s)
		if !broken {
			return s, true
		}
		a := &q.v.u.atoms[bad]
		switch a.kind {
		case testAny:
			q.s.Add(q.atoms[id].Not(), q.atoms[bad]) // where there is an occurrence, there is one
			return "", false
		case testSet:
			lits = append(lits, lang.Lit{Cond: lang.OneOf(a.set...), Neg: true})
		case testNotSet:
			lits = append(lits, lang.Lit{Cond: lang.OneOf(a.set...)})
		case testSuffix:
			lits = append(lits, lang.Lit{Cond: lang.Suffix(a.text), Neg: true})
		default:
			lits = append(lits, lang.Lit{Cond: a.cond, Neg: true})
		}
		ids = append(ids, bad)
	}
}

// forbidden gives an atom that an occurrence fulfils though no occurrence may.
func (q *query) forbidden(c *classes, s string) (int32, bool) {
	for _, id := range c.atoms {
		if !q.s.Value(q.atoms[id]) && q.v.u.atoms[id].holds(s) {
			return id, true
		}
	}
	return 0, false
}
