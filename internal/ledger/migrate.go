package ledger

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"postern.dev/postern/internal/smtp"
)

// layout is the number of the form of the index. A store with another one is indexed
// anew from its events when it is opened.
const layout = 2

var metaLayout = []byte{keyMeta, 'l'}

// derived are the key spaces that are made from events that stand elsewhere too. The
// old index of hand-offs ('s') is among them.
var derived = []byte{keyMID, keyDKIM, keyRcpt, keyHandOff, keyPath, keyAbout, keySeen, keyInForce, 's'}

// primary are the key spaces that hold every event.
var primary = []byte{keyEvent, keyTime, keyReport, keyIncident, keyShaping}

// migrate brings the index into the present form.
func (l *Ledger) migrate() error {
	v, closer, err := l.db.Get(metaLayout)
	if err == nil {
		is := v[0]
		if err := closer.Close(); err != nil {
			return err
		}
		if is > layout {
			return fmt.Errorf("its layout %d is of a newer Postern", is)
		}
		if is == layout {
			return nil
		}
	} else if !errors.Is(err, pebble.ErrNotFound) {
		return err
	}
	if l.position > 0 {
		if err := l.reindex(); err != nil {
			return fmt.Errorf("index anew: %w", err)
		}
	}
	return l.db.Set(metaLayout, []byte{layout}, pebble.Sync)
}

// reindex reads every event and puts it under the keys of today. It may be broken off
// and begun again.
func (l *Ledger) reindex() error {
	for _, space := range derived {
		if err := l.db.DeleteRange([]byte{space}, []byte{space + 1}, pebble.NoSync); err != nil {
			return err
		}
	}
	for _, space := range primary {
		if err := l.reindexSpace(space); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) reindexSpace(space byte) error {
	const enough = 4 << 20 // octets of a batch
	b := l.db.NewBatch()
	defer func() { b.Close() }()
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: []byte{space}, UpperBound: []byte{space + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if err := l.again(b, it.Key(), it.Value()); err != nil {
			return err
		}
		if b.Len() < enough {
			continue
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			return err
		}
		b.Close()
		b = l.db.NewBatch()
	}
	if err := it.Error(); err != nil {
		return err
	}
	return b.Commit(pebble.NoSync)
}

// again replaces one key by those that its event has today. What cannot be read stays;
// what stood under a time for an accepted message was its id alone, and goes.
func (l *Ledger) again(b *pebble.Batch, k, ev []byte) error {
	idAlone := k[0] == keyTime && len(ev) == smtp.IDSize
	if _, err := Decode(ev); err != nil && !idAlone {
		return nil
	}
	if err := b.Delete(k, nil); err != nil || idAlone {
		return err
	}
	var r rows
	l.index(&r, ev)
	return r.into(b)
}
