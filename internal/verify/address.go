package verify

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"postern.dev/postern/internal/verify/lang"
	"postern.dev/postern/internal/verify/sat"
)

// checkAddress finds an address on which the expressions over the whole of it hold,
// within the classes that were chosen for its parts.
func (q *query) checkAddress(of string, c *classes, chosen map[string]*class, m *model) bool {
	domain, local := chosen[of+".domain"], chosen[of+".local"]
	lits := make([]lang.Lit, 0, len(c.langs)+2)
	for _, id := range c.langs {
		lits = append(lits, q.signed(id))
	}
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
		lits = append(lits, domainLit(of, domain)...)
	}
	if local != nil {
		clause = append(clause, local.v.Not())
		lits = append(lits, localLit(of, local)...)
	}
	clause = append(clause, q.partsRead(of)...)
	if of == rcptTerm || domain != nil && domain.text != "" {
		lits = append(lits, q.lifted(of)...)
	}
	tries := 0
	s, r, blamed := q.find(lits, q.addressShape(of, domain), first, func(s string) (lang.Cond, bool) {
		if c, out := q.outsideParts(of, s, domain, local); out {
			return c, true
		}
		c, out := q.misreadParts(of, s)
		if tries++; tries > maxMisread {
			return c, false // what is found will not do: unknown
		}
		return c, out
	})
	if r == lang.None {
		for _, i := range blamed {
			if i < len(c.langs) {
				clause = append(clause, q.negated(q.atoms[c.langs[i]]))
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

func all(lits []lang.Lit, s string) bool {
	for _, l := range lits {
		if !l.Holds(s) {
			return false
		}
	}
	return true
}

// domainLit says of an address what a class says of its domain.
func domainLit(of string, k *class) []lang.Lit {
	switch {
	case of == senderTerm && k.text == "" && !k.fresh:
		return []lang.Lit{{Cond: lang.Equal("")}}
	case !k.fresh:
		return []lang.Lit{{Cond: lang.Suffix("@" + k.text)}}
	case k.ends != "":
		return []lang.Lit{{Cond: lang.Suffix(k.ends)}}
	}
	return nil
}

// localLit says of an address what a class says of its local part.
func localLit(of string, k *class) []lang.Lit {
	switch {
	case of == senderTerm && k.text == "" && !k.fresh:
		return []lang.Lit{{Cond: lang.Equal("")}}
	case !k.fresh:
		if c, ok := localIs(k.text); ok {
			return []lang.Lit{{Cond: c}}
		}
		return []lang.Lit{{Cond: lang.Prefix(k.text + "@")}}
	case k.ends != "":
		if c, ok := localSuffix(k.ends); ok {
			return []lang.Lit{{Cond: c}}
		}
	}
	return nil
}

// localSuffix is the condition on an address that its local part ends with s.
func localSuffix(s string) (lang.Cond, bool) {
	c, err := lang.Match(`(?s)` + regexp.QuoteMeta(s) + `@[^@]*\z`)
	return c, err == nil && utf8.ValidString(s)
}

// localIs is the condition on an address that s is its local part: the last @ divides.
func localIs(s string) (lang.Cond, bool) {
	c, err := lang.Match(`\A` + regexp.QuoteMeta(s) + `@[^@]*\z`)
	return c, err == nil && utf8.ValidString(s)
}

// lifted says of a whole address, not the null one, what globs say of its parts.
func (q *query) lifted(of string) []lang.Lit {
	var out []lang.Lit
	for _, c := range q.terms {
		if c.name != of+".domain" && c.name != of+".local" {
			continue
		}
		for _, id := range c.langs {
			g, isGlob := strings.CutPrefix(q.v.u.atoms[id].text, "g")
			if !isGlob || strings.ContainsAny(g, "?@") || !utf8.ValidString(g) {
				continue // ? is an octet, which no expression reads
			}
			parts := strings.Split(regexp.QuoteMeta(g), `\*`)
			re := `(?s)\A` + strings.Join(parts, ".*") + `@[^@]*\z`
			if c.name == of+".domain" {
				re = `@` + strings.Join(parts, "[^@]*") + `\z`
			}
			if cond, err := lang.Match(re); err == nil {
				out = append(out, lang.Lit{Cond: cond, Neg: !q.s.Value(q.atoms[id])})
			}
		}
	}
	return out
}

// partsRead negates what the solver says of the expressions on the parts of an
// address: that there is no address may be due to them.
func (q *query) partsRead(of string) []sat.Lit {
	var out []sat.Lit
	for _, c := range q.terms {
		if c.name == of+".domain" || c.name == of+".local" {
			for _, id := range c.langs {
				out = append(out, q.negated(q.atoms[id]))
			}
		}
	}
	return out
}

// misread reports an expression on a part of an address that the solver has otherwise.
func (q *query) misread(c *classes, s string) bool {
	return slices.ContainsFunc(c.langs, func(id int32) bool {
		l := q.signed(id)
		return !l.Holds(s)
	})
}

// maxMisread bounds the addresses that are tried where expressions read both a part
// of an address and the whole: no automaton joins the two.
const maxMisread = 24

// misreadParts names the condition by which an address is not what the expressions on
// its parts ask for.
func (q *query) misreadParts(of, s string) (lang.Cond, bool) {
	i := strings.LastIndexByte(s, '@')
	for _, c := range q.terms {
		switch {
		case c.name == of+".domain" && q.misread(c, s[i+1:]):
			if s == "" {
				return lang.Equal(s), true
			}
			return lang.Suffix(s[i:]), true
		case c.name == of+".local" && q.misread(c, s[:max(i, 0)]):
			return localCond(s, ""), true
		}
	}
	return lang.Cond{}, false
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
		switch {
		case c.name == of+".domain" && domain != nil && domain.fresh:
			d := s[i+1:]
			if c.taken[d] && d != "" {
				return lang.Suffix("@" + d), true
			}
			if cond, out := c.outside(d, domain); out && !c.taken[d] {
				return cond, true
			}
		case c.name == of+".local" && local != nil && local.fresh:
			if tail, out := c.outsideTail(s[:max(i, 0)], local); out {
				return localCond(s, tail), true
			}
		}
	}
	return lang.Cond{}, false
}

// localCond is the condition of an address to have the local part of s or, where tail
// is given, one that ends with it.
func localCond(s, tail string) lang.Cond {
	i := strings.LastIndexByte(s, '@')
	if i > 0 && tail != "" {
		if c, ok := localSuffix(tail); ok {
			return c
		}
	} else if i > 0 {
		if c, ok := localIs(s[:i]); ok {
			return c
		}
	}
	return lang.Equal(s)
}
