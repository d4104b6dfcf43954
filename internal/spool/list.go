package spool

// List yields the live messages in the order of their acceptance, as they stood when
// it was called. What the writer has moved counts, after a restart, as accepted then.
func (s *Spool) List(yield func(Entry) bool) { s.list(yield, nil) }

// Stock is List with the envelopes, read from the log one block after the other: at a
// start there may be millions.
func (s *Spool) Stock(yield func(Entry) bool) {
	s.list(yield, &window{})
}

// listed is how many messages are looked at with the lock held once.
const listed = 512

func (s *Spool) list(yield func(Entry) bool, w *window) {
	s.mu.Lock()
	born := s.live.born
	slots := make([]uint32, 0, len(s.live.find))
	for n := range s.live.inOrder() {
		slots = append(slots, n)
	}
	s.mu.Unlock()
	for len(slots) > 0 {
		var some []found
		some, slots = s.look(slots[:min(listed, len(slots))], born), slots[min(listed, len(slots)):]
		for i := range some {
			e := &some[i]
			s.fetch(e.ID, e.States, e.far)
			if w != nil {
				e.Message = s.envelope(w, e)
			}
			if !yield(e.Entry) {
				return
			}
		}
	}
}

// found is a live message on its way to who asked for it.
type found struct {
	Entry
	at     Position
	length int
	far    map[int]Position
}

// look gives those slots that still hold what they held when there were born messages.
func (s *Spool) look(slots []uint32, born uint32) (all []found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range slots {
		e := s.live.slot(n)
		if e.live == 0 || int32(e.born-born) > 0 {
			continue // settled meanwhile, and the slot used again
		}
		f := found{Entry: Entry{ID: e.id}, at: e.at, length: int(e.length)}
		f.States, f.far = s.states(n)
		all = append(all, f)
	}
	return all
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

// envelope reads the message of a record, nil where it is not there as it should be or
// too long to be read on the way.
func (s *Spool) envelope(w *window, e *found) *Message {
	if e.length > windowMost-headerSize {
		return nil
	}
	s.mu.Lock()
	seg := s.segments[e.at.segment()]
	s.mu.Unlock()
	if seg == nil {
		return nil
	}
	b, err := w.read(seg, e.at, headerSize+e.length)
	if err != nil {
		return nil
	}
	d, err := messageIn(b, e.at)
	if err != nil || d.Message.ID != e.ID {
		return nil
	}
	return d.Message
}
