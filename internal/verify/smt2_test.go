package verify_test

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"postern.dev/postern/internal/policy/policytest"
	"postern.dev/postern/internal/verify"
)

// TestSolverAgrees has z3 check the obligations of random policies: it finds a
// message exactly where the prover does.
func TestSolverAgrees(t *testing.T) {
	z3, err := exec.LookPath("z3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("z3 is not installed: scripts/needs.sh does it")
		}
		t.Skip("z3 is not installed")
	}
	asked, agreed, open, loose, late, bad := 0, 0, 0, 0, 0, 0
	few := 25
	if os.Getenv("CI") != "" {
		few = 120
	}
	for seed := range uint64(soak(t, few, 1000)) {
		r := rand.New(rand.NewPCG(seed, 14))
		p := policytest.Random(r, shape(seed)).Program
		found := map[string]*verify.Finding{}
		res := verify.Check(p, verify.Options{NoWarnings: true, NoRepairs: true})
		for i := range res.Findings {
			found[string(res.Findings[i].Code)+" "+res.Findings[i].Filter] = &res.Findings[i]
		}
		for name, text := range verify.SMT2(p, verify.Options{}) {
			asked++
			f := found[name]
			out := solve(t, z3, text)
			switch {
			case out == "unknown" || out == "timeout":
				late++
			case f != nil && f.Status == verify.Unknown:
				loose++
			case out == "sat" && f == nil && strings.Contains(text, "free-"):
				loose++
			case (out == "sat") == (f != nil):
				agreed++
				if f != nil {
					open++
				}
			case out == "unsat" && f != nil && !plain(f):
				loose++ // shown by octets that are not UTF-8
			default:
				t.Errorf("seed %d: %s: z3 says %s, the prover %+v\n%s", seed, name, out, f, show(p))
				if bad++; bad > 3 {
					t.FailNow()
				}
			}
		}
	}
	t.Logf("%d obligations: %d agreed, %d of them open; %d left free or not UTF-8, %d past z3's time", asked, agreed, open, loose, late)
	if agreed < asked/2 || open < asked/20 {
		t.Errorf("%d of %d agreed, %d of them open: too few to tell", agreed, asked, open)
	}
}

// plain reports a witness of whole characters.
func plain(f *verify.Finding) bool {
	for i := range f.Witness.Hops {
		h := &f.Witness.Hops[i]
		ok := utf8.ValidString(h.Sender.Local + h.Rcpt.Local + h.Client.Helo + h.Client.Name)
		for _, x := range h.Content.Headers {
			ok = ok && utf8.ValidString(x.Value)
		}
		if !ok {
			return false
		}
	}
	return true
}

func solve(t *testing.T, z3, text string) string {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), z3, "-in", "-t:700", "-T:1")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	s, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n") // it may say both that it does not know and that its time is up
	if s != "sat" && s != "unsat" && s != "unknown" && s != "timeout" {
		t.Fatalf("z3: %v: %s\n%s", err, s, text)
	}
	return s
}
