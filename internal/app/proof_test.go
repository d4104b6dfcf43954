package app_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/verify"
)

const unwaived = `
filter "aol-range" {
  if   = in(rcpt.domain, ["aol.com", "aim.com"])
  then = deliver(pool.aol)
}
filter "drop" {
  if   = listener == "internet"
  then = drop()
}
`

// TestOpenPolicyIsNotServed: without a waiver the node does not start, says why and
// touches nothing.
func TestOpenPolicyIsNotServed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "postern.hcl")
	text := strings.Replace(head, "[%q]", `["127.0.0.1:53"]`, 1)
	text = strings.Replace(strings.Replace(strings.Replace(text, "%d", "25", 1), "%q", `"127.20.0.1:2525"`, 1), "%q", `"127.20.0.1:2526"`, 1)
	if err := os.WriteFile(file, []byte(text+unwaived), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, ds := config.Load(file, config.Options{})
	if cfg == nil {
		t.Fatal(ds)
	}
	_, err := app.New(context.Background(), app.Options{Path: file, Config: cfg})
	var refused *app.NotClosedError
	if !errors.As(err, &refused) || refused.Outcome.Status != verify.Open {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"is not loaded", "error PV001", `filter "aol-range" {`, "C: RCPT TO:<", `move filter "drop" before "aol-range"`, "-filter"} {
		if !strings.Contains(refused.Error(), want) {
			t.Errorf("nothing of %q in\n%s", want, refused)
		}
	}
	if _, err := os.Stat(cfg.Node.State); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused policy made the state folder: %v", err)
	}
}

// TestReloadRefusesWhatIsOpen keeps the running policy, and takes the same change once
// it is waived; then the waiver is in the log and in the metrics.
func TestReloadRefusesWhatIsOpen(t *testing.T) {
	w := newWorld(t, "filter \"drop\" {\n  if   = listener == \"internet\"\n  then = drop()\n}\n")
	before := status(w)
	w.write(unwaived)
	var out app.Reloaded
	err := w.client.Post(w.ctx(), "/reload", app.ReloadRequest{By: "t"}, &out)
	if err == nil || !strings.Contains(err.Error(), "the running policy stays") || !strings.Contains(err.Error(), "PV001") || status(w).Policy != before.Policy {
		t.Fatalf("got %v, policy %s", err, status(w).Policy)
	}
	metrics := func() string {
		var b []byte
		if err := w.client.Get(w.ctx(), "/metrics", nil, &b); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if m := metrics(); !strings.Contains(m, `postern_policy_proof_status{status="closed"} 1`) || !strings.Contains(m, `postern_policy_proof_status{status="open"} 0`) || strings.Contains(m, "postern_waiver") {
		t.Error("the metrics do not say that the policy is closed, without waivers")
	}
	w.write(leaky)
	if err := w.client.Post(w.ctx(), "/reload", app.ReloadRequest{By: "t"}, &out); err != nil {
		t.Fatal(err)
	}
	if m := metrics(); !strings.Contains(m, `postern_policy_proof_status{status="closed"} 1`) || !strings.Contains(m, `postern_waiver_expiry_seconds{code="PV001",filter=""} `) {
		t.Error("the waiver is not in the metrics")
	}
}

// TestWaiversAreLogged at the start; when one ends, the running policy counts as open,
// and cannot be loaded again.
func TestWaiversAreLogged(t *testing.T) {
	w := newWorld(t, leaky)
	w.stop(w.node)
	cfg, ds := config.Load(w.file, config.Options{})
	if cfg == nil {
		t.Fatal(ds)
	}
	var log bytes.Buffer
	shift := time.Duration(0)
	now := func() time.Time { return time.Now().Add(shift) }
	n, err := app.New(context.Background(), app.Options{Path: w.file, Config: cfg, Now: now, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if s := log.String(); !strings.Contains(s, `msg="finding waived" code=PV001 filter=aol-range`) || !strings.Contains(s, `reason="the leak is the point of the test"`) {
		t.Errorf("the log says\n%s", s)
	}
	w.stop(n)
	shift = 60 * 24 * time.Hour
	_, err = app.New(context.Background(), app.Options{Path: w.file, Config: cfg, Now: now})
	if err == nil || !strings.Contains(err.Error(), "is open") {
		t.Errorf("after the waiver's end: %v", err)
	}
}
