package verify_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/verify"
)

// fixture is a whole small configuration with what the prover must say of it, in
// comments. Behind a line, or on a line of its own for what has no place:
//
//	# want PV001 open: text of the finding's message
//	# want PV104 warn: text
//
// and anywhere on lines of their own:
//
//	# status: open
//	# witness: rcpt=@aol.com peer=198.51.100.1 listener=internet hops=2
//	# blockers: a, b
//	# repair: move drop before aol        (or: guard aol: origin != "stranger"; or: none)
//	# changes: none                       (or: customer deliver -> drop, ...)
//	# after-repair: closed
//	# assumes PV002: text
//
// witness stands once for each finding with a witness, in their order, or not at all;
// blockers and repair are those of the first such finding.
type fixture struct {
	wants []want
	heads map[string][]string
}

type want struct {
	line               int
	code, status, text string
}

func (w want) String() string {
	return fmt.Sprintf("line %d: %s %s: %s", w.line, w.code, w.status, w.text)
}

var (
	wantForm = regexp.MustCompile(`^(PV\d{3}) (open|unknown|warn): (.+)$`)
	headForm = regexp.MustCompile(`^# (status|witness|blockers|repair|changes|after-repair|assumes PV\d{3}): *(.*)$`)
)

func readFixture(t *testing.T, src string) *fixture {
	t.Helper()
	fx := &fixture{heads: map[string][]string{}}
	for i, line := range strings.Split(src, "\n") {
		if m := headForm.FindStringSubmatch(line); m != nil {
			fx.heads[m[1]] = append(fx.heads[m[1]], strings.TrimSpace(m[2]))
			continue
		}
		parts := strings.Split(line, "# want ")
		for _, p := range parts[1:] {
			m := wantForm.FindStringSubmatch(strings.TrimSpace(p))
			if m == nil {
				t.Fatalf("line %d: %q is not an expectation", i+1, p)
			}
			n := i + 1
			if parts[0] == "" {
				n = 0
			}
			fx.wants = append(fx.wants, want{n, m[1], m[2], m[3]})
		}
	}
	return fx
}

func statusOf(f *verify.Finding) string {
	if f.Severity == verify.Warning {
		return "warn"
	}
	return string(f.Status)
}

// TestFixtures: each finding that is wanted is made at its line, and no other.
func TestFixtures(t *testing.T) {
	names, err := filepath.Glob("testdata/*.hcl")
	if err != nil || len(names) < 60 {
		t.Fatalf("%d fixtures, %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".hcl"), func(t *testing.T) { runFixture(t, name) })
	}
}

func runFixture(t *testing.T, name string) {
	src, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p := loadPolicy(t, name)
	fx := readFixture(t, string(src))
	began := time.Now()
	r := verify.Check(p, verify.Options{})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	fx.findings(t, r)
	fx.status(t, r)
	replays(t, p, r)
	fx.witnesses(t, r)
	fx.repair(t, p, r)
	if again := verify.Check(p, verify.Options{}); !reflect.DeepEqual(shown(again), shown(r)) {
		t.Errorf("a second run differs:\n%s\n%s", shown(r), shown(again))
	}
}

func loadPolicy(t *testing.T, name string) *policy.Program {
	t.Helper()
	cfg, ds := config.Load(name, config.Options{})
	if cfg == nil {
		t.Fatal(ds)
	}
	return cfg.Program
}

// shown is a result without pointers into compiled expressions.
func shown(r *verify.Result) string {
	var b strings.Builder
	fmt.Fprintln(&b, r.Status, r.Claims, r.Stats)
	for i := range r.Findings {
		f := &r.Findings[i]
		fmt.Fprintln(&b, f.Pos, f.Code, f.Status, f.Severity, f.Message, f.Hint, f.Blockers, repairText(f.Repair))
	}
	return b.String()
}

func (fx *fixture) findings(t *testing.T, r *verify.Result) {
	t.Helper()
	left := append([]want(nil), fx.wants...)
	for i := range r.Findings {
		f := &r.Findings[i]
		hit := -1
		for k, w := range left {
			if hit < 0 && w.line == f.Pos.Line && w.code == string(f.Code) && w.status == statusOf(f) && strings.Contains(f.Message, w.text) {
				hit = k
			}
		}
		if hit < 0 {
			t.Errorf("surplus: %v", want{f.Pos.Line, string(f.Code), statusOf(f), f.Message})
			continue
		}
		left = append(left[:hit], left[hit+1:]...)
	}
	for _, w := range left {
		t.Errorf("missing: %v", w)
	}
}

// status is closed unless the fixture says otherwise, and so is every claim that no
// finding is wanted of.
func (fx *fixture) status(t *testing.T, r *verify.Result) {
	t.Helper()
	status := "closed"
	if s := fx.heads["status"]; len(s) > 0 {
		status = s[0]
	}
	if string(r.Status) != status {
		t.Errorf("status %s, want %s", r.Status, status)
	}
	for _, c := range r.Claims {
		open := false
		for _, w := range fx.wants {
			open = open || w.code == string(c.Code) && w.status != "warn"
		}
		if open == (c.Status == verify.Closed) {
			t.Errorf("claim %s is %s", c.Code, c.Status)
		}
		for _, text := range fx.heads["assumes "+string(c.Code)] {
			if !strings.Contains(strings.Join(c.Assumptions, "\n"), text) {
				t.Errorf("claim %s takes for granted %q, not %q", c.Code, c.Assumptions, text)
			}
		}
	}
}

// replays: Eval says of every witness and of every change what the finding says.
func replays(t *testing.T, p *policy.Program, r *verify.Result) {
	t.Helper()
	for _, f := range r.Findings {
		if f.Witness != nil {
			for i := range f.Witness.Hops {
				if d, _ := policy.Eval(p, &f.Witness.Hops[i]); !reflect.DeepEqual(d, f.Witness.Decisions[i]) {
					t.Errorf("%s: hop %d is decided as %+v, not as %+v", f.Message, i, d, f.Witness.Decisions[i])
				}
			}
		} else if f.Severity == verify.Fault && f.Status == verify.Open && (f.Code <= verify.Backscatter || f.Code == verify.AssertHolds) {
			t.Errorf("%s: no witness", f.Message)
		}
	}
}

func (fx *fixture) witnesses(t *testing.T, r *verify.Result) {
	t.Helper()
	var with []*verify.Finding
	for i := range r.Findings {
		if r.Findings[i].Witness != nil {
			with = append(with, &r.Findings[i])
		}
	}
	if ws := fx.heads["witness"]; len(ws) > 0 && len(ws) != len(with) {
		t.Fatalf("%d witnesses, want %d", len(with), len(ws))
	}
	for i, w := range fx.heads["witness"] {
		for _, part := range strings.Fields(w) {
			key, value, _ := strings.Cut(part, "=")
			if got := witnessPart(t, with[i].Witness, key); got != value && !(strings.HasPrefix(value, "@") && strings.HasSuffix(got, value)) {
				t.Errorf("witness %d: %s is %s, want %s", i+1, key, got, value)
			}
		}
	}
	for _, b := range fx.heads["blockers"] {
		if len(with) == 0 {
			t.Fatal("no finding with a witness")
		}
		var names []string
		for _, k := range with[0].Blockers {
			names = append(names, k.Filter)
		}
		if got := strings.Join(names, ", "); got != strings.TrimPrefix(b, "none") {
			t.Errorf("blockers %s, want %s", got, b)
		}
	}
}

func witnessPart(t *testing.T, w *verify.Witness, key string) string {
	t.Helper()
	f, d := &w.Hops[len(w.Hops)-1], &w.Decisions[len(w.Decisions)-1]
	switch key {
	case "rcpt":
		return f.Rcpt.String()
	case "sender":
		return f.Sender.String()
	case "peer":
		return f.Client.Address.String()
	case "listener":
		return f.Listener
	case "origin":
		return string(f.Origin)
	case "hops":
		return fmt.Sprint(len(w.Hops))
	case "to":
		return d.Rcpt.String()
	case "pool":
		return d.Pool
	case "first":
		return w.Hops[0].Rcpt.String()
	}
	t.Errorf("no such part of a witness: %q", key)
	return ""
}

func repairText(r *verify.Repair) string {
	if r == nil {
		return "none"
	}
	var parts []string
	for _, m := range r.Moves {
		parts = append(parts, "move "+m.Filter+" before "+m.Before)
	}
	for _, g := range r.Guards {
		parts = append(parts, "guard "+g.Filter+": "+g.Clause)
	}
	return strings.Join(parts, "; ")
}

func changesText(r *verify.Repair) string {
	var parts []string
	for _, c := range r.Changes {
		parts = append(parts, fmt.Sprintf("%s %s -> %s", c.Facts.Origin, c.Old.Disposition, c.New.Disposition))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func (fx *fixture) repair(t *testing.T, p *policy.Program, r *verify.Result) {
	t.Helper()
	var rep *verify.Repair
	for i := range r.Findings {
		if rep == nil {
			rep = r.Findings[i].Repair
		}
	}
	for _, w := range fx.heads["repair"] {
		if got := repairText(rep); got != w {
			t.Errorf("repair: %s, want %s", got, w)
		}
	}
	if rep == nil {
		return
	}
	for _, w := range fx.heads["changes"] {
		if got := changesText(rep); got != w {
			t.Errorf("changes: %s, want %s", got, w)
		}
	}
	for _, w := range fx.heads["after-repair"] {
		q, err := policy.New(rep.Filters, p.Asserts, p.Topology)
		if q == nil {
			t.Fatal(err)
		}
		if after := verify.Check(q, verify.Options{}); string(after.Status) != w {
			t.Errorf("after the repair %s, want %s: %s", after.Status, w, shown(after))
		}
	}
}

// TestExamplesAreClosed: what the project shows is closed, but for what it shows to
// be open.
func TestExamplesAreClosed(t *testing.T) {
	for name, want := range map[string]verify.Status{"small": verify.Closed, "esp": verify.Closed, "2008/postern.hcl": verify.Open, "2008/repaired.hcl": verify.Closed} {
		p := loadPolicy(t, "../../examples/"+name)
		r := verify.Check(p, verify.Options{})
		if r.Status != want {
			t.Errorf("%s is %s: %s", name, r.Status, shown(r))
		}
		replays(t, p, r)
	}
}

// TestFixturesCoverEveryCode: each code stands in some fixture, but for PV008, which
// no configuration of Postern's own language has.
func TestFixturesCoverEveryCode(t *testing.T) {
	seen := map[string]bool{string(verify.Unmodelled): true}
	names, _ := filepath.Glob("testdata/*.hcl")
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range readFixture(t, string(src)).wants {
			seen[w.code] = true
		}
	}
	for _, c := range append(verify.Codes(), verify.Warnings()...) {
		if !seen[string(c)] {
			t.Errorf("no fixture for %s", c)
		}
	}
}
