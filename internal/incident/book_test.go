package incident_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/incident"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/smtp"
)

var (
	ctx  = context.Background()
	day  = time.Date(2008, 6, 1, 12, 0, 0, 0, time.UTC)
	path = ledger.Path{Listener: "internet", Filter: "aol-range", Origin: "stranger"}
	peer = netip.MustParseAddr("198.51.100.66")
)

// desk is a book over a ledger in memory, with a clock turned by hand.
type desk struct {
	*incident.Book
	l    *ledger.Ledger
	now  time.Time
	pos  uint64
	fail error
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	l, err := ledger.Open("l", ledger.Options{FS: vfs.NewMem(), Cache: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	d := &desk{l: l, now: day}
	d.load(t)
	return d
}

// load reads the book anew, as a restart does.
func (d *desk) load(t testing.TB) {
	t.Helper()
	b, err := incident.Load(ctx, incident.Options{Records: d.l, Now: func() time.Time { return d.now }, Commit: func(_ context.Context, events ...ledger.Event) error {
		if d.fail != nil {
			return d.fail
		}
		var log [][]byte
		for _, e := range events {
			log = append(log, ledger.Encode(e))
		}
		d.pos++
		d.now = d.now.Add(time.Minute)
		return d.l.Apply(d.pos, log)
	}})
	if err != nil {
		t.Fatal(err)
	}
	d.Book = b
}

func leaked() *report.Verdict {
	return &report.Verdict{Kind: report.Leaked, Grade: report.GradeA, Authenticated: true, Path: path, Peer: peer, Policy: "p1", Pool: "aol", Reason: "we emitted it and nobody of ours sent it", Identity: "x"}
}

func TestOpening(t *testing.T) {
	for _, c := range []struct {
		name string
		v    func(*report.Verdict)
		want bool
	}{
		{"leaked, authenticated, A", func(*report.Verdict) {}, true},
		{"bypassed", func(v *report.Verdict) { v.Kind = report.Bypassed; v.Path = ledger.Path{} }, true},
		{"not authenticated", func(v *report.Verdict) { v.Authenticated = false }, false},
		{"grade C", func(v *report.Verdict) { v.Grade = report.GradeC }, false},
		{"sent", func(v *report.Verdict) { v.Kind = report.Sent }, false},
		{"forged", func(v *report.Verdict) { v.Kind = report.Forged }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			v := leaked()
			c.v(v)
			s, opened, err := d.Observe(ctx, v)
			if err != nil || opened != c.want {
				t.Fatalf("opened %v, %v", opened, err)
			}
			if c.want && s.ID != "INC-2008-0001" {
				t.Errorf("named %s", s.ID)
			}
		})
	}
}

func TestOneIncidentForOneCause(t *testing.T) {
	d := newDesk(t)
	for i := range 5 {
		if _, opened, err := d.Observe(ctx, leaked()); err != nil || opened != (i == 0) {
			t.Fatalf("report %d: opened %v, %v", i, opened, err)
		}
	}
	if _, opened, _ := d.Guard(ctx, &ledger.GuardTripped{Path: path}); opened {
		t.Error("the guard opens a second one for the same path")
	}
	if _, opened, _ := d.Guard(ctx, &ledger.GuardTripped{Path: path, Observed: true}); opened {
		t.Error("a guard that observes opens one")
	}
	other := leaked()
	other.Path.Filter = "another"
	if s, opened, _ := d.Observe(ctx, other); !opened || s.ID != "INC-2008-0002" {
		t.Error("another path is another incident")
	}
}

func TestContainment(t *testing.T) {
	d := newDesk(t)
	s, _, err := d.Observe(ctx, leaked())
	if err != nil {
		t.Fatal(err)
	}
	held := func(filter, origin, from, pool string) bool {
		_, h := d.Holds("internet", filter, origin, netip.MustParseAddr(from), pool)
		return h
	}
	if held("aol-range", "stranger", "198.51.100.66", "aol") {
		t.Error("held before it is contained")
	}
	if _, err := d.Contain(ctx, s.ID, nil, "op", "hold"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, filter, origin, from, pool string
		want                             bool
	}{
		{"the path", "aol-range", "stranger", "192.0.2.1", "aol", true},
		{"a customer's mail by the same filter", "aol-range", "customer", "10.1.0.1", "aol", false},
		{"a stranger's by another filter", "replies", "stranger", "198.51.100.66", "", false},
	} {
		if got := held(c.filter, c.origin, c.from, c.pool); got != c.want {
			t.Errorf("%s: held %v", c.name, got)
		}
	}
	more := []ledger.Containment{{Source: netip.MustParsePrefix("198.51.100.0/24")}, {Pool: "general"}}
	if _, err := d.Contain(ctx, s.ID, more, "op", "more"); err != nil {
		t.Fatal(err)
	}
	d.load(t) // a restart changes nothing
	if !held("replies", "stranger", "198.51.100.7", "") || !held("x", "customer", "10.1.0.1", "general") || !held("aol-range", "stranger", "192.0.2.1", "aol") {
		t.Error("a containment is not in force after a restart")
	}
	if _, err := d.Release(ctx, s.ID, "op", "done"); err != nil {
		t.Fatal(err)
	}
	if held("aol-range", "stranger", "192.0.2.1", "aol") {
		t.Error("held after the release")
	}
}

func TestStates(t *testing.T) {
	d := newDesk(t)
	s, _, _ := d.Observe(ctx, leaked())
	step := func(name string, want string, f func() (*ledger.IncidentState, error)) {
		t.Helper()
		got, err := f()
		if (want == "") != (err != nil) || (err == nil && got.State != want) {
			t.Fatalf("%s: %+v, %v, want %q", name, got, err, want)
		}
	}
	contain := func() (*ledger.IncidentState, error) { return d.Contain(ctx, s.ID, nil, "op", "") }
	release := func() (*ledger.IncidentState, error) { return d.Release(ctx, s.ID, "op", "") }
	end := func() (*ledger.IncidentState, error) { return d.Close(ctx, s.ID, "", "op", "") }
	step("nothing to release", "", release)
	step("contain", incident.Contained, contain)
	step("close while it holds", "", end)
	step("repaired", incident.Repaired, func() (*ledger.IncidentState, error) { return d.Repaired(ctx, s.ID, "op", "") })
	step("release", incident.Repaired, release)
	step("a silly outcome", "", func() (*ledger.IncidentState, error) { return d.Close(ctx, s.ID, "silly", "op", "") })
	step("close", incident.Closed, end)
	step("again", "", end)
	step("contain what is closed", "", contain)
	if _, err := d.Get("INC-2008-0099"); !errors.Is(err, incident.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if got, err := d.Get(s.ID); err != nil || len(got.Timeline) != 5 {
		t.Errorf("timeline of %d, %v", len(got.Timeline), err)
	}
}

// TestNothingHalfDone: a change that cannot be made durable has no effect.
func TestNothingHalfDone(t *testing.T) {
	d := newDesk(t)
	s, _, _ := d.Observe(ctx, leaked())
	d.fail = errors.New("disk")
	if _, err := d.Contain(ctx, s.ID, nil, "op", ""); err == nil {
		t.Fatal("it succeeds")
	}
	if _, held := d.Holds("internet", "aol-range", "stranger", peer, "aol"); held {
		t.Error("it holds")
	}
	if got, _ := d.Get(s.ID); got.State != incident.Open || len(got.Timeline) != 1 {
		t.Errorf("state %s", got.State)
	}
}

func TestAdvisory(t *testing.T) {
	d := newDesk(t)
	var log [][]byte
	for i := range 7 {
		log = append(log, ledger.Encode(&ledger.HandedOff{Time: day.Add(time.Duration(i) * 20 * time.Minute), ID: smtp.NewID(day, [6]byte{byte(i)}), Address: "v@aol.com", Domain: []string{"aol.com", "aim.com"}[i%2], Path: path, Source: netip.MustParseAddr("203.0.113.1")}))
	}
	v := leaked()
	log = append(log, ledger.Encode(v.Event(smtp.ID{}, day)))
	d.pos = 1
	if err := d.l.Apply(1, log); err != nil {
		t.Fatal(err)
	}
	s, _, _ := d.Observe(ctx, v)
	if _, err := d.Contain(ctx, s.ID, nil, "op", "hold | it"); err != nil {
		t.Fatal(err)
	}
	text, err := d.Advisory(ctx, s.ID, "gw.esp.example", "postern.hcl:41")
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, want := range []string{"# Advisory INC-2008-0001", "## Systems affected", "listener \"internet\"", "policy version p1", "## Overview", "7 messages were handed off to 7 recipients (1 different)",
		"## Diagnosis", "filter \"aol-range\" (postern.hcl:41) under policy p1", "198.51.100.66", "## Impact", "| recipients handed off | 7 |", "| aol.com | 4 |", "| aim.com | 3 |", "| 203.0.113.1 | 7 |", "| 2008-06-01T12 | 3 |",
		"## Solution", "| open | postern |", "| contained | op | hold \\| it |"} {
		i := strings.Index(text[at:], want)
		if i < 0 {
			t.Fatalf("no %q in order in\n%s", want, text)
		}
		at += i
	}
	if strings.Contains(text, "v@aol.com") {
		t.Error("a recipient's address stands in it")
	}
}
