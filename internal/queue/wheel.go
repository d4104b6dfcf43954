package queue

import "math/bits"

// wheel keeps the items that wait for their time, by the millisecond. An item stands on
// the level of the highest octet in which its time differs from the wheel's, in the
// slot of that octet's value, and moves to lower levels as its time comes near: at most
// once for each level, whatever the number of items.
type wheel struct {
	a     *arena
	now   int64 // nothing stands before it
	slots [levels][256]slot
	full  [levels][4]uint64 // which slots are not empty
	n     int
	moved *slot // is being taken apart
}

// levels reach as far as Unix milliseconds of 48 bits, some eight thousand years.
const levels = 6

// slot is a list of items of similar times. Its earliest time may be that of an item
// which has been removed meanwhile: then the wheel turns for nothing, once.
type slot struct {
	list
	least int64
}

// add puts an item in by its time, which must not have come yet.
func (w *wheel) add(r ref) {
	it := w.a.at(r)
	at := max(it.at, w.now)
	level, index := 0, int(at&255)
	if d := uint64(at ^ w.now); d > 255 {
		level = (bits.Len64(d) - 1) / 8
		index = int(at>>(8*level)) & 255
	}
	s := &w.slots[level][index]
	if s.n == 0 || at < s.least {
		s.least = at
	}
	w.a.push(&s.list, r)
	w.full[level][index>>6] |= 1 << (index & 63)
	it.place, it.slot = inWheel, uint32(level<<8|index)
	w.n++
}

// remove takes an item out.
func (w *wheel) remove(r ref) {
	it := w.a.at(r)
	level, index := int(it.slot>>8), int(it.slot&255)
	s := &w.slots[level][index]
	w.a.remove(&s.list, r)
	it.place = nowhere
	w.emptied(s, level, index)
	w.n--
}

func (w *wheel) emptied(s *slot, level, index int) {
	if s.n == 0 {
		w.full[level][index>>6] &^= 1 << (index & 63)
		if w.moved == s {
			w.moved = nil
		}
	}
}

// first finds the slot whose items come first.
func (w *wheel) first() (level, index int, ok bool) {
	for level := range w.full {
		for k, word := range w.full[level] {
			if word != 0 {
				return level, k<<6 + bits.TrailingZeros64(word), true
			}
		}
	}
	return 0, 0, false
}

// next gives the time of the next item, or an earlier one.
func (w *wheel) next() (at int64, ok bool) {
	if w.moved != nil {
		return w.moved.least, true
	}
	level, index, ok := w.first()
	if !ok {
		return 0, false
	}
	return w.slots[level][index].least, true
}

// turn moves the wheel to a time and gives what has come due to yield, in the order of
// time. It does at most so many steps, of one item each, and reports whether it came to
// the end: the lock is not kept for long however many come at once.
func (w *wheel) turn(to int64, steps int, yield func(ref)) bool {
	for steps > 0 {
		level, index, ok := w.first()
		if w.moved == nil {
			if !ok || w.slots[level][index].least > to {
				return true
			}
			w.moved = &w.slots[level][index]
			w.now = max(w.now, w.base(level, index))
		} else {
			it := w.a.at(w.moved.head)
			level, index = int(it.slot>>8), int(it.slot&255)
		}
		for s := w.moved; w.moved != nil && steps > 0; steps-- {
			r := s.head
			w.a.remove(&s.list, r)
			w.n--
			it := w.a.at(r)
			it.place = nowhere
			w.emptied(s, level, index)
			if it.at <= w.now {
				yield(r)
			} else {
				w.add(r)
			}
		}
	}
	return false
}

// base is the earliest time that could stand in a slot.
func (w *wheel) base(level, index int) int64 {
	if level == 0 {
		return w.now&^255 | int64(index)
	}
	keep := w.now &^ (1<<(8*(level+1)) - 1)
	return keep | int64(index)<<(8*level)
}
