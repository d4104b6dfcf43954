package queue_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/shaping"
)

// TestClockIsSet: whatever waits for a time, and whether somebody sets the clock half a
// day back or forward meanwhile, with the node running or not: it goes on when the time
// is over. Set forward while the node does not run it may go on before.
func TestClockIsSet(t *testing.T) {
	for _, c := range waits {
		for _, by := range []time.Duration{-12 * time.Hour, 12 * time.Hour} {
			for _, restart := range []string{"", "set, restart", "stop, set, start"} {
				t.Run(fmt.Sprintf("%s %s %s", c.name, by, restart), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { playClockIsSet(t, c.waits, by, restart) })
				})
			}
		}
	}
}

// waits are things that wait for ten minutes.
var waits = []struct {
	name  string
	waits func(w *world, s *shaping.Shaping, p *peer)
}{
	{"a retry", func(w *world, _ *shaping.Shaping, p *peer) {
		first := once()
		p.rcpt = func(string) string {
			if first() {
				return "451 4.7.1 later"
			}
			return "250 2.1.5 yes"
		}
		w.send(nil, "r@there.example")
	}},
	{"a suspension by the shaper", func(w *world, s *shaping.Shaping, _ *peer) {
		now := w.options.Clock.Now()
		if _, err := s.Suspend(shaping.Suspension{Scope: "site", Traffic: shaping.Traffic{Destination: shaping.Destination{Site: "mx1.there.example"}}, Until: now.Add(10 * time.Minute), By: "op"}, now); err != nil {
			w.t.Fatal(err)
		}
		w.send(nil, "r@there.example")
	}},
	{"an operator's suspension of a site", func(w *world, _ *shaping.Shaping, _ *peer) {
		w.suspend(queue.Scope{Site: "mx1.there.example"}, 10*time.Minute)
		w.send(nil, "r@there.example")
	}},
	{"an operator's suspension of a domain", func(w *world, _ *shaping.Shaping, _ *peer) {
		w.suspend(queue.Scope{Domain: "there.example"}, 10*time.Minute)
		w.send(nil, "r@there.example")
	}},
	{"a site's rest", func(w *world, _ *shaping.Shaping, _ *peer) {
		first := once()
		w.net.dialing = func(_ context.Context, h egress.Host) error {
			if first() {
				return fmt.Errorf("connect to %s: %w", h.Name, syscall.ECONNREFUSED)
			}
			return nil
		}
		w.send(nil, "q@there.example")
		synctest.Wait()
		w.send(nil, "r@there.example")
	}},
	{"a rate", func(w *world, _ *shaping.Shaping, _ *peer) {
		w.send(nil, "q@slow.example")
		synctest.Wait()
		w.send(nil, "r@slow.example")
	}},
}

// once gives a function that says yes the first time.
func once() func() bool {
	first := make(chan bool, 1)
	first <- true
	return func() bool {
		select {
		case <-first:
			return true
		default:
			return false
		}
	}
}

func (w *world) suspend(s queue.Scope, d time.Duration) {
	w.t.Helper()
	if _, err := w.q.Suspend(w.t.Context(), s, w.options.Clock.Now().Add(d), "op", ""); err != nil {
		w.t.Fatal(err)
	}
}

// metered lets six messages an hour go to one site.
type metered struct{ *shaping.Shaping }

func (m metered) Limits(t shaping.Traffic, now time.Time) shaping.Limits {
	l := m.Shaping.Limits(t, now)
	if t.Site == "mx1.slow.example" {
		l.MessageRate = []shaping.Rate{{Count: 6, Per: time.Hour}}
	}
	return l
}

func playClockIsSet(t *testing.T, waits func(*world, *shaping.Shaping, *peer), by time.Duration, restart string) {
	w, clock := newWorld(t, 1), &wall{}
	clock.jump(epoch.Sub(clock.Now()))
	w.options.Clock = clock
	rules, err := shaping.Compile(config.Shipped())
	if err != nil {
		t.Fatal(err)
	}
	s := shaping.New(shaping.Options{Program: rules})
	w.options.Shaper = metered{s}
	w.routing.Retry = queue.Retry{First: 10 * time.Minute, Factor: 1, Max: 10 * time.Minute, Expire: 40 * time.Hour}
	w.reopen()
	there := &peer{}
	w.net.add("there.example", there)
	w.net.add("slow.example", there)
	w.q.Start()
	waits(w, s, there)
	synctest.Wait()
	before := len(there.received())
	began := time.Now()
	switch restart {
	case "":
		clock.jump(by)
	case "set, restart":
		clock.jump(by)
		time.Sleep(time.Minute)
		w.restart()
	default:
		w.stop()
		clock.jump(by)
		w.options.Shaper = metered{restored(s, rules, clock.Now())}
		w.restart()
	}
	for len(there.received()) == before && time.Since(began) < 24*time.Hour {
		time.Sleep(time.Second)
	}
	took := time.Since(began)
	if early := took < 4*time.Minute && restart == ""; early || took > 21*time.Minute {
		t.Errorf("it went on after %s:\n%s", took, describe(w.store.seen()))
	}
}

// restored is what a node that is started finds of another's actions.
func restored(old *shaping.Shaping, p *shaping.Program, now time.Time) *shaping.Shaping {
	s := shaping.New(shaping.Options{Program: p})
	s.Restore(old.Actions(epoch), now)
	return s
}
