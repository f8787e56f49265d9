package materialize

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// goal is what a topic held at an instant: when a session has applied that, its views go live, and
// a stream that is to catch up has done so. A topic of copies is asked when everything is
// copied that the source's held at the instant.
type goal struct {
	source map[int32]int64 // of copies: what the source's topic held
	ends   map[int32]int64 // what the topic that is read held; nil before it is known
	asked  time.Time       // when Kafka was asked last
	stored bool            // that it is reached
}

// set asks Kafka for what is not known yet; it does not wait for copies.
func (g *goal) set(s *session) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		if g.ends != nil {
			return nil
		}
		g.asked = time.Now()
		if s.copies == nil {
			g.ends, err = s.input.Ends(ctx)
			return err
		}
		if g.source == nil {
			if g.source, err = s.cfg.Repartitioner.SourceEnds(ctx, s.copies); err != nil {
				return err
			}
		}
		if copied, err := s.cfg.Repartitioner.Repartitioned(ctx, s.copies, g.source); err != nil || !copied {
			return err
		}
		g.ends, err = s.input.Ends(ctx)
		return err
	}
}

// reachable reports whether it is known and not reached yet.
func (g *goal) reachable() bool { return g.ends != nil && !g.stored }

// settleEvery is how often a running stream asks how far it is from its goal.
const settleEvery = time.Second

// settle sees to what is to happen when the session has caught up: its views go live; true if it was asked to
// end then.
func (s *session) settle() (done bool, err error) {
	if s.cfg.UntilCaughtUp {
		if err := s.retry("Kafka", s.goal.set(s)); err != nil || s.goal.ends == nil {
			return false, err
		}
		return s.caughtUp()
	}
	if s.goal.stored || !s.assigned() || time.Since(s.goal.asked) < settleEvery {
		return false, nil
	}
	// A Kafka that is away is the poll's business.
	if err := s.goal.set(s)(s.work); err != nil && !errors.Is(err, ErrUnavailable) {
		return false, err
	}
	s.goal.asked = time.Now()
	if s.goal.ends == nil {
		return false, nil
	}
	return false, s.goLive()
}

// caughtUp reports whether everything below the goal is applied: by this member,
// or, for partitions that others have, by what the stores hold.
func (s *session) caughtUp() (bool, error) {
	s.mu.Lock()
	var others []int32
	for p, end := range s.goal.ends {
		if !s.owned[p] {
			others = append(others, p)
		} else if s.next(p) < end {
			s.mu.Unlock()
			return false, nil
		}
	}
	s.mu.Unlock()
	if len(others) == 0 {
		return true, nil
	}
	held, err := s.heldByOthers()
	if err != nil {
		return false, err
	}
	for _, p := range others {
		if held[p] < s.goal.ends[p] {
			return false, nil
		}
	}
	return true, nil
}

// heldByOthers are, per partition, the offsets up to which the log and all views are.
func (s *session) heldByOthers() (held map[int32]int64, err error) {
	if s.rows != nil {
		if err = s.retry("the offline store", func(ctx context.Context) (err error) {
			held, err = s.cfg.Log.Offsets(ctx, s.src)
			return err
		}); err != nil {
			return nil, err
		}
	}
	for _, k := range s.sinks {
		applied, err := s.resumed(k.at())
		if err != nil {
			return nil, err
		}
		if held == nil {
			held = applied
			continue
		}
		for p, at := range held {
			held[p] = min(at, applied[p])
		}
	}
	return held, nil
}

// resumed are the offsets of the topic up to which a view is, by its resume points.
func (s *session) resumed(k *progress) (map[int32]int64, error) {
	next := map[int32]int64{}
	err := s.retry("the online store", func(ctx context.Context) error {
		resumes, err := s.cfg.Online.Resumes(ctx, k.ViewGeneration)
		if err != nil {
			return err
		}
		stored, err := streamResumes(s.topic, resumes)
		for p, r := range stored {
			next[p] = r.next
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the resume points of %s: %w", k.ViewGeneration, err)
	}
	return next, nil
}

// goLive makes the views live that have reached the goal, in all partitions, whoever has them.
func (s *session) goLive() error {
	all := true
	for _, k := range s.sinks {
		k := k.at()
		if k.live && s.copies == nil {
			continue
		}
		next, err := s.resumed(k)
		if err != nil {
			return err
		}
		reached := true
		for p, end := range s.goal.ends {
			reached = reached && next[p] >= end
		}
		if all = all && reached; !reached {
			continue
		}
		if err := s.propose(k.compiledView); err != nil {
			return err
		}
		if err := s.noteSource(k); err != nil {
			return err
		}
	}
	if s.goal.stored = all; all && s.copies != nil {
		s.goal = goal{asked: time.Now()} // the next one, for displays
	}
	return nil
}

// propose makes a view live that has caught up. What somebody has chosen stays.
func (s *session) propose(v *compiledView) error {
	if v.live {
		return nil
	}
	var was, is int
	err := s.retry("the online store", func(ctx context.Context) error {
		live, err := s.cfg.Online.Live(ctx)
		if was, is = live[v.View.Name], live[v.View.Name]; err != nil || was == v.Number {
			return err
		}
		if err := s.cfg.Online.SetLive(ctx, v.ViewGeneration); err != nil {
			return err
		}
		live, err = s.cfg.Online.Live(ctx)
		is = live[v.View.Name]
		return err
	})
	if err != nil {
		return fmt.Errorf("make %s live: %w", v, err)
	}
	v.live = true
	if was != is {
		s.log.Info("a view has caught up and is live now", "view", v.String(), "before", was)
	}
	return nil
}

// noteSource stores how far a view that reads copies is in the source's topic, for displays.
func (s *session) noteSource(k *progress) error {
	if s.copies == nil {
		return nil
	}
	positions := map[string]string{}
	for p, next := range s.goal.source {
		positions[resumeName(s.src.Kafka.Topic, p)] = strconv.FormatInt(next, 10)
	}
	if len(positions) == 0 {
		return nil
	}
	err := s.retry("the online store", func(ctx context.Context) error { return s.cfg.Online.SetResumes(ctx, k.ViewGeneration, positions) })
	if err != nil {
		return fmt.Errorf("store the resume points of %s: %w", k.ViewGeneration, err)
	}
	return nil
}
