package verify

import "postern.dev/postern/internal/policy"

// line is one filter of the list as one scene sees it.
type line struct {
	index int // in the list
	f     *policy.Filter
	cond  *form
	after *state // what conditions below see if it applies: its own changes included
}

// list is the policy as one scene sees it: the filters that can apply, in order,
// down to the first that applies always.
type list struct {
	sc    *scene
	lines []line
	end   *state // at the end of the list
	whole bool   // the end is in reach
}

// read goes down the filters for a scene.
func (v *prover) read(sc *scene, filters []policy.Filter) *list {
	l := &list{sc: sc, whole: true}
	st := &state{}
	for i := range filters {
		f := &filters[i]
		if i%32 == 0 && v.late() {
			v.here = f
			l.whole = false // so is everything that is asked of it
			break
		}
		r := &reader{v: v, sc: sc, st: st}
		c := r.cond(f.If)
		if c.isFalse() {
			continue
		}
		after := st.with(f, c)
		l.lines = append(l.lines, line{index: i, f: f, cond: c, after: after})
		if f.Then == nil {
			st = after
		} else if c.isTrue() {
			l.whole = false
			break
		}
	}
	l.end = st
	return l
}

// with gives the state below a filter that applies when c holds. Where it is final,
// that is the state that its own decision sees, and c is taken to hold.
func (s *state) with(f *policy.Filter, c *form) *state {
	if len(f.Do) == 0 {
		return s
	}
	if f.Then != nil {
		c = truth()
	}
	out := *s
	for i := range f.Do {
		switch a := &f.Do[i]; a.Kind {
		case policy.DoTag:
			tags := make(map[string][]*form, len(out.tags)+1)
			for k, w := range out.tags {
				tags[k] = w
			}
			tags[a.Text] = append(tags[a.Text][:len(tags[a.Text]):len(tags[a.Text])], c)
			out.tags = tags
		case policy.DoSetRcpt:
			out.rewrites = append(out.rewrites[:len(out.rewrites):len(out.rewrites)], rewrite{c, a.Rcpt})
		case policy.DoPool:
			out.pools = append(out.pools[:len(out.pools):len(out.pools)], poolSet{c, a.Text})
		}
	}
	return &out
}

// reach is the formula of "the message comes to line n of the list", but for what is
// left to the query: that no final line above applies.
func (l *list) finalsAbove(n int) []*form {
	var fs []*form
	for i := range l.lines[:n] {
		if l.lines[i].f.Then != nil {
			fs = append(fs, l.lines[i].cond)
		}
	}
	return fs
}

// finalRcpt asks something of the recipient that a decision in state st ends with.
func (v *prover) finalRcpt(sc *scene, st *state, ps []policy.Pattern) *form {
	r := &reader{v: v, sc: sc, st: st}
	out := v.matchAny(ps, rcptTerm)
	for _, w := range r.st.rewrites {
		hit := false
		for i := range ps {
			hit = hit || ps[i].Match(w.to)
		}
		out = or(and(w.when, constant(hit)), and(not(w.when), out))
	}
	return out
}

// outside is the formula of "the final recipient has no inside host and is no
// declared sink": handing off is relaying.
func (v *prover) outside(sc *scene, st *state) *form {
	return not(v.finalRcpt(sc, st, v.insidePatterns))
}

// insidePatterns gathers the domains of all inside hosts and the sinks.
func insidePatterns(t *policy.Topology) []policy.Pattern {
	var ps []policy.Pattern
	for i := range t.Inside {
		ps = append(ps, t.Inside[i].Domains...)
	}
	for _, s := range t.Sinks {
		ps = append(ps, policy.Pattern{Kind: policy.MatchAddress, Address: s})
	}
	return ps
}

// toHost is the formula of "the final recipient's next hop is this inside host".
func (v *prover) toHost(sc *scene, st *state, h *policy.InsideHost) *form {
	var fs []*form
	for _, d := range h.Domains {
		f := v.finalRcpt(sc, st, []policy.Pattern{d})
		if d.Kind == policy.MatchSuffix {
			f = and(f, not(v.finalRcpt(sc, st, v.narrower(h, d))))
		}
		fs = append(fs, f)
	}
	return or(fs...)
}

// narrower gives the domains of other hosts that go before a suffix: exact ones and
// longer suffixes.
func (v *prover) narrower(h *policy.InsideHost, s policy.Pattern) []policy.Pattern {
	var ps []policy.Pattern
	for i := range v.top.Inside {
		if o := &v.top.Inside[i]; o.Name != h.Name {
			for _, d := range o.Domains {
				if d.Kind == policy.MatchDomain || len(d.Domain) > len(s.Domain) {
					ps = append(ps, d)
				}
			}
		}
	}
	return ps
}
