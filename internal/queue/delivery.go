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
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/stamp"
)

// delivery is one attempt for one recipient.
type delivery struct {
	q        *Queue
	w        *worker             // nil where nobody tried
	to       shaping.Destination // where w does not tell
	ref      ref
	rcpt     int
	attempts int // so far
	shared   bool
	m        *spool.Message
	r        *spool.Recipient
	body     *spool.Reader
	rt       *Routing

	judgement shaping.Judgement
	same      *shaping.Judgement // of a reply that was to this recipient as well
}

func (d *delivery) path() ledger.Path {
	return ledger.Path{Listener: d.m.Listener, Filter: d.r.Filter, Origin: d.m.Origin}
}

func (d *delivery) peer() netip.Addr {
	a, _ := netip.ParseAddr(d.m.Peer)
	return a
}

// pool is the pool that the mail leaves by: the one decided at acceptance, unless an
// operator has bound it to another.
func (d *delivery) pool() string {
	if d.w != nil && d.w.queue.site.inside == "" {
		return poolOf(d.rt, d.w.queue.pool)
	}
	return poolOf(d.rt, d.r.Pool)
}

// domain is the recipient's, in normal form.
func (d *delivery) domain() string {
	if a, err := policy.NormaliseDomain(d.r.To.Domain); err == nil {
		return a
	}
	return strings.ToLower(d.r.To.Domain)
}

// traffic is what the shaper needs to know of the attempt.
func (d *delivery) traffic() shaping.Traffic {
	t := shaping.Traffic{Pool: d.pool(), Customer: d.m.Customer, Campaign: d.m.Campaign}
	t.Domain = d.domain()
	if d.w == nil {
		t.Site, t.Provider = d.to.Site, d.to.Provider
		return t
	}
	t.Site, t.Provider = d.w.queue.site.key, d.w.of
	if d.w.way != nil {
		t.Source = d.w.way.source
	}
	if d.w.conn != nil {
		t.MX, t.Source = d.w.conn.Host.Name, d.w.conn.Source
	} else if d.w.tried != "" {
		t.MX = d.w.tried
	}
	return t
}

// stopped asks everybody who may object right before the hand-off, whatever the filters
// said: the gate, the relay guard, the suppression list, the operator and the shaper.
func (d *delivery) stopped() bool {
	if incident, held := d.q.o.Gate.Holds(d.m.Listener, d.r.Filter, d.m.Origin, d.peer(), d.pool()); held {
		d.hold("incident "+incident, &ledger.Held{Time: d.q.o.Clock.Now(), ID: d.m.ID, Recipient: d.rcpt, Path: d.path(), Reason: "incident " + incident, Incident: incident})
		return true
	}
	rcpt, err := policy.Normalise(d.r.To)
	if err != nil {
		d.fail(egress.Outcome{Status: egress.Failed, Reply: err.Error(), Code: "5.1.3"}, "")
		return true
	}
	if d.rt.Relays(policy.Origin(d.m.Origin), rcpt, d.w.queue.site.inside) && d.guarded(rcpt) {
		return true
	}
	if d.suppressed() {
		d.fail(egress.Outcome{Status: egress.Failed, Reply: "recipient is on the customer's suppression list", Code: "5.7.1"}, "suppressed")
		return true
	}
	t := d.traffic()
	t.MX = "" // of a host, connect thinks
	if b, yes := d.q.o.Shaper.Blocked(t, d.q.time.agreed()); yes {
		d.blocked(b)
		return true
	}
	return !d.enters(t)
}

func (d *delivery) suppressed() bool {
	return d.q.o.Suppressed != nil && d.m.Customer != "" && d.q.o.Suppressed(d.m.Customer, d.r.To)
}

// guarded deals with a stranger's message about to be relayed, and reports whether it
// is held.
func (d *delivery) guarded(rcpt policy.Address) bool {
	now := d.q.o.Clock.Now()
	trip := ledger.GuardTripped{Time: now, ID: d.m.ID, Recipient: d.rcpt, Address: rcpt.String(), Path: d.path(),
		Peer: d.peer(), Policy: d.m.Policy, Observed: d.rt.Observe, Host: d.domain()}
	if d.rt.Observe {
		if d.attempts == 0 {
			d.q.submit(&spool.Batch{Events: [][]byte{ledger.Encode(&trip)}})
		}
		d.q.o.OnGuard(trip)
		return false
	}
	d.hold(guardReason, &trip, &ledger.Held{Time: now, ID: d.m.ID, Recipient: d.rcpt, Path: d.path(), Reason: guardReason})
	d.q.o.OnGuard(trip)
	return true
}

// hold keeps the recipient back, durably, before anything else is done with it.
func (d *delivery) hold(reason string, events ...ledger.Event) {
	b := &spool.Batch{Changes: []spool.Change{{ID: d.m.ID, Recipient: d.rcpt, State: spool.Held, Attempts: d.attempts, Reason: reason}}}
	for _, e := range events {
		b.Events = append(b.Events, ledger.Encode(e))
	}
	if _, err := d.q.o.Store.Commit(context.WithoutCancel(d.q.ctx), b); err != nil {
		d.q.o.Log.Error("hold not recorded", "id", d.m.ID.String(), "err", err)
	}
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	it := d.q.items.at(d.ref)
	it.busy = false
	d.q.keep(it, spool.Held, reason)
}

// ended reports a connection that ended before the peer took anything of the message.
func ended(res *smtp.Result) bool {
	if res.Mail != nil {
		return res.Mail.Code == 421
	}
	return res.Err != nil && !errors.Is(res.Err, smtp.ErrNeedsUTF8)
}

// shares reports whether a recipient may be in one transaction with another of the same
// message: its copy has to be the same octet for octet, and its reverse-path too.
func (d *delivery) shares(o *delivery) bool {
	return policy.Origin(d.m.Origin) != policy.Customer && slices.Equal(d.r.Headers, o.r.Headers)
}

// mail makes the transaction for recipients that share one.
func (d *delivery) mail(all []delivery, header []byte, from smtp.Path) *smtp.Mail {
	m := &smtp.Mail{From: from, To: make([]smtp.Recipient, 0, len(all)), Header: header, Body: d.body}
	for i := range all {
		r := all[i].r
		m.To = append(m.To, smtp.Recipient{Path: r.To, RcptParams: smtp.RcptParams{Notify: r.Notify, ORcpt: r.ORcpt}})
	}
	m.EightBit, m.UTF8, m.Return, m.EnvID, m.Size = d.m.EightBit, d.m.UTF8, d.m.Return, d.m.EnvID, d.body.Size()+int64(len(header))
	return m
}

// rewind goes back to the beginning of the body.
func (d *delivery) rewind() bool {
	_, err := d.body.Seek(0, io.SeekStart)
	return err == nil
}

// stamped gives the header lines and the reverse-path of this recipient. Only mail
// of a customer is stamped: "we emitted it" and "a customer sent it" are different
// facts.
func (d *delivery) stamped() ([]byte, smtp.Path) {
	var b bytes.Buffer
	from := d.m.From
	if policy.Origin(d.m.Origin) == policy.Customer {
		token := d.q.o.Ring().Mint(stamp.Token{Message: d.m.ID, Customer: stamp.CustomerTag(d.m.Customer), Recipient: uint16(min(d.rcpt, stamp.NoRecipient-1))})
		if d.rt.ReturnPath != "" && !from.IsNull() {
			from = stamp.ReturnPath(token, d.rt.ReturnPath)
		}
		if !stamp.Stamped(d.r.Headers) { // at acceptance, where it is signed
			for _, f := range stamp.Fields(token, d.m.ID.String(), d.m.Customer, d.rt.Hostname) {
				b.WriteString(f + "\r\n")
			}
		}
	}
	for _, h := range d.r.Headers {
		b.WriteString(h + "\r\n")
	}
	return b.Bytes(), from
}

// outcome reads what became of the i-th recipient of a transaction, and the reply that
// decided it.
func outcome(res *smtp.Result, i int) (egress.Outcome, shaping.Reply) {
	one := *res
	one.Rcpt = nil
	if i < len(res.Rcpt) {
		one.Rcpt = res.Rcpt[i : i+1]
	}
	o := egress.Judge(one)
	var r *smtp.Reply
	stage := "end"
	switch {
	case one.Mail != nil && !one.Mail.Positive():
		r, stage = one.Mail, "mail"
	case len(one.Rcpt) == 1 && !one.Rcpt[0].Positive():
		r, stage = one.Rcpt[0], "rcpt"
	case one.Mail == nil:
		stage = "mail"
	case len(one.Rcpt) == 0:
		stage = "rcpt"
	case one.Data != nil:
		if r = one.Data; !one.Sent {
			stage = "data"
		}
	case !one.Sent:
		stage = "data"
	}
	reply := replyOf(o, stage)
	if r != nil {
		reply.Code, reply.Enhanced = r.Code, r.Enhanced.String()
	}
	return o, reply
}

// replyOf is what the shaper is told of an outcome without a transaction.
func replyOf(o egress.Outcome, stage string) shaping.Reply {
	r := shaping.Reply{Text: o.Reply, Stage: stage}
	// A greeting or a HELO was answered with a reply: its code stands first.
	if len(o.Reply) >= 3 && o.Reply[0] >= '2' && o.Reply[0] <= '5' && (len(o.Reply) == 3 || o.Reply[3] == ' ') {
		for _, c := range o.Reply[:3] {
			if c < '0' || c > '9' {
				return r
			}
			r.Code = 10*r.Code + int(c-'0')
		}
		r.Enhanced = o.Code
	}
	return r
}

// tooMany reports that the peer wants fewer recipients at a time (RFC 5321, section
// 4.5.3.1.10): those that it has refused are tried again at once.
func tooMany(r *smtp.Reply) bool {
	return r.Code == 452 && (r.Enhanced == smtp.EnhancedCode{4, 5, 3} || r.Enhanced == smtp.EnhancedCode{}) || r.Code == 552 && r.Enhanced == smtp.EnhancedCode{5, 5, 3}
}

// conclude asks the shaper about an outcome, makes it durable and moves the item on.
func (d *delivery) conclude(o egress.Outcome, reply shaping.Reply) {
	now := d.q.o.Clock.Now()
	t := d.traffic()
	var j shaping.Judgement
	switch {
	case d.same != nil:
		j = *d.same
		j.Actions = nil
	case !d.shared:
		j = d.q.o.Shaper.Observe(t, reply, d.q.time.agreed())
	}
	d.judgement = j
	d.attempts++
	if o.Status != egress.Delivered {
		d.judged(&o, &j, reply, t, now)
	}
	switch o.Status {
	case egress.Delivered:
		d.delivered(o, t, now, j.Actions)
	case egress.Deferred:
		d.deferred(o, j, t, now)
	default:
		d.failed(o, j.Category, t, now, j.Actions)
	}
}

// judged lets the shaper's judgement decide what the reply left open, or decided
// otherwise.
func (d *delivery) judged(o *egress.Outcome, j *shaping.Judgement, reply shaping.Reply, t shaping.Traffic, now time.Time) {
	switch {
	case j.Fate == shaping.TryAgain || j.Fate == shaping.Elsewhere:
		o.Status = egress.Deferred
	case j.Fate == shaping.Bounce:
		o.Status = egress.Failed
	}
	if j.Category == "" && d.q.o.Classify != nil {
		j.Category = d.q.o.Classify(reply, t.Provider)
	}
	if j.Suppress && d.q.o.Suppress != nil && d.m.Customer != "" {
		if err := d.q.o.Suppress(d.m.Customer, d.r.To, reply); err != nil {
			d.q.o.Log.Error("recipient not suppressed, it is tried again", "id", d.m.ID.String(), "err", err)
			o.Status = egress.Deferred
		}
	}
	if expire := d.expire(); o.Status == egress.Deferred && now.Sub(d.m.Accepted) >= expire {
		o.Status = egress.Failed
		o.Reply = "given up after " + expire.String() + ": " + o.Reply
	}
}

// limits are those of the way that was used, or of where the mail was to go.
func (d *delivery) limits() shaping.Limits {
	if d.w == nil || d.w.way == nil {
		return d.q.o.Shaper.Limits(d.traffic(), d.q.time.agreed())
	}
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	return *d.q.limitsOf(d.w.queue, d.w.way, d.q.time.now())
}

func (d *delivery) expire() time.Duration {
	if l := d.limits(); l.Expire > 0 {
		return l.Expire
	}
	return d.rt.Retry.Expire
}

// fail gives up without an attempt.
func (d *delivery) fail(o egress.Outcome, category string) {
	d.failed(o, category, d.traffic(), d.q.o.Clock.Now(), nil)
}

func (d *delivery) where() (source netip.Addr, peer netip.AddrPort, host, security string) {
	if d.w == nil || d.w.conn == nil {
		return netip.Addr{}, netip.AddrPort{}, "", ""
	}
	c := d.w.conn
	return c.Source, c.Host.Addr, c.Host.Name, c.Security()
}

func (d *delivery) delivered(o egress.Outcome, t shaping.Traffic, now time.Time, actions []shaping.Action) {
	d.counts(handedOff, "", now)
	source, peer, host, security := d.where()
	e := &ledger.HandedOff{Time: now, ID: d.m.ID, Recipient: d.rcpt, Address: d.r.To.String(), Domain: t.Domain, Path: d.path(), Policy: d.m.Policy,
		Customer: d.m.Customer, Pool: t.Pool, Source: source, Peer: peer, Host: host, TLS: security, Reply: o.Reply, Attempt: d.attempts, Seconds: now.Sub(d.m.Accepted).Seconds(),
		Site: t.Site, Provider: t.Provider, Campaign: d.m.Campaign, Subject: d.m.Subject}
	// Not waited for: a crash in this very group commit sends the message again, which
	// is better than losing it (RFC 5321, section 4.2.5).
	b := &spool.Batch{Changes: []spool.Change{{ID: d.m.ID, Recipient: d.rcpt, State: spool.Settled}}, Events: [][]byte{ledger.Encode(e)}}
	d.record(b, actions, now)
	if d.r.Notify&smtp.NotifySuccess != 0 && !d.w.conn.Has("DSN") {
		d.notify(b, "relayed", o, now) // nobody further on will (RFC 3461, section 5.2.2)
	}
	d.q.finish(b)
	d.q.forget(d.ref)
}

// next is when a recipient is tried again.
func (d *delivery) next(j shaping.Judgement, now time.Time) time.Time {
	wait := d.q.backoff(d.rt.Retry, d.attempts)
	if s := d.limits().Schedule; len(s) > 0 {
		wait = d.q.jitter(s[min(d.attempts, len(s))-1], d.rt.Retry.Jitter)
	}
	return now.Add(max(wait, j.After)).Truncate(time.Millisecond)
}

func (d *delivery) deferred(o egress.Outcome, j shaping.Judgement, t shaping.Traffic, now time.Time) {
	d.counts(deferred, o.Reply, now)
	next := d.next(j, now)
	if j.Fate == shaping.Elsewhere && j.After == 0 && d.elsewhere() {
		next = now
	}
	source, peer, host, _ := d.where()
	e := &ledger.Attempted{Time: now, ID: d.m.ID, Recipient: d.rcpt, Attempt: d.attempts, Pool: t.Pool, Source: source, Peer: peer, Host: host, Reply: o.Reply, Next: next,
		Category: j.Category, Site: t.Site, Provider: t.Provider, Campaign: d.m.Campaign}
	b := &spool.Batch{Changes: []spool.Change{{ID: d.m.ID, Recipient: d.rcpt, State: spool.Pending, Attempts: d.attempts, NotBefore: next, Reason: o.Reply}}, Events: [][]byte{ledger.Encode(e)}}
	d.record(b, j.Actions, now)
	notice := d.rt.Retry.DelayNotice
	late := notice > 0 && now.Sub(d.m.Accepted) >= notice
	q := d.q
	if late && !d.noticed() {
		d.notify(b, "delayed", o, now)
	}
	q.finish(b)
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items.at(d.ref)
	it.busy, it.at, it.attempts, it.noticed = false, millis(q.time.own(next)), uint16(min(d.attempts, 1<<16-1)), it.noticed || late
	if it.state == spool.Pending {
		q.place(d.ref, q.time.now())
	}
}

func (d *delivery) noticed() bool {
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	return d.q.items.at(d.ref).noticed
}

// elsewhere sees to it that the next attempt is made from another source of the pool,
// and reports whether there is one.
func (d *delivery) elsewhere() bool {
	if d.w == nil || d.w.way == nil {
		return false
	}
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	was, now := d.w.way.notBefore, d.q.time.now()
	d.w.way.notBefore = max(was, millis(now.Add(sourceRest)))
	if other, _ := d.q.choose(d.w.queue, now); other != nil {
		return true
	}
	d.w.way.notBefore = was
	return false
}

// failed gives a recipient up and tells the sender, in one commit.
func (d *delivery) failed(o egress.Outcome, category string, t shaping.Traffic, now time.Time, actions []shaping.Action) {
	d.counts(failed, o.Reply, now)
	source, peer, host, _ := d.where()
	e := &ledger.Bounced{Time: now, ID: d.m.ID, Recipient: d.rcpt, Path: d.path(), Source: source, Peer: peer, Host: host, Reply: o.Reply,
		Category: category, Site: t.Site, Provider: t.Provider, Campaign: d.m.Campaign, Customer: d.m.Customer}
	b := &spool.Batch{Changes: []spool.Change{{ID: d.m.ID, Recipient: d.rcpt, State: spool.Settled}}}
	e.DSN = d.notify(b, "failed", o, now)
	b.Events = append([][]byte{ledger.Encode(e)}, b.Events...)
	d.record(b, actions, now)
	if b.Message == nil {
		d.q.submit(b)
	} else if err := d.q.tell(b); err != nil {
		d.q.o.Log.Error("DSN not sent, the message is kept", "id", d.m.ID.String(), "err", err)
		if errors.Is(err, spool.ErrInDoubt) {
			d.q.holdInDoubt(d.ref, "bounce")
		} else {
			d.putOff()
		}
		return
	}
	d.q.forget(d.ref)
}

// putOff keeps a recipient that cannot be given up now, for want of room for the DSN:
// its sender would never know. What waits is tried again; what is held stays so.
func (d *delivery) putOff() {
	q, now := d.q, d.q.time.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items.at(d.ref)
	it.busy = false
	if it.state == spool.Pending {
		it.at = millis(now.Add(d.rt.Retry.First).Truncate(time.Millisecond))
		q.place(d.ref, now)
	}
}

// finish commits an outcome whose last event may be that of a notice in it. Where there
// is no room for the notice, the outcome itself still has to be kept.
func (q *Queue) finish(b *spool.Batch) {
	if b.Message == nil {
		q.submit(b)
		return
	}
	if err := q.tell(b); err != nil {
		q.o.Log.Error("notice not sent", "err", err)
		b.Message, b.Body, b.Events = nil, nil, b.Events[:len(b.Events)-1]
		q.submit(b)
	}
}

// tell makes an outcome with a message in it durable, and queues that.
func (q *Queue) tell(b *spool.Batch) error {
	_, err := q.o.Store.Commit(context.WithoutCancel(q.ctx), b)
	if err == nil {
		q.Add(b.Message)
	}
	return err
}

func (q *Queue) submit(b *spool.Batch) {
	if err := q.o.Store.Submit(b); err != nil {
		q.o.Log.Error("outcome not recorded", "err", err)
	}
}

func (q *Queue) forget(r ref) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(r)
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
	return q.jitter(time.Duration(min(d, float64(r.Max))), r.Jitter)
}

func (q *Queue) jitter(d time.Duration, share float64) time.Duration {
	var b [1]byte
	_, _ = io.ReadFull(q.o.Random, b[:])
	return time.Duration(float64(d) * (1 + share*(float64(b[0])/127.5-1))).Truncate(time.Millisecond)
}
