package suppress

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"postern.dev/postern/internal/policy"
)

var errCustomer = fmt.Errorf("customer's name has more than %d octets", maxCustomer)

// complete brings an entry into the form that is kept.
func (s *Store) complete(e *Entry, h Hash) error {
	if len(e.Customer) > maxCustomer {
		return errCustomer
	}
	e.Hash = h
	if s.hashed.Load() {
		e.Address = ""
	}
	if e.Reason == 0 {
		e.Reason = Manual
	}
	if e.Created.IsZero() {
		e.Created = s.o.Now()
	}
	return nil
}

// set puts an entry into a batch.
func (s *Store) set(b *pebble.Batch, e *Entry) error {
	s.known.add(e.Customer)
	k := entryKey(nil, e.Customer, e.Hash)
	if err := b.Set(k, e.encode(nil), nil); err != nil {
		return err
	}
	if e.Expires.IsZero() {
		return nil
	}
	return b.Set(expiryKey(e, k), nil, nil)
}

// Add puts addresses on the list. Each is given in Address, as Normalise reads it. An
// entry that is there is replaced. When Add returns, they are durable.
func (s *Store) Add(entries ...Entry) error {
	b := s.db.NewBatch()
	defer b.Close()
	for i := range entries {
		if err := s.prepare(&entries[i]); err != nil {
			return err
		}
		if err := s.set(b, &entries[i]); err != nil {
			return fmt.Errorf("add to suppression list: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.commit(b); err != nil {
		return fmt.Errorf("add to suppression list: %w", err)
	}
	return nil
}

// prepare normalises and completes an entry.
func (s *Store) prepare(e *Entry) error {
	a, err := Normalise(e.Address)
	if err != nil {
		return fmt.Errorf("add to suppression list: %w", err)
	}
	e.Address = a.String()
	return s.complete(e, s.secret.hash(a))
}

// Position is up to where the ledger's events have had their effect on the list.
func (s *Store) Position() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position
}

// Follow puts the addresses on the list that events of the ledger up to pos have shown
// to be no good, together with the position, in one durable write: after a crash no event
// has its effect twice, so that what an operator has removed meanwhile stays removed. An
// entry that is in force is left as it is: it says what was known first. It gives how
// many are new.
func (s *Store) Follow(pos uint64, entries []Entry) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pos <= s.position || len(entries) == 0 {
		return 0, nil // the position stands for entries only: it needs no write of its own
	}
	b := s.db.NewBatch()
	defer b.Close()
	n := 0
	for i := range entries {
		isNew, err := s.setNew(b, &entries[i])
		if err != nil {
			return 0, err
		}
		if isNew {
			n++
		}
	}
	if err := b.Set(metaPosition, binary.BigEndian.AppendUint64(nil, pos), nil); err != nil {
		return 0, fmt.Errorf("add to suppression list: %w", err)
	}
	if err := s.commit(b); err != nil {
		return 0, fmt.Errorf("add to suppression list: %w", err)
	}
	s.position = pos
	return n, nil
}

// AddNew puts an address on the list unless it is there, durably. It reports whether it
// was not.
func (s *Store) AddNew(e Entry) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.db.NewBatch()
	defer b.Close()
	isNew, err := s.setNew(b, &e)
	if err != nil || !isNew {
		return false, err
	}
	if err := s.commit(b); err != nil {
		return false, fmt.Errorf("add to suppression list: %w", err)
	}
	return true, nil
}

// setNew puts an entry into a batch if none is in force. The lock is held.
func (s *Store) setNew(b *pebble.Batch, e *Entry) (bool, error) {
	if err := s.Err(); err != nil {
		return false, err // what is read may never have become durable
	}
	if err := s.prepare(e); err != nil {
		return false, err
	}
	old, found, err := s.get(e.Customer, e.Hash)
	if err != nil {
		return false, fmt.Errorf("add to suppression list: %w", err)
	}
	if found && old.active(s.o.Now()) {
		return false, nil
	}
	return true, s.set(b, e)
}

// Remove takes an address off one customer's list, or off everybody's with "". It
// reports whether it was there.
func (s *Store) Remove(customer string, a policy.Address) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.secret.hash(a)
	e, found, err := s.get(customer, h)
	if err == nil {
		err = s.Err()
	}
	if err == nil && found {
		err = s.write(func() error { return s.db.Delete(entryKey(nil, customer, h), pebble.Sync) })
	}
	if err != nil {
		return false, fmt.Errorf("remove from suppression list: %w", err)
	}
	return found && e.active(s.o.Now()), nil
}

// Erase forgets an address on all lists: its entries keep its hash, so that it is not
// mailed, and nothing else that tells of it; entirely, they go. What was written before is
// gone from the store's tables when Erase returns. It gives the number of entries.
func (s *Store) Erase(ctx context.Context, a policy.Address, entirely bool) (int, error) {
	return s.eraseHash(ctx, s.secret.hash(a), entirely)
}

func (s *Store) eraseHash(ctx context.Context, h Hash, entirely bool) (int, error) {
	keys, err := s.erase(h, entirely)
	if err != nil {
		return 0, fmt.Errorf("erase from suppression list: %w", err)
	}
	if len(keys) == 0 {
		return 0, nil
	}
	// Overwritten values lie in older tables until those are compacted.
	if err := s.write(s.db.Flush); err != nil {
		return 0, fmt.Errorf("erase from suppression list: %w", err)
	}
	for _, k := range keys {
		if err := s.db.Compact(ctx, k, append(bytes.Clone(k), 0), false); err != nil {
			return 0, fmt.Errorf("erase from suppression list: %w", err)
		}
	}
	return len(keys), nil
}

// erased is what was erased while an import was under way.
type erased struct {
	hash     Hash
	entirely bool
}

// watchErasures begins to note what is erased, or ends it and gives what was noted.
func (s *Store) watchErasures(on bool) []erased {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.erased
	s.underway, s.erased = on, nil
	return list
}

// eraseAgain erases what was erased while an import was under way that may have brought
// it back, and ends the noting.
func (s *Store) eraseAgain(ctx context.Context, imported bool) error {
	for _, e := range s.watchErasures(false) {
		if !imported {
			continue
		}
		if _, err := s.eraseHash(context.WithoutCancel(ctx), e.hash, e.entirely); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) erase(h Hash, entirely bool) (keys [][]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.underway {
		s.erased = append(s.erased, erased{h, entirely})
	}
	b := s.db.NewBatch()
	defer b.Close()
	if err := s.Err(); err != nil {
		return nil, err
	}
	err = s.customers(func(customer string) error {
		e, found, err := s.get(customer, h)
		if err != nil || !found {
			return err
		}
		k := entryKey(nil, customer, h)
		keys = append(keys, k)
		if entirely {
			return b.Delete(k, nil)
		}
		bare := Entry{Customer: customer, Hash: h, Reason: e.Reason, Created: e.Created.Truncate(24 * time.Hour), Expires: e.Expires}
		return b.Set(k, bare.encode(nil), nil)
	})
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	return keys, s.commit(b)
}

// customers goes through those that have a list, "" for everybody's among them.
func (s *Store) customers(fn func(customer string) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyEntry}, UpperBound: []byte{keyEntry + 1}})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; {
		k := it.Key()
		customer, _, valid := parseKey(k)
		if !valid {
			return errors.Join(errMalformed, it.Close())
		}
		next := after(k[:2+len(customer)])
		if err := fn(customer); err != nil {
			return errors.Join(err, it.Close())
		}
		ok = it.SeekGE(next)
	}
	return errors.Join(it.Error(), it.Close())
}

// Sweep deletes the entries whose time is over, and gives how many there were.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	swept, now := 0, s.o.Now()
	for {
		n, more, err := s.sweep(ctx, now)
		swept += n
		if err != nil {
			return swept, fmt.Errorf("sweep suppression list: %w", err)
		}
		if !more {
			return swept, nil
		}
	}
}

// sweep deletes a bounded number of entries.
func (s *Store) sweep(ctx context.Context, now time.Time) (swept int, more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	upper := binary.BigEndian.AppendUint64([]byte{keyExpiry}, seconds(now)+1)
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: []byte{keyExpiry}, UpperBound: upper})
	if err != nil {
		return 0, false, err
	}
	b := s.db.NewBatch()
	defer b.Close()
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if b.Count() >= 8192 {
			more = true
			break
		}
		k := it.Key()
		customer, h, valid := parseKey(k[9:])
		if err = b.Delete(k, nil); err != nil || !valid {
			continue
		}
		// The entry may have been written anew, with more time.
		if e, found, ferr := s.get(customer, h); ferr == nil && found && !e.active(now) {
			swept++
			err = b.Delete(k[9:], nil)
		}
	}
	if err = errors.Join(err, it.Error(), it.Close()); err != nil {
		return 0, false, err
	}
	return swept, more, s.commit(b)
}
