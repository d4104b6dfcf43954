package queue

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"postern.dev/postern/internal/shaping"
)

// Wait is a reason why the next message for a site would have to wait now.
type Wait struct {
	Limit string        // attribute of the limit: "message_rate"; "hosts" where none answers
	Value string        // of the limit
	For   time.Duration // 0 where nobody knows: until a connection ends
	Why   string
}

// Waits tells what the limits of a site would have its next message wait for, the
// longest first. Without a source it speaks of the one of the pool that could go first.
// False says that no mail has gone there of late: then nothing has been counted.
func (q *Queue) Waits(t shaping.Traffic) ([]Wait, bool) {
	rt := q.o.Routing()
	t.Pool = poolOf(rt, t.Pool)
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.time.now()
	s := q.sites[t.Site]
	if s == nil {
		return nil, false
	}
	var out []Wait
	if ms := now.UnixMilli(); s.rest > ms {
		out = append(out, Wait{Limit: "hosts", For: fromMillis(s.rest).Sub(now), Why: "no host answers: " + s.last})
	}
	l := q.o.Shaper.Limits(t, q.time.agreed())
	if most := cmp.Or(l.Connections, rt.Limits.PerSite); s.conns >= most {
		out = append(out, Wait{Limit: "connections", Value: fmt.Sprint(most), Why: fmt.Sprintf("%d are open: until one ends or takes it", s.conns)})
	}
	out = append(out, s.messages.waits("message_rate", l.MessageRate, now)...)
	out = append(out, s.rcpts.waits("recipient_rate", l.RecipientRate, now)...)
	out = append(out, q.sourceWaits(s, rt, t, now)...)
	slices.SortStableFunc(out, func(a, b Wait) int { return cmp.Compare(b.For, a.For) })
	return out, true
}

// sourceWaits are those of the source that could go first. The lock is held.
func (q *Queue) sourceWaits(s *site, rt *Routing, t shaping.Traffic, now time.Time) (best []Wait) {
	sources := []Source{{Addr: t.Source}}
	if !t.Source.IsValid() {
		sources = rt.Pools[t.Pool]
	}
	for i, src := range sources {
		if src.Weight < 0 {
			continue
		}
		o := s.outlets[src.Addr]
		if o == nil {
			return nil // one that has sent nothing there may go
		}
		t.Source = src.Addr
		l := q.o.Shaper.Limits(t, q.time.agreed())
		out := append(o.sent.waits("source_rate", l.SourceRate, now), o.opened.waits("connection_rate", l.ConnectionRate, now)...)
		if l.ConnectionsPerSource > 0 && o.conns >= l.ConnectionsPerSource {
			out = append(out, Wait{Limit: "connections_per_source", Value: fmt.Sprint(l.ConnectionsPerSource), Why: fmt.Sprintf("%d are open: until one ends or takes it", o.conns)})
		}
		for k := range out {
			out[k].Why += ", from " + src.Addr.String()
		}
		if len(out) == 0 {
			return nil
		}
		if i == 0 || longest(out) < longest(best) {
			best = out
		}
	}
	return best
}

func longest(list []Wait) (d time.Duration) {
	for _, w := range list {
		d = max(d, w.For)
	}
	return d
}

// waits tells for each of some rates how long the next one would wait by it, by what was
// counted under the rates in force until now.
func (m *meter) waits(name string, rates []shaping.Rate, now time.Time) (out []Wait) {
	as := meter{rates: m.rates, due: m.due}
	as.set(rates)
	for i, r := range as.rates {
		one := meter{rates: as.rates[i : i+1], due: as.due[i : i+1]}
		if d := one.wait(now); d > 0 {
			out = append(out, Wait{Limit: name, Value: r.String(), For: d, Why: fmt.Sprintf("one each %s, and the last ones came sooner", time.Duration(interval(r)).Round(time.Millisecond))})
		}
	}
	return out
}
