package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSMT2 pipes what check -smt2 prints into both solvers, as the documentation says:
// the policy of 2008 leaks by the filter that the prover blames and by no other, and the
// repaired one by none.
func TestSMT2(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, solver := range [][]string{{"z3", "-in"}, {"cvc5", "--lang=smt2", "--incremental", "--strings-exp"}} {
		path, err := exec.LookPath(solver[0])
		if err != nil {
			t.Logf("%s is not installed", solver[0])
			continue
		}
		for file, leaks := range map[string]string{"postern.hcl": `"?PV001 aol-range"?`, "repaired.hcl": ""} {
			t.Run(solver[0]+"/"+file, func(t *testing.T) {
				cmd := exec.CommandContext(t.Context(), exe, "check", "-smt2", filepath.Join("..", "..", "examples", "2008", file))
				cmd.Env = append(os.Environ(), "POSTERN_TEST_AS_PROGRAM=1")
				scripts, err := cmd.Output()
				if err != nil {
					t.Fatal(err)
				}
				ask := exec.CommandContext(t.Context(), path, solver[1:]...) //nolint:gosec // a solver that was looked up
				ask.Stdin = strings.NewReader(string(scripts))
				out, err := ask.Output()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				lines := strings.Fields(strings.ReplaceAll(string(out), " ", "_"))
				if len(lines) == 0 || len(lines)%2 != 0 {
					t.Fatalf("%s", out)
				}
				for i := 0; i < len(lines); i += 2 {
					name, want := strings.ReplaceAll(lines[i], "_", " "), "unsat"
					if leaks != "" && regexp.MustCompile("^"+leaks+"$").MatchString(name) {
						want = "sat"
					}
					if lines[i+1] != want {
						t.Errorf("%s: %s, want %s", name, lines[i+1], want)
					}
				}
			})
		}
	}
}
