package queue_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// TestRetrySchedule follows one message from its first attempt to the DSN: the times
// double up to the maximum, each within the jitter, and the end comes with the first
// attempt after the time to live.
func TestRetrySchedule(t *testing.T) {
	var first []time.Duration
	for seed := range byte(3) {
		w := newWorld(t, seed)
		w.net.add("slow.example", &peer{rcpt: func(string) string { return "451 4.7.1 not now" }})
		home := &peer{}
		w.net.add("acme.example", home)
		w.q.Start()
		m := w.send(nil, "r@slow.example")
		at := epoch
		for n, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute} {
			a := awaitKind[*ledger.Attempted](w, n+1)
			gap := a.Next.Sub(at)
			if gap < want*8/10 || gap > want*12/10 || a.Attempt != n+1 || a.Reply != "451 4.7.1 not now" || a.Host != "mx1.slow.example" {
				t.Fatalf("seed %d: attempt %d: next after %s, want %s: %+v", seed, n+1, gap, want, a)
			}
			if n == 0 {
				first = append(first, gap)
			}
			w.clock.turn(t, a.Next)
			at = a.Next
		}
		w.untilGivenUp(m, 7)
		if got := home.received(); len(got) != 1 || got[0].from != "" || got[0].to != "news@acme.example" || !strings.Contains(got[0].text, "Action: failed") ||
			!strings.Contains(got[0].text, "Status: 4.7.1") || !strings.Contains(got[0].text, "Final-Recipient: rfc822; r@slow.example") || !strings.Contains(got[0].text, "451 4.7.1 not now") {
			t.Errorf("seed %d: the sender got %+v", seed, got)
		}
	}
	if first[0] == first[1] && first[1] == first[2] {
		t.Errorf("no jitter: every first retry comes after %s", first[0])
	}
}

// untilGivenUp turns the clock from attempt to attempt, the nth being the next one,
// until the message is given up and its sender told.
func (w *world) untilGivenUp(m *spool.Message, nth int) {
	w.t.Helper()
	for n := nth; ; n++ {
		w.await("end or attempt", func(all []ledger.Event) bool {
			attempts, bounced := 0, 0
			for _, e := range all {
				switch e.(type) {
				case *ledger.Attempted:
					attempts++
				case *ledger.Bounced:
					bounced++
				}
			}
			return attempts >= n || bounced > 0
		})
		if count[*ledger.Bounced](w) > 0 {
			break
		}
		w.clock.turn(w.t, awaitKind[*ledger.Attempted](w, n).Next)
	}
	b := awaitKind[*ledger.Bounced](w, 1)
	if age := b.Time.Sub(m.Accepted); age < time.Hour || age > 75*time.Minute || b.DSN.IsZero() || !strings.HasPrefix(b.Reply, "given up after 1h0m0s: ") {
		w.t.Errorf("given up after %s: %+v", age, b)
	}
	if h := awaitKind[*ledger.HandedOff](w, 1); h.ID != b.DSN {
		w.t.Errorf("handed off: %+v", h)
	}
	if st := w.states(m.ID); st != nil {
		w.t.Errorf("the message is still there: %+v", st)
	}
}

// TestOutcomes: what becomes of a message, by what the world says to its first attempt.
func TestOutcomes(t *testing.T) {
	reply := func(s string) func(string) string { return func(string) string { return s } }
	for _, c := range []struct {
		name  string
		hosts []*peer // nil ones refuse the connection
		fault error   // of the DNS
		kind  ledger.Kind
		want  string // in the reply recorded
	}{
		{"taken", []*peer{{}}, nil, ledger.KindHandedOff, "250 2.0.0 yes"},
		{"4xx to RCPT", []*peer{{rcpt: reply("450 4.2.1 busy")}}, nil, ledger.KindAttempted, "450 4.2.1 busy"},
		{"5xx to RCPT", []*peer{{rcpt: reply("550 5.1.1 no such user")}}, nil, ledger.KindBounced, "550 5.1.1 no such user"},
		{"5xx to MAIL", []*peer{{mail: func(int) string { return "550 5.7.1 not from you" }}}, nil, ledger.KindBounced, "550 5.7.1 not from you"},
		{"421 to MAIL at once", []*peer{{mail: func(int) string { return "421 4.7.0 go away" }}}, nil, ledger.KindAttempted, "421 4.7.0 go away"},
		{"4xx to DATA", []*peer{{data: reply("452 4.3.1 full")}}, nil, ledger.KindAttempted, "452 4.3.1 full"},
		{"5xx to the message", []*peer{{end: reply("554 5.6.0 spam")}}, nil, ledger.KindBounced, "554 5.6.0 spam"},
		{"4xx to the message", []*peer{{end: reply("451 4.3.0 later")}}, nil, ledger.KindAttempted, "451 4.3.0 later"},
		{"silence after the message", []*peer{{end: reply("")}}, nil, ledger.KindAttempted, "connection lost after the end of data"},
		{"silence after RCPT", []*peer{{rcpt: reply("")}}, nil, ledger.KindAttempted, "connection lost"},
		{"all with pipelining", []*peer{{ehlo: "PIPELINING", rcpt: reply("550 5.1.1 no such user")}}, nil, ledger.KindBounced, "550 5.1.1 no such user"},
		{"connection refused", []*peer{nil}, nil, ledger.KindAttempted, "connection refused"},
		{"the second MX takes it", []*peer{nil, {}}, nil, ledger.KindHandedOff, "250 2.0.0 yes"},
		{"all MX refuse", []*peer{nil, nil, nil}, nil, ledger.KindAttempted, "connection refused"},
		{"null MX", nil, egress.ErrNullMX, ledger.KindBounced, "domain accepts no mail"},
		{"no such domain", nil, egress.ErrNoDomain, ledger.KindBounced, "no such domain"},
		{"the DNS fails", nil, fmt.Errorf("server answers SERVFAIL"), ledger.KindAttempted, "SERVFAIL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			for _, p := range c.hosts {
				w.net.add("there.example", p)
			}
			w.net.faults["there.example"] = c.fault
			w.net.add("acme.example", &peer{})
			w.q.Start()
			m := w.send(nil, "r@there.example")
			var got ledger.Event
			w.await(c.kind.String(), func(all []ledger.Event) bool {
				if len(all) == 0 {
					return false
				}
				got = all[0]
				return true
			})
			text := fmt.Sprintf("%+v", got)
			if got.Kind() != c.kind || !strings.Contains(text, c.want) {
				t.Fatalf("got %s %s", got.Kind(), text)
			}
			st := w.states(m.ID)
			if (c.kind == ledger.KindAttempted) != (st != nil) || (st != nil && (st[0].State != spool.Pending || st[0].Attempts != 1 || !strings.Contains(st[0].Reason, c.want))) {
				t.Errorf("the spool has %+v", st)
			}
		})
	}
}

// TestRecipientsFareAlone: three recipients of one message, three ends.
func TestRecipientsFareAlone(t *testing.T) {
	w := newWorld(t, 1)
	there, home := &peer{rcpt: func(to string) string {
		switch to {
		case "no@there.example":
			return "550 5.1.1 no such user"
		case "later@there.example":
			return "452 4.2.2 full"
		}
		return "250 2.1.5 yes"
	}}, &peer{}
	w.net.add("there.example", there)
	w.net.add("acme.example", home)
	w.q.Start()
	m := w.send(nil, "yes@there.example", "no@there.example", "later@there.example")
	if b := awaitKind[*ledger.Bounced](w, 1); b.Recipient != 1 || b.Reply != "550 5.1.1 no such user" {
		t.Errorf("bounced: %+v", b)
	}
	if a := awaitKind[*ledger.Attempted](w, 1); a.Recipient != 2 {
		t.Errorf("deferred: %+v", a)
	}
	awaitKind[*ledger.HandedOff](w, 2) // the message and the DSN
	if st := w.states(m.ID); len(st) != 3 || st[0].State != spool.Settled || st[1].State != spool.Settled || st[2].State != spool.Pending {
		t.Errorf("states: %+v", st)
	}
	if got := there.received(); len(got) != 1 || got[0].to != "yes@there.example" || !strings.HasSuffix(got[0].from, "@bounce.esp.example") || !strings.Contains(got[0].text, "X-Postern-Stamp: ") {
		t.Errorf("there: %+v", got)
	}
	if got := home.received(); len(got) != 1 || strings.Contains(got[0].text, "later@") || strings.Contains(got[0].text, "X-Postern-Stamp: ") {
		t.Errorf("home: %+v", got)
	}
}

func TestGreylisting(t *testing.T) {
	w := newWorld(t, 1)
	var mu sync.Mutex
	seen := map[string]bool{}
	there := &peer{rcpt: func(to string) string {
		mu.Lock()
		defer mu.Unlock()
		if !seen[to] {
			seen[to] = true
			return "451 4.7.1 grey-listed"
		}
		return "250 2.1.5 yes"
	}}
	w.net.add("there.example", there)
	w.q.Start()
	w.send(nil, "r@there.example")
	a := awaitKind[*ledger.Attempted](w, 1)
	w.clock.turn(t, a.Next)
	if h := awaitKind[*ledger.HandedOff](w, 1); h.Attempt != 2 || h.Seconds < 48 || h.Pool != "general" || h.Path.Listener != "injection" || h.Host != "mx1.there.example" || h.Domain != "there.example" {
		t.Errorf("handed off: %+v", h)
	}
}

// TestWhoIsTold: to whom a failure is reported, and to whom never.
func TestWhoIsTold(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*spool.Message)
		told   bool
	}{
		{"a customer", nil, true},
		{"an inside host", func(m *spool.Message) { m.Origin = string(policy.Inside) }, true},
		{"a stranger", func(m *spool.Message) { m.Origin = string(policy.Stranger) }, false},
		{"the null reverse-path", func(m *spool.Message) { m.From = smtp.Path{} }, false},
		{"NOTIFY=NEVER", func(m *spool.Message) { m.Recipients[0].Notify = smtp.NotifyNever }, false},
		{"NOTIFY=SUCCESS", func(m *spool.Message) { m.Recipients[0].Notify = smtp.NotifySuccess }, false},
		{"NOTIFY=FAILURE", func(m *spool.Message) { m.Recipients[0].Notify = smtp.NotifyFailure }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.net.add("there.example", &peer{rcpt: func(string) string { return "550 5.1.1 no such user" }})
			home := &peer{}
			w.net.add("acme.example", home)
			w.q.Start()
			w.send(c.change, "r@there.example")
			b := awaitKind[*ledger.Bounced](w, 1)
			if b.DSN.IsZero() == c.told {
				t.Fatalf("bounced: %+v", b)
			}
			if c.told {
				awaitKind[*ledger.HandedOff](w, 1)
			}
			if got := home.received(); (len(got) == 1) != c.told {
				t.Errorf("home got %+v", got)
			}
		})
	}
}

// TestDelayNotice: once, when the time has come, and only to those who want it.
func TestDelayNotice(t *testing.T) {
	w := newWorld(t, 1)
	w.routing.Retry.DelayNotice = 10 * time.Minute
	w.net.add("slow.example", &peer{rcpt: func(string) string { return "451 4.7.1 not now" }})
	home := &peer{}
	w.net.add("acme.example", home)
	w.q.Start()
	w.send(nil, "r@slow.example")
	for n := 1; n <= 6; n++ {
		w.clock.turn(t, awaitKind[*ledger.Attempted](w, n).Next)
	}
	awaitKind[*ledger.Attempted](w, 7)
	awaitKind[*ledger.HandedOff](w, 1)
	if got := home.received(); len(got) != 1 || !strings.Contains(got[0].text, "Action: delayed") || !strings.Contains(got[0].text, "Will-Retry-Until: ") {
		t.Errorf("the sender got %+v", got)
	}
}

// TestRelayedNotice: NOTIFY=SUCCESS where the next hop does not know DSN (RFC 3461,
// section 5.2.2).
func TestRelayedNotice(t *testing.T) {
	for _, c := range []struct {
		ehlo string
		told bool
	}{{"", true}, {"DSN", false}} {
		w := newWorld(t, 1)
		w.net.add("there.example", &peer{ehlo: c.ehlo})
		home := &peer{}
		w.net.add("acme.example", home)
		w.q.Start()
		w.send(func(m *spool.Message) { m.Recipients[0].Notify = smtp.NotifySuccess }, "r@there.example")
		awaitKind[*ledger.HandedOff](w, 1)
		if c.told {
			awaitKind[*ledger.HandedOff](w, 2)
		}
		if got := home.received(); (len(got) == 1) != c.told || (c.told && !strings.Contains(got[0].text, "Action: relayed")) {
			t.Errorf("with %q the sender got %+v", c.ehlo, got)
		}
	}
}

// TestLimits: connections in all and for each site, and messages on each of them.
func TestLimits(t *testing.T) {
	w := newWorld(t, 1)
	w.routing.Limits = queue.Limits{Connections: 5, PerSite: 2, Messages: 3, Idle: time.Second}
	var peers []*peer
	for i := range 4 {
		p := &peer{}
		peers = append(peers, p)
		w.net.add(fmt.Sprintf("d%d.example", i), p)
	}
	const each = 40
	for n := range each {
		for i := range peers {
			w.commit(w.message(nil, fmt.Sprintf("r%d@d%d.example", n, i)))
		}
	}
	w.q.Start()
	awaitKind[*ledger.HandedOff](w, each*len(peers))
	w.stop()
	w.net.wg.Wait()
	for i, p := range peers {
		if len(p.got) != each || p.top > 2 {
			t.Errorf("d%d: %d messages, %d connections at once", i, len(p.got), p.top)
		}
		for _, n := range p.each {
			if n > 3 {
				t.Errorf("d%d: %d messages on one connection", i, n)
			}
		}
	}
	if w.net.top > 5 {
		t.Errorf("%d connections at once", w.net.top)
	}
}

// TestSourcesInTurn: the addresses of the pool take turns, and no other is used.
func TestSourcesInTurn(t *testing.T) {
	w := newWorld(t, 1)
	w.routing.Limits.Messages = 1
	w.net.add("there.example", &peer{})
	w.q.Start()
	for n := range 10 {
		w.send(nil, fmt.Sprintf("r%d@there.example", n))
		awaitKind[*ledger.HandedOff](w, n+1)
	}
	used := map[netip.Addr]int{}
	for n := range 10 {
		used[awaitKind[*ledger.HandedOff](w, n+1).Source]++
	}
	if len(used) != 2 || used[netip.MustParseAddr("198.51.100.1")] != 5 {
		t.Errorf("sources: %v", used)
	}
}

// TestConnectionIsUsedAgain: by all messages while they come, and one that has ended
// meanwhile, or that the peer wants no more on, costs no message its attempt.
func TestConnectionIsUsedAgain(t *testing.T) {
	for _, c := range []struct {
		name  string
		mail  func(int) string
		conns int
	}{
		{"kept", nil, 1},
		{"421 before the third", func(n int) string {
			if n > 2 {
				return "421 4.7.0 enough"
			}
			return "250 2.1.0 yes"
		}, 3},
		{"cut before the third", func(n int) string {
			if n > 2 {
				return ""
			}
			return "250 2.1.0 yes"
		}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			p := &peer{mail: c.mail}
			w.net.add("there.example", p)
			w.routing.Limits.PerSite = 1
			w.q.Start()
			for n := range 6 {
				w.send(nil, fmt.Sprintf("r%d@there.example", n))
				if h := awaitKind[*ledger.HandedOff](w, n+1); h.Attempt != 1 {
					t.Errorf("handed off: %+v", h)
				}
			}
			if w.net.dials != c.conns || count[*ledger.Attempted](w) != 0 {
				t.Errorf("%d connections, want %d\n%s", w.net.dials, c.conns, describe(w.store.seen()))
			}
		})
	}
}

// TestGuard: a stranger's message about to be relayed is held and reported, or only
// reported.
func TestGuard(t *testing.T) {
	for _, observe := range []bool{false, true} {
		t.Run(fmt.Sprintf("observe=%v", observe), func(t *testing.T) {
			w := newWorld(t, 1)
			w.routing.Observe = observe
			w.routing.Relays = func(o policy.Origin, a policy.Address, inside string) bool {
				return o == policy.Stranger && inside == "" && a.Domain == "there.example"
			}
			there := &peer{}
			w.net.add("there.example", there)
			w.q.Start()
			m := w.send(func(m *spool.Message) { m.Origin, m.Customer, m.Peer = string(policy.Stranger), "", "203.0.113.9" }, "r@there.example")
			trip := <-w.trips
			if trip.ID != m.ID || trip.Observed != observe || trip.Peer != netip.MustParseAddr("203.0.113.9") || trip.Address != "r@there.example" {
				t.Errorf("trip: %+v", trip)
			}
			if observe {
				awaitKind[*ledger.HandedOff](w, 1)
				return
			}
			if h := awaitKind[*ledger.Held](w, 1); h.Reason != "relay guard" {
				t.Errorf("held: %+v", h)
			}
			// Release keeps the origin, so the guard holds again.
			if n, err := w.q.Act(t.Context(), "release", queue.Select{ID: m.ID}, "op", ""); n != 1 || err != nil {
				t.Fatalf("release: %d, %v", n, err)
			}
			<-w.trips
			awaitKind[*ledger.Held](w, 2)
			if st := w.states(m.ID); len(st) != 1 || st[0].State != spool.Held || len(there.received()) != 0 || w.net.dials != 0 {
				t.Errorf("states %+v, %d arrived", st, len(there.received()))
			}
		})
	}
}

// TestContainment: what an incident stops is held, and goes on when it is released.
func TestContainment(t *testing.T) {
	w := newWorld(t, 1)
	there := &peer{}
	w.net.add("there.example", there)
	w.gate.shut("general")
	w.q.Start()
	w.send(nil, "a@there.example")
	w.send(func(m *spool.Message) { m.Recipients[0].Pool = "other" }, "b@there.example")
	if h := awaitKind[*ledger.Held](w, 1); h.Incident != "inc-1" || h.Reason != "incident inc-1" {
		t.Errorf("held: %+v", h)
	}
	if h := awaitKind[*ledger.HandedOff](w, 1); h.Pool != "other" || h.Source != netip.MustParseAddr("198.51.100.9") {
		t.Errorf("handed off: %+v", h)
	}
	w.gate.shut("")
	if n, err := w.q.Act(t.Context(), "release", queue.Select{Incident: "inc-1"}, "op", ""); n != 1 || err != nil {
		t.Fatalf("release: %d, %v", n, err)
	}
	awaitKind[*ledger.HandedOff](w, 2)
	if got := there.received(); len(got) != 2 {
		t.Errorf("there: %+v", got)
	}
}
