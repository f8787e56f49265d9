package online

import (
	"context"
	"time"
)

// WithDeadline is a store whose lookups (Get) take no longer than limit,
// however long the caller would wait: an ErrUnavailable that is
// context.DeadlineExceeded too. Other calls are as they were.
func WithDeadline(s Store, limit time.Duration) Store { return &deadlined{s, limit} }

type deadlined struct {
	Store
	limit time.Duration
}

func (d *deadlined) Get(ctx context.Context, keys []Key, dst [][]byte) error {
	if at, ok := ctx.Deadline(); ok && time.Until(at) <= d.limit {
		return d.Store.Get(ctx, keys, dst)
	}
	ctx, cancel := context.WithTimeout(ctx, d.limit)
	defer cancel()
	return d.Store.Get(ctx, keys, dst)
}
