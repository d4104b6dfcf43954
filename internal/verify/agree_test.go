package verify_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
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

// first is the seed that a campaign begins with: POSTERN_SOAK_FROM, or 0. So a long one
// can be run in parts, and on several processors.
func first(t *testing.T) uint64 {
	t.Helper()
	s := os.Getenv("POSTERN_SOAK_FROM")
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("POSTERN_SOAK_FROM: %v", err)
	}
	return n
}

// blame names a filter that breaks a claim.
type blame struct {
	code verify.Code
	name string // of the filter or, for an assert, of that
}

// wrongs tells which claims one message breaks by itself, in the words of the claims
// and by Eval alone.
func wrongs(p *policy.Program, f *policy.Facts, d *policy.Decision) []blame {
	var out []blame
	if f.Origin == policy.Stranger {
		for _, name := range relayedBy(p, d) {
			out = append(out, blame{verify.RelayForStrangers, name})
		}
		if d.Disposition == policy.Bounce && f.Sender.Domain != "" {
			out = append(out, blame{verify.Backscatter, d.Filter})
		}
	}
	if d.Disposition == policy.Consume || slices.Contains(p.Topology.Postmasters, f.Rcpt) {
		return out
	}
	if door := d.Disposition == policy.Refused && d.Filter == "" && (d.Text == "not your sender domain" || f.Origin == policy.Stranger && !accepted(p, f)); door {
		return out
	}
	for i := range p.Asserts {
		if p.Holds(i, f, d) == policy.No {
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

// tally gathers what messages break, with one message for each.
type tally struct {
	p     *policy.Program
	wrong map[blame]*policy.Facts
	hands map[string]map[string]bool          // inside hosts that come by a message, by who sends it: "" is a stranger
	sends map[string]map[string]*policy.Facts // filters by which what an inside host sends leaves, by host
}

func newTally(p *policy.Program) *tally {
	return &tally{p: p, wrong: map[blame]*policy.Facts{}, hands: map[string]map[string]bool{}, sends: map[string]map[string]*policy.Facts{}}
}

func (t *tally) add(f *policy.Facts, ds []policy.Decision) {
	d := &ds[0]
	for _, b := range wrongs(t.p, f, d) {
		if t.wrong[b] == nil {
			t.wrong[b] = f
		}
	}
	if f.Origin == policy.Customer || len(t.p.Topology.Inside) == 0 {
		return
	}
	from := ""
	if f.Origin == policy.Inside {
		from = hostOf(t.p, f)
	}
	for _, h := range handed(d) {
		if t.hands[from] == nil {
			t.hands[from] = map[string]bool{}
		}
		t.hands[from][h] = true
	}
	if from == "" {
		return
	}
	for _, name := range relayedBy(t.p, d) {
		if t.sends[from] == nil {
			t.sends[from] = map[string]*policy.Facts{}
		}
		t.sends[from][name] = f
	}
}

// all adds the relays by way of inside hosts that a stranger reaches.
func (t *tally) all() map[blame]*policy.Facts {
	tainted, next := map[string]bool{}, []string{""}
	for len(next) > 0 {
		from := next[0]
		next = next[1:]
		for h := range t.hands[from] {
			if resends(t.p, h) && !tainted[h] {
				tainted[h] = true
				next = append(next, h)
			}
		}
		for name, f := range t.sends[from] {
			t.wrong[blame{verify.RelayByInside, name}] = f
		}
	}
	return t.wrong
}

// byForce gathers what a number of messages breaks, the relays by way of inside hosts
// included.
func byForce(p *policy.Program, messages []*policy.Facts) map[blame]*policy.Facts {
	t := newTally(p)
	for _, f := range messages {
		d, _ := policy.Eval(p, f)
		t.add(f, []policy.Decision{d})
	}
	return t.all()
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

// mayBeUnknown reports whether a finding hangs on a comparison of two facts: in the
// condition of its filter or of one above, which come first. A copy hangs on the filters
// below too, an assert and the ways by inside hosts on all. Everything else that small
// policies are made of is exact, and the prover has to know.
func mayBeUnknown(p *policy.Program, f *verify.Finding) bool {
	last := len(p.Filters) - 1
	switch f.Code {
	case verify.AssertHolds:
		for i := range p.Asserts {
			if p.Asserts[i].Name == f.Assert && free(p.Asserts[i].Always) {
				return true
			}
		}
	case verify.RelayForStrangers, verify.Backscatter:
		at := slices.IndexFunc(p.Filters, func(g policy.Filter) bool { return g.Name == f.Filter })
		if at >= 0 && !slices.ContainsFunc(p.Filters[at].Do, func(a policy.Action) bool { return a.Kind == policy.DoCopy }) {
			last = at
		}
	}
	return slices.ContainsFunc(p.Filters[:last+1], func(g policy.Filter) bool { return free(g.If) })
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
		if f.Severity == verify.Fault && f.Status == verify.Unknown && !mayBeUnknown(p, f) {
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

// TestAgreement holds the prover against brute force over all classes of messages:
// what a message breaks is found, what is found is broken by a message, the first
// filter that leaks is the same, and it is unknown only where two facts are compared.
// A policy with too many classes is held against messages made of its corners.
func TestAgreement(t *testing.T) {
	rounds, from := soak(t, 60, 100_000), first(t)
	var n agreement
	for seed := from; seed < from+uint64(rounds); seed++ {
		r := rand.New(rand.NewPCG(seed, 11))
		p := policytest.Random(r, shape(seed)).Program
		res := verify.Check(p, verify.Options{NoWarnings: true, NoRepairs: true})
		if s := n.compare(p, res, r); s != "" {
			t.Errorf("seed %d: %s\n%s", seed, s, show(p))
			if n.bad++; n.bad > 5 {
				t.FailNow()
			}
		}
	}
	t.Logf("%d policies from seed %d, %d with all classes (%d messages), %d by samples: PV001 open %d, closed %d; of %d claims %d unknown", rounds, from, n.exact, n.messages, rounds-n.exact, n.open, n.closed, n.claims, n.unknown)
	if n.unknown*100 > n.claims {
		t.Errorf("of %d claims %d are unknown", n.claims, n.unknown)
	}
	if n.open < rounds/10 || n.closed < rounds/10 {
		t.Errorf("of %d policies %d are open and %d closed: the generator is lopsided", rounds, n.open, n.closed)
	}
	if n.exact < rounds*8/10 {
		t.Errorf("of %d policies only %d were gone through with all classes", rounds, n.exact)
	}
}

// agreement counts.
type agreement struct{ exact, messages, open, closed, unknown, claims, bad int }

// compare holds one result against brute force: "" if they agree.
func (n *agreement) compare(p *policy.Program, res *verify.Result, r *rand.Rand) string {
	switch res.Claims[0].Status {
	case verify.Open:
		n.open++
	case verify.Closed:
		n.closed++
	}
	for i := range res.Claims {
		n.claims++
		if res.Claims[i].Status == verify.Unknown {
			n.unknown++
		}
	}
	if s := disagreement(p, res, byForce(p, messages(cornersOf(p), r, 50))); s != "" {
		return s
	}
	b, all := newForce(r, p), newTally(p)
	if b.exact {
		b.each(all.add)
	}
	n.messages += b.leaves
	if b.fault != "" {
		return "brute force: " + b.fault
	}
	force := all.all()
	if !b.exact {
		if s := disagreement(p, res, force); s != "" {
			return s
		}
		return disagreement(p, res, byForce(p, messages(cornersOf(p), r, 600)))
	}
	n.exact++
	if s := disagreement(p, res, force); s != "" {
		return s
	}
	return undisputed(p, res, force)
}

// undisputed holds what was found against all that there is: "" if brute force finds
// it too, and the same filter first.
func undisputed(p *policy.Program, res *verify.Result, force map[blame]*policy.Facts) string {
	firsts, unknown := map[verify.Code]string{}, map[blame]bool{}
	for i := range res.Findings {
		f := &res.Findings[i]
		b := blame{f.Code, f.Filter}
		if f.Code == verify.AssertHolds {
			b.name = f.Assert
		}
		switch f.Code {
		case verify.RelayForStrangers, verify.Backscatter, verify.RelayByInside, verify.AssertHolds:
		default:
			continue
		}
		unknown[b] = f.Status == verify.Unknown
		if f.Status == verify.Open && force[b] == nil {
			return fmt.Sprintf("%s %s: found, but by no message of any class: %+v", b.code, b.name, f.Witness)
		}
		if f.Status == verify.Open && firsts[f.Code] == "" { // an unknown one may be closed
			firsts[f.Code] = b.name
		}
	}
	for _, code := range []verify.Code{verify.RelayForStrangers, verify.Backscatter} {
		for i := range p.Filters {
			name := p.Filters[i].Name
			if force[blame{code, name}] == nil {
				continue
			}
			if firsts[code] != name && !unknown[blame{code, name}] {
				return fmt.Sprintf("%s: the first filter is %q, the prover's is %q", code, name, firsts[code])
			}
			break
		}
	}
	return ""
}

func shape(seed uint64) policytest.Params {
	p := policytest.Small()
	p.Filters = 1 + int(seed%8)
	p.Inside, p.Customers, p.Listeners = int(seed%3), int(seed%4), 1+int(seed%3)
	p.Content, p.Regexps = seed%2 == 0, seed%5 != 0
	return p
}
