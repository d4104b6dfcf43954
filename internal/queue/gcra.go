package queue

import (
	"slices"
	"time"

	"postern.dev/postern/internal/shaping"
)

// meter keeps rates: the generic cell rate algorithm (ITU-T I.371). Of each rate it
// remembers when the next one is due, if they came evenly.
type meter struct {
	rates []shaping.Rate
	due   []int64 // Unix nanoseconds
}

// set says which rates are in force. What is known of a rate that stays is kept.
func (m *meter) set(rates []shaping.Rate) {
	if slices.Equal(m.rates, rates) {
		return
	}
	due := make([]int64, len(rates))
	for i := range rates {
		if k := slices.IndexFunc(m.rates, func(r shaping.Rate) bool { return r.Count == rates[i].Count && r.Per == rates[i].Per }); k >= 0 {
			due[i] = m.due[k]
		}
	}
	m.rates, m.due = slices.Clone(rates), due
}

// interval is the time from one to the next.
func interval(r shaping.Rate) int64 {
	if r.Count <= 0 {
		return int64(r.Per) // nothing may go: ask again then
	}
	return max(1, int64(r.Per)/int64(r.Count))
}

// wait tells how long it is until one more is within every rate.
func (m *meter) wait(now time.Time) time.Duration {
	var most int64
	for i, r := range m.rates {
		if r.Count <= 0 {
			most = max(most, int64(time.Minute))
			continue
		}
		tolerance := int64(max(r.Burst, 1)-1) * interval(r)
		most = max(most, m.due[i]-tolerance-now.UnixNano())
	}
	return time.Duration(most)
}

// take counts n. They may be more than the rates allow: what follows waits for longer.
func (m *meter) take(n int, now time.Time) {
	for i, r := range m.rates {
		m.due[i] = max(m.due[i], now.UnixNano()) + int64(n)*interval(r)
	}
}

// untake takes back what was counted for n that did not go.
func (m *meter) untake(n int) {
	for i, r := range m.rates {
		m.due[i] -= int64(n) * interval(r)
	}
}

// busy reports whether the past still counts.
func (m *meter) busy(now time.Time) bool {
	for _, d := range m.due {
		if d > now.UnixNano() {
			return true
		}
	}
	return false
}
