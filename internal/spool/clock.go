package spool

import (
	"slices"
	"time"
)

// clockSet is the least difference that counts as the clock having been set.
const clockSet = time.Second

// timed is the time of day that the spool writes down, and what tells whether somebody
// has set the clock: the time that has passed.
type timed struct {
	began time.Time
	first time.Duration
	known time.Duration // by how much the clock was set, as far as the index knows
}

// wasSet is by how much the clock was set since the spool was opened.
func (s *Spool) wasSet() time.Duration {
	return s.o.Now().Round(0).Sub(s.timed.began) - (s.o.Elapsed() - s.timed.first)
}

// followClock moves the times until which recipients wait as the clock was set. Only the
// writer calls it. A record is written with the time at which it was made, by the clock
// that its times are of: a start reckons from that.
func (s *Spool) followClock() {
	by := s.wasSet() - s.timed.known
	if by.Abs() < clockSet {
		return
	}
	s.timed.known += by
	for page := 0; ; page++ {
		s.mu.Lock()
		if page >= len(s.live.pages) {
			s.live.moveMany(by)
			s.mu.Unlock()
			return
		}
		for i := range s.live.pages[page] {
			s.live.pages[page][i].one.move(by)
		}
		s.mu.Unlock()
	}
}

// moveMany moves the recipients of messages with several.
func (x *index) moveMany(by time.Duration) {
	for _, all := range x.many {
		for i := range all {
			all[i].move(by)
		}
	}
}

// madeBy is the time of day by a clock that was set by so much, in Unix seconds.
func (s *Spool) madeBy(set time.Duration) uint32 {
	return uint32(s.o.Now().Add(set - s.wasSet()).Unix())
}

// ofNow gives a commit's batch as the index needs it: where it has waited for the disk
// while the clock was set, its times are moved. Only the writer calls it.
func (s *Spool) ofNow(c *commit) *Batch {
	by := s.timed.known - c.set
	if by.Abs() < clockSet {
		return c.batch
	}
	b := *c.batch
	b.Changes = slices.Clone(b.Changes)
	for i := range b.Changes {
		if x := &b.Changes[i]; !x.NotBefore.IsZero() {
			x.NotBefore = x.NotBefore.Add(by)
		}
	}
	return &b
}

func (s *status) move(by time.Duration) {
	if s.notBefore != 0 {
		s.notBefore += by.Milliseconds()
	}
}
