package spool

// Several may follow the outbox: each reads from its own position. What the spool is
// told to Forget is what none of them needs any more. Who keeps its position over a
// restart holds back the segment that the position is in, be it at the segment's end:
// then a position in a segment that is gone tells that events are missing.

// Oldest is the first position from which the events can still be read. The end of the
// segment that went last is as good as the begin of the one behind it: who stands there
// misses nothing.
func (s *Spool) Oldest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, seg := s.oldest()
	if seg == nil {
		n = 1 // the first that there will be
	}
	if s.gone.segment()+1 == n {
		return uint64(s.gone)
	}
	return uint64(at(n, 0))
}

// Behind tells how many octets of the log, bodies included, lie between a position and
// the end of what is durable.
func (s *Spool) Behind(pos uint64) (octets int64) {
	p := Position(pos)
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, seg := range s.segments {
		switch {
		case n == p.segment():
			octets += max(0, seg.end-p.offset())
		case n > p.segment():
			octets += seg.end
		}
	}
	return octets
}

// Within is the earliest start of a segment from which at most so many octets of the
// log are behind; a follower that may hold back no more than those is not waited for
// before it.
func (s *Spool) Within(octets int64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	floor := s.durable
	if s.current == nil {
		return uint64(floor)
	}
	for n := s.current.number; ; n-- {
		seg := s.segments[n]
		if seg == nil || seg.end > octets {
			return uint64(floor)
		}
		octets -= seg.end
		floor = at(n, 0)
	}
}

// Low tells whether the disk had less than the reserve when last asked.
func (s *Spool) Low() bool { return s.low.Load() }
