package materialize

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// session is one membership of a consumer group, with the buffers of its sinks. It
// ends when they cannot be completed, and leaves nothing but what the stores hold.
type session struct {
	*pipeline
	first bool // stores must be there within StartTimeout

	server     string          // that takes the online store's writes
	partitions int             // that the topic has, where views have windows
	base       map[int32]int64 // of copies: offsets in the source's topic below which the states hold everything

	input Input
	sinks []sink
	rows  *logSink // nil where copies are read: the source's own pipeline logs its rows
	goal  goal

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
	commits *committing     // nil where none is under way

	waiting atomic.Bool // partitions are to be taken away
}

func newSession(p *pipeline, first bool) *session {
	s := &session{pipeline: p, first: first, owned: map[int32]bool{}, applied: map[int32]int64{}, last: time.Now()}
	if p.copies == nil {
		s.rows = newLogSink(s)
	}
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
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	if err := s.bootstrap(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	for i := range s.views {
		if v := &s.views[i]; v.filling != nil {
			continue
		} else if v.plan != nil {
			s.sinks = append(s.sinks, newWindowSink(s, v, s.states))
		} else {
			s.sinks = append(s.sinks, newViewSink(s, v))
		}
	}
	input, err := s.open(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	s.mu.Lock()
	s.input = input
	s.mu.Unlock()
	s.stats.setInput(input)
	defer s.stats.setInput(nil)
	stopCopying := s.copying(ctx)
	err = s.loop(ctx)
	if err != nil {
		s.fail(err) // so that closing, which takes the partitions away, completes nothing
		s.cancel(err)
	}
	stopCopying()
	s.mu.Lock()
	s.committed(true)
	s.mu.Unlock()
	input.Close()
	if s.rows != nil {
		s.rows.wait()
	}
	return err
}

func (s *session) open(ctx context.Context) (Input, error) {
	if s.copies == nil {
		return s.cfg.Inputs.Open(ctx, s.src, s.group, s)
	}
	var input Input
	err := s.retryAtStart(ctx, "Kafka", func(ctx context.Context) (err error) {
		input, err = s.cfg.Repartitioner.OpenRepartitioned(ctx, s.copies, s.group, s)
		return err
	})
	return input, err
}

// loop polls until ctx ends or everything is applied, and completes what was read.
func (s *session) loop(ctx context.Context) error {
	if s.cfg.UntilCaughtUp { // what Kafka has now, and not after the first turns
		if err := s.retry("Kafka", s.goal.set(s)); err != nil {
			return err
		}
	}
	for ctx.Err() == nil && !s.filled() {
		if err := s.turn(ctx); err != nil {
			return err
		}
		if done, err := s.settle(); err != nil {
			return err
		} else if done && !s.lacksViews() {
			break
		}
	}
	if err := s.end(); err != nil {
		return err
	}
	if s.goal.reachable() { // what was just completed may be all there is to do
		if err := s.goLive(); err != nil {
			return err
		}
	}
	if ctx.Err() == nil && s.filled() {
		return errFilled
	}
	return nil
}

// errFilled: a view that the session left out can be streamed now.
var errFilled = errors.New("a view was filled")

// end completes what was read.
func (s *session) end() error {
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
	if s.rows != nil {
		if err := s.rows.tick(); err != nil {
			return err
		}
	}
	if time.Since(s.last) >= s.cfg.CheckpointEvery || slices.ContainsFunc(s.sinks, sink.full) {
		return s.checkpoint()
	}
	return nil
}

// apply brings a chunk to every sink. The dead letters come before the log, so that what is
// below the log's offsets has been dead-lettered, and is not again.
func (s *session) apply(c *Chunk) error {
	var bad []Bad
	for _, b := range c.Bad {
		if s.rows == nil || b.Offset >= s.rows.next[b.Partition] {
			bad = append(bad, b)
		}
	}
	refused := make([][]Bad, len(s.sinks))
	errs := make([]error, len(s.sinks)+1)
	if len(s.sinks) == 1 {
		refused[0], errs[0] = s.sinks[0].add(c)
	} else {
		var wg sync.WaitGroup
		for i, k := range s.sinks {
			wg.Go(func() { refused[i], errs[i] = k.add(c) })
		}
		wg.Wait()
	}
	bad = slices.Concat(append([][]Bad{bad}, refused...)...)
	if len(bad) > 0 && errors.Join(errs...) == nil {
		errs[len(s.sinks)] = s.retry("Kafka", func(ctx context.Context) error { return s.input.DeadLetter(ctx, bad) })
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, k := range s.sinks {
		k.at().advance(c)
	}
	s.stats.count(c, bad)
	if s.rows == nil {
		return nil
	}
	return s.rows.add(c)
}

// checkpoint stores how far the views are, and commits the group's offsets.
func (s *session) checkpoint() error {
	s.last = time.Now()
	for _, k := range s.sinks {
		if err := k.checkpoint(s.topicID); err != nil {
			return err
		}
	}
	s.commit()
	return nil
}

// committing is a commit of the group's offsets that is under way.
type committing struct {
	next map[int32]int64
	done chan struct{}
	err  error
}

// commit commits the offsets that every sink holds. They decide nothing: an error is worth a line in the
// log, and events do not wait for Kafka's answer.
func (s *session) commit() {
	if s.input == nil || !s.committed(false) {
		return
	}
	next := map[int32]int64{}
	var held map[int32]int64
	if s.rows != nil {
		held = s.rows.offsets()
	}
	for p := range s.owned {
		at, ok := held[p]
		for _, k := range s.sinks {
			if stored := k.at().stored[p]; !ok || stored < at {
				at, ok = stored, true
			}
		}
		if at > s.applied[p] {
			next[p] = at
		}
	}
	if len(next) == 0 {
		return
	}
	c := &committing{next: next, done: make(chan struct{})}
	s.commits = c
	input := s.input
	go func() {
		defer close(c.done)
		ctx, cancel := context.WithTimeout(s.work, 5*time.Second)
		defer cancel()
		c.err = input.Commit(ctx, c.next)
	}()
}

// committed takes up what became of the commit under way; false if it still is.
func (s *session) committed(wait bool) bool {
	c := s.commits
	if c == nil {
		return true
	}
	if wait {
		<-c.done
	}
	select {
	case <-c.done:
	default:
		return false
	}
	s.commits = nil
	if c.err != nil {
		s.log.Debug("the group's offsets were not committed; they are for displays alone", "error", c.err)
		return true
	}
	for p, at := range c.next {
		if s.owned[p] {
			s.applied[p] = at
		}
	}
	return true
}

// complete brings what was read to the log, and stores how far everything is.
func (s *session) complete() error {
	if s.rows != nil {
		if err := s.rows.flush(s.work); err != nil {
			return err
		}
	}
	s.committed(true)
	if err := s.checkpoint(); err != nil {
		return err
	}
	s.committed(true)
	return nil
}

// next is the next offset of a partition of this member that a sink lacks. It may be a view: one that
// the online store has lost writes of is behind the log.
func (s *session) next(p int32) int64 {
	next := int64(math.MaxInt64)
	if s.rows != nil {
		next = s.rows.next[p]
	}
	for _, k := range s.sinks {
		next = min(next, k.at().next[p])
	}
	return next
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
