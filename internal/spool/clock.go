package spool

import "time"

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
// writer calls it: what it writes of them then is right by the clock that it writes
// with, and a start reckons from that.
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

func (s *status) move(by time.Duration) {
	if s.notBefore != 0 {
		s.notBefore += by.Milliseconds()
	}
}
