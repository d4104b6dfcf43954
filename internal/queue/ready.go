package queue

import "time"

// ready is a ready queue: what may leave now for one site by one pool. Each flow has a
// lane in it.
type ready struct {
	site    *site
	pool    string
	lanes   map[*flow]*lane
	classes [classes]shares
	n       int    // items, without those in blocked lanes
	kept    int    // items in blocked lanes
	turn    uint32 // counts what was taken

	ways    []*way
	cursor  int
	routing *Routing // that ways were made for

	workers  []*worker // all of them
	idle     []*worker // that hold a connection and wait, the latest last
	fetching int       // workers that were started or called and have not come for an item yet
	inLine   [2][classes + 1]bool

	notBefore  int64 // Unix milliseconds: nothing can leave before
	rated      int64 // the rates of the site allow nothing before
	staffAfter int64 // no new connection before
	unblock    int64 // when the first lane's block ends
	wake       int64 // when to look again; 0 never
	heap       int   // place among the alarms, -1 outside
	tally      tally
}

// lane is what is ready of one flow.
type lane struct {
	list
	number  uint32
	flow    *flow
	queue   *ready
	share   *share // while it takes turns
	spoke   spoke[*lane]
	until   int64 // blocked until then, Unix milliseconds
	blocked bool
}

// share is what is ready of one customer, in one class of a ready queue: campaigns take
// turns within it, and customers take turns with each other, so that neither the
// number of campaigns nor their size gives anybody more than the next one.
type share struct {
	customer string
	lanes    ring[*lane]
	spoke    spoke[*share]
	deficit  int // what it may still take in this round; below 0 it sits rounds out
}

// shares are the customers of one class, in turns: deficit round-robin (Shreedhar and
// Varghese 1995) with recipients for octets and a quantum of one.
type shares struct {
	ring ring[*share]
	of   map[string]*share
	n    int // items
}

// ring is a circle that is gone round; its spokes stand in what they hold.
type ring[T any] struct{ cur *spoke[T] }

type spoke[T any] struct {
	next, prev *spoke[T]
	of         T
}

// add puts a spoke where the present round ends.
func (r *ring[T]) add(s *spoke[T]) {
	if r.cur == nil {
		s.next, s.prev = s, s
		r.cur = s
		return
	}
	s.next, s.prev = r.cur, r.cur.prev
	s.prev.next, s.next.prev = s, s
}

func (r *ring[T]) remove(s *spoke[T]) {
	if s.next == s {
		r.cur = nil
	} else {
		s.prev.next, s.next.prev = s.next, s.prev
		if r.cur == s {
			r.cur = s.next
		}
	}
	s.next, s.prev = nil, nil
}

// take gives the one whose turn it is, and turns on.
func (r *ring[T]) take() T {
	s := r.cur
	r.cur = s.next
	return s.of
}

// ordered gives the classes in the order in which the turn-th item is looked for: high
// before normal before bulk, but one in eight is looked for in normal first and one in
// thirty-two in bulk, so that neither ever starves.
func ordered(turn uint32) [classes]class {
	switch {
	case turn%32 == 31:
		return [...]class{bulk, normal, high}
	case turn%8 == 7:
		return [...]class{normal, bulk, high}
	}
	return [...]class{high, normal, bulk}
}

// best is the most urgent class that something is ready in.
func (rq *ready) best() class {
	for c := range classes {
		if rq.classes[c].n > 0 {
			return c
		}
	}
	return classes
}

// laneOf finds or makes the lane of a flow.
func (q *Queue) laneOf(rq *ready, f *flow) *lane {
	ln := rq.lanes[f]
	if ln != nil {
		return ln
	}
	ln = &lane{flow: f, queue: rq}
	ln.spoke.of = ln
	if n := len(q.freeLanes); n > 0 {
		ln.number, q.freeLanes = q.freeLanes[n-1], q.freeLanes[:n-1]
		q.lanes[ln.number] = ln
	} else {
		ln.number = uint32(len(q.lanes))
		q.lanes = append(q.lanes, ln)
	}
	rq.lanes[f] = ln
	ln.blocked = q.suspends(rq, f)
	return ln
}

// stand puts an item into its lane. The lock is held.
func (q *Queue) stand(ln *lane, r ref, first bool) {
	it := q.items.at(r)
	it.place, it.slot = inLane, ln.number
	if first {
		q.items.unshift(&ln.list, r)
	} else {
		q.items.push(&ln.list, r)
	}
	if ln.blocked {
		ln.queue.kept++
		return
	}
	ln.queue.count(ln, 1)
	if ln.n == 1 {
		ln.queue.enter(ln)
	}
}

// unline takes an item out of its lane. The lock is held.
func (q *Queue) unline(r ref) {
	it := q.items.at(r)
	ln := q.lanes[it.slot]
	q.items.remove(&ln.list, r)
	it.place = nowhere
	if ln.blocked {
		ln.queue.kept--
		return
	}
	ln.queue.count(ln, -1)
	if ln.n == 0 {
		ln.queue.leave(ln)
	}
}

func (rq *ready) count(ln *lane, n int) {
	rq.n += n
	rq.classes[ln.flow.class].n += n
}

// enter lets a lane take turns; leave ends that.
func (rq *ready) enter(ln *lane) {
	c := &rq.classes[ln.flow.class]
	s := c.of[ln.flow.customer]
	if s == nil {
		s = &share{customer: ln.flow.customer}
		s.spoke.of = s
		if c.of == nil {
			c.of = map[string]*share{}
		}
		c.of[s.customer] = s
		c.ring.add(&s.spoke)
	}
	ln.share = s
	s.lanes.add(&ln.spoke)
}

func (rq *ready) leave(ln *lane) {
	s := ln.share
	ln.share = nil
	if s == nil {
		return
	}
	s.lanes.remove(&ln.spoke)
	if s.lanes.cur == nil {
		c := &rq.classes[ln.flow.class]
		c.ring.remove(&s.spoke)
		delete(c.of, s.customer)
	}
}

// block keeps a lane from taking turns, or lets it.
func (rq *ready) block(ln *lane, blocked bool, until int64) {
	ln.until = until
	if ln.blocked == blocked {
		return
	}
	ln.blocked = blocked
	if ln.n == 0 {
		return
	}
	if blocked {
		rq.count(ln, -ln.n)
		rq.kept += ln.n
		rq.leave(ln)
		return
	}
	rq.kept -= ln.n
	rq.count(ln, ln.n)
	rq.enter(ln)
}

// lane gives the lane whose turn it is; there is one where anything is ready.
func (rq *ready) lane() *lane {
	for _, c := range ordered(rq.turn) {
		sh := &rq.classes[c]
		if sh.n == 0 {
			continue
		}
		rq.turn++
		for {
			s := sh.ring.take()
			if s.deficit = min(s.deficit+1, 1); s.deficit == 1 {
				return s.lanes.take()
			}
		}
	}
	return nil
}

// maxCombined bounds the recipients of one transaction: every server takes at least so
// many (RFC 5321, section 4.5.3.1.8).
const maxCombined = 100

// pick takes the next item out of a ready queue, with those of the same message that
// may share its transaction. Items whose domain has moved to another site are sent on
// there.
func (q *Queue) pick(rq *ready, batch []ref) []ref {
	for rq.n > 0 {
		ln := rq.lane()
		for len(batch) < maxCombined && ln.n > 0 {
			r := ln.head
			it := q.items.at(r)
			if len(batch) > 0 && (!ln.flow.combine || it.id != q.items.at(batch[0]).id) {
				break
			}
			s := ln.share
			q.unline(r)
			if q.domains[it.domain].site != rq.site {
				q.enqueue(r)
				break
			}
			if q.orders.fine > 0 && q.parks(rq, it) {
				it.place = inParked
				q.items.push(&q.parked, r)
				break
			}
			s.deficit--
			it.busy = true
			batch = append(batch, r)
		}
		if len(batch) > 0 {
			return batch
		}
	}
	return batch
}

// alarm sees that a ready queue is looked at again at a time.
func (q *Queue) alarm(rq *ready, at int64) {
	if rq.wake != 0 && rq.wake <= at {
		return
	}
	rq.wake = at
	q.alarms.fix(rq)
	if q.alarms[0] == rq {
		nudge(q.ring)
	}
}

// hold back a ready queue until a time.
func (q *Queue) delay(rq *ready, at int64) {
	rq.notBefore = at
	q.alarm(rq, at)
}

// alarms is a heap of ready queues by the time at which to look at them again.
type alarms []*ready

func (a *alarms) swap(i, j int) {
	h := *a
	h[i], h[j] = h[j], h[i]
	h[i].heap, h[j].heap = i, j
}

// fix puts a ready queue where its time belongs.
func (a *alarms) fix(rq *ready) {
	if rq.heap < 0 {
		rq.heap = len(*a)
		*a = append(*a, rq)
	}
	h := *a
	i := rq.heap
	for i > 0 && h[i].wake < h[(i-1)/2].wake {
		a.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h); c++ {
			if h[c].wake < h[least].wake {
				least = c
			}
		}
		if least == i {
			return
		}
		a.swap(i, least)
		i = least
	}
}

// remove takes a ready queue off.
func (a *alarms) remove(rq *ready) {
	i, last := rq.heap, len(*a)-1
	if i < 0 {
		return
	}
	a.swap(i, last)
	(*a)[last] = nil
	*a = (*a)[:last]
	rq.heap, rq.wake = -1, 0
	if i < last {
		a.fix((*a)[i])
	}
}

// due takes the first ready queue off whose time has come.
func (a *alarms) due(now int64) *ready {
	if len(*a) == 0 || (*a)[0].wake > now {
		return nil
	}
	rq := (*a)[0]
	a.remove(rq)
	return rq
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
