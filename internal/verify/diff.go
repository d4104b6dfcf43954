package verify

import (
	"reflect"
	"slices"

	"postern.dev/postern/internal/policy"
)

// maxChanges bounds how many classes of messages a comparison lists.
const maxChanges = 64

// Comparison is what differs between two policies. Complete is false if the search was
// cut short, so that there may be more; Stopped is then the filter at which time was up,
// where that was the cause.
type Comparison struct {
	Changes  []Change
	Complete bool
	Stopped  *policy.Filter
}

// Diff gives each class of messages whose fate differs between two policies: what
// becomes of it (delivered, refused, ...), over which pool, to which recipient, and
// for a refusal its code. A class is one pair of deciding filters in one origin, with
// a message that shows it. Behind them come the effects that differ where the fate is
// the same, each once for an origin.
func Diff(old, next *policy.Program, o Options) *Comparison {
	d := &differ2{v: newProver(old, o), old: old, next: next, complete: true}
	d.w = newProver(next, o)
	d.w.u, d.w.conds = d.v.u, d.v.conds
	d.same = reflect.DeepEqual(bare(old.Topology), bare(next.Topology))
	scenes := [][2]*scene{{d.v.stranger(), d.w.stranger()}}
	for i := range next.Topology.Inside {
		h := &next.Topology.Inside[i]
		if g := hostNamed(old.Topology, h); g != nil {
			scenes = append(scenes, [2]*scene{d.v.insider(g), d.w.insider(h)})
		}
	}
	scenes = append(scenes, [2]*scene{d.v.customer(), d.w.customer()})
	for _, sc := range scenes {
		d.pair(sc[0], sc[1])
	}
	for _, sc := range scenes {
		d.effects(sc[0], sc[1])
	}
	out := &Comparison{Changes: d.changes, Complete: d.complete}
	if d.v.ended || d.w.ended {
		out.Stopped = d.v.here
		if d.w.here != nil && d.v.here == nil {
			out.Stopped = d.w.here
		}
	}
	return out
}

// bare is a topology without positions and sources, which decide nothing.
func bare(t *policy.Topology) policy.Topology {
	out := *t
	out.Pools, out.SinkPos, out.PostmasterPos = nil, nil, policy.Pos{}
	out.Listeners = append([]policy.Listener(nil), t.Listeners...)
	for i := range out.Listeners {
		out.Listeners[i].Pos = policy.Pos{}
	}
	out.Customers = append([]policy.CustomerDef(nil), t.Customers...)
	for i := range out.Customers {
		c := &out.Customers[i]
		c.Pos, c.Senders = policy.Pos{}, bareAll(c.Senders)
	}
	out.Inside = append([]policy.InsideHost(nil), t.Inside...)
	for i := range out.Inside {
		h := &out.Inside[i]
		h.Pos, h.Domains = policy.Pos{}, bareAll(h.Domains)
	}
	out.Accept = bareAll(t.Accept)
	return out
}

func bareAll(ps []policy.Pattern) []policy.Pattern {
	out := append([]policy.Pattern(nil), ps...)
	for i := range out {
		out[i].Pos = policy.Pos{}
	}
	return out
}

func hostNamed(t *policy.Topology, h *policy.InsideHost) *policy.InsideHost {
	for i := range t.Inside {
		if t.Inside[i].Address == h.Address {
			return &t.Inside[i]
		}
	}
	return nil
}

// differ2 is one comparison under way: a prover for each side, over one universe.
type differ2 struct {
	v, w      *prover
	old, next *policy.Program
	same      bool          // the topologies decide alike
	leaking   policy.Origin // what the old policy relays for it is left out
	changes   []Change
	complete  bool
	budget    int
}

// pair compares what the two policies do with the messages of one sort.
func (d *differ2) pair(a, b *scene) {
	la, lb := d.v.read(a, d.old.Filters), d.w.read(b, d.next.Filters)
	if d.v.late() || d.w.late() {
		d.complete = false
		return
	}
	quiet := d.same && sameState(la, lb)
	fa, fb := d.v.fates(la), d.w.fates(lb)
	both := joint(a, b)
	if !d.same {
		d.doors(a, b, fa, fb)
	}
	o := newOrder(fa, fb, changedFilters(d.old.Filters, d.next.Filters), quiet)
	for i := range fa {
		if fa[i].by != nil {
			d.v.here = fa[i].by
		}
		for _, j := range o.against(i) {
			if o.settled(i, j) {
				continue
			}
			d.compare(both, fa[i], fb[j])
			if !d.complete {
				return
			}
		}
		if i%256 == 255 && d.v.late() {
			d.complete = false
			return
		}
	}
}

// joint is the scene of what both policies let past the door.
func joint(a, b *scene) *scene {
	both := *a
	both.pre = and(a.pre, b.pre)
	both.listeners = union(a.listeners, b.listeners)
	return &both
}

// order tells which pairs of fates need no comparing.
type order struct {
	quiet bool  // nothing that conditions see has changed
	place []int // of an old fate in the new list, -1 if it is not there or has changed
	was   []int // of a new fate in the old list, likewise
	all   []int // the new fates
	ahead []int // those of them that have changed, or have come before one that they were behind
}

func newOrder(fa, fb []*fate, changed map[string]bool, quiet bool) *order {
	o := &order{quiet: quiet, place: make([]int, len(fa)), was: make([]int, len(fb))}
	at := make(map[string]int, len(fb))
	for j, f := range fb {
		at[f.filter] = j
		o.was[j] = -1
	}
	for i, f := range fa {
		o.place[i] = -1
		if j, there := at[f.filter]; there && !changed[f.filter] {
			o.place[i], o.was[j] = j, i
		}
	}
	o.all = make([]int, len(fb))
	first := len(fa) // of the old places of those further down
	for j := len(fb) - 1; j >= 0; j-- {
		o.all[j] = j
		if o.was[j] < 0 || o.was[j] > first {
			o.ahead = append(o.ahead, j)
		}
		if o.was[j] >= 0 {
			first = min(first, o.was[j])
		}
	}
	slices.Reverse(o.ahead)
	return o
}

// against gives the new fates that may not be settled for an old one: of a long list
// that has kept its order, few.
func (o *order) against(i int) []int {
	if o.quiet && o.place[i] >= 0 {
		return o.ahead
	}
	return o.all
}

// settled reports that no message can go from fate i to fate j, where nothing that
// conditions see has changed. What i decided fulfils its condition, so in the new list i
// decides it or a filter before it, unless i has changed; and what j decides would in
// the old list have been decided by j or a filter before it, likewise.
func (o *order) settled(i, j int) bool {
	if !o.quiet {
		return false
	}
	return o.place[i] >= 0 && j >= o.place[i] || o.was[j] >= 0 && o.was[j] < i
}

// sameState reports that the filters which change what conditions see are the same
// in both lists, with the same final filters between them.
func sameState(a, b *list) bool {
	x, y := stateful(a), stateful(b)
	return reflect.DeepEqual(x, y)
}

func stateful(l *list) []string {
	var out []string
	for i := range l.lines {
		f := l.lines[i].f
		if f.Then != nil {
			continue
		}
		for k := range f.Do {
			switch f.Do[k].Kind {
			case policy.DoTag, policy.DoSetRcpt, policy.DoPool:
				return append(out, spell(l.lines)) // rare: compare the lists as a whole
			}
		}
	}
	return out
}

// changedFilters names the filters of the old list that the new one has not, or has
// otherwise.
func changedFilters(old, next []policy.Filter) map[string]bool {
	now := make(map[string]*policy.Filter, len(next))
	for i := range next {
		now[next[i].Name] = &next[i]
	}
	out := map[string]bool{}
	was := make(map[string]bool, len(old))
	for i := range old {
		f := &old[i]
		was[f.Name] = true
		if g, there := now[f.Name]; !there || !alike(f, g) {
			out[f.Name] = true
		}
	}
	for i := range next {
		if !was[next[i].Name] {
			out[next[i].Name] = true
		}
	}
	return out
}

// alike reports that two filters say the same; one that was only moved shares its
// parts with what it was.
func alike(a, b *policy.Filter) bool {
	if a.If == b.If && a.Then == b.Then && len(a.Do) == len(b.Do) && (len(a.Do) == 0 || &a.Do[0] == &b.Do[0]) {
		return true
	}
	return spellFilter(a) == spellFilter(b)
}

func (d *differ2) compare(sc *scene, a, b *fate) {
	diff := differ(a, b)
	if !d.same && a.disposition == policy.Deliver && b.disposition == policy.Deliver {
		diff = or(diff, unlike(a.inside, b.inside))
	}
	if diff.isFalse() {
		return
	}
	if d.budget++; d.budget > maxPairs {
		d.complete = false
		return
	}
	hold := []*form{a.cond, b.cond, diff}
	if sc.origin == d.leaking && a.disposition == policy.Deliver {
		var kept []*form
		for _, h := range a.inside {
			if h.pool != "" {
				kept = append(kept, h.when)
			}
		}
		hold = append(hold, or(kept...))
	}
	d.find(sc, hold, a.above, b.above, func(o, n *policy.Decision) bool {
		return o.Filter == a.filter && n.Filter == b.filter
	})
}

const maxPairs = 50_000

// find lists a message for which hold and not fail, and whose decisions are the ones
// that are looked for: another one would stand for another class.
func (d *differ2) find(sc *scene, hold, fail, fail2 []*form, wanted func(o, n *policy.Decision) bool) {
	r, _ := d.v.askBoth(sc, hold, fail, fail2, func(f *policy.Facts) bool {
		o, _ := policy.Eval(d.old, f)
		n, _ := policy.Eval(d.next, f)
		if sameFate(&o, &n) || !wanted(&o, &n) {
			return false
		}
		if len(d.changes) >= maxChanges {
			d.complete = false
			return true
		}
		d.changes = append(d.changes, Change{Facts: *f, Old: o, New: n})
		return true
	})
	if r == unknown {
		d.complete = false
	}
}

func sameFate(a, b *policy.Decision) bool {
	return a.Disposition == b.Disposition && (a.Disposition != policy.Deliver || a.Rcpt == b.Rcpt && a.Pool == b.Pool && a.Inside == b.Inside) &&
		(a.Disposition != policy.Refused || a.Code == b.Code)
}

// doors compares what only one of the policies lets past its door, in a class for
// each fate on the other side. What a filter refuses as a door does is the same but for
// recipients that the other policy takes at its door.
func (d *differ2) doors(a, b *scene, fa, fb []*fate) {
	taken := func(v *prover, f *fate, past *form) []*form {
		hold := []*form{f.cond, not(past)}
		if f.likeDoor() {
			hold = append(hold, v.matchAny(v.reports(), rcptTerm))
		}
		return hold
	}
	for _, f := range fa {
		d.find(a, taken(d.w, f, b.pre), f.above, nil, func(o, _ *policy.Decision) bool { return o.Filter == f.filter })
	}
	for _, f := range fb {
		d.find(b, taken(d.v, f, a.pre), f.above, nil, func(_, n *policy.Decision) bool { return n.Filter == f.filter })
	}
	d.atDoors(a)
}

// atDoors compares what both policies take at their doors: it hangs on the recipient
// alone. All of an origin are one class.
func (d *differ2) atDoors(sc *scene) {
	for _, p := range d.v.reports() {
		if !matchesAny(d.w.reports(), p.Address) || len(sc.listeners) == 0 {
			continue
		}
		f := (&model{q: &query{v: d.v, sc: sc}, texts: map[string]string{"rcpt.local": p.Address.Local, "rcpt.domain": p.Address.Domain}, size: -1}).facts()
		o, _ := policy.Eval(d.old, f)
		n, _ := policy.Eval(d.next, f)
		if !sameFate(&o, &n) {
			d.changes = append(d.changes, Change{Facts: *f, Old: o, New: n})
			return
		}
	}
}

func matchesAny(ps []policy.Pattern, a policy.Address) bool {
	return slices.ContainsFunc(ps, func(p policy.Pattern) bool { return p.Match(a) })
}

// likeDoor reports a fate that comes to the same as being refused at the door.
func (f *fate) likeDoor() bool { return f.disposition == policy.Refused && f.code == doorCode }

// doorCode is the reply to what the door or the end of the list refuses.
const doorCode = 550

func union(a, b []string) []string { return sortedSet(append(append([]string(nil), a...), b...)) }
