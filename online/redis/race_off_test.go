//go:build !race

package redis

const raceDetector = false
