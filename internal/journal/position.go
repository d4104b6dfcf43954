package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// place is what is durable of a journal: everything before At is in the file, whose
// first Size octets are those events' lines.
type place struct {
	turn  uint64 // the higher of two slots is the newer
	At    uint64 // position in the spool's log
	Seq   uint64 // events before it, since the journal began
	Inode uint64 // of the file written to
	Size  uint64 // of that file
	// A gap that is still to be told of: events from GapFrom to At are gone.
	GapFrom uint64
	GapTime int64 // when that was found, microseconds since 1970
}

// slotSize is room for a place and its checksum; the two slots of a position file are
// written in turn, so that one that is torn leaves the other.
const slotSize = 512

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const placeMagic = 0x506f73744c6f6731 // "PostLog1"

func (p *place) encode() []byte {
	b := make([]byte, 0, slotSize)
	for _, v := range []uint64{placeMagic, p.turn, p.At, p.Seq, p.Inode, p.Size, p.GapFrom, uint64(p.GapTime)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return b[:slotSize]
}

func decodePlace(b []byte) (p place, ok bool) {
	const n = 8 * 8
	if len(b) < n+4 || binary.BigEndian.Uint64(b) != placeMagic || crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]) {
		return p, false
	}
	for i, f := range []*uint64{&p.turn, &p.At, &p.Seq, &p.Inode, &p.Size, &p.GapFrom} {
		*f = binary.BigEndian.Uint64(b[8+8*i:])
	}
	p.GapTime = int64(binary.BigEndian.Uint64(b[56:]))
	return p, true
}

// gapTime gives when a gap was found.
func (p *place) gapTime() time.Time { return time.UnixMicro(p.GapTime).UTC() }

// places is the position file.
type places struct {
	file slots
	last place
}

// slots is what a position file is used for.
type slots interface {
	io.WriterAt
	io.Closer
	Sync() error
}

var errPositionLost = errors.New("both copies of the position are damaged")

// openPlaces opens a position file, or makes one that begins at a position.
func openPlaces(name string, begin func() uint64) (*places, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return newPlaces(name, place{At: begin()})
	}
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, 2*slotSize))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	p := &places{file: f}
	found := false
	for len(b) >= slotSize {
		if s, ok := decodePlace(b[:slotSize]); ok && (!found || s.turn > p.last.turn) {
			p.last, found = s, true
		}
		b = b[slotSize:]
	}
	if !found {
		return nil, errors.Join(fmt.Errorf("read %s: %w", name, errPositionLost), f.Close())
	}
	return p, nil
}

// newPlaces makes a position file that is whole before it has its name.
func newPlaces(name string, first place) (*places, error) {
	f, err := os.OpenFile(name+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	p := &places{file: f, last: first}
	if err = p.save(first); err == nil {
		err = p.save(first)
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err == nil {
		err = syncDir(filepath.Dir(name))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return p, nil
}

// save makes a place durable.
func (p *places) save(next place) error {
	next.turn = p.last.turn + 1
	if _, err := p.file.WriteAt(next.encode(), int64(next.turn%2)*slotSize); err != nil {
		return err
	}
	if err := p.file.Sync(); err != nil {
		return err
	}
	p.last = next
	return nil
}

func (p *places) close() error { return p.file.Close() }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
