package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// A record stands at a multiple of 8 octets: a header of 32 octets, then its payload.
//
//	magic    4  "PSR1"
//	length   4  of the payload
//	events   4  octets at the payload's beginning that hold the events
//	crc      4  CRC-32C of the payload
//	position 8  of this record: stale octets are never taken for a record
//	header   4  CRC-32C of the 24 octets before
//	written  4  when, in Unix seconds as the clock said; 0 where nobody knows. No sum covers it
const (
	magic      = 0x31525350
	headerSize = 32
	align      = 8
	maxPayload = 1 << 30
)

// header is a record's header.
type header struct {
	length, events int
	crc            uint32
	at             Position
	written        uint32
}

func (h header) append(b []byte) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, magic)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.length))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.events))
	b = binary.LittleEndian.AppendUint32(b, h.crc)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.at))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	return binary.LittleEndian.AppendUint32(b, h.written)
}

// readHeader reads a header; ok is false where there is none.
func readHeader(b []byte) (h header, ok bool) {
	if len(b) < headerSize || binary.LittleEndian.Uint32(b) != magic ||
		binary.LittleEndian.Uint32(b[24:]) != crc32.Checksum(b[:24], castagnoli) {
		return h, false
	}
	h.length = int(binary.LittleEndian.Uint32(b[4:]))
	h.events = int(binary.LittleEndian.Uint32(b[8:]))
	h.crc = binary.LittleEndian.Uint32(b[12:])
	h.at = Position(binary.LittleEndian.Uint64(b[16:]))
	h.written = binary.LittleEndian.Uint32(b[28:])
	return h, h.length <= maxPayload && h.events <= h.length
}

// space is the room that a record takes.
func space(payload int) int64 {
	return (int64(headerSize) + int64(payload) + align - 1) &^ (align - 1)
}

// A position is the number of a segment and an offset in it.
func at(segment uint32, offset int64) Position {
	return Position(uint64(segment)<<32 | uint64(offset))
}
func (p Position) segment() uint32 { return uint32(p >> 32) }
func (p Position) offset() int64   { return int64(uint32(p)) }

// segment is one file of the log.
type segment struct {
	number  uint32
	file    File
	size    int64 // allocated
	end     int64 // where the next record goes
	written int64 // up to where blocks were written at least once; the writer's own
	live    int   // messages in it that are not settled
	sealed  bool
	aside   map[int64]int64 // what recovery has set aside: from here to there
}

func segmentName(n uint32) string { return fmt.Sprintf("log/%08x.seg", n) }

func segmentNumber(name string) (uint32, bool) {
	s, ok := strings.CutSuffix(name, ".seg")
	if !ok || len(s) != 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 16, 32)
	return uint32(n), err == nil
}
