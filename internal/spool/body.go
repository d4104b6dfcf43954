package spool

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// Errors that callers tell apart.
var (
	// ErrFull tells that the disk has no room for a message.
	ErrFull = errors.New("no space left in the spool")
	// ErrCorrupt tells that what was read is not what was written.
	ErrCorrupt = errors.New("spool record is corrupt")
	// ErrInDoubt tells that nobody knows whether a commit has become durable: the caller
	// stopped waiting, or the disk failed in the middle. A start will tell.
	ErrInDoubt = errors.New("not known whether it is durable")
	// ErrUnknown tells that there is no such live message or recipient.
	ErrUnknown = errors.New("unknown message or recipient")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Body is a message body on its way into the spool: in memory at first, in a
// temporary file once it is large. It belongs to one goroutine.
type Body struct {
	spool  *Spool
	limit  int64
	prefix []byte
	mem    []byte
	file   File
	name   string
	size   int64 // written, without the prefix
	asked  int64 // size at which the disk was last asked for room
	err    error
}

// askEvery is how many octets a body grows by before the disk is asked for room again:
// many large bodies at once must not eat the reserve.
const askEvery = 1 << 20

// Write takes the next octets of the body.
func (b *Body) Write(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.file == nil && b.size+int64(len(p)) > b.limit {
		b.err = b.spill()
	}
	if b.err == nil && b.file != nil && b.size-b.asked >= askEvery {
		b.asked = b.size
		b.err = b.spool.hasRoom()
	}
	if b.err == nil && b.file != nil {
		_, b.err = b.file.WriteAt(p, b.size)
	} else if b.err == nil {
		if b.mem == nil {
			b.mem = *memories.Get().(*[]byte)
		}
		b.mem = append(b.mem, p...)
	}
	if b.err != nil {
		b.err = full(b.err)
		return 0, b.err
	}
	b.size += int64(len(p))
	return len(p), nil
}

// spill moves the body into a temporary file.
func (b *Body) spill() error {
	if err := b.spool.hasRoom(); err != nil {
		return err
	}
	b.name = fmt.Sprintf("tmp/%d", b.spool.temp.Add(1))
	f, err := b.spool.fs.Open(b.name, true)
	if err != nil {
		return err
	}
	b.file = f
	_, err = f.WriteAt(b.mem, 0)
	b.free()
	return err
}

// hasRoom fails with ErrFull where the disk has only the reserve left.
func (s *Spool) hasRoom() error {
	if free, err := s.fs.Free(); err == nil && free < s.o.Reserve {
		return ErrFull
	}
	return nil
}

// full makes every way of running out of space into ErrFull.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// SetPrefix sets what stands before the octets written: the message's header.
func (b *Body) SetPrefix(p []byte) { b.prefix = p }

// Size is the whole length: prefix and what was written.
func (b *Body) Size() int64 { return int64(len(b.prefix)) + b.size }

// Open reads what was written, without the prefix, until Discard.
func (b *Body) Open() (io.ReadCloser, error) {
	if b.file == nil {
		return io.NopCloser(bytes.NewReader(b.mem)), nil
	}
	return io.NopCloser(io.NewSectionReader(b.file, 0, b.size)), nil
}

// memories lends memory to bodies while they come in. What outgrew it is lent again.
var memories = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

// free gives the memory of a body back.
func (b *Body) free() {
	if b.mem != nil {
		mem := b.mem[:0]
		memories.Put(&mem)
	}
	b.mem = nil
}

// Discard frees the body. After a commit it does nothing.
func (b *Body) Discard() {
	if b.file != nil {
		b.file.Close()
		_ = b.spool.fs.Remove(b.name) // what stays behind is removed at the next start
	}
	b.free()
	b.file = nil
}

// settle gives the body its place: in the record, or in a file of its own, which is
// durable when settle returns and whose checksum is given.
func (b *Body) settle(name string) (kind int, crc uint32, err error) {
	if b == nil {
		return bodyNone, 0, nil
	}
	if b.err != nil {
		return 0, 0, b.err
	}
	if b.file == nil {
		return bodyInline, 0, nil
	}
	if crc, err = b.writeFile(name); err != nil {
		b.spool.dropFile(name)
	}
	return bodyFile, crc, full(err)
}

// dropFile removes the body file of a message that was not committed. What cannot be
// removed now is removed at the next start.
func (s *Spool) dropFile(name string) { _ = s.fs.Remove("big/" + name) }

// writeFile copies prefix and octets into big/NAME.
func (b *Body) writeFile(name string) (uint32, error) {
	f, err := b.spool.fs.Open("big/"+name, true)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sum := crc32.New(castagnoli)
	w := io.MultiWriter(io.NewOffsetWriter(f, 0), sum)
	_, err = w.Write(b.prefix)
	if err == nil {
		_, err = io.Copy(w, io.NewSectionReader(b.file, 0, b.size))
	}
	if err = errors.Join(err, f.Sync()); err != nil {
		return 0, err
	}
	return sum.Sum32(), b.spool.fs.SyncDir("big")
}

// Reader reads a body. It stays readable while open, even if the message is settled
// meanwhile.
type Reader struct {
	io.ReadSeeker
	inline []byte // the body where it is in memory
	size   int64
	close  func() error
}

// WriteTo implements io.WriterTo: a body in memory is written from where it is, by
// blocks, so that a slow peer's deadline is for a block.
func (r *Reader) WriteTo(w io.Writer) (n int64, err error) {
	if r.inline == nil {
		return io.Copy(w, struct{ io.Reader }{r.ReadSeeker})
	}
	at, err := r.Seek(0, io.SeekCurrent)
	for err == nil && at+n < r.size {
		var k int
		k, err = w.Write(r.inline[at+n : min(at+n+writeBlock, r.size)])
		n += int64(k)
	}
	if err == nil {
		_, err = r.Seek(0, io.SeekEnd)
	}
	return n, err
}

// writeBlock is how much of a body is written at once.
const writeBlock = 32 << 10

// Rest gives what is left of a body in memory, which nobody may change; nil where it is
// in a file.
func (r *Reader) Rest() []byte {
	at, err := r.Seek(0, io.SeekCurrent)
	if r.inline == nil || err != nil {
		return nil
	}
	return r.inline[at:]
}

// Size is the length of the body in octets.
func (r *Reader) Size() int64 { return r.size }

// Close frees the reader.
func (r *Reader) Close() error {
	if r.close != nil {
		return r.close()
	}
	return nil
}

// checked fails at its end where the sum is not right, before the last octets can be
// taken for a whole message.
type checked struct {
	*io.SectionReader
	sum  uint32
	want uint32
	at   int64
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.SectionReader.Read(p)
	c.sum = crc32.Update(c.sum, castagnoli, p[:n])
	c.at += int64(n)
	if c.at == c.Size() && n > 0 && c.sum != c.want {
		return 0, ErrCorrupt
	}
	return n, err
}

// Seek goes back to the beginning; other places are not supported by the checksum.
func (c *checked) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekStart {
		return 0, errors.New("seek in spool body: only to the beginning")
	}
	c.sum, c.at = 0, 0
	return c.SectionReader.Seek(0, io.SeekStart)
}
