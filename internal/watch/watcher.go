package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"postern.dev/postern/internal/history"
	"postern.dev/postern/internal/ledger"
)

// Store keeps events.
type Store interface {
	// Commit makes events durable, all or none.
	Commit(ctx context.Context, events []ledger.Event) error
	// WatchState gives what former commits have left of a watch.
	WatchState(ctx context.Context, watch string) (files []ledger.Watched, open map[string][]byte, err error)
}

// Options are what a Watcher is made of.
type Options struct {
	Name    string
	Files   []string // patterns
	FromEnd bool     // files that are there at the very first start are read from their end
	History history.Options
	Rows    func() *Rows // those of the configuration in force
	Store   Store
	// Report is given each complaint and late bounce that the log itself tells of,
	// after the rows before it are durable. An error stops the watch until it is
	// repeated. Nil passes them over.
	Report func(ctx context.Context, r *history.Record) error
	Every  time.Duration // how often files are looked at; a second where zero
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time
	Log    *slog.Logger
}

// State is what a watch says of itself.
type State struct {
	Name       string
	Format     history.Format
	Files      int
	Lines      int64 // since the start
	Rows       int64
	Unreadable int64
	Orphans    int64
	Open       int       // messages under way
	Behind     int64     // octets that are not read yet
	Latest     time.Time // of the newest line
	Complete   time.Time // when the end of every file was last reached
	Err        string
}

// Watcher follows the files of one server.
type Watcher struct {
	o       Options
	parser  *history.Parser
	places  []*place
	first   bool // nothing was known of this watch
	buf     []byte
	events  []ledger.Event
	reports []history.Record
	latest  time.Time

	restarts int
	former   []place // what restarted files held before

	mu    sync.Mutex
	state State
}

// leastPrint is how many octets two files must share at their beginning to be taken for
// copies of one another. Lines of a log begin with a time.
const leastPrint = 64

// chunkSize is how much is read and committed at once.
const chunkSize = 1 << 20

// New makes a Watcher that goes on where a former one has stopped.
func New(ctx context.Context, o Options) (*Watcher, error) {
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.History.Reference = o.Now()
	w := &Watcher{o: o, parser: history.New(o.History), buf: make([]byte, chunkSize)}
	files, open, err := o.Store.WatchState(ctx, o.Name)
	if err != nil {
		return nil, fmt.Errorf("watch %q: %w", o.Name, err)
	}
	w.first = len(files) == 0
	for i := range files {
		w.places = append(w.places, fromEvent(&files[i]))
	}
	w.parser.Restore(open)
	w.state = State{Name: o.Name, Format: o.History.Format}
	return w, nil
}

// Follow reads until ctx ends. What fails is told of and tried again.
func (w *Watcher) Follow(ctx context.Context) {
	defer w.close()
	for ctx.Err() == nil {
		more, err := w.Round(ctx)
		w.note(err)
		if more && err == nil {
			continue
		}
		select {
		case <-w.o.After(w.o.Every):
		case <-ctx.Done():
		}
	}
}

func (w *Watcher) close() {
	for _, p := range w.places {
		if p.file != nil {
			p.file.Close()
			p.file = nil
		}
	}
}

// State tells how the watch fares.
func (w *Watcher) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

func (w *Watcher) note(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	w.mu.Lock()
	was := w.state.Err
	w.state.Err = text
	w.mu.Unlock()
	switch {
	case text != "" && text != was:
		w.o.Log.Error("watch is late", "watch", w.o.Name, "err", err)
	case text == "" && was != "":
		w.o.Log.Info("watch goes on", "watch", w.o.Name)
	}
}

// Round looks at every file once and reads at most a chunk of each, the oldest first. It
// tells whether there is more to be read at once.
func (w *Watcher) Round(ctx context.Context) (more bool, err error) {
	begun := w.o.Now()
	current, err := w.find()
	if err == nil {
		err = w.settle(ctx)
	}
	if err != nil {
		return false, err
	}
	for _, p := range w.places {
		if p.file == nil {
			continue
		}
		// Lines of an older file go before those of the next: a message can begin in the
		// one and end in the other.
		for {
			again, err := w.read(ctx, p, current[p.ino])
			if err != nil {
				return false, fmt.Errorf("watch %q: %s: %w", w.o.Name, p.path, err)
			}
			if !again {
				break
			}
			if ctx.Err() != nil {
				return true, ctx.Err()
			}
		}
	}
	w.retire()
	w.mu.Lock()
	w.state.Files, w.state.Complete = len(current), begun
	w.mu.Unlock()
	return false, nil
}

// settle makes the places of files durable that are not read from their beginning,
// before anything else is read: a copy of a log that has just been truncated is known by
// the place of the log, which the next commit replaces.
func (w *Watcher) settle(ctx context.Context) error {
	for _, p := range w.places {
		if p.file != nil && !p.known && p.offset > 0 {
			w.events, w.reports = w.events[:0], w.reports[:0]
			w.parser.SetHead(p.head)
			if err := w.commit(ctx, p, 0, w.parser.Counts()); err != nil {
				return err
			}
		}
	}
	return nil
}

// find matches the patterns with the files that are known. Where one begins again, what
// it held before may stand under a name that was not there a moment ago.
func (w *Watcher) find() (current map[inode]bool, err error) {
	for range 3 {
		begun := w.restarts
		if current, err = w.match(); err != nil || w.restarts == begun {
			break
		}
	}
	w.first = w.first && err != nil
	return current, err
}

// match opens what the patterns match. A file that is gone from its path, renamed or
// deleted, is read to its end all the same while it is open.
func (w *Watcher) match() (map[inode]bool, error) {
	names, err := matched(w.o.Files)
	if err != nil {
		return nil, err
	}
	current := map[inode]bool{}
	var order []*place
	for _, name := range names {
		p, err := w.open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // rotated away in this moment
		}
		if err != nil {
			return nil, fmt.Errorf("watch %q: %w", w.o.Name, err)
		}
		current[p.ino] = true
		order = append(order, p)
	}
	var rest []*place // open still, under no name: older than what has one
	for _, p := range w.places {
		if !current[p.ino] {
			rest = append(rest, p)
		}
	}
	w.places = append(rest, order...)
	return current, nil
}

// open finds the place of a file, or begins one.
func (w *Watcher) open(name string) (*place, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	ino := inodeOf(st)
	for _, p := range w.places {
		if p.ino == ino && p.file != nil {
			p.path = name
			if st.Size() < p.offset {
				w.restart(p, "truncated")
			}
			return p, nil
		}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if st, err = f.Stat(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w.adopt(name, f, st), nil
}

// restart begins a file again from its beginning.
func (w *Watcher) restart(p *place, why string) {
	w.o.Log.Info("watched file begins again", "watch", w.o.Name, "file", p.path, "why", why)
	w.restarts++
	w.former = append(w.former, place{offset: p.offset, print: p.print, printed: p.printed, head: p.head})
	if len(w.former) > 100 {
		w.former = w.former[1:]
	}
	p.offset, p.print, p.printed, p.head = 0, 0, 0, ""
}

// adopt gives an opened file the place that it had, be it under another name or as the
// copy of one that is known, or a new one.
func (w *Watcher) adopt(name string, f *os.File, st os.FileInfo) *place {
	ino := inodeOf(st)
	for _, p := range w.places {
		if p.ino == ino && p.file == nil {
			p.file, p.path = f, name
			if st.Size() < p.offset || !p.same(f) {
				w.restart(p, "another file has its inode")
			}
			return p
		}
	}
	copied := w.copyOf(f, st)
	p := &place{ino: ino, path: name, file: f}
	switch {
	case copied != nil: // by copytruncate, or back from an archive
		p.offset, p.print, p.printed, p.head = copied.offset, copied.print, copied.printed, copied.head
	case w.first && w.o.FromEnd:
		p.offset, p.head = st.Size(), firstLine(f)
		p.grow()
	}
	w.places = append(w.places, p)
	return p
}

// copyOf finds the place of the file that another is a copy of.
func (w *Watcher) copyOf(f *os.File, st os.FileInfo) (found *place) {
	try := func(p *place) {
		if p.printed >= leastPrint && p.ino != inodeOf(st) && st.Size() >= p.offset && (found == nil || p.offset > found.offset) && p.same(f) {
			found = p
		}
	}
	for _, p := range w.places {
		try(p)
	}
	for i := range w.former {
		try(&w.former[i])
	}
	return found
}

// retire closes files under no name of which nothing has come for some rounds. Their
// places stay known: a copy may turn up.
func (w *Watcher) retire() {
	for _, p := range w.places {
		if p.gone > 3 {
			p.file.Close()
			p.file, p.gone = nil, 0
		}
	}
}

// read reads a chunk of a file and commits what it makes.
func (w *Watcher) read(ctx context.Context, p *place, named bool) (more bool, err error) {
	if !named {
		p.gone++
	}
	st, err := p.file.Stat()
	switch {
	case err != nil:
		return false, err
	case st.Size() < p.offset:
		w.restart(p, "truncated")
	case st.Size() == p.offset:
		return false, nil
	case !p.same(p.file): // truncated, and longer than before by now
		w.restart(p, "written anew")
	}
	lines, more, err := p.chunk(w.buf, !named && p.gone > 1)
	if err != nil || len(lines) == 0 {
		return false, err
	}
	p.gone = 0
	before := w.parser.Counts()
	w.parser.SetHead(p.head)
	w.parser.Refer(st.ModTime())
	rows := w.o.Rows()
	w.events, w.reports = w.events[:0], w.reports[:0]
	for line := range bytes.Lines(lines) {
		w.line(rows, line)
	}
	if err := w.commit(ctx, p, int64(len(lines)), before); err != nil {
		return false, err
	}
	return more, nil
}

func (w *Watcher) line(rows *Rows, line []byte) {
	records := w.parser.Line(line)
	for i := range records {
		r := &records[i]
		if r.Time.After(w.latest) {
			w.latest = r.Time
		}
		if r.Kind > history.Failed {
			w.reports = append(w.reports, *r)
			continue
		}
		w.events = rows.Events(w.events, r)
	}
}

// commit makes the rows of a chunk durable together with the place behind it. Until that
// has succeeded nothing else is done: the parser has taken the lines in, so the same
// commit is tried again.
func (w *Watcher) commit(ctx context.Context, p *place, octets int64, before history.Counts) error {
	p.offset += octets
	p.head = w.parser.Head()
	p.grow()
	now := w.parser.Counts()
	e := p.event()
	e.Time, e.Watch = w.o.Now(), w.o.Name
	e.Lines, e.Bad, e.Rows = now.Lines-before.Lines, now.Unreadable-before.Unreadable, int64(len(w.events))
	for _, c := range w.parser.Checkpoint() {
		if c.State == nil {
			e.Closed = append(e.Closed, c.Queue)
		} else {
			e.Open = append(e.Open, ledger.WatchedOpen(c))
		}
	}
	for i := range w.reports {
		if err := w.insist(ctx, func() error { return w.report(ctx, &w.reports[i]) }); err != nil {
			return err
		}
	}
	if err := w.insist(ctx, func() error { return w.o.Store.Commit(ctx, append(w.events, e)) }); err != nil {
		return err
	}
	p.known = true
	w.count(p, e, now)
	return nil
}

// report hands on a report before the place moves on: it is known by its identity, so
// that one that is handed on twice counts once.
func (w *Watcher) report(ctx context.Context, r *history.Record) error {
	if w.o.Report == nil {
		return nil
	}
	return w.o.Report(ctx, r)
}

// insist repeats what must not be left out until it succeeds or ctx ends.
func (w *Watcher) insist(ctx context.Context, do func() error) error {
	wait := 100 * time.Millisecond
	for {
		err := do()
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		w.note(fmt.Errorf("watch %q: %w", w.o.Name, err))
		select {
		case <-w.o.After(wait):
			wait = min(2*wait, 10*time.Second)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *Watcher) count(p *place, e *ledger.Watched, c history.Counts) {
	behind := int64(0)
	if st, err := p.file.Stat(); err == nil {
		behind = max(0, st.Size()-p.offset)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.state
	s.Lines += e.Lines
	s.Rows += e.Rows
	s.Unreadable, s.Orphans, s.Open, s.Behind, s.Latest = c.Unreadable, c.Orphans, w.parser.Open(), behind, w.latest
}
