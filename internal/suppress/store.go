package suppress

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/policy"
)

// Options are what a Store is made of; all may be zero but Key.
type Options struct {
	Key    string // file of the secret that hashes are keyed with; made with a new list
	Hashed bool   // new entries keep the hash of their address and not the address
	FS     vfs.FS // the disk where nil
	Cache  int64  // octets; 256 MiB. A hundred million entries want 190 MiB for filters and indexes
	Random io.Reader
	Buffer int // octets that an import sorts in memory at a time; 48 MiB where zero
	Log    *slog.Logger
	Now    func() time.Time
	// Failed is told once when nothing can be written any more, before whoever writes is.
	Failed func(error)
}

// Store is the list. Its methods may be called from any goroutine.
type Store struct {
	db     *pebble.DB
	fs     vfs.FS
	dir    string                // where imports are put together
	table  sstable.WriterOptions // of tables that are made outside of the store
	o      Options
	broken *broken
	secret secret
	hashed atomic.Bool
	known  known

	mu       sync.Mutex // held from reading an entry to writing it anew
	position uint64

	importing sync.Mutex
	underway  bool     // an import is; guarded by mu
	erased    []erased // while it is
}

// Key spaces. An entry's key is its letter, the length of the customer's name, the name
// and the hash.
const (
	keyMeta   = 0   // letter -> value
	keyExpiry = 'x' // second of expiry, key of an entry
	keyEntry  = 'e' // -> entry
)

var (
	metaPosition = []byte{keyMeta, 'p'} // up to where the events of the ledger have had their effect
	metaSecret   = []byte{keyMeta, 'k'} // id of the secret
)

// Sizes of the store, octets. Four tables in memory at most, and the cache.
const (
	memTable   = 32 << 20
	memTables  = 4
	tableFile  = 8 << 20 // of the first level; doubled from level to level
	block      = 8 << 10
	indexBlock = 256 << 10
)

// Open opens the list in a folder, making it if need be.
func Open(dir string, o Options) (*Store, error) {
	if o.Cache == 0 {
		o.Cache = 256 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Buffer == 0 {
		o.Buffer = 48 << 20
	}
	broken := newBroken(o.Log, o.Failed)
	po := settings(&o, broken)
	po.EnsureDefaults()
	db, err := pebble.Open(dir, po)
	if err != nil {
		return nil, fmt.Errorf("open suppression list %s: %w", dir, err)
	}
	s := &Store{db: db, fs: po.FS, dir: po.FS.PathJoin(dir, workshop), table: po.MakeWriterOptions(len(po.Levels)-1, db.TableFormat()), o: o, broken: broken}
	s.hashed.Store(o.Hashed)
	if err := s.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("open suppression list %s: %w", dir, err), db.Close())
	}
	return s, nil
}

// settings are those of a store that is read for keys that mostly are not there: every
// level has Bloom filters of ten bits a key.
func settings(o *Options, b *broken) *pebble.Options {
	po := &pebble.Options{FS: o.FS, Logger: b, EventListener: b.listener(), CacheSize: o.Cache, FormatMajorVersion: pebble.FormatNewest,
		MemTableSize: memTable, MemTableStopWritesThreshold: memTables, L0CompactionThreshold: 4, L0StopWritesThreshold: 64,
		LBaseMaxBytes: 256 << 20, BytesPerSync: 1 << 20, WALBytesPerSync: 1 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 }}
	for i := range po.Levels {
		l := &po.Levels[i]
		l.BlockSize, l.IndexBlockSize, l.FilterPolicy = block, indexBlock, bloom.FilterPolicy(10)
		po.TargetFileSizes[i] = tableFile << min(i, 4)
	}
	return po
}

// begin reads where the list stands, and holds its secret against the one it was made
// with.
func (s *Store) begin() error {
	if err := s.fs.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove what an import has left: %w", err)
	}
	id, err := s.meta(metaSecret)
	if err != nil {
		return err
	}
	if s.secret, err = loadSecret(s.o.Key, id == nil, s.o.Random); err != nil {
		return err
	}
	if id == nil {
		if err := s.write(func() error { return s.db.Set(metaSecret, []byte(s.secret.id()), pebble.Sync) }); err != nil {
			return err
		}
	} else if string(id) != s.secret.id() {
		return fmt.Errorf("the key in %s is another one than the list was made with", s.o.Key)
	}
	pos, err := s.meta(metaPosition)
	if err == nil && len(pos) == 8 {
		s.position = binary.BigEndian.Uint64(pos)
	}
	if err != nil {
		return err
	}
	return s.known.learn(s.db)
}

// meta reads a value of the list itself; nil where there is none.
func (s *Store) meta(k []byte) ([]byte, error) {
	v, closer, err := s.db.Get(k)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return append([]byte{}, v...), closer.Close()
}

// KeepHashesOnly changes whether new entries keep their address, or only its hash.
func (s *Store) KeepHashesOnly(only bool) { s.hashed.Store(only) }

// Close flushes and closes.
func (s *Store) Close() error { return s.db.Close() }

// Err gives why nothing can be written any more; nil while it can.
func (s *Store) Err() error { return s.broken.err() }

// write does what writes to the store, unless the store has failed, and finds out
// whether it failed thereby.
func (s *Store) write(do func() error) error {
	if err := s.Err(); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return s.Err()
}

// commit makes a batch durable.
func (s *Store) commit(b *pebble.Batch) error {
	return s.write(func() error { return b.Commit(pebble.Sync) })
}

// entryKey appends the key of an entry.
func entryKey(b []byte, customer string, h Hash) []byte {
	b = append(b, keyEntry, byte(len(customer)))
	b = append(b, customer...)
	return append(b, h[:]...)
}

// parseKey takes a key of an entry apart.
func parseKey(k []byte) (customer string, h Hash, ok bool) {
	if len(k) < 2 || k[0] != keyEntry || len(k) != 2+int(k[1])+len(h) {
		return "", h, false
	}
	n := 2 + int(k[1])
	return string(k[2:n]), Hash(k[n:]), true
}

// expiryKey makes the key under which an entry is found when its time is over.
func expiryKey(e *Entry, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{keyExpiry}, seconds(e.Expires)), key...)
}

// Find looks an address up: on the customer's own list, then on everybody's. It gives
// false where neither holds it.
func (s *Store) Find(customer string, a policy.Address) (Entry, bool, error) {
	var h Hash
	now := s.o.Now()
	for i, c := range [2]string{customer, ""} {
		if i == 1 && customer == "" {
			break
		}
		if !s.known.has(c) {
			continue
		}
		if h == (Hash{}) {
			h = s.secret.hash(a)
		}
		e, found, err := s.get(c, h)
		if err != nil {
			return Entry{}, false, fmt.Errorf("look up suppression: %w", err)
		}
		if found && e.active(now) {
			return e, true, nil
		}
	}
	return Entry{}, false, nil
}

// get reads one entry, in force or not.
func (s *Store) get(customer string, h Hash) (e Entry, found bool, err error) {
	if len(customer) > maxCustomer {
		return e, false, nil
	}
	var room [2 + maxCustomer + len(h)]byte
	v, closer, err := s.db.Get(entryKey(room[:0], customer, h))
	if err != nil {
		if errors.Is(err, pebble.ErrNotFound) {
			err = nil
		}
		return e, false, err
	}
	err = errors.Join(e.decode(v), closer.Close())
	e.Customer, e.Hash = customer, h
	return e, err == nil, err
}

// after gives the first key behind all keys with a prefix.
func after(prefix []byte) []byte {
	p := append([]byte(nil), prefix...)
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != math.MaxUint8 {
			p[i]++
			return p[:i+1]
		}
	}
	return nil
}
