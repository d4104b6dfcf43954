package main

import "testing"

// TestCollectorPercent: a small heap grows freely, a large one by the headroom.
func TestCollectorPercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 300}, {10 << 20, 300}, {128 << 20, 300}, {192 << 20, 200}, {1 << 30, 30}, {2 << 30, 20}, {20 << 30, 20}} {
		if got := percent(c.live); got != c.want {
			t.Errorf("%d MiB live: %d %%, want %d", c.live>>20, got, c.want)
		}
	}
}
