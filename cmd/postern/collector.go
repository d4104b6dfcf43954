package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// collectAt lets the heap grow to four times of what lives before it is collected: a
	// node keeps little in memory, and would otherwise collect many times a second.
	collectAt = 300
	// headroom is how much more than what lives a large heap may grow to: a node with
	// millions of recipients waiting must not take four times of what they need.
	headroom = 384 << 20
)

// collector sets the garbage collector for a node, once a second until ctx ends; GOGC
// in the environment goes before it. The function that it gives waits for the end.
func collector(ctx context.Context) (ended func()) {
	done := make(chan struct{})
	if os.Getenv("GOGC") != "" {
		close(done)
		return func() {}
	}
	debug.SetGCPercent(collectAt)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		set := collectAt
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			metrics.Read(live)
			if want := percent(live[0].Value.Uint64()); want != set {
				debug.SetGCPercent(want)
				set = want
			}
		}
	}()
	return func() { cancel(); <-done }
}

// percent is what a heap with so many live octets may grow by, in steps of 10 lest each
// collection set another.
func percent(live uint64) int {
	return int(min(collectAt, max(20, headroom*100/max(live, 1)/10*10)))
}
