package queue

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/shaping"
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
	State(id smtp.ID) ([]spool.RecipientState, error)
	// Err tells that outcomes cannot be kept any more: nothing new is tried then, since
	// what is delivered would be delivered again after a restart.
	Err() error
	// Stock yields the live messages as they stood when it was called, with their
	// envelopes where these are cheap to come by. Their memory may be used again once
	// yield has returned.
	Stock(yield func(spool.Entry) bool)
}

// Transport finds hosts and makes connections.
type Transport interface {
	// MX gives the names of a domain's mail exchangers, in the order in which to try them.
	MX(ctx context.Context, domain string) ([]string, error)
	Hosts(ctx context.Context, domain string, v4, v6 bool) ([]egress.Host, error)
	Dial(ctx context.Context, source netip.Addr, h egress.Host) (*egress.Conn, error)
}

// Shaper says how fast mail may go where, and what a reply sets off. It is asked often
// and from any goroutine, and must not call the queue. The times are times of day.
type Shaper interface {
	// Resolve gives a recipient domain its site and provider.
	Resolve(domain string, mx []string) shaping.Destination
	// Limits gives what binds the traffic of a site, pool and source now; zero parts
	// leave it to Routing.Limits. An answer is kept for a second.
	Limits(t shaping.Traffic, now time.Time) shaping.Limits
	// Blocked reports whether traffic is suspended or backs off. It is asked with and
	// without customer, campaign and domain.
	Blocked(t shaping.Traffic, now time.Time) (shaping.Block, bool)
	// Enter asks leave for one message to go now, of what throttles its pool, customer or
	// campaign. The Pass is given back when the attempt is over.
	Enter(t shaping.Traffic, now time.Time) (shaping.Pass, shaping.Block, bool)
	// Observe is told of each attempt.
	Observe(t shaping.Traffic, r shaping.Reply, now time.Time) shaping.Judgement
	// ClockSet is told that the time of day was set forward, or back where by is below 0.
	ClockSet(by time.Duration)
}

// Gate tells what is held back while an incident lasts.
type Gate interface {
	Holds(listener, filter, origin string, peer netip.Addr, pool string) (incident string, held bool)
}

// Source is an address of a pool. Weight is its share of the pool's messages; 0 means
// 1, and below 0 it is not used.
type Source struct {
	Addr   netip.Addr
	Weight int
}

// Routing is what the queue needs to know of the configuration in force. It never
// changes.
type Routing struct {
	Hostname    string
	ReturnPath  string // domain of stamped reverse-paths, "" leaves them alone
	Postmaster  smtp.Path
	Pools       map[string][]Source
	DefaultPool string
	Inside      map[string]netip.AddrPort
	InsideFor   func(policy.Address) string
	Retry       Retry
	Limits      Limits
	Observe     bool // the guard only watches
	// Relays reports whether a hand-off would be relaying for a stranger.
	Relays func(origin policy.Origin, rcpt policy.Address, inside string) bool
	// Sign gives the fields with which a message of Postern's own is signed, to stand before
	// it, and their marks for the ledger; nil signs nothing.
	Sign func(message []byte, now time.Time) (fields [][]byte, marks []string, err error)
	// TLS gives what mail to a domain is to be protected with; nil, and nil from it, is
	// what the peer offers. The same pointer is the same demand.
	TLS func(domain string) *egress.Security
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

// Limits bound connections. All but Connections hold where the Shaper says nothing.
type Limits struct {
	Connections int
	PerSite     int
	Messages    int // on one connection
	Idle        time.Duration
}

// Options are what a Queue is made of; those from Shaper on may be left out.
type Options struct {
	Store     Store
	Transport Transport
	Gate      Gate
	Routing   func() *Routing
	Ring      func() *stamp.Ring
	OnGuard   func(ledger.GuardTripped)
	Clock     Clock
	Random    io.Reader
	Shaper    Shaper // Plain
	Log       *slog.Logger
	// Suppressed reports whether a customer's mail to a recipient is not to be tried.
	Suppressed func(customer string, rcpt smtp.Path) bool
	// Suppress is told of recipients that a reply says never to try again. Where it fails
	// they are tried again, so that the reply comes once more.
	Suppress func(customer string, rcpt smtp.Path, r shaping.Reply) error
	// Classify names the category of a failure where the Shaper's rules do not.
	Classify func(r shaping.Reply, provider string) string
	// Orders gives what operators ordered in the past, oldest first.
	Orders iter.Seq[ledger.Admin]
}

// Queue owns the delivery workers.
//
// One lock guards all that schedules. It is held for a few hundred nanoseconds at a
// time, some four times for each message, and never while anything waits: work on many
// items is cut into pieces.
type Queue struct {
	o       Options
	time    span
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	poke    chan struct{} // the earliest retry may have changed
	ring    chan struct{} // the earliest alarm may have changed
	leaving chan struct{} // closed when Stop begins

	mu       sync.Mutex
	stopping bool
	items    arena
	waiting  int // recipients
	held     int
	tally    tally
	wheel    wheel
	flows    flows
	reasons  words

	byDomain    map[domainKey]*domain
	domains     []*domain
	freeDomains []uint32
	asked       []*domain
	askers      int

	sites     map[string]*site
	lanes     []*lane
	freeLanes []uint32
	alarms    alarms
	conns     int
	line      waitingLine // ready queues that wait for any connection to end
	idle      idlers

	ordering   sync.Mutex // one order at a time; taken before mu
	orders     orders
	parked     list
	reconsider bool
}

// New makes a Queue; Start sets it going.
func New(o Options) *Queue {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Shaper == nil {
		o.Shaper = Plain{}
	}
	q := &Queue{o: o, poke: make(chan struct{}, 1), ring: make(chan struct{}, 1), leaving: make(chan struct{}), byDomain: map[domainKey]*domain{}, sites: map[string]*site{}}
	q.time.begin(o.Clock)
	q.wheel.a, q.wheel.now = &q.items, millis(q.time.now())
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.restore()
	return q
}

// Start takes up what the store holds and runs the clock. When it returns, stock has
// been taken, so that no message that comes in from now on is found there as well; the
// messages are read while mail already flows.
func (q *Queue) Start() {
	q.wg.Add(4)
	stock := make(chan struct{})
	go func() { defer q.wg.Done(); q.retryLoop() }()
	go func() { defer q.wg.Done(); q.alarmLoop() }()
	go func() { defer q.wg.Done(); q.clockLoop() }()
	go func() { defer q.wg.Done(); q.load(sync.OnceFunc(func() { close(stock) })) }()
	<-stock
}

// Stop begins nothing new, lets the attempts under way end until ctx does, then breaks
// them off, and waits.
func (q *Queue) Stop(ctx context.Context) {
	q.mu.Lock()
	if !q.stopping {
		close(q.leaving)
	}
	q.stopping = true
	for q.idle.first != nil {
		q.call(q.idle.first, false)
	}
	q.mu.Unlock()
	nudge(q.poke)
	nudge(q.ring)
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
	at, n := q.moment(), 0
	q.o.Store.Stock(func(e spool.Entry) bool {
		taken()
		if n++; n%steps == 0 {
			at = q.moment()
		}
		m := e.Message
		if m == nil {
			var err error
			if m, err = q.o.Store.Message(e.ID); err != nil {
				q.o.Log.Error("message not queued", "id", e.ID.String(), "err", err)
				return q.ctx.Err() == nil
			}
		}
		q.add(m, e.States, at)
		for i, st := range e.States {
			if st.State == spool.Held && strings.HasPrefix(st.Reason, spool.ReasonBounce) {
				q.Bounce(e.ID, i, strings.TrimPrefix(st.Reason, spool.ReasonBounce+": "))
			}
		}
		return q.ctx.Err() == nil
	})
}

// Add schedules a message that has just been committed.
func (q *Queue) Add(m *spool.Message) { q.add(m, nil, q.moment()) }

// moment is a time, and by how much the time of day is ahead of it.
type moment struct {
	now   time.Time
	ahead time.Duration
}

func (q *Queue) moment() moment { return moment{q.time.now(), q.time.ahead()} }

// add schedules what is left of a message: as it was accepted where states is nil.
func (q *Queue) add(m *spool.Message, states []spool.RecipientState, at moment) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range m.Recipients {
		st := spool.RecipientState{State: m.Recipients[i].State, Reason: m.Recipients[i].Reason}
		if states != nil {
			st = states[i]
		}
		// What the gateway consumes or bounces is not for delivery.
		if st.State == spool.Settled || st.Reason == spool.ReasonConsume || strings.HasPrefix(st.Reason, spool.ReasonBounce) {
			continue
		}
		q.admit(m, i, st, at)
	}
}

// admit takes one recipient up. The lock is held.
func (q *Queue) admit(m *spool.Message, i int, st spool.RecipientState, at moment) ref {
	if r := q.items.find(m.ID, i); r != 0 {
		return 0 // known already
	}
	r := q.items.add(m.ID, i)
	it := q.items.at(r)
	it.state, it.attempts = st.State, uint16(min(st.Attempts, 1<<16-1))
	if !st.NotBefore.IsZero() {
		it.at = millis(st.NotBefore.Add(-at.ahead))
	}
	d, k := q.domainOf(m, &m.Recipients[i]), keyOf(m, &m.Recipients[i])
	if len(q.orders.moves) > 0 {
		k = q.rebound(m, k, d)
	}
	it.domain, it.flow = d.number, q.flows.take(k).number
	if d.site == nil {
		q.look(d) // whatever waits or is held: operators choose by site
	}
	// A notice of the delay that was due before is not sent now: it may have been already.
	notice := q.o.Routing().Retry.DelayNotice
	it.noticed = st.Attempts > 0 && notice > 0 && at.now.Add(at.ahead).Sub(m.Accepted) >= notice
	if st.State == spool.Held {
		it.reason = q.reasons.take(st.Reason)
		q.held++
		return r
	}
	q.waiting++
	q.tally.came(q.o.Clock.Now())
	q.place(r, at.now)
	return r
}

// place puts an item that is pending where it belongs: into the wheel, or among those
// that are ready. The lock is held.
func (q *Queue) place(r ref, now time.Time) {
	if it := q.items.at(r); it.at > now.UnixMilli() {
		q.wheel.add(r)
		if next, _ := q.wheel.next(); next == it.at {
			nudge(q.poke)
		}
		return
	}
	q.enqueue(r)
}

// enqueue makes an item ready and sees that somebody takes it. The lock is held.
func (q *Queue) enqueue(r ref) {
	it := q.items.at(r)
	d := q.domains[it.domain]
	if d.site == nil || (d.until < millis(q.time.now()) && d.inside == "") {
		q.look(d)
	}
	if d.site == nil {
		it.place = inDomain
		q.items.push(&d.waiting, r)
		return
	}
	f := q.flows.byNumber[it.flow]
	rq := q.queueOf(d.site, f)
	q.stand(q.laneOf(rq, f), r, false)
	if it.attempts == 0 {
		rq.tally.came(q.o.Clock.Now())
	}
	q.serve(rq)
}

// unlink takes an item out of the list that it stands in. The lock is held.
func (q *Queue) unlink(r ref) {
	it := q.items.at(r)
	switch it.place {
	case inLane:
		q.unline(r)
	case inWheel:
		q.wheel.remove(r)
	case inDomain:
		q.items.remove(&q.domains[it.domain].waiting, r)
	case inParked:
		q.items.remove(&q.parked, r)
	}
	it.place = nowhere
}

// drop forgets an item that is done with and stands in no list. The lock is held.
func (q *Queue) drop(r ref) {
	it := q.items.at(r)
	if it.state == spool.Held {
		q.held--
	} else {
		q.waiting--
	}
	q.reasons.give(it.reason)
	q.flows.give(it.flow)
	q.domains[it.domain].refs--
	q.items.drop(r)
}

// keep puts an item on hold, or ends that. The lock is held.
func (q *Queue) keep(it *item, s spool.State, reason string) {
	if it.state != s {
		if s == spool.Held {
			q.held, q.waiting = q.held+1, q.waiting-1
		} else {
			q.held, q.waiting = q.held-1, q.waiting+1
		}
	}
	q.reasons.give(it.reason)
	it.reason, it.state = 0, s
	if s == spool.Held {
		it.reason = q.reasons.take(reason)
	}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// steps is how many items are moved while the lock is held.
const steps = 2048

// retryLoop makes items ready when their time has come: one timer for all.
func (q *Queue) retryLoop() {
	for {
		q.mu.Lock()
		if q.stopping {
			q.mu.Unlock()
			return
		}
		now := q.time.now()
		done := q.wheel.turn(now.UnixMilli(), steps, q.enqueue)
		wait := time.Hour
		if next, ok := q.wheel.next(); ok {
			wait = fromMillis(next).Sub(now)
		}
		q.mu.Unlock()
		if !done {
			continue
		}
		select {
		case <-q.poke:
		case <-q.o.Clock.After(wait):
		case <-q.ctx.Done():
			return
		}
	}
}

// sweepEvery is how often what is not needed any more is looked for.
const sweepEvery = 5 * time.Minute

// alarmLoop looks at ready queues when something may have become possible, or a
// connection too old: one timer for all.
func (q *Queue) alarmLoop() {
	swept := q.time.now()
	for {
		q.mu.Lock()
		if q.stopping {
			q.mu.Unlock()
			return
		}
		now, day := q.time.now(), q.time.agreed()
		for rq := q.alarms.due(now.UnixMilli()); rq != nil; rq = q.alarms.due(now.UnixMilli()) {
			q.rouse(rq, now)
		}
		if q.orders.expire(day) {
			q.reapply()
		}
		if q.reconsider {
			q.reconsidered()
		}
		wait := swept.Add(sweepEvery).Sub(now)
		if end := q.orders.next(); !end.IsZero() {
			wait = min(wait, end.Sub(day))
		}
		if len(q.alarms) > 0 {
			wait = min(wait, fromMillis(q.alarms[0].wake).Sub(now))
		}
		q.mu.Unlock()
		if !now.Before(swept.Add(sweepEvery)) {
			q.sweep()
			swept = now
			continue
		}
		select {
		case <-q.ring:
		case <-q.o.Clock.After(wait):
		case <-q.ctx.Done():
			return
		}
	}
}

// unblockAt looks at the lanes of a ready queue again at a time. The lock is held.
func (q *Queue) unblockAt(rq *ready, at int64) {
	if at != 0 && (rq.unblock == 0 || at < rq.unblock) {
		rq.unblock = at
		q.alarm(rq, at)
	}
}

// rouse does what is due for a ready queue. The lock is held.
func (q *Queue) rouse(rq *ready, now time.Time) {
	ms := now.UnixMilli()
	if rq.unblock != 0 && rq.unblock <= ms {
		rq.unblock = 0
		for _, ln := range rq.lanes {
			if ln.blocked && ln.until != 0 && ln.until <= ms {
				rq.block(ln, q.suspends(rq, ln.flow), 0)
			} else if ln.blocked {
				q.unblockAt(rq, ln.until)
			}
		}
	} else if rq.unblock != 0 {
		q.alarm(rq, rq.unblock)
	}
	for i := 0; i < len(rq.idle); {
		w := rq.idle[i]
		if old := w.since + w.way.limits.Idle.Milliseconds(); old > ms {
			q.alarm(rq, old)
			i++
			continue
		}
		q.call(w, false)
	}
	q.serve(rq)
}
