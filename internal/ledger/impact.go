package ledger

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"postern.dev/postern/internal/smtp"
)

// Impact counts exactly what took a path. Every number comes from the rows
// themselves.
type Impact struct {
	Path       Path      `json:"path"`
	HandedOff  int       `json:"handed_off"` // recipients that a peer took over
	Messages   int       `json:"messages"`   // different messages among them
	Recipients int       `json:"recipients"` // different addresses among them
	Bounced    int       `json:"bounced"`
	Held       int       `json:"held"` // recipients that were kept back at some time
	Guard      int       `json:"guard_tripped"`
	First      time.Time `json:"first,omitzero"` // hand-off
	Last       time.Time `json:"last,omitzero"`
	Domains    []Count   `json:"by_destination"`
	Filters    []Count   `json:"by_filter"`
	Sources    []Count   `json:"by_source"`
	Hours      []Count   `json:"by_hour"` // UTC, "2008-06-01T13"
}

// Count is a number beside what it counts.
type Count struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// recipientOf is one recipient of one message.
type recipientOf struct {
	id smtp.ID
	n  int
}

// tally counts by name.
type tally map[string]int

// byName gives the counts sorted by name, byCount the largest first.
func (t tally) byName() []Count {
	out := make([]Count, 0, len(t))
	for n, c := range t {
		out = append(out, Count{n, c})
	}
	slices.SortFunc(out, func(a, b Count) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (t tally) byCount() []Count {
	out := t.byName()
	slices.SortStableFunc(out, func(a, b Count) int { return cmp.Compare(b.Count, a.Count) })
	return out
}

// Impact counts a path's hand-offs between two times; either may be zero.
func (l *Ledger) Impact(ctx context.Context, p Path, from, to time.Time) (*Impact, error) {
	im := &Impact{Path: p}
	messages, addresses := map[smtp.ID]bool{}, map[string]bool{}
	held := map[recipientOf]bool{}
	domains, filters, sources, hours := tally{}, tally{}, tally{}, tally{}
	err := l.scan(ctx, key(keyPath, p.key()), timeBound(from), timeBound(to), func(_, v []byte) (bool, error) {
		e, err := Decode(v)
		if err != nil {
			return false, err
		}
		switch e := e.(type) {
		case *HandedOff:
			if e.Path != p {
				return true, nil // another path with the same hash
			}
			im.HandedOff++
			messages[e.ID], addresses[RecipientKey(e.Address)] = true, true
			domains[e.Domain]++
			filters[e.Path.Filter]++
			sources[e.Source.String()]++
			hours[e.Time.UTC().Format("2006-01-02T15")]++
			if im.First.IsZero() {
				im.First = e.Time
			}
			im.Last = e.Time
		case *Bounced:
			if e.Path == p {
				im.Bounced++
			}
		case *Held:
			if r := (recipientOf{e.ID, e.Recipient}); e.Path == p && !held[r] {
				held[r] = true
				im.Held++
			}
		case *GuardTripped:
			if e.Path == p {
				im.Guard++
			}
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("count impact: %w", err)
	}
	im.Messages, im.Recipients = len(messages), len(addresses)
	im.Domains, im.Filters, im.Sources, im.Hours = domains.byCount(), filters.byCount(), sources.byCount(), hours.byName()
	return im, nil
}

// IncidentState is an incident as the sum of its events.
type IncidentState struct {
	ID       string
	State    string
	Opening  IncidentChanged
	Contain  []Containment // in force
	Changed  time.Time
	Timeline []IncidentChanged
}

// Open reports whether somebody still has to deal with it.
func (s *IncidentState) Open() bool { return s.State != "closed" && s.State != "false-alarm" }

func (s *IncidentState) add(e *IncidentChanged) {
	if len(s.Timeline) == 0 {
		s.ID, s.Opening = e.Incident, *e
	}
	s.Timeline = append(s.Timeline, *e)
	s.State, s.Contain, s.Changed = e.State, e.Contain, e.Time
}

// Incidents folds the incidents from their events, oldest first; with all the closed
// ones too.
func (l *Ledger) Incidents(ctx context.Context, all bool) ([]IncidentState, error) {
	var out []IncidentState
	err := l.scan(ctx, []byte{keyIncident}, nil, nil, func(_, v []byte) (bool, error) {
		e, err := Decode(v)
		if err != nil {
			return false, err
		}
		c, ok := e.(*IncidentChanged)
		if !ok {
			return true, nil
		}
		if len(out) == 0 || out[len(out)-1].ID != c.Incident {
			out = append(out, IncidentState{})
		}
		out[len(out)-1].add(c)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read incidents: %w", err)
	}
	if !all {
		out = slices.DeleteFunc(out, func(s IncidentState) bool { return !s.Open() })
	}
	return out, nil
}
