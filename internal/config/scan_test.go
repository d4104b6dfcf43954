package config_test

import (
	"strings"
	"testing"

	"postern.dev/postern/internal/config"
)

// TestLargeRubbish has files of several MiB that would cost the parser minutes: each
// is one fault, at its place.
func TestLargeRubbish(t *testing.T) {
	whole := strings.Repeat("# ok\nx = [\"}\", \"\\\"]\"] // ]\n/* ) */\n", 60_000)
	for name, c := range map[string]struct{ src, want string }{
		"mismatch": {strings.Repeat("{]\n", 2<<20), "big.hcl:1:2: ']' where '}' is missing"},
		"NUL":      {strings.Repeat("\x00{]\n", 1<<20), "big.hcl:1:1: octet NUL"},
		"closing":  {whole + "}\n", "big.hcl:180001:1: '}' closes nothing"},
		"deep":     {whole + "x = \"${" + strings.Repeat("(", 10_000), "nested deeper"},
		"heredoc":  {whole + "x = <<EOF\n" + strings.Repeat("[", 10_000), "nested deeper"},
	} {
		t.Run(name, func(t *testing.T) {
			_, ds := config.Load("big.hcl", config.Options{ReadFile: func(string) ([]byte, error) { return []byte(c.src), nil }})
			var b strings.Builder
			ds.Write(&b, false)
			if !strings.Contains(strings.Replace(b.String(), "error: ", "", 1), c.want) || len(ds) != 1 {
				t.Errorf("%d faults, want %q\n%.300s", len(ds), c.want, b.String())
			}
		})
	}
}
