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
	db  *pebble.DB
	log *slog.Logger
	now func() time.Time

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
		if err := l.index(b, ev); err != nil {
			return err
		}
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
func suffix(t time.Time, ev []byte) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(t.UnixMicro()))
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(ev))
}

func key(space byte, parts ...[]byte) []byte {
	k := append(make([]byte, 0, 64), space)
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

func hash8(s string) []byte { return binary.BigEndian.AppendUint64(nil, xxhash.Sum64String(s)) }

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

func (p Path) key() []byte { return hash8(p.Listener + "\x00" + p.Filter + "\x00" + p.Origin) }

func source16(e *HandedOff) []byte { a := e.Source.As16(); return a[:] }

// index puts one event under all its keys. What cannot be decoded is kept apart.
func (l *Ledger) index(b *pebble.Batch, ev []byte) error {
	e, err := Decode(ev)
	if err != nil {
		l.log.Error("event not understood", "err", err)
		return b.Set(key(keyBad, suffix(l.now(), ev)), ev, nil)
	}
	if s, ok := e.(*ShapingChanged); ok && s.State == ShapingUndone {
		if err := b.Delete(s.inForce(), nil); err != nil {
			return err
		}
	}
	if w, ok := e.(*Watched); ok {
		return w.index(b, ev)
	}
	for _, kv := range entries(e, ev) {
		if err := b.Set(kv[0], kv[1], nil); err != nil {
			return err
		}
	}
	return nil
}

// entries lists the keys and values of an event.
func entries(e Event, ev []byte) [][2][]byte {
	sfx := suffix(e.When(), ev)
	var out [][2][]byte
	put := func(k, v []byte) { out = append(out, [2][]byte{k, v}) }
	switch e := e.(type) {
	case *Accepted:
		put(key(keyEvent, e.ID[:], sfx), ev)
		put(key(keyTime, sfx), e.ID[:])
		if e.MessageID != "" {
			put(key(keyMID, hash8(e.MessageID), e.ID[:]), nil)
		}
		if e.Queue != "" {
			put(key(keyQueue, hash8(e.Watch+"\x00"+e.Queue), e.ID[:]), nil)
		}
		for _, d := range e.DKIM {
			put(key(keyDKIM, u64(d), e.ID[:]), nil)
		}
		for i := range e.Decisions {
			put(key(keyRcpt, hash8(RecipientKey(e.Decisions[i].Recipient)), sfx), e.ID[:])
		}
	case *HandedOff:
		put(key(keyEvent, e.ID[:], sfx), ev)
		put(key(keySource, source16(e), hash8(e.Domain), sfx), e.ID[:])
		put(key(keyPath, e.Path.key(), sfx), ev)
	case *Attempted:
		put(key(keyEvent, e.ID[:], sfx), ev)
	case *Bounced:
		put(key(keyEvent, e.ID[:], sfx), ev)
		put(key(keyPath, e.Path.key(), sfx), ev)
	case *Held:
		put(key(keyEvent, e.ID[:], sfx), ev)
		put(key(keyPath, e.Path.key(), sfx), ev)
	case *Released:
		put(key(keyEvent, e.ID[:], sfx), ev)
	case *Dropped:
		put(key(keyEvent, e.ID[:], sfx), ev)
	case *GuardTripped:
		put(key(keyEvent, e.ID[:], sfx), ev)
		put(key(keyPath, e.Path.key(), sfx), ev)
	case *Reported:
		put(key(keyReport, sfx), ev)
		put(key(keySeen, hash8(e.Identity)), nil)
		if !e.Subject.IsZero() {
			put(key(keyAbout, e.Subject[:], sfx), ev)
		}
		if !e.ID.IsZero() {
			put(key(keyEvent, e.ID[:], sfx), ev)
		}
	case *IncidentChanged:
		put(key(keyIncident, []byte(e.Incident), []byte{0}, sfx), ev)
	case *PolicyLoaded:
		put(key(keyPolicy, sfx), ev)
		put(key(keyTime, sfx), ev)
	case *Admin:
		put(key(keyAdmin, sfx), ev)
		put(key(keyTime, sfx), ev)
	case *ShapingChanged:
		put(key(keyShaping, sfx), ev)
		if e.State == ShapingBegan {
			put(e.inForce(), ev)
		}
	default:
		put(key(keyTime, sfx), ev)
	}
	return out
}

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
