package suppress

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// An import of more than a batch is sorted outside of the store and handed to it as
// finished tables, all in one step: entry by entry, the store would write each one half a
// dozen times, to its log, to a table and from level to level.

// tableSize is about how large these tables are, octets before they are packed.
const tableSize = 128 << 20

// workshop is the folder, within the list's, in which an import is put together. What
// lies there when a list is opened is of an import that did not come to its end.
const workshop = "import"

// tables writes sorted entries as the store's tables.
type tables struct {
	s     *Store
	dir   string
	names []string
	w     *sstable.Writer
	size  int
}

func (t *tables) set(key, value []byte) error {
	if t.w == nil {
		name := t.s.fs.PathJoin(t.dir, fmt.Sprintf("table-%d", len(t.names)))
		f, err := t.s.fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		t.names = append(t.names, name)
		t.w = sstable.NewWriter(objstorageprovider.NewFileWritable(f), t.s.table)
	}
	if err := t.w.Set(key, value); err != nil {
		return err
	}
	if t.size += len(key) + len(value); t.size >= tableSize {
		return t.end()
	}
	return nil
}

// end finishes a table and makes it durable.
func (t *tables) end() error {
	if t.w == nil {
		return nil
	}
	err := t.w.Close()
	t.w, t.size = nil, 0
	return err
}

// finish puts on the list what an import has read: all of it or, where that fails,
// nothing.
func (im *importer) finish(ctx context.Context) error {
	if im.sorter.empty() {
		return nil
	}
	if len(im.sorter.runs) == 0 && len(im.sorter.text) <= importBatch {
		return im.commit()
	}
	t := &tables{s: im.s, dir: im.sorter.dir}
	n := 0
	err := im.sorter.sorted(func(key, value []byte) error {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		return t.set(key, value)
	})
	if err = errors.Join(err, t.end()); err != nil {
		return err
	}
	if err := im.s.pace(ctx); err != nil {
		return err
	}
	return im.s.write(func() error { return im.s.db.Ingest(ctx, t.names) })
}

// commit puts a short import on the list.
func (im *importer) commit() error {
	b := im.s.db.NewBatch()
	defer b.Close()
	if err := im.sorter.each(func(key, value []byte) error { return b.Set(key, value, nil) }); err != nil {
		return err
	}
	return im.s.commit(b)
}

func (s *sorter) empty() bool { return len(s.runs)+len(s.at) == 0 }
