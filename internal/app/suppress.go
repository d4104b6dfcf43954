package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"postern.dev/postern/internal/bounce"
	"postern.dev/postern/internal/config"
	"postern.dev/postern/internal/gateway"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/message"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/report"
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/smtp"
	"postern.dev/postern/internal/spool"
	"postern.dev/postern/internal/suppress"
)

// How long an address stays suppressed that a bounce has shown to be no good. A domain
// that lapsed may be bought back, a disabled account enabled again; a mailbox that does
// not exist stays so.
const (
	badDomainTime = 30 * 24 * time.Hour
	inactiveTime  = 180 * 24 * time.Hour
)

// sweepEvery is how often entries whose time is over are deleted.
const sweepEvery = time.Hour

// suppression puts addresses on the suppression list and answers for it.
type suppression struct {
	app        *App
	list       *suppress.Store
	classifier *bounce.Classifier
}

// openSuppression opens the list and keeps it swept.
func (a *App) openSuppression(state string) error {
	list, err := suppress.Open(filepath.Join(state, "suppressed"), suppress.Options{Key: filepath.Join(state, "suppression.key"),
		Hashed: a.o.Config.Suppression.Hashed, Random: a.o.Random, Log: a.log, Now: a.o.Now, FS: a.o.Stores, Failed: a.fail})
	if err != nil {
		return err
	}
	a.suppression = &suppression{app: a, list: list, classifier: bounce.New()}
	a.push("suppression list", func(context.Context) error { return list.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); a.suppression.sweep(ctx) }()
	a.push("sweeper of the suppression list", func(context.Context) error { cancel(); <-done; return nil })
	return nil
}

func (x *suppression) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if n, err := x.list.Sweep(ctx); err != nil && ctx.Err() == nil {
			x.app.log.Error("suppression list not swept", "err", err)
		} else if n > 0 {
			x.app.log.Info("suppression list swept", "entries", n)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// refuses implements gateway.Options.Suppressed.
func (x *suppression) refuses(customer string, rcpt policy.Address) (*gateway.Suppression, error) {
	if x.app.now().cfg.Suppression.Of(customer) != config.SuppressionRefuse {
		return nil, nil
	}
	e, found, err := x.list.Find(customer, rcpt)
	if err != nil || !found {
		return nil, err
	}
	x.app.metrics.suppressed.WithLabelValues("rcpt").Inc()
	return &gateway.Suppression{Reason: e.Reason.String(), NoSuch: e.Reason == suppress.HardBounce, Since: e.Created, Everyone: e.Customer == ""}, nil
}

// withholds implements queue.Options.Suppressed. Where the list cannot be read the mail
// goes on, as it would have without it: bouncing it could not be taken back.
func (x *suppression) withholds(customer string, rcpt smtp.Path) bool {
	if x.app.now().cfg.Suppression.Of(customer) == config.SuppressionOff {
		return false
	}
	a, err := policy.Normalise(rcpt)
	if err != nil {
		return false
	}
	_, found, err := x.list.Find(customer, a)
	if err != nil {
		x.app.log.Error("suppression list cannot be read, mail goes on", "err", err)
		return false
	}
	if found {
		x.app.metrics.suppressed.WithLabelValues("hand-off").Inc()
	}
	return found
}

// classify implements queue.Options.Classify.
func (x *suppression) classify(r shaping.Reply, provider string) string {
	return x.classifier.Classify(r.Code, r.Enhanced, r.Text, provider).Category.String()
}

// byRule implements queue.Options.Suppress: a rule of the operator says so.
func (x *suppression) byRule(customer string, rcpt smtp.Path, r shaping.Reply) error {
	e := suppress.Entry{Customer: customer, Address: rcpt.String(), Reason: suppress.HardBounce, Detail: "by a rule: " + x.classify(r, "")}
	if _, err := suppress.Normalise(e.Address); err != nil {
		return nil
	}
	return x.add(e)
}

// add puts an address on the list, durably, unless it is there.
func (x *suppression) add(e suppress.Entry) error {
	isNew, err := x.list.AddNew(e)
	if err != nil {
		return fmt.Errorf("suppress an address of %s: %w", e.Customer, err)
	}
	if isNew {
		x.app.metrics.suppressions.WithLabelValues(e.Reason.String()).Inc()
	}
	return nil
}

// follow gives the events that the ledger reads next their effect on the list: an
// address that a receiver says is no good is suppressed for the customer whose mail it
// was. The position next stands with the entries, so none has its effect twice.
func (x *suppression) follow(ctx context.Context, next uint64, events [][]byte) error {
	if next <= x.list.Position() {
		return nil
	}
	var entries []suppress.Entry
	for i, ev := range events {
		if len(ev) == 0 || ledger.Kind(ev[0]) != ledger.KindBounced {
			continue
		}
		e, err := ledger.Decode(ev)
		if err != nil {
			continue // the ledger puts it aside and says so
		}
		entry, yes, err := x.ofBounce(ctx, e.(*ledger.Bounced), events[:i])
		if err != nil {
			return fmt.Errorf("suppress after a bounce: %w", err)
		}
		if yes {
			entries = append(entries, entry)
		}
	}
	n, err := x.list.Follow(next, entries)
	if n > 0 {
		x.app.metrics.suppressions.WithLabelValues(suppress.HardBounce.String()).Add(float64(n))
	}
	return err
}

// ofBounce makes the entry that a bounce calls for. before holds the events that the
// ledger has not indexed yet.
func (x *suppression) ofBounce(ctx context.Context, b *ledger.Bounced, before [][]byte) (e suppress.Entry, yes bool, err error) {
	is := x.classifier.Classify(0, "", b.Reply, b.Provider)
	if !is.Suppress || b.Customer == "" || (b.Category != "" && b.Category != is.Category.String()) {
		return e, false, nil // what a rule calls otherwise, the operator has judged
	}
	row, err := x.accepted(ctx, b.ID, before)
	if errors.Is(err, ledger.ErrNotFound) || (err == nil && b.Recipient >= len(row.Decisions)) {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	e = hardBounce(is.Category, b.Time)
	e.Customer, e.Address, e.Source = b.Customer, row.Decisions[b.Recipient].Recipient, b.ID.String()
	if _, err := suppress.Normalise(e.Address); err != nil {
		return e, false, nil
	}
	return e, true, nil
}

func hardBounce(c bounce.Category, now time.Time) suppress.Entry {
	e := suppress.Entry{Reason: suppress.HardBounce, Detail: c.String(), Created: now}
	switch c {
	case bounce.BadDomain:
		e.Expires = now.Add(badDomainTime)
	case bounce.InactiveMailbox:
		e.Expires = now.Add(inactiveTime)
	}
	return e
}

// accepted finds a message's row among the events before, or in the ledger.
func (x *suppression) accepted(ctx context.Context, id smtp.ID, before [][]byte) (*ledger.Accepted, error) {
	for i := len(before) - 1; i >= 0; i-- {
		if ev := before[i]; len(ev) > 0 && ledger.Kind(ev[0]) == ledger.KindAccepted {
			if e, err := ledger.Decode(ev); err == nil && e.(*ledger.Accepted).ID == id {
				return e.(*ledger.Accepted), nil
			}
		}
	}
	return x.app.ledger.Accepted(ctx, id)
}

// ofReport suppresses what a judged report calls for: the recipient of a customer's mail
// who has complained, or whom a bounce that came later says is no good. It takes good
// evidence (a stamp of ours, or a provider who is who he says), since anybody can mail
// the report address, and a recipient who is not guessed. It runs before the verdict is
// durable: a crash between the two judges the report again and finds the entry there, and
// so does a failure.
func (x *suppression) ofReport(v *report.Verdict, id smtp.ID) error {
	if v.Kind != report.Sent || v.Customer == "" || !v.Named || (v.Grade != report.GradeA && !v.Authenticated) {
		return nil
	}
	e, yes := x.reported(v)
	if !yes {
		return nil
	}
	e.Customer, e.Address, e.Source = v.Customer, v.Address, id.String()
	if _, err := suppress.Normalise(e.Address); err != nil {
		return nil
	}
	return x.add(e)
}

func (x *suppression) reported(v *report.Verdict) (e suppress.Entry, yes bool) {
	now := x.app.o.Now()
	if message.Format(v.Format).Answer() {
		return e, false
	}
	if !message.Format(v.Format).Bounce() {
		switch v.FeedbackType {
		case "", "abuse", "fraud", "other":
			return suppress.Entry{Reason: suppress.Complaint, Detail: v.FeedbackType, Created: now}, true
		case "opt-out", "opt-out-list", "unsubscribe":
			return suppress.Entry{Reason: suppress.Unsubscribe, Detail: v.FeedbackType, Created: now}, true
		}
		return e, false // not-spam, virus, auth-failure: no complaint of the recipient's
	}
	for _, r := range v.Refusals {
		if r.Action != "" && r.Action != "failed" {
			continue
		}
		if is := x.classifier.Classify(0, r.Status, r.Text, ""); is.Suppress {
			return hardBounce(is.Category, now), true
		}
	}
	return e, false
}

// suppressing is the ledger's source with the suppression list beside it.
type suppressing struct {
	source
	list *suppression
}

// Read implements ledger.Source: events have their effect on the list before the ledger
// has them, so that nothing is forgotten of which only the ledger knows.
//
// After a crash the ledger may stand before the list. What lies between the two is read
// record by record: a read that reached beyond the list's position would give it events
// again that have had their effect, together with new ones.
func (s suppressing) Read(ctx context.Context, from uint64, most int) ([][]byte, uint64, error) {
	if from < s.list.list.Position() {
		most = 1
	}
	events, next, err := s.source.Read(ctx, from, most)
	if err == nil {
		err = s.list.follow(ctx, next, events)
	}
	return events, next, err
}

var _ ledger.Source = suppressing{source: source{Spool: (*spool.Spool)(nil)}}
