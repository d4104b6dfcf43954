package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/internal/smtp"
)

// Options are what a Spool is made of. The zero value of each has a meaning, but for
// Dir or FS.
type Options struct {
	Dir         string
	FS          FS    // Disk(Dir) where nil
	SegmentSize int64 // of the log's files; 64 MiB
	InlineBody  int64 // larger bodies have files of their own; 256 KiB
	Reserve     int64 // free octets below which no message is taken; 64 MiB
	Recent      int64 // octets of messages kept in memory until their first attempt; 16 MiB, none below 0
	Log         *slog.Logger
	Now         func() time.Time // the time of day; time.Now where nil
	// Elapsed is how much time has passed since some moment, whatever the clock was set to
	// meanwhile; the system's where nil.
	Elapsed func() time.Duration
	// Synced is told of each fdatasync of the log and how long it took, Failed of a
	// write or sync that failed, and whether a promise is lost by it. Both are called by
	// the goroutine that writes; nil is nobody.
	Synced func(took time.Duration)
	Failed func(err error, lasting bool)
}

func (o *Options) defaults() {
	if o.FS == nil {
		o.FS = Disk(o.Dir)
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 64 << 20
	}
	if o.InlineBody == 0 {
		o.InlineBody = 256 << 10
	}
	if o.Reserve == 0 {
		o.Reserve = 64 << 20
	}
	if o.Recent == 0 {
		o.Recent = 16 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Elapsed == nil {
		began := time.Now()
		o.Elapsed = func() time.Duration { return time.Since(began) }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Spool is a durable store of messages and events. Its methods may be called from
// any goroutine.
type Spool struct {
	o    Options
	fs   FS
	lock io.Closer
	temp atomic.Int64
	low  atomic.Bool // the disk had less than the reserve when last asked

	queue chan *commit
	done  chan struct{} // closed when the writer has ended
	block []byte        // the writer's, for one group

	timed  timed     // the writer's
	moving []smtp.ID // the writer's: what it still has to move out of the oldest segment

	entry sync.RWMutex // held by who puts a commit into the queue: none may come behind the end

	mu       sync.Mutex
	closed   bool
	segments map[uint32]*segment
	current  *segment // only the writer changes which
	live     *index
	octets   int64    // of the records of live messages
	recent   int64    // of those in memory
	outbox   outbox   // the newest events, in memory
	durable  Position // end of what is durable
	gone     Position // end of the segment that was removed last
	forgot   Position // the follower needs nothing before
	grown    chan struct{}
	failure  error // of a Submit: what was promised is not durable
	trouble  error // of the last group, nil once one has become durable

	owed []*commit // promises that found no room; they go first. The writer's own
}

// maxOwed bounds the promises that wait for room.
const maxOwed = 1 << 16

// commit is a batch on its way to the writer.
type commit struct {
	batch   *Batch
	payload []byte
	body    int // octets at the payload's end that are the body
	events  int
	crc     uint32
	kind    int
	at      Position
	note    bool          // may be lost
	made    uint32        // when, in Unix seconds, by the clock that its times are of
	set     time.Duration // by how much that was set by then
	done    chan error    // nil: nobody waits
}

// Open opens the spool, reads what is there, and takes up the writing.
func Open(_ context.Context, o Options) (*Spool, *Recovery, error) {
	o.defaults()
	lock, err := o.FS.Lock()
	if err != nil {
		return nil, nil, err
	}
	s := &Spool{o: o, fs: o.FS, lock: lock, queue: make(chan *commit, 1024), done: make(chan struct{}),
		segments: map[uint32]*segment{}, live: newIndex(), grown: make(chan struct{})}
	s.timed = timed{began: o.Now().Round(0), first: o.Elapsed()}
	rec, err := s.recover()
	if err != nil {
		lock.Close()
		return nil, nil, fmt.Errorf("open spool %s: %w", o.Dir, err)
	}
	go s.write()
	return s, rec, nil
}

// NewBody begins a body.
func (s *Spool) NewBody() *Body { return &Body{spool: s, limit: s.o.InlineBody} }

// Commit makes a batch durable, all of it or none, and returns then. Concurrent
// commits share one fdatasync. It fails with ErrFull where a message finds no room,
// and with ErrUnknown where a change names no live recipient. When ctx ends first, or the
// disk fails so that what was written cannot be wiped out, it fails with ErrInDoubt: the
// batch may have become durable.
func (s *Spool) Commit(ctx context.Context, b *Batch) (Position, error) {
	c, err := s.prepare(b)
	if err != nil {
		return 0, err
	}
	c.done = make(chan error, 1)
	if err := s.enqueue(c); err != nil {
		s.forget(c)
		return 0, err
	}
	select {
	case err = <-c.done:
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrInDoubt, ctx.Err())
	}
	if err != nil {
		if errors.Is(err, errNoSegment) {
			s.forget(c)
		}
		return 0, err
	}
	if b.Body != nil {
		b.Body.Discard()
	}
	return c.at + Position(space(len(c.payload))), nil
}

// Note hands a batch of events to the next group commit and returns at once. Where it
// cannot be kept, or too much waits already, it is lost without further consequence.
func (s *Spool) Note(b *Batch) error {
	c, err := s.prepare(b)
	if err != nil {
		return err
	}
	c.note = true
	s.entry.RLock()
	defer s.entry.RUnlock()
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return errClosed
	}
	select {
	case s.queue <- c:
		return nil
	default:
		return errBusy
	}
}

// Submit promises a batch to the next group commit and returns at once. While the disk
// is full it waits in memory, and goes before everything else once there is room. If
// it cannot be kept otherwise, Err tells, and every later commit fails: what was
// promised is gone.
func (s *Spool) Submit(b *Batch) error {
	c, err := s.prepare(b)
	if err != nil {
		return err
	}
	return s.enqueue(c)
}

// Err tells whether something promised by Submit could not be kept.
func (s *Spool) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// Trouble tells why the last group of commits did not become durable, nil if it did. A
// full disk is none: it mends itself.
func (s *Spool) Trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

func (s *Spool) prepare(b *Batch) (*commit, error) {
	if b.Message != nil && s.low.Load() && s.scarce() {
		return nil, ErrFull
	}
	c := &commit{batch: b, set: s.wasSet()}
	c.made = s.madeBy(c.set)
	var sum uint32
	var err error
	var prefix, body []byte
	if b.Message != nil {
		if c.kind, sum, err = b.Body.settle(b.Message.ID.String()); err != nil {
			return nil, err
		}
		if c.kind == bodyInline {
			prefix, body = b.Body.prefix, b.Body.mem
		}
	}
	c.payload, c.events, c.body = encodePayload(b, c.kind, sum, prefix, body)
	if len(c.payload) > maxPayload {
		s.forget(c)
		return nil, fmt.Errorf("commit of %d octets: too large for one record", len(c.payload))
	}
	c.crc = checksum(c.payload)
	return c, nil
}

// forget removes the body file of a commit of which nothing stands in the log.
func (s *Spool) forget(c *commit) {
	if c.kind == bodyFile {
		s.dropFile(c.batch.Message.ID.String())
	}
}

// scarce asks the disk whether it has less than the reserve. It is asked once for a
// group, and for each message while it says so.
func (s *Spool) scarce() bool {
	free, err := s.fs.Free()
	low := err == nil && free < s.o.Reserve
	s.low.Store(low)
	return low
}

var (
	errClosed = errors.New("spool is closed")
	errBusy   = errors.New("too much waits for the disk")
)

func (s *Spool) enqueue(c *commit) error {
	s.entry.RLock()
	defer s.entry.RUnlock()
	s.mu.Lock()
	closed, failure := s.closed, s.failure
	s.mu.Unlock()
	if closed {
		return errClosed
	}
	if failure != nil {
		return fmt.Errorf("an earlier promise was not kept: %w", failure)
	}
	s.queue <- c
	return nil
}

// write is the one goroutine that appends: it takes all commits that wait, writes
// them as one block and makes them durable with one fdatasync.
func (s *Spool) write() {
	defer close(s.done)
	var group []*commit
	for {
		c, again := s.next()
		group = append(group[:0], s.owed...)
		s.owed = nil
		ended := c == nil && !again
		if c != nil {
			group = append(group, c)
		}
		// Who could go on now and has something to commit comes before this group is closed:
		// on a busy machine groups get larger by it, on an idle one nobody waits.
		runtime.Gosched()
		for more := !ended; more && len(group) < 4096; {
			select {
			case c := <-s.queue:
				if c == nil {
					ended, more = true, false
				} else {
					group = append(group, c)
				}
			default:
				more = false
			}
		}
		s.flush(group)
		s.clean()
		if ended {
			return
		}
	}
}

// owedAgain is how often promises that found no room are tried again while nothing else
// comes.
const owedAgain = time.Second

// next waits for a commit, nil at the end; again tells that none has come, and it is time
// to try what is owed.
func (s *Spool) next() (c *commit, again bool) {
	if len(s.owed) == 0 {
		return <-s.queue, false
	}
	t := time.NewTimer(owedAgain)
	defer t.Stop()
	select {
	case c = <-s.queue:
		return c, false
	case <-t.C:
		return nil, true
	}
}

// flush writes a group, by parts where a segment ends in between.
func (s *Spool) flush(group []*commit) {
	s.scarce()
	s.followClock()
	for len(group) > 0 {
		n, err := s.append(group)
		s.settle(s.keepOwed(group[:n], err), err)
		group = group[n:]
	}
}

// keepOwed sets aside the promises of a group that found no room, and gives the rest.
func (s *Spool) keepOwed(group []*commit, err error) []*commit {
	if !errors.Is(err, errNoSegment) {
		return group
	}
	rest := group[:0:0]
	for _, c := range group {
		if c.done == nil && !c.note && len(s.owed) < maxOwed {
			s.owed = append(s.owed, c)
		} else {
			rest = append(rest, c)
		}
	}
	return rest
}

// errNoSegment tells that nothing was written for want of room: a promise may be kept
// later without standing in the log twice.
var errNoSegment = errors.New("no room for a segment")

// append writes as many commits as fit into the current segment, one at least.
func (s *Spool) append(group []*commit) (n int, err error) {
	seg, err := s.room(space(len(group[0].payload)))
	if err != nil {
		return len(group), fmt.Errorf("%w: %w", errNoSegment, full(err))
	}
	block, start := s.block[:0], seg.end
	for _, c := range group {
		size := space(len(c.payload))
		if n > 0 && start+int64(len(block))+size > seg.size {
			break
		}
		c.at = at(seg.number, start+int64(len(block)))
		block = header{length: len(c.payload), events: c.events, crc: c.crc, at: c.at, written: c.made}.append(block)
		block = append(block, c.payload...)
		block = append(block, padding[:size-headerSize-int64(len(c.payload))]...)
		n++
	}
	if s.block = block; cap(block) > maxBlock {
		s.block = nil
	}
	err = s.ahead(seg, start+int64(len(block)))
	if err == nil {
		_, err = seg.file.WriteAt(block, start)
	}
	if err == nil {
		begin := time.Now()
		err = seg.file.Sync()
		if s.o.Synced != nil {
			s.o.Synced(time.Since(begin))
		}
	}
	if err != nil {
		if !s.abandon(seg, block, start, err) {
			err = fmt.Errorf("%w: %w", ErrInDoubt, err)
		}
		return n, full(err)
	}
	s.mu.Lock()
	seg.end = start + int64(len(block))
	s.mu.Unlock()
	return n, nil
}

// zeros is what is written ahead at once, at most an eighth of a segment.
var zeros [1 << 20]byte

// ahead sees to it that a segment is written for a good way behind end, where the next
// groups go. Blocks that are reserved and were never written cost an entry in the file
// system's journal with the first sync that they are in, which takes as long as the
// write itself; so they are written once, with zeros as which they read anyway, for
// many groups together. Where a file system reserves nothing they take room, which is
// left to the records themselves once there is little.
func (s *Spool) ahead(seg *segment, end int64) error {
	if end <= seg.written || s.low.Load() {
		return nil
	}
	n := min(int64(len(zeros)), s.o.SegmentSize/8, seg.size-end)
	_, err := seg.file.WriteAt(zeros[:n], end)
	if err == nil {
		seg.written = end + n
	}
	return err
}

// maxBlock bounds the memory that the writer keeps from one group to the next.
const maxBlock = 4 << 20

// padding fills a record up to the alignment.
var padding [align]byte

// abandon leaves a segment whose write or sync failed: nothing is known of what
// reached the disk. It is never written again, but for an attempt to wipe the group
// out: its commits fail, so they should not be found at the next start. It reports whether
// that is sure.
func (s *Spool) abandon(seg *segment, block []byte, start int64, cause error) bool {
	s.mu.Lock()
	seg.sealed = true
	s.mu.Unlock()
	s.o.Log.Error("spool write", "segment", segmentName(seg.number), "err", cause)
	clear(block)
	_, err := seg.file.WriteAt(block, start)
	if err = errors.Join(err, seg.file.Sync()); err != nil {
		s.o.Log.Error("spool write not undone", "segment", segmentName(seg.number), "err", err)
	}
	return err == nil
}

// room gives a segment in which a record of n octets fits.
func (s *Spool) room(n int64) (*segment, error) {
	if c := s.current; c != nil && !c.sealed && c.end+n <= c.size {
		return c, nil
	}
	number := uint32(1)
	s.mu.Lock()
	for k := range s.segments {
		number = max(number, k+1)
	}
	s.mu.Unlock()
	name := segmentName(number)
	f, err := s.fs.Open(name, true)
	if err != nil {
		return nil, err
	}
	size := max(s.o.SegmentSize, n)
	if err = f.Allocate(size); err == nil {
		err = errors.Join(f.Sync(), s.fs.SyncDir("log"))
	}
	if err != nil {
		f.Close()
		_ = s.fs.Remove(name) // the next commit tries again
		return nil, err
	}
	seg := &segment{number: number, file: f, size: size}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.current.sealed = true
	}
	s.segments[number] = seg
	s.current = seg
	return seg, nil
}

// settle tells the commits of a group their outcome and takes them into the index.
func (s *Spool) settle(group []*commit, err error) {
	lost := false
	s.mu.Lock()
	if s.trouble = err; errors.Is(err, ErrFull) {
		s.trouble = nil
	}
	for _, c := range group {
		if err == nil {
			s.index(c.at, len(c.payload), c.kind, s.ofNow(c))
			s.remember(c)
			s.durable = c.at + Position(space(len(c.payload)))
			s.outbox.add(c.at, s.durable, c.batch.Events)
		} else if c.done == nil && !c.note && s.failure == nil {
			s.failure, lost = err, true
		}
	}
	troubled := s.trouble != nil
	close(s.grown)
	s.grown = make(chan struct{})
	s.mu.Unlock()
	if (lost || troubled) && s.o.Failed != nil {
		s.o.Failed(err, lost)
	}
	for _, c := range group {
		if c.done != nil {
			c.done <- err
		}
	}
	s.reclaim()
}

// remember keeps a new message in memory while there is room. The lock is held.
func (s *Spool) remember(c *commit) {
	m := c.batch.Message
	if m == nil || c.kind == bodyFile || s.recent+int64(len(c.payload)) > s.o.Recent {
		return
	}
	if n, e := s.live.of(m.ID); e != nil {
		s.live.memory[n] = remembered{message: m, body: c.payload[len(c.payload)-c.body:], octets: int64(len(c.payload))}
		s.recent += int64(len(c.payload))
	}
}

// release gives the memory of a message back. The lock is held.
func (s *Spool) release(n uint32) {
	s.recent -= s.live.memory[n].octets
	delete(s.live.memory, n)
}

// index takes a durable batch into account. A message that is there already has been
// moved by the writer. The lock is held.
func (s *Spool) index(p Position, length, kind int, b *Batch) {
	if b.Message != nil {
		s.arrive(p, length, kind, b.Message)
	}
	for i := range b.Changes {
		s.change(p, &b.Changes[i])
	}
}

// arrive takes a message into the index, or notes where the writer has moved it. The
// lock is held.
func (s *Spool) arrive(p Position, length, kind int, m *Message) {
	n, e := s.live.of(m.ID)
	if e != nil {
		s.release(n)
		s.live.clear(n)
		s.segments[e.at.segment()].live--
		s.octets -= space(int(e.length))
		e.live = 0
	} else {
		n, e = s.live.enter(m.ID)
	}
	e.at, e.length, e.kind = p, uint32(length), uint8(kind)
	s.segments[p.segment()].live++
	s.octets += space(length)
	s.live.hold(n, len(m.Recipients))
	for i := range m.Recipients {
		r := &m.Recipients[i]
		s.live.set(n, i, p, RecipientState{State: r.State, Reason: r.Reason})
		if r.State != Settled {
			e.live++
		}
	}
	if e.live == 0 {
		s.leave(n)
	}
}

// leave forgets a message that is done with. The lock is held.
func (s *Spool) leave(n uint32) {
	e := *s.live.slot(n)
	s.release(n)
	s.live.leave(n)
	s.segments[e.at.segment()].live--
	s.octets -= space(int(e.length))
	if e.kind == bodyFile {
		_ = s.fs.Remove("big/" + e.id.String())
	}
}

// change moves a recipient on; what is settled stays settled. The lock is held.
func (s *Spool) change(p Position, c *Change) {
	n, e := s.live.of(c.ID)
	if e == nil {
		return
	}
	if st := s.live.status(n, c.Recipient); st == nil || st.state == Settled {
		return
	}
	s.live.set(n, c.Recipient, p, RecipientState{State: c.State, Attempts: c.Attempts, NotBefore: c.NotBefore, Reason: c.Reason})
	if c.State != Settled {
		s.release(n) // it will be a while
		return
	}
	if e.live--; e.live == 0 {
		s.leave(n)
	}
}

// shut keeps further commits out. It tells whether it was the first to do so.
func (s *Spool) shut() bool {
	s.entry.Lock()
	defer s.entry.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.closed
	s.closed = true
	return !was
}

// Close writes what waits and ends.
func (s *Spool) Close() error {
	if !s.shut() {
		return nil
	}
	s.queue <- nil
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.grown)
	s.grown = make(chan struct{})
	var errs []error
	for _, seg := range s.segments {
		errs = append(errs, seg.file.Close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}
