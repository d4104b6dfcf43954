package ledger

import (
	"context"
	"fmt"
	"math"
	"time"
)

// States of a shaping action.
const (
	ShapingBegan  = "began"
	ShapingUndone = "undone"
)

// inForce is the key of an action that is in force: those that have ended sort before
// the present and are passed over, those without an end stand last.
func (e *ShapingChanged) inForce() []byte {
	end := uint64(math.MaxUint64)
	if !e.Until.IsZero() {
		end = uint64(e.Until.UnixMicro())
	}
	return key(keyInForce, u64(end), []byte(e.Action))
}

// ShapingInForce gives the events that began what shapes mail at a time, and has not
// been undone.
func (l *Ledger) ShapingInForce(ctx context.Context, now time.Time) ([]ShapingChanged, error) {
	return l.shaping(ctx, keyInForce, timeBound(now), nil)
}

// Shaping gives what changed the shaping of mail in a time, in order.
func (l *Ledger) Shaping(ctx context.Context, from, to time.Time) ([]ShapingChanged, error) {
	return l.shaping(ctx, keyShaping, timeBound(from), timeBound(to))
}

func (l *Ledger) shaping(ctx context.Context, space byte, from, to []byte) ([]ShapingChanged, error) {
	var out []ShapingChanged
	err := l.scan(ctx, []byte{space}, from, to, func(_, v []byte) (bool, error) {
		e, err := Decode(v)
		if s, ok := e.(*ShapingChanged); ok {
			out = append(out, *s)
		}
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("look up shaping: %w", err)
	}
	return out, nil
}
