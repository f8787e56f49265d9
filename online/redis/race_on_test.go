//go:build race

package redis

// raceDetector: pools forget at random under the race detector, on purpose.
const raceDetector = true
