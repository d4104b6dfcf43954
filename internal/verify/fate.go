package verify

import "postern.dev/postern/internal/policy"

// fate is what a line of a list decides, as far as claims and comparisons look at
// it. A pool and an inside host come with when they apply.
type fate struct {
	filter      string         // "" is the default at the end of the list
	by          *policy.Filter // that one, nil for the default
	disposition policy.Disposition
	code        int
	pools       []poolSet
	inside      []poolSet
	rewrites    []rewrite
	cond        *form   // of the deciding line
	above       []*form // the final lines above
}

// fates lists what can become of the messages of a list's scene, in order.
func (v *prover) fates(l *list) []*fate {
	var out []*fate
	var above []*form
	for n := range l.lines {
		ln := &l.lines[n]
		if ln.f.Then == nil {
			continue
		}
		f := v.fateOf(l.sc, ln.f.Then, ln.after)
		f.filter, f.by, f.cond, f.above = ln.f.Name, ln.f, ln.cond, above[:len(above):len(above)]
		out = append(out, f)
		above = append(above, ln.cond)
	}
	if l.whole {
		f := v.fateOf(l.sc, &policy.Final{Kind: policy.ThenSkip}, l.end)
		f.cond, f.above = truth(), above
		out = append(out, f)
	}
	return out
}

func (v *prover) fateOf(sc *scene, t *policy.Final, st *state) *fate {
	f := &fate{rewrites: st.rewrites}
	switch {
	case t.Kind == policy.ThenDeliver, t.Kind == policy.ThenSkip && sc.origin == policy.Customer:
		f.disposition = policy.Deliver
		f.pools = v.pools(sc, t.Pool, st)
		f.inside = v.hosts(sc, st)
	case t.Kind == policy.ThenSkip:
		f.disposition, f.code = policy.Refused, 550
	case t.Kind == policy.ThenReject:
		f.disposition, f.code = policy.Refused, t.Code
	case t.Kind == policy.ThenDrop:
		f.disposition = policy.Drop
	case t.Kind == policy.ThenHold:
		f.disposition = policy.Hold
	case t.Kind == policy.ThenBounce:
		f.disposition = policy.Bounce
	}
	if f.disposition != policy.Deliver {
		f.pools = v.setPools(st, []poolSet{{truth(), ""}})
		f.inside = []poolSet{{truth(), ""}}
	}
	return f
}

// pools gives the pools that a delivery can take: its own, else the last one set,
// else the customer's, else the default.
func (v *prover) pools(sc *scene, own string, st *state) []poolSet {
	if own != "" {
		return []poolSet{{truth(), own}}
	}
	base := []poolSet{{truth(), v.top.DefaultPool}}
	if sc.origin == policy.Customer {
		who := v.u.termNamed("customer", sortText, false)
		for i := range v.top.Customers {
			if c := &v.top.Customers[i]; c.Pool != "" {
				base = after1(base, v.u.setOf(who, c.Name), c.Pool)
			}
		}
	}
	return v.setPools(st, base)
}

func (v *prover) setPools(st *state, base []poolSet) []poolSet {
	for _, s := range st.pools {
		base = after1(base, s.when, s.pool)
	}
	return base
}

// after1 puts a pool in place of all others when something holds.
func after1(base []poolSet, when *form, pool string) []poolSet {
	out := make([]poolSet, 0, len(base)+1)
	for _, b := range base {
		out = append(out, poolSet{and(b.when, not(when)), b.pool})
	}
	return append(out, poolSet{when, pool})
}

// hosts gives the inside hosts that a delivery can go to, "" for the outside.
func (v *prover) hosts(sc *scene, st *state) []poolSet {
	var out []poolSet
	var hosted []*form
	for i := range v.top.Inside {
		h := &v.top.Inside[i]
		f := v.toHost(sc, st, h)
		out = append(out, poolSet{f, h.Name})
		hosted = append(hosted, f)
	}
	return append(out, poolSet{not(or(hosted...)), ""})
}

// differ is the formula of "these two fates are not the same".
func differ(a, b *fate) *form {
	if a.disposition != b.disposition || (a.disposition == policy.Refused && a.code != b.code) {
		return truth()
	}
	if a.disposition != policy.Deliver {
		return falsity()
	}
	fs := []*form{unlike(a.pools, b.pools)}
	ra, rb := ends(a.rewrites), ends(b.rewrites)
	for _, p := range ra {
		for _, q := range rb {
			if p.to != q.to {
				fs = append(fs, and(p.when, q.when))
			}
		}
	}
	return or(fs...)
}

// unlike is the formula of "these two choices do not come to the same".
func unlike(a, b []poolSet) *form {
	var fs []*form
	for _, p := range a {
		for _, q := range b {
			if p.pool != q.pool {
				fs = append(fs, and(p.when, q.when))
			}
		}
	}
	return or(fs...)
}

// ends gives the recipients that rewriting can end with, the zero Address being the
// one that was asked for.
func ends(rs []rewrite) []rewrite {
	out := []rewrite{{when: truth()}}
	for _, r := range rs {
		for i := range out {
			out[i].when = and(out[i].when, not(r.when))
		}
		out = append(out, r)
	}
	return out
}
