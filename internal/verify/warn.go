package verify

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify/lang"
)

// Bounds of the search for warnings where Options.Enough does not say when to stop.
const (
	maxWarned    = 1000 // filters for which the solver looks for dead ones
	maxRedundant = 200  // filters for which it looks for redundant ones and for pairs
)

// warnings looks for filters that do nothing, and for what reads otherwise than it
// works. It proves what it says: a filter is called dead only if no message of any
// origin comes to it.
func (v *prover) warnings(r *report) {
	w := &warner{v: v, r: r, alive: map[string]bool{}, dead: map[string]bool{}}
	for _, sc := range v.scenes() {
		w.lists = append(w.lists, v.read(sc, v.p.Filters))
	}
	if v.ended {
		return // the lists are not whole
	}
	w.each(maxWarned, []Code{DeadFilter, ShadowedFilter, NeverTrue}, func(i int) { w.look(i, true) }, func(i int) { w.look(i, false) })
	w.each(maxRedundant, []Code{OrderMatters}, w.pair, nil)
	w.each(maxRedundant, []Code{RedundantOne}, w.redundant, nil)
	w.each(len(v.p.Filters), []Code{LooseRegexp}, func(i int) { w.expressions(v.p.Filters[i].If, &v.p.Filters[i]) }, nil)
}

type warner struct {
	v     *prover
	r     *report
	lists []*list
	alive map[string]bool
	dead  map[string]bool
	last  int // the final filter before, for pairs: one behind its index
}

// each looks at one filter after the other, until it is enough: at all of a list that
// is no longer than most where nobody says what is. What is left is noted, and gets
// less, where that is given.
func (w *warner) each(most int, codes []Code, look, less func(i int)) {
	n := len(w.v.p.Filters)
	seen := 0
	if w.v.o.Enough != nil || n <= most {
		for ; seen < n && (w.v.o.Enough == nil || !w.v.o.Enough()) && !w.v.late(); seen++ {
			look(seen)
		}
	}
	if seen == n {
		return
	}
	for _, c := range codes {
		w.r.cut = append(w.r.cut, Cut{Code: c, Seen: seen})
	}
	for i := seen; i < n && less != nil && !w.v.late(); i++ {
		less(i)
	}
}

func (w *warner) warn(code Code, f *policy.Filter, message, hint string, b ...Blocker) {
	w.r.add(Finding{Code: code, Severity: Warning, Status: Open, Filter: f.Name, Pos: f.Pos, Message: message, Hint: hint, Blockers: b})
}

// look asks whether a filter ever applies; where the solver may be asked, by proof,
// else only where it is plain.
func (w *warner) look(i int, solve bool) {
	f := &w.v.p.Filters[i]
	if w.alive[f.Name] {
		return
	}
	past, cut := false, false
	for _, l := range w.lists {
		n, there := l.find(i)
		if !there {
			cut = cut || !l.whole
			continue
		}
		if !solve {
			return
		}
		switch state := w.applies(l, n); state {
		case found, unknown:
			return
		}
		other, _ := w.v.ask(l.sc, []*form{l.lines[n].cond}, nil, nil)
		past = past || other != none
	}
	possible := past || w.possible(f)
	if w.v.late() {
		return // nothing has been proved
	}
	w.dead[f.Name] = true
	switch {
	case past, cut && possible:
		w.shadowed(i)
	case possible:
		w.warn(DeadFilter, f, fmt.Sprintf("filter %q never applies: nothing that fulfils its condition is let in", f.Name), "see accept, and the customers' senders")
	default:
		w.warn(NeverTrue, f, fmt.Sprintf("filter %q never applies: no message can fulfil its condition", f.Name), "do its parts contradict each other?")
	}
}

// find gives the place of a filter in a scene's list.
func (l *list) find(index int) (int, bool) {
	return slices.BinarySearchFunc(l.lines, index, func(ln line, index int) int { return ln.index - index })
}

// possible reports whether some message of some origin, let in or not, fulfils a
// filter's condition by itself.
func (w *warner) possible(f *policy.Filter) bool {
	for _, l := range w.lists {
		free := *l.sc
		free.pre = w.v.inListeners(l.sc)
		st := &state{tags: map[string][]*form{}}
		for _, g := range w.v.p.Filters {
			for k := range g.Do {
				if g.Do[k].Kind == policy.DoTag {
					st.tags[g.Do[k].Text] = []*form{truth()}
				}
			}
		}
		c := (&reader{v: w.v, sc: &free, st: st}).cond(f.If)
		if r, _ := w.v.ask(&free, []*form{c}, nil, nil); r != none {
			return true
		}
	}
	return false
}

// applies asks whether a message comes to line n and fulfils its condition. What it
// finds shows of other filters, too, that they live.
func (w *warner) applies(l *list, n int) answer {
	name := l.lines[n].f.Name
	state, _ := w.v.ask(l.sc, []*form{l.lines[n].cond}, l.finalsAbove(n), func(f *policy.Facts) bool {
		_, trace := policy.Eval(w.v.p, f)
		hit := false
		for _, s := range trace {
			if s.Result == policy.Yes {
				w.alive[s.Filter] = true
				hit = hit || s.Filter == name
			}
		}
		return hit
	})
	return state
}

// shadowed names the earlier filters that take all that filter i would: few, and
// with one of another action among them where there is one.
func (w *warner) shadowed(i int) {
	f := &w.v.p.Filters[i]
	var need []int
	for _, l := range w.lists {
		n, there := l.find(i)
		if !there {
			if k := len(l.lines) - 1; k >= 0 && !l.whole && l.lines[k].index < i {
				need = appendNew(need, l.lines[k].index)
			}
			continue
		}
		need = w.cover(l, n, need)
	}
	var bs []Blocker
	other := false
	for _, k := range need {
		g := &w.v.p.Filters[k]
		bs = append(bs, Blocker{Filter: g.Name, Pos: g.Pos})
		other = other || f.Then == nil || g.Then.Kind != f.Then.Kind || g.Then.Pool != f.Then.Pool
	}
	message := fmt.Sprintf("filter %q never applies: %s above it take%s all that it would", f.Name, names(bs), plural(bs))
	if other {
		message += ", with a different action"
	}
	w.warn(ShadowedFilter, f, message, "move it up, or remove it", bs...)
}

func appendNew(list []int, x int) []int {
	for _, y := range list {
		if x == y {
			return list
		}
	}
	return append(list, x)
}

// cover gives a minimal set of final lines above n that leaves it nothing.
func (w *warner) cover(l *list, n int, need []int) []int {
	var lines []int
	for k := range n {
		if l.lines[k].f.Then != nil {
			lines = append(lines, k)
		}
	}
	empty := func(of []int) bool {
		var fail []*form
		for _, k := range of {
			fail = append(fail, l.lines[k].cond)
		}
		r, _ := w.v.ask(l.sc, []*form{l.lines[n].cond}, fail, nil)
		return r == none
	}
	if empty(nil) {
		return need
	}
	for _, k := range lines {
		if empty([]int{k}) {
			return appendNew(need, l.lines[k].index)
		}
	}
	for i := 0; i < len(lines); {
		rest := append(append([]int(nil), lines[:i]...), lines[i+1:]...)
		if empty(rest) {
			lines = rest
		} else {
			i++
		}
	}
	for _, k := range lines {
		need = appendNew(need, l.lines[k].index)
	}
	return need
}

func names(bs []Blocker) string {
	var ns []string
	for _, b := range bs {
		ns = append(ns, fmt.Sprintf("%q", b.Filter))
	}
	if len(ns) > 4 {
		return fmt.Sprintf("%s and %d more", strings.Join(ns[:3], ", "), len(ns)-3)
	}
	return strings.Join(ns, ", ")
}

func plural(bs []Blocker) string {
	if len(bs) == 1 {
		return "s"
	}
	return ""
}

// redundant asks whether without a final filter every message would have the same
// fate.
func (w *warner) redundant(i int) {
	f := &w.v.p.Filters[i]
	if f.Then == nil || len(f.Do) > 0 || w.dead[f.Name] || !w.isRedundant(i) {
		return
	}
	w.warn(RedundantOne, f, fmt.Sprintf("filter %q is redundant: what it decides would be decided alike without it", f.Name), "remove it, or see whether it was meant for more")
}

func (w *warner) isRedundant(i int) bool {
	for _, l := range w.lists {
		if _, there := l.find(i); !there {
			continue
		}
		fs := w.v.fates(l)
		at := -1
		for k := range fs {
			if fs[k].filter == w.v.p.Filters[i].Name {
				at = k
			}
		}
		rest := w.without(l, i)
		if w.v.late() {
			return false
		}
		for _, later := range rest[at:] {
			diff := differ(fs[at], later)
			if diff.isFalse() {
				continue
			}
			r, _ := w.v.ask(l.sc, []*form{fs[at].cond, later.cond, diff}, append(append([]*form(nil), fs[at].above...), later.above...), nil)
			if r != none {
				return false
			}
		}
	}
	return true
}

// without gives the fates of the list when filter i is left out.
func (w *warner) without(l *list, i int) []*fate {
	rest := append(append([]policy.Filter(nil), w.v.p.Filters[:i]...), w.v.p.Filters[i+1:]...)
	return w.v.fates(w.v.read(l.sc, rest))
}

// pair asks whether a final filter and the one before it decide differently where
// both apply, neither being a special case of the other: there the order is the policy.
func (w *warner) pair(j int) {
	b := &w.v.p.Filters[j]
	if b.Then == nil || w.dead[b.Name] {
		return
	}
	if w.last > 0 && w.matters(w.last-1, j) {
		a := &w.v.p.Filters[w.last-1]
		w.warn(OrderMatters, b, fmt.Sprintf("filters %q and %q overlap and decide differently: their order matters", a.Name, b.Name), "if that is meant, an assert keeps it so",
			Blocker{Filter: a.Name, Pos: a.Pos})
	}
	w.last = j + 1
}

func (w *warner) matters(i, j int) bool {
	overlap, onlyFirst, onlySecond := false, false, false
	for _, l := range w.lists {
		a, here := l.find(i)
		b, there := l.find(j)
		switch {
		case here && !there:
			if !l.whole && len(l.lines) > 0 && l.lines[len(l.lines)-1].index < j {
				continue // j is out of reach here
			}
			r, _ := w.v.ask(l.sc, []*form{l.lines[a].cond}, l.finalsAbove(a), nil)
			onlyFirst = onlyFirst || r == found
			continue
		case there && !here:
			r, _ := w.v.ask(l.sc, []*form{l.lines[b].cond}, l.finalsAbove(b), nil)
			onlySecond = onlySecond || r == found
			continue
		case !here:
			continue
		}
		ca, cb := l.lines[a].cond, l.lines[b].cond
		fa, fb := w.v.fateOf(l.sc, l.lines[a].f.Then, l.lines[a].after), w.v.fateOf(l.sc, l.lines[b].f.Then, l.lines[b].after)
		above := l.finalsAbove(a)
		if r, _ := w.v.ask(l.sc, []*form{ca, cb, differ(fa, fb)}, above, nil); r == found {
			overlap = true
		}
		if r, _ := w.v.ask(l.sc, []*form{ca, not(cb)}, above, nil); r == found {
			onlyFirst = true
		}
		if r, _ := w.v.ask(l.sc, []*form{cb, not(ca)}, above, nil); r == found {
			onlySecond = true
		}
	}
	return overlap && onlyFirst && onlySecond
}

// expressions warns of regular expressions on domains and addresses that match more
// than they seem to. What is not anchored at its end the language itself warns of.
func (w *warner) expressions(x policy.Expr, f *policy.Filter) {
	switch x := x.(type) {
	case *policy.Not:
		w.expressions(x.X, f)
	case *policy.Binary:
		w.expressions(x.L, f)
		w.expressions(x.R, f)
	case *policy.Call:
		if field, ok := firstField(x); ok && x.Func == "matches" {
			w.expression(x, field.Name, f)
		}
	}
}

func firstField(x *policy.Call) (*policy.Field, bool) {
	if len(x.Args) != 2 {
		return nil, false
	}
	f, ok := x.Args[0].(*policy.Field)
	return f, ok
}

func (w *warner) expression(x *policy.Call, field string, f *policy.Filter) {
	s, _ := literalText(x.Args[1])
	re, err := syntax.Parse(s, syntax.Perl)
	c, cerr := lang.Match(s)
	k := kindOf(field)
	if err != nil || cerr != nil || (k != kindDomain && k != kindAddress) {
		return
	}
	find := func(message, hint string) {
		w.r.add(Finding{Code: LooseRegexp, Severity: Warning, Status: Open, Filter: f.Name, Pos: x.Args[1].Position(), Message: message, Hint: hint})
	}
	if bareDot(re) {
		find(fmt.Sprintf("expression %q has a dot that stands for any character", s), `write \. for a dot`)
		return
	}
	shape := w.v.shapes.domain
	if k == kindAddress {
		shape = w.v.shapes.address
	}
	example, r := lang.Find([]lang.Lit{{Cond: c}}, lang.Options{MaxStates: w.v.o.States, Stop: w.v.late, Shape: []lang.Cond{shape, w.v.shapes.something}})
	if r == lang.Found && !atLabel(re) && longest(re) >= 4 && !strings.Contains(s, "@") && c.Holds("evil"+example) && k == kindDomain {
		find(fmt.Sprintf("expression %q matches %q too: nothing ties its beginning", s, "evil"+example), `begin it with "^" or "(^|\\.)"`)
	}
}

// atLabel reports an expression whose matches begin at the dot between two labels.
func atLabel(re *syntax.Regexp) bool {
	for re.Op == syntax.OpConcat || re.Op == syntax.OpCapture {
		re = re.Sub[0]
	}
	return re.Op == syntax.OpLiteral && re.Rune[0] == '.'
}

// bareDot reports an unescaped dot between letters or digits.
func bareDot(re *syntax.Regexp) bool {
	for i, sub := range re.Sub {
		if bareDot(sub) {
			return true
		}
		if re.Op == syntax.OpConcat && (sub.Op == syntax.OpAnyCharNotNL || sub.Op == syntax.OpAnyChar) && i > 0 && i+1 < len(re.Sub) &&
			re.Sub[i-1].Op == syntax.OpLiteral && re.Sub[i+1].Op == syntax.OpLiteral {
			return true
		}
	}
	return false
}

// longest gives the length of the longest literal of an expression.
func longest(re *syntax.Regexp) int {
	n := 0
	if re.Op == syntax.OpLiteral {
		n = len(re.Rune)
	}
	for _, sub := range re.Sub {
		n = max(n, longest(sub))
	}
	return n
}
