package policytest_test

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/policy/policytest"
)

// TestSameSeedSamePolicy holds the promise that a seed is enough.
func TestSameSeedSamePolicy(t *testing.T) {
	for seed := range uint64(50) {
		a, b := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 1))
		p, q := policytest.Random(a, policytest.Wide()), policytest.Random(b, policytest.Wide())
		if !reflect.DeepEqual(p.Program.Filters, q.Program.Filters) || !reflect.DeepEqual(p.Program.Topology, q.Program.Topology) {
			t.Fatalf("seed %d: two policies", seed)
		}
		if f, g := p.Complete(a), q.Complete(b); !reflect.DeepEqual(f, g) {
			t.Fatalf("seed %d: %+v and %+v", seed, f, g)
		}
	}
}

// TestReach shows that the random transactions go everywhere: each disposition, by a
// filter and by default, and asserts that hold and that do not.
func TestReach(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	seen := map[policy.Disposition]int{}
	byFilter, rewritten, early, broken := 0, 0, 0, 0
	const rounds = 4000
	for range rounds {
		p := policytest.Random(r, policytest.Small())
		f := p.Complete(r)
		d, _ := policy.Eval(p.Program, f)
		seen[d.Disposition]++
		if d.Filter != "" {
			byFilter++
		}
		if d.Rewritten {
			rewritten++
		}
		if _, refused := policy.Early(p.Program, p.Early(r)); refused {
			early++
		}
		for i := range p.Program.Asserts {
			if p.Program.Holds(i, f, &d) != policy.Yes {
				broken++
			}
		}
	}
	for _, d := range []policy.Disposition{policy.Refused, policy.Deliver, policy.Drop, policy.Hold, policy.Bounce, policy.Consume} {
		if seen[d] < rounds/200 {
			t.Errorf("%s: %d of %d", d, seen[d], rounds)
		}
	}
	if byFilter < rounds/4 || rewritten < rounds/100 || early < rounds/10 || broken < rounds/20 {
		t.Errorf("%d by a filter, %d rewritten, %d refused early, %d broken asserts of %d", byFilter, rewritten, early, broken, rounds)
	}
	t.Logf("%v; %d by a filter, %d rewritten, %d refused early, %d broken asserts", seen, byFilter, rewritten, early, broken)
}
