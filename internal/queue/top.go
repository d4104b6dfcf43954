package queue

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// pacing is the time over which rates are told.
const pacing = 10 * time.Second

// counted counts events and tells how many there were a second of late: those of this
// piece of time, and of the former one as much as still lies within the last ten seconds.
type counted struct {
	total     uint64
	piece     int64
	this, was uint32
}

func (c *counted) turn(ms int64) {
	piece := ms / pacing.Milliseconds()
	switch {
	case piece == c.piece:
		return
	case piece == c.piece+1:
		c.was = c.this
	default:
		c.was = 0 // long ago, or the clock was set back
	}
	c.this, c.piece = 0, piece
}

func (c *counted) add(ms int64) {
	c.turn(ms)
	c.this++
	c.total++
}

// rate is a second's share.
func (c *counted) rate(ms int64) float64 {
	c.turn(ms)
	left := 1 - float64(ms%pacing.Milliseconds())/float64(pacing.Milliseconds())
	return (float64(c.was)*left + float64(c.this)) / pacing.Seconds()
}

// tally counts what becomes of recipients. It has a lock of its own, held for some ten
// nanoseconds, so that counting an outcome does not take the queue's once more.
type tally struct {
	mu                        sync.Mutex
	in, out, deferred, failed counted
	last                      string // reply that was no success
	lastAt                    int64  // Unix milliseconds
}

// Rates are recipients a second, over the last ten seconds.
type Rates struct {
	In       float64 // that came, or became ready for a site for the first time
	Out      float64 // handed off
	Deferred float64
	Failed   float64
}

func (t *tally) rates(ms int64) Rates {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Rates{In: t.in.rate(ms), Out: t.out.rate(ms), Deferred: t.deferred.rate(ms), Failed: t.failed.rate(ms)}
}

func (t *tally) came(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.in.add(now.UnixMilli())
}

// fates of an attempt, for the tallies.
type fate uint8

const (
	handedOff fate = iota
	deferred
	failed
)

func (t *tally) went(f fate, reply string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ms := now.UnixMilli()
	switch f {
	case handedOff:
		t.out.add(ms)
		return
	case deferred:
		t.deferred.add(ms)
	case failed:
		t.failed.add(ms)
	}
	t.last, t.lastAt = reply, ms
}

// counts notes an outcome for the queue and, where there was an attempt, for its site.
func (d *delivery) counts(f fate, reply string, now time.Time) {
	d.q.tally.went(f, reply, now)
	if d.w != nil {
		d.w.queue.tally.went(f, reply, now)
	}
}

// TopRow is what there is for one site, or by one pool.
type TopRow struct {
	Name        string // of the site or pool
	Provider    string // of a site
	Pools       []string
	Queued      int // recipients that are not done with: ready or not, held, or being delivered
	Ready       int
	Suspended   int // ready, but suspended or backing off
	Connections int
	Idle        int
	Rates
	Until  time.Time // nothing is tried before
	Last   string    // the latest reply that was no success
	LastAt time.Time
}

// Top is the queue at one moment.
type Top struct {
	Time        time.Time
	Waiting     int
	Held        int
	Ready       int
	Suspended   int
	Connections int
	Rates
	In, Out, Deferred, Failed uint64 // since the start
	Sites, Pools              []TopRow
}

// Top tells what is there for each site and by each pool, and how fast it comes and goes.
// It costs a look at every site and domain, and none at the messages.
func (q *Queue) Top() *Top {
	now := q.o.Clock.Now()
	t := &Top{Time: now, Rates: q.tally.rates(now.UnixMilli())}
	q.tally.mu.Lock()
	t.In, t.Out, t.Deferred, t.Failed = q.tally.in.total, q.tally.out.total, q.tally.deferred.total, q.tally.failed.total
	q.tally.mu.Unlock()
	queued := q.queuedBySite()
	sites, pools := map[*site]*TopRow{}, map[string]*TopRow{}
	q.mu.Lock()
	t.Waiting, t.Held = q.waiting, q.held
	rt := q.o.Routing()
	for _, f := range q.flows.byNumber {
		if f != nil {
			rowOf(pools, poolOf(rt, f.pool), poolOf(rt, f.pool)).Queued += f.refs
		}
	}
	for _, s := range q.sites {
		row := rowOf(sites, s, s.key)
		row.Provider, row.Queued = s.provider, queued[s]
		if s.fails > 0 {
			row.Last = s.last
		}
		for _, rq := range s.queues {
			pool := rowOf(pools, poolOf(rt, rq.pool), poolOf(rt, rq.pool))
			row.Pools = append(row.Pools, pool.Name)
			for _, r := range []*TopRow{row, pool} {
				r.take(rq, now)
			}
		}
	}
	q.mu.Unlock()
	for _, row := range sites {
		t.Ready, t.Suspended, t.Connections = t.Ready+row.Ready, t.Suspended+row.Suspended, t.Connections+row.Connections
	}
	t.Sites, t.Pools = rowsOf(sites), rowsOf(pools)
	return t
}

func rowOf[K comparable](rows map[K]*TopRow, k K, name string) *TopRow {
	r := rows[k]
	if r == nil {
		r = &TopRow{Name: name}
		rows[k] = r
	}
	return r
}

// rowsOf leaves out what has nothing to show.
func rowsOf[K comparable](rows map[K]*TopRow) []TopRow {
	out := []TopRow{}
	for _, r := range rows {
		if r.Queued+r.Ready+r.Suspended+r.Connections > 0 || r.Rates != (Rates{}) {
			slices.Sort(r.Pools)
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b TopRow) int {
		return cmp.Or(cmp.Compare(b.Queued, a.Queued), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// take adds a ready queue to a row. The queue's lock is held.
func (r *TopRow) take(rq *ready, now time.Time) {
	ms := now.UnixMilli()
	r.Ready, r.Suspended = r.Ready+rq.n, r.Suspended+rq.kept
	r.Connections, r.Idle = r.Connections+len(rq.workers), r.Idle+len(rq.idle)
	more := rq.tally.rates(ms)
	r.Rates = Rates{r.Rates.In + more.In, r.Rates.Out + more.Out, r.Rates.Deferred + more.Deferred, r.Rates.Failed + more.Failed}
	if at := max(rq.notBefore, rq.site.rest); at > ms && fromMillis(at).After(r.Until) {
		r.Until = fromMillis(at)
	}
	rq.tally.mu.Lock()
	defer rq.tally.mu.Unlock()
	if at := fromMillis(rq.tally.lastAt); rq.tally.lastAt != 0 && !at.Before(r.LastAt) {
		r.Last, r.LastAt = rq.tally.last, at
	}
}

// queuedBySite counts recipients, and lets go of the lock now and then.
func (q *Queue) queuedBySite() map[*site]int {
	out := map[*site]int{}
	for from, more := 0, true; more; from += sweeping {
		q.mu.Lock()
		more = from+sweeping < len(q.domains)
		for _, d := range q.domains[min(from, len(q.domains)):min(from+sweeping, len(q.domains))] {
			if d != nil && d.site != nil && d.refs > 0 {
				out[d.site] += d.refs
			}
		}
		q.mu.Unlock()
	}
	return out
}

// Campaigns tells how many campaigns are told apart at present, and how many recipients
// so far came under one too many, so that they share their customer's turn.
func (q *Queue) Campaigns() (now, shared int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.flows.campaigns, q.flows.shared
}
