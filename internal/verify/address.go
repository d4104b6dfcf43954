package verify

import (
	"strings"

	"postern.dev/postern/internal/verify/lang"
	"postern.dev/postern/internal/verify/sat"
)

// checkAddress finds an address on which the expressions over the whole of it hold and
// those over its parts, within the classes that were chosen for the parts.
func (q *query) checkAddress(of string, c *classes, chosen map[string]*class, m *model) bool {
	domain, local := chosen[of+".domain"], chosen[of+".local"]
	lits, ids := q.onWhole(of, c)
	d, l := m.part(of+".domain"), m.part(of+".local")
	first := l + "@" + d
	if of == senderTerm && d == "" {
		first = ""
	}
	if all(lits, first) {
		m.texts[of+".domain"], m.texts[of+".local"] = d, l
		return true
	}
	var clause []sat.Lit // what must change if there is none
	if domain != nil {
		clause = append(clause, domain.v.Not())
		lits = append(lits, partLit(of, domain, lang.DomainOf)...)
	}
	if local != nil {
		clause = append(clause, local.v.Not())
		lits = append(lits, partLit(of, local, lang.LocalOf)...)
	}
	s, r, blamed := q.find(lits, q.addressShape(of, domain), first, func(s string) (lang.Cond, bool) {
		return q.outsideParts(of, s, domain, local)
	})
	if r == lang.None {
		for _, i := range blamed {
			if i < len(ids) {
				clause = append(clause, q.negated(q.atoms[ids[i]]))
			}
		}
		q.s.Add(clause...)
		return false
	}
	if i := strings.LastIndexByte(s, '@'); r == lang.Found && (i > 0 || s == "") {
		m.texts[of+".domain"], m.texts[of+".local"] = s[i+1:], s[:max(i, 0)]
	}
	return true
}

// onWhole gives what the solver says of an address, of its parts too, as conditions
// on the whole of it, each with its atom.
func (q *query) onWhole(of string, c *classes) (lits []lang.Lit, ids []int32) {
	for _, id := range c.langs {
		lits, ids = append(lits, q.signed(id)), append(ids, id)
	}
	for _, part := range q.terms {
		if part.name != of+".domain" && part.name != of+".local" {
			continue
		}
		for _, id := range part.langs {
			l := q.signed(id)
			l.Cond = q.v.onPart(id, part.name == of+".local")
			lits, ids = append(lits, l), append(ids, id)
		}
	}
	return lits, ids
}

// onPart gives an atom's condition on a part of an address as one on the whole. It is
// kept, with its automaton.
func (v *prover) onPart(id int32, local bool) lang.Cond {
	c, known := v.parts[id]
	if !known {
		if c = lang.DomainOf(v.u.atoms[id].cond); local {
			c = lang.LocalOf(v.u.atoms[id].cond)
		}
		v.parts[id] = c
	}
	return c
}

func all(lits []lang.Lit, s string) bool {
	for _, l := range lits {
		if !l.Holds(s) {
			return false
		}
	}
	return true
}

// partLit says of an address what a class says of a part of it.
func partLit(of string, k *class, part func(lang.Cond) lang.Cond) []lang.Lit {
	switch {
	case of == senderTerm && k.text == "" && !k.fresh:
		return []lang.Lit{{Cond: lang.Equal("")}}
	case !k.fresh:
		return []lang.Lit{{Cond: part(lang.Equal(k.text))}}
	case k.ends != "":
		return []lang.Lit{{Cond: part(lang.Suffix(k.ends))}}
	}
	return nil
}

func (q *query) addressShape(of string, domain *class) []lang.Cond {
	if of == senderTerm && (domain == nil || domain.text == "") {
		return []lang.Cond{q.v.shapes.address, q.v.shapes.located} // the null reverse-path is one
	}
	return []lang.Cond{q.v.shapes.address, q.v.shapes.located, q.v.shapes.something}
}

// outsideParts names the condition by which an address falls out of the class that
// was chosen for one of its parts.
func (q *query) outsideParts(of, s string, domain, local *class) (lang.Cond, bool) {
	i := strings.LastIndexByte(s, '@')
	for _, c := range q.terms {
		k, part, text := domain, lang.DomainOf, s[i+1:]
		switch c.name {
		case of + ".local":
			k, part, text = local, lang.LocalOf, s[:max(i, 0)]
		case of + ".domain":
		default:
			continue
		}
		if k == nil || !k.fresh {
			continue
		}
		if cond, out := c.outside(text, k); out {
			if s == "" {
				return lang.Equal(s), true // the null reverse-path: another address may be without it
			}
			return part(cond), true
		}
	}
	return lang.Cond{}, false
}
