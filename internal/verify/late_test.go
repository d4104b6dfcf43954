package verify_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/policy/policytest"
	"postern.dev/postern/internal/verify"
)

// after is late from the n-th time on that it is asked, and counts.
type after struct{ n, asked int }

func (a *after) late() bool {
	a.asked++
	return a.asked > a.n
}

// TestLateProof cuts proofs short wherever it can be done: what was not settled is
// unknown and stands at a filter, and nothing is closed that was not proved.
func TestLateProof(t *testing.T) {
	cuts := 0
	for seed := range uint64(soak(t, 25, 1000)) {
		p := policytest.Random(rand.New(rand.NewPCG(seed, 31)), shape(seed)).Program
		whole := verify.Check(p, verify.Options{})
		for n := 0; ; n += 1 + n/8 {
			clock := &after{n: n}
			r := verify.Check(p, verify.Options{Late: clock.late})
			if s := cutShort(p, whole, r, clock.asked > n); s != "" {
				t.Fatalf("seed %d, late after %d: %s\n%s", seed, n, s, show(p))
			}
			if clock.asked <= n {
				break
			}
			cuts++
		}
	}
	t.Logf("%d proofs cut short", cuts)
}

// cutShort holds a proof that was cut short against the whole one: "" if it says
// nothing that the whole one does not.
func cutShort(p *policy.Program, whole, r *verify.Result, late bool) string {
	for i := range r.Claims {
		was, is := whole.Claims[i].Status, r.Claims[i].Status
		switch {
		case is == was, is == verify.Unknown && late:
		case is == verify.Open && was == verify.Open:
		default:
			return fmt.Sprintf("%s is %s, and was %s", r.Claims[i].Code, is, was)
		}
		if is != verify.Unknown || was == verify.Unknown {
			continue
		}
		if !slices.ContainsFunc(r.Findings, func(f verify.Finding) bool {
			return f.Code == r.Claims[i].Code && f.Status == verify.Unknown && f.Pos.Line > 0
		}) {
			return fmt.Sprintf("%s is unknown, and nothing says where", r.Claims[i].Code)
		}
	}
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Witness != nil {
			if s := replay(p, f); s != "" {
				return s
			}
		}
		if f := &r.Findings[i]; f.Severity == verify.Warning && f.Code != verify.ShadowedFilter && late && !slices.ContainsFunc(whole.Findings, func(g verify.Finding) bool { return g.Code == f.Code && g.Message == f.Message }) {
			return "a warning that is none: " + f.Message
		}
	}
	return ""
}

// TestLateDiff cuts comparisons short: what they list differs, and they say that they
// were cut short.
func TestLateDiff(t *testing.T) {
	for seed := range uint64(soak(t, 15, 500)) {
		g := policytest.Random(rand.New(rand.NewPCG(seed, 32)), shape(seed))
		filters := slices.Clone(g.Program.Filters)
		slices.Reverse(filters)
		next, _ := policy.New(filters, g.Program.Asserts, g.Program.Topology)
		if next == nil {
			continue
		}
		whole := verify.Diff(g.Program, next, verify.Options{})
		for n := 0; ; n += 1 + n/8 {
			clock := &after{n: n}
			c := verify.Diff(g.Program, next, verify.Options{Late: clock.late})
			if clock.asked <= n {
				break
			}
			if c.Complete && len(c.Changes) != len(whole.Changes) || len(c.Changes) > len(whole.Changes) {
				t.Fatalf("seed %d, late after %d: %d changes, complete %t; there are %d", seed, n, len(c.Changes), c.Complete, len(whole.Changes))
			}
			for i := range c.Changes {
				x := &c.Changes[i]
				o, _ := policy.Eval(g.Program, &x.Facts)
				e, _ := policy.Eval(next, &x.Facts)
				if x.Effect == nil && o.Filter == e.Filter && o.Disposition == e.Disposition && o.Pool == e.Pool && o.Rcpt == e.Rcpt {
					t.Fatalf("seed %d, late after %d: %+v is no change", seed, n, x.Facts)
				}
			}
		}
	}
}

// TestLateQuery interrupts one hard question.
func TestLateQuery(t *testing.T) {
	for name, text := range map[string]string{
		"automaton": filterText("f", `matches(rcpt.local, "^(a|b)*a(a|b){14}$") && matches(rcpt.local, "^(a|b)*b(a|b){14}$")`, "deliver()"),
	} {
		t.Run(name, func(t *testing.T) {
			cfg, ds := loadText(map[string]string{"postern.hcl": badHead + text})
			if cfg == nil {
				t.Fatal(ds)
			}
			began := time.Now()
			late := func() bool { return time.Since(began) > 50*time.Millisecond }
			r := verify.Check(cfg.Program, verify.Options{Late: late, NoWarnings: true})
			took := time.Since(began)
			t.Logf("%s after %s", r.Status, took)
			if r.Status == verify.Closed || took > 20*time.Second {
				t.Errorf("%s after %s", r.Status, took)
			}
		})
	}
}
