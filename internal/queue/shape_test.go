package queue_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// shaper is a Shaper whose answers a test sets.
type shaper struct {
	queue.Plain
	mu      sync.Mutex
	limits  func(shaping.Traffic, time.Time) shaping.Limits
	blocked func(shaping.Traffic, time.Time) (shaping.Block, bool)
	judge   func(shaping.Traffic, shaping.Reply) shaping.Judgement
	seen    []shaping.Reply
	traffic []shaping.Traffic
}

func (s *shaper) Limits(t shaping.Traffic, now time.Time) shaping.Limits {
	if s.limits == nil {
		return shaping.Limits{}
	}
	return s.limits(t, now)
}

func (s *shaper) Blocked(t shaping.Traffic, now time.Time) (shaping.Block, bool) {
	if s.blocked == nil {
		return shaping.Block{}, false
	}
	return s.blocked(t, now)
}

func (s *shaper) Observe(t shaping.Traffic, r shaping.Reply, _ time.Time) shaping.Judgement {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.traffic = append(s.seen, r), append(s.traffic, t)
	if s.judge == nil {
		return shaping.Judgement{}
	}
	return s.judge(t, r)
}

// shaped makes a world with a shaper.
func shaped(t *testing.T, s *shaper) *world {
	w := newWorld(t, 1)
	w.options.Shaper = s
	w.reopen()
	return w
}

// TestSites: domains that share their mail exchangers share limits and connections.
func TestSites(t *testing.T) {
	w := newWorld(t, 1)
	w.routing.Limits = queue.Limits{Connections: 50, PerSite: 2, Messages: 1000, Idle: time.Hour}
	p, q := &peer{}, &peer{}
	w.net.add("big.example", p)
	w.net.add("big.example", q)
	w.net.mx = map[string]string{}
	const domains = 40
	for i := range domains {
		d := fmt.Sprintf("d%d.example", i)
		w.net.mx[d] = "big.example"
		w.commit(w.message(nil, "a@"+d, "b@"+d))
	}
	w.q.Start()
	awaitKind[*ledger.HandedOff](w, 2*domains)
	sites := w.q.Sites()
	if len(sites) != 1 || sites[0].Site != "(mx1|mx2).big.example" || sites[0].Connections > 2 {
		t.Errorf("sites: %+v", sites)
	}
	if h := awaitKind[*ledger.HandedOff](w, 1); h.Site != "(mx1|mx2).big.example" {
		t.Errorf("handed off: %+v", h)
	}
	w.stop()
	if w.net.dials > 2 || w.net.top > 2 {
		t.Errorf("%d connections for %d domains, %d at once", w.net.dials, domains, w.net.top)
	}
}

func TestSiteName(t *testing.T) {
	for _, c := range []struct{ mx, want string }{
		{"", "d.example"},
		{"mx.D.example.", "mx.d.example"},
		{"b.mx.example a.mx.example", "(a|b).mx.example"},
		{"mx1.one.example mx1.two.example", "(mx1.one|mx1.two).example"},
		{"a.one b.two", "(a.one|b.two)"},
		{"mx.example a.mx.example", "(a.mx|mx).example"},
		{"same.example same.example.", "same.example"},
		{"one two", "(one|two)"},
	} {
		if got := queue.SiteName("d.example", strings.Fields(c.mx)); got != c.want {
			t.Errorf("%q is called %s, want %s", c.mx, got, c.want)
		}
	}
}

// TestRates: never more has left than the rates allow by that time, whatever waits, and
// everything leaves in the end: by rates of a site, and of each source, which is how
// new addresses are warmed up.
func TestRates(t *testing.T) {
	per := func(n, burst int) []shaping.Rate {
		return []shaping.Rate{{Count: n, Per: time.Minute, Burst: burst}}
	}
	const first = "198.51.100.1"
	for _, c := range []struct {
		name    string
		limits  func(shaping.Traffic) shaping.Limits
		allowed func(d time.Duration) int
	}{
		{"messages to a site", func(shaping.Traffic) shaping.Limits { return shaping.Limits{MessageRate: per(6, 0)} },
			func(d time.Duration) int { return 1 + int(d/(10*time.Second)) }},
		{"with a burst", func(shaping.Traffic) shaping.Limits { return shaping.Limits{MessageRate: per(6, 5)} },
			func(d time.Duration) int { return 5 + int(d/(10*time.Second)) }},
		{"recipients", func(shaping.Traffic) shaping.Limits { return shaping.Limits{RecipientRate: per(6, 0)} },
			func(d time.Duration) int { return 1 + int(d/(10*time.Second)) }},
		{"each source", func(shaping.Traffic) shaping.Limits { return shaping.Limits{SourceRate: per(3, 0)} },
			func(d time.Duration) int { return 2 + 2*int(d/(20*time.Second)) }},
		{"a new source", func(t shaping.Traffic) shaping.Limits {
			if t.Source.String() == first {
				return shaping.Limits{SourceRate: per(1, 0)}
			}
			return shaping.Limits{SourceRate: per(6, 0)}
		}, func(d time.Duration) int { return 2 + int(d/time.Minute) + int(d/(10*time.Second)) }},
		{"two rates", func(shaping.Traffic) shaping.Limits {
			return shaping.Limits{MessageRate: append(per(60, 60), shaping.Rate{Count: 30, Per: 10 * time.Minute, Burst: 20})}
		}, func(d time.Duration) int { return min(60+int(d/time.Second), 20+int(d/(20*time.Second))) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := shaped(t, &shaper{limits: func(t shaping.Traffic, _ time.Time) shaping.Limits { return c.limits(t) }})
			w.net.add("there.example", &peer{})
			const all = 40
			for n := range all {
				w.commit(w.message(nil, fmt.Sprintf("r%d@there.example", n)))
			}
			w.q.Start()
			w.run(func() bool { return count[*ledger.HandedOff](w) == all })
			var times []time.Time // the events may stand in another order
			for n := range all {
				times = append(times, awaitKind[*ledger.HandedOff](w, n+1).Time)
			}
			slices.SortFunc(times, time.Time.Compare)
			for n, at := range times {
				if d := at.Sub(epoch); n+1 > c.allowed(d) {
					t.Fatalf("%d have left after %s, %d are allowed", n+1, d, c.allowed(d))
				}
			}
			// The clock may be turned on before all that could leave by then has left.
			if most := 1 + int(times[all-1].Sub(epoch)/time.Minute); c.name == "a new source" && w.share(first) > most {
				t.Errorf("the new source sent %d, at most %d are allowed", w.share(first), most)
			}
		})
	}
}

// share counts what has left from a source.
func (w *world) share(source string) (n int) {
	for _, e := range w.store.seen() {
		if h, ok := e.(*ledger.HandedOff); ok && h.Source.String() == source {
			n++
		}
	}
	return n
}

// settleDown gives everybody who can run now the time to do so.
func (w *world) settleDown() {
	before := -1
	for quiet := 0; quiet < 10; quiet++ {
		if n := len(w.store.seen()); n != before {
			before, quiet = n, 0
		}
		time.Sleep(20 * time.Microsecond)
	}
}

// TestConnectionRate: connections are made no faster than is allowed, and what does not
// need a new one is not kept waiting.
func TestConnectionRate(t *testing.T) {
	w := shaped(t, &shaper{limits: func(shaping.Traffic, time.Time) shaping.Limits {
		return shaping.Limits{ConnectionRate: []shaping.Rate{{Count: 1, Per: time.Minute}}, MessagesPerConnection: 10, Idle: time.Hour}
	}})
	w.net.add("there.example", &peer{})
	for n := range 60 {
		w.commit(w.message(nil, fmt.Sprintf("r%d@there.example", n)))
	}
	w.q.Start()
	awaitKind[*ledger.HandedOff](w, 20) // one connection of each source
	if w.net.dials > 2 {
		t.Errorf("%d connections at once", w.net.dials)
	}
	w.run(func() bool { return count[*ledger.HandedOff](w) == 60 })
	if took := w.clock.Now().Sub(epoch); took < 2*time.Minute || w.net.dials < 6 {
		t.Errorf("%d connections in %s", w.net.dials, took)
	}
}

// TestWeights: each source gets its share of the messages, as many connections as there
// may be; one of weight below 0 gets nothing.
func TestWeights(t *testing.T) {
	w := newWorld(t, 1)
	at := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, n}) }
	w.routing.Pools["general"] = []queue.Source{{Addr: at(1), Weight: 3}, {Addr: at(2)}, {Addr: at(3), Weight: -1}, {Addr: at(4), Weight: 6}}
	w.routing.Limits = queue.Limits{Connections: 10, PerSite: 1, Messages: 7, Idle: time.Hour}
	// Connections of one source carry more than those of another.
	w.options.Shaper = &shaper{limits: func(t shaping.Traffic, _ time.Time) shaping.Limits {
		if t.Source == at(2) {
			return shaping.Limits{MessagesPerConnection: 13}
		}
		return shaping.Limits{}
	}}
	w.reopen()
	w.net.add("there.example", &peer{})
	for n := range 1000 {
		w.commit(w.message(nil, fmt.Sprintf("r%d@there.example", n)))
	}
	w.q.Start()
	awaitKind[*ledger.HandedOff](w, 1000)
	got := map[netip.Addr]int{}
	for _, e := range w.store.seen() {
		if h, ok := e.(*ledger.HandedOff); ok {
			got[h.Source]++
		}
	}
	for n, want := range map[byte]int{1: 300, 2: 100, 3: 0, 4: 600} {
		if d := got[at(n)] - want; d < -14 || d > 14 {
			t.Errorf("source %d sent %d, want %d", n, got[at(n)], want)
		}
	}
}

// TestBlocked: what the shaper blocks waits, by what the block is about, and no longer
// than that.
func TestBlocked(t *testing.T) {
	first := netip.MustParseAddr("198.51.100.1")
	for _, c := range []struct {
		scope string
		hit   func(t shaping.Traffic) bool
		kept  int
	}{
		{"site", func(t shaping.Traffic) bool { return t.Site == "mx1.one.example" }, 2},
		{"customer", func(t shaping.Traffic) bool { return t.Customer == "acme" }, 2},
		{"campaign", func(t shaping.Traffic) bool { return t.Campaign == "spring" }, 1},
		{"domain", func(t shaping.Traffic) bool { return t.Domain == "alias.example" }, 1},
		{"source", func(t shaping.Traffic) bool { return t.Source == first }, 0},
		{"pool", func(t shaping.Traffic) bool { return t.Pool == "general" }, 4},
	} {
		t.Run(c.scope, func(t *testing.T) {
			end := epoch.Add(3 * time.Minute)
			w := shaped(t, &shaper{blocked: func(t shaping.Traffic, now time.Time) (shaping.Block, bool) {
				return shaping.Block{Until: end, Scope: c.scope}, now.Before(end) && c.hit(t)
			}})
			w.net.add("one.example", &peer{})
			w.net.add("two.example", &peer{})
			w.net.mx = map[string]string{"alias.example": "one.example"}
			w.q.Start()
			for i, to := range []string{"a@one.example", "b@alias.example", "c@two.example", "d@two.example"} {
				w.send(func(m *spool.Message) {
					if i%2 == 1 {
						m.Customer = "beta"
					}
					if i == 2 {
						m.Campaign = "spring"
					}
				}, to)
			}
			w.await("hand-offs", func(all []ledger.Event) bool { return len(all) >= 4-c.kept })
			w.settleDown()
			if n := count[*ledger.HandedOff](w); n != 4-c.kept {
				t.Fatalf("%d left", n)
			}
			w.run(func() bool { return count[*ledger.HandedOff](w) == 4 })
			early := 0
			for i := range 4 {
				h := awaitKind[*ledger.HandedOff](w, i+1)
				if h.Time.Before(end) {
					early++
					if h.Source == first && c.scope == "source" {
						t.Errorf("the blocked source is used: %+v", h)
					}
				}
			}
			if early != 4-c.kept {
				t.Errorf("%d left early", early)
			}
		})
	}
}

// TestReconsider lets what was blocked go as soon as it is not.
func TestReconsider(t *testing.T) {
	var mu sync.Mutex
	open := false
	s := &shaper{blocked: func(shaping.Traffic, time.Time) (shaping.Block, bool) {
		mu.Lock()
		defer mu.Unlock()
		return shaping.Block{Scope: "site"}, !open
	}}
	w := shaped(t, s)
	w.net.add("there.example", &peer{})
	w.q.Start()
	w.send(nil, "r@there.example")
	w.settleDown()
	mu.Lock()
	open = true
	mu.Unlock()
	w.q.Reconsider()
	if h := awaitKind[*ledger.HandedOff](w, 1); !h.Time.Equal(epoch) {
		t.Errorf("handed off: %+v", h)
	}
}

// TestJudgement honours every part of it.
func TestJudgement(t *testing.T) {
	reply := func(s string) func(string) string { return func(string) string { return s } }
	for _, c := range []struct {
		name  string
		reply string
		j     shaping.Judgement
		kind  ledger.Kind
		check func(t *testing.T, w *world, e ledger.Event)
	}{
		{"try again on a 5xx", "550 5.7.1 later", shaping.Judgement{Fate: shaping.TryAgain, Category: "quota"}, ledger.KindAttempted, func(t *testing.T, _ *world, e ledger.Event) {
			if a := e.(*ledger.Attempted); a.Category != "quota" || a.Site != "mx1.there.example" || a.Campaign != "spring" {
				t.Errorf("%+v", a)
			}
		}},
		{"bounce on a 4xx", "450 4.2.1 gone for good", shaping.Judgement{Fate: shaping.Bounce, Suppress: true}, ledger.KindBounced, func(t *testing.T, w *world, e ledger.Event) {
			if b := e.(*ledger.Bounced); b.Category != "class of 450" || b.Customer != "acme" || b.DSN.IsZero() {
				t.Errorf("%+v", b)
			}
			if got := w.suppressed(); !slices.Equal(got, []string{"acme r@there.example"}) {
				t.Errorf("suppressed %v", got)
			}
		}},
		{"not before", "450 4.2.1 busy", shaping.Judgement{After: 2 * time.Hour}, ledger.KindAttempted, func(t *testing.T, _ *world, e ledger.Event) {
			if a := e.(*ledger.Attempted); !a.Next.Equal(epoch.Add(2 * time.Hour)) {
				t.Errorf("%+v", a)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &shaper{judge: func(t shaping.Traffic, _ shaping.Reply) shaping.Judgement {
				if t.Domain == "there.example" {
					return c.j
				}
				return shaping.Judgement{}
			}}
			w := newWorld(t, 1)
			w.options.Shaper = s
			w.options.Classify = func(r shaping.Reply, _ string) string { return fmt.Sprintf("class of %d", r.Code) }
			w.options.Suppress = func(customer string, rcpt smtp.Path, _ shaping.Reply) error {
				w.suppress(customer + " " + rcpt.String())
				return nil
			}
			w.reopen()
			w.net.add("there.example", &peer{rcpt: reply(c.reply)})
			w.net.add("acme.example", &peer{})
			w.q.Start()
			w.send(func(m *spool.Message) { m.Campaign = "spring" }, "r@there.example")
			w.await("event", func(all []ledger.Event) bool { return len(all) > 0 })
			e := w.store.seen()[0]
			if e.Kind() != c.kind {
				t.Fatalf("%s: %+v", e.Kind(), e)
			}
			c.check(t, w, e)
			s.mu.Lock()
			defer s.mu.Unlock()
			r, tr := s.seen[0], s.traffic[0]
			if r.Stage != "rcpt" || r.Text != c.reply || fmt.Sprint(r.Code) != c.reply[:3] || r.Enhanced != strings.Fields(c.reply)[1] {
				t.Errorf("the shaper was told %+v", r)
			}
			if tr.MX != "mx1.there.example" || tr.Site != "mx1.there.example" || tr.Customer != "acme" || tr.Campaign != "spring" || tr.Pool != "general" || !tr.Source.IsValid() {
				t.Errorf("of %+v", tr)
			}
		})
	}
}

// TestSuppressionFails: a recipient who could not be put on the list is tried again, and
// is not done with before he is on it.
func TestSuppressionFails(t *testing.T) {
	s := &shaper{judge: func(tr shaping.Traffic, _ shaping.Reply) shaping.Judgement {
		return shaping.Judgement{Suppress: tr.Domain == "there.example"}
	}}
	w := newWorld(t, 1)
	w.options.Shaper = s
	calls := 0 // one delivery at a time
	w.options.Suppress = func(string, smtp.Path, shaping.Reply) error {
		if calls++; calls == 1 {
			return errors.New("the disk fails")
		}
		return nil
	}
	w.reopen()
	w.net.add("there.example", &peer{rcpt: func(string) string { return "550 5.1.1 gone" }})
	w.net.add("acme.example", &peer{})
	w.q.Start()
	w.send(nil, "r@there.example")
	a := awaitKind[*ledger.Attempted](w, 1)
	if n := count[*ledger.Bounced](w); n != 0 {
		t.Errorf("%d bounced", n)
	}
	w.clock.turn(t, a.Next)
	awaitKind[*ledger.Bounced](w, 1)
	if calls != 2 {
		t.Errorf("asked %d times", calls)
	}
}

// TestActionTakesEffect: what a reply has set off binds the very next message, though the
// limits were asked for a moment ago and that message may have been announced already.
func TestActionTakesEffect(t *testing.T) {
	for _, c := range []struct {
		name, ehlo string
		nth        int
		reply      string // to the end of the nth message's data
	}{
		{"first message", "", 1, "250 2.0.0 yes"},
		{"third message", "", 3, "250 2.0.0 yes"},
		{"third message, with pipelining", "PIPELINING", 3, "250 2.0.0 yes"},
		{"refusal of the third, with pipelining", "PIPELINING", 3, "554 5.7.1 no"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex
			seen := 0
			s := &shaper{}
			s.judge = func(shaping.Traffic, shaping.Reply) shaping.Judgement {
				mu.Lock()
				defer mu.Unlock()
				if seen++; seen != c.nth {
					return shaping.Judgement{}
				}
				return shaping.Judgement{Actions: []shaping.Action{{ID: "x", Kind: "suspend", Scope: "site"}}}
			}
			s.blocked = func(shaping.Traffic, time.Time) (shaping.Block, bool) {
				mu.Lock()
				defer mu.Unlock()
				return shaping.Block{Scope: "site", Until: epoch.Add(time.Hour)}, seen >= c.nth
			}
			w := shaped(t, s)
			w.routing.Limits.PerSite = 1
			nth := 0
			w.net.add("there.example", &peer{ehlo: c.ehlo, end: func(string) string {
				mu.Lock()
				defer mu.Unlock()
				if nth++; nth == c.nth {
					return c.reply
				}
				return "250 2.0.0 yes"
			}})
			for i := range 6 {
				w.commit(w.message(nil, fmt.Sprintf("r%d@there.example", i)))
			}
			w.q.Start()
			awaitCount(w, c.nth)
			w.settleDown()
			mu.Lock()
			if nth != c.nth {
				t.Errorf("%d were tried", nth)
			}
			mu.Unlock()
			sites := w.q.Sites()
			if len(sites) != 1 || sites[0].Ready != 6-c.nth {
				t.Errorf("sites: %+v", sites)
			}
		})
	}
}

// concluded counts the messages that have left or were given up.
func concluded(w *world) int { return count[*ledger.HandedOff](w) + count[*ledger.Bounced](w) }

func awaitCount(w *world, n int) {
	w.t.Helper()
	for until := time.Now().Add(time.Minute); concluded(w) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			w.t.Fatalf("%d of %d", concluded(w), n)
		}
	}
}

// TestNextIsAnnounced: the commands of a message that waits go out with the end of the
// data of the one before, once that connection has shown that it takes mail, and urgent
// mail is never bound to a connection that is not free yet.
func TestNextIsAnnounced(t *testing.T) {
	for _, c := range []struct {
		name, ehlo string
		urgent     bool
		want       int
	}{
		{"with pipelining", "PIPELINING", false, 4}, // not with the first, and nothing is behind the last
		{"without", "", false, 0},
		{"urgent", "PIPELINING", true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			p := &peer{ehlo: c.ehlo}
			w.net.add("there.example", p)
			w.routing.Limits.PerSite = 1
			for i := range 6 {
				w.commit(w.message(func(m *spool.Message) {
					if c.urgent {
						m.Priority = spool.High
					}
				}, fmt.Sprintf("r%d@there.example", i)))
			}
			w.q.Start()
			awaitCount(w, 6)
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.behind != c.want || len(p.got) != 6 {
				t.Errorf("%d announced, want %d; %d arrived", p.behind, c.want, len(p.got))
			}
		})
	}
}

// TestElsewhere: the next attempt is made at once, from another source; where there is
// none it waits for its time.
func TestElsewhere(t *testing.T) {
	s := &shaper{judge: func(_ shaping.Traffic, r shaping.Reply) shaping.Judgement {
		if r.Code == 550 {
			return shaping.Judgement{Fate: shaping.Elsewhere}
		}
		return shaping.Judgement{}
	}}
	w := shaped(t, s)
	var mu sync.Mutex
	refused := map[netip.Addr]bool{}
	p := &peer{}
	p.from = func(a netip.Addr) string {
		mu.Lock()
		defer mu.Unlock()
		if len(refused) == 0 || refused[a] {
			refused[a] = true
			return "550 5.7.1 not from there"
		}
		return "250 2.1.0 yes"
	}
	w.net.add("there.example", p)
	w.q.Start()
	w.send(nil, "r@there.example")
	a := awaitKind[*ledger.Attempted](w, 1)
	h := awaitKind[*ledger.HandedOff](w, 1)
	if !h.Time.Equal(epoch) || h.Source == a.Source || h.Attempt != 2 {
		t.Errorf("attempted %+v, handed off %+v", a, h)
	}
	mu.Lock()
	refused[netip.MustParseAddr("198.51.100.9")] = true
	mu.Unlock()
	w.send(func(m *spool.Message) { m.Recipients[0].Pool = "other" }, "s@there.example")
	if a := awaitKind[*ledger.Attempted](w, 2); a.Next.Before(epoch.Add(48 * time.Second)) {
		t.Errorf("tried again at once where there is nowhere else: %+v", a)
	}
}

// TestSuppressed: no attempt is made, and the sender is told as of any failure.
func TestSuppressed(t *testing.T) {
	for _, notify := range []smtp.Notify{0, smtp.NotifyNever} {
		w := newWorld(t, 1)
		w.options.Suppressed = func(customer string, rcpt smtp.Path) bool { return customer == "acme" && rcpt.Local == "no" }
		w.reopen()
		there := &peer{}
		w.net.add("there.example", there)
		w.net.add("acme.example", &peer{})
		w.q.Start()
		w.send(func(m *spool.Message) { m.Recipients[0].Notify = notify }, "no@there.example")
		if b := awaitKind[*ledger.Bounced](w, 1); b.Category != "suppressed" || b.DSN.IsZero() != (notify == smtp.NotifyNever) {
			t.Errorf("bounced: %+v", b)
		}
		w.send(func(m *spool.Message) { m.Customer = "beta" }, "no@there.example")
		w.await("hand-off", func(all []ledger.Event) bool {
			return slices.ContainsFunc(all, func(e ledger.Event) bool { h, ok := e.(*ledger.HandedOff); return ok && h.Customer == "beta" })
		})
		if got := there.received(); len(got) != 1 {
			t.Errorf("there: %+v", got)
		}
	}
}

// TestDeadHosts: a host that does not answer is tried last for a while, and a site that
// does not answer at all is left alone but for one attempt at a time; when it is back,
// everything goes.
func TestDeadHosts(t *testing.T) {
	w := newWorld(t, 1)
	w.routing.Limits.Messages = 1
	w.net.add("half.example", nil)
	w.net.add("half.example", &peer{})
	w.net.add("dead.example", nil)
	w.q.Start()
	for n := range 5 {
		w.send(nil, fmt.Sprintf("r%d@half.example", n))
		awaitKind[*ledger.HandedOff](w, n+1)
	}
	if w.net.dials != 6 {
		t.Errorf("%d connections were tried for 5 messages", w.net.dials)
	}
	for n := range 50 {
		w.send(nil, fmt.Sprintf("r%d@dead.example", n))
	}
	w.settleDown()
	w.net.mu.Lock()
	if n := w.net.dials - 6; n > 10 {
		t.Errorf("a dead site was tried %d times at once", n)
	}
	a := w.net.hosts["dead.example"][0].Addr
	w.net.peers[a] = &peer{}
	w.net.mu.Unlock()
	w.run(func() bool {
		waiting, _ := w.q.Counts() // which follows the event
		return waiting == 0 && count[*ledger.HandedOff](w) == 55
	})
}

// TestFamilies: a source reaches addresses of its own kind only, and no mail fails for
// that while the pool has another.
func TestFamilies(t *testing.T) {
	w := newWorld(t, 1)
	six := netip.MustParseAddr("2001:db8::1")
	w.routing.Pools["general"] = []queue.Source{{Addr: six, Weight: 100}, {Addr: netip.MustParseAddr("198.51.100.1")}}
	w.routing.Pools["other"] = []queue.Source{{Addr: six}}
	w.net.add("four.example", &peer{})
	w.net.add("both.example", &peer{})
	w.net.add("both.example", nil)
	b := w.net.hosts["both.example"]
	b[1] = egress.Host{Name: "mx2.both.example", Addr: netip.MustParseAddrPort("[2001:db8::25]:25")}
	w.net.peers[b[1].Addr] = &peer{}
	w.q.Start()
	w.send(nil, "r@four.example")
	if h := awaitKind[*ledger.HandedOff](w, 1); !h.Source.Is4() || h.Attempt != 1 {
		t.Errorf("handed off: %+v", h)
	}
	w.send(nil, "r@both.example")
	if h := awaitKind[*ledger.HandedOff](w, 2); h.Source != six || h.Peer.Addr() != b[1].Addr.Addr() {
		t.Errorf("handed off: %+v", h)
	}
	w.send(func(m *spool.Message) { m.Recipients[0].Pool = "other" }, "r@four.example")
	w.run(func() bool { return count[*ledger.Attempted](w) > 0 })
	if a := awaitKind[*ledger.Attempted](w, 1); !strings.Contains(a.Reply, "IPv4 or IPv6") {
		t.Errorf("attempted: %+v", a)
	}
}

// TestCombined: recipients of one message share a transaction where its copy and its
// reverse-path are the same, and fare each by itself.
func TestCombined(t *testing.T) {
	w := newWorld(t, 1)
	p := &peer{rcpt: func(to string) string {
		switch to {
		case "no@there.example":
			return "550 5.1.1 no such user"
		case "later@there.example":
			return "450 4.2.1 busy"
		case "extra@there.example":
			return "452 4.5.3 too many"
		}
		return "250 2.1.5 yes"
	}}
	w.net.add("there.example", p)
	w.net.add("acme.example", &peer{})
	w.q.Start()
	inside := func(m *spool.Message) {
		m.Origin, m.Customer = "inside", ""
		m.Recipients[3].Headers = []string{"X-Own: copy"}
	}
	w.send(inside, "a@there.example", "no@there.example", "b@there.example", "own@there.example", "later@there.example", "c@there.example")
	awaitKind[*ledger.HandedOff](w, 5) // and the DSN
	if b := awaitKind[*ledger.Bounced](w, 1); b.Recipient != 1 {
		t.Errorf("bounced: %+v", b)
	}
	if a := awaitKind[*ledger.Attempted](w, 1); a.Recipient != 4 {
		t.Errorf("attempted: %+v", a)
	}
	var got []string
	for _, d := range p.received() {
		got = append(got, strings.Join(d.all, " ")+" "+fmt.Sprint(strings.Contains(d.text, "X-Own")))
	}
	slices.Sort(got)
	if want := []string{"a@there.example b@there.example false", "c@there.example false", "own@there.example true"}; !slices.Equal(got, want) {
		t.Errorf("transactions: %v", got)
	}
}

// TestTooManyRecipients: those that a peer does not want in this transaction go in the
// next one, at once and without counting an attempt.
func TestTooManyRecipients(t *testing.T) {
	w := newWorld(t, 1)
	w.routing.Limits.PerSite = 1
	var mu sync.Mutex
	n := 0
	p := &peer{rcpt: func(string) string {
		mu.Lock()
		defer mu.Unlock()
		if n++; n > 2 {
			return "452 4.5.3 too many recipients"
		}
		return "250 2.1.5 yes"
	}, end: func(string) string {
		mu.Lock()
		defer mu.Unlock()
		n = 0
		return "250 2.0.0 taken"
	}}
	w.net.add("there.example", p)
	w.q.Start()
	w.send(func(m *spool.Message) { m.Origin, m.Customer = "inside", "" }, "a@there.example", "b@there.example", "c@there.example", "d@there.example", "e@there.example")
	awaitKind[*ledger.HandedOff](w, 5)
	var got []string
	for _, d := range p.received() {
		got = append(got, strings.Join(d.all, " "))
	}
	if want := []string{"a@there.example b@there.example", "c@there.example d@there.example", "e@there.example"}; !slices.Equal(got, want) {
		t.Errorf("transactions: %v", got)
	}
	for i := range 5 {
		if h := awaitKind[*ledger.HandedOff](w, i+1); h.Attempt != 1 {
			t.Errorf("handed off: %+v", h)
		}
	}
}
