package materialize

import (
	"context"
	"fmt"
	"sync"
)

// writers write batches to the online store, a few at once; a T is what a batch is collected in.
type writers[T any] struct {
	run         *batchRun
	ctx         context.Context
	cancel      context.CancelCauseFunc
	full, empty chan T
	wg          sync.WaitGroup

	mu  sync.Mutex // guards run.result's counts of what is written, and err
	err error
}

// newWriters starts writers. write writes a batch and makes it empty.
func newWriters[T any](ctx context.Context, cancel context.CancelCauseFunc, run *batchRun, batch func() T, write func(context.Context, T) (applied, stale int, err error)) *writers[T] {
	n := run.Writes
	if n <= 0 {
		n = defaultBatchWrites
	}
	w := &writers[T]{run: run, ctx: ctx, cancel: cancel, full: make(chan T), empty: make(chan T, n+1)}
	for range n + 1 { // one more is being filled
		w.empty <- batch()
	}
	for range n {
		w.wg.Go(func() { w.work(write) })
	}
	return w
}

func (w *writers[T]) work(write func(context.Context, T) (applied, stale int, err error)) {
	for batch := range w.full {
		applied, stale, err := write(w.ctx, batch)
		w.mu.Lock()
		w.run.result.Applied += int64(applied)
		w.run.result.Stale += int64(stale)
		if err != nil && w.err == nil {
			w.err = fmt.Errorf("write to the online store: %w", err)
			w.cancel(w.err)
		}
		w.mu.Unlock()
		w.empty <- batch
	}
}

// next is an empty batch. Whoever takes it gives it to send before it takes another one.
func (w *writers[T]) next() T { return <-w.empty }

// send has a batch written.
func (w *writers[T]) send(batch T) error {
	select {
	case w.full <- batch:
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// finish waits for the writes and returns the first error of one.
func (w *writers[T]) finish() error {
	close(w.full)
	w.wg.Wait()
	return w.err
}
