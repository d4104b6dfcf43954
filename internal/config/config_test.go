package config_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
)

var update = flag.Bool("update", false, "write the expected messages anew")

// someDay is what waivers' dates are compared with.
func someDay() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }

// TestBad reads each bad configuration and compares all that is said of it with the
// .want beside it: missing and surplus messages both fail.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.hcl")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d bad configurations, %v", len(files), err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".hcl")
		t.Run(name, func(t *testing.T) {
			cfg, ds := config.Load(f, config.Options{Now: someDay})
			var b strings.Builder
			ds.Write(&b, false)
			if len(ds) == 0 {
				t.Fatal("nothing is said of it")
			}
			if (cfg == nil) != ds.HasErrors() {
				t.Errorf("config %v with %s", cfg != nil, ds.Count())
			}
			for i := range ds {
				if ds[i].Pos.File == "" {
					t.Errorf("no place: %s", ds[i].Message)
				}
			}
			want := strings.TrimSuffix(f, ".hcl") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			expected, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(expected) {
				t.Errorf("got\n%s\nwant\n%s", b.String(), expected)
			}
		})
	}
}

// TestExamples loads every example without a word.
func TestExamples(t *testing.T) {
	for _, f := range []string{"small/postern.hcl", "esp", "2008/postern.hcl", "2008/repaired.hcl"} {
		t.Run(f, func(t *testing.T) {
			cfg, ds := config.Load(filepath.Join("../../examples", f), config.Options{})
			if cfg == nil || len(ds) > 0 {
				var b strings.Builder
				ds.Write(&b, false)
				t.Fatal(b.String())
			}
		})
	}
}

// TestPublicMailboxes warns of a provider whose own users could forge complaints, and
// loads all the same.
func TestPublicMailboxes(t *testing.T) {
	src, err := os.ReadFile("../../examples/small/postern.hcl")
	if err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]bool{"Outlook.com.": true, "hotmail.com": true, "arf.mail.yahoo.com": false, "fbl.outlook.com": false} {
		text := append(slices.Clone(src), []byte("\nprovider \"p\" { domains = [\""+domain+"\"] }\n")...)
		cfg, ds := config.Load("x.hcl", config.Options{ReadFile: func(string) ([]byte, error) { return text, nil }})
		got := false
		for i := range ds {
			got = got || ds[i].Warning && strings.Contains(ds[i].Message, "anybody can have a mailbox")
		}
		if cfg == nil || got != want {
			t.Errorf("%s: warned %v, %v", domain, got, ds)
		}
	}
}

// TestSecretsAreNotPrinted puts a fault on the line of a verifier.
func TestSecretsAreNotPrinted(t *testing.T) {
	_, ds := config.Load("testdata/bad/user-of-two.hcl", config.Options{})
	var b strings.Builder
	ds.Write(&b, false)
	if strings.Contains(b.String(), "AAAA") {
		t.Errorf("the verifier is printed:\n%s", b.String())
	}
}

// TestFilterTree translates one filter of every kind of action.
func TestFilterTree(t *testing.T) {
	src := `
node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
sinks = ["archive@partner.example"]
pool "general" { sources = ["198.51.100.10"] }
pool "aol" { sources = ["203.0.113.1-203.0.113.14"] }
filter "all" {
  if         = (!(origin == "stranger") || header("X-A") == "1") && in(rcpt.domain, ["aol.com", "aim.com"])
  log        = "l"
  tag        = "t"
  set_header = { "X-B" = "c" }
  limit      = "100/1m"
  copy       = "archive@partner.example"
  pool       = pool.general
  then       = reject(450, "4.7.1", "later")
}
`
	src = strings.Replace(src, "state    = \"state\"", "state    = \"state\"\n  default_pool = \"general\"", 1)
	cfg, ds := config.Load("x.hcl", config.Options{ReadFile: func(string) ([]byte, error) { return []byte(src), nil }})
	if cfg == nil || len(ds) > 0 {
		t.Fatalf("%v", ds)
	}
	f := cfg.Program.Filters[0]
	var kinds []string
	for _, a := range f.Do {
		kinds = append(kinds, string(a.Kind))
	}
	if got := strings.Join(kinds, " "); got != "log tag set_header limit copy pool" {
		t.Errorf("actions %q", got)
	}
	if f.Then.Kind != policy.ThenReject || f.Then.Code != 450 || f.Then.Enhanced != [3]int{4, 7, 1} || f.Then.Text != "later" {
		t.Errorf("final %+v", f.Then)
	}
	if f.Pos.Line != 14 || f.If.Position().Column != 16 {
		t.Errorf("at %v, condition at %v", f.Pos, f.If.Position())
	}
	if n := len(cfg.Topology().Pools[1].Sources); n != 14 {
		t.Errorf("%d sources", n)
	}
}

func TestNestingIsBounded(t *testing.T) {
	for _, src := range []string{strings.Repeat("(", 100_000), "a = " + strings.Repeat("[", 10_000), "filter \"x\" {\n if = " + strings.Repeat("!", 100_000) + "true\n}"} {
		_, ds := config.Load("x.hcl", config.Options{ReadFile: func(string) ([]byte, error) { return []byte(src), nil }})
		if !ds.HasErrors() {
			t.Errorf("%.20q... loads", src)
		}
		if _, err := config.Fmt([]byte(src)); err == nil {
			t.Errorf("%.20q... is formatted", src)
		}
	}
}

func TestIncludeInACircle(t *testing.T) {
	dir := t.TempDir()
	for n, s := range map[string]string{"a.hcl": `include = ["b.hcl"]`, "b.hcl": `include = ["a.hcl"]`} {
		if err := os.WriteFile(filepath.Join(dir, n), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, ds := config.Load(filepath.Join(dir, "a.hcl"), config.Options{})
	if !ds.HasErrors() || !strings.Contains(ds[0].Message, "circle") {
		t.Errorf("got %v", ds)
	}
}

func TestPasswordRoundTrip(t *testing.T) {
	v, err := config.ParseVerifier(config.HashPassword("secret", []byte("0123456789abcdef"), 4096))
	if err != nil {
		t.Fatal(err)
	}
	if k, err := v.Keys("secret"); err != nil || string(k) != string(v.StoredKey) {
		t.Errorf("the password does not fit its verifier: %v", err)
	}
	if k, _ := v.Keys("Secret"); string(k) == string(v.StoredKey) {
		t.Error("another password fits")
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/bad/*.hcl")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg, ds := config.Load("x.hcl", config.Options{ReadFile: func(name string) ([]byte, error) {
			if name != "x.hcl" {
				return nil, os.ErrNotExist
			}
			return b, nil
		}})
		if (cfg == nil) != ds.HasErrors() {
			t.Fatalf("config %v with %s", cfg != nil, ds.Count())
		}
	})
}

// TestReferenceIsComplete: every field and function of the language stands in the
// reference.
func TestReferenceIsComplete(t *testing.T) {
	b, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range append(policy.FieldNames(), config.Names()...) {
		if !strings.Contains(string(b), "`"+n+"`") {
			t.Errorf("%s is not in the reference", n)
		}
	}
	for _, n := range policy.FunctionNames() {
		if !strings.Contains(string(b), "`"+n+"(") {
			t.Errorf("%s() is not in the reference", n)
		}
	}
}
