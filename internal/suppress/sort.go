package suppress

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// sorter brings any number of keys with their values into order, in bounded memory: it
// sorts a buffer at a time, writes it to a file, a run, and merges the runs. Of a key
// that comes again the last one counts.
type sorter struct {
	fs   vfs.FS
	dir  string
	most int // octets of the buffer

	text []byte
	at   []record
	runs []run
	made int // runs so far, for their names
}

// record is where a key and its value lie in the buffer.
type record struct {
	head       uint64 // the first octets of the key behind what all have in common
	off        uint32
	key, value uint16
}

// run is a sorted file.
type run struct {
	name string
	sum  uint32 // CRC-32C of all of it
}

// maxRuns bounds the files that are open at once.
const maxRuns = 256

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// add takes a key and a value, each below 64 KiB. Both are copied.
func (s *sorter) add(key, value []byte) error {
	if len(s.text)+len(key)+len(value) > s.most && len(s.at) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.at = append(s.at, record{off: uint32(len(s.text)), key: uint16(len(key)), value: uint16(len(value))})
	s.text = append(append(s.text, key...), value...)
	return nil
}

func (s *sorter) keyOf(r *record) []byte { return s.text[r.off:][:r.key] }

func (s *sorter) valueOf(r *record) []byte { return s.text[int(r.off)+int(r.key):][:r.value] }

// sort puts the buffer in order: by key, then as they came. Keys share a long beginning
// (the customer), so the eight octets behind it decide nearly every comparison.
func (s *sorter) sort() {
	if len(s.at) == 0 {
		return
	}
	first := s.keyOf(&s.at[0])
	common := len(first)
	for i := range s.at {
		k := s.keyOf(&s.at[i])
		n := 0
		for n < min(common, len(k)) && k[n] == first[n] {
			n++
		}
		common = n
	}
	for i := range s.at {
		var head [8]byte
		copy(head[:], s.keyOf(&s.at[i])[common:])
		s.at[i].head = binary.BigEndian.Uint64(head[:])
	}
	slices.SortFunc(s.at, func(a, b record) int {
		if a.head != b.head {
			return cmp.Compare(a.head, b.head)
		}
		if c := bytes.Compare(s.keyOf(&a), s.keyOf(&b)); c != 0 {
			return c
		}
		return cmp.Compare(a.off, b.off)
	})
}

// each gives the buffer's keys in order, each once.
func (s *sorter) each(fn func(key, value []byte) error) error {
	s.sort()
	for i := range s.at {
		if i+1 < len(s.at) && bytes.Equal(s.keyOf(&s.at[i]), s.keyOf(&s.at[i+1])) {
			continue
		}
		if err := fn(s.keyOf(&s.at[i]), s.valueOf(&s.at[i])); err != nil {
			return err
		}
	}
	return nil
}

// spill writes the buffer as a run and empties it.
func (s *sorter) spill() error {
	if len(s.at) == 0 {
		return nil
	}
	if err := s.write(s.each); err != nil {
		return err
	}
	s.text, s.at = s.text[:0], s.at[:0]
	if len(s.runs) < maxRuns {
		return nil
	}
	// The merged run holds what is older than all that follows.
	old := s.runs
	s.runs = nil
	if err := s.write(func(fn func(key, value []byte) error) error { return s.merge(old, fn) }); err != nil {
		return err
	}
	for _, r := range old {
		if err := s.fs.Remove(r.name); err != nil {
			return err
		}
	}
	return nil
}

// write makes a run of what each gives. It need not outlive the process.
func (s *sorter) write(each func(func(key, value []byte) error) error) error {
	if err := s.room(); err != nil {
		return err
	}
	name := s.fs.PathJoin(s.dir, fmt.Sprintf("run-%d", s.made))
	f, err := s.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 256<<10)
	r := run{name: name}
	var head [4]byte
	err = each(func(key, value []byte) error {
		binary.LittleEndian.PutUint16(head[:], uint16(len(key)))
		binary.LittleEndian.PutUint16(head[2:], uint16(len(value)))
		for _, b := range [...][]byte{head[:], key, value} {
			r.sum = crc32.Update(r.sum, castagnoli, b)
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, w.Flush(), f.Close()); err != nil {
		return err
	}
	s.made++
	s.runs = append(s.runs, r)
	return nil
}

// keepFree is what an import leaves free on the disk, octets: mail needs it.
const keepFree = 1 << 30

// room refuses where the disk is nearly full.
func (s *sorter) room() error {
	u, err := s.fs.GetDiskUsage(s.dir)
	if err != nil {
		return nil // a file system that does not say
	}
	if u.AvailBytes < keepFree+2*uint64(s.most) {
		return fmt.Errorf("%d MiB are left on the disk, which mail needs", u.AvailBytes>>20)
	}
	return nil
}

// source reads a run.
type source struct {
	run
	order      int // later ones go before
	f          vfs.File
	r          *bufio.Reader
	sum        uint32
	buf        []byte
	key, value []byte
}

// next reads one record; io.EOF behind the last, when the run is as it was written.
func (s *source) next() error {
	var head [4]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		if errors.Is(err, io.EOF) && s.sum != s.run.sum {
			return fmt.Errorf("%s is not as it was written", s.name)
		}
		return err
	}
	k, v := int(binary.LittleEndian.Uint16(head[:])), int(binary.LittleEndian.Uint16(head[2:]))
	s.buf = slices.Grow(s.buf[:0], k+v)[:k+v]
	if _, err := io.ReadFull(s.r, s.buf); err != nil {
		return fmt.Errorf("%s ends within a record: %w", s.name, io.ErrUnexpectedEOF)
	}
	s.sum = crc32.Update(crc32.Update(s.sum, castagnoli, head[:]), castagnoli, s.buf)
	s.key, s.value = s.buf[:k], s.buf[k:]
	return nil
}

// before orders sources by their key; of equal ones the latest stands first.
func (s *source) before(o *source) bool {
	if c := bytes.Compare(s.key, o.key); c != 0 {
		return c < 0
	}
	return s.order > o.order
}

// merge gives the keys of runs in order, each once.
func (s *sorter) merge(runs []run, fn func(key, value []byte) error) (err error) {
	h := make([]*source, 0, len(runs))
	defer func() {
		for _, x := range h {
			err = errors.Join(err, x.f.Close())
		}
	}()
	for i, r := range runs {
		f, err := s.fs.Open(r.name, vfs.SequentialReadsOption)
		if err != nil {
			return err
		}
		x := &source{run: r, order: i, f: f, r: bufio.NewReaderSize(f, max(16<<10, min(256<<10, 16<<20/len(runs))))}
		h = append(h, x)
		if err := x.next(); err != nil {
			return err // a run has one record at least
		}
	}
	for i := len(h)/2 - 1; i >= 0; i-- {
		sink(h, i)
	}
	var last []byte
	for first := true; len(h) > 0; first = false {
		x := h[0]
		if first || !bytes.Equal(last, x.key) {
			last = append(last[:0], x.key...)
			if err := fn(x.key, x.value); err != nil {
				return err
			}
		}
		switch err := x.next(); {
		case errors.Is(err, io.EOF):
			if err := x.f.Close(); err != nil {
				h[0] = h[len(h)-1]
				h = h[:len(h)-1]
				return err
			}
			h[0] = h[len(h)-1]
			h = h[:len(h)-1]
		case err != nil:
			return err
		}
		sink(h, 0)
	}
	return nil
}

// sink restores a heap where the one at i may stand too high.
func sink(h []*source, i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h); c++ {
			if h[c].before(h[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// sorted gives everything that was added in order, each key once.
func (s *sorter) sorted(fn func(key, value []byte) error) error {
	if len(s.runs) == 0 {
		return s.each(fn)
	}
	if err := s.spill(); err != nil {
		return err
	}
	s.text, s.at = nil, nil // the merge wants the memory
	return s.merge(s.runs, fn)
}
