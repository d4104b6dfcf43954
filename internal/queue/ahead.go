package queue

import (
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/smtp"
)

// lot is what a worker has in hand.
type lot struct {
	batch []ref
	hand  []item         // as they were when it took them
	pass  []shaping.Pass // of those through throttles of their pool, customer or campaign
}

// coming is what a worker has taken in hand while the transaction before is under way:
// its commands go out together with the end of that one's data, which saves a write, a
// read and a turn of waiting at both ends.
type coming struct {
	lot
	open []delivery // shares no memory with what is under way
	mail *smtp.Mail // nil where it was not announced
}

// ahead takes the next items in hand and gives what is to be announced of them. Only
// what would have to wait in any case is taken: urgent mail is not bound to a connection
// that is not free yet, and nothing is announced to a peer that did not take the last
// message.
func (w *worker) ahead() *smtp.Mail {
	q, rq := w.q, w.queue
	under := w.lot // way: it keeps its own
	w.lot = lot{}
	defer func() { w.next.lot, w.lot = w.lot, under }()
	q.mu.Lock()
	taken := w.good && rq.n > rq.fetching && rq.best() != high && q.next(w, q.time.now()) == goOn
	q.mu.Unlock()
	if !taken {
		return nil
	}
	if w.next.open = w.load(); len(w.next.open) == 0 {
		return nil
	}
	m := transaction(w.next.open)
	if !w.conn.Takes(m) || !w.conn.Meets(w.next.open[0].security()) {
		return nil // it is a matter for another connection, or for none
	}
	w.next.mail = m
	return m
}

// reconsider asks once more about what has been announced where the message before it
// was not taken, or set something off: that binds the very next message. What may not
// go is given back, and the connection ended that waits for its data.
func (w *worker) reconsider() {
	if len(w.next.open) == 0 || w.conn != nil && w.good && w.q.o.Store.Err() == nil {
		return
	}
	q := w.q
	q.mu.Lock()
	may := w.conn != nil && q.o.Store.Err() == nil && q.may(w)
	q.mu.Unlock()
	open := w.next.open
	for i := range open {
		may = may && !open[i].objected()
	}
	if may {
		return
	}
	if w.conn != nil {
		w.hangUp()
	}
	q.mu.Lock()
	for i := len(open) - 1; i >= 0; i-- {
		q.giveBack(open[i].ref)
	}
	q.mu.Unlock()
	open[0].body.Close()
	under := w.lot
	w.lot, w.next = w.next.lot, coming{}
	w.recount(len(open), 0)
	w.leave()
	w.lot = under
}

// objected reports whether something holds a recipient back that a reply can have set
// off. When it is taken in hand again, stopped says what becomes of it.
func (d *delivery) objected() bool {
	t := d.traffic()
	t.MX = ""
	_, blocked := d.q.o.Shaper.Blocked(t, d.q.time.agreed())
	return blocked || d.suppressed()
}

// may reports whether a worker could come for mail now, but for the rates, in which what
// it has in hand is counted already. The lock is held.
func (q *Queue) may(w *worker) bool {
	now := q.time.now()
	ms, s, l := now.UnixMilli(), w.queue.site, q.limitsOf(w.queue, w.way, now)
	return max(w.way.notBefore, w.way.resting, w.queue.notBefore, s.rest) <= ms && s.conns <= l.Connections &&
		(l.ConnectionsPerSource <= 0 || w.way.conns <= l.ConnectionsPerSource) && !q.yields(w)
}
