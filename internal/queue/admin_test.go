package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// TestAct carries out every action on a recipient in every state, and looks at what is
// in force before and after a restart.
func TestAct(t *testing.T) {
	for _, c := range []struct {
		action  string
		held    bool
		changed int
		state   spool.State // after a restart
		end     ledger.Event
	}{
		{"hold", false, 1, spool.Held, nil},
		{"hold", true, 0, spool.Held, nil},
		{"release", true, 1, spool.Settled, &ledger.HandedOff{}},
		{"release", false, 0, spool.Pending, nil},
		{"retry", false, 1, spool.Settled, &ledger.HandedOff{}},
		{"retry", true, 0, spool.Held, nil},
		{"bounce", false, 1, spool.Settled, &ledger.Bounced{}},
		{"bounce", true, 1, spool.Settled, &ledger.Bounced{}},
		{"drop", false, 1, spool.Settled, &ledger.Dropped{}},
		{"drop", true, 1, spool.Settled, &ledger.Dropped{}},
	} {
		t.Run(fmt.Sprintf("%s held=%v", c.action, c.held), func(t *testing.T) {
			w := newWorld(t, 1)
			var mu sync.Mutex
			closed := true
			w.net.add("there.example", &peer{rcpt: func(string) string {
				mu.Lock()
				defer mu.Unlock()
				if closed {
					return "451 4.7.1 not now"
				}
				return "250 2.1.5 yes"
			}})
			w.net.add("acme.example", &peer{})
			w.q.Start()
			m := w.send(func(m *spool.Message) {
				if c.held {
					m.Recipients[0].State, m.Recipients[0].Reason = spool.Held, "filter f: wait"
				}
			}, "r@there.example")
			if !c.held {
				w.clock.await(t, awaitKind[*ledger.Attempted](w, 1).Next)
			}
			mu.Lock()
			closed = false
			mu.Unlock()
			n, err := w.q.Act(t.Context(), c.action, queue.Select{ID: m.ID}, "op", "why")
			if n != c.changed || err != nil {
				t.Fatalf("changed %d, %v", n, err)
			}
			switch c.end.(type) {
			case *ledger.HandedOff:
				awaitKind[*ledger.HandedOff](w, 1)
			case *ledger.Bounced:
				if b := awaitKind[*ledger.Bounced](w, 1); !strings.Contains(b.Reply, "why") || b.DSN.IsZero() {
					t.Errorf("bounced: %+v", b)
				}
				awaitKind[*ledger.HandedOff](w, 1) // of the DSN
			case *ledger.Dropped:
				if d := awaitKind[*ledger.Dropped](w, 1); d.By != "op" || d.Reason != "why" {
					t.Errorf("dropped: %+v", d)
				}
			}
			w.restart()
			st := w.states(m.ID)
			if (c.state == spool.Settled) != (st == nil) || (st != nil && st[0].State != c.state) {
				t.Errorf("after a restart the spool has %+v", st)
			}
		})
	}
}

// TestSelect: an action reaches what was chosen and nothing else.
func TestSelect(t *testing.T) {
	w := newWorld(t, 1)
	hold := func(m *spool.Message) {
		for i := range m.Recipients {
			m.Recipients[i].State = spool.Held
		}
	}
	first := w.message(hold, "a@one.example", "b@two.example")
	second := w.message(func(m *spool.Message) { hold(m); m.Customer, m.Recipients[0].Pool = "other", "other" }, "c@One.Example")
	for _, m := range []*spool.Message{first, second} {
		w.commit(m)
		w.q.Add(m)
	}
	for _, c := range []struct {
		name string
		s    queue.Select
		want string
	}{
		{"all", queue.Select{}, "a b c"},
		{"one message", queue.Select{ID: first.ID}, "a b"},
		{"a domain", queue.Select{Domain: "one.example"}, "a c"},
		{"a pool", queue.Select{Pool: "other"}, "c"},
		{"a customer", queue.Select{Customer: "acme"}, "a b"},
		{"a limit", queue.Select{Limit: 2}, "a b"},
		{"what waits", queue.Select{State: "pending"}, ""},
		{"what is held", queue.Select{State: "held", Domain: "two.example"}, "b"},
	} {
		var got []string
		for _, r := range w.q.List(c.s) {
			got = append(got, r.Message.Recipients[r.Recipient].To.Local)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v, want %s", c.name, got, c.want)
		}
	}
	if n, err := w.q.Act(t.Context(), "drop", queue.Select{Domain: "one.example"}, "op", ""); n != 2 || err != nil {
		t.Errorf("drop: %d, %v", n, err)
	}
	if waiting, held := w.q.Counts(); waiting != 0 || held != 1 {
		t.Errorf("%d wait, %d are held", waiting, held)
	}
	if _, err := w.q.Act(t.Context(), "burn", queue.Select{}, "op", ""); err == nil {
		t.Error("an unknown action does something")
	}
}

// TestHeldAndReleasedWhileReady: an item that an operator moves back and forth while it
// stands in line is delivered once.
func TestHeldAndReleasedWhileReady(t *testing.T) {
	w := newWorld(t, 1)
	w.routing.Limits.PerSite = 1
	at, open := make(chan string, 10), make(chan struct{})
	there := &peer{rcpt: func(to string) string { at <- to; <-open; return "250 2.1.5 yes" }}
	w.net.add("there.example", there)
	w.q.Start()
	w.send(nil, "first@there.example")
	<-at // the only connection is busy with it
	m := w.send(nil, "second@there.example")
	for _, action := range []string{"hold", "release", "hold", "release", "retry"} {
		if n, err := w.q.Act(t.Context(), action, queue.Select{ID: m.ID}, "op", ""); n != 1 || err != nil {
			t.Fatalf("%s: %d, %v", action, n, err)
		}
	}
	close(open)
	awaitKind[*ledger.HandedOff](w, 2)
	w.send(nil, "third@there.example")
	awaitKind[*ledger.HandedOff](w, 3)
	if got := there.received(); len(got) != 3 || got[1].to != "second@there.example" || got[2].to != "third@there.example" {
		t.Errorf("there: %+v", got)
	}
}

// TestStockIsTakenFirst: what comes in once Start has returned is not found by the
// loading as well, however long that takes and however late Add comes.
func TestStockIsTakenFirst(t *testing.T) {
	w := newWorld(t, 1)
	there := &peer{}
	w.net.add("there.example", there)
	w.commit(w.message(nil, "old@there.example"))
	listed, goOn := make(chan struct{}), make(chan struct{})
	w.store.onList = func() { close(listed); <-goOn }
	started := make(chan struct{})
	go func() { w.q.Start(); close(started) }()
	<-listed
	select {
	case <-started:
		t.Fatal("Start returned before the list was made")
	default:
	}
	close(goOn)
	<-started
	m := w.message(nil, "new@there.example")
	w.commit(m)
	awaitKind[*ledger.HandedOff](w, 1)
	w.q.Add(m)
	awaitKind[*ledger.HandedOff](w, 2)
	w.stop()
	if got := there.received(); len(got) != 2 || got[0].to != "old@there.example" || got[1].to != "new@there.example" {
		t.Errorf("there: %+v", got)
	}
	if waiting, held := w.q.Counts(); waiting+held != 0 {
		t.Errorf("%d wait, %d are held of nothing", waiting, held)
	}
}

// TestRestartInTheMiddle: attempts and times outlive the process; nothing is tried too
// early, and nothing twice.
func TestRestartInTheMiddle(t *testing.T) {
	w := newWorld(t, 1)
	var mu sync.Mutex
	refusing := true
	there := &peer{rcpt: func(string) string {
		mu.Lock()
		defer mu.Unlock()
		if refusing {
			return "451 4.7.1 not now"
		}
		return "250 2.1.5 yes"
	}}
	w.net.add("there.example", there)
	w.q.Start()
	for n := range 5 {
		w.send(nil, fmt.Sprintf("r%d@there.example", n))
	}
	last := awaitKind[*ledger.Attempted](w, 5).Next
	dials := w.net.dials
	w.restart()
	mu.Lock()
	refusing = false
	mu.Unlock()
	rows := w.awaitRows(5)
	for _, r := range rows {
		if r.Attempts != 1 || r.Next.Before(epoch.Add(48*time.Second)) || r.Reason != "451 4.7.1 not now" {
			t.Errorf("after a restart: %+v", r)
		}
		if r.Next.After(last) {
			last = r.Next
		}
	}
	if w.net.dials != dials {
		t.Error("it was tried too early")
	}
	w.clock.turn(t, earliest(rows))
	w.clock.advance(last.Sub(w.clock.Now()))
	for n := range 5 {
		if h := awaitKind[*ledger.HandedOff](w, n+1); h.Attempt != 2 {
			t.Errorf("handed off: %+v", h)
		}
	}
	if got := there.received(); len(got) != 5 {
		t.Errorf("%d arrived", len(got))
	}
}

func earliest(rows []queue.Row) time.Time {
	at := rows[0].Next
	for _, r := range rows {
		if r.Next.Before(at) {
			at = r.Next
		}
	}
	return at
}

// awaitRows waits until the queue has loaded n recipients.
func (w *world) awaitRows(n int) []queue.Row {
	w.t.Helper()
	timeout := time.After(patience)
	for {
		if rows := w.q.List(queue.Select{}); len(rows) == n {
			return rows
		}
		select {
		case <-timeout:
			w.t.Fatalf("the queue does not load %d recipients: %+v", n, w.q.List(queue.Select{}))
		default:
		}
	}
}

// TestBounceFromTheStart: what the policy bounces is reported to its sender, also when
// the process died between the acceptance and the report.
func TestBounceFromTheStart(t *testing.T) {
	for _, died := range []bool{false, true} {
		w := newWorld(t, 1)
		home := &peer{}
		w.net.add("acme.example", home)
		m := w.message(func(m *spool.Message) {
			m.Recipients[0].State, m.Recipients[0].Reason = spool.Held, spool.ReasonBounce+": not to them"
		}, "r@there.example")
		if died {
			w.commit(m)
			w.q.Start()
		} else { // what comes in after the start is not in stock
			w.q.Start()
			w.commit(m)
			w.q.Bounce(m.ID, 0, "not to them")
		}
		awaitKind[*ledger.HandedOff](w, 1)
		if b := awaitKind[*ledger.Bounced](w, 1); !strings.Contains(b.Reply, "not to them") {
			t.Errorf("bounced: %+v", b)
		}
		w.stop()
		if got := home.received(); len(got) != 1 || count[*ledger.Bounced](w) != 1 {
			t.Errorf("died=%v: home got %d, bounced %d", died, len(got), count[*ledger.Bounced](w))
		}
	}
}

// TestUnreadableMessage: what the disk has spoilt is neither sent nor given up, and the
// rest goes on.
func TestUnreadableMessage(t *testing.T) {
	w := newWorld(t, 1)
	there := &peer{}
	w.net.add("there.example", there)
	bad := w.large("bad@there.example")
	w.fs.Flip("big/"+bad.ID.String(), 90_000)
	w.q.Start()
	w.q.Add(bad)
	w.send(nil, "good@there.example")
	awaitKind[*ledger.HandedOff](w, 1)
	timeout := time.After(patience)
	for done := false; !done; {
		rows := w.q.List(queue.Select{State: "held"})
		done = len(rows) == 1 && rows[0].ID == bad.ID && strings.Contains(rows[0].Reason, "corrupt")
		select {
		case <-timeout:
			t.Fatalf("held: %+v", rows)
		default:
		}
	}
	if got := there.received(); len(got) != 1 || got[0].to != "good@there.example" {
		t.Errorf("there: %d messages", len(got))
	}
	if st := w.states(bad.ID); len(st) != 1 || st[0].State != spool.Pending {
		t.Errorf("the spool has %+v", st)
	}
}

// large commits a message whose body stands in a file of its own.
func (w *world) large(to string) *spool.Message {
	w.t.Helper()
	m := w.message(nil, to)
	b := w.store.NewBody()
	if _, err := b.Write([]byte(strings.Repeat("a line of text, and many more of them\r\n", 3000))); err != nil {
		w.t.Fatal(err)
	}
	m.Size = b.Size()
	if _, err := w.store.Commit(w.t.Context(), &spool.Batch{Message: m, Body: b}); err != nil {
		w.t.Fatal(err)
	}
	return m
}

// TestFailedCommitOfAnAction leaves everything as it was, and the item in line.
func TestFailedCommitOfAnAction(t *testing.T) {
	w := newWorld(t, 1)
	w.routing.Limits.PerSite = 1
	at, open := make(chan string, 10), make(chan struct{})
	there := &peer{rcpt: func(to string) string { at <- to; <-open; return "250 2.1.5 yes" }}
	w.net.add("there.example", there)
	w.q.Start()
	w.send(nil, "first@there.example")
	<-at
	m := w.send(nil, "second@there.example")
	w.fs.FailNext(1)
	if n, err := w.q.Act(t.Context(), "hold", queue.Select{ID: m.ID}, "op", ""); n != 0 || err == nil {
		t.Fatalf("hold: %d, %v", n, err)
	}
	close(open)
	awaitKind[*ledger.HandedOff](w, 2)
}

// TestActionInDoubt: where the disk fails so that nobody knows whether an order stands in
// the log, what was held or dropped is not tried any more, a suspension is in force, and
// the next order has another number. A start tells.
func TestActionInDoubt(t *testing.T) {
	for _, kept := range []bool{false, true} {
		for _, action := range []string{"hold", "drop"} {
			w := newWorld(t, 1)
			w.net.faults["there.example"] = errSilence
			w.q.Start()
			m := w.send(nil, "r@there.example")
			awaitKind[*ledger.Attempted](w, 1)
			if w.states(m.ID)[0].Attempts != 1 {
				t.Fatal("the attempt is not on record")
			}
			w.fs.Die(kept)
			n, err := w.q.Act(t.Context(), action, queue.Select{ID: m.ID}, "op", "")
			if n != 0 || !errors.Is(err, spool.ErrInDoubt) {
				t.Fatalf("%s: %d, %v", action, n, err)
			}
			if rows := w.q.List(queue.Select{}); len(rows) != 1 || rows[0].State != spool.Held || !strings.HasPrefix(rows[0].Reason, action+" by op: ") {
				t.Errorf("%s in doubt: %+v", action, rows)
			}
			w.fs = w.fs.Crash(rand.New(rand.NewPCG(0, 0)))
			w.restart()
			switch { // the queue is loaded while it runs already
			case kept && action == "hold":
				if rows := w.awaitRows(1); rows[0].State != spool.Held {
					t.Errorf("hold that was kept: after a start: %+v", rows)
				}
			case kept:
				if states, err := w.store.State(m.ID); err == nil && states[0].State != spool.Settled {
					t.Errorf("drop that was kept: after a start: %+v", states)
				}
			}
		}
		w := newWorld(t, 1)
		w.commit(w.message(nil, "r@there.example")) // so that there is a segment
		w.fs.Die(kept)
		o, err := w.q.Suspend(t.Context(), queue.Scope{Pool: "general"}, time.Time{}, "op", "")
		if !errors.Is(err, spool.ErrInDoubt) || len(w.q.Orders()) != 1 || o.Number != 1 {
			t.Errorf("suspended in doubt: %v, %+v", err, w.q.Orders())
		}
		if o, err := w.q.Suspend(t.Context(), queue.Scope{Pool: "other"}, time.Time{}, "op", ""); err == nil {
			t.Errorf("another order on a broken disk: %+v", o)
		}
	}
}

// TestActionIsWaitedFor: who gives up while an order is being written does not undo it.
func TestActionIsWaitedFor(t *testing.T) {
	w := newWorld(t, 1)
	p := &peer{}
	w.net.add("there.example", p)
	w.q.Start()
	if _, err := w.q.Suspend(t.Context(), queue.Scope{Pool: "general"}, time.Time{}, "op", ""); err != nil {
		t.Fatal(err)
	}
	m := w.send(nil, "r@there.example")
	w.awaitRows(1)
	ctx, giveUp := context.WithCancel(t.Context())
	w.fs.Slow(giveUp) // in the middle of the sync
	if n, err := w.q.Act(ctx, "drop", queue.Select{ID: m.ID}, "op", ""); n != 1 || err != nil {
		t.Errorf("drop: %d, %v", n, err)
	}
	if n, err := w.q.Act(ctx, "drop", queue.Select{}, "op", ""); n != 0 {
		t.Errorf("drop after the end: %d, %v", n, err)
	}
	if w.states(m.ID) != nil || len(w.q.List(queue.Select{})) != 0 {
		t.Error("it is still there")
	}
}

// TestActOnWhatIsGone changes nothing.
func TestActOnWhatIsGone(t *testing.T) {
	w := newWorld(t, 1)
	n, err := w.q.Act(t.Context(), "drop", queue.Select{ID: smtp.NewID(epoch, [6]byte{9})}, "op", "")
	if n != 0 || err != nil {
		t.Errorf("drop: %d, %v", n, err)
	}
	if _, err := w.store.Message(smtp.NewID(epoch, [6]byte{9})); !errors.Is(err, spool.ErrUnknown) {
		t.Errorf("the spool says %v", err)
	}
}
