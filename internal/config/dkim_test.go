package config_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/dkim"
)

// TestKeysAreLookedAt reads keys that are too small, of another kind, or open to
// others.
func TestKeysAreLookedAt(t *testing.T) {
	weak, err := dkim.Generate(dkim.RSA, 1024, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, err := dkim.Generate(dkim.Ed25519, 0, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		key       *dkim.Key
		mode      os.FileMode
		algorithm string
		want      []string
	}{
		{"good", ed, 0o600, "ed25519-sha256", nil},
		{"weak", weak, 0o400, "rsa-sha256", []string{"is an RSA key of 1024 bits"}},
		{"another kind", weak, 0o600, "ed25519-sha256", []string{"is a key for rsa-sha256, not ed25519-sha256", "is an RSA key of 1024 bits"}},
		{"open to the group", ed, 0o640, "ed25519-sha256", []string{"(mode 0640): whoever has the key signs as esp.example"}},
		{"open to all", ed, 0o604, "ed25519-sha256", []string{"(mode 0604)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			b, err := c.key.PEM()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "k.pem")
			if err := os.WriteFile(file, b, c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, c.mode); err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprintf(`
node {
  hostname = "gw.esp.example"
  state    = "state"
  dkim     = ["k"]
}
dkim "k" {
  domain      = "esp.example"
  selector    = "s"
  key_file    = "k.pem"
  algorithm   = %q
  third_party = true
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
pool "general" { sources = ["198.51.100.10"] }
`, c.algorithm)
			if err := os.WriteFile(filepath.Join(dir, "postern.hcl"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, ds := config.Load(filepath.Join(dir, "postern.hcl"), config.Options{Now: someDay})
			if len(ds) != len(c.want) {
				t.Fatalf("got %v", ds)
			}
			for i, w := range c.want {
				if ds[i].Pos.Line != 10 || !strings.Contains(ds[i].Message, w) {
					t.Errorf("got %s, want %s", ds[i].Error(), w)
				}
			}
			if cfg != nil && (cfg.Signing.Key("k").Key.Algorithm != c.key.Algorithm || !cfg.Signing.Key("k").Signer.Covers("from")) {
				t.Errorf("got %+v", cfg.Signing)
			}
		})
	}
}
