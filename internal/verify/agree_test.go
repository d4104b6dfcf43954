package verify_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/policy/policytest"
	"postern.dev/postern/internal/verify"
)

// soak gives how many rounds a test runs: few by default, many where POSTERN_SOAK is 1,
// and as many as it says where it is another number.
func soak(t *testing.T, few, many int) int {
	t.Helper()
	if s := os.Getenv("POSTERN_SOAK"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("POSTERN_SOAK: %v", err)
		}
		if n == 1 {
			return many
		}
		return n
	}
	return few
}

// blame names a filter that breaks a claim.
type blame struct {
	code verify.Code
	name string // of the filter or, for an assert, of that
}

// wrongs tells which claims one message breaks by itself, in the words of the claims
// and by Eval alone.
func wrongs(p *policy.Program, f *policy.Facts) []blame {
	d, _ := policy.Eval(p, f)
	var out []blame
	if f.Origin == policy.Stranger {
		for _, name := range relayedBy(p, &d) {
			out = append(out, blame{verify.RelayForStrangers, name})
		}
		if d.Disposition == policy.Bounce && f.Sender.Domain != "" {
			out = append(out, blame{verify.Backscatter, d.Filter})
		}
	}
	if d.Disposition == policy.Consume {
		return out
	}
	if door := d.Disposition == policy.Refused && d.Filter == "" && (d.Text == "not your sender domain" || f.Origin == policy.Stranger && !accepted(p, f)); door {
		return out
	}
	for i := range p.Asserts {
		if p.Holds(i, f, &d) == policy.No {
			out = append(out, blame{verify.AssertHolds, p.Asserts[i].Name})
		}
	}
	return out
}

func accepted(p *policy.Program, f *policy.Facts) bool {
	for _, a := range p.Topology.Accept {
		if a.Match(f.Rcpt) {
			return true
		}
	}
	return false
}

// relayedBy names the filters by which a message leaves for the outside.
func relayedBy(p *policy.Program, d *policy.Decision) []string {
	var out []string
	if d.Disposition == policy.Deliver && d.Inside == "" && !p.Topology.DeclaredSink(d.Rcpt) {
		out = append(out, d.Filter)
	}
	if d.Disposition == policy.Deliver || d.Disposition == policy.Drop || d.Disposition == policy.Hold {
		for _, c := range d.Effects.Copies {
			if c.Inside == "" && !p.Topology.DeclaredSink(c.Rcpt) {
				out = append(out, c.Filter)
			}
		}
	}
	return out
}

// handed names the inside hosts that a message comes to.
func handed(d *policy.Decision) []string {
	var out []string
	if d.Disposition == policy.Deliver && d.Inside != "" {
		out = append(out, d.Inside)
	}
	if d.Disposition == policy.Deliver || d.Disposition == policy.Drop || d.Disposition == policy.Hold {
		for _, c := range d.Effects.Copies {
			if c.Inside != "" {
				out = append(out, c.Inside)
			}
		}
	}
	return out
}

// byForce gathers what a number of messages breaks, with one message for each, the
// relays by way of inside hosts included.
func byForce(p *policy.Program, messages []*policy.Facts) map[blame]*policy.Facts {
	out := map[blame]*policy.Facts{}
	for _, f := range messages {
		for _, b := range wrongs(p, f) {
			out[b] = f
		}
	}
	tainted := map[string]bool{}
	for grown := true; grown; {
		grown = false
		for _, f := range messages {
			if f.Origin == policy.Customer || f.Origin == policy.Inside && !tainted[hostOf(p, f)] {
				continue
			}
			d, _ := policy.Eval(p, f)
			for _, h := range handed(&d) {
				grown = grown || resends(p, h) && !tainted[h]
				tainted[h] = tainted[h] || resends(p, h)
			}
			if f.Origin == policy.Inside {
				for _, name := range relayedBy(p, &d) {
					out[blame{verify.RelayByInside, name}] = f
				}
			}
		}
	}
	return out
}

func hostOf(p *policy.Program, f *policy.Facts) string {
	for _, h := range p.Topology.Inside {
		if h.Address.Addr() == f.Client.Address {
			return h.Name
		}
	}
	return ""
}

func resends(p *policy.Program, host string) bool {
	for _, h := range p.Topology.Inside {
		if h.Name == host {
			return h.Resends
		}
	}
	return false
}

func messages(c *corners, r *rand.Rand, n int) []*policy.Facts {
	out := make([]*policy.Facts, n)
	for i := range out {
		out[i] = c.message(r)
	}
	return out
}

// show writes a policy for a failing test.
func show(p *policy.Program) string {
	s := fmt.Sprintf("topology %+v\n", *p.Topology)
	for i := range p.Filters {
		f := &p.Filters[i]
		s += fmt.Sprintf("  %s if %s do %+v", f.Name, verify.Spell(f.If), f.Do)
		if f.Then != nil {
			s += fmt.Sprintf(" then %s %s", f.Then.Kind, f.Then.Pool)
		}
		s += "\n"
	}
	for i := range p.Asserts {
		s += fmt.Sprintf("  assert %s %s\n", p.Asserts[i].Name, verify.Spell(p.Asserts[i].Always))
	}
	return s
}

// free reports a condition of which the prover may say that it does not know: one
// that compares two facts.
func free(x policy.Expr) bool {
	switch x := x.(type) {
	case *policy.Not:
		return free(x.X)
	case *policy.Binary:
		if x.Op == policy.And || x.Op == policy.Or {
			return free(x.L) || free(x.R)
		}
		_, l := x.L.(*policy.Literal)
		_, r := x.R.(*policy.Literal)
		return !l && !r
	}
	return false
}

// reads notes the address fields that expressions read.
func reads(x policy.Expr, fields map[string]bool) {
	switch x := x.(type) {
	case *policy.Not:
		reads(x.X, fields)
	case *policy.Binary:
		reads(x.L, fields)
		reads(x.R, fields)
	case *policy.Call:
		if f, ok := x.Args[0].(*policy.Field); ok && (x.Func == "matches" || x.Func == "glob") {
			fields[strings.TrimSuffix(f.Name, ".address")] = true
		}
	}
}

// entangled reports expressions on a whole address beside ones on its parts, which
// no automaton joins: there, too, the prover may not know.
func entangled(p *policy.Program) bool {
	fields := map[string]bool{}
	for i := range p.Filters {
		reads(p.Filters[i].If, fields)
	}
	for i := range p.Asserts {
		reads(p.Asserts[i].Always, fields)
	}
	for _, of := range []string{"sender", "rcpt"} {
		if fields[of] && (fields[of+".local"] || fields[of+".domain"]) {
			return true
		}
	}
	return false
}

func anyFree(p *policy.Program) bool {
	for i := range p.Filters {
		if free(p.Filters[i].If) {
			return true
		}
	}
	for i := range p.Asserts {
		if free(p.Asserts[i].Always) {
			return true
		}
	}
	return false
}

// disagreement holds a result against what messages do: "" if they agree.
func disagreement(p *policy.Program, res *verify.Result, force map[blame]*policy.Facts) string {
	found := map[blame]bool{}
	for i := range res.Findings {
		f := &res.Findings[i]
		b := blame{f.Code, f.Filter}
		if f.Code == verify.AssertHolds {
			b.name = f.Assert
		}
		found[b] = true
		if f.Severity == verify.Fault && f.Status == verify.Unknown && !anyFree(p) && !entangled(p) {
			return fmt.Sprintf("%s %s: unknown without a comparison of facts", f.Code, b.name)
		}
		if f.Witness == nil {
			continue
		}
		if s := replay(p, f); s != "" {
			return s
		}
	}
	for b, f := range force {
		if !found[b] {
			d, _ := policy.Eval(p, f)
			return fmt.Sprintf("%s %s: not found, but for %+v content %+v: %+v", b.code, b.name, *f, *f.Content, d)
		}
	}
	return ""
}

// replay runs a finding's witness again: it must decide as it says and break the
// claim.
func replay(p *policy.Program, f *verify.Finding) string {
	for i := range f.Witness.Hops {
		d, _ := policy.Eval(p, &f.Witness.Hops[i])
		if !reflect.DeepEqual(d, f.Witness.Decisions[i]) {
			return fmt.Sprintf("%s %s: witness hop %d decides %+v, not %+v", f.Code, f.Filter, i, d, f.Witness.Decisions[i])
		}
	}
	name := f.Filter
	if f.Code == verify.AssertHolds {
		name = f.Assert
	}
	var facts []*policy.Facts
	for i := range f.Witness.Hops {
		facts = append(facts, &f.Witness.Hops[i])
	}
	switch f.Code {
	case verify.RelayForStrangers, verify.RelayByInside, verify.Backscatter, verify.AssertHolds:
		if byForce(p, facts)[blame{f.Code, name}] == nil {
			return fmt.Sprintf("%s %s: the witness does not show it: %+v %+v", f.Code, name, f.Witness.Hops, f.Witness.Decisions)
		}
	}
	return ""
}

// TestAgreement holds the prover against brute force over messages made of the
// policy's own corners: what a message breaks is found, what is found is broken by
// its witness, and it is unknown only where two facts are compared.
func TestAgreement(t *testing.T) {
	rounds := soak(t, 400, 100_000)
	open, closed, bad := 0, 0, 0
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 11))
		p := policytest.Random(r, shape(seed)).Program
		res := verify.Check(p, verify.Options{NoWarnings: true, NoRepairs: true})
		force := byForce(p, messages(cornersOf(p), r, 600))
		if s := disagreement(p, res, force); s != "" {
			t.Errorf("seed %d: %s\n%s", seed, s, show(p))
			if bad++; bad > 5 {
				t.FailNow()
			}
		}
		if res.Claims[0].Status == verify.Open {
			open++
		} else if res.Claims[0].Status == verify.Closed {
			closed++
		}
	}
	t.Logf("%d policies: PV001 open %d, closed %d", rounds, open, closed)
	if open < rounds/10 || closed < rounds/10 {
		t.Errorf("of %d policies %d are open and %d closed: the generator is lopsided", rounds, open, closed)
	}
}

func shape(seed uint64) policytest.Params {
	p := policytest.Small()
	p.Filters = 1 + int(seed%8)
	p.Inside, p.Customers, p.Listeners = int(seed%3), int(seed%4), 1+int(seed%3)
	p.Content, p.Regexps = seed%2 == 0, seed%5 != 0
	return p
}
