package gateway

import (
	"fmt"
	"testing"
	"time"

	"postern.dev/postern/internal/policy"
)

// TestRates: the whole count at once, then one at a time as it is earned again, each
// filter and subject by itself.
func TestRates(t *testing.T) {
	r, now := newRates(), time.Unix(1.7e9, 0)
	rate := policy.Rate{Count: 3, Seconds: 60}
	for i, c := range []struct {
		filter, subject string
		after           time.Duration // the step before
		want            bool
	}{
		{"f", "acme", 0, true}, {"f", "acme", 0, true}, {"f", "acme", 0, true}, {"f", "acme", 0, false},
		{"f", "shop", 0, true}, {"g", "acme", 0, true},
		{"f", "acme", 19 * time.Second, false}, {"f", "acme", time.Second, true}, {"f", "acme", 0, false},
		{"f", "acme", time.Hour, true}, {"f", "acme", 0, true}, {"f", "acme", 0, true}, {"f", "acme", 0, false},
	} {
		now = now.Add(c.after)
		if got := r.take(c.filter, c.subject, rate, now); got != c.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
}

// TestRatesAreBounded: a crowd of subjects takes bounded memory, keeps those that are
// under way, and is forgotten when its time is over.
func TestRatesAreBounded(t *testing.T) {
	r, now := newRates(), time.Unix(1.7e9, 0)
	rate := policy.Rate{Count: 1, Seconds: 60}
	for i := range maxRates {
		if !r.take("f", fmt.Sprint(i), rate, now) {
			t.Fatalf("subject %d is refused", i)
		}
	}
	if r.take("f", "one more", rate, now) {
		t.Error("memory grows beyond its bound")
	}
	if r.take("f", "0", rate, now) {
		t.Error("a limit that is reached was forgotten")
	}
	now = now.Add(time.Minute)
	if !r.take("f", "one more", rate, now) || len(r.buckets) != 1 {
		t.Errorf("%d buckets remain", len(r.buckets))
	}
}
