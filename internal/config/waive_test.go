package config_test

import (
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/config"
)

// TestWaiver reads a waiver and looks when it counts, to the second.
func TestWaiver(t *testing.T) {
	src := `
node {
  hostname = "gw.esp.example"
  state    = "state"
}
listener "internet" {
  address = "0.0.0.0:25"
  from    = "strangers"
}
waive "PV001" {
  reason = "the demonstration leaks on purpose"
  until  = "2026-12-31"
}
`
	load := func(o config.Options) (*config.Config, config.Diagnostics) {
		o.ReadFile = func(string) ([]byte, error) { return []byte(src), nil }
		return config.Load("x.hcl", o)
	}
	cfg, ds := load(config.Options{Now: someDay})
	if cfg == nil || len(cfg.Waivers) != 1 {
		t.Fatalf("got %v", ds)
	}
	w := &cfg.Waivers[0]
	last := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	if w.Code != "PV001" || w.Pos.Line != 10 || !w.Counts(last) || w.Counts(last.Add(time.Second)) {
		t.Errorf("got %+v", w)
	}
	after := func() time.Time { return last.Add(time.Second) }
	if cfg, ds := load(config.Options{Now: after}); cfg != nil || !strings.Contains(ds[0].Message, "in the past") {
		t.Errorf("after its end: %v", ds)
	}
	if cfg, ds := load(config.Options{Now: after, AnyDay: true}); cfg == nil {
		t.Errorf("after its end, to find the node: %v", ds)
	}
}
