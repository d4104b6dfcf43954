package queue_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// TestFateSharesLimits: recipients that share the fate of one that found no host are
// tried again, and given up, as their destination's limits say.
func TestFateSharesLimits(t *testing.T) {
	for _, c := range []struct{ name, fault string }{{"no host answers", ""}, {"no name server answers", "dns"}} {
		for _, expires := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, expires %v", c.name, expires), func(t *testing.T) {
				s := &shaper{limits: func(shaping.Traffic, time.Time) shaping.Limits {
					l := shaping.Limits{Schedule: []time.Duration{7 * time.Minute}}
					if expires {
						l.Expire = time.Second
					}
					return l
				}}
				w := shaped(t, s)
				w.routing.Retry.Jitter = 0
				w.net.add("there.example", nil)
				w.net.add("acme.example", &peer{}) // for the DSNs
				if c.fault != "" {
					w.net.faults["there.example"] = errSilence
				}
				const n = 5
				for i := range n {
					w.commit(w.message(nil, fmt.Sprintf("r%d@there.example", i)))
				}
				w.clock.advance(10 * time.Second)
				w.q.Start()
				if expires {
					for i := range n {
						if e := awaitKind[*ledger.Bounced](w, i+1); !strings.HasPrefix(e.Reply, "given up after 1s") || c.fault == "" && e.Site == "" {
							t.Errorf("bounced: %+v", e)
						}
					}
					return
				}
				for i := range n {
					if e := awaitKind[*ledger.Attempted](w, i+1); e.Next.Sub(e.Time) != 7*time.Minute || c.fault == "" && e.Site == "" {
						t.Errorf("attempted: %+v", e)
					}
				}
			})
		}
	}
}

// TestRetryInBulk: an operator who wants everything tried again that waits for a site
// that is down has it tried once for all.
func TestRetryInBulk(t *testing.T) {
	w := newWorld(t, 1)
	w.net.add("there.example", nil)
	w.q.Start()
	w.send(nil, "first@there.example")
	awaitKind[*ledger.Attempted](w, 1)
	for i := range 700 {
		w.send(nil, fmt.Sprintf("r%d@there.example", i))
	}
	w.awaitRows(701)
	w.net.mu.Lock()
	before := w.net.dials
	w.net.mu.Unlock()
	if n, err := w.q.Act(t.Context(), "retry", queue.Select{}, "op", ""); n < 256 || err != nil { // others share a fate at that moment
		t.Fatal(n, err)
	}
	w.await("second attempts", func(all []ledger.Event) bool {
		n := 0
		for _, e := range all {
			if _, ok := e.(*ledger.Attempted); ok {
				n++
			}
		}
		return n >= 2
	})
	w.stop()
	if d := w.net.dials - before; d != 1 {
		t.Errorf("%d connections were tried for one order", d)
	}
}

// TestWhatIsStoppedUsesNoRate: a recipient that is stopped before the peer hears of it
// leaves the rates to others.
func TestWhatIsStoppedUsesNoRate(t *testing.T) {
	for _, limits := range []shaping.Limits{
		{MessageRate: []shaping.Rate{{Count: 1, Per: time.Hour}}},
		{RecipientRate: []shaping.Rate{{Count: 1, Per: time.Hour}}},
		{SourceRate: []shaping.Rate{{Count: 1, Per: time.Hour}}},
	} {
		w := newWorld(t, 1)
		w.options.Shaper = &shaper{limits: func(shaping.Traffic, time.Time) shaping.Limits { return limits }}
		w.options.Suppressed = func(_ string, p smtp.Path) bool { return strings.HasPrefix(p.Local, "no") }
		w.routing.Pools["general"] = w.routing.Pools["other"]
		w.reopen()
		w.net.add("there.example", &peer{})
		w.net.add("acme.example", &peer{})
		w.q.Start()
		for i := range 5 {
			w.send(func(m *spool.Message) { m.From = smtp.Path{} }, fmt.Sprintf("no%d@there.example", i))
		}
		for i := range 5 {
			awaitKind[*ledger.Bounced](w, i+1)
		}
		w.send(nil, "yes@there.example")
		awaitKind[*ledger.HandedOff](w, 1)
	}
}

// TestTransactionsCount: a message whose recipients cannot share a transaction counts
// as many times as there are.
func TestTransactionsCount(t *testing.T) {
	w := shaped(t, &shaper{limits: func(shaping.Traffic, time.Time) shaping.Limits {
		return shaping.Limits{MessageRate: []shaping.Rate{{Count: 6, Per: time.Minute}}}
	}})
	p := &peer{}
	w.net.add("there.example", p)
	w.q.Start()
	w.send(func(m *spool.Message) {
		m.Origin, m.Customer = "inside", ""
		for i := range m.Recipients {
			m.Recipients[i].Headers = []string{fmt.Sprintf("X-N: %d", i)}
		}
	}, "a@there.example", "b@there.example", "c@there.example")
	awaitKind[*ledger.HandedOff](w, 3)
	w.send(nil, "d@there.example")
	w.clock.await(t, epoch.Add(30*time.Second)) // three were taken at once, ten seconds each
	if n := len(p.received()); n != 3 {
		t.Errorf("%d have arrived", n)
	}
	w.clock.advance(30 * time.Second)
	awaitKind[*ledger.HandedOff](w, 4)
}

// TestSiteComesBack: once a site answers again, all connections that it may have are
// made at once.
func TestSiteComesBack(t *testing.T) {
	w := newWorld(t, 1)
	w.routing.Limits.PerSite = 5
	var down atomic.Bool
	down.Store(true)
	w.net.dialing = func(_ context.Context, h egress.Host) error {
		if down.Load() {
			return fmt.Errorf("connect to %s: %w", h.Name, syscall.ECONNREFUSED)
		}
		return nil
	}
	var five sync.WaitGroup
	five.Add(5)
	var each atomic.Int32
	w.net.add("there.example", &peer{rcpt: func(string) string {
		if each.Add(1) <= 5 {
			five.Done()
		}
		five.Wait() // nobody goes on before five are there
		return "250 2.1.5 yes"
	}})
	w.q.Start()
	w.send(nil, "first@there.example")
	awaitKind[*ledger.Attempted](w, 1)
	for i := range 20 {
		w.send(nil, fmt.Sprintf("r%d@there.example", i))
	}
	down.Store(false)
	w.clock.turn(t, epoch.Add(w.routing.Retry.First/2))
	awaitKind[*ledger.HandedOff](w, 20)
}

// TestNoDescriptors: while the node has no file descriptor left for a connection, a
// question to the DNS or a body, nothing counts as an attempt, nobody is blamed, and
// all is tried again within seconds.
func TestNoDescriptors(t *testing.T) {
	for _, cause := range []error{syscall.EMFILE, syscall.ENFILE} {
		for _, where := range []string{"connection", "address", "name", "body"} {
			t.Run(fmt.Sprintf("%s: %v", where, cause), func(t *testing.T) {
				s := &shaper{}
				w := newWorld(t, 1)
				var lack atomic.Bool
				lack.Store(true)
				fault := fmt.Errorf("open: %w", cause)
				w.options.Shaper = s
				scarce := &scarcity{internet: w.net, where: where, lack: &lack, err: fault, found: make(chan struct{})}
				w.around = func(s *store) (queue.Store, queue.Transport) { scarce.store = s; return scarce, scarce }
				w.reopen()
				w.net.add("there.example", &peer{})
				w.q.Start()
				w.send(nil, "r@there.example")
				scarce.await(t)
				lack.Store(false)
				w.run(func() bool { return count[*ledger.HandedOff](w) == 1 })
				h := awaitKind[*ledger.HandedOff](w, 1)
				if n := count[*ledger.Attempted](w); n != 0 || h.Attempt != 1 || len(s.seen) != 1 || count[*ledger.Held](w) != 0 {
					t.Errorf("%d attempts are on record, it was the %d., the shaper knows of %d", n, h.Attempt, len(s.seen))
				}
				if sites := w.q.Sites(); len(sites) > 0 && sites[0].Last != "" {
					t.Errorf("the site is blamed: %+v", sites)
				}
			})
		}
	}
}

// scarcity is a transport and a store that find no descriptor at one place.
type scarcity struct {
	*internet
	*store
	where string
	lack  *atomic.Bool
	err   error
	met   sync.Once
	found chan struct{}
}

func (s *scarcity) at(where string) error {
	if s.where != where || !s.lack.Load() {
		return nil
	}
	s.met.Do(func() { close(s.found) })
	return s.err
}

func (s *scarcity) await(t *testing.T) {
	t.Helper()
	select {
	case <-s.found:
	case <-time.After(patience):
		t.Fatal("nothing lacked")
	}
}

func (s *scarcity) MX(ctx context.Context, domain string) ([]string, error) {
	if err := s.at("name"); err != nil {
		return nil, err
	}
	return s.internet.MX(ctx, domain)
}

func (s *scarcity) Hosts(ctx context.Context, domain string, v4, v6 bool) ([]egress.Host, error) {
	if err := s.at("address"); err != nil {
		return nil, err
	}
	return s.internet.Hosts(ctx, domain, v4, v6)
}

func (s *scarcity) Dial(ctx context.Context, source netip.Addr, h egress.Host) (*egress.Conn, error) {
	if err := s.at("connection"); err != nil {
		return nil, err
	}
	return s.internet.Dial(ctx, source, h)
}

func (s *scarcity) Open(id smtp.ID) (*spool.Message, *spool.Reader, error) {
	if err := s.at("body"); err != nil {
		return nil, nil, err
	}
	return s.store.Open(id)
}
