package app_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool/faultfs"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func (w *world) metrics() string {
	w.t.Helper()
	var b []byte
	if err := w.client.Get(w.ctx(), "/metrics", nil, &b); err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func has(text string, wanted ...string) (missing []string) {
	for _, s := range wanted {
		if !strings.Contains(text, s) {
			missing = append(missing, s)
		}
	}
	return missing
}

// TestDiskFailsOnce: a message that could not be made durable stays with its client, the
// node says so, and is well again once a write succeeds, without any traffic.
func TestDiskFailsOnce(t *testing.T) {
	disk, log := faultfs.New(), &lines{}
	w := newWorldWith(t, leaky, &world{disk: disk, log: slog.New(slog.NewTextHandler(log, nil))})
	c := w.session(acme, w.inject)
	disk.FailNextSync()
	if r := w.send(c, "n@news.acme.example", mail("acme-1"), "a@other.example"); r.Code != 451 {
		t.Fatalf("got %v", r)
	}
	if s := status(w); len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "the disk fails") {
		t.Errorf("status %q", s.Warnings)
	}
	if m := has(w.metrics(), "postern_spool_trouble 1", "postern_spool_failed 0", "postern_spool_failures_total 1", `postern_refusals_total{reason="storage"} 1`); m != nil {
		t.Errorf("metrics lack %q", m)
	}
	if m := has(log.String(), "level=ERROR", "the disk fails"); m != nil {
		t.Errorf("the log lacks %q", m)
	}
	var ready []byte
	if err := w.client.Get(w.ctx(), "/readyz", nil, &ready); err != nil || string(ready) != "ready\n" {
		t.Errorf("it does not become well: %q, %v", ready, err)
	}
	if s := status(w); len(s.Warnings) != 0 {
		t.Errorf("status %q", s.Warnings)
	}
	if r := w.send(c, "n@news.acme.example", mail("acme-2"), "a@other.example"); r.Code != 250 {
		t.Fatalf("got %v", r)
	}
	if err := w.other.Await(w.ctx(), 1, marked("acme-2")); err != nil {
		t.Error(err)
	}
}

// TestDiskLosesAPromise: what was handed off could not be recorded. The node takes no
// mail any more, in no session, and says so wherever somebody looks.
func TestDiskLosesAPromise(t *testing.T) {
	disk, log := faultfs.New(), &lines{}
	w := newWorldWith(t, leaky, &world{disk: disk, log: slog.New(slog.NewTextHandler(log, nil))})
	c := w.session(acme, w.inject)
	disk.FailNext(2) // the message becomes durable, what becomes of it does not
	if r := w.send(c, "n@news.acme.example", mail("acme-1"), "a@other.example"); r.Code != 250 {
		t.Fatalf("got %v", r)
	}
	w.eventually("failed", func(s app.Status) bool {
		return len(s.Warnings) == 1 && strings.Contains(s.Warnings[0], "the spool has failed")
	})
	if res := c.Send(w.ctx(), &smtp.Mail{To: []smtp.Recipient{{Path: smtp.Path{Local: "a", Domain: "other.example"}}}, Body: strings.NewReader("\r\n")}); res.Mail == nil || res.Mail.Code != 421 {
		t.Errorf("a session goes on: %+v", res)
	}
	refused(t, w.internet)
	if err := w.client.Get(w.ctx(), "/readyz", nil, nil); err == nil || !strings.Contains(err.Error(), "not ready: spool") {
		t.Errorf("readyz: %v", err)
	}
	if m := has(w.metrics(), "postern_spool_failed 1"); m != nil {
		t.Errorf("metrics lack %q", m)
	}
	if m := has(log.String(), "THE SPOOL HAS FAILED"); m != nil {
		t.Errorf("the log lacks %q", m)
	}
}

// TestStoreFails: the ledger's index, or the suppression list, cannot be written. The node
// says so wherever somebody looks, takes no mail, and asks to be stopped.
func TestStoreFails(t *testing.T) {
	for name, c := range map[string]struct{ warning, gauge string }{
		"ledger":     {"no mail is taken: the ledger's index has failed", "postern_ledger_failed"},
		"suppressed": {"no mail is taken: the suppression list has failed", "postern_suppression_failed"},
	} {
		t.Run(name, func(t *testing.T) {
			var failing atomic.Bool
			fs := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if failing.Load() && op.Kind == errorfs.OpFileWrite && filepath.Base(filepath.Dir(op.Path)) == name && strings.HasSuffix(op.Path, ".log") {
					return errors.New("no such luck")
				}
				return nil
			}))
			w := newWorldWith(t, "", &world{stores: fs})
			if m := has(w.metrics(), c.gauge+" 0"); m != nil {
				t.Errorf("metrics lack %q", m)
			}
			failing.Store(true)
			w.send(w.session(acme, w.inject), "n@news.acme.example", mail("acme-1"), "unknown1@aol.com")
			w.eventually("failed", func(s app.Status) bool { return len(has(strings.Join(s.Warnings, "\n"), c.warning)) == 0 })
			select {
			case err := <-w.node.Failed():
				if !strings.Contains(err.Error(), "has failed") {
					t.Error(err)
				}
			case <-w.ctx().Done():
				t.Fatal("nobody is told")
			}
			if err := w.client.Get(w.ctx(), "/readyz", nil, nil); err == nil || !strings.Contains(err.Error(), "has failed") {
				t.Errorf("readyz: %v", err)
			}
			if m := has(w.metrics(), c.gauge+" 1"); m != nil {
				t.Errorf("metrics lack %q", m)
			}
			refused(t, w.internet)
			stop, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := w.node.Stop(stop); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("stop: %v", err)
			}
			failing.Store(false)
			w.start() // it reads again what was not written
			w.awaitSuppressed("acme", "unknown1@aol.com")
		})
	}
}

// refused makes sure that no session begins.
func refused(t *testing.T, listener string) {
	t.Helper()
	nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(stranger)}}).Dial("tcp", listener)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	first := make([]byte, 4)
	if _, err := nc.Read(first); err != nil || string(first) != "421 " {
		t.Errorf("a session begins: %q, %v", first, err)
	}
}

// TestReportIsJudgedAgain: the disk fails under a verdict. The report is judged again
// after a while, while the node runs.
func TestReportIsJudgedAgain(t *testing.T) {
	disk := faultfs.New()
	var mu sync.Mutex
	var waits []time.Duration
	after := func(d time.Duration) <-chan time.Time {
		mu.Lock()
		defer mu.Unlock()
		if waits = append(waits, d); len(waits) == 1 {
			disk.FailNextSync() // and once more
		}
		now := make(chan time.Time, 1)
		now <- time.Time{}
		return now
	}
	w := newWorldWith(t, leaky, &world{disk: disk, after: after})
	disk.FailNext(2)
	report := "From: somebody@else.example\r\nSubject: not a report\r\n\r\nx\r\n"
	if r := w.send(w.session(stranger, w.internet), "a@stranger.example", report, "fbl@fbl.esp.example"); r.Code != 250 {
		t.Fatalf("got %v", r)
	}
	if v, err := w.node.Judged(w.ctx(), 1); err != nil || v.Verdict != "malformed" {
		t.Fatalf("verdict %+v, %v", v, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(waits) != 2 || waits[0] != time.Second || waits[1] != 2*time.Second {
		t.Errorf("it waited %v", waits)
	}
}

// TestWaiverEndsSoon: a week before, everybody who looks is told.
func TestWaiverEndsSoon(t *testing.T) {
	log := &lines{}
	var mu sync.Mutex
	ahead := time.Duration(0)
	now := func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(ahead) }
	w := newWorldWith(t, leaky, &world{now: now, log: slog.New(slog.NewTextHandler(log, nil))})
	if s := status(w); len(s.Warnings) != 0 || strings.Contains(log.String(), "ends on") {
		t.Errorf("a month before: %q", s.Warnings)
	}
	if m := has(w.metrics(), "postern_policy_waivers_ending 0"); m != nil {
		t.Errorf("metrics lack %q", m)
	}
	last := w.waivedUntil()
	day, err := time.Parse(time.DateOnly, last)
	if err != nil {
		t.Fatal(err)
	}
	end := day.Add(24 * time.Hour) // the day itself counts
	mu.Lock()
	ahead = time.Until(end) - 6*24*time.Hour
	mu.Unlock()
	if s := status(w); len(s.Warnings) != 1 || len(has(s.Warnings[0], "PV001", "ends on "+last)) > 0 {
		t.Errorf("a week before: %q", s.Warnings)
	}
	var ready []byte
	if err := w.client.Get(w.ctx(), "/readyz", nil, &ready); err != nil || len(has(string(ready), "ready\nwarning: the waiver of PV001")) > 0 {
		t.Errorf("readyz %q, %v", ready, err)
	}
	if m := has(w.metrics(), "postern_policy_waivers_ending 1"); m != nil {
		t.Errorf("metrics lack %q", m)
	}
	w.stop(w.node)
	w.start()
	if m := has(log.String(), "level=WARN", "ends on "+last); m != nil {
		t.Errorf("the log lacks %q", m)
	}
	mu.Lock()
	ahead = time.Until(end) + time.Hour
	mu.Unlock()
	if s := status(w); len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "ended on "+last) {
		t.Errorf("after it: %q", s.Warnings)
	}
}

// TestMetrics counts what a few sessions do.
func TestMetrics(t *testing.T) {
	w := newWorld(t, leaky)
	c := w.session(acme, w.inject)
	for _, to := range []string{"a@other.example", "b@other.example"} {
		if r := w.send(c, "n@news.acme.example", mail("acme-"+to), to); r.Code != 250 {
			t.Fatalf("got %v", r)
		}
	}
	if r := w.send(c, "n@foreign.example", mail("acme-3"), "a@other.example"); r.Code != 550 {
		t.Fatalf("got %v", r)
	}
	w.eventually("delivered", func(s app.Status) bool { return s.Waiting == 0 })
	if m := has(w.metrics(), `postern_sessions_total{listener="injection"} 1`, `postern_sessions_open{listener="injection"} 1`, `postern_refusals_total{reason="policy"} 1`,
		"postern_accept_seconds_count 2", "postern_spool_sync_seconds_count", "postern_ledger_behind_octets", `postern_events_total{kind="accepted"} 2`, "postern_queue_waiting 0"); m != nil {
		t.Errorf("metrics lack %q", m)
	}
}

// waivedUntil gives the day that the configuration's waiver names: what it was made with
// may be yesterday's by now.
func (w *world) waivedUntil() string {
	w.t.Helper()
	b, err := os.ReadFile(w.file)
	if err != nil {
		w.t.Fatal(err)
	}
	m := regexp.MustCompile(`until *= *"([0-9-]+)"`).FindSubmatch(b)
	if m == nil {
		w.t.Fatal("no waiver")
	}
	return string(m[1])
}
