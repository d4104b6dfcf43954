package suppress

import (
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// known is which customers' lists may hold an entry: those of the others need not be
// asked, nor that of everybody where it is empty, and for each recipient two are asked
// twice. A list that has been emptied since the start stays in it.
type known struct {
	mu    sync.RWMutex
	lists map[string]struct{}
	all   bool // too many to know
}

// maxKnown bounds the lists that are looked for at the start: each may cost a read from
// the disk.
const maxKnown = 4096

// learn finds the lists that the store holds.
func (k *known) learn(db *pebble.DB) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lists = map[string]struct{}{}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyEntry}, UpperBound: []byte{keyEntry + 1}})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && !k.all; {
		customer, h, sound := parseKey(it.Key())
		if !sound {
			ok = it.Next()
			continue
		}
		k.note(customer)
		prefix := entryKey(nil, customer, h)
		ok = it.SeekGE(after(prefix[:len(prefix)-len(h)]))
	}
	if err := it.Error(); err != nil {
		_ = it.Close()
		return err
	}
	return it.Close()
}

// note takes a list in. The lock is held.
func (k *known) note(customer string) {
	if k.lists[strings.Clone(customer)] = struct{}{}; len(k.lists) > maxKnown {
		k.lists, k.all = nil, true
	}
}

// add tells that a list is about to get an entry: before it is written, so that nobody
// who looks for it afterwards passes the list over.
func (k *known) add(customer string) {
	if k.has(customer) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.all {
		k.note(customer)
	}
}

func (k *known) has(customer string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, ok := k.lists[customer]
	return ok || k.all
}
