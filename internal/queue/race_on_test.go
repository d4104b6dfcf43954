//go:build race

package queue

// underRace: times say nothing under the race detector.
const underRace = true
