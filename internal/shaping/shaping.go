package shaping

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// ErrUnknown tells that no such action is in force.
var ErrUnknown = errors.New("no such action is in force")

// Bounds of what a node keeps, so that no peer can fill its memory.
const (
	maxActions  = 100_000
	maxCounters = 200_000
	sweepEvery  = time.Minute
)

// Options are what a Shaping is made of.
type Options struct {
	Program *Program
	// Record is told each action that a rule brings into force, in order and before the
	// next one. It must not call back. Nil records nothing.
	Record func(Action)
}

// Shaping answers the queue. Its methods may be called from any goroutine; Limits and
// Blocked take no lock unless something is throttled.
type Shaping struct {
	record     func(Action)
	program    atomic.Pointer[Program]
	generation atomic.Uint64
	blocks     binds[[]*Action]
	throttles  binds[[]*Action]
	gates      binds[[]*Action] // throttles of pools, customers and campaigns

	merging sync.RWMutex
	merged  map[mergeKey]*Limits

	mu       sync.Mutex
	actions  map[string]*Action
	counters map[counterKey]*counter
	swept    time.Time
	last     int64 // number of the newest identity
}

// New makes a Shaping with nothing in force.
func New(o Options) *Shaping {
	s := &Shaping{record: o.Record, merged: map[mergeKey]*Limits{}, actions: map[string]*Action{}, counters: map[counterKey]*counter{}}
	s.blocks.seed, s.throttles.seed, s.gates.seed = maphash.MakeSeed(), maphash.MakeSeed(), maphash.MakeSeed()
	s.Load(o.Program)
	return s
}

// Load brings another program into force. What is in force by the old one stays, and so
// does what is counted for rules that keep their name.
func (s *Shaping) Load(p *Program) {
	s.program.Store(p)
	s.changed()
}

// Generation changes whenever limits or blocks may have changed otherwise than by the
// passing of time.
func (s *Shaping) Generation() uint64 { return s.generation.Load() }

func (s *Shaping) changed() {
	s.merging.Lock()
	clear(s.merged)
	s.merging.Unlock()
	s.generation.Add(1)
}

// Resolve says to which provider and site a domain belongs, given its mail exchangers
// in any order. Without them the domain is its own site, unless a provider names it.
func (s *Shaping) Resolve(domain string, mx []string) Destination {
	return s.program.Load().providers.resolve(domain, mx)
}

// Blocked reports what keeps a piece of traffic back, the reason that lasts longest.
func (s *Shaping) Blocked(t Traffic, now time.Time) (Block, bool) {
	shapes := s.blocks.shapes.Load()
	if shapes == nil {
		return Block{}, false
	}
	var longest *Action
	for _, sh := range *shapes {
		k, ok := sh.key(&t)
		if !ok {
			continue
		}
		all, _ := s.blocks.get(k)
		for _, a := range all {
			if a.inForce(now) && (longest == nil || a.outlasts(longest)) {
				longest = a
			}
		}
	}
	if longest == nil {
		return Block{}, false
	}
	return Block{Until: longest.Until, Scope: longest.Scope, Reason: longest.said, Action: longest.ID}, true
}

func (a *Action) inForce(now time.Time) bool { return a.Until.IsZero() || now.Before(a.Until) }

func (a *Action) outlasts(b *Action) bool {
	return !b.Until.IsZero() && (a.Until.IsZero() || a.Until.After(b.Until))
}

// because gives the reason in words.
func (a *Action) because() string {
	switch {
	case a.Rule != "":
		return "rule " + a.Rule + ": " + a.Reply
	case a.Reason == "":
		return "suspended by " + a.By
	}
	return "suspended by " + a.By + ": " + a.Reason
}

// of gives where actions of a kind and scope are bound.
func (s *Shaping) of(kind, scope string) *binds[[]*Action] {
	switch {
	case gated(kind, scope):
		return &s.gates
	case kind == "throttle":
		return &s.throttles
	}
	return &s.blocks
}

func (a *Action) shape() shape { return shape{a.Scope, a.Within} }

// force puts an action in force or takes it away. The lock is held.
func (s *Shaping) force(a *Action, on bool) {
	to := s.of(a.Kind, a.Scope)
	if on {
		a.said = a.because()
		if gated(a.Kind, a.Scope) {
			a.gate = &gate{}
		}
		s.actions[a.ID] = a
	} else {
		delete(s.actions, a.ID)
	}
	if k, ok := a.shape().key(&a.Traffic); ok {
		old, _ := to.get(k)
		list := make([]*Action, 0, len(old)+1)
		for _, o := range old {
			if o.ID != a.ID {
				list = append(list, o)
			}
		}
		if on {
			list = append(list, a)
		}
		to.set(k, list, len(list) > 0)
	}
	s.changed()
}

// sweep forgets what has ended. The lock is held.
func (s *Shaping) sweep(now time.Time) {
	if now.Sub(s.swept) < sweepEvery && len(s.counters) < maxCounters {
		return
	}
	s.swept = now
	for _, a := range s.actions {
		if !a.inForce(now) {
			s.force(a, false)
		}
	}
	for k, c := range s.counters {
		if c.stale(now) {
			delete(s.counters, k)
		}
	}
	if len(s.counters) >= maxCounters {
		clear(s.counters)
	}
}

// identity makes the name of an action: short, and of its own for ever.
func (s *Shaping) identity(now time.Time) string {
	s.last = max(s.last+1, now.UnixMilli())
	return "S" + strconv.FormatInt(s.last, 36)
}

// Actions gives what is in force, the latest first.
func (s *Shaping) Actions(now time.Time) []Action {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Action
	for _, a := range s.actions {
		if a.inForce(now) {
			out = append(out, *a)
		}
	}
	slices.SortFunc(out, func(a, b Action) int { return cmp.Or(b.From.Compare(a.From), cmp.Compare(b.ID, a.ID)) })
	return out
}

// Restore puts into force what a former run has left, and takes up how backoffs grew that
// have ended not long ago. Nothing is recorded.
func (s *Shaping) Restore(list []Action, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		a := list[i]
		if n, err := strconv.ParseInt(a.ID[min(1, len(a.ID)):], 36, 64); err == nil {
			s.last = max(s.last, n)
		}
		if a.From.After(now) { // the clock was set back since
			a.move(now.Sub(a.From))
		}
		if a.inForce(now) {
			s.force(&a, true)
		}
		s.grown(&a, now)
	}
}

// grown takes up how long a backoff of a former run was, so that the next one is twice as
// long. The lock is held.
func (s *Shaping) grown(a *Action, now time.Time) {
	k, ok := a.shape().key(&a.Traffic)
	if a.Kind != "backoff" || a.Rule == "" || !ok || len(s.counters) >= maxCounters {
		return
	}
	c := &counter{last: a.From, wait: a.Until.Sub(a.From), until: a.Until}
	if old := s.counters[counterKey{a.Rule, k}]; !c.stale(now) && (old == nil || old.until.Before(c.until)) {
		s.counters[counterKey{a.Rule, k}] = c
	}
}

// move moves an action in time.
func (a *Action) move(by time.Duration) {
	a.moved += by
	a.From = a.From.Add(by)
	if !a.Until.IsZero() {
		a.Until = a.Until.Add(by)
	}
}

// ClockSet moves what is in force, and what is counted, as the clock was moved: what
// was to last for an hour lasts for an hour.
func (s *Shaping) ClockSet(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.actions {
		moved := *a // others read the old one without a lock
		moved.move(by)
		s.force(&moved, true)
	}
	for _, c := range s.counters {
		c.move(by)
	}
	s.swept = s.swept.Add(by)
}

// Undo ends an action and gives it back as it was put on record. What was counted towards it is
// forgotten.
func (s *Shaping) Undo(id string, now time.Time) (Action, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.actions[id]
	if a == nil || !a.inForce(now) {
		return Action{}, fmt.Errorf("undo %s: %w", id, ErrUnknown)
	}
	s.force(a, false)
	if k, ok := a.shape().key(&a.Traffic); ok {
		delete(s.counters, counterKey{a.Rule, k})
	}
	was := *a
	was.move(-a.moved)
	return was, nil
}

// Suspension is an operator's wish to send nothing of a kind. Traffic has the parts
// that Scope and Within name.
type Suspension struct {
	Scope   string
	Within  string
	Traffic Traffic
	Until   time.Time // zero: until it is undone
	By      string
	Reason  string
}

// Suspend stops traffic until a time, or until it is undone.
func (s *Shaping) Suspend(w Suspension, now time.Time) (Action, error) {
	sh := shape{w.Scope, w.Within}
	if !slices.Contains(Scopes(), w.Scope) {
		return Action{}, fmt.Errorf("suspend: unknown scope %q", w.Scope)
	}
	if plain(w.Scope) {
		sh.within = ""
	} else if !slices.Contains(Reaches(), w.Within) {
		return Action{}, fmt.Errorf("suspend %s: it reaches %q, which is none of %v", w.Scope, w.Within, Reaches())
	}
	if _, ok := sh.key(&w.Traffic); !ok {
		return Action{}, fmt.Errorf("suspend %s: which one?", w.Scope)
	}
	if !w.Until.IsZero() && !now.Before(w.Until) {
		return Action{}, fmt.Errorf("suspend %s: %s is in the past", w.Scope, w.Until.UTC().Format(time.RFC3339))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &Action{ID: s.identity(now), Kind: "suspend", Scope: w.Scope, Within: sh.within, Traffic: sh.bound(&w.Traffic), From: now, Until: w.Until, By: w.By, Reason: w.Reason}
	s.force(a, true)
	return *a, nil
}
