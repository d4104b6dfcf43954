package queue

import (
	"testing"
	"time"

	"postern.dev/postern/internal/shaping"
)

// TestMeter: so many pass at once, and one more each time the interval is over.
func TestMeter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name  string
		rates []shaping.Rate
		burst int
		each  time.Duration
	}{
		{"even", []shaping.Rate{{Count: 6, Per: time.Minute}}, 1, 10 * time.Second},
		{"burst", []shaping.Rate{{Count: 6, Per: time.Minute, Burst: 4}}, 4, 10 * time.Second},
		{"two, the second binds", []shaping.Rate{{Count: 60, Per: time.Minute, Burst: 60}, {Count: 30, Per: 10 * time.Minute, Burst: 20}}, 20, 20 * time.Second},
		{"fast", []shaping.Rate{{Count: 10_000, Per: time.Second, Burst: 3}}, 3, 100 * time.Microsecond},
	} {
		var m meter
		m.set(c.rates)
		at := now
		for n := range c.burst + 5 {
			if n >= c.burst {
				if w := m.wait(at); w != c.each {
					t.Fatalf("%s: the wait for the next after %d is %s, want %s", c.name, n, w, c.each)
				}
				at = at.Add(c.each)
			}
			if w := m.wait(at); w > 0 {
				t.Fatalf("%s: number %d has to wait for %s", c.name, n+1, w)
			}
			m.set(append([]shaping.Rate(nil), c.rates...)) // an equal answer changes nothing
			m.take(1, at)
		}
	}
	var m meter
	m.set([]shaping.Rate{{Count: 0, Per: time.Hour}})
	if m.wait(now) <= 0 {
		t.Error("a rate of nothing lets something pass")
	}
}
