package app

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/shaping"
)

// An address of ours that an operator lets rest is chosen only when an attempt is made,
// so the room that is asked before each attempt keeps it, not the queue. To operators it
// is a suspension like any other.

// restOf reads what the suspension of a source is about.
func (a *App) restOf(ctx context.Context, req *QueueOrder, s queue.Scope) (w shaping.Suspension, err error) {
	at := s
	at.Site, at.Provider, at.Domain = "", "", ""
	if at != (queue.Scope{}) || (s.Site != "" && s.Provider != "") || (s.Domain != "" && s.Site+s.Provider != "") {
		return w, errors.New("a source is suspended everywhere, or at one site, provider or domain")
	}
	q := ShapingQuery{Source: req.Source, Destination: s.Domain}
	if s.Provider != "" {
		q.Destination = s.Provider
	}
	w = shaping.Suspension{Scope: "source", Within: "site", By: req.By, Reason: req.Note}
	if w.Traffic, _, err = a.shapingTraffic(ctx, &q); err != nil {
		return w, err
	}
	switch {
	case s.Provider != "":
		w.Within = "provider"
	case s.Site != "":
		w.Traffic.Site = s.Site
	case s.Domain == "":
		w.Within = "everywhere"
	}
	return w, nil
}

// rest suspends a source.
func (a *App) rest(ctx context.Context, req *QueueOrder, s queue.Scope, until time.Time) (any, error) {
	w, err := a.restOf(ctx, req, s)
	if err != nil {
		return nil, err
	}
	now := a.o.Now()
	w.Until = until
	act, err := a.shaping.Suspend(w, now)
	if err != nil {
		return nil, err
	}
	if err := a.commitEvents(ctx, queue.ShapingEvent(&act, ledger.ShapingBegan, now)); err != nil {
		_, _ = a.shaping.Undo(act.ID, now)
		return nil, err
	}
	a.queue.Reconsider()
	a.log.Warn("shaping changed", "action", act.ID, "by", act.By, "does", act.Kind, "binds", binds(&act), "note", safe(act.Reason))
	v := restView(&act)
	a.sharing(&v, req.Site, s.Site)
	return []OrderView{v}, nil
}

// rested lists what operators suspend there: no rule did.
func (a *App) rested() (out []shaping.Action) {
	for _, x := range a.shaping.Actions(a.o.Now()) {
		if x.Kind == "suspend" && x.Rule == "" {
			out = append(out, x)
		}
	}
	return out
}

// unrest ends suspensions of sources: one by its name, those of exactly this source and
// place, or all.
func (a *App) unrest(ctx context.Context, req *QueueOrder, s queue.Scope) ([]OrderView, error) {
	var source netip.Addr
	place := ""
	if req.Source != "" {
		w, err := a.restOf(ctx, req, s)
		if err != nil {
			return nil, err
		}
		x := shaping.Action{Scope: w.Scope, Within: w.Within, Traffic: w.Traffic}
		source, place = w.Traffic.Source, binds(&x)
	}
	out := []OrderView{}
	for _, x := range a.rested() {
		if !req.All && x.ID != req.Order && (!source.IsValid() || binds(&x) != place) {
			continue
		}
		act, err := a.undo(ctx, x.ID, req.By, req.Note)
		if errors.Is(err, shaping.ErrUnknown) {
			continue // it ended by itself meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, restView(&act))
	}
	return out, nil
}

func restView(x *shaping.Action) OrderView {
	return OrderView{Order: x.ID, Scope: binds(x), From: x.From, Until: x.Until, By: x.By, Note: x.Reason}
}
