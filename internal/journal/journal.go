package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
)

// Source is where events come from: the spool.
type Source interface {
	Read(ctx context.Context, from uint64, most int) (events [][]byte, next uint64, err error)
	Oldest() uint64
	Durable() uint64
}

// Rows looks up the message that an event is about.
type Rows interface {
	Accepted(ctx context.Context, id smtp.ID) (*ledger.Accepted, error)
}

// Format is the form of the lines.
type Format string

// The formats.
const (
	JSONL Format = "jsonl"
	PMTA  Format = "pmta-csv"
)

// Options are what a Journal is made of.
type Options struct {
	Name     string
	Format   Format
	Path     string // of the file being written
	Position string // file of the position
	Events   map[ledger.Kind]bool
	Records  map[string]bool // of accounting records: d, b, t, r, rb, f
	Key      []byte          // writes addresses as hashes under this key; nil writes them as they are

	RotateSize  int64         // 0 is never
	RotateEvery time.Duration // at multiples of it since 1970 in UTC; 0 is never
	Keep        Keep
	Compress    bool

	Source Source
	Rows   Rows
	// Saved is told the position before which nothing is needed any more.
	Saved func(pos uint64)
	Log   *slog.Logger
	Now   func() time.Time
}

// Journal is one file that follows the ledger's events.
type Journal struct {
	o      Options
	places *places
	file   *file
	lines  encoder

	at    place // of what is written, durable or not
	dirty bool  // at is ahead of what is durable
	// suspect: a sync has failed, and lines since the last durable place may be lost.
	suspect bool
	// unmarked: the place does not lead to the file yet, which must have no line before it does.
	unmarked bool
	last     time.Time
	since    int64 // octets written since the last durable place

	reopen chan struct{}
	work   sync.WaitGroup // compression under way

	mu    sync.Mutex
	state State
}

// State is what a journal says of itself.
type State struct {
	Name   string
	Format Format
	Path   string
	At     uint64 // everything before is in the file
	Seq    uint64 // events until now
	Gaps   int    // since the start
	Err    string // why nothing is written at the moment
}

// encoder makes the lines of an event; none where it is not wanted.
type encoder interface {
	header() []byte
	// lines appends to b what the file has of event number seq.
	lines(ctx context.Context, b []byte, seq uint64, e ledger.Event, raw []byte) ([]byte, error)
	gap(b []byte, p *place) []byte
}

// How much is written before it is made durable, and how often at least.
const (
	syncOctets = 4 << 20
	syncEvery  = time.Second
	readMost   = 1024
	drainTime  = 5 * time.Second // at the end
)

// Open opens the file and finds its place. A journal that is new begins with what
// happens from now on.
func Open(o Options) (*Journal, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	j := &Journal{o: o, reopen: make(chan struct{}, 1)}
	switch o.Format {
	case PMTA:
		j.lines = newAccounting(o)
	default:
		j.lines = newObjects(o)
	}
	if err := os.MkdirAll(filepath.Dir(o.Position), 0o700); err != nil {
		return nil, fmt.Errorf("log file %q: %w", o.Name, err)
	}
	ps, err := openPlaces(o.Position, func() uint64 { return max(o.Source.Durable(), o.Source.Oldest()) })
	if err != nil {
		return nil, fmt.Errorf("log file %q: position: %w", o.Name, err)
	}
	j.places, j.at, j.last = ps, ps.last, o.Now()
	if end := max(o.Source.Durable(), o.Source.Oldest()); j.at.At > end {
		return nil, errors.Join(fmt.Errorf("log file %q: its position is %d, the spool ends at %d: this is another spool; remove %s to begin with what happens from now on", o.Name, j.at.At, end, o.Position), ps.close())
	}
	if j.file, err = openAt(o.Path, j.lines.header(), &j.at, o.Now()); err != nil {
		return nil, errors.Join(fmt.Errorf("log file %q: %w", o.Name, err), ps.close())
	}
	j.state = State{Name: o.Name, Format: o.Format, Path: o.Path, At: j.at.At, Seq: j.at.Seq}
	if j.at.Inode == j.file.inode && j.at.Size == uint64(j.file.size) {
		return j, nil
	}
	if err := j.mark(); err != nil {
		return nil, errors.Join(fmt.Errorf("log file %q: %w", o.Name, err), j.file.close(), ps.close())
	}
	return j, nil
}

// Position is where the journal is durable.
func (j *Journal) Position() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.At
}

// State tells how the journal fares.
func (j *Journal) State() State {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state
}

// Reopen opens the path anew, for who has moved the file away. It returns at once.
func (j *Journal) Reopen() {
	select {
	case j.reopen <- struct{}{}:
	default:
	}
}

// Follow writes events until ctx ends, and makes the rest durable then. What fails is
// tried again: a full disk makes the journal late, and nothing else.
func (j *Journal) Follow(ctx context.Context) {
	var wait time.Duration
	for ctx.Err() == nil {
		err := j.step(ctx)
		j.report(err)
		if err == nil || ctx.Err() != nil {
			wait = 0
			continue
		}
		wait = min(max(2*wait, 100*time.Millisecond), 10*time.Second)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	j.drain()
	err := j.save()
	if j.suspect {
		err = errors.Join(err, j.rewind()) // the next start makes the lines again
	}
	if err != nil {
		j.o.Log.Error("log file not made durable, the next start goes on from the last position", "name", j.o.Name, "err", err)
	}
	j.work.Wait()
	if err := errors.Join(j.file.close(), j.places.close()); err != nil {
		j.o.Log.Error("log file not closed", "name", j.o.Name, "err", err)
	}
}

// drain writes what is durable already, as long as that goes without a fault.
func (j *Journal) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	for (j.suspect || j.at.At < j.o.Source.Durable()) && ctx.Err() == nil {
		if err := j.step(ctx); err != nil {
			return
		}
	}
}

// report notes an error once, and its end.
func (j *Journal) report(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	j.mu.Lock()
	was := j.state.Err
	j.state.Err = text
	j.mu.Unlock()
	switch {
	case text != "" && was == "":
		j.o.Log.Error("log file is late, mail goes on", "name", j.o.Name, "path", j.o.Path, "err", err)
	case text == "" && was != "":
		j.o.Log.Info("log file is written again", "name", j.o.Name, "path", j.o.Path)
	}
}

// step writes what waits, or reads and writes the next events.
func (j *Journal) step(ctx context.Context) error {
	if j.suspect {
		if err := j.rewind(); err != nil {
			return err
		}
	}
	if j.unmarked {
		if err := j.mark(); err != nil {
			return err
		}
	}
	if len(j.file.wait) > 0 {
		if err := j.flush(); err != nil {
			return err
		}
	}
	if err := j.turnOver(); err != nil {
		return err
	}
	if err := j.gap(); err != nil {
		return err
	}
	if j.dirty && (j.since >= syncOctets || j.o.Now().Sub(j.last) >= syncEvery) {
		return j.save()
	}
	events, next, err := j.read(ctx)
	if err != nil {
		return err
	}
	return j.write(ctx, events, next)
}

// read waits for events, but no longer than what is written may stay without being
// made durable.
func (j *Journal) read(ctx context.Context) ([][]byte, uint64, error) {
	bounded, cancel := ctx, context.CancelFunc(func() {})
	if j.dirty {
		bounded, cancel = context.WithTimeout(ctx, syncEvery)
	}
	defer cancel()
	events, next, err := j.o.Source.Read(bounded, j.at.At, readMost)
	switch {
	case err == nil:
		return events, next, nil
	case ctx.Err() != nil:
		return nil, j.at.At, ctx.Err()
	case bounded.Err() != nil:
		return nil, j.at.At, j.save()
	case j.at.At < j.o.Source.Oldest():
		return nil, j.at.At, nil // the next step finds the gap
	}
	return nil, j.at.At, fmt.Errorf("read events: %w", err)
}

// write makes and writes the lines of some events. The place moves with the last of
// them, once its line is no longer only in memory.
func (j *Journal) write(ctx context.Context, events [][]byte, next uint64) error {
	if next == j.at.At {
		return nil
	}
	var buf []byte
	seq := j.at.Seq
	for _, raw := range events {
		e, err := ledger.Decode(raw)
		if err != nil {
			e = nil
		}
		if buf, err = j.lines.lines(ctx, buf, seq+1, e, raw); err != nil {
			return err // nothing of this round is taken: it is read again
		}
		seq++
	}
	if err := j.put(buf); err != nil {
		return err
	}
	j.at.At, j.at.Seq, j.at.GapFrom, j.at.GapTime = next, seq, 0, 0
	j.dirty = true
	return j.flush()
}

func (j *Journal) put(lines []byte) error {
	had := len(j.file.tail)
	foreign, err := j.file.put(lines)
	if foreign {
		j.o.Log.Warn("log file had lines of other settings, or damaged ones, behind its last durable position: they are made again", "name", j.o.Name, "octets", had)
	}
	return err
}

func (j *Journal) flush() error {
	before := j.file.size
	err := j.file.flush()
	j.since += j.file.size - before
	if err != nil {
		return fmt.Errorf("write %s: %w", j.o.Path, err)
	}
	return nil
}

// save makes the file durable, then its place.
func (j *Journal) save() error {
	if !j.dirty {
		return nil
	}
	if len(j.file.wait) > 0 {
		if err := j.flush(); err != nil {
			return err
		}
	}
	if j.suspect {
		return errSuspect
	}
	if err := j.file.sync(); err != nil {
		j.suspect = true
		return fmt.Errorf("sync %s: %w", j.o.Path, err)
	}
	return j.mark()
}

var errSuspect = errors.New("lines are lost that could not be made durable")

// rewind goes back to the last durable place. When a sync fails, the system may forget
// what it could not write, and say of the next sync that all is well. So the lines since
// then are cut off, and made again.
func (j *Journal) rewind() error {
	at := j.places.last
	f, err := openAt(j.o.Path, j.lines.header(), &at, j.o.Now())
	if err != nil {
		return fmt.Errorf("open %s again: %w", j.o.Path, err)
	}
	if len(f.tail) > 0 {
		if err := f.f.Truncate(f.size); err != nil {
			return errors.Join(fmt.Errorf("cut %s: %w", j.o.Path, err), f.close())
		}
		f.tail = nil
	}
	old := j.file
	j.file, j.at, j.since = f, at, 0
	j.suspect, j.dirty, j.unmarked = false, false, f.inode != at.Inode || uint64(f.size) != at.Size
	if err := old.close(); err != nil {
		j.o.Log.Warn("log file not closed", "name", j.o.Name, "err", err)
	}
	return nil
}

// mark makes the place durable: all before it is in the file.
func (j *Journal) mark() error {
	j.at.Inode, j.at.Size = j.file.inode, uint64(j.file.size)
	if err := j.places.save(j.at); err != nil {
		return fmt.Errorf("save position of %s: %w", j.o.Path, err)
	}
	j.dirty, j.unmarked, j.since, j.last = false, false, 0, j.o.Now()
	j.mu.Lock()
	j.state.At, j.state.Seq = j.at.At, j.at.Seq
	j.mu.Unlock()
	if j.o.Saved != nil {
		j.o.Saved(j.at.At)
	}
	return nil
}

// gap looks whether the events at the journal's place are still there, and tells of
// what is gone: first durably in the place, then in the file.
func (j *Journal) gap() error {
	oldest := j.o.Source.Oldest()
	if j.at.At < oldest {
		if err := j.save(); err != nil {
			return err
		}
		if j.at.GapFrom == 0 {
			j.at.GapFrom, j.at.GapTime = j.at.At, j.o.Now().UnixMicro()
		}
		j.o.Log.Error("log file has lost events: it was late for longer than the spool may be held back", "name", j.o.Name, "from", j.at.At, "to", oldest)
		j.at.At = oldest
		if err := j.mark(); err != nil {
			return err
		}
		j.mu.Lock()
		j.state.Gaps++
		j.mu.Unlock()
	}
	if j.at.GapFrom == 0 {
		return nil
	}
	if line := j.lines.gap(nil, &j.at); line != nil {
		if err := j.put(line); err != nil {
			return err
		}
	}
	j.at.GapFrom, j.at.GapTime, j.dirty = 0, 0, true
	return nil
}
