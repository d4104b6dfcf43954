package verify

import (
	"fmt"
	"sort"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify/lang"
	"postern.dev/postern/internal/verify/sat"
)

// prover is one proof under way.
type prover struct {
	p      *policy.Program
	top    *policy.Topology
	o      Options
	u      *universe
	solver *sat.Solver
	stats  Stats
	shapes shapes
	parts  map[int32]lang.Cond // atoms about a part of an address as conditions on the whole
	conds  *lang.Compiler
	here   *policy.Filter // that is looked at
	ended  bool           // Options.Late has said so

	insidePatterns []policy.Pattern
}

// shapes are what every value of some fields looks like.
type shapes struct{ domain, local, address, located, value, something lang.Cond }

func newProver(p *policy.Program, o Options) *prover {
	if o.Conflicts <= 0 {
		o.Conflicts = 20_000
	}
	if o.States <= 0 {
		o.States = 20_000
	}
	v := &prover{p: p, top: p.Topology, o: o, u: newUniverse(), solver: sat.New(), parts: map[int32]lang.Cond{}, conds: &lang.Compiler{}, insidePatterns: insidePatterns(p.Topology)}
	something, _ := lang.Match(`(?s).`)
	located, _ := lang.Match(`(?s)\A(?:.+@[^@]*)?\z`) // no path has an empty local part
	v.shapes = shapes{domain: lang.DomainShape(), local: lang.LocalShape(), address: lang.AddressShape(), located: located, value: lang.HeaderValueShape(), something: something}
	return v
}

// Check proves the claims about a policy, or shows where they do not hold. It is
// deterministic: the same policy and options give the same result.
func Check(p *policy.Program, o Options) *Result {
	v := newProver(p, o)
	r := &report{v: v, claims: map[Code]*Claim{}}
	for _, c := range claims() {
		r.claims[c] = &Claim{Code: c, Title: title(c), Status: Closed, Assumptions: []string{}}
	}
	v.settle(r, RelayForStrangers, v.relays)
	v.settle(r, RelayByInside, v.insides)
	v.settle(r, Backscatter, v.backscatter)
	v.settle(r, SharedTrust, v.trust)
	v.settle(r, SenderBinding, v.binding)
	v.settle(r, AssertHolds, v.asserts)
	v.settle(r, AddressReadings, v.readings)
	for _, g := range o.Gaps {
		r.add(Finding{Code: Unmodelled, Severity: Fault, Status: Unknown, Pos: g.Pos, Message: g.Text + ": " + g.Why})
	}
	if !o.NoWarnings && !v.ended {
		v.warnings(r)
	}
	return r.result()
}

// late reports, once Options.Late has, that no more is to be proved.
func (v *prover) late() bool {
	if !v.ended && v.o.Late != nil && v.o.Late() {
		v.ended = true
	}
	return v.ended
}

// settle proves one claim. Where time was up before or meanwhile it says so, at the
// place where the proof stopped: then the claim is not closed, whatever was found.
func (v *prover) settle(r *report, c Code, prove func(*report)) {
	if v.ended {
		r.add(Finding{Code: c, Severity: Fault, Status: Unknown, Pos: v.stoppedAt(),
			Message: "time was up before this was looked at", Hint: outOfTime})
		return
	}
	if prove(r); !v.ended {
		return
	}
	at := "time was up"
	if v.here != nil {
		at = fmt.Sprintf("time was up at filter %q: what it and those below it do was not looked at to the end", v.here.Name)
	}
	r.add(Finding{Code: c, Severity: Fault, Status: Unknown, Pos: v.stoppedAt(), Message: at, Hint: outOfTime})
}

// outOfTime is what to do about it.
const outOfTime = "give it more with -budget, or make the policy smaller"

func (v *prover) stoppedAt() policy.Pos {
	switch {
	case v.here != nil:
		return v.here.Pos
	case len(v.p.Filters) > 0:
		return v.p.Filters[0].Pos
	}
	return policy.Pos{}
}

// report gathers findings and claims.
type report struct {
	v        *prover
	claims   map[Code]*Claim
	findings []Finding
	cut      []Cut
}

func (r *report) add(f Finding) {
	r.findings = append(r.findings, f)
	c := r.claims[f.Code]
	if c == nil || f.Severity == Warning {
		return
	}
	if f.Status == Open || c.Status == Closed {
		c.Status = f.Status
	}
}

// assume notes what a claim takes for granted.
func (r *report) assume(c Code, text string) {
	for _, a := range r.claims[c].Assumptions {
		if a == text {
			return
		}
	}
	r.claims[c].Assumptions = append(r.claims[c].Assumptions, text)
}

// result settles the whole: a gap makes of every closed claim an unknown one.
func (r *report) result() *Result {
	out := &Result{Status: Closed, Findings: r.findings}
	gaps := r.claims[Unmodelled].Status != Closed
	for _, code := range claims() {
		c := r.claims[code]
		if gaps && c.Status == Closed {
			c.Status = Unknown
		}
		switch c.Status {
		case Open:
			out.Status = Open
		case Unknown:
			if out.Status == Closed {
				out.Status = Unknown
			}
		}
		out.Claims = append(out.Claims, *c)
	}
	sort.SliceStable(out.Findings, func(i, j int) bool {
		a, b := &out.Findings[i], &out.Findings[j]
		if (a.Severity == Warning) != (b.Severity == Warning) {
			return b.Severity == Warning
		}
		return a.Code < b.Code
	})
	out.Cut = r.cut
	out.Stats = r.v.stats
	out.Stats.Filters = len(r.v.p.Filters)
	return out
}
