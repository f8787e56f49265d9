package httpapi

import (
	"context"
	"sync"
	"time"
)

// deadlines makes the contexts that bound requests. Those that begin within a small part of the timeout on connections
// that the front serves itself, whose contexts are one, share theirs: to make one and to end it takes a twentieth of the time
// of a small lookup.
type deadlines struct {
	timeout time.Duration

	mu     sync.Mutex
	front  context.Context //nolint:containedctx // of the front's requests; nil before there is one
	shared context.Context //nolint:containedctx // the newest
	since  time.Time
}

// serve says that the context of the front's requests is ctx.
func (d *deadlines) serve(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.front, d.shared = ctx, nil
}

// begin bounds a request by the timeout, or by at most a 128th more. The caller calls end.
func (d *deadlines) begin(parent context.Context) (ctx context.Context, end context.CancelFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if parent != d.front {
		return context.WithTimeout(parent, d.timeout)
	}
	now, share := time.Now(), d.timeout/128
	if d.shared == nil || now.Sub(d.since) > share {
		shared, release := context.WithDeadline(parent, now.Add(d.timeout+share))
		context.AfterFunc(shared, release) // its last request does not end it, but its deadline
		d.shared, d.since = shared, now
	}
	return d.shared, func() {}
}
