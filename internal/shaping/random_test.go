package shaping_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/internal/shaping"
)

// someTraffic makes one of a few pieces of traffic, with parts unknown now and then.
func someTraffic(rng *rand.Rand) shaping.Traffic {
	pick := func(prefix string) string {
		if n := rng.IntN(4); n > 0 {
			return fmt.Sprint(prefix, n)
		}
		return ""
	}
	t := shaping.Traffic{Destination: shaping.Destination{Domain: pick("d"), Site: pick("s"), Provider: pick("p")}, MX: pick("m"), Pool: pick("q"), Customer: pick("c"), Campaign: pick("k")}
	if n := rng.IntN(4); n > 0 {
		t.Source = netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})
	}
	return t
}

// binds tells by hand whether an action is about a piece of traffic.
func binds(a *shaping.Action, t *shaping.Traffic) bool {
	b := &a.Traffic
	in := true
	switch a.Within {
	case "site":
		in = t.Site != "" && t.Site == b.Site
	case "provider":
		in = t.Provider != "" && t.Provider == b.Provider
	}
	switch a.Scope {
	case "site":
		return t.Site != "" && t.Site == b.Site
	case "provider":
		return t.Provider != "" && t.Provider == b.Provider
	case "domain":
		return t.Domain != "" && t.Domain == b.Domain
	case "mx":
		return t.MX != "" && t.MX == b.MX
	case "source":
		return in && t.Source.IsValid() && t.Source == b.Source
	case "pool":
		return in && t.Pool != "" && t.Pool == b.Pool
	case "customer":
		return in && t.Customer != "" && t.Customer == b.Customer
	case "campaign":
		return in && t.Campaign != "" && t.Campaign == b.Campaign && t.Customer == b.Customer
	}
	return false
}

// TestRandomActions suspends, undoes, restores and lets time pass at random, and
// compares each answer with a list that is gone through.
func TestRandomActions(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	s := with(t, &shaping.Rules{})
	now := noon
	var model []shaping.Action
	blocked, undone := 0, 0
	for range 20_000 {
		switch n := rng.IntN(20); {
		case n == 0:
			w := shaping.Suspension{Scope: shaping.Scopes()[rng.IntN(8)], Within: shaping.Reaches()[rng.IntN(3)], Traffic: someTraffic(rng)}
			if rng.IntN(3) > 0 {
				w.Until = now.Add(time.Duration(1+rng.IntN(600)) * time.Second)
			}
			if a, err := s.Suspend(w, now); err == nil {
				model = append(model, a)
			}
		case n == 1 && len(model) > 0:
			i := rng.IntN(len(model))
			_, err := s.Undo(model[i].ID, now)
			if ended := !model[i].Until.IsZero() && !now.Before(model[i].Until); (err != nil) != ended {
				t.Fatalf("undo of %+v at %s: %v", model[i], now, err)
			}
			model = append(model[:i], model[i+1:]...)
			undone++
		case n == 2:
			now = now.Add(time.Duration(rng.IntN(60)) * time.Second)
		case n == 3 && rng.IntN(10) == 0: // a restart
			next := with(t, &shaping.Rules{})
			next.Restore(s.Actions(now), now)
			s = next
		default:
			tr := someTraffic(rng)
			var want *shaping.Action
			for i := range model {
				a := &model[i]
				if (a.Until.IsZero() || now.Before(a.Until)) && binds(a, &tr) && (want == nil || (!want.Until.IsZero() && (a.Until.IsZero() || a.Until.After(want.Until)))) {
					want = a
				}
			}
			b, yes := s.Blocked(tr, now)
			if yes != (want != nil) || (yes && !b.Until.Equal(want.Until)) {
				t.Fatalf("%+v at %s: blocked %v %+v, want %+v", tr, now, yes, b, want)
			}
			if yes {
				blocked++
			}
		}
	}
	if blocked < 1000 || undone < 200 {
		t.Errorf("%d were blocked, %d undone", blocked, undone)
	}
}

// TestAllAtOnce asks, observes, undoes and reloads from many goroutines: for the race
// detector, and so that each action is recorded once.
func TestAllAtOnce(t *testing.T) {
	var mu sync.Mutex
	recorded := map[string]int{}
	program := compiled(t, manyRules(60))
	s := shaping.New(shaping.Options{Program: program, Record: func(a shaping.Action) {
		mu.Lock()
		defer mu.Unlock()
		recorded[a.ID]++
	}})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 9))
			for i := range 400 {
				tr, now := someTraffic(rng), noon.Add(time.Duration(i)*time.Minute)
				s.Blocked(tr, now)
				s.Limits(tr, now)
				for _, a := range s.Observe(tr, reply(421, fmt.Sprintf("rule %d says so", rng.IntN(60))), now).Actions {
					if rng.IntN(3) == 0 {
						_, _ = s.Undo(a.ID, now)
					}
				}
				switch {
				case i%50 == 0:
					s.Load(program)
				case i%50 == 25:
					s.Explain(tr, now)
				}
			}
		})
	}
	wg.Wait()
	for id, n := range recorded {
		if n != 1 {
			t.Errorf("action %s was recorded %d times", id, n)
		}
	}
	if len(recorded) < 100 {
		t.Errorf("only %d actions", len(recorded))
	}
}
