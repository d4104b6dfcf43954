package app

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/queue"
)

// order reads what an order is about. A site may be named by a domain.
func (a *App) order(r *http.Request) (req QueueOrder, s queue.Scope, err error) {
	if req, err = body[QueueOrder](r); err != nil {
		return req, s, err
	}
	if req.Incident != "" || req.State != "" || req.Limit != 0 || req.Held != "" {
		return req, s, errors.New("an order is about a message, site, provider, pool, customer, campaign or domain")
	}
	s = queue.Scope{Site: req.Site, Provider: req.Provider, Pool: req.Pool, Customer: req.Customer, Campaign: req.Campaign, Domain: req.Domain}
	if req.Site != "" {
		if s.Site, err = a.siteOf(r.Context(), req.Site); err != nil {
			return req, s, err
		}
	}
	if req.ID != "" {
		if s.ID, err = messageID(req.ID); err != nil {
			return req, s, err
		}
	}
	if req.Domain != "" {
		if s.Domain, err = policy.NormaliseDomain(req.Domain); err != nil {
			return req, s, fmt.Errorf("%q is not a domain", req.Domain)
		}
	}
	return req, s, nil
}

func viewOf(o *queue.Order) OrderView {
	return OrderView{Order: strconv.Itoa(o.Number), Scope: o.Scope.String(), From: o.From, Until: o.Until, By: o.By, Note: o.Note}
}

func (a *App) queueOrders(*http.Request) (any, error) {
	out := []OrderView{}
	for _, o := range a.queue.Orders() {
		out = append(out, viewOf(&o))
	}
	for _, x := range a.rested() {
		out = append(out, restView(&x))
	}
	return out, nil
}

func (a *App) queueSites(*http.Request) (any, error) {
	out := []SiteView{}
	for _, s := range a.queue.Sites() {
		out = append(out, SiteView(s))
	}
	return out, nil
}

func (a *App) queueSuspend(r *http.Request) (any, error) {
	req, s, err := a.order(r)
	if err != nil {
		return nil, err
	}
	var until time.Time
	if req.For < 0 {
		return nil, fmt.Errorf("suspend for %s: that is past", req.For)
	}
	if req.For > 0 {
		until = a.o.Now().Add(req.For)
	}
	if req.Source != "" {
		return a.rest(r.Context(), &req, s, until)
	}
	if req.All {
		return nil, errors.New("suspend: all mail cannot be suspended at once")
	}
	o, err := a.queue.Suspend(r.Context(), s, until, req.By, req.Note)
	if err != nil {
		return nil, err
	}
	v := viewOf(&o)
	a.sharing(&v, req.Site, s.Site)
	return []OrderView{v}, nil
}

// queueResume lifts one suspension by its name, those of exactly one scope, or all.
func (a *App) queueResume(r *http.Request) (any, error) {
	req, s, err := a.order(r)
	if err != nil {
		return nil, err
	}
	if req.Order == "" && req.Source == "" && !req.All && s == (queue.Scope{}) {
		return nil, fmt.Errorf("resume: %w", queue.ErrNoScope)
	}
	if req.All && (req.Order != "" || req.Source != "" || s != (queue.Scope{})) {
		return nil, errors.New("resume: all, or what is chosen?")
	}
	out, err := a.unrest(r.Context(), &req, s)
	if err != nil {
		return nil, err
	}
	lifted, err := a.queue.Resume(r.Context(), func(o *queue.Order) bool {
		return req.All || (req.Order != "" && strconv.Itoa(o.Number) == req.Order) || (req.Order == "" && req.Source == "" && o.Scope == s)
	}, req.By, req.Note)
	if err != nil && (len(out) == 0 || !errors.Is(err, queue.ErrNoOrder)) {
		return nil, err
	}
	for i := range lifted {
		out = append(out, viewOf(&lifted[i]))
	}
	return out, nil
}

func (a *App) queueRebind(r *http.Request) (any, error) {
	req, s, err := a.order(r)
	if err != nil {
		return nil, err
	}
	if req.Source != "" {
		return nil, errors.New("what waits has no source yet: rebind by its pool")
	}
	if req.All {
		return nil, errors.New("rebind: all mail cannot be rebound at once")
	}
	n, err := a.queue.Rebind(r.Context(), s, req.To, req.By, req.Note)
	return Done{Changed: n}, err
}
