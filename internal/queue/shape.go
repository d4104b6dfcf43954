package queue

import (
	"slices"
	"time"

	"postern.dev/postern/internal/egress"
	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/shaping"
	"postern.dev/postern/internal/spool"
)

// ShapingEvent is a shaping action as the ledger keeps it.
func ShapingEvent(a *shaping.Action, state string, when time.Time) *ledger.ShapingChanged {
	t := &a.Traffic
	e := &ledger.ShapingChanged{Time: when, Action: a.ID, State: state, Does: a.Kind, Rule: a.Rule, Where: a.Where, By: a.By, Scope: a.Scope, Within: a.Within,
		Site: t.Site, Provider: t.Provider, Domain: t.Domain, MX: t.MX, Pool: t.Pool, Source: t.Source, Customer: t.Customer, Campaign: t.Campaign,
		From: a.From, Until: a.Until, Connections: a.Connections, Reply: a.Reply, Count: a.Count, Note: a.Reason}
	if a.Rate != nil {
		e.Rate = a.Rate.String()
	}
	return e
}

// record puts what the shaper has brought into force on record, and lets it take effect
// at once.
func (d *delivery) record(b *spool.Batch, actions []shaping.Action, now time.Time) {
	for i := range actions {
		b.Events = append(b.Events, ledger.Encode(ShapingEvent(&actions[i], ledger.ShapingBegan, now)))
	}
	if len(actions) > 0 {
		d.q.Reconsider()
	}
}

// told tells the shaper of something that decides nothing about the recipient in
// hand: a host that did not answer where another may, or one whose TLS is broken.
func (d *delivery) told(reply shaping.Reply, host string) {
	now := d.q.o.Clock.Now()
	t := d.traffic()
	t.MX = host
	j := d.q.o.Shaper.Observe(t, reply, d.q.time.agreed())
	if len(j.Actions) > 0 {
		b := &spool.Batch{}
		d.record(b, j.Actions, now)
		d.q.submit(b)
	}
}

// preferred puts the hosts that the shaper says to pass over behind the others.
func (d *delivery) preferred(hosts []egress.Host) []egress.Host {
	if len(hosts) < 2 {
		return hosts
	}
	now, t := d.q.time.agreed(), d.traffic()
	var passed []egress.Host
	good := make([]egress.Host, 0, len(hosts))
	for _, h := range hosts {
		t.MX = h.Name
		if b, yes := d.q.o.Shaper.Blocked(t, now); yes && b.Scope == "mx" {
			passed = append(passed, h)
		} else {
			good = append(good, h)
		}
	}
	return slices.Concat(good, passed)
}
