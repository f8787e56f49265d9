//go:build race

package httpapi

// raceDetector: pools forget at random under the race detector, on purpose.
const raceDetector = true
