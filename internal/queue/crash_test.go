package queue_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// who is one recipient of one message, by its address: each is used once.
type who string

// chaos is a node's spool, queue and ledger under random load and random power cuts,
// with what has to be true of them.
type chaos struct {
	*world
	seed   uint64
	disk   *vfs.MemFS
	ledger *ledger.Ledger
	follow func() // ends the follower and waits

	mu      sync.Mutex
	r       *rand.Rand
	kind    bool // the world takes everything from now on
	acked   map[who]smtp.ID
	dropped map[who]bool
	got     map[who]int // arrivals at the peers
	allowed map[who]int // arrivals that the documented window explains
	cuts    int
	sent    int
}

// TestPowerCuts sends from several clients at once to a world that takes, defers,
// refuses and hangs up, lets operators act, and cuts the power at random moments: what
// was not synced is lost sector by sector. In the end nothing acknowledged is lost,
// nothing has arrived twice that was durably settled, and the ledger agrees with what
// the peers have seen.
func TestPowerCuts(t *testing.T) {
	seeds := uint64(15)
	if os.Getenv("POSTERN_SOAK") != "" {
		seeds = 500
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { newChaos(t, seed).play() })
	}
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{world: newWorld(t, byte(seed)), seed: seed, disk: vfs.NewCrashableMem(), r: rand.New(rand.NewPCG(seed, 3)),
		acked: map[who]smtp.ID{}, dropped: map[who]bool{}, got: map[who]int{}, allowed: map[who]int{}}
	c.routing.Retry.Expire = 10_000 * time.Hour
	c.routing.Limits = queue.Limits{Connections: 8, PerSite: 3, Messages: 5, Idle: time.Second}
	for d := range 3 {
		ehlo := ""
		if d > 0 {
			ehlo = "PIPELINING"
		}
		c.net.add(fmt.Sprintf("d%d.example", d), &peer{ehlo: ehlo, mail: c.mail, rcpt: c.rcpt, end: c.end})
	}
	c.net.add("acme.example", &peer{})
	return c
}

func (c *chaos) chance(percent int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.kind && c.r.IntN(100) < percent
}

func (c *chaos) draw(n int) int { c.mu.Lock(); defer c.mu.Unlock(); return c.r.IntN(n) }

func (c *chaos) mail(int) string {
	if c.chance(5) {
		return "421 4.7.0 enough"
	}
	return "250 2.1.0 yes"
}

func (c *chaos) rcpt(to string) string {
	switch {
	case strings.HasPrefix(to, "no"):
		return "550 5.1.1 no such user"
	case c.chance(15):
		return "451 4.7.1 not now"
	case c.chance(3):
		return ""
	}
	return "250 2.1.5 yes"
}

// end takes the message; now and then it hangs up behind that without a word, which
// lets the message come again.
func (c *chaos) end(to string) string {
	silent := c.chance(5)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got[who(to)]++
	if c.allowed[who(to)] == 0 {
		c.allowed[who(to)] = 1
	}
	if silent {
		c.allowed[who(to)] = c.got[who(to)] + 1
		return ""
	}
	return "250 2.0.0 taken"
}

func (c *chaos) play() {
	rounds := 4
	for round := range rounds {
		c.begin()
		c.load(40 + c.draw(80))
		if round < rounds-1 {
			c.cut()
		}
	}
	c.finish()
	c.verify()
}

// begin opens the ledger, lets it follow, notes what the spool still has to deliver,
// and starts the queue.
func (c *chaos) begin() {
	c.t.Helper()
	l, err := ledger.Open("ledger", ledger.Options{FS: c.disk, Cache: 1 << 20})
	if err != nil {
		c.t.Fatal(err)
	}
	c.ledger = l
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s := c.store.Spool
	go func() { defer close(done); _ = l.Follow(ctx, s) }()
	c.follow = func() { cancel(); <-done }
	c.mu.Lock()
	live := map[who]bool{}
	s.List(func(e spool.Entry) bool {
		m, err := s.Message(e.ID)
		if err != nil {
			c.t.Fatalf("live message %s: %v", e.ID, err)
		}
		for i, st := range e.States {
			if st.State != spool.Settled {
				live[who(m.Recipients[i].To.String())] = true
			}
		}
		return true
	})
	for w, n := range c.got {
		c.allowed[w] = n
		if live[w] {
			c.allowed[w]++
		}
	}
	c.mu.Unlock()
	c.q.Start()
}

// load lets four clients send until there are n more acknowledgements, while the clock
// runs and an operator acts.
func (c *chaos) load(n int) {
	var clients sync.WaitGroup
	target := c.count() + n
	for range 4 {
		clients.Add(1)
		go func() {
			defer clients.Done()
			for c.count() < target && c.sendOne() {
			}
		}()
	}
	for c.count() < target {
		c.clock.advance(20 * time.Second)
		c.operate()
	}
	if c.draw(2) == 0 {
		clients.Wait() // else the power goes with commits under way
	}
	c.t.Cleanup(clients.Wait)
}

func (c *chaos) count() int { c.mu.Lock(); defer c.mu.Unlock(); return len(c.acked) }

// sendOne commits a message for one to three recipients and hands it to the queue.
func (c *chaos) sendOne() bool {
	c.mu.Lock()
	var to []string
	for range 1 + c.r.IntN(3) {
		c.sent++
		word := "yes"
		if c.r.IntN(10) == 0 {
			word = "no"
		}
		to = append(to, fmt.Sprintf("%s%d@d%d.example", word, c.sent, c.r.IntN(3)))
	}
	size := c.r.IntN(3000)
	m := c.message(nil, to...)
	st, q := c.store, c.q
	c.mu.Unlock()
	b := st.NewBody()
	if _, err := b.Write([]byte("Subject: x\r\n\r\n" + strings.Repeat("0123456789abcdef", size/16) + "\r\n")); err != nil {
		return false
	}
	m.Size = b.Size()
	e := &ledger.Accepted{Time: m.Accepted, ID: m.ID, Listener: m.Listener, Origin: m.Origin, Size: m.Size}
	for _, a := range to {
		e.Decisions = append(e.Decisions, ledger.Decided{Recipient: a, Disposition: "deliver"})
	}
	if _, err := st.Spool.Commit(context.Background(), &spool.Batch{Message: m, Body: b, Events: [][]byte{ledger.Encode(e)}}); err != nil {
		return false
	}
	c.mu.Lock()
	for _, a := range to {
		c.acked[who(a)] = m.ID
	}
	c.mu.Unlock()
	q.Add(m)
	return true
}

// operate holds, releases, retries or drops something.
func (c *chaos) operate() {
	action := []string{"hold", "release", "retry", "drop", "", "", "", ""}[c.draw(8)]
	if action == "" {
		runtime.Gosched()
		return
	}
	rows := c.q.List(queue.Select{Limit: 3})
	for _, r := range rows {
		n, err := c.q.Act(context.Background(), action, queue.Select{ID: r.ID}, "op", "")
		if action != "drop" {
			continue
		}
		c.mu.Lock()
		for i := range r.Message.Recipients {
			if n > 0 || err != nil {
				c.dropped[who(r.Message.Recipients[i].To.String())] = true // it may be
			}
		}
		c.mu.Unlock()
		break
	}
}

// cut takes the power away from both disks and finds what is left.
func (c *chaos) cut() {
	c.t.Helper()
	c.mu.Lock()
	fs := c.fs.Crash(c.r)
	c.mu.Unlock()
	over, cancel := context.WithCancel(context.Background())
	cancel()
	c.q.Stop(over)
	c.net.wg.Wait()
	c.follow()
	c.mu.Lock()
	c.disk = c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: c.r})
	c.mu.Unlock()
	_ = c.store.Close()
	_ = c.ledger.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fs = fs
	c.cuts++
	c.open()
}

// finish lets the world take everything and waits until nothing is left.
func (c *chaos) finish() {
	c.t.Helper()
	c.mu.Lock()
	c.kind = true
	c.mu.Unlock()
	deadline := time.Now().Add(patience)
	for {
		if _, err := c.q.Act(context.Background(), "release", queue.Select{State: "held"}, "op", ""); err != nil {
			c.t.Fatal(err)
		}
		c.clock.advance(5 * time.Minute)
		waiting, held := c.q.Counts()
		if waiting+held == 0 && c.store.Stats().Messages == 0 {
			break
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("seed %d: %d wait and %d are held, the spool has %d messages", c.seed, waiting, held, c.store.Stats().Messages)
		}
		runtime.Gosched()
	}
	c.stop()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.ledger.CaughtUp(ctx, c.store.Durable()); err != nil {
		c.t.Fatalf("seed %d: %v", c.seed, err)
	}
	c.follow()
	c.t.Cleanup(func() { _ = c.ledger.Close() })
}

// verify compares what was acknowledged, what has arrived and what the ledger says.
func (c *chaos) verify() {
	t := c.t
	t.Helper()
	ctx := t.Context()
	doubled, handed := 0, 0
	type ends struct{ handed, bounced, dropped int }
	seen := map[smtp.ID]map[int]*ends{}
	for a, id := range c.acked {
		if seen[id] == nil {
			seen[id] = map[int]*ends{0: {}, 1: {}, 2: {}}
			events, err := c.ledger.History(ctx, id)
			if err != nil {
				t.Fatalf("seed %d: %s: %v", c.seed, a, err)
			}
			accepted := 0
			for _, e := range events {
				switch e := e.(type) {
				case *ledger.Accepted:
					accepted++
				case *ledger.HandedOff:
					seen[id][e.Recipient].handed++
					handed++
				case *ledger.Bounced:
					seen[id][e.Recipient].bounced++
				case *ledger.Dropped:
					seen[id][e.Recipient].dropped++
				}
			}
			if accepted != 1 {
				t.Errorf("seed %d: %s was accepted %d times", c.seed, a, accepted)
			}
			for i, e := range seen[id] {
				if e.handed+e.bounced+e.dropped > 1 {
					t.Errorf("seed %d: %s recipient %d has several ends: %+v", c.seed, id, i, *e)
				}
			}
		}
		refused := strings.HasPrefix(string(a), "no")
		switch n := c.got[a]; {
		case n == 0 && !refused && !c.dropped[a]:
			t.Errorf("seed %d: %s was acknowledged and is lost", c.seed, a)
		case n > 1:
			doubled++
		}
	}
	for a, n := range c.got {
		if n > c.allowed[a] {
			t.Errorf("seed %d: %s arrived %d times, %d are explained", c.seed, a, n, c.allowed[a])
		}
		rows, err := c.ledger.ByRecipient(ctx, string(a), time.Time{}, time.Time{}, 10)
		if err != nil || len(rows) != 1 {
			t.Errorf("seed %d: %s arrived, and the ledger has %d acceptances: %v", c.seed, a, len(rows), err)
		}
	}
	impact, err := c.ledger.Impact(ctx, ledger.Path{Listener: "injection", Origin: "customer"}, time.Time{}, time.Time{})
	if err != nil || impact.HandedOff < handed || impact.HandedOff > len(c.got) {
		t.Errorf("seed %d: the ledger counts %+v hand-offs; %d of acknowledged mail, %d arrived: %v", c.seed, impact, handed, len(c.got), err)
	}
	t.Logf("%d acknowledged, %d arrived, %d twice, %d cuts", len(c.acked), len(c.got), doubled, c.cuts)
}
