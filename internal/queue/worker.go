package queue

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/stamp"
)

// work delivers a site's items over one connection at a time, for as long as there
// are some.
func (q *Queue) work(s *site) {
	var c *egress.Conn
	defer func() {
		if c != nil {
			_ = c.Quit()
		}
		q.mu.Lock()
		q.leave(s)
		q.mu.Unlock()
	}()
	for {
		it := q.take(s, c != nil)
		if it == nil {
			return
		}
		c = q.attempt(it, c)
	}
}

// take gives the next ready item; with a connection in hand it waits a little for
// one.
func (q *Queue) take(s *site, connected bool) *item {
	q.mu.Lock()
	if q.stopping {
		q.mu.Unlock()
		return nil
	}
	for len(s.ready) > 0 {
		it := s.ready[0]
		s.ready[0] = nil
		s.ready = s.ready[1:]
		it.queued = false
		if it.busy || it.state != spool.Pending {
			continue // held, dropped or claimed while it was ready
		}
		it.busy = true
		q.mu.Unlock()
		return it
	}
	idle := q.o.Routing().Limits.Idle
	if !connected || idle <= 0 {
		q.mu.Unlock()
		return nil
	}
	w := make(chan *item, 1)
	s.idle = append(s.idle, w)
	q.mu.Unlock()
	return q.await(s, w, idle)
}

// await waits for an item that is handed over; nil when there was none in time, or
// when the queue stops.
func (q *Queue) await(s *site, w chan *item, idle time.Duration) *item {
	select {
	case it := <-w:
		return it
	case <-q.o.Clock.After(idle):
	case <-q.ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(s.idle, w); i >= 0 {
		s.idle = slices.Delete(s.idle, i, i+1)
		return nil
	}
	return <-w // handed over at the last moment, or closed
}

// attempt tries one item and settles the outcome; it gives the connection back for
// the next one, or nil.
func (q *Queue) attempt(it *item, c *egress.Conn) *egress.Conn {
	m, body, err := q.o.Store.Open(it.id)
	if err != nil {
		q.unreadable(it, err)
		return c
	}
	defer body.Close()
	rt := q.o.Routing()
	d := &delivery{q: q, it: it, m: m, r: &m.Recipients[it.rcpt], body: body, rt: rt}
	if d.stopped() {
		return c
	}
	if c != nil && (!c.Usable() || c.Sent >= rt.Limits.Messages) {
		_ = c.Quit()
		c = nil
	}
	c, res := d.transact(q.ctx, c)
	if c == nil {
		return nil
	}
	if errors.Is(res.Err, spool.ErrCorrupt) {
		_ = c.Close() // the peer has no end of data: it drops what it got
		q.unreadable(it, res.Err)
		return nil
	}
	d.conclude(egress.Judge(res))
	if !c.Usable() {
		_ = c.Close()
		return nil
	}
	return c
}

// unreadable deals with a message that the spool cannot give: it stays where it is
// and is reported; nothing of it is sent.
func (q *Queue) unreadable(it *item, err error) {
	q.o.Log.Error("message cannot be read, it stays in the spool", "id", it.id.String(), "err", err)
	q.mu.Lock()
	defer q.mu.Unlock()
	it.busy = false
	if errors.Is(err, spool.ErrUnknown) {
		q.drop(it)
		return
	}
	it.state, it.reason = spool.Held, "spool: "+err.Error()
}

// delivery is one attempt for one recipient.
type delivery struct {
	q    *Queue
	it   *item
	m    *spool.Message
	r    *spool.Recipient
	body *spool.Reader
	rt   *Routing
	conn *egress.Conn
}

func (d *delivery) path() ledger.Path {
	return ledger.Path{Listener: d.m.Listener, Filter: d.r.Filter, Origin: d.m.Origin}
}

func (d *delivery) peer() netip.Addr {
	a, _ := netip.ParseAddr(d.m.Peer)
	return a
}

// pool is the pool that the mail leaves by.
func (d *delivery) pool() string {
	if d.r.Pool == "" {
		return d.rt.DefaultPool
	}
	return d.r.Pool
}

// stopped asks the gate and the relay guard, right before the hand-off and whatever
// the filters said.
func (d *delivery) stopped() bool {
	if incident, held := d.q.o.Gate.Holds(d.m.Listener, d.r.Filter, d.m.Origin, d.peer(), d.pool()); held {
		d.hold("incident "+incident, &ledger.Held{Time: d.q.o.Clock.Now(), ID: d.m.ID, Recipient: d.it.rcpt, Path: d.path(), Reason: "incident " + incident, Incident: incident})
		return true
	}
	rcpt, err := policy.Normalise(d.r.To)
	if err != nil {
		d.conclude(egress.Outcome{Status: egress.Failed, Reply: err.Error(), Code: "5.1.3"})
		return true
	}
	if !d.rt.Relays(policy.Origin(d.m.Origin), rcpt, d.r.Inside) {
		return false
	}
	now := d.q.o.Clock.Now()
	trip := ledger.GuardTripped{Time: now, ID: d.m.ID, Recipient: d.it.rcpt, Address: rcpt.String(), Path: d.path(),
		Peer: d.peer(), Policy: d.m.Policy, Observed: d.rt.Observe, Host: d.it.site.dest}
	if d.rt.Observe {
		if d.it.attempts == 0 {
			d.q.submit(&spool.Batch{Events: [][]byte{ledger.Encode(&trip)}})
		}
		d.q.o.OnGuard(trip)
		return false
	}
	d.hold(guardReason, &trip, &ledger.Held{Time: now, ID: d.m.ID, Recipient: d.it.rcpt, Path: d.path(), Reason: guardReason})
	d.q.o.OnGuard(trip)
	return true
}

// hold keeps the recipient back, durably, before anything else is done with it.
func (d *delivery) hold(reason string, events ...ledger.Event) {
	b := &spool.Batch{Changes: []spool.Change{{ID: d.m.ID, Recipient: d.it.rcpt, State: spool.Held, Attempts: d.it.attempts, Reason: reason}}}
	for _, e := range events {
		b.Events = append(b.Events, ledger.Encode(e))
	}
	if _, err := d.q.o.Store.Commit(context.WithoutCancel(d.q.ctx), b); err != nil {
		d.q.o.Log.Error("hold not recorded", "id", d.m.ID.String(), "err", err)
	}
	d.q.mu.Lock()
	d.it.state, d.it.reason, d.it.busy = spool.Held, reason, false
	d.q.mu.Unlock()
}

// connect finds the hosts and connects to the first that answers. Where none does,
// all items of the site that are ready share the fate of this one.
func (d *delivery) connect(ctx context.Context) *egress.Conn {
	hosts, source, err := d.hosts(ctx)
	var last egress.Outcome
	if err != nil {
		last = egress.FromError(err)
	}
	for _, h := range hosts {
		c, err := d.q.o.Transport.Dial(ctx, source, h)
		if err == nil {
			return c
		}
		last = egress.FromError(err)
		if ctx.Err() != nil {
			break
		}
	}
	if ctx.Err() != nil {
		d.q.mu.Lock()
		d.it.busy = false // the spool still has it as pending
		d.q.mu.Unlock()
		return nil
	}
	d.conclude(last)
	d.q.deferReady(d.it.site, last)
	return nil
}

// hosts gives the addresses to try, and the source to try them from.
func (d *delivery) hosts(ctx context.Context) ([]egress.Host, netip.Addr, error) {
	if d.r.Inside != "" {
		a, ok := d.rt.Inside[d.r.Inside]
		if !ok {
			return nil, netip.Addr{}, errors.New("inside host " + d.r.Inside + " is not configured any more")
		}
		return []egress.Host{{Name: d.r.Inside, Addr: a}}, netip.Addr{}, nil
	}
	source := d.q.source(d.it.site, d.rt.Pools[d.pool()])
	if d.r.Pool != "" && !source.IsValid() {
		return nil, source, errors.New("pool " + d.r.Pool + " is not configured any more")
	}
	hosts, err := d.q.o.Transport.Hosts(ctx, d.it.site.dest, !source.IsValid() || source.Is4(), !source.IsValid() || source.Is6())
	return hosts, source, err
}

// source takes the pool's addresses in turn.
func (q *Queue) source(s *site, pool []netip.Addr) netip.Addr {
	if len(pool) == 0 {
		return netip.Addr{}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s.next++
	return pool[s.next%len(pool)]
}

// transact runs the transaction on connection c, or on a new one where c is nil. A
// connection that was used before may have ended meanwhile, or the peer may want no
// more on it: that is no verdict on this message, so it is tried again at once on a
// new one. The connection is nil where none came about; then everything is concluded.
func (d *delivery) transact(ctx context.Context, c *egress.Conn) (*egress.Conn, smtp.Result) {
	if c != nil {
		d.conn = c
		c.Sent++
		res := d.send(ctx)
		if !ended(&res) {
			return c, res
		}
		_ = c.Close()
		d.conn = nil
	}
	if c = d.connect(ctx); c == nil {
		return nil, smtp.Result{}
	}
	d.conn = c
	c.Sent++
	return c, d.send(ctx)
}

// ended reports a connection that ended before the peer took anything of the message.
func ended(res *smtp.Result) bool {
	if res.Mail != nil {
		return res.Mail.Code == 421
	}
	return res.Err != nil && !errors.Is(res.Err, smtp.ErrNeedsUTF8)
}

// send runs the transaction.
func (d *delivery) send(ctx context.Context) smtp.Result {
	header, from := d.stamped()
	m := &smtp.Mail{From: from, To: []smtp.Recipient{{Path: d.r.To, RcptParams: smtp.RcptParams{Notify: d.r.Notify, ORcpt: d.r.ORcpt}}}, Header: header, Body: d.body}
	m.EightBit, m.UTF8, m.Return, m.EnvID, m.Size = d.m.EightBit, d.m.UTF8, d.m.Return, d.m.EnvID, d.body.Size()+int64(len(header))
	return d.conn.Send(ctx, m)
}

// stamped gives the header lines and the reverse-path of this recipient. Only mail
// of a customer is stamped: "we emitted it" and "a customer sent it" are different
// facts.
func (d *delivery) stamped() ([]byte, smtp.Path) {
	var b bytes.Buffer
	from := d.m.From
	if policy.Origin(d.m.Origin) == policy.Customer {
		token := d.q.o.Ring().Mint(stamp.Token{Message: d.m.ID, Customer: stamp.CustomerTag(d.m.Customer), Recipient: uint16(min(d.it.rcpt, stamp.NoRecipient-1))})
		if d.rt.ReturnPath != "" && !from.IsNull() {
			from = stamp.ReturnPath(token, d.rt.ReturnPath)
		}
		b.WriteString("X-Postern-Stamp: " + token + "\r\nCFBL-Feedback-ID: " + token + "\r\nFeedback-ID: " + d.m.ID.String() + ":" + feedbackWord(d.m.Customer) + ":postern:" + d.rt.Hostname + "\r\n")
	}
	for _, h := range d.r.Headers {
		b.WriteString(h + "\r\n")
	}
	return b.Bytes(), from
}

// feedbackWord keeps a customer's name within a Feedback-ID's syntax.
func feedbackWord(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, s)
}

// conclude makes an outcome durable and moves the item on.
func (d *delivery) conclude(o egress.Outcome) {
	now := d.q.o.Clock.Now()
	d.q.mu.Lock()
	d.it.attempts++ // an operator may be looking
	d.q.mu.Unlock()
	if o.Status == egress.Deferred && now.Sub(d.m.Accepted) >= d.rt.Retry.Expire {
		o.Status = egress.Failed
		o.Reply = "given up after " + d.rt.Retry.Expire.String() + ": " + o.Reply
	}
	switch o.Status {
	case egress.Delivered:
		d.delivered(o, now)
	case egress.Deferred:
		d.deferred(o, now)
	default:
		d.failed(o, now)
	}
}

func (d *delivery) where() (source netip.Addr, peer netip.AddrPort, host, security string) {
	if d.conn == nil {
		return netip.Addr{}, netip.AddrPort{}, "", ""
	}
	return d.conn.Source, d.conn.Host.Addr, d.conn.Host.Name, d.conn.Security()
}

func (d *delivery) delivered(o egress.Outcome, now time.Time) {
	source, peer, host, security := d.where()
	dest := d.it.site.dest
	if a, err := policy.Normalise(d.r.To); err == nil {
		dest = a.Domain
	}
	e := &ledger.HandedOff{Time: now, ID: d.m.ID, Recipient: d.it.rcpt, Address: d.r.To.String(), Domain: dest, Path: d.path(), Policy: d.m.Policy,
		Customer: d.m.Customer, Pool: d.pool(), Source: source, Peer: peer, Host: host, TLS: security, Reply: o.Reply, Attempt: d.it.attempts, Seconds: now.Sub(d.m.Accepted).Seconds()}
	// Not waited for: a crash in this very group commit sends the message again, which
	// is better than losing it (RFC 5321, section 4.2.5).
	b := &spool.Batch{Changes: []spool.Change{{ID: d.m.ID, Recipient: d.it.rcpt, State: spool.Settled}}, Events: [][]byte{ledger.Encode(e)}}
	if d.r.Notify&smtp.NotifySuccess != 0 && !d.conn.Has("DSN") {
		d.notify(b, "relayed", o, now) // nobody further on will (RFC 3461, section 5.2.2)
	}
	d.q.finish(b)
	d.q.forget(d.it)
}

func (d *delivery) deferred(o egress.Outcome, now time.Time) {
	next := now.Add(d.q.backoff(d.rt.Retry, d.it.attempts))
	source, peer, host, _ := d.where()
	e := &ledger.Attempted{Time: now, ID: d.m.ID, Recipient: d.it.rcpt, Attempt: d.it.attempts, Pool: d.pool(), Source: source, Peer: peer, Host: host, Reply: o.Reply, Next: next}
	b := &spool.Batch{Changes: []spool.Change{{ID: d.m.ID, Recipient: d.it.rcpt, State: spool.Pending, Attempts: d.it.attempts, NotBefore: next, Reason: o.Reply}}, Events: [][]byte{ledger.Encode(e)}}
	notice := d.rt.Retry.DelayNotice
	if age := now.Sub(d.m.Accepted); notice > 0 && age >= notice && d.it.last.Sub(d.m.Accepted) < notice {
		d.notify(b, "delayed", o, now)
	}
	d.q.finish(b)
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	d.it.last, d.it.at, d.it.reason, d.it.busy = now, next, o.Reply, false
	if d.it.state == spool.Pending {
		d.q.later(d.it)
	}
}

// failed gives a recipient up and tells the sender, in one commit.
func (d *delivery) failed(o egress.Outcome, now time.Time) {
	source, peer, host, _ := d.where()
	e := &ledger.Bounced{Time: now, ID: d.m.ID, Recipient: d.it.rcpt, Path: d.path(), Source: source, Peer: peer, Host: host, Reply: o.Reply}
	b := &spool.Batch{Changes: []spool.Change{{ID: d.m.ID, Recipient: d.it.rcpt, State: spool.Settled}}}
	e.DSN = d.notify(b, "failed", o, now)
	b.Events = append([][]byte{ledger.Encode(e)}, b.Events...)
	d.q.finish(b)
	d.q.forget(d.it)
}

// finish commits an outcome; a message in it (a DSN) is queued then.
func (q *Queue) finish(b *spool.Batch) {
	if b.Message == nil {
		q.submit(b)
		return
	}
	if _, err := q.o.Store.Commit(context.WithoutCancel(q.ctx), b); err != nil {
		// Without room for the DSN the outcome itself still has to be kept.
		q.o.Log.Error("DSN not sent", "err", err)
		b.Message, b.Body = nil, nil
		q.submit(b)
		return
	}
	q.Add(b.Message)
}

func (q *Queue) submit(b *spool.Batch) {
	if err := q.o.Store.Submit(b); err != nil {
		q.o.Log.Error("outcome not recorded", "err", err)
	}
}

func (q *Queue) forget(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(it)
}

// backoff gives the time until the next attempt: exponential, with jitter so that
// what failed together does not come back together. It is in whole milliseconds, as
// the spool keeps it.
func (q *Queue) backoff(r Retry, attempts int) time.Duration {
	d := float64(r.First)
	for range attempts - 1 {
		if d *= r.Factor; d >= float64(r.Max) {
			break
		}
	}
	d = min(d, float64(r.Max))
	var b [1]byte
	_, _ = io.ReadFull(q.o.Random, b[:])
	return time.Duration(d * (1 + r.Jitter*(float64(b[0])/127.5-1))).Truncate(time.Millisecond)
}

// deferReady gives the ready items of a site the fate of the one that found no host.
func (q *Queue) deferReady(s *site, o egress.Outcome) {
	q.mu.Lock()
	items := s.ready
	s.ready = nil
	var mine []*item
	for _, it := range items {
		it.queued = false
		if !it.busy && it.state == spool.Pending {
			it.busy = true
			mine = append(mine, it)
		}
	}
	q.mu.Unlock()
	rt := q.o.Routing()
	for _, it := range mine {
		m, err := q.o.Store.Message(it.id)
		if err != nil {
			q.unreadable(it, err)
			continue
		}
		d := &delivery{q: q, it: it, m: m, r: &m.Recipients[it.rcpt], rt: rt}
		d.conclude(o)
	}
}
