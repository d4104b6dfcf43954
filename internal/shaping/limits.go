package shaping

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Program is a configuration's Rules, made ready.
type Program struct {
	rules     *Rules
	providers *providers
	matcher   *matcher
	limits    map[string]*poolLimits // by provider; "" is for what has none
	warm      map[netip.Addr]*Warmup
}

// poolLimits are a provider's limits for the pools that some limits name, and for the
// others.
type poolLimits struct {
	other *bound
	pools map[string]*bound
}

// bound are limits with the places that they come from, by attribute.
type bound struct {
	Limits
	where map[string]string
}

// Compile makes Rules ready. An error tells of more rules than there may be.
func Compile(r *Rules) (*Program, error) {
	p := &Program{rules: r, providers: newProviders(r.Destinations), limits: map[string]*poolLimits{}, warm: map[netip.Addr]*Warmup{}}
	var err error
	if p.matcher, err = newMatcher(r.Rules); err != nil {
		return nil, err
	}
	every := &Definition{}
	var pools []string
	for i := range r.Destinations {
		d := &r.Destinations[i]
		if d.Name == Everywhere {
			every = d
		}
		for _, l := range d.Limits {
			pools = append(pools, l.Pools...)
		}
	}
	slices.Sort(pools)
	pools = slices.Compact(pools)
	p.limits[""] = poolLimitsOf(pools, every)
	for i := range r.Destinations {
		if d := &r.Destinations[i]; d.Name != Everywhere {
			p.limits[d.Name] = poolLimitsOf(pools, every, d)
		}
	}
	for i := range r.Warmups {
		w := &r.Warmups[i]
		for _, a := range w.Sources {
			p.warm[a.Unmap()] = w
		}
	}
	return p, nil
}

// poolLimitsOf merges definitions, the later over the earlier, attribute by attribute.
func poolLimitsOf(pools []string, ds ...*Definition) *poolLimits {
	merge := func(pool string) *bound {
		b := &bound{where: map[string]string{}}
		for _, d := range ds {
			for _, confined := range []bool{false, true} { // what names the pool goes before what names none
				for i := range d.Limits {
					l := &d.Limits[i]
					if confined == (len(l.Pools) > 0) && (!confined || slices.Contains(l.Pools, pool)) {
						b.override(&l.Limits)
						maps.Copy(b.where, l.Where)
					}
				}
			}
		}
		return b
	}
	out := &poolLimits{other: merge(""), pools: map[string]*bound{}}
	for _, p := range pools {
		out.pools[p] = merge(p)
	}
	return out
}

// override takes over what o says.
func (l *Limits) override(o *Limits) {
	for _, p := range []struct{ to, from *int }{{&l.Connections, &o.Connections}, {&l.ConnectionsPerSource, &o.ConnectionsPerSource}, {&l.MessagesPerConnection, &o.MessagesPerConnection}} {
		if *p.from != 0 {
			*p.to = *p.from
		}
	}
	for _, p := range []struct{ to, from *[]Rate }{{&l.ConnectionRate, &o.ConnectionRate}, {&l.MessageRate, &o.MessageRate}, {&l.SourceRate, &o.SourceRate}, {&l.RecipientRate, &o.RecipientRate}} {
		if len(*p.from) > 0 {
			*p.to = *p.from
		}
	}
	if o.Idle != 0 {
		l.Idle = o.Idle
	}
	if len(o.Schedule) > 0 {
		l.Schedule = o.Schedule
	}
	if o.Expire != 0 {
		l.Expire = o.Expire
	}
}

// base gives the limits of the configuration.
func (p *Program) base(provider, pool string) *bound {
	l := p.limits[provider]
	if l == nil {
		l = p.limits[""]
	}
	if b := l.pools[pool]; b != nil {
		return b
	}
	return l.other
}

const day = 24 * time.Hour

// allowed gives what a source may send to each site on a day, counted from 0; false
// where the warm-up binds it no more.
func (w *Warmup) allowed(provider string, now time.Time) (messages, on int, ok bool) {
	if now.After(w.Start) {
		on = int(now.Sub(w.Start) / day)
	}
	schedule := w.Schedule
	if s := w.Destinations[provider]; s != nil {
		schedule = s
	}
	if on >= len(schedule) {
		return 0, on, false
	}
	return schedule[on], on, true
}

// warmRate spreads a day's messages evenly; an hour's share may come at once.
func warmRate(messages int) Rate {
	return Rate{Count: messages, Per: day, Burst: max(1, messages/24)}
}

// maxThrottles is how many throttles at once are kept merged for one piece of traffic.
const maxThrottles = 4

// mergeKey is what limits are merged of.
type mergeKey struct {
	base      *bound
	messages  int // of the warm-up, 0 for none
	throttles [maxThrottles]*Action
}

// Limits gives what binds a piece of traffic now: the configuration's limits, the day
// of a warm-up, and the throttles in force.
func (s *Shaping) Limits(t Traffic, now time.Time) Limits {
	p := s.program.Load()
	k := mergeKey{base: p.base(t.Provider, t.Pool)}
	if len(p.warm) > 0 {
		if w := p.warm[t.Source.Unmap()]; w != nil {
			k.messages, _, _ = w.allowed(t.Provider, now)
		}
	}
	n := s.throttling(&t, now, &k.throttles)
	if n == 0 && k.messages == 0 {
		return k.base.Limits
	}
	s.merging.RLock()
	m := s.merged[k]
	s.merging.RUnlock()
	if m != nil {
		return *m
	}
	l := k.merge()
	s.merging.Lock()
	if len(s.merged) >= maxMerged {
		clear(s.merged)
	}
	s.merged[k] = l
	s.merging.Unlock()
	return *l
}

// maxMerged bounds the merged limits that are kept.
const maxMerged = 10_000

// throttling puts the throttles in force into a list and counts them.
func (s *Shaping) throttling(t *Traffic, now time.Time, list *[maxThrottles]*Action) (n int) {
	shapes := s.throttles.shapes.Load()
	if shapes == nil {
		return 0
	}
	for _, sh := range *shapes {
		k, ok := sh.key(t)
		if !ok {
			continue
		}
		all, _ := s.throttles.get(k)
		for _, a := range all {
			if n < maxThrottles && a.inForce(now) {
				list[n] = a
				n++
			}
		}
	}
	return n
}

func (k *mergeKey) merge() *Limits {
	l := k.base.Limits
	if k.messages > 0 {
		l.SourceRate = append(slices.Clip(l.SourceRate), warmRate(k.messages))
	}
	for _, a := range k.throttles {
		if a == nil {
			break
		}
		rates, conns := &l.MessageRate, &l.Connections
		if a.Scope == "source" {
			rates, conns = &l.SourceRate, &l.ConnectionsPerSource
		}
		if a.Rate != nil {
			*rates = append(slices.Clip(*rates), *a.Rate)
		}
		if a.Connections > 0 && (*conns == 0 || *conns > a.Connections) {
			*conns = a.Connections
		}
	}
	return &l
}
