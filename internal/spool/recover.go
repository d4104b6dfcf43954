package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"postern.dev/postern/internal/smtp"
)

// Recovery tells what Open found.
type Recovery struct {
	Records  int
	Messages int   // live
	Torn     int64 // octets behind the last whole records, where a crash tore a write off
	Corrupt  []Fault
	Orphans  int // body files without a message, removed
}

// Fault is a place in the log that could not be read and was set aside.
type Fault struct {
	Segment string
	Offset  int64
	Length  int64
	Cause   string
	Aside   string // file that the octets were copied to
}

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// recover reads all segments, in order.
func (s *Spool) recover() (*Recovery, error) {
	rec := &Recovery{}
	names, err := s.fs.List("log")
	if err != nil {
		return nil, err
	}
	var numbers []uint32
	for _, name := range names {
		if n, ok := segmentNumber(name); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	r := newReplayer()
	for ahead := s.fetchSegments(numbers); ; {
		x, more := <-ahead.full
		if !more {
			break
		}
		if x.err != nil {
			err = errors.Join(err, x.err)
		} else if err == nil {
			s.recoverSegment(x, r, rec)
		}
		ahead.empty <- x.b
	}
	if err != nil {
		return nil, err
	}
	rec.Messages = s.live.find.n
	return rec, errors.Join(s.removeOrphans(rec), s.removeTemporary())
}

// fetched is a segment in memory.
type fetched struct {
	number uint32
	file   File
	b      []byte
	short  error // not all of it could be read, and where not stand zeros
	err    error
}

// fetching reads segments ahead, into two blocks of memory by turns.
type fetching struct {
	full  chan fetched
	empty chan []byte
}

// fetchSegments reads segments in order while others are replayed. Whoever takes them has
// to give the memory back, and to take all: full is closed then.
func (s *Spool) fetchSegments(numbers []uint32) fetching {
	x := fetching{full: make(chan fetched), empty: make(chan []byte, 2)}
	x.empty <- nil
	x.empty <- nil
	go func() {
		defer close(x.full)
		for _, n := range numbers {
			x.full <- s.fetchSegment(n, <-x.empty)
		}
	}()
	return x
}

func (s *Spool) fetchSegment(n uint32, b []byte) fetched {
	x := fetched{number: n, b: b}
	if x.file, x.err = s.fs.Open(segmentName(n), false); x.err != nil {
		return x
	}
	size, err := x.file.Size()
	if err != nil {
		x.err = err
		return x
	}
	if int64(cap(x.b)) < size {
		x.b = make([]byte, size)
	}
	x.b = x.b[:size]
	if got, err := x.file.ReadAt(x.b, 0); int64(got) != size {
		clear(x.b[got:])
		x.short = err
	}
	return x
}

func (s *Spool) recoverSegment(x fetched, r *replayer, rec *Recovery) {
	n, b := x.number, x.b
	if x.short != nil {
		s.salvage(x.file, b, n, x.short, rec)
	}
	seg := &segment{number: n, file: x.file, size: int64(len(b)), sealed: true}
	s.segments[n] = seg
	s.current = seg
	offset := r.replay(s, b, n, rec)
	seg.end = offset
	for {
		next := s.replay(b, n, offset, rec)
		if next > 0 {
			offset = next
			seg.end = offset
			continue
		}
		found := resync(b, n, offset+align)
		if found < 0 {
			break
		}
		s.setAside(b, n, offset, found, rec)
		if seg.aside == nil {
			seg.aside = map[int64]int64{}
		}
		seg.aside[offset] = found
		offset = found
	}
	s.tail(b, n, offset, rec)
	s.durable = at(n, seg.end)
	// A recovered segment is not written again: what a crash left behind the last whole record
	// stays as it is.
}

// replay takes one record into the index and gives the offset behind it, or 0 where
// there is no whole record.
func (s *Spool) replay(b []byte, n uint32, offset int64, rec *Recovery) int64 {
	p, ok := wholeRecord(b, n, offset)
	if !ok {
		return 0
	}
	d, err := skimPayload(p)
	if err != nil {
		return 0
	}
	h, _ := readHeader(b[offset:])
	d.notBefore(int64(h.written) - s.o.Now().Unix())
	s.index(at(n, offset), len(p), d.kind, &d.Batch)
	rec.Records++
	return offset + space(len(p))
}

// notBefore makes up for a clock that was set back since a record was written, which is
// then as many seconds in the future: what was to wait for a minute waits for no more
// than a minute from now.
func (d *decoded) notBefore(ahead int64) {
	for i := range d.Changes {
		if c := &d.Changes[i]; ahead > 0 && !c.NotBefore.IsZero() {
			c.NotBefore = c.NotBefore.Add(-time.Duration(ahead) * time.Second)
		}
	}
}

// wholeRecord gives the payload of a record whose sums are right.
func wholeRecord(b []byte, n uint32, offset int64) ([]byte, bool) {
	if offset+headerSize > int64(len(b)) {
		return nil, false
	}
	h, ok := readHeader(b[offset:])
	end := offset + headerSize + int64(h.length)
	if !ok || h.at != at(n, offset) || end > int64(len(b)) {
		return nil, false
	}
	p := b[offset+headerSize : end]
	return p, checksum(p) == h.crc
}

// resync finds the next whole record, -1 where there is none.
func resync(b []byte, n uint32, offset int64) int64 {
	for ; offset+headerSize <= int64(len(b)); offset += align {
		if binary.LittleEndian.Uint32(b[offset:]) != magic {
			continue
		}
		if p, ok := wholeRecord(b, n, offset); ok {
			if _, err := decodePayload(p); err == nil {
				return offset
			}
		}
	}
	return -1
}

// salvage reads what can be read of a segment, by blocks; the rest stays zero, and the
// records in it are found to be corrupt.
func (s *Spool) salvage(f File, b []byte, n uint32, cause error, rec *Recovery) {
	const block = 512
	bad := int64(0)
	for o := int64(0); o < int64(len(b)); o += block {
		part := b[o:min(o+block, int64(len(b)))]
		if got, err := f.ReadAt(part, o); got < len(part) {
			clear(part[got:])
			bad += int64(len(part) - got)
			cause = err
		}
	}
	s.o.Log.Error("spool segment cannot be read", "segment", segmentName(n), "octets", bad, "err", cause)
	rec.Corrupt = append(rec.Corrupt, Fault{Segment: segmentName(n), Length: bad, Cause: fmt.Sprintf("cannot be read: %v", cause)})
}

// setAside copies what lies between two whole records to bad/ and reports it.
func (s *Spool) setAside(b []byte, n uint32, from, to int64, rec *Recovery) {
	fault := Fault{Segment: segmentName(n), Offset: from, Length: to - from, Cause: "checksum does not match"}
	fault.Aside = fmt.Sprintf("bad/%08x-%d.rec", n, from)
	if err := s.copyAside(fault.Aside, b[from:to]); err != nil {
		fault.Cause += "; not set aside: " + err.Error()
	}
	s.o.Log.Error("spool record is corrupt", "segment", fault.Segment, "offset", from, "octets", to-from, "set aside", fault.Aside)
	rec.Corrupt = append(rec.Corrupt, fault)
}

// tail sets aside and reports what stands behind the last whole record: a write that
// nobody was told of, unless the disk has spoilt it.
func (s *Spool) tail(b []byte, n uint32, offset int64, rec *Recovery) {
	offset = min(offset, int64(len(b))) // the file may end within the padding
	end := int64(len(bytes.TrimRight(b[offset:], "\x00"))) + offset
	if end == offset {
		return
	}
	rec.Torn += end - offset
	aside := fmt.Sprintf("bad/%08x-%d.torn", n, offset)
	err := s.copyAside(aside, b[offset:end])
	s.o.Log.Warn("spool write was torn off", "segment", segmentName(n), "offset", offset, "octets", end-offset, "set aside", aside, "err", err)
}

func (s *Spool) copyAside(name string, b []byte) error {
	f, err := s.fs.Open(name, true)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Sync(), f.Close())
}

// removeOrphans removes body files that no live message names.
func (s *Spool) removeOrphans(rec *Recovery) error {
	names, err := s.fs.List("big")
	if err != nil {
		return err
	}
	for _, name := range names {
		if id, err := smtp.ParseID(name); err == nil && s.live.find.find(id) != 0 {
			continue
		}
		if err := s.fs.Remove("big/" + name); err != nil {
			return err
		}
		rec.Orphans++
	}
	return nil
}

func (s *Spool) removeTemporary() error {
	names, err := s.fs.List("tmp")
	for _, name := range names {
		err = errors.Join(err, s.fs.Remove("tmp/"+name))
	}
	return err
}
