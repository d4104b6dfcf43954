package queue_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// mood is how a peer treats mail, in percent of each stage.
type mood struct{ busy, deferred, refused, hung, stalled, silent int }

// peer makes a host of the i-th site, which does as its mood says.
func (d *day) peer(i int) *peer {
	stage := func(yes string, percent func(mood) int, no string) string {
		time.Sleep(d.between(0, 100*time.Millisecond))
		d.mu.Lock()
		m := d.moods[i]
		x, hang, stall := d.r.IntN(100), d.r.IntN(100), d.r.IntN(1000)
		d.mu.Unlock()
		switch {
		case hang < m.hung:
			return ""
		case stall < m.stalled:
			time.Sleep(11 * time.Minute) // longer than any client waits
			return ""
		case x < percent(m):
			return no
		}
		return yes
	}
	return &peer{
		ehlo: []string{"", "PIPELINING", "PIPELINING\nDSN"}[i%3],
		mail: func(int) string {
			return stage("250 2.1.0 yes", func(m mood) int { return m.busy }, "421 4.7.0 enough")
		},
		rcpt: func(to string) string {
			if strings.HasPrefix(to, "no") {
				return "550 5.1.1 no such user"
			}
			return stage("250 2.1.5 yes", func(m mood) int { return m.deferred }, "451 4.7.1 not now")
		},
		data: func(string) string {
			return stage("354 go on", func(m mood) int { return m.deferred / 4 }, "451 4.3.0 not now")
		},
		took: func(x delivery) string {
			reply := stage("250 2.0.0 taken", func(m mood) int { return m.refused }, "554 5.7.1 not this")
			if strings.HasPrefix(reply, "250") {
				return d.take(i, x)
			}
			return reply
		},
		told: d.told,
	}
}

// name tells which copy a peer has before it.
func (d *day) name(x delivery) copyOf {
	if _, id, ok := strings.Cut(x.text, "Message-ID: <"); ok && x.from == "" {
		id, _, _ = strings.Cut(id, "@")
		if id, err := smtp.ParseID(id); err == nil {
			return copyOf{id, 0}
		}
	}
	return d.of[x.to]
}

// take notes that a copy has arrived; the peer may then not find the words.
func (d *day) take(site int, x delivery) string {
	d.mu.Lock()
	c := d.name(x)
	d.arrived[c] = append(d.arrived[c], arrival{at: time.Now()})
	silent := d.r.IntN(100) < d.moods[site].silent
	stall := silent && d.r.IntN(4) == 0
	d.mu.Unlock()
	if c == (copyOf{}) {
		d.t.Errorf("seed %d: a peer got what nobody sent: %+v", d.seed, x)
	}
	if stall {
		time.Sleep(11 * time.Minute)
	}
	if silent {
		return ""
	}
	time.Sleep(d.between(0, 50*time.Millisecond))
	return "250 2.0.0 taken"
}

// told notes that the queue has read the peer's yes.
func (d *day) told(x delivery, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if all := d.arrived[d.name(x)]; ok && len(all) > 0 {
		all[len(all)-1].read, all[len(all)-1].at = true, time.Now()
	}
}

// mischief lets something happen, or not.
func (d *day) mischief() {
	switch d.draw(60) {
	case 0, 1, 2, 3, 4, 5:
		d.mu.Lock()
		f := func(n int) int { return d.r.IntN(2) * d.r.IntN(n) }
		d.moods[d.r.IntN(len(d.moods))] = mood{busy: f(20), deferred: f(100), refused: f(10), hung: f(20), stalled: f(20), silent: f(20)}
		d.mu.Unlock()
	case 6:
		d.n.outages++
		d.outage()
	case 7:
		d.n.holes++
		d.last(fmt.Sprintf("hole mx1.d%d.example", d.draw(len(d.moods))), time.Hour)
	case 8, 9, 10:
		d.n.resets++
		d.net.reset()
	case 11:
		d.n.slow++
		d.setSyncs(d.between(time.Second, 20*time.Second))
		d.last("slow", 30*time.Minute)
	case 12:
		d.n.full++
		d.setFull(true)
		d.fs.Limit(d.fs.Used() + int64(d.draw(30_000)))
		d.last("full", 20*time.Minute)
	case 13:
		d.n.jumps++
		jump := d.between(-12*time.Hour, 3*time.Hour)
		if d.chance(50) {
			jump = d.between(-5*time.Minute, 5*time.Minute)
		}
		d.wall.jump(jump)
	case 14:
		d.restart()
	case 15, 16:
		for range 30 {
			d.client()
		}
		time.Sleep(d.between(0, time.Minute))
		d.crash()
	case 17:
		if d.chance(20) {
			d.n.syncs++
			d.fs.FailNextSync()
		}
	case 18, 19, 20:
		d.operate()
	}
}

// outage takes the name servers of one domain away, or of all.
func (d *day) outage() {
	which := d.draw(2 * len(d.moods))
	for i := range d.moods {
		if i == which || which >= len(d.moods) {
			d.last(fmt.Sprintf("dns d%d.example", i), time.Hour)
		}
	}
}

func (d *day) setSyncs(most time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs, d.slowed = most, time.Now()
}

func (d *day) setFull(yes bool) { d.mu.Lock(); defer d.mu.Unlock(); d.full = d.full || yes }

// last lets a fault last for a time of at most so long.
func (d *day) last(fault string, most time.Duration) {
	until := time.Now().Add(d.between(time.Minute, most))
	d.mu.Lock()
	d.ends[fault] = until
	d.mu.Unlock()
	if domain, ok := strings.CutPrefix(fault, "dns "); ok {
		d.net.mu.Lock()
		d.net.faults[domain] = errSilence
		d.net.mu.Unlock()
	}
}

// recover ends the faults whose time is over.
func (d *day) recover() {
	d.mu.Lock()
	var over []string
	for fault, until := range d.ends {
		if d.calm || time.Now().After(until) {
			over = append(over, fault)
			delete(d.ends, fault)
		}
	}
	d.mu.Unlock()
	for _, fault := range over {
		domain, _ := strings.CutPrefix(fault, "dns ")
		switch fault {
		case "slow":
			d.setSyncs(0)
		case "full":
			d.fs.Limit(0)
		default:
			d.net.mu.Lock()
			delete(d.net.faults, domain)
			d.net.mu.Unlock()
		}
	}
}

// heal ends all faults.
func (d *day) heal() {
	d.mu.Lock()
	d.calm = true
	clear(d.moods)
	d.mu.Unlock()
	d.recover()
	d.fs.FailNext(0)
}

// compareLedger lets the ledger's index count the same events. It is not for simulated
// time: its store has goroutines of its own.
func (d *day) compareLedger(t *testing.T) {
	l, err := ledger.Open("ledger", ledger.Options{FS: vfs.NewMem(), Cache: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Apply(d.pos, d.raw); err != nil {
		t.Fatal(err)
	}
	handed, customers := 0, map[copyOf]bool{}
	for _, c := range d.of {
		customers[c] = true
	}
	for c, e := range d.readLedger() {
		if customers[c] {
			handed += e.handed
		}
	}
	impact, err := l.Impact(t.Context(), ledger.Path{Listener: "injection", Origin: "customer"}, time.Time{}, time.Time{})
	if err != nil || impact.HandedOff != handed {
		t.Errorf("seed %d: the ledger's index counts %+v hand-offs of customers, its events %d: %v", d.seed, impact, handed, err)
	}
}

// operate lets an operator do something to a few messages.
func (d *day) operate() {
	action := []string{"hold", "release", "retry", "drop", "bounce"}[d.draw(5)]
	for _, r := range d.q.List(queue.Select{Limit: 1 + d.draw(5)}) {
		_, _ = d.q.Act(context.Background(), action, queue.Select{ID: r.ID}, "op", "")
	}
}

// ends is what the ledger says of a copy.
type ends struct{ accepted, handed, bounced, dropped int }

// verify compares queue, spool, ledger and peers, copy by copy.
func (d *day) verify() {
	d.settle()
	waiting, held := d.q.Counts()
	d.mu.Lock()
	defer d.mu.Unlock()
	says := d.readLedger()
	live := d.alive()
	if waiting+held != len(live) {
		d.t.Errorf("seed %d: the queue counts %d waiting and %d held, the spool %d", d.seed, waiting, held, len(live))
	}
	for c := range d.acked {
		if says[c] == nil {
			d.t.Errorf("seed %d: %s/%d was acknowledged, and the ledger has nothing of it", d.seed, c.id, c.rcpt)
		}
	}
	for c := range live {
		if says[c] == nil {
			d.t.Errorf("seed %d: %s/%d is in the spool, and the ledger has nothing of it", d.seed, c.id, c.rcpt)
		}
	}
	for c, e := range says {
		_, waits := live[c]
		if over := e.handed + e.bounced + e.dropped; e.accepted != 1 || over > 1 || waits == (over == 1) {
			d.t.Errorf("seed %d: %s/%d: the ledger has %+v; it waits: %v", d.seed, c.id, c.rcpt, *e, waits)
		}
	}
	for c := range d.arrived {
		d.verifyArrivals(c, says[c])
	}
}

// verifyArrivals counts the arrivals of one copy against the ledger: all but one hand-off
// were not heard of, and nothing came after a yes that was.
func (d *day) verifyArrivals(c copyOf, e *ends) {
	if e == nil {
		d.t.Errorf("seed %d: %s/%d arrived, and the ledger has nothing of it", d.seed, c.id, c.rcpt)
		return
	}
	heard := 0
	for i, a := range d.arrived[c] {
		if a.read && !a.lost {
			if heard++; i < len(d.arrived[c])-1 {
				d.t.Errorf("seed %d: %s/%d came again after the node had heard and kept the peer's yes", d.seed, c.id, c.rcpt)
			}
		}
	}
	if heard != e.handed {
		d.t.Errorf("seed %d: %s/%d: the ledger has %d hand-offs, the peers said yes %d times: %+v\n%s", d.seed, c.id, c.rcpt, e.handed, heard, d.arrived[c], d.history(c))
	}
}

// history gives the events of a copy's message.
func (d *day) history(c copyOf) string {
	var all []ledger.Event
	for _, raw := range d.raw {
		if e, err := ledger.Decode(raw); err == nil && strings.Contains(fmt.Sprintf("%+v", e), c.id.String()) {
			all = append(all, e)
		}
	}
	return describe(all)
}

// settle waits until nobody is at work and all events have been followed: it looks
// between two moments of the simulated time.
func (d *day) settle() {
	// What was promised before goes first.
	_, _ = d.store.Spool.Commit(context.Background(), &spool.Batch{})
	for deadline := time.Now().Add(time.Hour); time.Now().Before(deadline); time.Sleep(time.Second) {
		d.net.mu.Lock()
		open := d.net.open
		d.net.mu.Unlock()
		synctest.Wait()
		if open == 0 && d.pos >= d.store.Durable() {
			return
		}
	}
	d.t.Fatalf("seed %d: connections never end", d.seed)
}

// readLedger gives what the durable events say of each copy.
func (d *day) readLedger() map[copyOf]*ends {
	says := map[copyOf]*ends{}
	at := func(id smtp.ID, rcpt int) *ends {
		c := copyOf{id, rcpt}
		if says[c] == nil {
			says[c] = &ends{}
		}
		return says[c]
	}
	dsns := map[smtp.ID]bool{}
	for _, raw := range d.raw {
		e, err := ledger.Decode(raw)
		if err != nil {
			d.t.Fatalf("seed %d: event of %d octets %q: %v", d.seed, len(raw), raw, err)
		}
		switch e := e.(type) {
		case *ledger.Accepted:
			for i := range e.Decisions {
				at(e.ID, i).accepted++
			}
			dsns[e.ID] = !e.Parent.IsZero()
		case *ledger.HandedOff:
			at(e.ID, e.Recipient).handed++
		case *ledger.Bounced:
			at(e.ID, e.Recipient).bounced++
			if !dsns[e.ID] && e.DSN.IsZero() {
				d.t.Errorf("seed %d: %s/%d was bounced without a word to its sender: %s", d.seed, e.ID, e.Recipient, e.Reply)
			}
		case *ledger.Dropped:
			at(e.ID, e.Recipient).dropped++
		}
	}
	return says
}

// report writes down the sums.
func (d *day) report() {
	copies, handed, bounced, dropped, arrivals, silent, lost, twice := 0, 0, 0, 0, 0, 0, 0, 0
	for _, e := range d.readLedger() {
		copies, handed, bounced, dropped = copies+e.accepted, handed+e.handed, bounced+e.bounced, dropped+e.dropped
	}
	for _, all := range d.arrived {
		arrivals += len(all)
		twice += len(all) - 1
		for _, a := range all {
			if !a.read {
				silent++
			} else if a.lost {
				lost++
			}
		}
	}
	if arrivals != handed+silent+lost {
		d.t.Errorf("seed %d: %d arrivals are not %d hand-offs, %d unheard and %d lost answers", d.seed, arrivals, handed, silent, lost)
	}
	d.t.Logf("%d acknowledged, %d with DSNs: %d handed off, %d bounced, %d dropped; %d arrivals, %d of them again: %d answers unheard, %d lost with the power; %+v",
		len(d.acked), copies, handed, bounced, dropped, arrivals, twice, silent, lost, d.n)
}
