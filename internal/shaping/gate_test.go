package shaping_test

import (
	"fmt"
	"testing"
	"time"

	"postern.dev/postern/internal/shaping"
)

// throttled makes a Shaping in which one reply has set an effect off.
func throttled(t testing.TB, e shaping.Effect) *shaping.Shaping {
	t.Helper()
	e.Kind, e.For = "throttle", time.Hour
	s := with(t, &shaping.Rules{Rules: []shaping.Rule{rule("slow", shaping.Rule{Then: []shaping.Effect{e}})}})
	if j := s.Observe(traffic(), reply(421, "x"), noon); len(j.Actions) != 1 {
		t.Fatalf("%+v", j)
	}
	return s
}

// TestGateBinds: who passes a throttle of a pool, a customer or a campaign, and who has
// nothing to do with it.
func TestGateBinds(t *testing.T) {
	for _, c := range []struct {
		scope, within string
		change        func(*shaping.Traffic)
		held          bool
	}{
		{"customer", "site", func(*shaping.Traffic) {}, true},
		{"customer", "site", func(t *shaping.Traffic) { t.Campaign, t.Pool, t.Source = "other", "other", two }, true},
		{"customer", "site", func(t *shaping.Traffic) { t.Site = "big-2" }, false},
		{"customer", "provider", func(t *shaping.Traffic) { t.Site = "big-2" }, true},
		{"customer", "provider", func(t *shaping.Traffic) { t.Site, t.Provider = "x", "" }, false},
		{"customer", "everywhere", func(t *shaping.Traffic) { t.Site, t.Provider = "x", "" }, true},
		{"customer", "everywhere", func(t *shaping.Traffic) { t.Customer = "globex" }, false},
		{"campaign", "site", func(*shaping.Traffic) {}, true},
		{"campaign", "site", func(t *shaping.Traffic) { t.Campaign = "summer" }, false},
		{"campaign", "everywhere", func(t *shaping.Traffic) { t.Customer = "globex" }, false},
		{"pool", "site", func(t *shaping.Traffic) { t.Customer, t.Campaign = "globex", "" }, true},
		{"pool", "site", func(t *shaping.Traffic) { t.Pool = "slow" }, false},
	} {
		s := throttled(t, shaping.Effect{Scope: c.scope, Within: c.within, Rate: &shaping.Rate{Count: 1, Per: time.Minute}})
		if _, b, held := s.Enter(traffic(), noon); held {
			t.Fatalf("the first one: %+v", b)
		}
		_, b, held := s.Enter(traffic(c.change), noon)
		if held != c.held || (held && (b.Scope != c.scope || !b.Until.Equal(noon.Add(time.Minute)) || b.Action == "" || b.Reason == "")) {
			t.Errorf("%s at %s of %+v: held %v, %+v", c.scope, c.within, traffic(c.change), held, b)
		}
		if _, blocked := s.Blocked(traffic(), noon); blocked {
			t.Errorf("%s: a throttle stops everything", c.scope)
		}
		if l := s.Limits(traffic(), noon); len(l.MessageRate)+len(l.SourceRate)+l.Connections != 0 {
			t.Errorf("%s: the throttle limits the whole site: %+v", c.scope, l)
		}
	}
}

// TestGateRate: whoever asks as he is told goes at the rate, and not faster.
func TestGateRate(t *testing.T) {
	for _, rate := range []shaping.Rate{{Count: 6, Per: time.Minute}, {Count: 60, Per: time.Minute, Burst: 10}, {Count: 7, Per: time.Hour}} {
		for _, askers := range []int{1, 3, 40} {
			s := throttled(t, shaping.Effect{Scope: "customer", Within: "everywhere", Rate: &rate})
			next := make([]time.Time, askers)
			for i := range next {
				next[i] = noon
			}
			passed, asked := 0, 0
			for end := noon.Add(time.Hour); ; asked++ {
				i := earliest(next)
				now := next[i]
				if !now.Before(end) {
					break
				}
				p, b, held := s.Enter(traffic(func(t *shaping.Traffic) { t.Site = fmt.Sprint("site", i) }), now)
				if held {
					if !b.Until.After(now) {
						t.Fatalf("told to ask again at %s, at %s", b.Until, now)
					}
					next[i] = b.Until
					continue
				}
				p.Leave()
				passed++
			}
			want := rate.Count * int(time.Hour/rate.Per)
			if most := want + max(rate.Burst, 1); passed > most || passed < want*9/10 {
				t.Errorf("%s with %d askers: %d passed in an hour", rate.String(), askers, passed)
			}
			if asked > 4*passed+60*askers {
				t.Errorf("%s with %d askers: asked %d times for %d", rate.String(), askers, asked, passed)
			}
		}
	}
}

func earliest(times []time.Time) (i int) {
	for k := range times {
		if times[k].Before(times[i]) {
			i = k
		}
	}
	return i
}

// TestGateConnections: so many at once, and the next one when one is done; leaving twice
// counts once.
func TestGateConnections(t *testing.T) {
	s := throttled(t, shaping.Effect{Scope: "campaign", Within: "everywhere", Connections: 2})
	a, _, heldA := s.Enter(traffic(), noon)
	b, _, heldB := s.Enter(traffic(), noon)
	if heldA || heldB || !a.Limited() || !b.Limited() {
		t.Fatal("two may go at once")
	}
	if _, block, held := s.Enter(traffic(), noon); !held || !block.Until.After(noon) || block.Scope != "campaign" {
		t.Errorf("a third one: %v, %+v", held, block)
	}
	a.Leave()
	a.Leave()
	if _, _, held := s.Enter(traffic(), noon); held {
		t.Error("one is done and another may not go")
	}
	if _, _, held := s.Enter(traffic(), noon); !held {
		t.Error("three at once")
	}
	b.Leave()
}

// TestBackoffGrowsOverARestart: a backoff that follows on one of a former run is twice as
// long, whether that one is still in force or has ended not long ago.
func TestBackoffGrowsOverARestart(t *testing.T) {
	rules := &shaping.Rules{Rules: []shaping.Rule{rule("slow", shaping.Rule{Then: []shaping.Effect{
		{Kind: "throttle", Scope: "site", For: time.Minute, Rate: &shaping.Rate{Count: 1, Per: time.Second}}, // what the threshold counts for is another thing
		{Kind: "backoff", Scope: "source", Within: "site", For: 10 * time.Minute, Most: time.Hour}}})}}
	backoff := func(j shaping.Judgement) (list []shaping.Action) {
		for _, a := range j.Actions {
			if a.Kind == "backoff" {
				list = append(list, a)
			}
		}
		return list
	}
	var kept []shaping.Action
	now := noon
	for i, c := range []struct {
		after time.Duration // the end of the former one
		want  time.Duration
	}{{0, 10 * time.Minute}, {9 * time.Minute, 20 * time.Minute}, {20 * time.Minute, 40 * time.Minute}, {time.Minute, time.Hour}, {59 * time.Minute, time.Hour}, {61 * time.Minute, 10 * time.Minute}} {
		if len(kept) > 0 {
			now = kept[len(kept)-1].Until.Add(c.after)
		}
		s := with(t, rules)
		s.Restore(kept, now.Add(-c.after/2))
		got := backoff(s.Observe(traffic(), reply(421, "x"), now))
		if len(got) != 1 || got[0].Until.Sub(now) != c.want {
			t.Fatalf("backoff %d, %s after the former: %+v, want %s", i, c.after, got, c.want)
		}
		kept = append(kept, got[0])
	}
}

// TestDelayed: what is told of a throttle is what the next message finds, and telling
// takes nothing.
func TestDelayed(t *testing.T) {
	s := throttled(t, shaping.Effect{Scope: "customer", Within: "everywhere", Rate: &shaping.Rate{Count: 6, Per: time.Minute}})
	if b, held := s.Delayed(traffic(), noon); held {
		t.Errorf("before the first: %+v", b)
	}
	p, _, _ := s.Enter(traffic(), noon)
	p.Leave()
	for range 3 {
		if b, held := s.Delayed(traffic(), noon.Add(time.Second)); !held || !b.Until.Equal(noon.Add(10*time.Second-10*time.Millisecond)) || b.Scope != "customer" || b.Action == "" {
			t.Errorf("after the first: %+v, %v", b, held)
		}
	}
	if _, held := s.Delayed(traffic(), noon.Add(10*time.Second)); held {
		t.Error("when its turn has come")
	}
}
