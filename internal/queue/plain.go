package queue

import (
	"slices"
	"strings"
	"time"

	"postern.dev/postern/internal/shaping"
)

// Plain is the Shaper of a configuration without rules: every set of mail exchangers is
// a site, nothing is limited beyond Routing.Limits, and replies mean what they say.
type Plain struct{}

// Resolve implements Shaper.
func (Plain) Resolve(domain string, mx []string) shaping.Destination {
	return shaping.Destination{Domain: domain, Site: SiteName(domain, mx)}
}

// Limits implements Shaper.
func (Plain) Limits(shaping.Traffic, time.Time) shaping.Limits { return shaping.Limits{} }

// Blocked implements Shaper.
func (Plain) Blocked(shaping.Traffic, time.Time) (shaping.Block, bool) {
	return shaping.Block{}, false
}

// Enter implements Shaper.
func (Plain) Enter(shaping.Traffic, time.Time) (shaping.Pass, shaping.Block, bool) {
	return shaping.Pass{}, shaping.Block{}, false
}

// Observe implements Shaper.
func (Plain) Observe(shaping.Traffic, shaping.Reply, time.Time) shaping.Judgement {
	return shaping.Judgement{}
}

// ClockSet implements Shaper.
func (Plain) ClockSet(time.Duration) {}

// SiteName names a set of mail exchangers, in whatever order they come: what tells them
// apart in brackets, then what they share. A domain without any is its own.
func SiteName(domain string, mx []string) string {
	names := make([]string, 0, len(mx))
	for _, n := range mx {
		names = append(names, strings.ToLower(strings.TrimSuffix(n, ".")))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch len(names) {
	case 0:
		return domain
	case 1:
		return names[0]
	}
	shared := names[0]
	for _, n := range names[1:] {
		for !strings.HasSuffix(n, shared) {
			shared = shared[1:]
		}
	}
	// Whole labels only, and something of each name has to be left.
	dot := strings.IndexByte(shared, '.')
	if dot < 0 {
		return "(" + strings.Join(names, "|") + ")"
	}
	shared = shared[dot:]
	for i := range names {
		names[i] = strings.TrimSuffix(names[i], shared)
	}
	return "(" + strings.Join(names, "|") + ")" + shared
}
