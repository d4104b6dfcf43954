package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"postern.dev/postern/internal/smtp"
)

// History gives all events of a message in order, with the reports about it.
func (l *Ledger) History(ctx context.Context, id smtp.ID) ([]Event, error) {
	var out []Event
	for _, space := range []byte{keyEvent, keyAbout} {
		err := l.scan(ctx, key(space, id[:]), nil, nil, func(_, v []byte) (bool, error) {
			e, err := Decode(v)
			if err == nil {
				out = append(out, e)
			}
			return true, err
		})
		if err != nil {
			return nil, fmt.Errorf("history of %s: %w", id, err)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("message %s: %w", id, ErrNotFound)
	}
	slices.SortStableFunc(out, func(a, b Event) int { return a.When().Compare(b.When()) })
	return out, nil
}

// Accepted gives the row of a message's acceptance.
func (l *Ledger) Accepted(_ context.Context, id smtp.ID) (*Accepted, error) {
	e, err := l.get(key(keyEvent, id[:]))
	if errors.Is(err, pebble.ErrNotFound) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("message %s: %w", id, err)
	}
	row, ok := e.(*Accepted)
	if !ok {
		return nil, fmt.Errorf("message %s: %w", id, ErrNotFound)
	}
	return row, nil
}

// HandOffsOf runs fn over the hand-offs of a message in order, until it gives false.
func (l *Ledger) HandOffsOf(ctx context.Context, id smtp.ID, fn func(*HandedOff) bool) error {
	err := l.scan(ctx, key(keyEvent, id[:]), nil, nil, func(_, v []byte) (bool, error) {
		if Kind(v[0]) != KindHandedOff {
			return true, nil
		}
		e, err := Decode(v)
		if h, ok := e.(*HandedOff); ok {
			return fn(h), err
		}
		return true, err
	})
	if err != nil {
		return fmt.Errorf("hand-offs of %s: %w", id, err)
	}
	return nil
}

func (l *Ledger) ids(ctx context.Context, prefix []byte) ([]smtp.ID, error) {
	var out []smtp.ID
	err := l.scan(ctx, prefix, nil, nil, func(k, _ []byte) (bool, error) {
		out = append(out, idAt(k, len(prefix)))
		return len(out) < 1000, nil
	})
	return out, err
}

// ByMessageID gives the messages with a Message-ID field; brackets do not count.
func (l *Ledger) ByMessageID(ctx context.Context, messageID string) ([]smtp.ID, error) {
	ids, err := l.ids(ctx, key(keyMID, hash8(strings.Trim(messageID, "<> "))))
	if err != nil {
		return nil, fmt.Errorf("look up Message-ID: %w", err)
	}
	return ids, nil
}

// ByDKIM gives the messages that carried a signature (DKIMHash).
func (l *Ledger) ByDKIM(ctx context.Context, hash uint64) ([]smtp.ID, error) {
	ids, err := l.ids(ctx, key(keyDKIM, u64(hash)))
	if err != nil {
		return nil, fmt.Errorf("look up signature: %w", err)
	}
	return ids, nil
}

// ByRecipient gives the latest messages to an address, newest first, at most limit.
func (l *Ledger) ByRecipient(ctx context.Context, address string, since, until time.Time, limit int) ([]smtp.ID, error) {
	var out []smtp.ID
	prefix := key(keyRcpt, hash8(RecipientKey(address)))
	err := l.scan(ctx, prefix, idBound(since), idBound(until), func(k, _ []byte) (bool, error) {
		out = append(out, idAt(k, len(prefix)))
		if len(out) > 4*limit {
			out = slices.Delete(out, 0, len(out)-limit)
		}
		return true, nil
	})
	slices.Reverse(out)
	if len(out) > limit {
		out = out[:limit]
	}
	if err != nil {
		return nil, fmt.Errorf("look up recipient: %w", err)
	}
	return out, nil
}

func (l *Ledger) get(k []byte) (Event, error) {
	v, closer, err := l.db.Get(k)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return Decode(v)
}

// SeenReport reports whether a report of this identity was judged before.
func (l *Ledger) SeenReport(_ context.Context, identity string) (bool, error) {
	_, closer, err := l.db.Get(key(keySeen, hash8(identity)))
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up report: %w", err)
	}
	return true, closer.Close()
}

// ReportsAbout gives the reports about a message in order, at most limit.
func (l *Ledger) ReportsAbout(ctx context.Context, id smtp.ID, limit int) ([]Reported, error) {
	var out []Reported
	err := l.scan(ctx, key(keyAbout, id[:]), nil, nil, func(_, v []byte) (bool, error) {
		e, err := Decode(v)
		if r, ok := e.(*Reported); ok {
			out = append(out, *r)
		}
		return len(out) < limit, err
	})
	if err != nil {
		return nil, fmt.Errorf("look up reports about %s: %w", id, err)
	}
	return out, nil
}

// Reports gives the judged reports of a time, in order.
func (l *Ledger) Reports(ctx context.Context, from, to time.Time) ([]Reported, error) {
	var out []Reported
	err := l.scan(ctx, []byte{keyReport}, timeBound(from), timeBound(to), func(_, v []byte) (bool, error) {
		e, err := Decode(v)
		if r, ok := e.(*Reported); ok {
			out = append(out, *r)
		}
		return true, err
	})
	return out, err
}

// Policies gives the policies that came into force, in order.
func (l *Ledger) Policies(ctx context.Context) ([]PolicyLoaded, error) {
	var out []PolicyLoaded
	err := l.scan(ctx, []byte{keyPolicy}, nil, nil, func(_, v []byte) (bool, error) {
		e, err := Decode(v)
		if p, ok := e.(*PolicyLoaded); ok {
			out = append(out, *p)
		}
		return true, err
	})
	return out, err
}

// Acts gives what operators, and Postern by itself, did to the queue or the node, in
// order, since a time.
func (l *Ledger) Acts(ctx context.Context, since time.Time) ([]Admin, error) {
	var out []Admin
	err := l.scan(ctx, []byte{keyAdmin}, timeBound(since), nil, func(_, v []byte) (bool, error) {
		e, err := Decode(v)
		if a, ok := e.(*Admin); ok {
			out = append(out, *a)
		}
		return true, err
	})
	return out, err
}
