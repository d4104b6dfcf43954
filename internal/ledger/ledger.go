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
	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/smtp"
)

// ErrNotFound tells that the ledger has no such row.
var ErrNotFound = errors.New("not in the ledger")

// Options are what a Ledger is made of; all may be zero.
type Options struct {
	FS    vfs.FS // the disk where nil
	Cache int64  // octets; 64 MiB
	Log   *slog.Logger
	Now   func() time.Time
}

// Ledger is the embedded store. Its methods may be called from any goroutine; Apply
// and Flush from one at a time.
type Ledger struct {
	db   *pebble.DB
	log  *slog.Logger
	now  func() time.Time
	rows rows // of Apply

	mu       sync.Mutex
	position uint64
	moved    chan struct{}
}

// Key spaces. Each key begins with its letter; "suffix" is the event's time and a
// hash of its stored form, so that applying an event again changes nothing.
const (
	keyEvent    = 'e' // message id, suffix -> event
	keyTime     = 't' // suffix -> id of an accepted message, or the event where it has no message
	keyMID      = 'm' // hash of Message-ID, id
	keyDKIM     = 'd' // hash of b=, id
	keyRcpt     = 'r' // hash of recipient, suffix -> id
	keySource   = 's' // source address, hash of domain, suffix -> id
	keyPath     = 'p' // hash of path, suffix -> event
	keyReport   = 'R' // suffix -> event
	keyAbout    = 'a' // id, suffix -> Reported
	keySeen     = 'v' // hash of a report's identity
	keyIncident = 'i' // incident, 0, suffix -> event
	keyPolicy   = 'P' // suffix -> event
	keyAdmin    = 'A' // suffix -> event
	keyShaping  = 'S' // suffix -> ShapingChanged
	keyInForce  = 'F' // end of a shaping action, action -> ShapingChanged that began it
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
	po := &pebble.Options{FS: o.FS, Logger: quiet{o.Log}, CacheSize: o.Cache, MemTableSize: 32 << 20, FormatMajorVersion: pebble.FormatNewest}
	db, err := pebble.Open(dir, po)
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", dir, err)
	}
	l := &Ledger{db: db, log: o.Log, now: o.Now, moved: make(chan struct{})}
	v, closer, err := db.Get(metaPosition)
	if err == nil {
		l.position = binary.BigEndian.Uint64(v)
		err = closer.Close()
	} else if errors.Is(err, pebble.ErrNotFound) {
		err = nil
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger %s: %w", dir, err), db.Close())
	}
	return l, nil
}

// quiet passes only Pebble's faults on.
type quiet struct{ log *slog.Logger }

func (q quiet) Infof(string, ...any) {}
func (q quiet) Errorf(format string, a ...any) {
	q.log.Error("ledger store", "err", fmt.Sprintf(format, a...))
}
func (q quiet) Fatalf(format string, a ...any) {
	q.log.Error("ledger store", "err", fmt.Sprintf(format, a...))
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

// CaughtUp waits until everything before pos is applied.
func (l *Ledger) CaughtUp(ctx context.Context, pos uint64) error {
	for {
		l.mu.Lock()
		there, moved := l.position >= pos, l.moved
		l.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-moved:
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
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("apply to ledger: %w", err)
	}
	l.mu.Lock()
	l.position = pos
	close(l.moved)
	l.moved = make(chan struct{})
	l.mu.Unlock()
	return nil
}

// Flush makes everything applied durable and gives the position up to which it is.
func (l *Ledger) Flush() (uint64, error) {
	pos := l.Position()
	if err := l.db.Set([]byte{keyMeta, 'd'}, binary.BigEndian.AppendUint64(nil, pos), pebble.Sync); err != nil {
		return 0, fmt.Errorf("flush ledger: %w", err)
	}
	return pos, nil
}

// Source is where events come from: the spool.
type Source interface {
	Read(ctx context.Context, from uint64, most int) (events [][]byte, next uint64, err error)
	Forget(upto uint64)
}

// Follow applies what the source has, from the ledger's position on, until ctx ends
// or something fails. Now and then it flushes and lets the source forget.
func (l *Ledger) Follow(ctx context.Context, src Source) error {
	const often, enough = time.Second, 64 << 10
	last, unflushed := l.now(), 0
	for {
		events, next, err := src.Read(ctx, l.Position(), 4096)
		if err != nil {
			return err
		}
		if err := l.Apply(next, events); err != nil {
			return err
		}
		unflushed += len(events)
		if now := l.now(); unflushed >= enough || now.Sub(last) >= often {
			pos, err := l.Flush()
			if err != nil {
				return err
			}
			src.Forget(pos)
			last, unflushed = now, 0
		}
	}
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

func idAt(k []byte, offset int) (id smtp.ID) {
	copy(id[:], k[offset:])
	return id
}
