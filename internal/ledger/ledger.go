package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/smtp"
)

// ErrNotFound tells that the ledger has no such row.
var ErrNotFound = errors.New("not in the ledger")

// FS is a disk that a store can be on. Tests make one that fails.
type FS = vfs.FS

// Options are what a Ledger is made of; all may be zero.
type Options struct {
	FS    FS    // the disk where nil
	Cache int64 // octets; 64 MiB
	Log   *slog.Logger
	Now   func() time.Time
	// Failed is told once when nothing can be written any more, before whoever writes is.
	Failed func(error)
}

// Ledger is the embedded store. Its methods may be called from any goroutine; Apply
// and Flush from one at a time.
type Ledger struct {
	db      *pebble.DB
	dir     string
	options *pebble.Options
	log     *slog.Logger
	now     func() time.Time
	broken  *broken
	rows    rows // of Apply

	mu       sync.Mutex
	position uint64
	moved    chan struct{}
	ended    error // why nobody applies events any more
}

// Key spaces. Each key begins with its letter; "suffix" is the event's time and a
// hash of its stored form, so that applying an event again changes nothing. A message
// id begins with the time, to the millisecond, so keys that end in one sort by it.
const (
	keyEvent    = 'e' // message id -> Accepted; message id, suffix -> its other events
	keyTime     = 't' // suffix -> event without a message
	keyMID      = 'm' // hash of Message-ID, id
	keyDKIM     = 'd' // hash of b=, id
	keyRcpt     = 'r' // hash of recipient, id
	keyHandOff  = 'h' // see handOffKey
	keyPath     = 'p' // hash of path, suffix -> event, of a hand-off what an impact needs
	keyReport   = 'R' // suffix -> event
	keyAbout    = 'a' // id, suffix -> Reported
	keySeen     = 'v' // hash of a report's identity
	keyIncident = 'i' // incident, 0, suffix -> event
	keyPolicy   = 'P' // suffix -> event
	keyAdmin    = 'A' // suffix -> event
	keyShaping  = 'S' // suffix -> ShapingChanged
	keyInForce  = 'F' // end of a shaping action, action -> ShapingChanged that began it
	keyQueue    = 'q' // hash of a watch and a queue id of its server, id
	keyWatch    = 'w' // hash of a watch, then 'f' and a file, or 'o' and a message under way (watched.go)
	keyBad      = 'b' // suffix -> octets that are no event
	keyMeta     = 'x'
)

var metaPosition = []byte{keyMeta, 'p'}

// Open opens the store in a folder, making it if need be.
func Open(dir string, o Options) (*Ledger, error) {
	if o.Cache == 0 {
		o.Cache = 64 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	broken := newBroken(o.Log, o.Failed)
	po := store(&o, broken)
	db, err := pebble.Open(dir, po)
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", dir, err)
	}
	l := &Ledger{db: db, dir: dir, options: po, log: o.Log, now: o.Now, broken: broken, moved: make(chan struct{})}
	v, closer, err := db.Get(metaPosition)
	if err == nil {
		l.position = binary.BigEndian.Uint64(v)
		err = closer.Close()
	} else if errors.Is(err, pebble.ErrNotFound) {
		err = nil
	}
	if err == nil {
		err = l.migrate()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger %s: %w", dir, err), db.Close())
	}
	return l, nil
}

// Err gives why nothing can be written any more; nil while it can. What was not written
// stays in the log, from where the next start reads it.
func (l *Ledger) Err() error { return l.broken.err() }

// store sets Pebble up for a large index of which little is ever read: the lower levels
// are compressed well, and look-ups of one key ask a Bloom filter first, since most
// reports are about mail that is not here.
func store(o *Options, broken *broken) *pebble.Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	po := &pebble.Options{FS: o.FS, Logger: broken, EventListener: broken.listener(), CacheSize: o.Cache, MemTableSize: 32 << 20, FormatMajorVersion: pebble.FormatNewest}
	po.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionGood })
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		po.Levels[i].BlockSize = 16 << 10 // events of one time are much alike: a quarter less than with 4 KiB
	}
	po.EnsureDefaults()
	return po
}

// Close flushes and closes.
func (l *Ledger) Close() error {
	_, err := l.Flush()
	return errors.Join(err, l.db.Close())
}

// Position is where in the log the ledger stands: everything before is applied.
func (l *Ledger) Position() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.position
}

// CaughtUp waits until everything before pos is applied. It fails where that is not going
// to happen any more.
func (l *Ledger) CaughtUp(ctx context.Context, pos uint64) error {
	for {
		l.mu.Lock()
		there, moved, ended := l.position >= pos, l.moved, l.ended
		l.mu.Unlock()
		if there {
			return nil
		}
		if ended != nil {
			return fmt.Errorf("wait for the ledger: %w", ended)
		}
		select {
		case <-moved:
		case <-l.broken.since:
			return l.Err()
		case <-ctx.Done():
			return fmt.Errorf("wait for the ledger: %w", ctx.Err())
		}
	}
}

// Apply indexes events and moves the position in one batch, without waiting for the
// disk: the log is the truth, and after a crash its tail is applied again, which
// changes nothing.
func (l *Ledger) Apply(pos uint64, events [][]byte) error {
	b := l.db.NewBatch()
	defer b.Close()
	for _, ev := range events {
		l.index(&l.rows, ev)
	}
	err := l.rows.into(b)
	l.rows.clear()
	if err != nil {
		return err
	}
	if err := b.Set(metaPosition, binary.BigEndian.AppendUint64(nil, pos), nil); err != nil {
		return err
	}
	if err := l.Err(); err != nil {
		return err
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("apply to ledger: %w", err)
	}
	if err := l.Err(); err != nil {
		return err // it was not applied
	}
	l.mu.Lock()
	l.position = pos
	l.wake()
	l.mu.Unlock()
	return nil
}

// wake lets those look again who wait. The lock is held.
func (l *Ledger) wake() {
	close(l.moved)
	l.moved = make(chan struct{})
}

// Size gives the octets that the store takes on the disk.
func (l *Ledger) Size() uint64 { return l.db.Metrics().DiskSpaceUsage() }

// Flush makes everything applied durable and gives the position up to which it is.
func (l *Ledger) Flush() (uint64, error) {
	pos := l.Position()
	if err := l.Err(); err != nil {
		return 0, err
	}
	if err := l.db.Set([]byte{keyMeta, 'd'}, binary.BigEndian.AppendUint64(nil, pos), pebble.Sync); err != nil {
		return 0, fmt.Errorf("flush ledger: %w", err)
	}
	return pos, l.Err()
}

// Source is where events come from: the spool.
type Source interface {
	Read(ctx context.Context, from uint64, most int) (events [][]byte, next uint64, err error)
	Forget(upto uint64)
}

// often is how long events stay applied that are not durable in the ledger, enough how
// many.
const often, enough = time.Second, 64 << 10

// Follow applies what the source has, from the ledger's position on, until ctx ends
// or something fails. Now and then it flushes and lets the source forget.
func (l *Ledger) Follow(ctx context.Context, src Source) error {
	err := l.follow(ctx, src)
	if ctx.Err() == nil {
		l.mu.Lock()
		l.ended = err
		l.wake()
		l.mu.Unlock()
	}
	return err
}

func (l *Ledger) follow(ctx context.Context, src Source) error {
	last, unflushed := l.now(), 0
	for {
		n, idle, err := l.step(ctx, src, unflushed > 0)
		if err != nil {
			return err
		}
		unflushed += n
		if now := l.now(); unflushed >= enough || now.Sub(last) >= often || idle {
			pos, err := l.Flush()
			if err != nil {
				return err
			}
			src.Forget(pos)
			last, unflushed = now, 0
		}
	}
}

// step applies what the source has next, and gives how many events that were. Where some
// wait to become durable it waits for more only a while, and tells of that.
func (l *Ledger) step(ctx context.Context, src Source, bounded bool) (n int, idle bool, err error) {
	wait, cancel := ctx, context.CancelFunc(func() {})
	if bounded {
		wait, cancel = context.WithTimeout(ctx, often)
	}
	defer cancel()
	events, next, err := src.Read(wait, l.Position(), 4096)
	if err != nil && wait.Err() != nil && ctx.Err() == nil {
		return 0, true, nil
	}
	if err != nil {
		return 0, false, err
	}
	return len(events), false, l.Apply(next, events)
}

// suffix makes the end of a key from an event's time and content.
func suffix(t time.Time, ev []byte) (b [16]byte) {
	binary.BigEndian.PutUint64(b[:], uint64(t.UnixMicro()))
	binary.BigEndian.PutUint64(b[8:], xxhash.Sum64(ev))
	return b
}

func key(space byte, parts ...[]byte) []byte {
	k := append(make([]byte, 0, 64), space)
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

func hash8(s string) []byte { return u64(xxhash.Sum64String(s)) }

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// RecipientKey is the form of an address under which it is looked up: lower case.
func RecipientKey(address string) string { return strings.ToLower(address) }

// SubjectHash fingerprints a Subject field: white space is folded, case kept.
func SubjectHash(subject string) uint64 {
	return xxhash.Sum64String(strings.Join(strings.Fields(subject), " "))
}

// DKIMHash fingerprints the b= tag of a DKIM-Signature; white space does not count
// (RFC 6376, section 3.5).
func DKIMHash(b string) uint64 { return xxhash.Sum64String(strings.Join(strings.Fields(b), "")) }

func (p Path) key() []byte { h := p.hash(); return h[:] }

// scan runs fn over the keys with a prefix, in order, until it gives false. from and
// to bound what stands behind the prefix; either may be nil.
func (l *Ledger) scan(ctx context.Context, prefix, from, to []byte, fn func(k, v []byte) (bool, error)) error {
	lower := append(append([]byte(nil), prefix...), from...)
	upper := append(append([]byte(nil), prefix...), to...)
	if to == nil {
		upper = after(prefix)
	}
	it, err := l.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, it.Close())
		}
		more, err := fn(it.Key(), it.Value())
		if err != nil || !more {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// after gives the first key behind all keys with a prefix.
func after(prefix []byte) []byte {
	p := append([]byte(nil), prefix...)
	for i := len(p) - 1; i >= 0; i-- {
		if p[i]++; p[i] != 0 {
			return p[:i+1]
		}
	}
	return nil
}

// timeBound gives the key part of a time; the zero time bounds nothing.
func timeBound(t time.Time) []byte {
	if t.IsZero() {
		return nil
	}
	return u64(uint64(t.UnixMicro()))
}

// idBound gives the beginning of the ids of a time; the zero time bounds nothing.
func idBound(t time.Time) []byte {
	if t.IsZero() {
		return nil
	}
	id := smtp.NewID(t, [6]byte{})
	return id[:6]
}

func idAt(k []byte, offset int) (id smtp.ID) {
	copy(id[:], k[offset:])
	return id
}
