package incident

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern.dev/postern/internal/ledger"
	"postern.dev/postern/internal/report"
)

// States of an incident.
const (
	Open       = "open"
	Contained  = "contained"
	Repaired   = "repaired"
	Closed     = "closed"
	FalseAlarm = "false-alarm"
)

// ErrUnknown tells that there is no such incident.
var ErrUnknown = errors.New("no such incident")

// Records is what the ledger knows of incidents.
type Records interface {
	Incidents(ctx context.Context, all bool) ([]ledger.IncidentState, error)
	Impact(ctx context.Context, p ledger.Path, from, to time.Time) (*ledger.Impact, error)
	Reports(ctx context.Context, from, to time.Time) ([]ledger.Reported, error)
}

// Options are what a Book is made of.
type Options struct {
	Records Records
	// Commit makes events durable; the ledger has seen them when it returns.
	Commit func(ctx context.Context, events ...ledger.Event) error
	Now    func() time.Time
}

// Book keeps the incidents of a node.
type Book struct {
	o  Options
	mu sync.Mutex // one change at a time
	// incidents by id; the Book is their only writer.
	all  map[string]*ledger.IncidentState
	last int // number of the newest
	gate atomic.Pointer[[]hold]
}

// hold is one containment in force.
type hold struct {
	incident string
	c        ledger.Containment
}

// Load makes a Book with what the ledger holds; containments are in force at once.
func Load(ctx context.Context, o Options) (*Book, error) {
	b := &Book{o: o, all: map[string]*ledger.IncidentState{}}
	list, err := o.Records.Incidents(ctx, true)
	if err != nil {
		return nil, err
	}
	for i := range list {
		s := list[i]
		b.all[s.ID] = &s
		var year, n int
		if _, err := fmt.Sscanf(s.ID, "INC-%d-%d", &year, &n); err == nil {
			b.last = max(b.last, n)
		}
	}
	b.refresh()
	return b, nil
}

// refresh puts the containments in force where the hot path reads them. The lock is
// held, or nobody else has the Book yet.
func (b *Book) refresh() {
	var hs []hold
	for id, s := range b.all {
		if s.Open() {
			for _, c := range s.Contain {
				hs = append(hs, hold{id, c})
			}
		}
	}
	slices.SortFunc(hs, func(x, y hold) int { return compareStrings(x.incident, y.incident) })
	b.gate.Store(&hs)
}

func compareStrings(a, b string) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

// Holds reports whether mail that takes a way is held back, and because of which
// incident. It takes no lock.
func (b *Book) Holds(listener, filter, origin string, peer netip.Addr, pool string) (incident string, held bool) {
	hs := *b.gate.Load()
	for i := range hs {
		c := &hs[i].c
		switch {
		case c.Path != nil && *c.Path == (ledger.Path{Listener: listener, Filter: filter, Origin: origin}),
			c.Source.IsValid() && peer.IsValid() && c.Source.Contains(peer.Unmap()),
			c.Pool != "" && c.Pool == pool:
			return hs[i].incident, true
		}
	}
	return "", false
}

// Observe opens an incident for a verdict that pages, unless one about the same path
// is open. opened tells whether it did.
func (b *Book) Observe(ctx context.Context, v *report.Verdict) (s *ledger.IncidentState, opened bool, err error) {
	if !v.Pages() {
		return nil, false, nil
	}
	return b.open(ctx, ledger.IncidentChanged{Trigger: string(v.Kind), Path: v.Path, Peer: v.Peer, Policy: v.Policy, Pool: v.Pool, Source: v.Source,
		Message: v.Message, Report: v.Identity, Note: v.Reason})
}

// Guard opens an incident for a trip of the relay guard that held mail. A guard that
// only observes opens none.
func (b *Book) Guard(ctx context.Context, g *ledger.GuardTripped) (s *ledger.IncidentState, opened bool, err error) {
	if g.Observed {
		return nil, false, nil
	}
	return b.open(ctx, ledger.IncidentChanged{Trigger: "guard", Path: g.Path, Peer: g.Peer, Policy: g.Policy, Message: g.ID,
		Note: fmt.Sprintf("a stranger's message was about to be relayed to %s and has been held", g.Host)})
}

// Knows reports whether an incident about a path was open at a time, or has been
// opened since.
func (b *Book) Knows(p ledger.Path, at time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.all {
		if s.Opening.Path == p && (s.Open() || !s.Changed.Before(at)) {
			return true
		}
	}
	return false
}

func (b *Book) open(ctx context.Context, e ledger.IncidentChanged) (*ledger.IncidentState, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.all {
		if s.Open() && s.Opening.Path == e.Path && (e.Trigger != "bypassed" || s.Opening.Trigger == "bypassed") {
			return snapshot(s), false, nil
		}
	}
	e.Time, e.State, e.By = b.o.Now(), Open, "postern"
	e.Incident = fmt.Sprintf("INC-%d-%04d", e.Time.UTC().Year(), b.last+1)
	if err := b.o.Commit(ctx, &e); err != nil {
		return nil, false, fmt.Errorf("open incident: %w", err)
	}
	b.last++
	s := &ledger.IncidentState{ID: e.Incident, State: Open, Opening: e, Changed: e.Time, Timeline: []ledger.IncidentChanged{e}}
	b.all[e.Incident] = s
	b.refresh()
	return snapshot(s), true, nil
}

func snapshot(s *ledger.IncidentState) *ledger.IncidentState {
	c := *s
	c.Contain, c.Timeline = slices.Clone(s.Contain), slices.Clone(s.Timeline)
	return &c
}

// change commits a step of an incident and takes it into account.
func (b *Book) change(ctx context.Context, id string, step func(*ledger.IncidentState) (ledger.IncidentChanged, error)) (*ledger.IncidentState, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.all[id]
	if s == nil {
		return nil, fmt.Errorf("incident %q: %w", id, ErrUnknown)
	}
	e, err := step(s)
	if err != nil {
		return nil, err
	}
	e.Time, e.Incident = b.o.Now(), id
	if err := b.o.Commit(ctx, &e); err != nil {
		return nil, fmt.Errorf("incident %s: %w", id, err)
	}
	s.State, s.Contain, s.Changed = e.State, e.Contain, e.Time
	s.Timeline = append(s.Timeline, e)
	b.refresh()
	return snapshot(s), nil
}

func ended(s *ledger.IncidentState) error {
	if !s.Open() {
		return fmt.Errorf("incident %s is %s: nothing more can be done with it", s.ID, s.State)
	}
	return nil
}

// Contain holds back what the containments name, or what takes the incident's path
// where there are none. It is in force when Contain returns.
func (b *Book) Contain(ctx context.Context, id string, what []ledger.Containment, by, note string) (*ledger.IncidentState, error) {
	return b.change(ctx, id, func(s *ledger.IncidentState) (ledger.IncidentChanged, error) {
		if err := ended(s); err != nil {
			return ledger.IncidentChanged{}, err
		}
		if len(what) == 0 {
			p := s.Opening.Path
			if p == (ledger.Path{}) {
				return ledger.IncidentChanged{}, fmt.Errorf("incident %s has no path of ours: name a source or a pool", id)
			}
			what = []ledger.Containment{{Path: &p}}
		}
		hold := slices.Clone(s.Contain)
		for _, c := range what {
			if !slices.ContainsFunc(hold, func(h ledger.Containment) bool { return same(h, c) }) {
				hold = append(hold, c)
			}
		}
		return ledger.IncidentChanged{State: Contained, Contain: hold, By: by, Note: note}, nil
	})
}

// same reports whether two containments hold the same.
func same(a, b ledger.Containment) bool {
	if (a.Path == nil) != (b.Path == nil) || (a.Path != nil && *a.Path != *b.Path) {
		return false
	}
	return a.Source == b.Source && a.Pool == b.Pool
}

// Release ends the containment; the incident is open or repaired as before.
func (b *Book) Release(ctx context.Context, id, by, note string) (*ledger.IncidentState, error) {
	return b.change(ctx, id, func(s *ledger.IncidentState) (ledger.IncidentChanged, error) {
		if err := ended(s); err != nil {
			return ledger.IncidentChanged{}, err
		}
		if len(s.Contain) == 0 {
			return ledger.IncidentChanged{}, fmt.Errorf("incident %s holds nothing", id)
		}
		state := s.State
		if state == Contained {
			state = Open
		}
		return ledger.IncidentChanged{State: state, By: by, Note: note}, nil
	})
}

// Repaired notes that the policy no longer lets it happen. Containments stay.
func (b *Book) Repaired(ctx context.Context, id, by, note string) (*ledger.IncidentState, error) {
	return b.change(ctx, id, func(s *ledger.IncidentState) (ledger.IncidentChanged, error) {
		if err := ended(s); err != nil {
			return ledger.IncidentChanged{}, err
		}
		return ledger.IncidentChanged{State: Repaired, Contain: s.Contain, By: by, Note: note}, nil
	})
}

// Close ends the incident. A containment in force must be released first: what it
// holds needs a decision.
func (b *Book) Close(ctx context.Context, id, outcome, by, note string) (*ledger.IncidentState, error) {
	return b.change(ctx, id, func(s *ledger.IncidentState) (ledger.IncidentChanged, error) {
		if err := ended(s); err != nil {
			return ledger.IncidentChanged{}, err
		}
		if len(s.Contain) > 0 {
			return ledger.IncidentChanged{}, fmt.Errorf("incident %s still holds mail: release it first", id)
		}
		if outcome == "" {
			outcome = Closed
		}
		if outcome != Closed && outcome != FalseAlarm {
			return ledger.IncidentChanged{}, fmt.Errorf("incident %s: outcome %q is not %s or %s", id, outcome, Closed, FalseAlarm)
		}
		return ledger.IncidentChanged{State: outcome, By: by, Note: note}, nil
	})
}

// Get gives one incident.
func (b *Book) Get(id string) (*ledger.IncidentState, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.all[id]; s != nil {
		return snapshot(s), nil
	}
	return nil, fmt.Errorf("incident %q: %w", id, ErrUnknown)
}

// List gives the incidents, oldest first; with all the closed ones too.
func (b *Book) List(all bool) []*ledger.IncidentState {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*ledger.IncidentState
	for _, s := range b.all {
		if all || s.Open() {
			out = append(out, snapshot(s))
		}
	}
	slices.SortFunc(out, func(x, y *ledger.IncidentState) int { return compareStrings(x.ID, y.ID) })
	return out
}

// Impact counts what took the incident's path, from the first to the last.
func (b *Book) Impact(ctx context.Context, id string) (*ledger.Impact, error) {
	s, err := b.Get(id)
	if err != nil {
		return nil, err
	}
	return b.o.Records.Impact(ctx, s.Opening.Path, time.Time{}, time.Time{})
}
