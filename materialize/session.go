package materialize

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// session is one membership of a source's consumer group, with the buffers of its sinks. It
// ends when they cannot be completed, and leaves nothing but what the stores hold.
type session struct {
	*pipeline
	first bool // stores must be there within StartTimeout

	input Input
	views []*viewSink
	rows  *logSink

	// work ends the calls to stores: HandoverTimeout after the stream was asked to end.
	work   context.Context
	cancel context.CancelCauseFunc

	mu      sync.Mutex // guards what follows, which the Owner's methods change
	owned   map[int32]bool
	everHad bool
	topicID string
	failure error
	last    time.Time       // of the last checkpoint
	applied map[int32]int64 // what the group's offsets were committed to

	waiting atomic.Bool // partitions are to be taken away
}

func newSession(p *pipeline, first bool) *session {
	s := &session{pipeline: p, first: first, owned: map[int32]bool{}, applied: map[int32]int64{}, last: time.Now()}
	for i := range p.views {
		s.views = append(s.views, newViewSink(s, &p.views[i]))
	}
	s.rows = newLogSink(s)
	return s
}

var (
	_ Owner = (*session)(nil)

	errHandover = errors.New("it did not end in time")
)

// assigned reports whether the session ever had partitions.
func (s *session) assigned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.everHad
}

func (s *session) run(ctx context.Context) error {
	s.work, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	defer s.cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		late := time.NewTimer(s.cfg.HandoverTimeout)
		defer late.Stop()
		select {
		case <-late.C:
			s.cancel(errHandover)
		case <-s.work.Done():
		}
	})
	defer stop()

	s.stats.setState(StateStarting, nil)
	if !s.first {
		// A topic that was deleted is no reason to try for ever.
		if err := s.retryIn(ctx, "Kafka", func(ctx context.Context) error { return s.cfg.Inputs.Check(ctx, s.src) }); err != nil {
			return err
		}
	}
	if err := s.bootstrap(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	input, err := s.cfg.Inputs.Open(ctx, s.src, s.group, s)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.input = input
	s.mu.Unlock()
	s.stats.setInput(input)
	defer s.stats.setInput(nil)
	err = s.loop(ctx)
	if err != nil {
		s.fail(err) // so that closing, which takes the partitions away, completes nothing
		s.cancel(err)
	}
	input.Close()
	s.rows.wait()
	return err
}

// loop polls until ctx ends or everything is applied, and completes what was read.
func (s *session) loop(ctx context.Context) error {
	var targets map[int32]int64
	if s.cfg.UntilCaughtUp {
		err := s.retry("Kafka", func(ctx context.Context) (err error) {
			targets, err = s.input.Ends(ctx)
			return err
		})
		if err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		if err := s.turn(ctx); err != nil {
			return err
		}
		if s.cfg.UntilCaughtUp {
			if done, err := s.caughtUp(targets); err != nil {
				return err
			} else if done {
				break
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return s.failure
	}
	return s.complete()
}

// pollWait is how long a poll waits for records when nothing else is due earlier.
const pollWait = 250 * time.Millisecond

// turn polls once, and applies what came.
func (s *session) turn(ctx context.Context) error {
	poll, cancel := context.WithTimeout(ctx, min(pollWait, s.cfg.CheckpointEvery))
	chunk, err := s.input.Poll(poll, s.cfg.PollRows)
	cancel()
	defer s.input.Done()
	if errors.Is(err, ErrUnavailable) {
		err = s.retry("the schema registry", func(ctx context.Context) (err error) {
			chunk, err = s.input.Poll(ctx, s.cfg.PollRows)
			return err
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return s.failure
	}
	if err != nil {
		return err
	}
	if len(chunk.Partitions) > 0 {
		if err := s.apply(chunk); err != nil {
			return err
		}
	}
	if err := s.rows.tick(); err != nil {
		return err
	}
	if time.Since(s.last) >= s.cfg.CheckpointEvery {
		return s.checkpoint()
	}
	return nil
}

// apply brings a chunk to every sink. The dead letters come before the log, so that what is
// below the log's offsets has been dead-lettered, and is not again.
func (s *session) apply(c *Chunk) error {
	bad := c.Bad[:0:0]
	for _, b := range c.Bad {
		if b.Offset >= s.rows.next[b.Partition] {
			bad = append(bad, b)
		}
	}
	refused := make([][]Bad, len(s.views))
	errs := make([]error, len(s.views)+1)
	var wg sync.WaitGroup
	for i, v := range s.views {
		wg.Go(func() { refused[i], errs[i] = v.add(c) })
	}
	wg.Wait()
	bad = slices.Concat(append([][]Bad{bad}, refused...)...)
	if len(bad) > 0 && errors.Join(errs...) == nil {
		errs[len(s.views)] = s.retry("Kafka", func(ctx context.Context) error { return s.input.DeadLetter(ctx, bad) })
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, v := range s.views {
		v.advance(c)
	}
	s.stats.count(c, bad)
	return s.rows.add(c)
}

// checkpoint stores how far the views are, and commits the group's offsets.
func (s *session) checkpoint() error {
	s.last = time.Now()
	for _, v := range s.views {
		if err := v.checkpoint(s.topicID); err != nil {
			return err
		}
	}
	return s.commit()
}

// commit commits the offsets that every sink holds. They decide nothing: an
// error is worth a line in the log.
func (s *session) commit() error {
	next := map[int32]int64{}
	held := s.rows.offsets()
	for p := range s.owned {
		at := held[p]
		for _, v := range s.views {
			at = min(at, v.stored[p])
		}
		if at > s.applied[p] {
			next[p] = at
		}
	}
	if len(next) == 0 || s.input == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.work, 5*time.Second)
	defer cancel()
	if err := s.input.Commit(ctx, next); err != nil {
		s.log.Debug("the group's offsets were not committed; they are for displays alone", "error", err)
		return nil
	}
	maps.Copy(s.applied, next)
	return nil
}

// complete brings what was read to the log, and stores how far everything is.
func (s *session) complete() error {
	if err := s.rows.flush(s.work); err != nil {
		return err
	}
	return s.checkpoint()
}

// caughtUp reports whether everything below targets is applied: by this member,
// or, for partitions that others have, by what the log holds.
func (s *session) caughtUp(targets map[int32]int64) (bool, error) {
	s.mu.Lock()
	var others []int32
	for p, end := range targets {
		if !s.owned[p] {
			others = append(others, p)
		} else if s.rows.next[p] < end {
			s.mu.Unlock()
			return false, nil
		}
	}
	s.mu.Unlock()
	if len(others) == 0 {
		return true, nil
	}
	var held map[int32]int64
	err := s.retry("the offline store", func(ctx context.Context) (err error) {
		held, err = s.cfg.Log.Offsets(ctx, s.src)
		return err
	})
	for _, p := range others {
		if held[p] < targets[p] {
			return false, err
		}
	}
	return true, err
}

// retry calls a store until it is available. It gives up when the stream ends, and when
// partitions are to be taken away: they must not wait for a store that is not there.
func (s *session) retry(what string, op func(context.Context) error) error {
	return s.retryIn(s.work, what, op)
}

func (s *session) retryIn(ctx context.Context, what string, op func(context.Context) error) error {
	failing := false
	err := s.cfg.Retry.do(ctx, func(err error) {
		if !failing {
			s.log.Warn(what+" is unavailable; it is tried again", "error", err)
		}
		failing = true
		s.stats.retries.Add(1)
		s.stats.setState(StateRetrying, err)
	}, func(ctx context.Context) error {
		if failing && s.waiting.Load() {
			return fmt.Errorf("%w: %s is unavailable and partitions are to move", ErrAgain, what)
		}
		return op(ctx)
	})
	if failing && err == nil {
		s.log.Info(what + " is available again")
		s.stats.setState(StateRunning, nil)
	}
	return err
}

func (s *session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = err
	}
}
