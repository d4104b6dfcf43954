package verify_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/policy/policytest"
	"postern.dev/postern/internal/verify"
)

// change is a class of messages as Diff lists them.
type change struct {
	origin    policy.Origin
	old, next string
}

// fate is what two decisions are compared by.
func fate(d *policy.Decision) string {
	switch d.Disposition {
	case policy.Deliver:
		return fmt.Sprintf("deliver %s %s %s", d.Pool, d.Inside, d.Rcpt)
	case policy.Refused:
		return fmt.Sprintf("refused %d", d.Code)
	}
	return string(d.Disposition)
}

// missing gives a class in which messages change fate and which the list has not;
// skip leaves messages out. It checks that what is listed is true.
func missing(old, next *policy.Program, listed []verify.Change, ms []*policy.Facts, skip func(f *policy.Facts, d *policy.Decision) bool) string {
	have := map[change]bool{}
	for i := range listed {
		c := &listed[i]
		o, _ := policy.Eval(old, &c.Facts)
		n, _ := policy.Eval(next, &c.Facts)
		if fate(&o) == fate(&n) {
			return fmt.Sprintf("listed as a change, but is none: %+v: %+v", c.Facts, o)
		}
		have[change{c.Facts.Origin, o.Filter, n.Filter}] = true
	}
	for _, f := range ms {
		o, _ := policy.Eval(old, f)
		n, _ := policy.Eval(next, f)
		if fate(&o) == fate(&n) || skip(f, &o) {
			continue
		}
		if !have[change{f.Origin, o.Filter, n.Filter}] {
			return fmt.Sprintf("not listed: %s from %q to %q: %+v content %+v: %+v, then %+v", f.Origin, o.Filter, n.Filter, *f, *f.Content, o, n)
		}
	}
	return ""
}

// TestRepairsAgree holds every repair against the prover and brute force: after it
// nothing is relayed by what it mended, and the messages that it treats otherwise
// are listed.
func TestRepairsAgree(t *testing.T) {
	rounds, repaired, partial, bad := soak(t, 150, 3000), 0, 0, 0
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 12))
		p := policytest.Random(r, shape(seed)).Program
		res := verify.Check(p, verify.Options{NoWarnings: true})
		for i := range res.Findings {
			f := &res.Findings[i]
			if f.Repair == nil || f.Code != verify.RelayForStrangers {
				continue
			}
			repaired++
			if f.Repair.Partial {
				partial++
			}
			if s := repairWrong(p, f.Repair, r); s != "" {
				t.Errorf("seed %d: %s\n%s%s", seed, s, show(p), f.Repair)
				if bad++; bad > 3 {
					t.FailNow()
				}
			}
			break // the others have the same
		}
	}
	t.Logf("%d policies, %d repaired, of which %d with a partial list of changes", rounds, repaired, partial)
	if repaired < rounds/10 {
		t.Errorf("%d of %d policies repaired: too few to tell", repaired, rounds)
	}
}

func repairWrong(p *policy.Program, fix *verify.Repair, r *rand.Rand) string {
	next, problems := policy.New(fix.Filters, p.Asserts, p.Topology)
	if next == nil {
		return fmt.Sprintf("the repaired policy does not load: %v", problems)
	}
	if s := verify.Check(next, verify.Options{NoWarnings: true, NoRepairs: true}).Claims[0].Status; s != verify.Closed {
		return fmt.Sprintf("after the repair it is %s", s)
	}
	ms := messages(cornersOf(p, next), r, 500)
	for b := range byForce(next, ms) {
		if b.code == verify.RelayForStrangers {
			return fmt.Sprintf("after the repair filter %s relays", b.name)
		}
	}
	if fix.Partial {
		return ""
	}
	return missing(p, next, fix.Changes, ms, func(f *policy.Facts, d *policy.Decision) bool {
		return f.Origin == policy.Stranger && d.Disposition == policy.Deliver && d.Inside == ""
	})
}

// TestDiffsAgree holds comparisons of random pairs against brute force.
func TestDiffsAgree(t *testing.T) {
	rounds, changed, cut, bad := soak(t, 200, 3000), 0, 0, 0
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 13))
		old := policytest.Random(r, shape(seed)).Program
		next := mutated(old, policytest.Random(r, shape(seed)).Program, r)
		if next == nil {
			continue
		}
		listed, complete := verify.Diff(old, next, verify.Options{})
		if len(listed) > 0 {
			changed++
		}
		if !complete {
			cut++
			continue
		}
		ms := messages(cornersOf(old, next), r, 600)
		if s := missing(old, next, listed, ms, func(*policy.Facts, *policy.Decision) bool { return false }); s != "" {
			t.Errorf("seed %d: %s\n%sand\n%s", seed, s, show(old), show(next))
			if bad++; bad > 3 {
				t.FailNow()
			}
		}
	}
	t.Logf("%d pairs, %d with changes, %d searches cut short", rounds, changed, cut)
	if changed < rounds/5 || cut > rounds/2 {
		t.Errorf("%d of %d pairs differ, %d are cut short: too few to tell", changed, rounds, cut)
	}
}

// mutated changes one thing of a policy: a condition, the order, a filter, or whom
// strangers may write to. nil where that does not load.
func mutated(p, other *policy.Program, r *rand.Rand) *policy.Program {
	fs, top := slices.Clone(p.Filters), *p.Topology
	i := r.IntN(len(fs))
	switch r.IntN(5) {
	case 0:
		fs[i].If = &policy.Not{X: fs[i].If}
	case 1:
		j := r.IntN(len(fs))
		fs[i], fs[j] = fs[j], fs[i]
	case 2:
		fs = slices.Delete(fs, i, i+1)
	case 3:
		top.Accept = other.Topology.Accept
	case 4:
		top.Inside = slices.Clone(top.Inside)
		for k := range top.Inside {
			top.Inside[k].Domains = top.Inside[k].Domains[:1]
		}
	}
	next, _ := policy.New(fs, nil, &top)
	return next
}
