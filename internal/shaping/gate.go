package shaping

import (
	"sync"
	"time"
)

// A throttle of a pool, a customer or a campaign binds what takes turns on connections
// that others use too, and may reach over many sites. So it is no limit of a site, which
// the queue keeps: each message passes the throttle's own gate.

// gate counts what passes one throttle.
type gate struct {
	mu    sync.Mutex
	due   int64           // when the next one is due, if they came evenly (GCRA); Unix nanoseconds
	turns map[asker]int64 // when those were told to ask again that were turned away
	tail  int64           // the latest of these
	under int             // under way
}

// asker is what asks one at a time: a lane of the queue.
type asker struct{ site, pool, customer, campaign string }

// askerOf tells who asks: what the queue holds back where this throttle says so.
func (a *Action) askerOf(t *Traffic) asker {
	if a.Scope == "pool" {
		return asker{site: t.Site, pool: t.Pool}
	}
	return asker{t.Site, t.Pool, t.Customer, t.Campaign}
}

// gated reports whether a throttle has a gate.
func gated(kind, scope string) bool {
	return kind == "throttle" && (scope == "pool" || scope == "customer" || scope == "campaign")
}

// Bounds of a gate: bursts of ten milliseconds, so that timers of a millisecond keep a
// high rate; how long those wait that are too many at once, and over how many turns those
// are spread that come at the same time.
const (
	gateSlack    = 10 * time.Millisecond
	gatePatience = 500 * time.Millisecond
	gateSpread   = 50
	maxTurns     = 4096
)

// enter lets one pass, or tells how long to wait.
func (g *gate) enter(a *Action, who asker, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	wait := g.waits(a, now)
	if a.Rate != nil {
		each := int64(a.Rate.Per) / int64(max(a.Rate.Count, 1))
		if wait > 0 {
			return g.turn(who, wait, each, now)
		}
		delete(g.turns, who)
		g.due = max(g.due, now.UnixNano()) + each
	}
	if wait > 0 {
		return wait
	}
	g.under++
	return 0
}

// turn tells somebody who is turned away when to ask again: each one at a turn of his own,
// so that a thousand sites under one throttle do not all ask at once; the same one at
// the same turn. The lock is held.
func (g *gate) turn(who asker, wait time.Duration, each int64, now time.Time) time.Duration {
	ns := now.UnixNano()
	if at := g.turns[who]; at > ns {
		return time.Duration(at - ns)
	}
	if g.tail < ns || len(g.turns) >= maxTurns {
		clear(g.turns) // of those who did not come back
	}
	at := ns + int64(wait)
	if len(g.turns) > 0 {
		at = min(max(at, g.tail+each), at+gateSpread*each)
	}
	if g.turns == nil {
		g.turns = map[asker]int64{}
	}
	g.turns[who], g.tail = at, max(g.tail, at)
	return time.Duration(at - ns)
}

// waits tells how long the next one would have to wait. The lock is held.
func (g *gate) waits(a *Action, now time.Time) time.Duration {
	if a.Connections > 0 && g.under >= a.Connections {
		return gatePatience
	}
	if a.Rate == nil {
		return 0
	}
	each := int64(a.Rate.Per) / int64(max(a.Rate.Count, 1))
	slack := max(int64(max(a.Rate.Burst, 1)-1)*each, min(int64(gateSlack), int64(a.Rate.Per)-each))
	return time.Duration(max(g.due-slack-now.UnixNano(), 0))
}

// leave ends what enter began. Where nothing came of it, its turn is given back.
func (g *gate) leave(a *Action, unused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.under--
	if unused && a.Rate != nil {
		g.due -= int64(a.Rate.Per) / int64(max(a.Rate.Count, 1))
	}
}

// Pass is the leave of one message to go. The zero Pass is of one that nothing throttles.
type Pass struct {
	through [maxThrottles]*Action
	n       int
}

// Limited reports whether others may wait for this one to be done.
func (p *Pass) Limited() bool {
	for _, a := range p.through[:p.n] {
		if a.Connections > 0 {
			return true
		}
	}
	return false
}

// Leave tells that the attempt is over. Only the first call counts.
func (p *Pass) Leave() { p.end(false) }

func (p *Pass) end(unused bool) {
	for _, a := range p.through[:p.n] {
		a.gate.leave(a, unused)
	}
	*p = Pass{}
}

// Enter asks leave for one message to go now, of the throttles of its pool, its customer
// and its campaign. Where there is none, Block tells which throttle and when to ask again.
// Otherwise the Pass is to be given back when the attempt is over.
func (s *Shaping) Enter(t Traffic, now time.Time) (p Pass, b Block, held bool) {
	shapes := s.gates.shapes.Load()
	if shapes == nil {
		return p, b, false
	}
	for _, sh := range *shapes {
		k, ok := sh.key(&t)
		if !ok {
			continue
		}
		all, _ := s.gates.get(k)
		for _, a := range all {
			if !a.inForce(now) || p.n == maxThrottles {
				continue
			}
			if wait := a.gate.enter(a, a.askerOf(&t), now); wait > 0 {
				p.end(true)
				return p, Block{Until: now.Add(wait), Scope: a.Scope, Reason: a.said, Action: a.ID}, true
			}
			p.through[p.n] = a
			p.n++
		}
	}
	return p, b, false
}

// Delayed tells which throttle of the pool, the customer or the campaign would have the
// next message wait longest, if any. Nothing is counted.
func (s *Shaping) Delayed(t Traffic, now time.Time) (longest Block, held bool) {
	shapes := s.gates.shapes.Load()
	if shapes == nil {
		return longest, false
	}
	for _, sh := range *shapes {
		k, ok := sh.key(&t)
		if !ok {
			continue
		}
		all, _ := s.gates.get(k)
		for _, a := range all {
			if at := now.Add(a.gate.wait(a, now)); a.inForce(now) && at.After(now) && at.After(longest.Until) {
				longest, held = Block{Until: at, Scope: a.Scope, Reason: a.said, Action: a.ID}, true
			}
		}
	}
	return longest, held
}

// wait tells how long the next one would have to wait.
func (g *gate) wait(a *Action, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waits(a, now)
}
