package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"postern.dev/postern/internal/smtp"
)

// Recovery tells what Open found.
type Recovery struct {
	Records  int
	Messages int   // live
	Torn     int64 // octets after the last whole record of the last segment
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

// recover reads all segments in order.
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
	for i, n := range numbers {
		if err := s.recoverSegment(n, i == len(numbers)-1, rec); err != nil {
			return nil, err
		}
	}
	rec.Messages = len(s.entries)
	return rec, errors.Join(s.removeOrphans(rec), s.removeTemporary())
}

func (s *Spool) recoverSegment(n uint32, last bool, rec *Recovery) error {
	f, err := s.fs.Open(segmentName(n), false)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err != nil {
		return err
	}
	b := make([]byte, size)
	if got, err := f.ReadAt(b, 0); int64(got) != size {
		return fmt.Errorf("read %s: %w", segmentName(n), err)
	}
	seg := &segment{number: n, file: f, size: size, sealed: true}
	s.segments[n] = seg
	s.current = seg
	offset := int64(0)
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
		offset = found
	}
	rec.tail(b, offset, last)
	s.durable = at(n, seg.end)
	// A recovered segment is not written again: what a crash left behind the last whole record
	// stays as it is.
	return nil
}

// replay takes one record into the index and gives the offset behind it, or 0 where
// there is no whole record.
func (s *Spool) replay(b []byte, n uint32, offset int64, rec *Recovery) int64 {
	p, ok := wholeRecord(b, n, offset)
	if !ok {
		return 0
	}
	d, err := decodePayload(p)
	if err != nil {
		return 0
	}
	s.index(at(n, offset), len(p), d.kind, &d.Batch)
	rec.Records++
	return offset + space(len(p))
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

// setAside copies what lies between two whole records to bad/ and reports it.
func (s *Spool) setAside(b []byte, n uint32, from, to int64, rec *Recovery) {
	fault := Fault{Segment: segmentName(n), Offset: from, Length: to - from, Cause: "checksum does not match"}
	fault.Aside = fmt.Sprintf("bad/%08x-%d.rec", n, from)
	f, err := s.fs.Open(fault.Aside, true)
	if err == nil {
		_, err = f.WriteAt(b[from:to], 0)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		fault.Cause += "; not set aside: " + err.Error()
	}
	s.o.Log.Error("spool record is corrupt", "segment", fault.Segment, "offset", from, "octets", to-from, "set aside", fault.Aside)
	rec.Corrupt = append(rec.Corrupt, fault)
}

// tail notes what stands behind the last whole record.
func (r *Recovery) tail(b []byte, offset int64, last bool) {
	end := len(b)
	for end > int(offset) && b[end-1] == 0 {
		end--
	}
	if last {
		r.Torn = int64(end) - offset
	}
}

// removeOrphans removes body files that no live message names.
func (s *Spool) removeOrphans(rec *Recovery) error {
	names, err := s.fs.List("big")
	if err != nil {
		return err
	}
	for _, name := range names {
		if id, err := smtp.ParseID(name); err == nil && s.entries[id] != nil {
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
