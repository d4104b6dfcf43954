package app

import (
	"context"
	"errors"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
)

// missedTrips opens the incidents that a former run owed: it held mail at the relay
// guard and was killed before it could say so.
func (a *App) missedTrips(ctx context.Context) error {
	var held []smtp.ID
	a.spool.List(func(e spool.Entry) bool {
		for _, st := range e.States {
			if st.State == spool.Held && st.Reason != spool.ReasonConsume {
				held = append(held, e.ID)
				break
			}
		}
		return true
	})
	for _, id := range held {
		events, err := a.ledger.History(ctx, id)
		if errors.Is(err, ledger.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range events {
			if g, ok := e.(*ledger.GuardTripped); ok && !g.Observed && !a.book.Knows(g.Path, g.Time) {
				a.onGuard(*g)
			}
		}
	}
	return nil
}
