package gateway

import (
	"sync"
	"time"

	"postern.dev/postern/internal/policy"
)

// maxRates bounds the memory of the limits; the fullest buckets go last.
const maxRates = 100_000

// rates counts recipients against the limits that filters impose: one leaky bucket
// for each (filter, subject), where the subject is a customer or a peer address.
type rates struct {
	mu      sync.Mutex
	buckets map[rateKey]time.Time // when the bucket will be empty
}

type rateKey struct{ filter, subject string }

func newRates() *rates { return &rates{buckets: map[rateKey]time.Time{}} }

// take counts one recipient at now. It reports false, and counts nothing, where the
// limit is reached (the generic cell rate algorithm with a burst of the whole count).
func (r *rates) take(filter, subject string, rate policy.Rate, now time.Time) bool {
	each := time.Duration(rate.Seconds) * time.Second / time.Duration(rate.Count)
	window := time.Duration(rate.Seconds) * time.Second
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.buckets) >= maxRates {
		r.forget(now)
	}
	k := rateKey{filter, subject}
	empty, known := r.buckets[k]
	if !known && len(r.buckets) >= maxRates {
		return false // all of them are in use: bounded memory goes before a new subject
	}
	if empty.Before(now) {
		empty = now
	}
	if empty.Add(each).Sub(now) > window {
		return false
	}
	r.buckets[k] = empty.Add(each)
	return true
}

// forget drops the buckets that are empty by now.
func (r *rates) forget(now time.Time) {
	for k, empty := range r.buckets {
		if !empty.After(now) {
			delete(r.buckets, k)
		}
	}
}
