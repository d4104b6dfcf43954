package proof_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/proof"
	"postern.dev/postern/internal/verify"
)

const two = head + `# Deliver.
filter "deliver" {
  if   = rcpt.domain == "aol.com"
  then = deliver()
}

# Drop.
filter "drop" {
  if   = listener == "internet"
  then = drop()
}
`

// made is a result made by hand, about the policy above.
func made(t *testing.T) (*config.Config, *proof.Outcome) {
	t.Helper()
	cfg := load(t, two)
	f := policy.Facts{Listener: "internet", Origin: policy.Stranger, Client: policy.Client{Address: netip.MustParseAddr("203.0.113.9"), Helo: "h.example"},
		Sender: policy.Address{Local: "a", Domain: "b.example"}, Rcpt: policy.Address{Local: "odd local", Domain: "aol.com"},
		Content: &policy.Content{Headers: []policy.HeaderField{{Name: "x-spam", Value: "\x1b[31mred"}}}}
	d, _ := policy.Eval(cfg.Program, &f)
	fs := cfg.Program.Filters
	r := &verify.Result{Status: verify.Open, Stats: verify.Stats{Filters: 2, Queries: 3},
		Claims: []verify.Claim{{Code: "PV001", Title: "t", Status: verify.Open, Assumptions: []string{"the sky is blue"}}},
		Findings: []verify.Finding{{Code: "PV001", Severity: verify.Fault, Status: verify.Open, Filter: "deliver", Pos: fs[0].Pos, Message: "it relays", Hint: "move it",
			Witness:  &verify.Witness{Hops: []policy.Facts{f}, Decisions: []policy.Decision{d}},
			Blockers: []verify.Blocker{{Filter: "drop", Pos: fs[1].Pos}},
			Repair: &verify.Repair{Moves: []verify.Move{{Filter: "drop", Before: "deliver"}}, Filters: []policy.Filter{fs[1], fs[0]},
				Changes: []verify.Change{{Facts: f, Old: d, New: policy.Decision{Disposition: policy.Drop, Filter: "drop"}}}}}}}
	return cfg, proof.Apply(r, nil, time.Now())
}

// TestText prints a finding for people, and lets nothing of a message reach the
// terminal that is not text.
func TestText(t *testing.T) {
	cfg, o := made(t)
	var b strings.Builder
	w := &proof.Writer{W: &b, Config: cfg}
	w.Findings(o)
	w.Assumptions(o)
	const want = `x.hcl:12:1: error PV001: it relays

    12  filter "deliver" {
    13    if   = rcpt.domain == "aol.com"
    14    then = deliver()
    15  }

  A stranger at 203.0.113.9, on listener internet:
    S: 220 gw.esp.example ESMTP Postern
    C: EHLO h.example
    S: 250 gw.esp.example
    C: MAIL FROM:<a@b.example>
    S: 250 2.0.0 ok
    C: RCPT TO:<"odd local"@aol.com>
    S: 250 2.0.0 ok
    C: DATA
    S: 354 go ahead
    C: X-Spam: ?[31mred
    C:
    C: This message shows what the policy does.
    C: .
    S: 250 2.0.0 accepted
  and it is delivered over pool general, by filter deliver.

  Had it come first, it would have been stopped by
    x.hcl:18:1: filter drop

  repair: move filter "drop" before "deliver"
    --- x.hcl
    +++ x.hcl
    @@ -8,14 +8,14 @@
     }
     accept = ["*"]
     pool "general" { sources = ["198.51.100.10"] }
    -# Deliver.
    -filter "deliver" {
    -  if   = rcpt.domain == "aol.com"
    -  then = deliver()
    -}
    -
     # Drop.
     filter "drop" {
       if   = listener == "internet"
       then = drop()
    +}
    +
    +# Deliver.
    +filter "deliver" {
    +  if   = rcpt.domain == "aol.com"
    +  then = deliver()
     }
  price: one other kind of message changes its fate
    a stranger at 203.0.113.9, on listener internet: from <a@b.example> to <"odd local"@aol.com> (x-spam: ?[31mred)
      - delivered over pool general, by filter deliver
      + accepted and dropped, by filter drop

taken for granted:
  PV001  the sky is blue

`
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
	for took, want := range map[time.Duration]string{1500 * time.Millisecond: "1.50 s", 37_400 * time.Microsecond: "37 ms", 420 * time.Microsecond: "0.4 ms"} {
		if s := proof.Summary(o, took); s != "open: 0 of 1 claims hold, 1 finding; 2 filters, 3 queries, "+want {
			t.Errorf("summary %q", s)
		}
	}
}

// TestDialogue: TLS, AUTH, refusals at both places, dots.
func TestDialogue(t *testing.T) {
	cfg := load(t, head+`filter "no" {
  if   = rcpt.domain == "no.example"
  then = reject(550, "5.7.1", "not here")
}
filter "dotty" {
  if   = header("X-Dot") == "1"
  then = reject("no dots")
}
filter "large" {
  if   = size > 500
  then = hold("large")
}
`)
	for _, c := range []struct {
		name string
		f    policy.Facts
		want []string
		not  string
	}{
		{"refused at RCPT", policy.Facts{Rcpt: policy.Address{Local: "a", Domain: "no.example"}}, []string{"C: RCPT TO:<a@no.example>", "S: 550 5.7.1 not here"}, "DATA"},
		{"refused after DATA", policy.Facts{Rcpt: policy.Address{Local: "a", Domain: "b.example"}, Content: &policy.Content{Headers: []policy.HeaderField{{Name: "x-dot", Value: "1"}}}},
			[]string{"C: MAIL FROM:<>", "C: X-Dot: 1", "S: 550 5.7.1 no dots"}, "accepted"},
		{"TLS and AUTH", policy.Facts{TLS: policy.TLS{On: true, Version: "1.3"}, AuthUser: "app", Rcpt: policy.Address{Local: "a", Domain: "b.example"}, Content: &policy.Content{}},
			[]string{"C: STARTTLS", "S: 220 2.0.0 ready for TLS", "C: AUTH SCRAM-SHA-256 (as user app)", "S: 235 2.7.0 authenticated"}, "S: 5"},
		{"of a size", policy.Facts{Rcpt: policy.Address{Local: "a", Domain: "b.example"}, Content: &policy.Content{Size: 501}}, []string{"(501 octets in all)", "S: 250 2.0.0 accepted"}, "xxx"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.f.Origin, c.f.Listener = policy.Stranger, "internet"
			if c.f.AuthUser != "" {
				c.f.Origin = policy.Customer
			}
			d, _ := policy.Eval(cfg.Program, &c.f)
			got := strings.Join(proof.Dialogue(cfg.Program, &c.f, &d), "\n")
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("no %q in\n%s", w, got)
				}
			}
			if strings.Contains(got, c.not) {
				t.Errorf("%q in\n%s", c.not, got)
			}
		})
	}
}

// TestMessageHasItsSize: a message is as long as the facts say, to the octet.
func TestMessageHasItsSize(t *testing.T) {
	cfg := load(t, head+"filter \"large\" {\n  if   = size > 500\n  then = hold(\"large\")\n}\n")
	for size := int64(20); size < 700; size++ {
		f := &policy.Facts{Content: &policy.Content{Size: size, Headers: []policy.HeaderField{{Name: "a", Value: "b"}}}}
		if m := proof.Message(cfg.Program, f); int64(len(m)) != size || strings.Contains(strings.ReplaceAll(string(m), "\r\n", ""), "\n") {
			t.Fatalf("size %d gives %d octets", size, len(m))
		}
	}
}

// TestDocument: the names and shapes that scripts rely on.
func TestDocument(t *testing.T) {
	cfg, o := made(t)
	b, err := json.Marshal(proof.NewDocument(cfg, nil, o, time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Status string
		Claims []struct {
			Code, Status string
			Assumptions  []string
		}
		Findings []struct {
			Code, Severity, Claim, Filter, File string
			Line                                int
			Witness                             struct {
				Peer, Listener, Message string
				Session                 []string
			}
			Blockers []struct {
				Filter string
				Line   int
			}
			Repair struct {
				Moves   []struct{ Filter, Before string }
				Diff    string
				Changes []any
			}
		}
		Stats struct {
			Filters, Queries int
			Seconds          float64
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	f := d.Findings[0]
	if d.Status != "open" || d.Claims[0].Assumptions[0] != "the sky is blue" || f.Code != "PV001" || f.Severity != "error" || f.Claim != "no relay for strangers" ||
		f.File != "x.hcl" || f.Line != 12 || f.Witness.Peer != "203.0.113.9" || f.Witness.Session[0] != "S: 220 gw.esp.example ESMTP Postern" || f.Blockers[0].Line != 18 ||
		f.Repair.Moves[0].Before != "deliver" || !strings.HasPrefix(f.Repair.Diff, "--- x.hcl\n") || len(f.Repair.Changes) != 1 || d.Stats.Seconds != 1 || d.Stats.Queries != 3 {
		t.Errorf("got %s", b)
	}
	b, _ = json.Marshal(proof.Failed(nil))
	if string(b) != `{"status":"unknown","claims":[],"findings":[],"diagnostics":[],"stats":{"filters":0,"seconds":0,"queries":0,"cut":[]}}` {
		t.Errorf("got %s", b)
	}
}

// TestSarif: rules and results hang together, a waived finding is suppressed, and the
// fix of a finding, applied, is the repair.
func TestSarif(t *testing.T) {
	cfg, o := made(t)
	o.Waived[0] = &config.Waiver{Code: "PV001", Reason: "agreed", Until: time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)}
	b, err := json.Marshal(proof.Sarif(cfg, config.Diagnostics{{Pos: policy.Pos{File: "dir/x.hcl", Line: 3, Column: 2}, Warning: true, Message: "m"}}, o, "1"))
	if err != nil {
		t.Fatal(err)
	}
	type region struct{ StartLine, StartColumn, EndLine, EndColumn int }
	var d struct {
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
			Results []struct {
				RuleID, Level string
				RuleIndex     int
				Suppressions  []struct{ Justification string }
				Fixes         []struct {
					ArtifactChanges []struct {
						Replacements []struct {
							DeletedRegion   region
							InsertedContent struct{ Text string }
						}
					}
				}
			}
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	run := d.Runs[0]
	for _, r := range run.Results {
		if run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("result of %s points to rule %s", r.RuleID, run.Tool.Driver.Rules[r.RuleIndex].ID)
		}
	}
	if d.Version != "2.1.0" || len(run.Results) != 2 || run.Results[0].Level != "warning" || run.Results[1].Suppressions[0].Justification != "agreed (until 2027-01-31)" {
		t.Errorf("got %s", b)
	}
	lines := strings.SplitAfter(two, "\n")
	reps := run.Results[1].Fixes[0].ArtifactChanges[0].Replacements
	for i := len(reps) - 1; i >= 0; i-- {
		r := reps[i]
		if r.DeletedRegion.StartColumn != 1 || r.DeletedRegion.EndColumn != 1 {
			t.Fatalf("region %+v is not of whole lines", r.DeletedRegion)
		}
		lines = append(lines[:r.DeletedRegion.StartLine-1:r.DeletedRegion.StartLine-1], append([]string{r.InsertedContent.Text}, lines[r.DeletedRegion.EndLine-1:]...)...)
	}
	edited, err := proof.Edit(cfg, o.Result.Findings[0].Repair)
	if err != nil || strings.Join(lines, "") != string(edited["x.hcl"]) {
		t.Errorf("%v, the fix gives\n%s", err, strings.Join(lines, ""))
	}
}
