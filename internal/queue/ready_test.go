package queue

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// still is a clock that stands.
type still struct{ now time.Time }

func (s still) Now() time.Time                     { return s.now }
func (still) Elapsed() time.Duration               { return 0 }
func (still) After(time.Duration) <-chan time.Time { return nil }

// nowhereNet knows every domain and reaches none.
type nowhereNet struct{}

func (nowhereNet) MX(_ context.Context, domain string) ([]string, error) {
	return []string{"mx." + domain}, nil
}
func (nowhereNet) Hosts(context.Context, string, bool, bool) ([]egress.Host, error) {
	return nil, egress.ErrNoDomain
}
func (nowhereNet) Dial(context.Context, netip.Addr, egress.Host) (*egress.Conn, error) {
	return nil, egress.ErrNoDomain
}

// bare makes a queue that starts no worker, with a site for each domain.
func bare(limit int) *Queue {
	rt := &Routing{DefaultPool: "p", Pools: map[string][]Source{"p": {{}}}, Limits: Limits{Connections: limit, PerSite: limit, Messages: 100, Idle: time.Second}, Retry: Retry{First: time.Minute, Expire: time.Hour}}
	return New(Options{Store: &made{}, Transport: nowhereNet{}, Clock: still{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, Random: rand.Reader, Routing: func() *Routing { return rt }})
}

// put adds one recipient and gives its item. The domain's site is known at once.
func (q *Queue) put(n int, m *spool.Message, domain string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	m.ID = smtp.NewID(q.o.Clock.Now(), [6]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	m.Recipients = []spool.Recipient{{To: smtp.Path{Local: "r", Domain: domain}, Pool: "p"}}
	k := domainKey{name: domain}
	d := q.byDomain[k]
	if d == nil {
		d = q.domainOf(m, &m.Recipients[0])
		d.refs--
		d.until = math.MaxInt64
		q.settle(d, &site{key: "mx." + domain})
	}
	q.admit(m, 0, spool.RecipientState{}, q.moment())
}

// TestTurns: whatever the backlog of one customer or campaign, every other one has its
// share from the first moment on.
func TestTurns(t *testing.T) {
	q := bare(0)
	n := 0
	add := func(count int, customer, campaign string, p spool.Priority) {
		for range count {
			n++
			q.put(n, &spool.Message{Origin: "customer", Customer: customer, Campaign: campaign, Priority: p}, "d.example")
		}
	}
	add(5000, "huge", "a", spool.Normal)
	for i := range 20 {
		add(30, "many", fmt.Sprint(i), spool.Normal)
	}
	add(50, "small", "", spool.Normal)
	add(400, "small", "", spool.Bulk)
	rq := q.sites["mx.d.example"].queues["p"]
	got := map[string]int{}
	take := func(k int) {
		for range k {
			for _, r := range q.pick(rq, nil) {
				f := q.flows.byNumber[q.items.at(r).flow]
				got[f.customer+" "+spool.Priority([]spool.Priority{spool.High, spool.Normal, spool.Bulk}[f.class]).String()]++
				got["campaign "+f.customer+f.campaign]++
			}
		}
	}
	take(120)
	for name, want := range map[string]int{"huge normal": 39, "many normal": 39, "small normal": 39, "small bulk": 3} {
		if d := got[name] - want; d < -1 || d > 1 {
			t.Errorf("of 120, %s had %d, want %d", name, got[name], want)
		}
	}
	for i := range 20 {
		if k := got[fmt.Sprintf("campaign many%d", i)]; k < 1 || k > 3 {
			t.Errorf("campaign %d had %d", i, k)
		}
	}
	add(1000, "reset", "", spool.High)
	clear(got)
	take(320)
	for name, want := range map[string]int{"reset high": 280, "small bulk": 10} {
		if got[name] != want {
			t.Errorf("of 320, %s had %d, want %d", name, got[name], want)
		}
	}
}

// TestTransactionsCost: who sends to many recipients at once gets no more than others.
func TestTransactionsCost(t *testing.T) {
	q := bare(0)
	n := 0
	for i := range 30 {
		q.mu.Lock()
		m := &spool.Message{Origin: "inside", Customer: "batch"}
		m.ID = smtp.NewID(q.o.Clock.Now(), [6]byte{9, byte(i)})
		for range 50 {
			m.Recipients = append(m.Recipients, spool.Recipient{To: smtp.Path{Local: "r", Domain: "d.example"}, Pool: "p"})
		}
		q.mu.Unlock()
		if i == 0 {
			n++
			q.put(n, &spool.Message{Origin: "customer", Customer: "single"}, "d.example")
		}
		q.Add(m)
	}
	for range 2000 {
		n++
		q.put(n, &spool.Message{Origin: "customer", Customer: "single"}, "d.example")
	}
	rq := q.sites["mx.d.example"].queues["p"]
	got := map[string]int{}
	for got["batch"]+got["single"] < 1000 {
		for _, r := range q.pick(rq, nil) {
			got[q.flows.byNumber[q.items.at(r).flow].customer]++
		}
	}
	if d := got["batch"] - got["single"]; d < -100 || d > 100 {
		t.Errorf("%v", got)
	}
}
