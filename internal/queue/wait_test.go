package queue_test

import (
	"net/netip"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/shaping"
)

// TestWaits: what is told of the next message is what the next message then does.
func TestWaits(t *testing.T) {
	limits := shaping.Limits{}
	w := shaped(t, &shaper{limits: func(shaping.Traffic, time.Time) shaping.Limits { return limits }})
	w.net.add("there.example", &peer{})
	traffic := shaping.Traffic{Destination: shaping.Destination{Domain: "there.example", Site: "mx1.there.example"}}
	limits.MessageRate = []shaping.Rate{{Count: 60, Per: time.Hour}, {Count: 100, Per: 24 * time.Hour}}
	limits.SourceRate = []shaping.Rate{{Count: 6, Per: time.Hour}}
	w.q.Start()
	if list, counted := w.q.Waits(traffic); counted || len(list) > 0 {
		t.Errorf("before anything was sent: %+v", list)
	}
	w.send(nil, "a@there.example")
	awaitKind[*ledger.HandedOff](w, 1)
	for _, c := range []struct {
		name   string
		after  time.Duration
		source string
		want   []queue.Wait // without Why
	}{
		{"at once, by the other source", 0, "", []queue.Wait{{Limit: "message_rate", Value: "100/24h", For: 864 * time.Second}, {Limit: "message_rate", Value: "60/1h", For: time.Minute}}},
		{"after a minute", time.Minute, "", []queue.Wait{{Limit: "message_rate", Value: "100/24h", For: 804 * time.Second}}},
		{"after a quarter of an hour", 15 * time.Minute, "", nil},
	} {
		w.clock.advance(c.after)
		list, counted := w.q.Waits(traffic)
		if !counted || len(list) != len(c.want) {
			t.Fatalf("%s: %+v, %v", c.name, list, counted)
		}
		for i, got := range list {
			if got.Why == "" {
				t.Errorf("%s: %+v says no reason", c.name, got)
			}
			if got.Why = ""; got != c.want[i] {
				t.Errorf("%s: %+v, want %+v", c.name, got, c.want[i])
			}
		}
	}
	// A source that has sent waits for its own rate; asked without one, the other may go.
	var mine netip.Addr
	for _, e := range w.store.seen() {
		if h, ok := e.(*ledger.HandedOff); ok {
			mine = h.Source
		}
	}
	limits.SourceRate = []shaping.Rate{{Count: 1, Per: time.Hour}}
	w.clock.advance(2 * time.Second)
	w.send(nil, "b@there.example")
	awaitKind[*ledger.HandedOff](w, 2)
	traffic.Source = mine
	list, _ := w.q.Waits(traffic)
	for _, x := range list {
		if x.Limit == "source_rate" && x.For > time.Hour {
			t.Errorf("%+v", x)
		}
	}
}

// TestWaitsForHosts: a site whose hosts do not answer says until when, and why.
func TestWaitsForHosts(t *testing.T) {
	w := newWorld(t, 1)
	w.net.add("down.example", nil)
	w.q.Start()
	w.send(nil, "a@down.example")
	awaitKind[*ledger.Attempted](w, 1)
	list, counted := w.q.Waits(shaping.Traffic{Destination: shaping.Destination{Site: "mx1.down.example"}})
	if !counted || len(list) != 1 || list[0].Limit != "hosts" || list[0].For != 30*time.Second || list[0].Why == "" {
		t.Errorf("%+v, %v", list, counted)
	}
}
