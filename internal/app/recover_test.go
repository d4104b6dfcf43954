package app_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"postern.dev/postern/internal/app"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// TestGuardTripOfAKilledNode: the node held a message at the guard and died before it
// could open the incident. The next start opens it, once.
func TestGuardTripOfAKilledNode(t *testing.T) {
	w := newWorld(t, "filter \"hold\" {\n  if = origin == \"stranger\"\n  then = hold(\"look\")\n}\n")
	w.send(w.session(stranger, w.internet), "a@stranger.example", mail("stranger-1"), "victim@aol.com")
	w.eventually("held", func(s app.Status) bool { return s.Held == 1 })
	var rows []app.QueueRow
	if err := w.client.Get(w.ctx(), "/queue", nil, &rows); err != nil {
		t.Fatal(err)
	}
	w.stop(w.node)
	trip(t, filepath.Join(w.dir, "state", "spool"), rows[0].ID)
	for range 2 {
		w.start()
		if is := w.incidents(); len(is) != 1 || is[0].Trigger != "guard" || is[0].Path.Filter != "hold" {
			t.Errorf("incidents %+v", is)
		}
		w.stop(w.node)
	}
	// Once it is closed as a false alarm, a restart does not open it again.
	w.start()
	id := w.incidents()[0].ID
	for _, step := range []struct {
		path string
		in   any
	}{{"/queue/drop", app.QueueAction{By: "t", QueueSelect: app.QueueSelect{State: "held"}}}, {"/incidents/" + id + "/close", app.IncidentAction{By: "t", Outcome: "false-alarm"}}} {
		if err := w.client.Post(w.ctx(), step.path, step.in, nil); err != nil {
			t.Fatal(err)
		}
	}
	w.stop(w.node)
	w.start()
	if is := w.incidents(); len(is) != 0 {
		t.Errorf("opened again: %+v", is)
	}
}

// trip writes what the guard commits when it holds, and no more.
func trip(t *testing.T, dir, message string) {
	t.Helper()
	ctx := context.Background()
	s, _, err := spool.Open(ctx, spool.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	id, err := smtp.ParseID(message)
	if err != nil {
		t.Fatal(err)
	}
	e := &ledger.GuardTripped{Time: time.Now(), ID: id, Path: ledger.Path{Listener: "internet", Filter: "hold", Origin: "stranger"}, Policy: "p", Host: "aol.com"}
	if _, err := s.Commit(ctx, &spool.Batch{Events: [][]byte{ledger.Encode(e)}}); err != nil {
		t.Fatal(err)
	}
}
