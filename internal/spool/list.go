package spool

import "sync"

// List yields the live messages in the order of their acceptance, as they stood when
// it was called. What the writer has moved counts, after a restart, as accepted then.
func (s *Spool) List(yield func(Entry) bool) { s.list(false, yield) }

// Stock is List with the envelopes, read from the log one block after the other: at a
// start there may be millions. An entry's memory is used again once yield has returned.
func (s *Spool) Stock(yield func(Entry) bool) { s.list(true, yield) }

// listed is how many messages are looked at with the lock held once.
const listed = 512

// list yields what a goroutine of its own looks up and reads meanwhile.
func (s *Spool) list(envelopes bool, yield func(Entry) bool) {
	s.mu.Lock()
	born := s.live.born
	slots := make([]uint32, 0, s.live.find.n)
	for n := range s.live.inOrder() {
		slots = append(slots, n)
	}
	s.mu.Unlock()
	full, empty, done := make(chan []found, 2), make(chan []found, 3), make(chan struct{})
	for range cap(empty) {
		empty <- nil
	}
	var reader sync.WaitGroup
	defer reader.Wait()
	defer close(done)
	reader.Go(func() {
		defer close(full)
		s.read(slots, born, envelopes, full, empty, done)
	})
	for some := range full {
		for i := range some {
			if !yield(some[i].Entry) {
				return
			}
		}
		if envelopes {
			empty <- some
		} else {
			empty <- nil // what was yielded is kept by who has it
		}
	}
}

// read looks slots up, by as many as are listed at once, until all are or done is closed.
func (s *Spool) read(slots []uint32, born uint32, envelopes bool, full chan<- []found, empty <-chan []found, done <-chan struct{}) {
	w, t := &window{}, &texts{}
	for len(slots) > 0 {
		var some []found
		select {
		case some = <-empty:
		case <-done:
			return
		}
		some, slots = s.look(some, slots[:min(listed, len(slots))], born), slots[min(listed, len(slots)):]
		for i := range some {
			e := &some[i]
			s.fetch(e.ID, e.States, e.far)
			if envelopes {
				s.envelope(w, t, e)
			}
		}
		select {
		case full <- some:
		case <-done:
			return
		}
	}
}

// found is a live message on its way to who asked for it.
type found struct {
	Entry
	at      Position
	length  int
	far     map[int]Position
	decoded // whose message is used again
}

// look gives those slots that still hold what they held when there were born messages, in
// the memory of others that are done with.
func (s *Spool) look(some []found, slots []uint32, born uint32) []found {
	some = some[:cap(some)]
	count := 0
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range slots {
		e := s.live.slot(n)
		if e.live == 0 || int32(e.born-born) > 0 {
			continue // settled meanwhile, and the slot used again
		}
		if count == len(some) {
			some = append(some, found{})
		}
		f := &some[count]
		f.Entry, f.at, f.length = Entry{ID: e.id, States: f.States}, e.at, int(e.length)
		f.States, f.far = s.states(n, f.States[:0])
		count++
	}
	return some[:count]
}

// window is a part of a segment in memory, for reading records that follow on one
// another.
type window struct {
	begin Position
	b     []byte
}

const (
	windowSize = 256 << 10
	windowMost = 32 << 10 // longer records are read by themselves: bodies are not wanted
)

// read gives n octets at p, which nobody may change.
func (w *window) read(seg *segment, p Position, n int) ([]byte, error) {
	if n > windowMost {
		b := make([]byte, n)
		_, err := seg.file.ReadAt(b, p.offset())
		return b, err
	}
	if p < w.begin || p+Position(n) > w.begin+Position(len(w.b)) {
		b := make([]byte, windowSize) // what was given out stays as it is
		got, err := seg.file.ReadAt(b, p.offset())
		if w.begin, w.b = p, b[:got]; got < n {
			return nil, err
		}
	}
	return w.b[p-w.begin:][:n], nil
}

// envelope reads the message of a record, none where it is not there as it should be or
// too long to be read on the way.
func (s *Spool) envelope(w *window, t *texts, e *found) {
	if e.length > windowMost-headerSize {
		return
	}
	s.mu.Lock()
	seg := s.segments[e.at.segment()]
	s.mu.Unlock()
	if seg == nil {
		return
	}
	b, err := w.read(seg, e.at, headerSize+e.length)
	if err != nil {
		return
	}
	if e.Batch.Message == nil {
		e.Batch.Message = &Message{}
	}
	m := e.Batch.Message
	if payloadAt(b, e.at, &dec{texts: t}, &e.decoded) == nil && m.ID == e.ID {
		e.Entry.Message = m
	}
	e.Batch.Message = m
}
