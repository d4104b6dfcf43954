package verify_test

import (
	"testing"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/verify"
)

func TestPolicyOf2008(t *testing.T) {
	cfg, ds := config.Load("../../examples/2008/postern.hcl", config.Options{})
	if cfg == nil {
		t.Fatal(ds)
	}
	r := verify.Check(cfg.Program, verify.Options{})
	for _, c := range r.Claims {
		t.Log(c)
	}
	for _, f := range r.Findings {
		t.Logf("%+v", f)
		if f.Witness != nil {
			t.Logf("%+v", f.Witness.Hops[0])
		}
		if f.Repair != nil {
			t.Logf("%+v %+v", f.Repair.Moves, f.Repair.Changes)
		}
	}
	t.Logf("%+v", r.Stats)
}
