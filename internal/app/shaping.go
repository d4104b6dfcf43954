package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/policy"
	"postern.dev/postern/internal/queue"
	"postern.dev/postern/internal/shaping"
)

// backoffMemory is how long a backoff that has ended may still make the next one longer.
const backoffMemory = 7 * 24 * time.Hour

// openShaping brings into force what the ledger says was in force.
func (a *App) openShaping(ctx context.Context, p *shaping.Program) error {
	a.shaping = shaping.New(shaping.Options{Program: p, Record: a.shapingBegan})
	now := a.o.Now()
	list, err := a.ledger.ShapingInForce(ctx, now.Add(-backoffMemory))
	if err != nil {
		return err
	}
	var actions []shaping.Action
	for i := range list {
		actions = append(actions, shapingAction(&list[i]))
	}
	a.shaping.Restore(actions, now)
	return nil
}

// shapingBegan tells people of an automatic action. The queue puts it on record, with
// the outcome that set it off.
func (a *App) shapingBegan(x shaping.Action) {
	a.metrics.shaping.WithLabelValues(x.Kind, x.Rule).Inc()
	a.log.Warn("shaping changed", "action", x.ID, "rule", x.Rule, "does", x.Kind, "binds", binds(&x), "until", x.Until.UTC().Format(time.RFC3339), "reply", safe(x.Reply))
}

// shapingAction reads an action back from the ledger.
func shapingAction(e *ledger.ShapingChanged) shaping.Action {
	a := shaping.Action{ID: e.Action, Rule: e.Rule, Kind: e.Does, Scope: e.Scope, Within: e.Within, From: e.From, Until: e.Until, Reply: e.Reply, Count: e.Count,
		Connections: e.Connections, By: e.By, Reason: e.Note, Where: e.Where,
		Traffic: shaping.Traffic{Destination: shaping.Destination{Domain: e.Domain, Site: e.Site, Provider: e.Provider}, MX: e.MX, Pool: e.Pool, Source: e.Source, Customer: e.Customer, Campaign: e.Campaign}}
	if r, ok := shaping.ParseRate(e.Rate); ok {
		a.Rate = &r
	}
	return a
}

// binds tells in words what an action binds.
func binds(a *shaping.Action) string {
	t := &a.Traffic
	what := map[string]string{"site": t.Site, "provider": t.Provider, "domain": t.Domain, "mx": t.MX, "pool": t.Pool, "customer": t.Customer,
		"campaign": strings.TrimPrefix(t.Customer+"/"+t.Campaign, "/")}[a.Scope]
	if a.Scope == "source" {
		what = t.Source.String()
	}
	s := a.Scope + " " + what
	switch a.Within {
	case "site":
		s += " at site " + t.Site
	case "provider":
		s += " at provider " + t.Provider
	case "everywhere":
		s += " everywhere"
	}
	return s
}

// shapingView is an action as the commands show it.
func shapingView(a *shaping.Action) ShapingAction {
	v := ShapingAction{ID: a.ID, Does: a.Kind, Rule: a.Rule, Where: a.Where, By: a.By, Note: a.Reason, Binds: binds(a), Scope: a.Scope, Within: a.Within,
		Site: a.Traffic.Site, Provider: a.Traffic.Provider, Domain: a.Traffic.Domain, MX: a.Traffic.MX, Pool: a.Traffic.Pool, Source: a.Traffic.Source,
		Customer: a.Traffic.Customer, Campaign: a.Traffic.Campaign, From: a.From, Until: a.Until, Connections: a.Connections, Reply: safe(a.Reply), Count: a.Count}
	if a.Rate != nil {
		v.Rate = a.Rate.String()
	}
	return v
}

func (a *App) shapingMux(m *http.ServeMux) {
	m.Handle("GET /shaping", endpoint(a.shapingList))
	m.Handle("GET /shaping/explain", endpoint(a.shapingExplain))
	m.Handle("POST /shaping/undo", endpoint(a.shapingUndo))
}

// shapingHistory is how far back the list of all actions goes.
const shapingHistory = 7 * 24 * time.Hour

// shapingList gives what is in force, or with all what was within a week.
func (a *App) shapingList(r *http.Request) (any, error) {
	now := a.o.Now()
	out := []ShapingAction{}
	if r.URL.Query().Get("all") == "" {
		for _, x := range a.shaping.Actions(now) {
			out = append(out, shapingView(&x))
		}
		return out, nil
	}
	if err := a.ledger.CaughtUp(r.Context(), a.spool.Durable()); err != nil {
		return nil, err
	}
	list, err := a.ledger.Shaping(r.Context(), now.Add(-shapingHistory), time.Time{})
	if err != nil {
		return nil, err
	}
	at := map[string]int{}
	for i := range list {
		e := &list[i]
		x := shapingAction(e)
		n, known := at[e.Action]
		if !known {
			n = len(out)
			at[e.Action] = n
			out = append(out, shapingView(&x))
		}
		if e.State == ledger.ShapingUndone {
			out[n].Undone, out[n].UndoneBy = e.Time, e.By
		}
	}
	slices.Reverse(out)
	return out, nil
}

// shapingTraffic reads what a request is about, and finds its provider and site.
func (a *App) shapingTraffic(ctx context.Context, q *ShapingQuery) (shaping.Traffic, []string, error) {
	return ResolveTraffic(ctx, a.shaping, a.resolver, q)
}

// MXLookup finds the mail exchangers of a domain.
type MXLookup interface {
	MX(ctx context.Context, domain string) ([]string, error)
}

// ResolveTraffic finds what a destination, given as a domain, an address, a provider or
// "", means to the rules, and its mail exchangers.
func ResolveTraffic(ctx context.Context, s *shaping.Shaping, dns MXLookup, q *ShapingQuery) (t shaping.Traffic, mx []string, err error) {
	t = shaping.Traffic{Pool: q.Pool, Customer: q.Customer, Campaign: q.Campaign, MX: q.MX}
	if q.Source != "" {
		if t.Source, err = netip.ParseAddr(q.Source); err != nil {
			return t, nil, fmt.Errorf("%q is not an address", q.Source)
		}
	}
	if q.Destination == "" {
		return t, nil, nil
	}
	if slices.Contains(s.Providers(), q.Destination) {
		t.Provider, t.Site = q.Destination, q.Destination
		return t, nil, nil
	}
	name := q.Destination
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		name = name[i+1:]
	}
	domain, err := policy.NormaliseDomain(name)
	if err != nil {
		return t, nil, fmt.Errorf("%q is neither a domain nor a destination of the configuration", q.Destination)
	}
	if t.Destination = s.Resolve(domain, nil); t.Provider != "" && t.Site == t.Provider {
		return t, nil, nil // known by its name
	}
	if dns == nil {
		return t, nil, errors.New("no resolver")
	}
	if mx, err = dns.MX(ctx, domain); err != nil {
		return t, nil, fmt.Errorf("mail exchangers of %s: %w", domain, err)
	}
	t.Destination = s.Resolve(domain, mx)
	return t, mx, nil
}

func (a *App) shapingExplain(r *http.Request) (any, error) {
	v := r.URL.Query()
	q := ShapingQuery{Destination: v.Get("destination"), Pool: v.Get("pool"), Source: v.Get("source"), Customer: v.Get("customer"), Campaign: v.Get("campaign"), MX: v.Get("mx")}
	if q.Pool == "" {
		q.Pool = a.now().cfg.Node.DefaultPool
	}
	t, mx, err := a.shapingTraffic(r.Context(), &q)
	if err != nil {
		return nil, err
	}
	now := a.o.Now()
	x := ExplainShaping(a.shaping, t, mx, now)
	x.Node = true
	a.shapingWaits(&x, t, now)
	return x, nil
}

// shapingWaits tells how long the next message would have to wait for limits, and so when
// it may go, whatever is longest.
func (a *App) shapingWaits(x *ShapingExplained, t shaping.Traffic, now time.Time) {
	if b, held := a.shaping.Delayed(t, now); held {
		x.Waits = append(x.Waits, ShapingWait{Limit: "throttle", Value: b.Action, Until: b.Until, Why: "of the " + b.Scope + ": " + safe(b.Reason)})
	}
	list, counted := a.queue.Waits(t)
	x.Counted = counted
	for _, w := range list {
		v := ShapingWait{Limit: w.Limit, Value: w.Value, Why: safe(w.Why)}
		if w.For > 0 {
			v.Until = now.Add(w.For)
		}
		x.Waits = append(x.Waits, v)
	}
	for _, w := range x.Waits {
		if w.Until.After(x.Next) && (!x.Blocked || !x.Next.IsZero()) {
			x.Next = w.Until
		}
	}
}

// ExplainShaping tells what binds a piece of traffic.
func ExplainShaping(s *shaping.Shaping, t shaping.Traffic, mx []string, now time.Time) ShapingExplained {
	x := s.Explain(t, now)
	v := ShapingExplained{Domain: t.Domain, MX: mx, Provider: t.Provider, Where: x.Where, Site: t.Site, Separate: x.Separate, Pool: t.Pool, Source: t.Source,
		Limits: []ShapingLimit{}, Rules: []ShapingRule{}, InForce: []ShapingAction{}, Blocked: x.Blocked, Next: x.Next}
	for _, b := range x.Bound {
		v.Limits = append(v.Limits, ShapingLimit(b))
	}
	for _, r := range x.Rules {
		v.Rules = append(v.Rules, ShapingRule{Name: r.Name, Where: r.Where, Does: r.Does, General: r.All})
	}
	if w := x.Warmup; w != nil {
		v.Warmup = &ShapingWarmup{Name: w.Name, Where: w.Where, Day: w.Day, Days: w.Days, Messages: w.Messages, Over: w.Over}
	}
	for i := range x.Actions {
		v.InForce = append(v.InForce, shapingView(&x.Actions[i]))
	}
	return v
}

func (a *App) shapingUndo(r *http.Request) (any, error) {
	req, err := body[ShapingUndo](r)
	if err != nil {
		return nil, err
	}
	act, err := a.undo(r.Context(), req.ID, req.By, req.Note)
	if err != nil {
		return nil, err
	}
	v := shapingView(&act)
	v.Undone, v.UndoneBy = a.o.Now(), req.By
	return v, nil
}

// undo ends what shapes mail, and makes that durable.
func (a *App) undo(ctx context.Context, id, by, note string) (shaping.Action, error) {
	now := a.o.Now()
	act, err := a.shaping.Undo(id, now)
	if err != nil {
		return act, err
	}
	e := queue.ShapingEvent(&act, ledger.ShapingUndone, now)
	e.By, e.Note = by, note
	if err := a.commitEvents(ctx, e); err != nil {
		return act, err
	}
	a.queue.Reconsider()
	a.log.Info("shaping undone", "action", act.ID, "by", by, "binds", binds(&act))
	return act, nil
}
