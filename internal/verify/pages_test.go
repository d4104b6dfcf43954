package verify_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify"
)

const pages = "../../docs/claims/"

// TestEveryCodeHasItsPage, and every page its code and its line in the index.
func TestEveryCodeHasItsPage(t *testing.T) {
	index, err := os.ReadFile(pages + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"README.md": true}
	for _, c := range allCodes() {
		known[string(c)+".md"] = true
		page, err := os.ReadFile(pages + string(c) + ".md")
		if err != nil {
			t.Error(err)
			continue
		}
		head := fmt.Sprintf("# %s: %s\n", c, c.Title())
		if !strings.HasPrefix(string(page), head) {
			t.Errorf("%s.md does not begin with %q", c, head)
		}
		for _, h := range []string{"## Why", "## Example", "## Repair", "## Taken for granted"} {
			if !strings.Contains(string(page), "\n"+h+"\n") {
				t.Errorf("%s.md has no %q", c, h)
			}
		}
		if line := fmt.Sprintf("| [%s](%s.md) | %s |\n", c, c, c.Title()); !strings.Contains(string(index), line) {
			t.Errorf("the index has no line %q", line)
		}
	}
	names, _ := filepath.Glob(pages + "*")
	for _, n := range names {
		if !known[filepath.Base(n)] {
			t.Errorf("%s is the page of no code", n)
		}
	}
}

func allCodes() []verify.Code { return append(verify.Codes(), verify.Warnings()...) }

// TestPagesTellTheTruth: the first configuration of a page gives what the page says,
// the second, which is the repair, gives nothing of that code.
func TestPagesTellTheTruth(t *testing.T) {
	for _, c := range allCodes() {
		page, err := os.ReadFile(pages + string(c) + ".md")
		if err != nil {
			t.Fatal(err)
		}
		examples, outputs := fenced(string(page), "hcl"), fenced(string(page), "text")
		if len(examples) != 2 || len(outputs) < 1 {
			t.Errorf("%s.md: %d configurations, %d outputs", c, len(examples), len(outputs))
			continue
		}
		if got := found(t, examples[0], c, nil); got != outputs[0] {
			t.Errorf("%s.md: its example gives\n%sand not\n%s", c, got, outputs[0])
		}
		if c == verify.Unmodelled {
			gap := verify.Gap{Pos: policy.Pos{Line: 1}, Text: `filter "legacy"`, Why: "calls a program"}
			if got := found(t, examples[0], c, []verify.Gap{gap}); got != outputs[1] {
				t.Errorf("%s.md: a gap gives\n%sand not\n%s", c, got, outputs[1])
			}
		} else if outputs[0] == "" {
			t.Errorf("%s.md: its example shows nothing", c)
		}
		if got := found(t, examples[1], c, nil); got != "" {
			t.Errorf("%s.md: after the repair\n%s", c, got)
		}
	}
}

func fenced(page, kind string) []string {
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+kind+"\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		out = append(out, m[1])
	}
	return out
}

// found prints the findings of one code.
func found(t *testing.T, text string, c verify.Code, gaps []verify.Gap) string {
	t.Helper()
	cfg, ds := config.Load("postern.hcl", config.Options{ReadFile: func(string) ([]byte, error) { return []byte(text), nil }})
	if cfg == nil {
		t.Fatalf("%s: %v", c, ds)
	}
	var b strings.Builder
	r := verify.Check(cfg.Program, verify.Options{Gaps: gaps})
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Code == c {
			fmt.Fprintf(&b, "%d: %s %s: %s\n", f.Pos.Line, f.Code, statusOf(f), f.Message)
		}
	}
	if gaps != nil && r.Status != verify.Unknown {
		t.Errorf("with a gap the policy is %s", r.Status)
	}
	return b.String()
}
