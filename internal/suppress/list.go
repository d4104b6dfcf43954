package suppress

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"postern.dev/postern/internal/policy"
)

// Query chooses entries.
type Query struct {
	Customer string // whose list
	All      bool   // every list; Customer says nothing then
	Reason   Reason // 0 for any
}

func (q Query) bounds() *pebble.IterOptions {
	if q.All {
		return &pebble.IterOptions{LowerBound: []byte{keyEntry}, UpperBound: []byte{keyEntry + 1}}
	}
	prefix := append([]byte{keyEntry, byte(len(q.Customer))}, q.Customer...)
	return &pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)}
}

// Walk goes through the entries in force, list by list, in no order that means anything,
// until fn gives false. It sees the list as it was when it began.
func (s *Store) Walk(ctx context.Context, q Query, fn func(*Entry) (bool, error)) error {
	if len(q.Customer) > maxCustomer {
		return errCustomer
	}
	it, err := s.db.NewIterWithContext(ctx, q.bounds())
	if err != nil {
		return fmt.Errorf("read suppression list: %w", err)
	}
	now := s.o.Now()
	for ok, n := it.First(), 0; ok; ok, n = it.Next(), n+1 {
		if n%4096 == 0 && ctx.Err() != nil {
			return errors.Join(ctx.Err(), it.Close())
		}
		var e Entry
		customer, h, valid := parseKey(it.Key())
		if err := e.decode(it.Value()); err != nil || !valid {
			return errors.Join(fmt.Errorf("read suppression list: %w", errMalformed), it.Close())
		}
		if e.Customer, e.Hash = customer, h; !e.active(now) || (q.Reason != 0 && q.Reason != e.Reason) {
			continue
		}
		more, err := fn(&e)
		if err != nil || !more {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// Counted is how many entries of one list there are.
type Counted struct {
	Customer string
	Entries  int64
	ByReason map[Reason]int64
}

// Count goes through the entries and counts those in force, list by list.
func (s *Store) Count(ctx context.Context, q Query) ([]Counted, error) {
	var out []Counted
	err := s.Walk(ctx, q, func(e *Entry) (bool, error) {
		if n := len(out); n == 0 || out[n-1].Customer != e.Customer {
			out = append(out, Counted{Customer: e.Customer, ByReason: map[Reason]int64{}})
		}
		c := &out[len(out)-1]
		c.Entries++
		c.ByReason[e.Reason]++
		return true, nil
	})
	return out, err
}

// Size gives what the list takes up on the disk, in octets.
func (s *Store) Size() uint64 { return s.db.Metrics().DiskSpaceUsage() }

// Holding gives the entries in force of one address, on all lists.
func (s *Store) Holding(a policy.Address) ([]Entry, error) {
	var out []Entry
	h, now := s.secret.hash(a), s.o.Now()
	err := s.customers(func(customer string) error {
		e, found, err := s.get(customer, h)
		if found && e.active(now) {
			out = append(out, e)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up suppression: %w", err)
	}
	return out, nil
}

// Name spells an address as the list would keep it, or as its hash.
func (s *Store) Name(a policy.Address, hashed bool) string {
	e := Entry{Hash: s.secret.hash(a)}
	if !hashed && !s.hashed.Load() {
		e.Address = a.String()
	}
	return s.Shown(&e)
}
