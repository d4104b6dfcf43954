package verify_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify"
)

const badHead = `node {
  hostname = "gw.esp.example"
  state    = "/var/lib/postern"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
pool "general" { sources = ["198.51.100.10"] }
accept = ["*"]
`

// loadText loads a configuration out of memory; names not in files are not there.
func loadText(files map[string]string) (*config.Config, config.Diagnostics) {
	return config.Load("postern.hcl", config.Options{ReadFile: func(name string) ([]byte, error) {
		text, there := files[filepath.Base(name)]
		if !there {
			return nil, fmt.Errorf("read %s: no such file", name)
		}
		return []byte(text), nil
	}})
}

func filterText(filter, cond, then string) string {
	return fmt.Sprintf("filter %q {\n  if = %s\n  then = %s\n}\n", filter, cond, then)
}

// TestBadFilesAreRefused: a positioned error, and soon.
func TestBadFilesAreRefused(t *testing.T) {
	nested := badHead + filterText("deep", strings.Repeat("(", 10_000)+"true"+strings.Repeat(")", 10_000), "drop()")
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"nested":  {map[string]string{"postern.hcl": nested}, "nested deeper"},
		"negated": {map[string]string{"postern.hcl": badHead + filterText("deep", strings.Repeat("!", 10_000)+"true", "drop()")}, "deeper"},
		"blocks":  {map[string]string{"postern.hcl": strings.Repeat("a {\n", 10_000)}, "nested deeper"},
		"circle":  {map[string]string{"postern.hcl": badHead + "include = [\"a.hcl\"]\n", "a.hcl": "include = [\"b.hcl\"]\n", "b.hcl": "include = [\"a.hcl\"]\n"}, "circle"},
		"itself":  {map[string]string{"postern.hcl": badHead + "include = [\"postern.hcl\"]\n"}, "circle"},
		"65 MB":   {map[string]string{"postern.hcl": strings.Repeat("# nothing\n", 7_000_000)}, "larger than"},
	} {
		began := time.Now()
		cfg, ds := loadText(c.files)
		took := time.Since(began)
		t.Logf("%s: %v", name, took)
		if cfg != nil || !ds.HasErrors() {
			t.Errorf("%s: loaded", name)
			continue
		}
		if ds[0].Pos.File == "" || !strings.Contains(ds[0].Error(), c.want) {
			t.Errorf("%s: %v", name, ds[0])
		}
		if took > 20*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

// checked proves a policy of the head and some filters and gives the status of
// PV001, which must not take longer than the bound.
func checked(t *testing.T, filters string, o verify.Options, bound time.Duration) verify.Status {
	t.Helper()
	began := time.Now()
	cfg, ds := loadText(map[string]string{"postern.hcl": badHead + filters})
	if cfg == nil {
		t.Fatal(ds)
	}
	loaded := time.Since(began)
	began = time.Now()
	r := verify.Check(cfg.Program, o)
	took := time.Since(began)
	replays(t, cfg.Program, r)
	t.Logf("%s: loaded in %v, proved in %v, %d queries, PV001 %s", t.Name(), loaded, took, r.Stats.Queries, r.Claims[0].Status)
	if took > bound {
		t.Errorf("took %v, bound %v", took, bound)
	}
	return r.Claims[0].Status
}

// TestExplodingExpressions: the automaton of (a|b)*a(a|b){n} has 2^n states. Whether
// two of them meet is found, or given up; what is disjoint is never open with a
// witness, what meets never closed.
func TestExplodingExpressions(t *testing.T) {
	for _, n := range []int{4, 10, 14, 20} {
		re := func(last string) string {
			return fmt.Sprintf("matches(rcpt.local, \"^(a|b)*%s(a|b){%d}$\")", last, n)
		}
		t.Run(fmt.Sprintf("meet/%d", n), func(t *testing.T) {
			if s := checked(t, filterText("f", re("a"), "deliver()"), verify.Options{}, 20*time.Second); s == verify.Closed {
				t.Error("closed")
			}
		})
		t.Run(fmt.Sprintf("disjoint/%d", n), func(t *testing.T) {
			if s := checked(t, filterText("f", re("a")+" && "+re("b"), "deliver()"), verify.Options{}, 20*time.Second); s == verify.Open {
				t.Error("open")
			}
		})
		t.Run(fmt.Sprintf("covered/%d", n), func(t *testing.T) {
			if s := checked(t, filterText("d", re("(a|b)"), "drop()")+filterText("f", re("a"), "deliver()"), verify.Options{}, 20*time.Second); s == verify.Open {
				t.Error("open")
			}
		})
	}
}

// TestHardSAT: random 3-SAT at its threshold, each clause a drop filter over headers
// that are there or not: the delivering filter leaks if the formula has a solution.
// The solver gives up within its budget.
func TestHardSAT(t *testing.T) {
	for _, vars := range []int{50, 100, 200, 300} {
		t.Run(fmt.Sprint(vars), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(vars)))
			var b strings.Builder
			for i := range int(4.26 * float64(vars)) {
				var lits []string
				for range 3 {
					lit := fmt.Sprintf("has_header(\"X-%d\")", rng.IntN(vars))
					if rng.IntN(2) == 0 {
						lit = "!" + lit
					}
					lits = append(lits, lit)
				}
				b.WriteString(filterText(fmt.Sprintf("d%d", i), strings.Join(lits, " && "), "drop()"))
			}
			b.WriteString(filterText("send", `rcpt.domain == "aol.com"`, "deliver()"))
			checked(t, b.String(), verify.Options{NoWarnings: true, Conflicts: 5000}, 30*time.Second)
		})
	}
}

// TestManyOverlappingFilters: ten thousand that overlap by headers, a leak at their
// end.
func TestManyOverlappingFilters(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprint(&b, filterText(fmt.Sprintf("d%d", i), fmt.Sprintf("has_header(\"X-%d\") && has_header(\"Y-%d\")", rng.IntN(500), rng.IntN(500)), "drop()"))
	}
	b.WriteString(filterText("send", `rcpt.domain == "aol.com"`, "deliver()"))
	if s := checked(t, b.String(), verify.Options{NoWarnings: true, NoRepairs: true}, 30*time.Second); s != verify.Open {
		t.Errorf("%s", s)
	}
}

// TestGapsAreNeverClosed: what is not understood makes nothing closed.
func TestGapsAreNeverClosed(t *testing.T) {
	cfg, ds := loadText(map[string]string{"postern.hcl": badHead + filterText("d", "true", "drop()")})
	if cfg == nil {
		t.Fatal(ds)
	}
	r := verify.Check(cfg.Program, verify.Options{Gaps: []verify.Gap{{Pos: policy.Pos{File: "x", Line: 3}, Text: "x", Why: "y"}}})
	for _, c := range r.Claims {
		if c.Status == verify.Closed {
			t.Errorf("%s is closed", c.Code)
		}
	}
}

// TestSmallSATAgainstBruteForce: the same family, small enough to try every message.
func TestSmallSATAgainstBruteForce(t *testing.T) {
	const vars, clauses = 12, 60
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(7, seed))
		var b strings.Builder
		var drops [clauses][2]int // headers that must be there, and that must not
		for i := range drops {
			var lits []string
			for range 3 {
				x := rng.IntN(vars)
				lit, side := fmt.Sprintf("has_header(\"X-%d\")", x), rng.IntN(2)
				drops[i][side] |= 1 << x
				lits = append(lits, strings.Repeat("!", side)+lit)
			}
			b.WriteString(filterText(fmt.Sprintf("d%d", i), strings.Join(lits, " && "), "drop()"))
		}
		want := verify.Closed
		for m := range 1 << vars {
			hit := false
			for _, d := range drops {
				hit = hit || m&d[0] == d[0] && m&d[1] == 0
			}
			if !hit {
				want = verify.Open
			}
		}
		b.WriteString(filterText("send", `rcpt.domain == "aol.com"`, "deliver()"))
		if got := checked(t, b.String(), verify.Options{NoWarnings: true, NoRepairs: true}, 20*time.Second); got != want {
			t.Errorf("seed %d: %s, want %s", seed, got, want)
		}
	}
}
