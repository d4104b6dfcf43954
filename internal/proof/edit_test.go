package proof_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/verify"
)

const head = `node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
accept = ["*"]
pool "general" { sources = ["198.51.100.10"] }
`

// load reads a configuration of one file, whose head is always the same.
func load(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, ds := config.Load("x.hcl", config.Options{ReadFile: func(string) ([]byte, error) { return []byte(text), nil }})
	if cfg == nil {
		t.Fatal(ds)
	}
	return cfg
}

// TestMoves moves blocks with what belongs to them.
func TestMoves(t *testing.T) {
	const a, b, c = "filter \"a\" {\n  if   = true\n  then = drop()\n}\n", "filter \"b\" {\n  if   = true\n  then = deliver()\n}\n", "filter \"c\" {\n  if   = true\n  then = skip()\n}\n"
	for _, x := range []struct{ name, text, want string }{
		{"last before first", a + "\n" + b + "\n" + c, c + "\n" + a + "\n" + b},
		{"with its comments", a + "\n# of b\n" + b + "\n# of c,\n// in two\n" + c, "# of c,\n// in two\n" + c + "\n" + a + "\n# of b\n" + b},
		{"a comment apart stays", a + "\n# apart\n\n" + c + "\n" + b, c + "\n" + a + "\n# apart\n\n" + b},
		{"a block comment", a + "\n/* of\n   c */\n" + c, "/* of\n   c */\n" + c + "\n" + a},
		{"a comment behind another block stays", strings.TrimSuffix(a, "\n") + " # of a\n" + c, c + "\n" + strings.TrimSuffix(a, "\n") + " # of a\n"},
		{"a comment behind it goes along", a + strings.TrimSuffix(c, "\n") + " # of c\n" + b, strings.TrimSuffix(c, "\n") + " # of c\n\n" + a + b},
		{"no empty lines", a + b + c, c + "\n" + a + b},
		{"no line end at the end", a + "\n" + strings.TrimSuffix(c, "\n"), c + "\n" + a},
		{"CRLF", a + "\n# c\n" + c, "# c\n" + c + "\n" + a},
		{"the comment of the other stays with it", "# of a\n" + a + "\n" + c, c + "\n# of a\n" + a},
	} {
		t.Run(x.name, func(t *testing.T) {
			file := func(text string) string {
				if text = head + text; x.name == "CRLF" {
					text = strings.ReplaceAll(text, "\n", "\r\n")
				}
				return text
			}
			cfg := load(t, file(x.text))
			edited, err := proof.Edit(cfg, &verify.Repair{Moves: []verify.Move{{Filter: "c", Before: "a"}}})
			if err != nil {
				t.Fatal(err)
			}
			if got := string(edited["x.hcl"]); got != file(x.want) {
				t.Errorf("got\n%s\nwant\n%s", got, file(x.want))
			}
			next := load(t, string(edited["x.hcl"]))
			if next.Program.Filters[0].Name != "c" || len(next.Program.Filters) != len(cfg.Program.Filters) {
				t.Errorf("the first filter is %s, of %d", next.Program.Filters[0].Name, len(next.Program.Filters))
			}
		})
	}
}

// TestGuards joins a clause to conditions of every shape.
func TestGuards(t *testing.T) {
	for _, x := range []struct{ name, cond, want string }{
		{"one test", `rcpt.domain == "aol.com"`, `rcpt.domain == "aol.com" && origin != "stranger"`},
		{"and", `tls.on && size > 5`, `tls.on && size > 5 && origin != "stranger"`},
		{"or", `tls.on || size > 5`, `(tls.on || size > 5) && origin != "stranger"`},
		{"or with and", `tls.on || size > 5 && tls.on`, `(tls.on || size > 5 && tls.on) && origin != "stranger"`},
		{"or in parentheses", `(tls.on || size > 5)`, `(tls.on || size > 5) && origin != "stranger"`},
		{"begins and ends with parentheses", `(tls.on) || (size > 5)`, `((tls.on) || (size > 5)) && origin != "stranger"`},
		{"not", `!tls.on`, `!tls.on && origin != "stranger"`},
		{"lines", "(\n    tls.on || # safe\n    size > 5\n  )", "(\n    tls.on || # safe\n    size > 5\n  ) && origin != \"stranger\""},
		{"a comment behind", `tls.on # safe`, `tls.on && origin != "stranger" # safe`},
		{"true", `true`, `true && origin != "stranger"`},
	} {
		t.Run(x.name, func(t *testing.T) {
			text := func(cond string) string {
				return head + "filter \"a\" {\n  if   = " + cond + "\n  then = deliver()\n}\n"
			}
			cfg := load(t, text(x.cond))
			edited, err := proof.Edit(cfg, &verify.Repair{Guards: []verify.Guard{{Filter: "a", Clause: `origin != "stranger"`}}})
			if err != nil || string(edited["x.hcl"]) != text(x.want) {
				t.Fatalf("%v, got\n%s", err, edited["x.hcl"])
			}
			old, next := verify.Spell(cfg.Program.Filters[0].If), verify.Spell(load(t, string(edited["x.hcl"])).Program.Filters[0].If)
			if _, joined := cfg.Program.Filters[0].If.(*policy.Binary); joined {
				old = "(" + old + ")"
			}
			if next != old+` && (origin != "stranger")` {
				t.Errorf("it is read as %s", next)
			}
		})
	}
}

func TestEditOfWhatIsNotThere(t *testing.T) {
	cfg := load(t, head+"filter \"a\" {\n  if   = true\n  then = deliver()\n}\n")
	for _, r := range []*verify.Repair{{Moves: []verify.Move{{Filter: "b", Before: "a"}}}, {Moves: []verify.Move{{Filter: "a", Before: "b"}}}, {Guards: []verify.Guard{{Filter: "b", Clause: "true"}}}} {
		if _, err := proof.Edit(cfg, r); !errors.Is(err, proof.ErrCannotEdit) {
			t.Errorf("%s: %v", r, err)
		}
	}
}

// TestUnifiedAgainstPatch lets patch apply random differences.
func TestUnifiedAgainstPatch(t *testing.T) {
	if _, err := exec.LookPath("patch"); err != nil {
		t.Skip("patch is not installed")
	}
	dir := t.TempDir()
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		old, next := randomTexts(r)
		diff := proof.Unified("a", "b", old, next)
		file := filepath.Join(dir, "f")
		if err := os.WriteFile(file, old, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("patch", "--fuzz=0", "-s", file)
		cmd.Stdin = strings.NewReader(diff)
		if out, err := cmd.CombinedOutput(); err != nil && diff != "" {
			t.Fatalf("seed %d: %v %s\n%s", seed, err, out, diff)
		}
		got, err := os.ReadFile(file)
		if err != nil || string(got) != string(next) {
			t.Fatalf("seed %d: patched to\n%q\nwant\n%q\n%s", seed, got, next, diff)
		}
	}
}

// randomTexts gives a text and a change of it: lines put in, taken out, moved.
func randomTexts(r *rand.Rand) (old, next []byte) {
	lines := make([]string, 1+r.IntN(40))
	for i := range lines {
		lines[i] = fmt.Sprintf("line %d\n", r.IntN(12))
	}
	changed := append([]string(nil), lines...)
	for range r.IntN(5) {
		i := r.IntN(len(changed) + 1)
		switch r.IntN(3) {
		case 0:
			changed = append(changed[:i:i], append([]string{"new\n"}, changed[i:]...)...)
		case 1:
			if i < len(changed) {
				changed = append(changed[:i:i], changed[i+1:]...)
			}
		case 2:
			if i < len(changed) {
				moved := changed[i]
				changed = append([]string{moved}, append(changed[:i:i], changed[i+1:]...)...)
			}
		}
	}
	a, b := strings.Join(lines, ""), strings.Join(changed, "")
	if r.IntN(4) == 0 {
		a = strings.TrimSuffix(a, "\n")
	}
	if r.IntN(4) == 0 {
		b = strings.TrimSuffix(b, "\n")
	}
	return []byte(a), []byte(b)
}
