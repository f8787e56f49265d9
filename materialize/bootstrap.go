package materialize

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// bootstrap fills the views that lack history which the offline store has. They go live if no other
// generation is, else when the stream has caught up. A view whose filling takes long is left out of the session,
// so that the others are kept up to date meanwhile; the session ends when it is filled.
func (s *session) bootstrap(ctx context.Context) error {
	patience := time.NewTimer(s.cfg.FillWait)
	defer patience.Stop()
	for i := range s.views {
		v := &s.views[i]
		for {
			if v.filling == nil {
				if err := s.countPartitions(ctx, v); err != nil {
					return err
				}
				if ready, err := s.ready(ctx, v); err != nil {
					return err
				} else if ready {
					break
				}
			}
			late := patience.C
			if s.rows == nil || s.cfg.UntilCaughtUp && v.filling.after == nil {
				late = nil // there is nothing to do without it
			}
			select {
			case <-v.filling.done:
			case <-late:
				patience.Reset(0) // for the others too
			case <-ctx.Done():
				return ctx.Err()
			}
			if !v.filling.ended() {
				s.log.Info("a view is being filled, and the others are streamed meanwhile", "view", v.String())
				break
			}
			if err := v.endFilling(s.first); err != nil {
				return err
			}
		}
	}
	return nil
}

// lacksViews reports whether a view was left out of the session.
func (s *session) lacksViews() bool {
	return s.anyFilling(func(*filling) bool { return true })
}

// filled reports whether a view that was left out of the session has been filled, or could not be.
func (s *session) filled() bool { return s.anyFilling((*filling).ended) }

// anyFilling reports whether one of the fillings of views that were left out is such. It looks at nothing else of the
// views: the rest of them is changed under the session's mutex, also by the Owner's methods.
func (s *session) anyFilling(such func(*filling) bool) bool {
	for i := range s.views {
		if f := s.views[i].filling; f != nil && such(f) {
			return true
		}
	}
	return false
}

// countPartitions notes how many partitions the topic has, where that matters.
func (s *session) countPartitions(ctx context.Context, v *compiledView) error {
	if v.plan == nil {
		return nil
	}
	if s.copies != nil && v.dropTopic {
		if err := s.retryAtStart(ctx, "Kafka", func(ctx context.Context) error {
			return s.cfg.Repartitioner.DropRepartitioned(ctx, s.copies.Topic, s.copies.Group)
		}); err != nil {
			return err
		}
		v.dropTopic = false
	}
	for _, topic := range []string{s.topic, s.src.Kafka.Topic} { // an internal one is made as the source's is
		if err := s.retryAtStart(ctx, "Kafka", func(ctx context.Context) (err error) {
			s.partitions, err = s.cfg.Inputs.Partitions(ctx, topic)
			return err
		}); err != nil {
			return err
		}
		if s.partitions > 0 {
			break
		}
	}
	if s.copies != nil {
		s.copies.Partitions = int32(s.partitions) //nolint:gosec // a number of partitions
	}
	return nil
}

// ready reports whether a view can be streamed; else it is being filled.
func (s *session) ready(ctx context.Context, v *compiledView) (bool, error) {
	resumes, why, err := s.lacking(ctx, v)
	if err != nil {
		return false, err
	}
	if why != "" {
		s.log.Info("filling a view from the offline store", "view", v.String(), "reason", why)
		return false, s.startFilling(ctx, v, resumes)
	}
	if v.epoch, err = resumedEpoch(resumes); err != nil {
		return false, fmt.Errorf("%s: %w", v, err)
	}
	if v.plan != nil {
		s.stats.setEpoch(v.ViewGeneration, v.epoch)
	}
	if s.copies != nil {
		return true, s.setBase(v, resumes)
	}
	return true, nil
}

// lacking says why a view has to be filled from the log before it can go on; "" if it need not.
func (s *session) lacking(ctx context.Context, v *compiledView) (resumes map[string]string, why string, err error) {
	var held map[int32]int64
	if err := s.retryAtStart(ctx, "the offline store", func(ctx context.Context) (err error) {
		held, err = s.cfg.Log.Offsets(ctx, s.src)
		return err
	}); err != nil {
		return nil, "", fmt.Errorf("read the log's offsets: %w", err)
	}
	// The server before the resume points, and after them again: what they say is of one server.
	if err := s.retryAtStart(ctx, "the online store", func(ctx context.Context) (err error) {
		for {
			if s.server, err = s.cfg.Online.Server(ctx); err != nil {
				return err
			}
			if resumes, err = s.cfg.Online.Resumes(ctx, v.ViewGeneration); err != nil {
				return err
			}
			if now, err := s.cfg.Online.Server(ctx); err != nil || now == s.server {
				return err
			}
		}
	}); err != nil {
		return nil, "", fmt.Errorf("read the resume points of %s: %w", v, err)
	}
	applied, err := streamResumes(s.topic, resumes)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", v, err)
	}
	epoch, err := resumedEpoch(resumes)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", v, err)
	}
	if v.lacksHistory {
		return resumes, v.why, nil
	}
	if v.plan != nil {
		if why, err := s.lackingWindows(v, epoch, resumes, applied); why != "" || err != nil {
			return resumes, why, err
		}
	} else if _, ok := resumes[resumeOffline]; !ok {
		return resumes, "it has no history yet", nil
	}
	if s.copies != nil {
		return resumes, "", nil
	}
	for p := range held {
		if _, _, ok := applied[p].start(epoch, s.server); !ok {
			return resumes, fmt.Sprintf("the log holds partition %d, and it is not certain what the view holds of it", p), nil
		}
	}
	return resumes, "", nil
}

// lackingWindows is lacking for what only windowed views need.
func (s *session) lackingWindows(v *compiledView, epoch int64, resumes map[string]string, applied map[int32]*partitionResume) (why string, err error) {
	if epoch == 0 {
		return "its windows were never built", nil
	}
	if v.seen > epoch {
		return fmt.Sprintf("it has records of epoch %d, and was built under %d last", v.seen, epoch), nil
	}
	if s.moved(resumes) {
		was := resumes[resumePartitions]
		return fmt.Sprintf("topic %s has %d partitions and had %s: entities have moved", s.topic, s.partitions, was), nil
	}
	if s.copies != nil {
		source, err := streamResumes(s.src.Kafka.Topic, resumes)
		if err != nil {
			return "", fmt.Errorf("%s: %w", v, err)
		}
		for _, r := range source {
			if r.streamed(epoch) {
				return fmt.Sprintf("it was fed by topic %s itself, and is by %s now", s.src.Kafka.Topic, s.topic), nil
			}
		}
	} else if topic := InternalTopic(s.group, v.ViewGeneration); resumes[resumeTopicID(topic)] != "" && resumes[resumeTopicID(topic)] != resumeNone {
		return fmt.Sprintf("it was fed by topic %s, and is by %s now", topic, s.topic), nil
	}
	// What was built is all there if the server is the one that took it, or holds what was noted after it.
	if resumes[resumeServer] == s.server {
		return "", nil
	}
	for _, r := range applied {
		if _, _, ok := r.start(epoch, s.server); ok {
			return "", nil
		}
	}
	return "another server takes the online store's writes now, and may lack some of what was built", nil
}

// moved reports whether entities have moved to other partitions since a view was streamed last.
func (s *session) moved(resumes map[string]string) bool {
	was := resumes[resumePartitions]
	return was != "" && was != resumeNone && s.partitions > 0 && was != strconv.Itoa(s.partitions)
}

// setBase notes at which offsets of the source's topic the states of a view that reads copies were built.
func (s *session) setBase(v *compiledView, resumes map[string]string) error {
	source, err := streamResumes(s.src.Kafka.Topic, resumes)
	if err != nil {
		return fmt.Errorf("%s: %w", v, err)
	}
	s.base = map[int32]int64{}
	for p, r := range source {
		if next, ok := r.built(v.epoch); ok {
			s.base[p] = next
		}
	}
	s.copies.From = s.base
	return nil
}
