package policy_test

import (
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"regexp/syntax"
	"strconv"
	"testing"

	"postern.dev/postern/internal/ahocorasick"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/policy/policytest"
)

// differ asks with the index and without, early and late, prepared and not, and tells
// where the answers are not the same.
func differ(t *testing.T, p *policy.Program, f *policy.Facts) bool {
	t.Helper()
	want, every := policy.Explain(p, f)
	var applied policy.Trace
	for _, s := range every {
		if s.Result != policy.No {
			applied = append(applied, s)
		}
	}
	wantEarly, wantDecided := policy.PlainEarly(p, f)
	bad := false
	for round := range 2 {
		if round == 1 {
			p.Read(f)
		}
		if d, trace := policy.Eval(p, f); !reflect.DeepEqual(d, want) || !reflect.DeepEqual(trace, applied) {
			t.Errorf("Eval: got %+v %v\nwant %+v %v\nread %v, grid %v", d, trace, want, applied, round == 1, policy.IsGrid(p))
			bad = true
		}
		if d, decided := policy.Early(p, f); decided != wantDecided || !reflect.DeepEqual(d, wantEarly) {
			t.Errorf("Early: got %v %+v\nwant %v %+v\nread %v, grid %v", decided, d, wantDecided, wantEarly, round == 1, policy.IsGrid(p))
			bad = true
		}
	}
	return bad
}

// transaction is a random one; now and then one that no session could lead to, since
// the index must not depend on that.
func transaction(r *rand.Rand, p *policytest.Policy) *policy.Facts {
	f := p.Early(r)
	if r.IntN(3) > 0 {
		f.Content = p.Content(r)
	}
	if r.IntN(4) == 0 {
		f.Origin = []policy.Origin{policy.Stranger, policy.Customer, policy.Inside, policy.Self, ""}[r.IntN(5)]
	}
	if r.IntN(8) == 0 {
		f.Listener = []string{"", "elsewhere", "l0", "l1"}[r.IntN(4)]
	}
	if r.IntN(16) == 0 {
		f.Customer = []string{"", "elsewhere", "c0", "c1"}[r.IntN(4)]
	}
	if f.Content != nil && r.IntN(16) == 0 {
		f.Content.SPF = ""
	}
	return f
}

// TestIndexChangesNothing compares the index, in both its shapes, with the plain list.
func TestIndexChangesNothing(t *testing.T) {
	rounds := 600
	if testing.Short() {
		rounds = 200
	}
	if n, err := strconv.Atoi(os.Getenv("POSTERN_SOAK")); err == nil {
		rounds = max(rounds, n)
	}
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 7))
		params := policytest.Wide()
		if seed%4 == 0 {
			params.Listeners, params.Filters, params.Depth = 20, 90, 2
		}
		p := policytest.Random(r, params)
		grid := policy.AsGrid(p.Program)
		for range 25 {
			f := transaction(r, p)
			if differ(t, p.Program, f) || differ(t, grid, f) {
				t.Fatalf("seed %d: facts %+v content %+v", seed, f, f.Content)
			}
		}
	}
}

// TestReadServesEveryRecipient reads facts once and asks for many recipients with
// copies of them, as a session does.
func TestReadServesEveryRecipient(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 8))
		p := policytest.Random(r, policytest.Wide())
		for _, program := range []*policy.Program{p.Program, policy.AsGrid(p.Program)} {
			for range 6 {
				f := transaction(r, p)
				program.Read(f)
				for range 6 {
					g := *f
					g.Rcpt = p.Early(r).Rcpt
					d, _ := policy.Eval(program, &g)
					want, _ := policy.Explain(program, &g)
					early, decided := policy.Early(program, &g)
					wantEarly, wantDecided := policy.PlainEarly(program, &g)
					if !reflect.DeepEqual(d, want) || !reflect.DeepEqual(early, wantEarly) || decided != wantDecided {
						t.Fatalf("seed %d: got %+v, want %+v; early %+v, want %+v", seed, d, want, early, wantEarly)
					}
				}
			}
		}
	}
}

// FuzzIndex lets the fuzzer steer the generator.
func FuzzIndex(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint8(24), uint8(4))
	f.Add(uint64(3), uint64(4), uint8(200), uint8(1))
	f.Fuzz(func(t *testing.T, a, b uint64, filters, depth uint8) {
		r := rand.New(rand.NewPCG(a, b))
		params := policytest.Wide()
		params.Filters, params.Depth = int(filters), int(depth%6)
		p := policytest.Random(r, params)
		for range 8 {
			x := transaction(r, p)
			differ(t, p.Program, x)
			differ(t, policy.AsGrid(p.Program), x)
		}
	})
}

// FuzzRequiredLiterals holds the promise that what an expression matches contains one
// of its literals.
func FuzzRequiredLiterals(f *testing.F) {
	for _, s := range [][2]string{{`(?i)invoice`, "INVOICE"}, {`(?i)kelvin`, "\u212aelvin"}, {`(?i)ship|mass`, "ma\u017f\u017f"},
		{`a\x{FFFD}bcd`, "a\xffbcd"}, {`(foo|ba(r|z){2,})+x`, "barbazx"}, {`(?i:STRASSE)`, "straße"}, {`^$|x`, ""}, {`(?i)é+abc`, "Éabc"},
		{`(ab){0}cd`, "cd"}, {`[aA]bc`, "Abc"}, {`(?i)ab(?-i)CD`, "ABCD"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, expression, s string) {
		re, err := regexp.Compile(expression)
		if err != nil || !re.MatchString(s) {
			return
		}
		parsed, err := syntax.Parse(expression, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		lits := policy.RequiredLiterals(parsed.Simplify())
		if len(lits) > 0 && len(ahocorasick.Scan(ahocorasick.New(lits, make([]int32, len(lits))), s, nil)) == 0 {
			t.Fatalf("%q matches %q, which contains none of %q", expression, s, lits)
		}
	})
}

func TestRequiredLiterals(t *testing.T) {
	for _, c := range []struct {
		expression string
		want       []string
	}{
		{`invoice [0-9]+`, []string{"invoice "}},
		{`(?i)invoice`, []string{"invoice"}},
		{`(?i)cheap watches`, []string{"cheap watche"}}, // s has kin outside of ASCII
		{`foo|barbaz`, []string{"foo", "barbaz"}},
		{`foo|b`, nil},
		{`(foo)?`, nil},
		{`x*longer(short)`, []string{"longer"}},
		{`.*`, nil},
	} {
		t.Run(c.expression, func(t *testing.T) {
			re, err := syntax.Parse(c.expression, syntax.Perl)
			if err != nil {
				t.Fatal(err)
			}
			if got := policy.RequiredLiterals(re.Simplify()); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
