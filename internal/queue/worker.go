package queue

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// worker delivers a ready queue's items over one connection, for as long as there are
// some and the limits allow it.
type worker struct {
	q     *Queue
	queue *ready
	way   *way // nil where the pool has no sources
	conn  *egress.Conn
	tried string // the host that it tries to connect to, or tried last in vain
	lot          // what it has in hand
	next  coming
	good  bool   // the last transaction on the connection went well
	of    string // provider of the site when it took the lot

	signal   chan bool // ends its wait: true for mail, false for leaving
	since    int64     // it waits, Unix milliseconds
	fetching bool      // it is expected to come for an item
	dialing  bool

	before, behind *worker // among the idlers
}

func (w *worker) work() {
	for w.take() {
		w.attempt()
	}
	if w.conn != nil {
		_ = w.conn.Quit()
	}
	w.q.mu.Lock()
	w.q.leave(w)
	w.q.mu.Unlock()
}

// take puts the next items into the worker's hand. With a connection it waits a little
// where there are none. It reports whether the worker goes on.
func (w *worker) take() bool {
	if len(w.next.open) > 0 {
		return true
	}
	q := w.q
	q.mu.Lock()
	for {
		q.fetched(w)
		now := q.time.now()
		switch q.next(w, now) {
		case goOn:
			q.mu.Unlock()
			return true
		case goHome:
			q.mu.Unlock()
			return false
		}
		q.pause(w, now)
		q.mu.Unlock()
		if !<-w.signal {
			return false
		}
		q.mu.Lock()
	}
}

// verdict is what a worker is to do next.
type verdict uint8

const (
	goOn verdict = iota
	stay
	goHome
)

// next decides what a worker does next, and fills its hand where there is something.
// The lock is held.
func (q *Queue) next(w *worker, now time.Time) verdict {
	rq := w.queue
	w.batch = w.batch[:0]
	if q.stopping || q.o.Store.Err() != nil {
		return goHome
	}
	if w.way == nil {
		return q.fill(w)
	}
	l := q.limitsOf(rq, w.way, now)
	idle := stay
	if w.conn == nil || l.Idle <= 0 {
		idle = goHome
	}
	if w.conn != nil && (!w.conn.Usable() || w.conn.Sent >= l.MessagesPerConnection || q.yields(w)) {
		return goHome
	}
	if w.conn != nil && (rq.site.conns > l.Connections || (l.ConnectionsPerSource > 0 && w.way.conns > l.ConnectionsPerSource)) {
		return goHome // the limit has come down
	}
	if rq.n == 0 {
		return idle
	}
	if wait := q.within(w, now); wait > 0 {
		if wait > l.Idle {
			return goHome
		}
		return idle
	}
	if q.fill(w) == goHome {
		return idle
	}
	if w.conn != nil {
		rq.use(w.way, 1) // the first one was counted with the connection
	}
	w.way.sent.take(1, now)
	rq.site.messages.take(1, now)
	rq.site.rcpts.take(len(w.batch), now)
	if rq.site.thirsty == rq {
		rq.site.thirsty = nil
	}
	return goOn
}

func (q *Queue) fill(w *worker) verdict {
	if w.batch = q.pick(w.queue, w.batch); len(w.batch) == 0 {
		return goHome
	}
	w.hand, w.of = w.hand[:0], w.queue.site.provider
	for _, r := range w.batch {
		w.hand = append(w.hand, *q.items.at(r))
	}
	return goOn
}

// within tells how long a worker has to wait for the rates, and sees that its ready
// queue is looked at again then. More urgent mail of another pool goes before. The
// lock is held.
func (q *Queue) within(w *worker, now time.Time) time.Duration {
	rq, s, ms := w.queue, w.queue.site, now.UnixMilli()
	if mine := w.way.sent.wait(now); mine > 0 || w.way.notBefore > ms {
		w.way.rated = ceil(now, mine)
		at := max(w.way.rated, w.way.notBefore)
		q.alarm(rq, at)
		return max(mine, time.Duration(at-ms)*time.Millisecond)
	}
	if w.conn == nil && s.rest > ms {
		q.delay(rq, s.rest)
		return time.Duration(s.rest-ms) * time.Millisecond
	}
	if rq.notBefore > ms {
		q.alarm(rq, rq.notBefore)
		return time.Duration(rq.notBefore-ms) * time.Millisecond
	}
	wait := max(s.messages.wait(now), s.rcpts.wait(now))
	if t := s.thirsty; t != nil && t != rq && t.best() < rq.best() && s.thirst > ms {
		wait = max(wait, 10*time.Millisecond)
	}
	if wait <= 0 {
		return 0
	}
	at := ceil(now, wait)
	if t := s.thirsty; t == nil || s.thirst <= ms || rq.best() < t.best() {
		s.thirsty = rq
	}
	if s.thirsty == rq {
		s.thirst = at + 2000
	}
	rq.rated = at
	q.alarm(rq, at)
	return wait
}

// attempt tries what the worker has in hand and settles the outcomes.
func (w *worker) attempt() {
	next := w.next
	open, m := next.open, next.mail
	if w.next = (coming{}); len(open) > 0 {
		w.lot = next.lot
	} else if open = w.load(); len(open) == 0 {
		return
	}
	defer open[0].body.Close()
	defer w.leave()
	for first := true; len(open) > 0; first = false {
		if !first {
			w.countOne()
		}
		open = open[w.transact(open, m):]
		m = nil
	}
}

// load reads the message that the worker has in hand, and gives the recipients that
// nobody objects to.
func (w *worker) load() []delivery {
	q := w.q
	m, body, err := q.o.Store.Open(w.hand[0].id)
	if lacking(err) {
		w.recount(len(w.batch), 0)
		w.putBack(w.batch, err)
		return nil
	}
	if err != nil {
		for _, r := range w.batch {
			q.unreadable(r, err)
		}
		return nil
	}
	rt := q.o.Routing()
	ds := make([]delivery, 0, len(w.batch))
	for i, r := range w.batch {
		it := &w.hand[i]
		ds = append(ds, delivery{q: q, w: w, ref: r, rcpt: int(it.rcpt), attempts: int(it.attempts), m: m, r: &m.Recipients[it.rcpt], body: body, rt: rt})
	}
	open := ds[:0]
	if w.way == nil {
		q.settleAll(ds, egress.FromError(errors.New("pool "+w.queue.pool+" is not configured any more")), "connect")
	} else {
		for i := range ds {
			if !ds[i].stopped() {
				open = append(open, ds[i])
			}
		}
		w.recount(len(ds), len(open))
	}
	if len(open) == 0 {
		w.leave()
		body.Close()
	}
	return open
}

// recount takes back what was counted for recipients that were stopped before the peer
// heard of them: they use up no rate.
func (w *worker) recount(counted, left int) {
	if left == counted {
		return
	}
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	s := w.queue.site
	s.rcpts.untake(counted - left)
	if left == 0 {
		w.way.sent.untake(1)
		s.messages.untake(1)
	}
	for _, rq := range s.queues {
		rq.rated, rq.staffAfter = 0, 0 // the rates may allow something again
		for _, x := range rq.ways {
			x.rated = 0
		}
		w.q.serve(rq)
	}
}

// countOne counts one more transaction for what was taken as one message.
func (w *worker) countOne() {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	now := w.q.time.now()
	w.queue.use(w.way, 1)
	w.way.sent.take(1, now)
	w.queue.site.messages.take(1, now)
}

// transaction makes the transaction for the recipients at the beginning that can share
// one.
func transaction(ds []delivery) *smtp.Mail {
	header, from := ds[0].stamped()
	n := 1
	demand := ds[0].security()
	for n < len(ds) && ds[n].shares(&ds[0]) && ds[n].security() == demand {
		n++
	}
	return ds[0].mail(ds[:n], header, from)
}

// transact delivers to the recipients at the beginning that can share a transaction and
// gives their number. m is their transaction where it has been announced. A connection that was used before may have ended meanwhile, or
// the peer may want no more on it: that is no verdict on this message, so it is tried
// again at once on a new one.
func (w *worker) transact(open []delivery, m *smtp.Mail) int {
	if m == nil {
		m = transaction(open)
	}
	n := len(m.To)
	ds := open[:n]
	if n == len(open) {
		m.Next = w.ahead
	}
	ds[0].rewind()
	w.secure(ds[0].security())
	again := w.conn != nil
	for {
		if w.conn == nil && !w.connect(ds) {
			return n
		}
		w.conn.Sent++
		res := w.conn.Send(w.q.ctx, m)
		if again && ended(&res) {
			w.hangUp()
			again = false
			if !ds[0].rewind() {
				w.q.settleAll(ds, egress.Outcome{Status: egress.Deferred, Reply: "connection lost", Code: "4.4.2"}, "mail")
				return n
			}
			continue
		}
		if errors.Is(res.Err, spool.ErrCorrupt) {
			w.hangUp() // the peer has no end of data: it drops what it got
			for i := range ds {
				w.q.unreadable(ds[i].ref, res.Err)
			}
			return n
		}
		ds = w.fewer(ds, &res)
		w.good = true
		w.q.concludeAll(ds, func(i int) (egress.Outcome, shaping.Reply) {
			o, r := outcome(&res, i)
			w.good = w.good && o.Status == egress.Delivered
			return o, r
		})
		for i := range ds {
			w.good = w.good && len(ds[i].judgement.Actions) == 0
		}
		if !w.conn.Usable() {
			w.hangUp()
		}
		w.reconsider()
		return n
	}
}

// fewer gives back the recipients that were too many for the peer, where it has taken
// others, and drops them from the transaction and its result.
func (w *worker) fewer(ds []delivery, res *smtp.Result) []delivery {
	if len(ds) < 2 || len(res.Rcpt) != len(ds) || !slices.ContainsFunc(res.Rcpt, (*smtp.Reply).Positive) {
		return ds
	}
	kept, replies := make([]delivery, 0, len(ds)), make([]*smtp.Reply, 0, len(ds))
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	for i := len(ds) - 1; i >= 0; i-- {
		if tooMany(res.Rcpt[i]) {
			w.q.giveBack(ds[i].ref)
		}
	}
	for i := range ds {
		if !tooMany(res.Rcpt[i]) {
			kept, replies = append(kept, ds[i]), append(replies, res.Rcpt[i])
		}
	}
	res.Rcpt = replies
	return kept
}

// hangUp closes the connection without a word.
func (w *worker) hangUp() {
	_ = w.conn.Close()
	w.conn, w.good = nil, false
}

// connect finds the hosts and connects to the first that answers. Where none does, what
// the worker has in hand is concluded, and some of what else is ready shares its fate;
// the rest waits until the site has had a rest.
func (w *worker) connect(ds []delivery) bool {
	q, s := w.q, w.queue.site
	w.tried = ""
	hosts, err := w.hosts(ds[0].domain())
	if q.mu.Lock(); !w.dialing {
		w.way.opened.take(1, q.time.now()) // the first one was counted before
	}
	q.mu.Unlock()
	hosts = ds[0].preferred(hosts)
	for i, h := range hosts {
		var c *egress.Conn
		h.Security = ds[0].security()
		w.tried = h.Name
		if c, err = q.o.Transport.Dial(q.ctx, w.way.source, h); err == nil {
			w.conn, w.tried = c, ""
			if c.TLSFailure != nil {
				ds[0].told(shaping.Reply{Text: c.TLSFailure.Error(), Stage: "tls"}, h.Name)
			}
			q.answered(s, h, true)
			q.mu.Lock()
			q.connected(w)
			q.answers(s)
			q.mu.Unlock()
			return true
		}
		if q.ctx.Err() != nil {
			break
		}
		if !local(err) && !egress.Insecure(err) {
			q.answered(s, h, false)
			if i < len(hosts)-1 {
				ds[0].told(replyOf(egress.FromError(err), "connect"), h.Name)
			}
		}
	}
	if q.ctx.Err() != nil {
		q.mu.Lock()
		for i := range ds {
			q.items.at(ds[i].ref).busy = false // the spool still has it as pending
		}
		q.mu.Unlock()
		return false
	}
	w.failed(ds, err)
	return false
}

// hosts gives the addresses to try, in order.
func (w *worker) hosts(domain string) ([]egress.Host, error) {
	if name := w.queue.site.inside; name != "" {
		a, ok := w.q.o.Routing().Inside[name]
		if !ok {
			return nil, errors.New("inside host " + name + " is not configured any more")
		}
		return []egress.Host{{Name: name, Addr: a}}, nil
	}
	return w.q.hostsOf(w.q.ctx, w.queue, domain, w.way.source)
}

// local reports a fault of ours, or of one source address: it says nothing of the site.
func local(err error) bool {
	return errors.Is(err, errFamily) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE) || lacking(err)
}

// lacking reports that the node itself had nothing left to open a connection or file
// with: no descriptor, no memory. It says nothing of a source or a site.
func lacking(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ENOBUFS)
}

// lackWait is how long nothing new is opened then: it passes as soon as others are done.
const lackWait = 3 * time.Second

// putBack gives items back that could not be tried for want of what the node itself
// lacks. That is no attempt.
func (w *worker) putBack(batch []ref, err error) {
	q := w.q
	q.mu.Lock()
	q.connected(w)
	q.delay(w.queue, millis(q.time.now().Add(lackWait)))
	for i := len(batch) - 1; i >= 0; i-- {
		q.giveBack(batch[i])
	}
	q.mu.Unlock()
	q.o.Log.Error("nothing can be opened", "site", w.queue.site.key, "err", err)
}

// failed settles a connection that did not come about.
func (w *worker) failed(ds []delivery, err error) {
	q, rq, s := w.q, w.queue, w.queue.site
	if lacking(err) {
		w.recount(len(ds), 0)
		batch := make([]ref, len(ds))
		for i := range ds {
			batch[i] = ds[i].ref
		}
		w.putBack(batch, err)
		return
	}
	o := egress.FromError(err)
	now, rt := q.time.now(), q.o.Routing()
	q.mu.Lock()
	q.connected(w)
	if egress.Insecure(err) {
		q.mu.Unlock()
		q.settleAll(ds, o, "connect")
		return
	}
	if local(err) {
		// Another source may do: this one is left alone for a while.
		w.way.resting = millis(now.Add(sourceRest))
		if other, _ := q.choose(rq, now); other != nil {
			for i := range ds {
				q.giveBack(ds[i].ref)
			}
			q.mu.Unlock()
			q.o.Log.Warn("source cannot be used", "source", w.way.source.String(), "site", s.key, "err", err)
			return
		}
		q.mu.Unlock()
		q.settleAll(ds, o, "connect")
		return
	}
	s.fails++
	s.last = o.Reply
	s.rest = millis(now.Add(min(rt.Retry.First/2<<min(s.fails-1, 16), rt.Retry.Max/2)))
	q.delay(rq, s.rest)
	expire := rt.Retry.Expire
	if l := q.limitsOf(rq, w.way, now); l.Expire > 0 {
		expire = l.Expire
	}
	shared := q.sharers(rq, q.o.Clock.Now().Add(-expire))
	q.mu.Unlock()
	q.settleAll(ds, o, "connect")
	q.share(w, shaping.Destination{}, shared, o)
}

// sourceRest is how long a source address is not used that the system does not let us
// use, or that a receiver does not want.
const sourceRest = time.Minute

// sharing bounds how many recipients share the fate of one that found no host: each
// costs a record, and a site may have millions waiting. Those whose time is over all do.
const (
	sharing = 1000
	ending  = 50_000
)

// sharers takes ready items in hand that are to share a fate. The lock is held.
func (q *Queue) sharers(rq *ready, over time.Time) (mine []item) {
	for old := false; rq.n > 0 && (len(mine) < sharing || old && len(mine) < ending); {
		for _, r := range q.pick(rq, nil) {
			it := *q.items.at(r)
			it.next = r // itself: nobody needs its neighbour
			mine = append(mine, it)
			old = it.id.Time().Before(over)
		}
	}
	return mine
}

// share gives items in hand the outcome of another's attempt, that of a worker or none:
// then their destination is given. Its schedule and its end hold for them too.
func (q *Queue) share(w *worker, to shaping.Destination, items []item, o egress.Outcome) {
	rt := q.o.Routing()
	for i := range items {
		it := &items[i]
		m, err := q.o.Store.Message(it.id)
		if err != nil {
			q.unreadable(it.next, err)
			continue
		}
		d := delivery{q: q, w: w, to: to, ref: it.next, rcpt: int(it.rcpt), attempts: int(it.attempts), m: m, r: &m.Recipients[it.rcpt], rt: rt, shared: true}
		d.conclude(o, replyOf(o, "connect"))
	}
}

// settleAll gives one outcome to several deliveries.
func (q *Queue) settleAll(ds []delivery, o egress.Outcome, stage string) {
	q.concludeAll(ds, func(int) (egress.Outcome, shaping.Reply) { return o, replyOf(o, stage) })
}

// concludeAll settles several deliveries. One reply to all of them is one reply: the
// shaper is told of it once.
func (q *Queue) concludeAll(ds []delivery, outcome func(i int) (egress.Outcome, shaping.Reply)) {
	var last shaping.Reply
	for i := range ds {
		o, reply := outcome(i)
		if i > 0 && o.Status != egress.Delivered && reply == last && reply.Stage != "rcpt" {
			ds[i].same = &ds[i-1].judgement
		}
		ds[i].conclude(o, reply)
		last = reply
	}
}

// giveBack puts an item that is in hand back to the front of its lane. The lock is held.
func (q *Queue) giveBack(r ref) {
	it := q.items.at(r)
	it.busy = false
	d := q.domains[it.domain]
	if d.site == nil || it.state != spool.Pending {
		return
	}
	f := q.flows.byNumber[it.flow]
	rq := q.queueOf(d.site, f)
	q.stand(q.laneOf(rq, f), r, true)
	q.serve(rq)
}

// unreadable deals with a message that the spool cannot give: it stays where it is
// and is reported; nothing of it is sent.
func (q *Queue) unreadable(r ref, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items.at(r)
	q.o.Log.Error("message cannot be read, it stays in the spool", "id", it.id.String(), "err", err)
	it.busy = false
	if errors.Is(err, spool.ErrUnknown) {
		q.drop(r)
		return
	}
	q.keep(it, spool.Held, "spool: "+err.Error())
}

// blocked puts an item aside that may not go now: its lane waits where the block is
// about more than itself.
func (d *delivery) blocked(b shaping.Block) {
	q := d.q
	at := q.until(b)
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items.at(d.ref)
	rq := d.w.queue
	switch b.Scope {
	case "domain", "message":
		it.busy, it.at = false, at
		q.wheel.add(d.ref)
		nudge(q.poke)
		return
	case "customer", "campaign":
		ln := q.laneOf(rq, q.flows.byNumber[it.flow])
		rq.block(ln, true, at)
		q.unblockAt(rq, at)
	case "source":
		d.w.way.notBefore = at
	default:
		rq.notBefore = at
		q.alarm(rq, at)
	}
	q.giveBack(d.ref)
}
