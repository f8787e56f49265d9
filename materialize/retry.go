package materialize

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Backoff says how often what is unavailable is tried again. The zero Backoff has the defaults.
type Backoff struct {
	// Min is the longest wait before the first repetition; each later one may be twice as long. Default 100 ms.
	Min time.Duration
	// Max bounds each wait. Default 10 s.
	Max time.Duration
	// Limit bounds the whole of it; 0 for no bound.
	Limit time.Duration
}

// do calls op until it returns anything but ErrUnavailable, or until ctx or the limit ends, in
// which case the error says for how long it was tried. Waits are random between half and the whole of
// what is due, so that many clients do not come back at once. failed, if set, hears of each failure.
func (b Backoff) do(ctx context.Context, failed func(error), op func(context.Context) error) error {
	wait, limit := b.Min, b.Max
	if wait <= 0 {
		wait = 100 * time.Millisecond
	}
	if limit <= 0 {
		limit = 10 * time.Second
	}
	start := time.Now()
	for {
		err := op(ctx)
		if gave := (*gaveUp)(nil); err == nil || !errors.Is(err, ErrUnavailable) || errors.As(err, &gave) {
			return err
		}
		if failed != nil {
			failed(err)
		}
		pause := wait/2 + rand.N(wait/2+1)
		if b.Limit > 0 && time.Since(start)+pause > b.Limit {
			return &gaveUp{time.Since(start), err}
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		wait = min(2*wait, limit)
	}
}

// gaveUp is the end of a Backoff's Limit; an outer Backoff does not try again.
type gaveUp struct {
	after time.Duration
	err   error
}

func (g *gaveUp) Error() string {
	return fmt.Sprintf("gave up after %s: %v", g.after.Round(time.Millisecond), g.err)
}

func (g *gaveUp) Unwrap() error { return g.err }
