package queue_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/spool"
)

// of sends a customer's message of a campaign by a pool.
func (s *scene) of(pool, customer, campaign, to string) {
	s.send(func(m *spool.Message) { m.Recipients[0].Pool, m.Customer, m.Campaign = pool, customer, campaign }, to)
}

// bound gives the first action of the ledger in words.
func (s *scene) bound() string {
	for _, e := range s.store.seen() {
		if c, ok := e.(*ledger.ShapingChanged); ok {
			return fmt.Sprintf("%s of %s pool=%s customer=%s campaign=%s at %q rate=%s connections=%d until %s by %s at %s", c.Does, c.Scope, c.Pool, c.Customer, c.Campaign, c.Site, c.Rate, c.Connections, c.Until.Sub(epoch), c.Rule, c.Where)
		}
	}
	return ""
}

// TestRulesBindWhoSends: a reply about a customer, a campaign or a pool holds back its
// mail and nobody else's, for a time.
func TestRulesBindWhoSends(t *testing.T) {
	for _, c := range []struct {
		name, then string
		began      string
		free       [3]string // pool, customer and campaign of mail that it does not bind
		throttled  bool      // one goes each ten minutes; else none does
	}{
		{"suspend a customer", `suspend("1h", customer)`, `suspend of customer pool= customer=acme campaign= at "mx1.there.example" rate= connections=0 until 1h0m0s`, [3]string{"other", "globex", "spring"}, false},
		{"suspend a campaign everywhere", `suspend("1h", campaign, everywhere)`, `suspend of campaign pool= customer=acme campaign=spring at "" rate= connections=0 until 1h0m0s`, [3]string{"other", "acme", "summer"}, false},
		{"back off with a pool", `backoff("1h", "4h", pool)`, `backoff of pool pool=other customer= campaign= at "mx1.there.example" rate= connections=0 until 1h0m0s`, [3]string{"general", "acme", "spring"}, false},
		{"back off with a customer", `backoff("1h", "4h", customer, everywhere)`, `backoff of customer pool= customer=acme campaign= at "" rate= connections=0 until 1h0m0s`, [3]string{"other", "globex", "spring"}, false},
		{"throttle a customer", `throttle("6/1h", "1h", customer)`, `throttle of customer pool= customer=acme campaign= at "mx1.there.example" rate=6/1h connections=0 until 1h0m0s`, [3]string{"other", "globex", "spring"}, true},
		{"throttle a campaign", `throttle("6/1h", "1h", campaign, everywhere)`, `throttle of campaign pool= customer=acme campaign=spring at "" rate=6/1h connections=0 until 1h0m0s`, [3]string{"other", "acme", "summer"}, true},
		{"throttle a pool", `throttle("6/1h", "1h", pool)`, `throttle of pool pool=other customer= campaign= at "mx1.there.example" rate=6/1h connections=0 until 1h0m0s`, [3]string{"general", "acme", "spring"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, "rule \"r\" {\n  text = \"too much\"\n  after = \"2h\"\n  then = "+c.then+"\n}\n")
			s.routing.Retry.Expire = 24 * time.Hour
			s.net.add("there.example", &peer{rcpt: func(to string) string {
				if strings.HasPrefix(to, "first@") {
					return "450 4.7.1 too much"
				}
				return "250 2.1.5 yes"
			}})
			s.of("other", "acme", "spring", "first@there.example")
			awaitKind[*ledger.Attempted](s.world, 1)
			if got := s.bound(); !strings.HasPrefix(got, c.began) || !strings.Contains(got, " by r at postern.hcl:") {
				t.Errorf("the ledger says %s, want %s", got, c.began)
			}
			for i := range 7 {
				s.of("other", "acme", "spring", fmt.Sprintf("r%d@there.example", i))
			}
			s.of(c.free[0], c.free[1], c.free[2], "free@there.example")
			atOnce := 0
			if c.throttled {
				atOnce = 1
			}
			s.until(0, 1+atOnce) // what is free does not wait
			if s.count("free@") != 1 || s.count("r") != atOnce {
				t.Errorf("at once:\n%s", s.told())
			}
			steps := []int{60}
			if c.throttled {
				steps = []int{10, 20, 30, 40, 50, 60}
			}
			for i, minute := range steps {
				s.clock.advance(epoch.Add(time.Duration(minute-1) * time.Minute).Sub(s.clock.Now()))
				s.settled()
				if got := s.count("r"); got > atOnce+i {
					t.Errorf("%d after %d minutes:\n%s", got, minute-1, s.told())
				}
				if minute < 60 {
					s.until(time.Duration(minute)*time.Minute, 1+atOnce+i+1)
				}
			}
			s.until(61*time.Minute, 1+7)
			if s.count("r") != 7 || strings.Contains(s.told(), "bounced") {
				t.Errorf("at the end:\n%s", s.told())
			}
		})
	}
}

// count counts the hand-offs to addresses that begin so.
func (s *scene) count(prefix string) (n int) {
	for _, e := range s.store.seen() {
		if h, ok := e.(*ledger.HandedOff); ok && strings.HasPrefix(strings.Trim(h.Address, "<>"), prefix) {
			n++
		}
	}
	return n
}

// settled gives what the clock has set going a moment to come to its end.
func (s *scene) settled() {
	for last, same := s.outcomes(), 0; same < 3; same++ {
		time.Sleep(time.Millisecond)
		if n := s.outcomes(); n != last {
			last, same = n, 0
		}
	}
}

// TestConnectionsOfACustomer: a rule lets a customer have two deliveries at once, while
// another has as many as there are connections.
func TestConnectionsOfACustomer(t *testing.T) {
	s := newScene(t, "rule \"r\" {\n  text = \"too many connections\"\n  then = connections(2, \"24h\", customer, everywhere)\n}\n")
	var now, most atomic.Int64
	s.net.add("there.example", &peer{rcpt: func(to string) string {
		if strings.HasPrefix(to, "first@") {
			return "550 5.7.1 too many connections"
		}
		return "250 2.1.5 yes"
	}, data: func(to string) string {
		if strings.HasPrefix(to, "acme") {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(2 * time.Millisecond)
			defer now.Add(-1)
		}
		return "354 go on"
	}})
	s.of("general", "acme", "", "first@there.example")
	awaitKind[*ledger.Bounced](s.world, 1)
	if got := s.bound(); !strings.HasPrefix(got, `throttle of customer pool= customer=acme campaign= at "" rate= connections=2`) {
		t.Error(got)
	}
	const n = 60
	for i := range n {
		s.of("general", "acme", fmt.Sprint("campaign", i%3), fmt.Sprintf("acme%d@there.example", i))
		s.of("general", "globex", "", fmt.Sprintf("globex%d@there.example", i))
	}
	for round := 0; round < 200 && s.count("") < 2*n; round++ {
		s.clock.advance(time.Second / 2)
		s.settled()
	}
	if s.count("acme") != n || s.count("globex") != n || most.Load() > 2 || most.Load() < 1 {
		t.Errorf("%d and %d handed off, at most %d of acme's at once", s.count("acme"), s.count("globex"), most.Load())
	}
}
