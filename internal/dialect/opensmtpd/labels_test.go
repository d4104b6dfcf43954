package opensmtpd_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"postern.dev/postern/internal/dialect"
	"postern.dev/postern/internal/dialect/opensmtpd"
	"postern.dev/postern/internal/verify"
)

// judge gives what the prover says of a model's relaying for strangers.
func judge(t *testing.T, m *dialect.Model) (verify.Status, string) {
	t.Helper()
	status, why := verify.Closed, ""
	for _, s := range m.Services {
		if s.Sure == nil {
			continue
		}
		relays := func(p *verify.Result) *verify.Finding {
			for i := range p.Findings {
				if f := &p.Findings[i]; f.Code == verify.RelayForStrangers && f.Status != verify.Closed {
					return f
				}
			}
			return nil
		}
		o := verify.Options{NoWarnings: true, NoRepairs: true}
		if f := relays(verify.Check(s.Sure, o)); f != nil {
			return f.Status, f.Filter
		}
		if s.Maybe != nil {
			if f := relays(verify.Check(s.Maybe, o)); f != nil {
				status, why = verify.Unknown, f.Filter
			}
		}
	}
	return status, why
}

// configurations is a folder of configurations, each with what the real server did.
func configurations() string {
	if dir := os.Getenv("POSTERN_MTA_CONFIGS"); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "..", "..", "shared", "mta-configs")
}

// TestLabelled asks of each configuration whether a stranger's mail gets out, and
// compares with whether it did when the server itself was asked.
func TestLabelled(t *testing.T) {
	root := configurations()
	dirs, _ := filepath.Glob(filepath.Join(root, "opensmtpd", "*"))
	if len(dirs) == 0 {
		t.Skip("no labelled configurations: set POSTERN_MTA_CONFIGS to a folder of them")
	}
	counts := map[string]int{}
	for _, dir := range dirs {
		read := func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, filepath.Base(name))) }
		var truth struct{ Relays bool }
		b, err := os.ReadFile(filepath.Join(dir, "truth.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &truth); err != nil {
			t.Fatal(err)
		}
		m, err := opensmtpd.Model("smtpd.conf", read)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(dir), err)
			continue
		}
		status, why := judge(t, m)
		key := map[bool]string{true: "relays", false: "safe"}[truth.Relays] + " " + string(status)
		counts[key]++
		if truth.Relays && status == verify.Closed || !truth.Relays && status == verify.Open {
			t.Errorf("%s: relays %v, called %s %s", filepath.Base(dir), truth.Relays, status, why)
		} else if status == verify.Unknown {
			t.Logf("%s: relays %v, called %s by %s", filepath.Base(dir), truth.Relays, status, why)
			for _, g := range m.Gaps {
				t.Logf("    %s %s: %s", g.Pos, g.Text, g.Why)
			}
		}
	}
	t.Log(counts)
}
