//go:build race

package main

// raceDetector tells that this test runs under the race detector.
const raceDetector = true
