package queue_test

import (
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/spool"
)

// TestSuspend: what a suspension is about is not tried, what waits and what comes, also
// after a restart; everything else is; and all of it goes once it is resumed.
func TestSuspend(t *testing.T) {
	for _, c := range []struct {
		name  string
		scope func(m *spool.Message) queue.Scope
		kept  string
	}{
		{"a site", func(*spool.Message) queue.Scope { return queue.Scope{Site: "mx1.one.example"} }, "a b"},
		{"a pool", func(*spool.Message) queue.Scope { return queue.Scope{Pool: "other"} }, "d"},
		{"a customer", func(*spool.Message) queue.Scope { return queue.Scope{Customer: "beta"} }, "b d"},
		{"a campaign", func(*spool.Message) queue.Scope { return queue.Scope{Campaign: "spring"} }, "a c"},
		{"a domain", func(*spool.Message) queue.Scope { return queue.Scope{Domain: "alias.example"} }, "b"},
		{"a message", func(m *spool.Message) queue.Scope { return queue.Scope{ID: m.ID} }, "a"},
		{"a campaign at a site", func(*spool.Message) queue.Scope { return queue.Scope{Campaign: "spring", Site: "mx1.one.example"} }, "a"},
		{"a customer in a domain", func(*spool.Message) queue.Scope { return queue.Scope{Customer: "beta", Domain: "two.example"} }, "d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			one, two := &peer{}, &peer{}
			w.net.add("one.example", one)
			w.net.add("two.example", two)
			w.net.mx = map[string]string{"alias.example": "one.example"}
			w.q.Start()
			campaign := func(customer, campaign, pool string) func(*spool.Message) {
				return func(m *spool.Message) {
					m.Customer, m.Campaign, m.Recipients[0].Pool = customer, campaign, pool
				}
			}
			first := w.message(campaign("acme", "spring", "general"), "a@one.example")
			all := []*spool.Message{first, w.message(campaign("beta", "", "general"), "b@alias.example"),
				w.message(campaign("acme", "spring", "general"), "c@two.example"), w.message(campaign("beta", "autumn", "other"), "d@two.example")}
			kept := strings.Fields(c.kept)
			s := c.scope(first)
			if _, err := w.q.Suspend(t.Context(), s, time.Time{}, "op", "why"); err != nil {
				t.Fatal(err)
			}
			for _, m := range all {
				w.commit(m)
				w.q.Add(m)
			}
			awaitKind[*ledger.HandedOff](w, len(all)-len(kept))
			w.restart()
			orders := w.q.Orders()
			if len(orders) != 1 || orders[0].Scope != s || orders[0].By != "op" || orders[0].Note != "why" || orders[0].Number != 1 {
				t.Fatalf("after a restart: %+v", orders)
			}
			waiting := ""
			for _, r := range w.awaitRows(len(kept)) {
				waiting += " " + r.Message.Recipients[r.Recipient].To.Local
			}
			if strings.TrimSpace(waiting) != c.kept || len(one.received())+len(two.received()) != len(all)-len(kept) {
				t.Fatalf("kept back:%s", waiting)
			}
			if _, err := w.q.Resume(t.Context(), func(o *queue.Order) bool { return o.Number == 1 }, "op", "done"); err != nil {
				t.Fatal(err)
			}
			awaitKind[*ledger.HandedOff](w, len(kept))
			w.restart()
			if orders := w.q.Orders(); len(orders) != 0 {
				t.Errorf("after the end: %+v", orders)
			}
		})
	}
}

// TestSuspendForATime ends by itself.
func TestSuspendForATime(t *testing.T) {
	for _, s := range []queue.Scope{{Customer: "acme"}, {Domain: "there.example"}} {
		w := newWorld(t, 1)
		w.net.add("there.example", &peer{})
		w.net.add("else.example", &peer{})
		w.q.Start()
		end := epoch.Add(time.Minute)
		if _, err := w.q.Suspend(t.Context(), s, end, "op", ""); err != nil {
			t.Fatal(err)
		}
		w.send(nil, "r@there.example")
		w.send(func(m *spool.Message) { m.Customer = "beta" }, "r@else.example")
		awaitKind[*ledger.HandedOff](w, 1)
		w.run(func() bool { return count[*ledger.HandedOff](w) == 2 })
		if h := awaitKind[*ledger.HandedOff](w, 2); h.Time.Before(end) {
			t.Errorf("handed off at %s in spite of the suspension", h.Time)
		}
		if o := w.q.Orders(); len(o) != 0 {
			t.Errorf("%+v", o)
		}
	}
}

// run lets the clock go on, a second at a time, until something is so.
func (w *world) run(so func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !so(); w.clock.advance(time.Second) {
		if time.Now().After(deadline) {
			w.t.Fatalf("nothing happens any more; the events are\n%s", describe(w.store.seen()))
		}
		runtime.Gosched()
	}
}

// TestOrdersThatAreNone are refused.
func TestOrdersThatAreNone(t *testing.T) {
	w := newWorld(t, 1)
	if _, err := w.q.Suspend(t.Context(), queue.Scope{}, time.Time{}, "op", ""); !errors.Is(err, queue.ErrNoScope) {
		t.Errorf("suspend everything: %v", err)
	}
	if _, err := w.q.Suspend(t.Context(), queue.Scope{Pool: "general"}, epoch.Add(-time.Hour), "op", ""); err == nil {
		t.Error("a suspension until yesterday is taken")
	}
	if _, err := w.q.Resume(t.Context(), func(*queue.Order) bool { return true }, "op", ""); !errors.Is(err, queue.ErrNoOrder) {
		t.Errorf("resume nothing: %v", err)
	}
	if _, err := w.q.Rebind(t.Context(), queue.Scope{Pool: "general"}, "nowhere", "op", ""); err == nil {
		t.Error("mail is bound to a pool that is none")
	}
	w.fs.FailNext(1)
	if _, err := w.q.Suspend(t.Context(), queue.Scope{Pool: "general"}, time.Time{}, "op", ""); err == nil || len(w.q.Orders()) != 0 {
		t.Errorf("an order that is not durable: %v, %+v", err, w.q.Orders())
	}
}

// TestRebind moves what waits, ready or not, and what is held, and nothing that comes
// later; after a restart too.
func TestRebind(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w := newWorld(t, 1)
		there := &peer{}
		w.net.add("there.example", there)
		w.net.mx = map[string]string{"alias.example": "there.example"}
		w.q.Start()
		if _, err := w.q.Suspend(t.Context(), queue.Scope{Site: "mx1.there.example"}, time.Time{}, "op", ""); err != nil {
			t.Fatal(err)
		}
		w.send(nil, "ready@there.example")
		w.send(func(m *spool.Message) { m.Recipients[0].State = spool.Held }, "held@alias.example")
		w.send(func(m *spool.Message) { m.Customer = "beta" }, "stays@there.example")
		w.awaitSite("mx1.there.example", 3)
		n, err := w.q.Rebind(t.Context(), queue.Scope{Site: "mx1.there.example", Customer: "acme"}, "other", "op", "listed")
		if n != 2 || err != nil {
			t.Fatalf("%d moved: %v", n, err)
		}
		w.clock.advance(time.Second)
		if restart {
			w.restart()
			w.awaitRows(3)
		}
		w.send(nil, "late@there.example")
		if _, err := w.q.Act(t.Context(), "release", queue.Select{State: "held"}, "op", ""); err != nil {
			t.Fatal(err)
		}
		if _, err := w.q.Resume(t.Context(), func(*queue.Order) bool { return true }, "op", ""); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"ready": "other", "held": "other", "stays": "general", "late": "general"}
		awaitKind[*ledger.HandedOff](w, 4)
		for i := range 4 {
			h := awaitKind[*ledger.HandedOff](w, i+1)
			local, _, _ := strings.Cut(h.Address, "@")
			if h.Pool != want[local] {
				t.Errorf("restart=%v: %s left by pool %s", restart, h.Address, h.Pool)
			}
		}
	}
}

// awaitSite waits until so many recipients have been found to go to a site.
func (w *world) awaitSite(site string, n int) {
	w.t.Helper()
	timeout := time.After(patience)
	for {
		rows := w.q.List(queue.Select{Site: site})
		if len(rows) == n {
			return
		}
		select {
		case <-timeout:
			w.t.Fatalf("%d go to %s, want %d", len(rows), site, n)
		default:
		}
	}
}

// TestGuardAfterARepair: what the relay guard holds goes to the inside host that a
// repaired policy declares, and an operator can discard it instead; both stand in the
// audit trail.
func TestGuardAfterARepair(t *testing.T) {
	for _, action := range []string{"release", "drop"} {
		for _, restart := range []bool{false, true} {
			w := newWorld(t, 1)
			w.routing.Relays = func(o policy.Origin, _ policy.Address, inside string) bool {
				return o == policy.Stranger && inside == ""
			}
			host := &peer{}
			w.net.add("mailroom", host)
			w.net.add("there.example", &peer{})
			w.q.Start()
			m := w.send(func(m *spool.Message) { m.Origin, m.Customer = string(policy.Stranger), "" }, "r@there.example")
			awaitKind[*ledger.Held](w, 1)
			repaired := *w.routing
			repaired.Inside = map[string]netip.AddrPort{"mailroom": w.net.hosts["mailroom"][0].Addr}
			repaired.InsideFor = func(policy.Address) string { return "mailroom" }
			w.setRouting(&repaired)
			if restart {
				w.restart()
				w.awaitRows(1)
			}
			if n, err := w.q.Act(t.Context(), action, queue.Select{Held: "relay guard"}, "op", "repaired"); n != 1 || err != nil {
				t.Fatalf("%s: %d, %v", action, n, err)
			}
			if action == "release" {
				awaitKind[*ledger.HandedOff](w, 1)
			} else if d := awaitKind[*ledger.Dropped](w, 1); d.By != "op" || d.Reason != "repaired" {
				t.Errorf("dropped: %+v", d)
			}
			if got := len(host.received()); (got == 1) != (action == "release") || w.states(m.ID) != nil {
				t.Errorf("%s restart=%v: the inside host has %d", action, restart, got)
			}
			if a := awaitKind[*ledger.Admin](w, 1); a.By != "op" || a.Action != action || a.Object != m.ID.String() || a.Note != "repaired" {
				t.Errorf("audit trail: %+v", a)
			}
		}
	}
}
