package app

import (
	"context"
	"fmt"
	"time"

	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/spool"
)

// endsSoon is how long before its end a waiver is warned of: past it the configuration
// does not load any more, and a node that restarts then does not come up.
const endsSoon = 7 * 24 * time.Hour

// expiring words a warning for each waiver that ends soon, or has ended.
func expiring(ws []config.Waiver, now time.Time) (out []string) {
	for i := range ws {
		w := &ws[i]
		what := string(w.Code)
		if w.Filter != "" {
			what += " of filter " + w.Filter
		}
		last := w.Until.Add(-time.Second).UTC().Format(time.DateOnly)
		switch {
		case !w.Counts(now):
			out = append(out, fmt.Sprintf("the waiver of %s at %s ended on %s: the configuration does not load any more", what, w.Pos, last))
		case w.Until.Sub(now) <= endsSoon:
			out = append(out, fmt.Sprintf("the waiver of %s at %s ends on %s: from then on the configuration does not load", what, w.Pos, last))
		}
	}
	return out
}

// warnings lists what an operator should see before it hurts.
func (a *App) warnings() []string {
	out := []string{}
	if err := a.spool.Err(); err != nil {
		out = append(out, "the spool has failed and no mail is taken: "+err.Error())
	} else if err := a.spool.Trouble(); err != nil {
		out = append(out, "the disk fails: "+err.Error())
	}
	for _, s := range a.gateway.SharedAddresses() {
		out = append(out, fmt.Sprintf("all strangers on listener %s come from %s: a NAT or a proxy without PROXY stands in front, and the proof of the policy takes for granted that none does", s.Listener, s.Address))
	}
	for _, err := range []error{a.ledger.Err(), a.suppression.list.Err()} {
		if err != nil {
			out = append(out, "no mail is taken: "+err.Error())
		}
	}
	if n, _, full := a.gateway.PostmasterHeld(); full {
		out = append(out, fmt.Sprintf("%d messages to the postmaster are held since midnight UTC, more are refused: postern queue ls -held postmaster", n))
	}
	return append(out, expiring(a.now().cfg.Waivers, a.o.Now())...)
}

// broken gives why no mail is taken until a restart, nil where it is: the spool could not
// keep a promise, or the ledger's index or the suppression list can take nothing any
// more. Those two follow the log, and a restart lets them follow it from where they were.
func (a *App) broken() error {
	if err := a.spool.Err(); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if err := a.ledger.Err(); err != nil {
		return err
	}
	return a.suppression.list.Err()
}

// sound reports whether the node can keep what it is given. After a failed write to the
// spool it tries another, so that a node without traffic comes to know that the disk is
// well again.
func (a *App) sound(ctx context.Context) error {
	if err := a.broken(); err != nil {
		return err
	}
	if a.spool.Trouble() == nil {
		return nil
	}
	if _, err := a.spool.Commit(ctx, &spool.Batch{}); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// spoolFailed tells people, at once and not only in the reply to a client.
func (a *App) spoolFailed(err error, lasting bool) {
	a.metrics.syncFailures.Inc()
	if lasting {
		a.log.Error("THE SPOOL HAS FAILED: a delivery that was made could not be recorded. No mail is taken until a restart; mend the disk first", "err", err)
		return
	}
	a.log.Error("the disk fails: mail is refused until a write succeeds", "err", err)
}
