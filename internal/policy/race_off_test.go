//go:build !race

package policy_test

// raceDetector tells that this test runs under the race detector.
const raceDetector = false
