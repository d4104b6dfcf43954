package app_test

import (
	"context"
	"os"
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

// TestEventsAreFollowedOnce: a power cut takes the end of the ledger's index and leaves
// the suppression list, which then stands in the middle of what the index reads again.
// An address that was taken off the list meanwhile must not come back.
func TestEventsAreFollowedOnce(t *testing.T) {
	w := newWorld(t, "")
	index, before := filepath.Join(w.dir, "state", "ledger"), filepath.Join(w.dir, "before")
	w.stop(w.node)
	if err := os.CopyFS(before, os.DirFS(index)); err != nil {
		t.Fatal(err)
	}
	w.start()
	c := w.session(acme, w.inject)
	for _, a := range []string{"unknown1@aol.com", "unknown2@aol.com"} {
		w.send(c, "n@news.acme.example", mail("acme-"+a), a)
		w.awaitSuppressed("acme", a)
		w.act("rm", app.SuppressAction{Customer: "acme", Addresses: []string{a}})
	}
	w.send(c, "n@news.acme.example", mail("acme-3"), "unknown3@aol.com")
	w.awaitSuppressed("acme", "unknown3@aol.com")
	w.send(c, "n@news.acme.example", mail("acme-4"), "fine@aol.com") // the list's position stays behind
	w.eventually("all done", func(s app.Status) bool { return s.Waiting == 0 })
	w.stop(w.node)
	if err := os.RemoveAll(index); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(index, os.DirFS(before)); err != nil {
		t.Fatal(err)
	}
	w.start()
	for _, a := range []string{"unknown1@aol.com", "unknown2@aol.com"} {
		if got := w.suppressed("acme", a); len(got) != 0 {
			t.Errorf("%s is back: %+v", a, got)
		}
	}
	if got := w.suppressed("acme", "unknown3@aol.com"); len(got) != 1 {
		t.Errorf("unknown3 is not suppressed: %+v", got)
	}
	w.send(w.session(acme, w.inject), "n@news.acme.example", mail("acme-5"), "unknown1@aol.com")
	w.awaitSuppressed("acme", "unknown1@aol.com") // what happens from now on counts
}
