package proof_test

import (
	"testing"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/verify"
)

// TestApply: what a waiver covers, and what status is left.
func TestApply(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	valid, expired := now.Add(time.Hour), now
	fault := func(c verify.Code, filter string, s verify.Status) verify.Finding {
		return verify.Finding{Code: c, Severity: verify.Fault, Status: s, Filter: filter}
	}
	w := func(c verify.Code, filter string, until time.Time) config.Waiver {
		return config.Waiver{Code: c, Filter: filter, Reason: "r", Until: until}
	}
	claim := func(c verify.Code, s verify.Status) verify.Claim { return verify.Claim{Code: c, Status: s} }
	for _, c := range []struct {
		name     string
		claims   []verify.Claim
		findings []verify.Finding
		waivers  []config.Waiver
		want     verify.Status
		waived   int
		idle     int
	}{
		{"closed", []verify.Claim{claim("PV001", verify.Closed)}, nil, nil, verify.Closed, 0, 0},
		{"open", []verify.Claim{claim("PV001", verify.Open)}, []verify.Finding{fault("PV001", "a", verify.Open)}, nil, verify.Open, 0, 0},
		{"waived", []verify.Claim{claim("PV001", verify.Open)}, []verify.Finding{fault("PV001", "a", verify.Open)}, []config.Waiver{w("PV001", "", valid)}, verify.Closed, 1, 0},
		{"waived by filter", []verify.Claim{claim("PV001", verify.Open)}, []verify.Finding{fault("PV001", "a", verify.Open)}, []config.Waiver{w("PV001", "a", valid)}, verify.Closed, 1, 0},
		{"expired", []verify.Claim{claim("PV001", verify.Open)}, []verify.Finding{fault("PV001", "a", verify.Open)}, []config.Waiver{w("PV001", "", expired)}, verify.Open, 0, 1},
		{"another filter", []verify.Claim{claim("PV001", verify.Open)}, []verify.Finding{fault("PV001", "a", verify.Open)}, []config.Waiver{w("PV001", "b", valid)}, verify.Open, 0, 1},
		{"another code", []verify.Claim{claim("PV001", verify.Open)}, []verify.Finding{fault("PV001", "a", verify.Open)}, []config.Waiver{w("PV002", "a", valid)}, verify.Open, 0, 1},
		{"one of two", []verify.Claim{claim("PV001", verify.Open)}, []verify.Finding{fault("PV001", "a", verify.Open), fault("PV001", "b", verify.Open)},
			[]config.Waiver{w("PV001", "a", valid)}, verify.Open, 1, 0},
		{"open waived, unknown left", []verify.Claim{claim("PV001", verify.Open), claim("PV006", verify.Unknown)}, []verify.Finding{fault("PV001", "a", verify.Open), fault("PV006", "", verify.Unknown)},
			[]config.Waiver{w("PV001", "a", valid)}, verify.Unknown, 1, 0},
		{"open waived, unknown of the same left", []verify.Claim{claim("PV001", verify.Open)}, []verify.Finding{fault("PV001", "a", verify.Open), fault("PV001", "b", verify.Unknown)},
			[]config.Waiver{w("PV001", "a", valid)}, verify.Open, 1, 0},
		{"unknown without a finding", []verify.Claim{claim("PV001", verify.Unknown)}, nil, []config.Waiver{w("PV001", "", valid)}, verify.Unknown, 0, 1},
		{"gaps waived", []verify.Claim{claim("PV001", verify.Unknown), claim("PV008", verify.Unknown)}, []verify.Finding{fault("PV008", "", verify.Unknown)},
			[]config.Waiver{w("PV008", "", valid)}, verify.Closed, 1, 0},
		{"gaps waived, and a leak", []verify.Claim{claim("PV001", verify.Open), claim("PV008", verify.Unknown)}, []verify.Finding{fault("PV001", "a", verify.Open), fault("PV008", "", verify.Unknown)},
			[]config.Waiver{w("PV008", "", valid)}, verify.Open, 1, 0},
		{"a warning does not count", []verify.Claim{claim("PV004", verify.Closed)}, []verify.Finding{{Code: "PV004", Severity: verify.Warning, Status: verify.Open}}, nil, verify.Closed, 0, 0},
		{"a fault that its claim does not know of", []verify.Claim{claim("PV004", verify.Closed)}, []verify.Finding{fault("PV004", "", verify.Open)}, nil, verify.Open, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := proof.Apply(&verify.Result{Claims: c.claims, Findings: c.findings}, c.waivers, now)
			if _, waived, _ := o.Count(); o.Status != c.want || waived != c.waived || len(o.Idle(c.waivers)) != c.idle {
				t.Errorf("%s, %d waived, %d idle; want %s, %d, %d", o.Status, waived, len(o.Idle(c.waivers)), c.want, c.waived, c.idle)
			}
		})
	}
}
