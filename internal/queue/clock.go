package queue

import (
	"sync/atomic"
	"time"

	"postern.dev/postern/internal/shaping"
)

// Clock is the time; tests turn it by hand.
type Clock interface {
	// Now is the time of day, which somebody may set.
	Now() time.Time
	// Elapsed is how much time has passed since some moment, whatever the time of day was
	// set to meanwhile.
	Elapsed() time.Duration
	After(d time.Duration) <-chan time.Time
}

// span is the queue's own time. It began with the time of day, and goes on evenly
// however that is set: what waits for a minute waits for a minute. All times that
// scheduling compares are of it; those of events, of the spool and of what operators
// are shown are times of day.
type span struct {
	clock Clock
	began time.Time
	first time.Duration
	known atomic.Int64 // ahead, as of when somebody last looked whether the clock was set
}

func (s *span) begin(c Clock) { s.clock, s.began, s.first = c, c.Now().Round(0), c.Elapsed() }

func (s *span) now() time.Time { return s.began.Add(s.clock.Elapsed() - s.first) }

// ahead is by how much the time of day is ahead of the queue's own. Two clocks are not
// read at one moment: what is below a millisecond is not meant.
func (s *span) ahead() time.Duration {
	return s.clock.Now().Sub(s.now()).Round(time.Millisecond)
}

// own makes a time of day one of the queue's own; the zero time stays.
func (s *span) own(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(-s.ahead())
}

// day makes a time of the queue's own, in Unix milliseconds, a time of day; 0 is the
// zero time.
func (s *span) day(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return fromMillis(ms).Add(s.ahead())
}

// agreed is the time of day for what has its end as a time of day. When somebody sets
// the clock it is the former one until that is noticed, and all ends are moved: in
// between nothing ends too early or too late.
func (s *span) agreed() time.Time { return s.now().Add(time.Duration(s.known.Load())) }

// set tells by how much the clock was set since it was asked last; what is below
// clockSet does not count yet.
func (s *span) set() time.Duration {
	by := s.ahead() - time.Duration(s.known.Load())
	if by.Abs() < clockSet {
		return 0
	}
	return by
}

const (
	// clockLook is how often the time of day is compared with the queue's own.
	clockLook = 30 * time.Second
	// clockSet is the least difference that counts: time servers slew what is less.
	clockSet = time.Second
)

// clockLoop looks whether somebody has set the clock. What is kept in times of day, since
// people see it and a restart needs it, is moved by as much then.
func (q *Queue) clockLoop() {
	for {
		select {
		case <-q.o.Clock.After(clockLook):
		case <-q.leaving:
			return
		}
		by := q.time.set()
		if by == 0 {
			continue
		}
		q.o.Log.Warn("clock was set", "by", by.String())
		q.o.Shaper.ClockSet(by)
		q.mu.Lock()
		q.time.known.Add(int64(by))
		q.orders.move(by)
		q.reconsider = true
		q.mu.Unlock()
		nudge(q.ring)
	}
}

// move moves the ends of orders as the clock was moved: an hour stays an hour.
func (s *orders) move(by time.Duration) {
	for i := range s.all {
		s.all[i].move(by)
	}
}

func (o *Order) move(by time.Duration) {
	if !o.Until.IsZero() {
		o.From, o.Until = o.From.Add(by), o.Until.Add(by)
	}
}

// begun makes up for a clock that was set back while no node ran: what begins in the
// future begins now, and lasts as long as it was to.
func (o *Order) begun(now time.Time) {
	if o.From.After(now) {
		o.move(now.Sub(o.From))
	}
}

// until is when a block may have ended, in the queue's own time: one without an end is
// asked about again.
func (q *Queue) until(b shaping.Block) int64 {
	now := q.time.now()
	if b.Until.IsZero() {
		return millis(now.Add(time.Minute))
	}
	// Rounded up: who asks a moment too early is turned away once more.
	return max(millis(b.Until.Add(now.Sub(q.time.agreed())+time.Millisecond-1)), now.UnixMilli()+1)
}
