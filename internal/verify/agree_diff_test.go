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

// change is a class of messages as Diff lists them: of a change of fate the deciding
// filters, of an effect what it is.
type change struct {
	origin    policy.Origin
	old, next string
	effect    string
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

// effects spells what a decision comes to beside the fate.
func effects(d *policy.Decision) map[string]string {
	out := map[string]string{}
	for _, s := range d.Effects.Logs {
		out["log "+s] = "yes"
	}
	for _, s := range d.Effects.Tags {
		out["tag "+s] = "yes"
	}
	if d.Disposition == policy.Deliver || d.Disposition == policy.Hold {
		for _, h := range d.Effects.Headers {
			out["header "+h.Name] = h.Value
		}
		for _, l := range d.Effects.Limits {
			out["limit "+l.Filter] = fmt.Sprintf("%d in %ds", l.Rate.Count, l.Rate.Seconds)
		}
	}
	if d.Disposition == policy.Deliver || d.Disposition == policy.Hold || d.Disposition == policy.Drop {
		for _, c := range d.Effects.Copies {
			out["copy "+c.Rcpt.String()] = "yes"
		}
	}
	if d.Disposition == policy.Hold {
		out["held recipient "] = d.Rcpt.String()
	}
	return out
}

// changes gives the classes of change that one message shows.
func changes(f *policy.Facts, o, n *policy.Decision) (out []change) {
	if fate(o) != fate(n) {
		return []change{{origin: f.Origin, old: o.Filter, next: n.Filter}}
	}
	was, is := effects(o), effects(n)
	for e := range was {
		if was[e] != is[e] {
			out = append(out, change{origin: f.Origin, effect: e})
		}
	}
	for e := range is {
		if _, there := was[e]; !there {
			out = append(out, change{origin: f.Origin, effect: e})
		}
	}
	return out
}

// listing is a list of changes under test.
type listing struct {
	old, next *policy.Program
	have      map[change]bool
	fates     bool // effects are not listed
	shown     map[change]bool
	fault     string
}

// newListing reads a list. It checks that what is listed is true.
func newListing(old, next *policy.Program, listed []verify.Change) *listing {
	l := &listing{old: old, next: next, have: map[change]bool{}, shown: map[change]bool{}}
	for i := range listed {
		c := &listed[i]
		o, _ := policy.Eval(old, &c.Facts)
		n, _ := policy.Eval(next, &c.Facts)
		want := change{origin: c.Facts.Origin, old: o.Filter, next: n.Filter}
		if c.Effect != nil {
			want = change{origin: c.Facts.Origin, effect: string(c.Effect.Kind) + " " + c.Effect.Name}
			if e := want.effect; effects(&o)[e] != c.Effect.Old || effects(&n)[e] != c.Effect.New {
				l.fault = fmt.Sprintf("%+v: %+v, then %+v", c.Effect, o, n)
			}
		}
		if !slices.Contains(changes(&c.Facts, &o, &n), want) {
			l.fault = fmt.Sprintf("listed as a change, but is none: %+v: %+v", c, o)
		}
		l.have[want] = true
	}
	return l
}

// see holds one message against the list.
func (l *listing) see(f *policy.Facts, ds []policy.Decision) {
	for _, c := range changes(f, &ds[0], &ds[1]) {
		l.shown[c] = true
		if !l.have[c] && (c.effect == "" || !l.fates) && l.fault == "" {
			l.fault = fmt.Sprintf("not listed: %+v: %+v content %+v: %+v, then %+v", c, *f, *f.Content, ds[0], ds[1])
		}
	}
}

// sees holds messages against the list; skip leaves some out.
func (l *listing) sees(ms []*policy.Facts, skip func(f *policy.Facts, d *policy.Decision) bool) string {
	for _, f := range ms {
		o, _ := policy.Eval(l.old, f)
		n, _ := policy.Eval(l.next, f)
		if !skip(f, &o) {
			l.see(f, []policy.Decision{o, n})
		}
	}
	return l.fault
}

// everyClass holds messages of all classes against the list, and the list against
// them; exact is false where there are too many.
func (l *listing) everyClass(r *rand.Rand) (fault string, exact bool) {
	old, _ := policy.New(l.old.Filters, nil, l.old.Topology)
	next, _ := policy.New(l.next.Filters, nil, l.next.Topology)
	b := newForce(r, old, next)
	if b.exact {
		b.each(l.see)
	}
	if b.fault != "" {
		return "brute force: " + b.fault, false
	}
	for c := range l.have {
		if b.exact && !l.shown[c] && l.fault == "" {
			l.fault = fmt.Sprintf("listed, but shown by no message of any class: %+v", c)
		}
	}
	return l.fault, b.exact
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
	l := newListing(p, next, fix.Changes)
	l.fates = true
	return l.sees(ms, func(f *policy.Facts, d *policy.Decision) bool {
		return f.Origin == policy.Stranger && d.Disposition == policy.Deliver && d.Inside == ""
	})
}

// TestDiffsAgree holds comparisons of random pairs against brute force over all
// classes of messages.
func TestDiffsAgree(t *testing.T) {
	rounds, changed, effect, cut, whole, bad := soak(t, 40, 5000), 0, 0, 0, 0, 0
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 13))
		old := policytest.Random(r, shape(seed)).Program
		next := mutated(old, policytest.Random(r, shape(seed)).Program, r)
		if next == nil {
			continue
		}
		c := verify.Diff(old, next, verify.Options{})
		listed, complete := c.Changes, c.Complete
		if len(listed) > 0 {
			changed++
		}
		if slices.ContainsFunc(listed, func(c verify.Change) bool { return c.Effect != nil }) {
			effect++
		}
		if !complete {
			cut++
			continue
		}
		l := newListing(old, next, listed)
		s, exact := l.everyClass(r)
		if exact {
			whole++
		} else if s == "" {
			s = l.sees(messages(cornersOf(old, next), r, 600), func(*policy.Facts, *policy.Decision) bool { return false })
		}
		if s != "" {
			t.Errorf("seed %d: %s\n%sand\n%s", seed, s, show(old), show(next))
			if bad++; bad > 3 {
				t.FailNow()
			}
		}
	}
	t.Logf("%d pairs, %d with changes, %d of them of effects, %d searches cut short; %d held against all classes", rounds, changed, effect, cut, whole)
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
