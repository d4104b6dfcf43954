package verify_test

import (
	"testing"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify"
)

// TestPolicyOf2008 holds the prover to the story: who leaks, what would have stopped
// it, the one move, and that the move costs nobody anything.
func TestPolicyOf2008(t *testing.T) {
	cfg, ds := config.Load("../../examples/2008/postern.hcl", config.Options{})
	if cfg == nil {
		t.Fatal(ds)
	}
	r := verify.Check(cfg.Program, verify.Options{NoWarnings: true})
	if r.Status != verify.Open || len(r.Findings) != 1 {
		t.Fatalf("%s with %d findings", r.Status, len(r.Findings))
	}
	f := r.Findings[0]
	if f.Code != verify.RelayForStrangers || f.Filter != "aol-range" || f.Witness.Hops[0].Rcpt.Domain != "aol.com" {
		t.Errorf("%s at %q: %+v", f.Code, f.Filter, f.Witness.Hops[0])
	}
	if len(f.Blockers) != 1 || f.Blockers[0].Filter != "drop-internet-bounces" {
		t.Errorf("blockers %+v", f.Blockers)
	}
	if m := f.Repair.Moves; len(m) != 1 || m[0] != (verify.Move{Filter: "drop-internet-bounces", Before: "aol-range"}) || len(f.Repair.Changes) != 0 {
		t.Errorf("repair %+v, changes %+v", m, f.Repair.Changes)
	}
	p, _ := policy.New(f.Repair.Filters, nil, cfg.Program.Topology)
	if r := verify.Check(p, verify.Options{}); r.Status != verify.Closed {
		t.Errorf("repaired, and %s", r.Status)
	}
}
