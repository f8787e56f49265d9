package bench

import (
	"syscall"
	"time"
)

// preciseSleep sleeps in the kernel, on the thread that calls it: it is late by
// some 50 microseconds.
func preciseSleep(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // a signal ends it early: the request is sent early by as much, and timed from when it was due
}
