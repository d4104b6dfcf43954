package shaping

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Explanation tells what binds a piece of traffic, and where each part of it is said.
type Explanation struct {
	Traffic  Traffic
	Separate bool   // the provider's MX sets are sites of their own
	Where    string // of the provider's definition, "" where it has none
	Limits   Limits // what binds now
	Bound    []Bound
	Rules    []Applicable
	Warmup   *Warming
	Actions  []Action // in force on this traffic
	Next     time.Time
	Blocked  bool // until an operator lifts it, where Next is zero
}

// Bound is one limit: its attribute, its value, and where it is said.
type Bound struct {
	Name  string
	Value string
	Where string
}

// Applicable is a rule that may speak about this traffic.
type Applicable struct {
	Name  string
	Where string
	Does  string
	All   bool // it is for every destination
}

// Warming is the state of a warm-up.
type Warming struct {
	Name     string
	Where    string
	Day      int // from 1
	Days     int
	Messages int // today, to each site; 0 where it is over
	Over     bool
}

// Explain tells what binds a piece of traffic now. Parts that are unknown bind nothing.
func (s *Shaping) Explain(t Traffic, now time.Time) Explanation {
	p := s.program.Load()
	x := Explanation{Traffic: t, Limits: s.Limits(t, now)}
	for i := range p.rules.Destinations {
		if d := &p.rules.Destinations[i]; d.Name == t.Provider && t.Provider != "" {
			x.Where, x.Separate = d.Where, d.Separate
		}
	}
	b := p.base(t.Provider, t.Pool)
	for _, l := range b.list() {
		x.Bound = append(x.Bound, Bound{l[0], l[1], b.where[l[0]]})
	}
	for i := range p.rules.Rules {
		r := &p.rules.Rules[i]
		if len(r.Providers) == 0 || slices.Contains(r.Providers, t.Provider) {
			x.Rules = append(x.Rules, Applicable{r.Name, r.Where, r.does(), len(r.Providers) == 0})
		}
	}
	if w := p.warm[t.Source.Unmap()]; w != nil {
		n, on, ok := w.allowed(t.Provider, now)
		x.Warmup = &Warming{Name: w.Name, Where: w.Where, Day: on + 1, Days: len(w.Schedule), Messages: n, Over: !ok}
		if d := w.Destinations[t.Provider]; d != nil {
			x.Warmup.Days = len(d)
		}
	}
	for _, a := range s.Actions(now) {
		mine, ok := a.shape().key(&a.Traffic)
		theirs, known := a.shape().key(&t)
		if ok && known && mine == theirs {
			x.Actions = append(x.Actions, a)
		}
	}
	if block, yes := s.Blocked(t, now); yes {
		x.Next, x.Blocked = block.Until, true
	}
	return x
}

// list gives the limits that bind, as attribute and value.
func (l *Limits) list() (out [][2]string) {
	for _, n := range []struct {
		name string
		n    int
	}{{"connections", l.Connections}, {"connections_per_source", l.ConnectionsPerSource}, {"messages_per_connection", l.MessagesPerConnection}} {
		if n.n > 0 {
			out = append(out, [2]string{n.name, fmt.Sprint(n.n)})
		}
	}
	for _, r := range []struct {
		name  string
		rates []Rate
	}{{"connection_rate", l.ConnectionRate}, {"message_rate", l.MessageRate}, {"source_rate", l.SourceRate}, {"recipient_rate", l.RecipientRate}} {
		if len(r.rates) > 0 {
			out = append(out, [2]string{r.name, rates(r.rates)})
		}
	}
	if l.Idle > 0 {
		out = append(out, [2]string{"idle", Span(l.Idle)})
	}
	if len(l.Schedule) > 0 {
		var waits []string
		for _, w := range l.Schedule {
			waits = append(waits, Span(w))
		}
		out = append(out, [2]string{"retry", strings.Join(waits, ", ")})
	}
	if l.Expire > 0 {
		out = append(out, [2]string{"expire", Span(l.Expire)})
	}
	return out
}

func rates(list []Rate) string {
	var out []string
	for _, r := range list {
		out = append(out, r.String())
	}
	return strings.Join(out, ", ")
}

// String gives a rate as the configuration has it.
func (r Rate) String() string {
	if r.Burst > 1 {
		return fmt.Sprintf("%d/%s/%d", r.Count, Span(r.Per), r.Burst)
	}
	return fmt.Sprintf("%d/%s", r.Count, Span(r.Per))
}

// ParseRate reads "100/1m" or, with a burst, "1000/1h/50".
func ParseRate(s string) (r Rate, ok bool) {
	count, rest, found := strings.Cut(s, "/")
	per, burst, bursts := strings.Cut(rest, "/")
	n, err := strconv.Atoi(count)
	d, err2 := time.ParseDuration(per)
	if !found || err != nil || err2 != nil || n <= 0 || n > 1e9 || d < time.Second || d > 366*day {
		return r, false
	}
	r = Rate{Count: n, Per: d}
	if bursts {
		if r.Burst, err = strconv.Atoi(burst); err != nil || r.Burst < 1 || r.Burst > n {
			return Rate{}, false
		}
	}
	return r, true
}

// Span gives a duration in the shortest form: "1h", "90s".
func Span(d time.Duration) string {
	switch {
	case d <= 0:
		return d.String()
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d%time.Second == 0:
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return d.String()
}

// does tells in words what a rule does.
func (r *Rule) does() string {
	var out []string
	for i := range r.Then {
		out = append(out, r.Then[i].String())
	}
	switch r.Fate {
	case TryAgain:
		out = append(out, "try again")
	case Bounce:
		out = append(out, "bounce")
	case Elsewhere:
		out = append(out, "try from another source")
	}
	if r.Suppress {
		out = append(out, "suppress the recipient")
	}
	if r.After > 0 {
		out = append(out, "not before "+Span(r.After))
	}
	if r.Category != "" {
		out = append(out, "category "+r.Category)
	}
	s := strings.Join(out, ", ")
	if r.Threshold.Count > 1 && len(r.Then) > 0 {
		s += fmt.Sprintf(" (at %d in %s)", r.Threshold.Count, Span(r.Threshold.Within))
	}
	return s
}

// String tells in words what an effect does.
func (e *Effect) String() string {
	what := e.Scope
	if !plain(e.Scope) && e.Within != "" {
		what += map[string]string{"site": " at this site", "provider": " at this provider", "everywhere": " everywhere"}[e.Within]
	}
	switch e.Kind {
	case "throttle":
		var to []string
		if e.Rate != nil {
			to = append(to, e.Rate.String())
		}
		if e.Connections > 0 {
			to = append(to, fmt.Sprintf("%d connections", e.Connections))
		}
		return fmt.Sprintf("throttle %s to %s for %s", what, strings.Join(to, " and "), Span(e.For))
	case "backoff":
		return fmt.Sprintf("back off with %s for %s, doubling up to %s", what, Span(e.For), Span(e.Most))
	}
	return fmt.Sprintf("suspend %s for %s", what, Span(e.For))
}

// Matched is a rule that matches a reply.
type Matched struct {
	Name  string
	Where string
	Does  string
	Final bool
}

// Try tells which rules a reply matches, in order. Nothing is counted and nothing comes
// into force.
func (s *Shaping) Try(provider string, r Reply) (out []Matched) {
	p := s.program.Load()
	if r.Code >= 200 && r.Code < 400 {
		return nil
	}
	p.matcher.match(provider, &r, func(n int) bool {
		rule := &p.rules.Rules[n]
		out = append(out, Matched{rule.Name, rule.Where, rule.does(), !rule.GoOn})
		return rule.GoOn
	})
	return out
}

// Providers names the providers, sorted.
func (s *Shaping) Providers() (names []string) {
	for _, d := range s.program.Load().rules.Destinations {
		if d.Name != Everywhere {
			names = append(names, d.Name)
		}
	}
	slices.Sort(names)
	return names
}
