package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// wall is a clock on the wall that somebody sets while the node runs; what waits for a
// span of time does not notice, as with the system's clocks.
type wall struct {
	mu  sync.Mutex
	off time.Duration
}

func (w *wall) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.off).Round(0)
}

func (w *wall) Elapsed() time.Duration { return time.Since(epoch) }

func (w *wall) After(d time.Duration) <-chan time.Time { return time.After(d) }

func (w *wall) jump(d time.Duration) { w.mu.Lock(); defer w.mu.Unlock(); w.off += d }

// copyOf is one recipient of one message.
type copyOf struct {
	id   smtp.ID
	rcpt int
}

// arrival is a copy that a peer took: whether the queue has read the peer's yes, and
// whether the node lost that again in a crash.
type arrival struct {
	at   time.Time
	read bool
	lost bool
}

// day is a node under a day's traffic and a day's faults, in simulated time.
type day struct {
	*world
	seed    uint64
	wall    *wall
	clients sync.WaitGroup
	follow  func() // ends the follower and waits
	pos     uint64

	mu      sync.Mutex
	r       *rand.Rand
	moods   []mood
	calm    bool          // no more faults
	syncs   time.Duration // how long one may take
	slowed  time.Time     // when that was last changed
	full    bool          // the disk has no room, or had none in this run
	ends    map[string]time.Time
	acked   map[copyOf]bool
	of      map[string]copyOf // by recipient address
	arrived map[copyOf][]arrival
	raw     [][]byte // the events that are durable
	n       tally
}

// tally counts what was done to the node.
type tally struct {
	refused, crashes, restarts, jumps, resets, outages, holes, slow, full, syncs int
}

// TestDayOfTraffic gives a node 24 hours of mail of several customers, campaigns and
// priorities for several sites, and every fault that we know to make: name servers that
// do not answer, hosts that swallow connections, peers that defer, refuse, hang up and
// stall at every stage, all connections reset, slow syncs, syncs that fail, a full disk,
// clocks that are set forward and back, restarts, and power cuts. At the end every
// acknowledged copy has arrived, has been bounced with a DSN, was dropped by the
// operator, is held or waits; a copy has come twice only where the peer's yes was lost,
// which is counted; and queue, spool, ledger and peers agree on every copy.
func TestDayOfTraffic(t *testing.T) {
	seeds := uint64(2)
	if s := os.Getenv("POSTERN_SOAK"); s != "" {
		seeds = 200
		if n, err := strconv.ParseUint(s, 10, 32); err == nil && n > 1 {
			seeds = n
		}
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			var d *day
			synctest.Test(t, func(t *testing.T) {
				d = newDay(t, seed)
				d.play()
			})
			d.compareLedger(t)
		})
	}
}

func newDay(t *testing.T, seed uint64) *day {
	d := &day{world: newWorld(t, byte(seed)), seed: seed, wall: &wall{}, r: rand.New(rand.NewPCG(seed, 24)), ends: map[string]time.Time{},
		acked: map[copyOf]bool{}, of: map[string]copyOf{}, arrived: map[copyOf][]arrival{}}
	d.options.Clock = d.wall
	d.routing.Retry = queue.Retry{First: time.Minute, Factor: 2, Max: 30 * time.Minute, Jitter: 0.2, Expire: 8 * time.Hour, DelayNotice: 3 * time.Hour}
	d.routing.Limits = queue.Limits{Connections: 12, PerSite: 4, Messages: 20, Idle: 5 * time.Second}
	d.moods = make([]mood, 5)
	for i := range d.moods {
		d.net.add(fmt.Sprintf("d%d.example", i), d.peer(i))
		if i == 1 {
			d.net.add("d1.example", d.peer(i)) // a second host
		}
	}
	d.net.mx = map[string]string{"acme.example": "d0.example", "twin.example": "d2.example"}
	d.net.dialing = d.dialing
	d.reopen()
	d.begin()
	return d
}

func (d *day) draw(n int) int          { d.mu.Lock(); defer d.mu.Unlock(); return d.r.IntN(n) }
func (d *day) chance(percent int) bool { return d.draw(100) < percent }

func (d *day) between(a, b time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return a + time.Duration(d.r.Int64N(int64(b-a)+1))
}

// begin follows the events and starts the queue.
func (d *day) begin() {
	s, ctx := d.store.Spool, context.Background()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	d.follow = func() { cancel(); <-done }
	go func() {
		defer close(done)
		for {
			events, next, err := s.Read(ctx, d.pos, 1000)
			for _, e := range events {
				d.raw = append(d.raw, bytes.Clone(e))
			}
			d.pos = next
			if err != nil {
				return
			}
			s.Forget(next)
		}
	}()
	d.fs.Slow(d.sync)
	d.q.Start()
}

// sync takes its time.
func (d *day) sync() {
	d.mu.Lock()
	most := d.syncs
	d.mu.Unlock()
	time.Sleep(d.between(0, max(most, 10*time.Millisecond)))
}

// play goes through a day, then lets the world be well and everything end.
func (d *day) play() {
	for end := time.Now().Add(24 * time.Hour); time.Now().Before(end); {
		time.Sleep(d.between(time.Second, 2*time.Minute))
		for range d.draw(4) {
			d.client()
		}
		d.mischief()
		d.recover()
		if d.store.Err() != nil {
			d.crash() // whoever minds the node sees that it takes no more mail
		}
	}
	d.heal()
	d.clients.Wait()
	d.verify()
	time.Sleep(3 * time.Hour) // the longest wait, and a DSN after it
	if _, err := d.q.Act(context.Background(), "release", queue.Select{State: "held"}, "op", ""); err != nil {
		d.t.Fatal(err)
	}
	time.Sleep(2 * time.Hour)
	if waiting, held := d.q.Counts(); waiting+held > 0 {
		d.t.Errorf("seed %d: at %s %d still wait and %d are held, and nothing keeps them: %+v", d.seed, d.wall.Now(), waiting, held, d.q.List(queue.Select{Limit: 3}))
	}
	d.verify()
	d.stop()
	d.follow()
	d.report()
}

// client sends one message in the time that it takes.
func (d *day) client() {
	d.clients.Add(1)
	wait := d.between(0, time.Minute)
	go func() {
		defer d.clients.Done()
		time.Sleep(wait)
		d.give()
	}()
}

// give commits one message for one to three recipients and hands it to the queue.
func (d *day) give() {
	d.mu.Lock()
	st, q := d.store, d.q
	m, to := d.compose()
	size := d.r.IntN(3000)
	d.mu.Unlock()
	b := st.NewBody()
	if _, err := io.WriteString(b, "Subject: x\r\n\r\n"+strings.Repeat("0123456789abcde\n", size/16)+"\r\n"); err != nil {
		return
	}
	m.Size = b.Size()
	e := &ledger.Accepted{Time: m.Accepted, ID: m.ID, Listener: m.Listener, Origin: m.Origin, Customer: m.Customer, Size: m.Size}
	for _, a := range to {
		e.Decisions = append(e.Decisions, ledger.Decided{Recipient: a, Disposition: "deliver"})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if _, err := st.Spool.Commit(ctx, &spool.Batch{Message: m, Body: b, Events: [][]byte{ledger.Encode(e)}}); err != nil {
		d.mu.Lock()
		d.n.refused++
		d.mu.Unlock()
		return
	}
	d.mu.Lock()
	for i := range to {
		d.acked[copyOf{m.ID, i}] = true
	}
	d.mu.Unlock()
	q.Add(m)
}

// compose makes up a message. The lock is held.
func (d *day) compose() (*spool.Message, []string) {
	domains := []string{"d0.example", "d1.example", "d2.example", "d3.example", "d4.example", "twin.example", "nowhere.example"}
	var to []string
	for range 1 + d.r.IntN(3) {
		word := "yes"
		if d.r.IntN(12) == 0 {
			word = "no"
		}
		domain := domains[d.r.IntN(len(domains)-1)]
		if d.r.IntN(50) == 0 {
			domain = domains[len(domains)-1]
		}
		to = append(to, fmt.Sprintf("%s%d@%s", word, len(d.of)+1, domain))
		d.of[to[len(to)-1]] = copyOf{}
	}
	m := d.message(func(m *spool.Message) {
		m.Accepted = d.wall.Now()
		m.ID = smtp.NewID(m.Accepted, [6]byte{2, byte(d.next >> 16), byte(d.next >> 8), byte(d.next)})
		m.Customer = []string{"acme", "globex", "initech"}[d.r.IntN(3)]
		m.Campaign = []string{"", "spring", "autumn"}[d.r.IntN(3)]
		m.Priority = []spool.Priority{spool.Normal, spool.High, spool.Bulk}[d.r.IntN(3)]
		if d.r.IntN(4) == 0 {
			m.Recipients[0].Pool = "other"
		}
	}, to...)
	for i, a := range to {
		d.of[a] = copyOf{m.ID, i}
	}
	return m, to
}

// crash takes the power away, and has the node found again.
func (d *day) crash() {
	d.mu.Lock()
	fs := d.fs.Crash(d.r)
	d.n.crashes++
	d.mu.Unlock()
	at := time.Now()
	over, cancel := context.WithCancel(context.Background())
	cancel()
	d.q.Stop(over)
	d.net.reset()
	d.net.wg.Wait()
	healthy := d.store.Err() == nil
	d.follow()
	_ = d.store.Close()
	d.fs = fs
	d.again()
	d.lost(at, healthy)
}

// again opens the node, which the clients come to know.
func (d *day) again() {
	d.clients.Wait()
	d.fs.Slow(nil)
	d.mu.Lock()
	d.open()
	d.mu.Unlock()
}

// restart stops the node in order and starts it again.
func (d *day) restart() {
	d.n.restarts++
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	d.q.Stop(ctx)
	d.net.wg.Wait()
	d.follow()
	healthy := !d.full && d.store.Err() == nil
	if err := d.store.Close(); err != nil {
		d.t.Errorf("seed %d: close: %v", d.seed, err)
	}
	d.again()
	d.lost(time.Time{}, healthy)
}

// lost notes which copies were taken by a peer although the node has come up with them
// in its queue: they will go out again. That is the window which RFC 5321, section
// 4.2.5, leaves: a yes that the disk had not heard of yet. A restart in order has none.
func (d *day) lost(cut time.Time, healthy bool) {
	d.mu.Lock()
	window := 10 * time.Millisecond
	if time.Since(d.slowed) < time.Hour {
		window = time.Minute
	}
	for c := range d.alive() {
		all := d.arrived[c]
		if len(all) == 0 || !all[len(all)-1].read || all[len(all)-1].lost {
			continue
		}
		last := &all[len(all)-1]
		last.lost = true
		if age := cut.Sub(last.at); healthy && !d.full && age > 3*window {
			d.t.Errorf("seed %d: %s/%d arrived %s before the power went, and the node knew nothing of it", d.seed, c.id, c.rcpt, age)
		}
		if healthy && cut.IsZero() {
			d.t.Errorf("seed %d: %s/%d was forgotten by a restart in order", d.seed, c.id, c.rcpt)
		}
	}
	_, d.full = d.ends["full"]
	d.mu.Unlock()
	d.begin()
}

// alive gives the copies that the spool still has, and their states.
func (d *day) alive() map[copyOf]spool.State {
	live := map[copyOf]spool.State{}
	d.store.Spool.List(func(e spool.Entry) bool {
		for i, st := range e.States {
			if st.State != spool.Settled {
				live[copyOf{e.ID, i}] = st.State
			}
		}
		return true
	})
	return live
}

// errSilence is what a name server says that does not answer.
var errSilence = errors.New("look up MX: i/o timeout")

func (d *day) dialing(ctx context.Context, h egress.Host) error {
	d.mu.Lock()
	hole := d.ends["hole "+h.Name]
	d.mu.Unlock()
	if time.Now().After(hole) {
		return nil
	}
	select {
	case <-time.After(30 * time.Second):
		return fmt.Errorf("connect to %s: %w", h.Name, os.ErrDeadlineExceeded)
	case <-ctx.Done():
		return ctx.Err()
	}
}
