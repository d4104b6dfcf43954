package lang

import "unicode/utf8"

// Walk asks the condition's automaton about s, letter by letter as the proof at
// alphabet has it, without spokesmen. exact is false where it has none.
func Walk(c Cond, s string) (holds, exact bool) {
	m, exact := c.get().machine()
	if !exact {
		return false, false
	}
	means := &meter{1 << 30}
	q := m.start(means)
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		l := letter{text: s[i : i+n], r: r}
		if r == utf8.RuneError && n == 1 {
			l = strayLetter()
		}
		for _, symbol := range m.spell(nil, &l) {
			q = m.next(q, symbol, means)
		}
		i += n
	}
	return m.accepts(q), true
}

// Better reports whether a person likes s better than t.
func Better(s, t string) bool { return costOfString(s).compare(costOfString(t)) < 0 }
