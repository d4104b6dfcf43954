package spool

// List yields the live messages in the order of their acceptance, as they stood when
// it was called. What the writer has moved counts, after a restart, as accepted then.
func (s *Spool) List(yield func(Entry) bool) { s.list(yield, nil) }

// Stock is List with the envelopes, read from the log one block after the other: at a
// start there may be millions.
func (s *Spool) Stock(yield func(Entry) bool) {
	s.list(yield, &window{spool: s})
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
				e.Message = w.message(e)
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
	spool *Spool
	begin Position
	b     []byte
}

const (
	windowSize = 1 << 20
	windowMost = 32 << 10 // longer records are read by themselves: bodies are not wanted
)

// message reads the envelope of a record, nil where it is not there as it should be or
// too long to be read on the way.
func (w *window) message(e *found) *Message {
	size := headerSize + e.length
	if size > windowMost {
		return nil
	}
	if e.at < w.begin || e.at+Position(size) > w.begin+Position(len(w.b)) {
		w.slide(e.at)
	}
	if e.at+Position(size) > w.begin+Position(len(w.b)) {
		return nil
	}
	d, err := messageIn(w.b[e.at-w.begin:], e.at)
	if err != nil || d.Message.ID != e.ID {
		return nil
	}
	return d.Message
}

// slide moves the window to p.
func (w *window) slide(p Position) {
	if w.b == nil {
		w.b = make([]byte, windowSize)
	}
	w.begin, w.b = p, w.b[:cap(w.b)]
	w.spool.mu.Lock()
	seg := w.spool.segments[p.segment()]
	w.spool.mu.Unlock()
	n := 0
	if seg != nil {
		n, _ = seg.file.ReadAt(w.b, p.offset()) // at the end of the file less is read
	}
	w.b = w.b[:n]
}
