package policy_test

import (
	"math/rand/v2"
	"testing"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
)

// randomCondition grows a condition of envelope and content atoms.
func randomCondition(r *rand.Rand, depth int) policy.Expr {
	if depth > 0 && r.IntN(3) > 0 {
		switch r.IntN(3) {
		case 0:
			return not(randomCondition(r, depth-1))
		case 1:
			return bin(randomCondition(r, depth-1), policy.And, randomCondition(r, depth-1))
		}
		return bin(randomCondition(r, depth-1), policy.Or, randomCondition(r, depth-1))
	}
	switch r.IntN(6) {
	case 0:
		return bin(field("listener"), policy.Eq, lit([]string{"internet", "injection"}[r.IntN(2)]))
	case 1:
		return call("in", field("rcpt.domain"), list([]string{"aol.com", "b.example", "replies.esp.example"}[r.IntN(3)]))
	case 2:
		return bin(header("X-A"), policy.Eq, lit("1"))
	case 3:
		return bin(field("size"), policy.Gt, lit(int64(100)))
	case 4:
		return bin(field("origin"), policy.Eq, lit([]string{"stranger", "customer"}[r.IntN(2)]))
	}
	return lit(r.IntN(2) == 0)
}

func randomFilters(r *rand.Rand) []policy.Filter {
	kinds := []policy.FinalKind{policy.ThenDeliver, policy.ThenReject, policy.ThenDrop, policy.ThenSkip, policy.ThenReject}
	var fs []policy.Filter
	for i := range 1 + r.IntN(6) {
		f := policy.Filter{Name: string(rune('a' + i)), If: randomCondition(r, 3)}
		if r.IntN(4) > 0 {
			f.Then = &policy.Final{Kind: kinds[r.IntN(len(kinds))], Code: 550}
		}
		if r.IntN(3) == 0 || f.Then == nil {
			a := policy.Action{Kind: policy.DoLog, Text: "x"}
			if r.IntN(2) == 0 {
				a = policy.Action{Kind: policy.DoSetRcpt, Rcpt: policy.Address{Local: "s", Domain: "replies.esp.example"}}
			}
			f.Do = append(f.Do, a)
		}
		fs = append(fs, f)
	}
	return fs
}

// TestEarlyRefusesOnlyWhatEveryMessageWouldSuffer compares the refusal at RCPT with
// the decision for every completion of the message, over random policies: Early
// refuses exactly when all completions are refused or says nothing.
func TestEarlyRefusesOnlyWhatEveryMessageWouldSuffer(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	early, late := 0, 0
	for range 20_000 {
		p := mustNew(t, esp(t), randomFilters(r)...)
		f := []*policy.Facts{stranger("v@aol.com"), stranger("v@replies.esp.example"), acme("v@b.example")}[r.IntN(3)]
		f.Content = nil
		_, refused := policy.Early(p, f)
		all := true
		for _, c := range completions() {
			g := *f
			g.Content = c
			d, _ := policy.Eval(p, &g)
			all = all && d.Disposition == policy.Refused
		}
		if refused && !all {
			t.Fatalf("refused at RCPT what some message would pass: %+v", p.Filters)
		}
		if refused {
			early++
		} else if all {
			late++
		}
	}
	if early < 1000 || late > early/4 {
		t.Errorf("%d refusals at RCPT, %d left to the end of DATA: Early decides too little", early, late)
	}
}

// completions are messages of every class that randomCondition can tell apart.
func completions() []*policy.Content {
	h := []policy.HeaderField{{Name: "x-a", Value: "1"}}
	return []*policy.Content{{Size: 1}, {Size: 1000}, {Size: 1, Headers: h}, {Size: 1000, Headers: h}}
}

// TestEvalFailsClosed asks Eval before the message is there.
func TestEvalFailsClosed(t *testing.T) {
	p := mustNew(t, esp(t), policy.Filter{Name: "f", If: bin(header("X-A"), policy.Eq, lit("1")), Then: &policy.Final{Kind: policy.ThenDrop}},
		policy.Filter{Name: "all", If: lit(true), Then: &policy.Final{Kind: policy.ThenDeliver}})
	f := stranger("v@aol.com")
	f.Content = nil
	if d, _ := policy.Eval(p, f); d.Disposition != policy.Refused || d.Code != 451 {
		t.Errorf("got %s %d, want a temporary refusal", d.Disposition, d.Code)
	}
}

func FuzzReadings(f *testing.F) {
	for _, s := range []string{"a%b", "a!b", "a@b", "@x:y@z", "imceasmtp-a+40b", "a%b%c!d@e", "\xff%b"} {
		f.Add(s, "d.example")
	}
	f.Fuzz(func(t *testing.T, local, domain string) {
		all, ok := policy.Readings(smtp.Path{Local: local, Domain: domain})
		if !ok {
			return
		}
		for i, a := range all {
			if a.Domain == "" && a.Local != "" {
				t.Fatalf("reading %d of %q has no domain", i, local)
			}
			if n, err := policy.NormaliseDomain(a.Domain); a.Domain != "" && (err != nil || n != a.Domain) {
				t.Fatalf("domain %q of reading %d is not in normal form (%q, %v)", a.Domain, i, n, err)
			}
		}
	})
}

func FuzzNormaliseDomain(f *testing.F) {
	for _, s := range []string{"a.example", "BÜCHER.example.", "[192.0.2.1]", "[IPv6:::1]", "xn--bcher-kva.example", "a..b", "．"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := policy.NormaliseDomain(s)
		if err != nil {
			return
		}
		if again, err := policy.NormaliseDomain(d); err != nil || again != d {
			t.Fatalf("normal form %q of %q is not stable: %q, %v", d, s, again, err)
		}
	})
}

func BenchmarkEval(b *testing.B) {
	p := mustNew(b, esp(b), dropInternet(), aolRange(policy.ThenDeliver))
	f := acme("v@aol.com")
	b.ReportAllocs()
	for b.Loop() {
		policy.Eval(p, f)
	}
}
