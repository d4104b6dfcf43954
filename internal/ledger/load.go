package ledger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// loadMemory is how many octets of keys and values Load gathers before it writes a
// table; of a table at a time for what comes in the order of its keys.
const (
	loadMemory = 512 << 20
	loadTable  = 64 << 20
)

// Load indexes the history of another system: events about messages in any order, best
// by time. It writes sorted tables beside the store and has them taken in, which costs a
// fraction of Apply and leaves little to be compacted. It moves no position, and what it
// has taken in is durable when it returns; broken off, it can be begun again.
func (l *Ledger) Load(ctx context.Context, events iter.Seq2[Event, error]) error {
	ld := loader{l: l, runs: map[byte]*run{}}
	for e, err := range events {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = ld.add(e)
		}
		if err != nil {
			return fmt.Errorf("load ledger: %w", err)
		}
	}
	for space := range ld.runs {
		if err := ld.flush(space); err != nil {
			return fmt.Errorf("load ledger: %w", err)
		}
	}
	return l.Err()
}

// run gathers the entries of one key space.
type run struct {
	octets []byte
	at     []entry
}

// entry is a key and its value within a run's octets. The first octets of the key
// behind its letter stand by themselves, for sorting.
type entry struct {
	first      uint64
	start      int
	key, value uint32
}

func (r *run) key(e *entry) []byte   { return r.octets[e.start : e.start+int(e.key)] }
func (r *run) value(e *entry) []byte { return r.octets[e.start+int(e.key):][:e.value] }

type loader struct {
	l    *Ledger
	rows rows // of one event
	runs map[byte]*run
	held int // octets in all runs
	n    int // tables
}

func (ld *loader) add(e Event) error {
	if _, ok := e.(*ShapingChanged); ok {
		return fmt.Errorf("%s is no history of messages", e.Kind())
	}
	ld.rows.clear()
	ld.rows.event(e, Encode(e))
	for i := range ld.rows.all {
		ld.put(ld.rows.key(i), ld.rows.all[i].value)
	}
	// What stands under a time or a message id comes nearly sorted: its tables hardly
	// overlap, however small. The rest is better the more of it there is.
	for _, space := range []byte{keyEvent, keyPath} {
		if r := ld.runs[space]; r != nil && len(r.octets) >= loadTable {
			if err := ld.flush(space); err != nil {
				return err
			}
		}
	}
	if ld.held < loadMemory {
		return nil
	}
	for space := range ld.runs {
		if err := ld.flush(space); err != nil {
			return err
		}
	}
	return nil
}

func (ld *loader) put(k, v []byte) {
	r := ld.runs[k[0]]
	if r == nil {
		r = &run{}
		ld.runs[k[0]] = r
	}
	var first [8]byte
	copy(first[:], k[1:])
	r.at = append(r.at, entry{first: binary.BigEndian.Uint64(first[:]), start: len(r.octets), key: uint32(len(k)), value: uint32(len(v))})
	r.octets = append(append(r.octets, k...), v...)
	ld.held += len(k) + len(v) + 32
}

// flush writes the tables of one key space and has the store take them in.
func (ld *loader) flush(space byte) error {
	r := ld.runs[space]
	if r == nil || len(r.at) == 0 {
		return nil
	}
	slices.SortStableFunc(r.at, func(a, b entry) int {
		if c := cmp.Compare(a.first, b.first); c != 0 {
			return c
		}
		return bytes.Compare(r.key(&a), r.key(&b))
	})
	var paths []string
	for from := 0; from < len(r.at); {
		path, next, err := ld.table(r, from)
		if err != nil {
			return err
		}
		paths, from = append(paths, path), next
	}
	if err := ld.l.db.Ingest(context.Background(), paths); err != nil {
		return err
	}
	ld.held -= len(r.octets) + 32*len(r.at)
	r.octets, r.at = r.octets[:0], r.at[:0]
	return nil
}

// table writes entries from one on, up to the size of a table.
func (ld *loader) table(r *run, from int) (path string, next int, err error) {
	ld.n++
	fs := ld.l.options.FS
	path = fs.PathJoin(ld.l.dir, fmt.Sprintf("load-%06d.sst", ld.n))
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return "", 0, err
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), ld.l.options.MakeWriterOptions(len(ld.l.options.Levels)-1, ld.l.db.FormatMajorVersion().MaxTableFormat()))
	size := 0
	for next = from; next < len(r.at) && size < loadTable; next++ {
		e := &r.at[next]
		if next+1 < len(r.at) && bytes.Equal(r.key(e), r.key(&r.at[next+1])) {
			continue // the same event twice
		}
		if err := w.Set(r.key(e), r.value(e)); err != nil {
			return "", 0, errors.Join(err, w.Close())
		}
		size += int(e.key + e.value)
	}
	return path, next, w.Close()
}
