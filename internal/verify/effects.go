package verify

import (
	"fmt"
	"slices"

	"postern.dev/postern/internal/policy"
)

// effect names an effect, whatever its value.
type effect struct {
	kind EffectKind
	name string
}

// done is what a message's filters do beside deciding: the value of each effect.
type done map[effect]string

// doneBy reads the effects of a decision.
func doneBy(d *policy.Decision) done {
	out := done{}
	for _, s := range d.Effects.Logs {
		out[effect{EffectLog, s}] = yes
	}
	for _, s := range d.Effects.Tags {
		out[effect{EffectTag, s}] = yes
	}
	if counts(EffectHeader, d.Disposition) {
		for _, h := range d.Effects.Headers {
			out[effect{EffectHeader, h.Name}] = h.Value
		}
		for _, l := range d.Effects.Limits {
			out[effect{EffectLimit, l.Filter}] = rate(l.Rate)
		}
	}
	if counts(EffectCopy, d.Disposition) {
		for _, c := range d.Effects.Copies {
			out[effect{EffectCopy, c.Rcpt.String()}] = yes
		}
	}
	if d.Disposition == policy.Hold {
		out[effect{EffectHeld, ""}] = d.Rcpt.String()
	}
	return out
}

// yes is the value of an effect that has no other.
const yes = "yes"

func rate(r policy.Rate) string { return fmt.Sprintf("%d in %ds", r.Count, r.Seconds) }

// counts reports whether an effect comes to anything for a message of that fate.
func counts(k EffectKind, d policy.Disposition) bool {
	switch k {
	case EffectHeader, EffectLimit:
		return d == policy.Deliver || d == policy.Hold
	case EffectCopy:
		return d == policy.Deliver || d == policy.Hold || d == policy.Drop
	case EffectHeld:
		return d == policy.Hold
	}
	return true
}

// does is what one policy does to the messages of a scene, as formulas.
type does struct {
	values map[effect]map[string]*form // when an effect has a value
	order  []effect
	fates  map[string]*form // when a message has a disposition, code, pool, inside host or recipient
}

// doings reads a list. to are the recipients that either policy rewrites to. The
// formulas share their parts: that no final line above applies is said once.
func (v *prover) doings(l *list, to []policy.Address) *does {
	out := &does{values: map[effect]map[string]*form{}, fates: map[string]*form{}}
	fates, lives := v.fates(l), truth()
	n := 0
	accepting := map[policy.Disposition]*form{}
	var acts []act
	note := func(f *fate, st *state, applies *form) {
		accepting[f.disposition] = or(formOr(accepting[f.disposition]), applies)
		v.noteFate(out, l.sc, f, st, applies, to)
	}
	for i := range l.lines {
		ln := &l.lines[i]
		applies := both(lives, ln.cond)
		for k := range ln.f.Do {
			acts = append(acts, act{ln.f.Name, &ln.f.Do[k], applies})
		}
		if ln.f.Then == nil {
			continue
		}
		note(fates[n], ln.after, applies)
		n++
		lives = both(lives, not(ln.cond))
	}
	if l.whole {
		note(fates[n], l.end, lives)
	}
	for _, a := range acts {
		out.add(a, accepting)
	}
	return out
}

// act is an action of a filter, and when it is taken.
type act struct {
	filter string
	do     *policy.Action
	when   *form
}

// both joins two formulas without copying their parts, so that a chain stays short.
func both(a, b *form) *form {
	if a.isFalse() || b.isTrue() {
		return a
	}
	if a.isTrue() || b.isFalse() {
		return b
	}
	return &form{op: opAnd, kids: []*form{a, b}}
}

func formOr(f *form) *form {
	if f == nil {
		return falsity()
	}
	return f
}

// noteFate adds one way in which a message can end.
func (v *prover) noteFate(out *does, sc *scene, f *fate, st *state, applies *form, to []policy.Address) {
	add := func(key string, when *form) { out.fates[key] = or(formOr(out.fates[key]), both(applies, when)) }
	add(fmt.Sprintf("%s %d", f.disposition, f.code), truth())
	if f.disposition == policy.Deliver {
		for _, p := range f.pools {
			add("pool "+p.pool, p.when)
		}
		for _, h := range f.inside {
			add("inside "+h.pool, h.when)
		}
	}
	for _, a := range to {
		is := v.finalRcpt(sc, st, []policy.Pattern{{Kind: policy.MatchAddress, Address: a}})
		switch f.disposition {
		case policy.Deliver:
			add("to "+a.String(), is)
		case policy.Hold:
			out.value(effect{EffectHeld, ""}, a.String(), both(applies, is))
		}
	}
}

func (o *does) value(e effect, value string, when *form) {
	if o.values[e] == nil {
		o.values[e] = map[string]*form{}
		o.order = append(o.order, e)
	}
	o.values[e][value] = or(formOr(o.values[e][value]), when)
}

// add takes in an action. The last value of a header counts, and the last limit of a
// filter.
func (o *does) add(a act, accepting map[policy.Disposition]*form) {
	e, value := effect{}, yes
	switch a.do.Kind {
	case policy.DoLog:
		e = effect{EffectLog, a.do.Text}
	case policy.DoTag:
		e = effect{EffectTag, a.do.Text}
	case policy.DoSetHeader:
		e, value = effect{EffectHeader, a.do.Name}, a.do.Text
	case policy.DoLimit:
		e, value = effect{EffectLimit, a.filter}, rate(a.do.Rate)
	case policy.DoCopy:
		e = effect{EffectCopy, a.do.Rcpt.String()}
	default:
		return
	}
	when := a.when
	if e.kind != EffectLog && e.kind != EffectTag {
		var fs []*form
		for _, d := range []policy.Disposition{policy.Deliver, policy.Hold, policy.Drop} {
			if counts(e.kind, d) {
				fs = append(fs, formOr(accepting[d]))
			}
		}
		when = both(when, or(fs...))
	}
	for other, was := range o.values[e] {
		if other != value {
			o.values[e][other] = both(was, not(when))
		}
	}
	o.value(e, value, when)
}

// unequal is the formula of "one of two holds and not the other".
func unequal(a, b *form) *form { return or(both(a, not(b)), both(b, not(a))) }

// effects lists the effects that differ for messages whose fate is the same.
func (d *differ2) effects(a, b *scene) {
	la, lb := d.v.read(a, d.old.Filters), d.w.read(b, d.next.Filters)
	d.complete = d.complete && !d.v.late() && !d.w.late()
	if !hasEffects(la) && !hasEffects(lb) || !d.complete {
		return
	}
	to := rewritten(la, lb)
	da, db := d.v.doings(la, to), d.w.doings(lb, to)
	hold := []*form{}
	for _, key := range union(sortedKeys(da.fates), sortedKeys(db.fates)) {
		hold = append(hold, not(unequal(formOr(da.fates[key]), formOr(db.fates[key]))))
	}
	todo, differs := []effect{}, map[effect]*form{}
	for _, e := range slices.Concat(da.order, db.order) {
		if differs[e] != nil {
			continue
		}
		var fs []*form
		for _, value := range union(sortedKeys(da.values[e]), sortedKeys(db.values[e])) {
			fs = append(fs, unequal(formOr(da.values[e][value]), formOr(db.values[e][value])))
		}
		if differs[e] = or(fs...); !differs[e].isFalse() {
			todo = append(todo, e)
		}
	}
	listed := d.findAll(joint(a, b), hold, todo, differs)
	if !d.same {
		listed = append(listed, d.doorEffects(a, b, da, listed)...)
		d.doorEffects(b, a, db, listed)
	}
}

// doorEffects lists what is logged or tagged of messages that one policy refuses by a
// filter, or by default, and the other at the door with the same reply.
func (d *differ2) doorEffects(past, kept *scene, by *does, listed []effect) []effect {
	var todo []effect
	differs := map[effect]*form{}
	for _, e := range by.order {
		if (e.kind == EffectLog || e.kind == EffectTag) && !slices.Contains(listed, e) {
			todo, differs[e] = append(todo, e), formOr(by.values[e][yes])
		}
	}
	refused := formOr(by.fates[fmt.Sprintf("%s %d", policy.Refused, doorCode)])
	return d.findAll(past, []*form{not(kept.pre), refused}, todo, differs)
}

// findAll lists the effects that may differ and do, and gives those that it listed.
func (d *differ2) findAll(sc *scene, hold []*form, todo []effect, differs map[effect]*form) (listed []effect) {
	for len(todo) > 0 && d.complete {
		left := d.findEffects(sc, hold, todo, differs)
		if left == nil {
			return listed
		}
		for _, e := range todo {
			if !slices.Contains(left, e) {
				listed = append(listed, e)
			}
		}
		todo = left
	}
	return listed
}

// findEffects lists what a message shows of the effects that may differ, and gives
// those that are left: nil where no message shows any.
func (d *differ2) findEffects(sc *scene, hold []*form, todo []effect, differs map[effect]*form) (left []effect) {
	var some []*form
	for _, e := range todo {
		some = append(some, differs[e])
	}
	r, _ := d.v.ask(sc, append(slices.Clip(hold), or(some...)), nil, func(f *policy.Facts) bool {
		o, _ := policy.Eval(d.old, f)
		n, _ := policy.Eval(d.next, f)
		if !sameFate(&o, &n) {
			return false
		}
		was, is := doneBy(&o), doneBy(&n)
		left = slices.DeleteFunc(append([]effect{}, todo...), func(e effect) bool { return was[e] != is[e] })
		if len(left) == len(todo) {
			return false
		}
		for _, e := range todo {
			if was[e] == is[e] {
				continue
			}
			if len(d.changes) >= maxChanges {
				d.complete = false
				return true
			}
			d.changes = append(d.changes, Change{Facts: *f, Old: o, New: n, Effect: &Effect{Kind: e.kind, Name: e.name, Old: was[e], New: is[e]}})
		}
		return true
	})
	if r == found {
		return left
	}
	d.complete = d.complete && r == none
	return nil
}

// hasEffects reports a list in which filters do more than decide.
func hasEffects(l *list) bool {
	return slices.ContainsFunc(l.lines, func(ln line) bool { return len(ln.f.Do) > 0 })
}

// rewritten gives the recipients that filters put in place of others.
func rewritten(ls ...*list) (out []policy.Address) {
	for _, l := range ls {
		for i := range l.lines {
			for _, a := range l.lines[i].f.Do {
				if a.Kind == policy.DoSetRcpt && !slices.Contains(out, a.Rcpt) {
					out = append(out, a.Rcpt)
				}
			}
		}
	}
	return out
}
