package webhook_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/internal/inbox"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/webhook"
)

var now = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// log is an outbox in memory: one event for each position.
type log struct {
	mu     sync.Mutex
	events [][]byte
	oldest uint64
	grown  chan struct{}
}

func (l *log) add(es ...ledger.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range es {
		l.events = append(l.events, ledger.Encode(e))
	}
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *log) Read(ctx context.Context, from uint64, most int) ([][]byte, uint64, error) {
	for {
		l.mu.Lock()
		out, grown := slices.Clone(l.events[min(int(from), len(l.events)):]), l.grown
		l.mu.Unlock()
		if len(out) > 0 {
			out = out[:min(most, len(out))]
			return out, from + uint64(len(out)), nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, from, ctx.Err()
		}
	}
}

func (l *log) Oldest() uint64 { l.mu.Lock(); defer l.mu.Unlock(); return l.oldest }

func (l *log) Durable() uint64 { l.mu.Lock(); defer l.mu.Unlock(); return uint64(len(l.events)) }

func verdict(id string) *ledger.Reported {
	return &ledger.Reported{Time: now, Identity: id, Verdict: "sent", Grade: "A", Rcpt: -1}
}

// receiver answers with a list of codes, 200 at its end, and remembers what it took.
type receiver struct {
	mu    sync.Mutex
	codes []int
	took  []string
	news  chan struct{}
	t     *testing.T
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, _ := io.ReadAll(q.Body)
	if !inbox.VerifySignature([]byte("s3cret"), q.Header.Get("Postern-Signature"), body, now) {
		r.t.Error("the signature is wrong")
	}
	code := 200
	if len(r.codes) > 0 {
		code, r.codes = r.codes[0], r.codes[1:]
	}
	if code == 200 {
		var v struct {
			ID, Event string
			Data      struct{ Identity string }
		}
		if err := json.Unmarshal(body, &v); err != nil || v.ID == "" || v.Event != "reported" {
			r.t.Errorf("%v %s", err, body)
		}
		r.took = append(r.took, v.Data.Identity)
		select {
		case r.news <- struct{}{}:
		default:
		}
	}
	w.WriteHeader(code)
}

func open(t *testing.T, dir, url string, l *log) *webhook.Webhook {
	t.Helper()
	w, err := webhook.Open(webhook.Options{Name: "w", URL: url, Secret: func() ([]byte, error) { return []byte("s3cret"), nil }, Sign: inbox.Sign, Events: map[ledger.Kind]bool{ledger.KindReported: true},
		Position: filepath.Join(dir, "w.position"), Timeout: time.Second, Source: l, Now: func() time.Time { return now },
		After: func(time.Duration) <-chan time.Time { return time.After(time.Millisecond) }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func run(t *testing.T, w *webhook.Webhook, until func() bool, news <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Follow(ctx) }()
	for !until() {
		select {
		case <-news:
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	<-done
}

// TestDelivers sends in order, again where it must, passes over what is refused, and goes
// on where a former run has stopped.
func TestDelivers(t *testing.T) {
	r := &receiver{t: t, codes: []int{500, 429, 200, 400, 503}, news: make(chan struct{}, 1)}
	srv := httptest.NewServer(r)
	defer srv.Close()
	l, dir := &log{grown: make(chan struct{})}, t.TempDir()
	l.add(verdict("before"))
	w := open(t, dir, srv.URL, l)
	l.add(verdict("a"), &ledger.Admin{Time: now}, verdict("refused"), verdict("b"))
	run(t, w, func() bool { return w.State().At == 5 }, r.news)
	if got := strings.Join(r.took, " "); got != "a b" || w.State().Refused != 1 || w.State().Sent != 2 {
		t.Errorf("took %q, %+v", got, w.State())
	}
	w = open(t, dir, srv.URL, l)
	l.add(verdict("c"))
	run(t, w, func() bool { return w.State().At == 6 }, r.news)
	if got := strings.Join(r.took, " "); got != "a b c" {
		t.Errorf("took %q", got)
	}
}

// TestHangs: a receiver that hangs ends with the time of a request, and with the node.
func TestHangs(t *testing.T) {
	hold := make(chan struct{})
	asked := make(chan struct{}, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{}; <-hold }))
	defer srv.Close()
	defer close(hold)
	l := &log{grown: make(chan struct{})}
	w := open(t, t.TempDir(), srv.URL, l)
	l.add(verdict("a"))
	run(t, w, func() bool { return w.State().Err != "" }, asked)
	if w.State().At != 0 {
		t.Error("it has moved on")
	}
}

// TestGap: events that the spool no longer has are counted as lost.
func TestGap(t *testing.T) {
	r := &receiver{t: t, news: make(chan struct{}, 1)}
	srv := httptest.NewServer(r)
	defer srv.Close()
	l := &log{grown: make(chan struct{})}
	w := open(t, t.TempDir(), srv.URL, l)
	l.add(verdict("lost"), verdict("kept"))
	l.oldest = 1
	run(t, w, func() bool { return w.State().At == 2 }, r.news)
	if got := strings.Join(r.took, " "); got != "kept" || w.State().Gaps != 1 {
		t.Errorf("took %q, %+v", got, w.State())
	}
}
