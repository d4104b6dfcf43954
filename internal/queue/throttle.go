package queue

import "postern.dev/postern/internal/shaping"

// enters asks leave of what throttles the pool, the customer or the campaign. Without it
// the item goes back and its lane, or the pool at this site, waits.
func (d *delivery) enters(t shaping.Traffic) bool {
	p, b, held := d.q.o.Shaper.Enter(t, d.q.time.agreed())
	if held {
		d.blocked(b)
		return false
	}
	if p != (shaping.Pass{}) {
		d.w.pass = append(d.w.pass, p)
	}
	return true
}

// leave gives back the passes of an attempt that is over. Where a throttle allows only so
// many at once, the next one of the same lane or pool is tried now.
func (w *worker) leave() {
	limited := false
	for i := range w.pass {
		limited = limited || w.pass[i].Limited()
		w.pass[i].Leave()
	}
	w.pass = w.pass[:0]
	if !limited {
		return
	}
	q, rq := w.q, w.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.time.now().UnixMilli()
	for i := range w.hand {
		// The flow may be another one's by now, whose lane is then asked about once more.
		ln := rq.lanes[q.flows.byNumber[w.hand[i].flow]]
		if ln != nil && ln.blocked && ln.until > now {
			rq.block(ln, q.suspends(rq, ln.flow), 0)
		}
	}
	rq.notBefore = 0 // what else holds it back will say so again
	q.serve(rq)
}
