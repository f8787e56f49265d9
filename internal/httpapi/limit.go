package httpapi

import (
	"sync/atomic"
	"time"
)

// limiter lets so many requests a second through, and as many at once after a second
// of rest. It keeps one instant: that at which everything let through so far would
// have been let through at the rate (the generic cell rate algorithm, ITU-T I.371). It is
// safe for concurrent use.
type limiter struct {
	start    time.Time
	interval time.Duration // between requests at the rate
	burst    time.Duration // how far ahead of the clock the instant may be
	next     atomic.Int64  // the instant, in nanoseconds since start
}

func newLimiter(perSecond int) *limiter {
	return &limiter{start: time.Now(), interval: time.Second / time.Duration(perSecond), burst: time.Second}
}

// allow lets a request through, or says how long to wait.
func (l *limiter) allow() (wait time.Duration) {
	now := int64(time.Since(l.start))
	for {
		at := l.next.Load()
		next := max(at, now) + int64(l.interval)
		if ahead := next - now; ahead > int64(l.burst) {
			return time.Duration(ahead - int64(l.burst))
		}
		if l.next.CompareAndSwap(at, next) {
			return 0
		}
	}
}
