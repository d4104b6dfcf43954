package verify_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/policy/policytest"
	"postern.dev/postern/internal/verify"
)

// TestSolverAgreesOnClasses has z3 say, of far more policies than it could with texts,
// which filters relay for strangers: over the classes of brute force, as a number for
// each variable of a message. What it says must be what the prover says, filter by
// filter, so that the first that leaks is the same too.
func TestSolverAgreesOnClasses(t *testing.T) {
	s := newSolver(t, "z3", true, "-in")
	rounds, from := soak(t, 60, 100_000), first(t)
	asked, open, left, loose, bad := 0, 0, 0, 0, 0
	for seed := from; seed < from+uint64(rounds); seed++ {
		r := rand.New(rand.NewPCG(seed, 11))
		p := policytest.Random(r, shape(seed)).Program
		w := newFinite(p, newForce(r, p))
		if w == nil {
			left++
			continue
		}
		found := map[string]*verify.Finding{}
		res := verify.Check(p, verify.Options{NoWarnings: true, NoRepairs: true})
		for i := range res.Findings {
			if f := &res.Findings[i]; f.Code == verify.RelayForStrangers {
				found[f.Filter] = f
			}
		}
		for i := range p.Filters {
			text, f := w.leaks(i), found[p.Filters[i].Name]
			if f != nil && f.Status == verify.Unknown && mayBeUnknown(p, f) {
				loose++
				continue
			}
			answer := "unsat"
			if text != "" {
				asked++
				answer = s.solve(text)
			}
			if answer == "sat" {
				open++
			}
			if (answer == "sat") == (f != nil && f.Status == verify.Open) && answer != "unknown" {
				continue
			}
			t.Errorf("seed %d: filter %q: z3 says %s, the prover %+v\n%s\n%s", seed, p.Filters[i].Name, answer, f, show(p), text)
			if bad++; bad > 3 {
				t.FailNow()
			}
		}
	}
	t.Logf("%d policies from seed %d: %d questions, %d sat; %d policies compare headers with facts or have too many classes, %d filters are unknown", rounds, from, asked, open, left, loose)
	if left > rounds/4 || open < rounds/20 {
		t.Errorf("too few to tell")
	}
}

// finite writes what strangers can do under a policy as a question over classes.
type finite struct {
	p      *policy.Program
	b      *force
	number map[string]int // of a variable
	lines  []string       // definitions, of the filters so far
	live   []string       // by filter: no final filter above applies
	after  []finiteState  // by filter: what its own decision sees
}

// finiteState is what filters have changed so far: tags, and recipients, the last first.
type finiteState struct {
	tags     map[string][]string
	rewrites []finiteRewrite
}

type finiteRewrite struct {
	when string
	to   policy.Address
}

// newFinite reads a policy; nil where its classes are not all, or hang on each other.
func newFinite(p *policy.Program, b *force) *finite {
	w := &finite{p: p, b: b, number: map[string]int{}}
	for _, a := range b.list {
		for _, v := range a.vars {
			if b.bound(v) || len(a.vars) > 2 {
				return nil
			}
			if w.values(v); !b.exact {
				return nil
			}
		}
	}
	if !b.exact {
		return nil
	}
	w.values("arrival")
	w.values("rcpt")
	w.filters()
	return w
}

// values gives the classes of a variable, and gives it a number.
func (w *finite) values(v string) []value {
	if _, known := w.number[v]; !known {
		w.number[v] = len(w.number)
	}
	return w.b.classesOf(v, &place{f: *blank()})
}

// where is "the variable is in a class for which yes holds".
func (w *finite) where(v string, yes func(*value) bool) string {
	of := w.values(v)
	var fs []string
	for i := range of {
		if yes(&of[i]) {
			fs = append(fs, fmt.Sprintf("(= c%d %d)", w.number[v], i))
		}
	}
	return disjunction(fs)
}

func disjunction(fs []string) string {
	if len(fs) == 0 {
		return "false"
	}
	return "(or false " + strings.Join(fs, " ") + ")"
}

// atom asks the evaluator for what an atom answers in each class. to is the recipient
// where it has been rewritten.
func (w *finite) atom(a *atomOf, to *policy.Address) string {
	vars := a.vars
	if to != nil {
		vars = slices.DeleteFunc(slices.Clone(vars), func(v string) bool { return v == "rcpt" })
	}
	return w.table(a, vars, blank(), to)
}

func (w *finite) table(a *atomOf, vars []string, f *policy.Facts, to *policy.Address) string {
	if len(vars) == 0 {
		d := policy.Decision{Rcpt: f.Rcpt}
		if to != nil {
			d.Rcpt, d.Rewritten = *to, true
		}
		return fmt.Sprint(w.b.holds(a, f, &d))
	}
	of := w.values(vars[0])
	var fs []string
	for i := range of {
		of[i].set(f)
		if rest := w.table(a, vars[1:], f, to); rest != "false" {
			fs = append(fs, fmt.Sprintf("(and (= c%d %d) %s)", w.number[vars[0]], i, rest))
		}
	}
	return disjunction(fs)
}

// cond writes a condition as it is past the filters so far.
func (w *finite) cond(x policy.Expr, st *finiteState) string {
	switch x := x.(type) {
	case *policy.Not:
		return "(not " + w.cond(x.X, st) + ")"
	case *policy.Binary:
		if x.Op == policy.And || x.Op == policy.Or {
			return fmt.Sprintf("(%s %s %s)", map[policy.Op]string{policy.And: "and", policy.Or: "or"}[x.Op], w.cond(x.L, st), w.cond(x.R, st))
		}
	case *policy.Call:
		if x.Func == "tag" {
			return disjunction(st.tags[x.Args[0].(*policy.Literal).Value.(string)])
		}
	}
	a := w.b.atoms[x]
	out := w.atom(a, nil)
	if slices.Contains(a.vars, "rcpt") {
		for i := range st.rewrites {
			out = fmt.Sprintf("(ite %s %s %s)", st.rewrites[i].when, w.atom(a, &st.rewrites[i].to), out)
		}
	}
	return out
}

// filters goes down the list.
func (w *finite) filters() {
	st, live := finiteState{tags: map[string][]string{}}, "true"
	for i := range w.p.Filters {
		f := &w.p.Filters[i]
		w.live = append(w.live, live)
		w.lines = append(w.lines, fmt.Sprintf("(define-fun if-%d () Bool %s)", i, w.cond(f.If, &st)))
		applies := fmt.Sprintf("if-%d", i)
		next := finiteState{tags: map[string][]string{}, rewrites: slices.Clone(st.rewrites)}
		for k, fs := range st.tags {
			next.tags[k] = slices.Clone(fs)
		}
		for _, a := range f.Do {
			switch a.Kind {
			case policy.DoTag:
				next.tags[a.Text] = append(next.tags[a.Text], applies)
			case policy.DoSetRcpt:
				next.rewrites = append(next.rewrites, finiteRewrite{applies, a.Rcpt})
			}
		}
		w.after = append(w.after, next)
		if f.Then == nil {
			st = next
		} else {
			live = fmt.Sprintf("(and %s (not if-%d))", live, i)
		}
	}
}

// outside is "the recipient that filter i decides about has no inside host and is no
// declared sink".
func (w *finite) outside(i int) string {
	out := func(a policy.Address) bool { return w.p.InsideFor(a) == "" && !w.p.Topology.DeclaredSink(a) }
	s := w.where("rcpt", func(v *value) bool { f := blank(); v.set(f); return out(f.Rcpt) })
	for _, r := range w.after[i].rewrites {
		s = fmt.Sprintf("(ite %s %t %s)", r.when, out(r.to), s)
	}
	return s
}

// leaks is the script that asks whether filter i relays for strangers, "" where it
// never hands anything on.
func (w *finite) leaks(i int) string {
	f := &w.p.Filters[i]
	var ways []string
	for _, a := range f.Do {
		if a.Kind == policy.DoCopy && w.p.InsideFor(a.Rcpt) == "" && !w.p.Topology.DeclaredSink(a.Rcpt) {
			for k := i; k < len(w.p.Filters); k++ {
				if t := w.p.Filters[k].Then; t != nil && (t.Kind == policy.ThenDeliver || t.Kind == policy.ThenDrop || t.Kind == policy.ThenHold) {
					ways = append(ways, fmt.Sprintf("(and %s if-%d)", w.live[k], k))
				}
			}
		}
	}
	if f.Then != nil && f.Then.Kind == policy.ThenDeliver {
		ways = append(ways, w.outside(i))
	}
	if len(ways) == 0 {
		return ""
	}
	var b strings.Builder
	for v, n := range w.number {
		fmt.Fprintf(&b, "(declare-const c%d Int) ; %s\n(assert (and (<= 0 c%d) (< c%d %d)))\n", n, v, n, n, len(w.values(v)))
	}
	t := w.p.Topology
	fmt.Fprintf(&b, "%s\n(assert (and %s %s %s if-%d %s))\n(check-sat)\n", strings.Join(w.lines, "\n"),
		w.where("arrival", func(v *value) bool { return strings.HasPrefix(v.group, string(policy.Stranger)) }),
		w.where("rcpt", func(v *value) bool {
			f := blank()
			v.set(f)
			return accepted(w.p, f) && !slices.Contains(t.Reports, f.Rcpt) && !slices.Contains(t.Postmasters, f.Rcpt)
		}), w.live[i], i, disjunction(ways))
	return b.String()
}
