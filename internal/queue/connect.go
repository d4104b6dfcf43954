package queue

import (
	"slices"
	"time"
)

// waitingLine is the ready queues that wait for a connection of others to end, by class.
type waitingLine struct {
	of    [classes][]*ready
	which int // 0 that of the queue, 1 that of a site
}

// join puts a ready queue at the end of its class, once.
func (l *waitingLine) join(rq *ready, c class) {
	if c < classes && !rq.inLine[l.which][c] {
		rq.inLine[l.which][c] = true
		l.of[c] = append(l.of[c], rq)
	}
}

// first gives the ready queue whose turn it is, and takes it off where take is true.
// Those that want nothing any more leave.
func (l *waitingLine) first(take bool) (*ready, class) {
	for c := range classes {
		for len(l.of[c]) > 0 {
			rq := l.of[c][0]
			wants := rq.classes[c].n > 0 && rq.n > rq.fetching
			if wants && !take {
				return rq, c
			}
			l.of[c] = l.of[c][1:]
			rq.inLine[l.which][c] = false
			if wants {
				return rq, c
			}
		}
	}
	return nil, classes
}

// idlers is the workers that wait for mail with a connection in hand, of all sites, the
// one that has waited longest first.
type idlers struct{ first, last *worker }

func (l *idlers) add(w *worker) {
	w.before, w.behind = l.last, nil
	if l.last != nil {
		l.last.behind = w
	} else {
		l.first = w
	}
	l.last = w
}

func (l *idlers) remove(w *worker) {
	if w.before != nil {
		w.before.behind = w.behind
	} else {
		l.first = w.behind
	}
	if w.behind != nil {
		w.behind.before = w.before
	} else {
		l.last = w.before
	}
	w.before, w.behind = nil, nil
}

// call ends a worker's wait: it goes on, or else it leaves. The lock is held.
func (q *Queue) call(w *worker, goOn bool) {
	rq := w.queue
	rq.idle = slices.DeleteFunc(rq.idle, func(x *worker) bool { return x == w })
	q.idle.remove(w)
	if goOn {
		w.fetching = true
		rq.fetching++
	}
	w.signal <- goOn
}

// pause lets a worker wait for mail with its connection. The lock is held.
func (q *Queue) pause(w *worker, now time.Time) {
	w.since = now.UnixMilli()
	w.queue.idle = append(w.queue.idle, w)
	q.idle.add(w)
	q.alarm(w.queue, w.since+w.way.limits.Idle.Milliseconds())
}

// serve sees that what is ready is taken: by a worker that waits, the one whose
// connection was used last, so that connections nobody needs grow old and are closed;
// or by a new one. The lock is held.
func (q *Queue) serve(rq *ready) {
	if rq.n <= rq.fetching || q.stopping || q.o.Store.Err() != nil {
		return
	}
	now := q.time.now()
	ms := now.UnixMilli()
	if at := max(rq.notBefore, rq.rated); at > ms {
		q.alarm(rq, at)
		return
	}
	for i := len(rq.idle) - 1; i >= 0 && rq.n > rq.fetching; i-- {
		if w := rq.idle[i]; max(w.way.notBefore, w.way.rated) <= ms {
			q.call(w, true)
		}
	}
	if best := rq.best(); rq.inLine[0][best] || rq.inLine[1][best] {
		return // whoever leaves will see to it
	}
	if rq.staffAfter > ms {
		q.alarm(rq, rq.staffAfter)
		return
	}
	for rq.n > rq.fetching && q.staff(rq, now) {
	}
}

// staff starts a worker for a ready queue if everything allows one, else it sees to it
// that it is tried again. The lock is held.
func (q *Queue) staff(rq *ready, now time.Time) bool {
	s, rt := rq.site, q.o.Routing()
	q.prepare(rq, rt)
	if s.rest > now.UnixMilli() {
		q.delay(rq, s.rest)
		return false
	}
	if s.fails > 0 && s.dialing > 0 {
		rq.staffAfter = millis(now.Add(time.Second))
		q.alarm(rq, rq.staffAfter)
		return false // one tries it for all
	}
	if len(rq.ways) == 0 {
		q.start(rq, nil)
		return false
	}
	w, at := q.choose(rq, now)
	if w == nil {
		if at != 0 {
			rq.staffAfter = at
			q.alarm(rq, at)
		} else {
			s.line.join(rq, rq.best()) // every source has all the connections that it may have
		}
		return false
	}
	if s.conns >= w.limits.Connections {
		s.line.join(rq, rq.best())
		for _, o := range s.queues {
			if o != rq && len(o.idle) > 0 {
				q.call(o.idle[0], false)
				break
			}
		}
		return false
	}
	if q.conns >= rt.Limits.Connections {
		q.line.join(rq, rq.best())
		if q.idle.first != nil {
			q.call(q.idle.first, false)
		}
		return false
	}
	q.start(rq, w)
	return true
}

// start starts a worker. The lock is held.
func (q *Queue) start(rq *ready, w *way) {
	x := &worker{q: q, queue: rq, way: w, signal: make(chan bool, 1), fetching: true}
	rq.workers = append(rq.workers, x)
	rq.fetching++
	if w != nil {
		q.conns++
		rq.site.conns++
		rq.site.dialing++
		x.dialing = true
		w.conns++
		w.opened.take(1, q.time.now())
		rq.use(w, 1)
	}
	q.wg.Add(1)
	go func() { defer q.wg.Done(); x.work() }()
}

// fetched tells that a worker that was expected has come for an item, or for good. The
// lock is held.
func (q *Queue) fetched(w *worker) {
	if w.fetching {
		w.fetching = false
		w.queue.fetching--
	}
}

// connected tells that a worker's connection has come about, or will not. The lock is
// held.
func (q *Queue) connected(w *worker) {
	if w.dialing {
		w.dialing = false
		w.queue.site.dialing--
	}
}

// answers tells that a site is there. Those that waited for it to be tried go on. The
// lock is held.
func (q *Queue) answers(s *site) {
	if s.fails == 0 {
		return
	}
	s.fails = 0
	q.endRest(s)
}

// endRest lets a site be tried at once, with as many connections as it may have, but for
// one where the last one failed. The lock is held.
func (q *Queue) endRest(s *site) {
	s.rest = 0
	for _, rq := range s.queues {
		rq.notBefore, rq.rated, rq.staffAfter = 0, 0, 0
		q.serve(rq)
	}
}

// leave ends a worker and lets those that wait have its place. The lock is held.
func (q *Queue) leave(w *worker) {
	rq, s := w.queue, w.queue.site
	q.fetched(w)
	q.connected(w)
	rq.workers = slices.DeleteFunc(rq.workers, func(x *worker) bool { return x == w })
	if w.way != nil {
		q.conns--
		s.conns--
		w.way.conns--
	}
	if q.stopping {
		return
	}
	// Others first: this ready queue has had its turn.
	if next, _ := s.line.first(true); next != nil {
		q.serve(next)
	}
	if next, _ := q.line.first(true); next != nil {
		q.serve(next)
	}
	q.serve(rq)
}

// yields reports whether a worker is to give its connection up for more urgent mail
// that has to wait for one. The lock is held.
func (q *Queue) yields(w *worker) bool {
	mine := w.queue.best()
	if mine == high {
		return false
	}
	if q.conns >= q.o.Routing().Limits.Connections {
		if rq, c := q.line.first(false); rq != nil && rq != w.queue && c < mine {
			return true
		}
	}
	rq, c := w.queue.site.line.first(false)
	return rq != nil && rq != w.queue && c < mine
}
