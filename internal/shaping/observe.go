package shaping

import (
	"time"
)

// counterKey is what one rule counts for one thing that it would bind.
type counterKey struct {
	rule string
	bind bindKey
}

// counter remembers when a rule matched, and how its backoff grew.
type counter struct {
	times  []time.Time // a ring of the threshold's count
	next   int
	within time.Duration
	last   time.Time     // latest match
	wait   time.Duration // of the latest backoff
	until  time.Time     // of the latest backoff
}

// stale reports that a counter has nothing to say any more.
func (c *counter) stale(now time.Time) bool {
	return now.Sub(c.last) > c.within && now.Sub(c.until) > c.wait
}

// move moves what is counted in time.
func (c *counter) move(by time.Duration) {
	for _, t := range append([]*time.Time{&c.last, &c.until}, pointers(c.times)...) {
		if !t.IsZero() {
			*t = t.Add(by)
		}
	}
}

func pointers(times []time.Time) (out []*time.Time) {
	for i := range times {
		out = append(out, &times[i])
	}
	return out
}

// hit notes a match and reports whether the threshold is reached: so many within the
// time. Reaching it begins anew.
func (c *counter) hit(t Threshold, now time.Time) bool {
	c.last, c.within = now, t.Within
	if t.Count <= 1 {
		return true
	}
	if len(c.times) != t.Count {
		c.times, c.next = make([]time.Time, t.Count), 0
	}
	c.times[c.next] = now
	c.next = (c.next + 1) % t.Count
	if oldest := c.times[c.next]; oldest.IsZero() || now.Sub(oldest) > t.Within {
		return false
	}
	clear(c.times)
	c.next = 0
	return true
}

// Observe takes note of an outcome and says what rules make of it. A success costs
// nothing.
func (s *Shaping) Observe(t Traffic, r Reply, now time.Time) (j Judgement) {
	if r.Code >= 200 && r.Code < 400 {
		return j
	}
	p := s.program.Load()
	p.matcher.match(t.Provider, &r, func(n int) bool {
		rule := &p.rules.Rules[n]
		j.take(rule)
		if len(rule.Then) > 0 {
			s.act(rule, &t, &r, now, &j)
		}
		return rule.GoOn
	})
	return j
}

// take adds what a rule says about the recipient; the first that says something has
// the word.
func (j *Judgement) take(r *Rule) {
	if j.Rule == "" || (j.Fate == AsReplied && r.Fate != AsReplied) {
		j.Rule = r.Name
	}
	if j.Fate == AsReplied {
		j.Fate = r.Fate
	}
	j.Suppress = j.Suppress || r.Suppress
	j.After = max(j.After, r.After)
	if j.Category == "" {
		j.Category = r.Category
	}
}

// act counts a match, and brings a rule's effects into force when its threshold is
// reached and they are not in force yet.
func (s *Shaping) act(rule *Rule, t *Traffic, r *Reply, now time.Time, j *Judgement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	_, k, ok := rule.Then[0].binds(t)
	if !ok || s.forced(rule.Name, rule.Then[0].Kind, k, now) {
		return
	}
	if !s.counter(rule.Name, k).hit(rule.Threshold, now) || len(s.actions) >= maxActions {
		return
	}
	for i := range rule.Then {
		e := &rule.Then[i]
		sh, k, ok := e.binds(t)
		if !ok || s.forced(rule.Name, e.Kind, k, now) {
			continue
		}
		a := &Action{ID: s.identity(now), Rule: rule.Name, Where: rule.Where, Kind: e.Kind, Scope: sh.scope, Within: sh.within, Traffic: sh.bound(t),
			From: now, Until: now.Add(s.counter(rule.Name, k).length(e, now)), Rate: e.Rate, Connections: e.Connections, Reply: r.Text, Count: max(1, rule.Threshold.Count)}
		s.force(a, true)
		j.Actions = append(j.Actions, *a)
		if s.record != nil {
			s.record(*a)
		}
	}
}

// counter gives the one of a rule for a thing, or makes it. The lock is held.
func (s *Shaping) counter(rule string, k bindKey) *counter {
	c := s.counters[counterKey{rule, k}]
	if c == nil {
		c = &counter{}
		s.counters[counterKey{rule, k}] = c
	}
	return c
}

// length is how long an effect lasts: a backoff that follows soon on the former one
// lasts twice as long as that did.
func (c *counter) length(e *Effect, now time.Time) time.Duration {
	if e.Kind != "backoff" {
		return e.For
	}
	wait := e.For
	if c.wait > 0 && now.Sub(c.until) <= c.wait {
		wait = min(2*c.wait, e.Most)
	}
	c.wait, c.until = wait, now.Add(wait)
	return wait
}

// binds gives what an effect binds in a piece of traffic. Where there is no provider,
// what would reach all of it reaches the site.
func (e *Effect) binds(t *Traffic) (shape, bindKey, bool) {
	sh := shape{e.Scope, e.Within}
	if plain(e.Scope) {
		sh.within = ""
	}
	if t.Provider == "" {
		if sh.scope == "provider" {
			sh.scope = "site"
		}
		if sh.within == "provider" {
			sh.within = "site"
		}
	}
	k, ok := sh.key(t)
	return sh, k, ok
}

// forced reports whether an action of a rule is in force on a thing already. The lock
// is held.
func (s *Shaping) forced(rule, kind string, k bindKey, now time.Time) bool {
	list, _ := s.of(kind, k.scope).get(k)
	for _, a := range list {
		if a.Rule == rule && a.Kind == kind && a.inForce(now) {
			return true
		}
	}
	return false
}
