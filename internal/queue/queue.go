package queue

import (
	"container/heap"
	"context"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/stamp"
)

// Store keeps messages and outcomes: the spool.
type Store interface {
	NewBody() *spool.Body
	Commit(ctx context.Context, b *spool.Batch) (spool.Position, error)
	Submit(b *spool.Batch) error
	Open(id smtp.ID) (*spool.Message, *spool.Reader, error)
	Message(id smtp.ID) (*spool.Message, error)
	List(yield func(spool.Entry) bool)
}

// Transport finds hosts and makes connections.
type Transport interface {
	Hosts(ctx context.Context, domain string, v4, v6 bool) ([]egress.Host, error)
	Dial(ctx context.Context, source netip.Addr, h egress.Host) (*egress.Conn, error)
}

// Gate tells what is held back while an incident lasts.
type Gate interface {
	Holds(listener, filter, origin string, peer netip.Addr, pool string) (incident string, held bool)
}

// Clock is the time; tests turn it by hand.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}

// Routing is what the queue needs to know of the configuration in force.
type Routing struct {
	Hostname    string
	ReturnPath  string // domain of stamped reverse-paths, "" leaves them alone
	Postmaster  smtp.Path
	Pools       map[string][]netip.Addr
	DefaultPool string
	Inside      map[string]netip.AddrPort
	InsideFor   func(policy.Address) string
	Retry       Retry
	Limits      Limits
	Observe     bool // the guard only watches
	// Relays reports whether a hand-off would be relaying for a stranger.
	Relays func(origin policy.Origin, rcpt policy.Address, inside string) bool
}

// Retry is the schedule of attempts.
type Retry struct {
	First       time.Duration
	Factor      float64
	Max         time.Duration
	Jitter      float64
	Expire      time.Duration
	DelayNotice time.Duration
}

// Limits bound connections.
type Limits struct {
	Connections int
	PerSite     int
	Messages    int // on one connection
	Idle        time.Duration
}

// Options are what a Queue is made of; all but Log are required.
type Options struct {
	Store     Store
	Transport Transport
	Gate      Gate
	Routing   func() *Routing
	Ring      func() *stamp.Ring
	OnGuard   func(ledger.GuardTripped)
	Clock     Clock
	Random    io.Reader
	Log       *slog.Logger
}

// site is where mail goes: one destination by one pool.
type site struct {
	dest    string // recipient domain, or "inside:" and the host's name
	pool    string
	ready   []*item
	workers int
	idle    []chan *item // of the workers that hold a connection and wait, the latest last
	starved bool
	next    int // source to use next
}

// item is one recipient that is not done with.
type item struct {
	id       smtp.ID
	rcpt     int
	site     *site
	state    spool.State
	busy     bool
	queued   bool // in its site's ready list
	attempts int
	at       time.Time // of the next attempt
	last     time.Time // of the last attempt, for the delay notice
	index    int       // in the heap, -1 outside
	reason   string
}

type itemKey struct {
	id   smtp.ID
	rcpt int
}

type siteKey struct{ dest, pool string }

// Queue owns the delivery workers.
type Queue struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	poke   chan struct{} // the earliest retry may have changed

	mu       sync.Mutex
	stopping bool
	items    map[itemKey]*item
	sites    map[siteKey]*site
	waiting  retries
	conns    int
	starving []*site
}

// New makes a Queue; Start sets it going.
func New(o Options) *Queue {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	q := &Queue{o: o, poke: make(chan struct{}, 1), items: map[itemKey]*item{}, sites: map[siteKey]*site{}}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	return q
}

// Start takes up what the store holds and runs the clock. When it returns, stock has
// been taken, so that no message that comes in from now on is found there as well; the
// messages are read while mail already flows.
func (q *Queue) Start() {
	q.wg.Add(2)
	stock := make(chan struct{})
	go func() { defer q.wg.Done(); q.retryLoop() }()
	go func() { defer q.wg.Done(); q.load(sync.OnceFunc(func() { close(stock) })) }()
	<-stock
}

// Stop begins nothing new, lets the attempts under way end until ctx does, then breaks
// them off, and waits.
func (q *Queue) Stop(ctx context.Context) {
	q.mu.Lock()
	q.stopping = true
	for _, s := range q.sites {
		for _, w := range s.idle {
			close(w)
		}
		s.idle = nil
	}
	q.mu.Unlock()
	q.nudge()
	done := make(chan struct{})
	go func() { q.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	q.cancel()
	<-done
}

// load schedules what was there at the start. It calls taken once the list is made.
func (q *Queue) load(taken func()) {
	defer taken()
	q.o.Store.List(func(e spool.Entry) bool {
		taken()
		m, err := q.o.Store.Message(e.ID)
		if err != nil {
			q.o.Log.Error("message not queued", "id", e.ID.String(), "err", err)
			return q.ctx.Err() == nil
		}
		for i, st := range e.States {
			if st.State == spool.Settled {
				continue
			}
			q.add(m, i, st)
			if st.State == spool.Held && strings.HasPrefix(st.Reason, spool.ReasonBounce) {
				q.Bounce(e.ID, i, strings.TrimPrefix(st.Reason, spool.ReasonBounce+": "))
			}
		}
		return q.ctx.Err() == nil
	})
}

// drop forgets an item that is done with. The lock is held.
func (q *Queue) drop(it *item) {
	it.state, it.busy = spool.Settled, false
	delete(q.items, itemKey{it.id, it.rcpt})
}

// Add schedules a message that has just been committed.
func (q *Queue) Add(m *spool.Message) {
	for i := range m.Recipients {
		if r := &m.Recipients[i]; r.State != spool.Settled {
			q.add(m, i, spool.RecipientState{State: r.State, Reason: r.Reason})
		}
	}
}

func (q *Queue) add(m *spool.Message, i int, st spool.RecipientState) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := itemKey{m.ID, i}
	if q.items[k] != nil || st.Reason == spool.ReasonConsume {
		return // known already, or not for delivery
	}
	it := &item{id: m.ID, rcpt: i, state: st.State, attempts: st.Attempts, at: st.NotBefore, reason: st.Reason, index: -1, last: q.o.Clock.Now()}
	it.site = q.siteOf(&m.Recipients[i])
	q.items[k] = it
	if st.State != spool.Pending {
		return
	}
	if it.at.After(q.o.Clock.Now()) {
		q.later(it)
		return
	}
	q.enqueue(it)
}

// siteOf finds the site of a recipient. The lock is held.
func (q *Queue) siteOf(r *spool.Recipient) *site {
	k := siteKey{strings.ToLower(strings.TrimSuffix(r.To.Domain, ".")), r.Pool}
	if a, err := policy.NormaliseDomain(r.To.Domain); err == nil {
		k.dest = a
	}
	if r.Inside != "" {
		k = siteKey{"inside:" + r.Inside, ""}
	}
	s := q.sites[k]
	if s == nil {
		s = &site{dest: k.dest, pool: k.pool}
		q.sites[k] = s
	}
	return s
}

// enqueue makes an item ready and sees that somebody takes it: the worker whose
// connection was used last, so that connections nobody needs grow old and are closed.
// The lock is held.
func (q *Queue) enqueue(it *item) {
	s := it.site
	if n := len(s.idle); n > 0 {
		w := s.idle[n-1]
		s.idle = s.idle[:n-1]
		it.busy = true
		w <- it
		return
	}
	it.queued = true
	s.ready = append(s.ready, it)
	q.staff(s)
}

// staff starts a worker for a site if the limits allow one. The lock is held.
func (q *Queue) staff(s *site) {
	l := q.o.Routing().Limits
	if q.stopping || len(s.ready) == 0 || s.workers >= l.PerSite || s.workers >= len(s.ready)+s.busy() {
		return
	}
	if q.conns >= l.Connections {
		if !s.starved {
			s.starved = true
			q.starving = append(q.starving, s)
		}
		return
	}
	s.workers++
	q.conns++
	q.wg.Add(1)
	go func() { defer q.wg.Done(); q.work(s) }()
}

// busy counts the workers that have an item.
func (s *site) busy() int { return s.workers - len(s.idle) }

// leave ends a worker and lets a site that waits for one have its place. The lock is
// held.
func (q *Queue) leave(s *site) {
	s.workers--
	q.conns--
	if s.workers == 0 && len(s.ready) == 0 {
		s.next %= 1 << 20
	}
	q.staff(s)
	for len(q.starving) > 0 && q.conns < q.o.Routing().Limits.Connections {
		next := q.starving[0]
		q.starving = q.starving[1:]
		next.starved = false
		q.staff(next)
	}
}

// later puts an item on the heap of retries. The lock is held.
func (q *Queue) later(it *item) {
	heap.Push(&q.waiting, it)
	q.nudge()
}

func (q *Queue) nudge() {
	select {
	case q.poke <- struct{}{}:
	default:
	}
}

// retryLoop makes items ready when their time has come: one timer for all.
func (q *Queue) retryLoop() {
	for {
		q.mu.Lock()
		if q.stopping {
			q.mu.Unlock()
			return
		}
		now := q.o.Clock.Now()
		for len(q.waiting) > 0 && !q.waiting[0].at.After(now) {
			q.enqueue(heap.Pop(&q.waiting).(*item))
		}
		wait := time.Hour
		if len(q.waiting) > 0 {
			wait = q.waiting[0].at.Sub(now)
		}
		q.mu.Unlock()
		select {
		case <-q.poke:
		case <-q.o.Clock.After(wait):
		case <-q.ctx.Done():
			return
		}
	}
}

// retries is a heap by time.
type retries []*item

func (r retries) Len() int           { return len(r) }
func (r retries) Less(i, j int) bool { return r[i].at.Before(r[j].at) }
func (r retries) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].index, r[j].index = i, j
}

// Push implements heap.Interface.
func (r *retries) Push(x any) {
	it := x.(*item)
	it.index = len(*r)
	*r = append(*r, it)
}

// Pop implements heap.Interface.
func (r *retries) Pop() any {
	old := *r
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*r = old[:len(old)-1]
	it.index = -1
	return it
}
