package demo_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/demo"
)

// TestWrong: every number that the story promises is looked at.
func TestWrong(t *testing.T) {
	right := func() *demo.Result {
		return &demo.Result{StrangerDelivered: 63, HeldByContainment: 10, CustomerAfter: 20, Incident: demo.Incident{Filter: "aol-range", OpenedAtComplaint: 9, FirstLeaked: 9, Impact: 63}}
	}
	if why := right().Wrong(); why != "" {
		t.Fatalf("what is right is wrong: %s", why)
	}
	for _, c := range []struct {
		name, want string
		spoil      func(*demo.Result)
	}{
		{"opened too late", "opened at complaint 10", func(r *demo.Result) { r.Incident.OpenedAtComplaint = 10 }},
		{"opened by a customer's complaint", "opened at complaint 3", func(r *demo.Result) { r.Incident.OpenedAtComplaint = 3 }},
		{"counted one too few", "impact counts 62", func(r *demo.Result) { r.Incident.Impact = 62 }},
		{"the wrong filter", `names filter "drop"`, func(r *demo.Result) { r.Incident.Filter = "drop" }},
		{"a wrong verdict", "1 verdicts are wrong", func(r *demo.Result) { r.WrongVerdicts = 1 }},
		{"nothing was held", "held nothing", func(r *demo.Result) { r.HeldByContainment = 0 }},
		{"it leaks on", "2 of the stranger's", func(r *demo.Result) { r.AfterRepair = 2 }},
		{"customers are cut off", "no customer's mail", func(r *demo.Result) { r.CustomerAfter = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := right()
			c.spoil(r)
			if why := r.Wrong(); !strings.Contains(why, c.want) {
				t.Errorf("%q, want %q", why, c.want)
			}
		})
	}
}

// TestPlay plays with other seeds than the usual one; what is kept can be asked and
// its configuration is the repaired one.
func TestPlay(t *testing.T) {
	for _, seed := range []uint64{1, 77} {
		dir := t.TempDir()
		var out bytes.Buffer
		complaints, kept := 0, false
		r, err := demo.Play(t.Context(), demo.Options{Dir: dir, Out: &out, Seed: seed,
			Judged: func(c demo.Complaint) {
				complaints++
				if c.Complaint != complaints || c.Verdict != c.Truth {
					t.Errorf("seed %d: complaint %+v", seed, c)
				}
			},
			Keep: func(_ context.Context, file string, r *demo.Result) {
				kept = true
				cfg, ds := config.Load(file, config.Options{})
				if ds.HasErrors() || cfg.Program.Filters[0].Name != "drop-internet-bounces" {
					t.Errorf("the configuration that is kept: %v", ds)
				}
				if r.Victim == "" || r.Reader == "" || r.Incident.ID == "" || r.Seconds == 0 {
					t.Errorf("nothing to look at: %+v", r)
				}
			}})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, out.String())
		}
		if why := r.Wrong(); why != "" || !kept || complaints != r.Complaints {
			t.Errorf("seed %d: %s, kept %v, %d complaints of %d", seed, why, kept, complaints, r.Complaints)
		}
		if n := strings.Count(out.String(), "INCIDENT "); n != 1 {
			t.Errorf("seed %d: the story tells of %d incidents", seed, n)
		}
	}
}

// TestBrokenOff: a story that is broken off ends with an error, and takes its node and
// its Internet down.
func TestBrokenOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := demo.Play(ctx, demo.Options{Dir: t.TempDir(), Seed: 5, Judged: func(demo.Complaint) { cancel() }})
	if err == nil {
		t.Error("no error")
	}
}

// TestExampleIsTheStory: examples/2008 has the filters of the demonstration, in the
// order that leaks and in the repaired one.
func TestExampleIsTheStory(t *testing.T) {
	for file, want := range map[string]string{"postern.hcl": "aol-range drop-internet-bounces", "repaired.hcl": "drop-internet-bounces aol-range"} {
		name := filepath.Join("..", "..", "examples", "2008", file)
		if _, err := os.Stat(name); err != nil {
			t.Fatal(err)
		}
		cfg, ds := config.Load(name, config.Options{})
		if ds.HasErrors() {
			t.Fatal(ds[0].Error())
		}
		var got []string
		for i := range cfg.Program.Filters {
			got = append(got, cfg.Program.Filters[i].Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}
