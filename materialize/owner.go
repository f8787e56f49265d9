package materialize

import (
	"context"
	"errors"
	"fmt"
	"maps"
)

// ErrOffsets is returned by [Stream.Run] when Kafka does not have the records
// that come next: it has lost or deleted them, or the topic is another one.
// Going on would skip or repeat records, so somebody has to decide.
var ErrOffsets = errors.New("the topic does not go on where Forebay stopped")

// Assigned implements [Owner].
func (s *session) Assigned(ctx context.Context, topicID string, partitions []Partition) (map[int32]int64, error) {
	s.waiting.Store(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	starts, err := s.assign(ctx, topicID, partitions)
	if err != nil && ctx.Err() == nil && s.failure == nil {
		s.failure = err
	}
	return starts, err
}

func (s *session) assign(ctx context.Context, topicID string, partitions []Partition) (map[int32]int64, error) {
	if s.failure != nil {
		return nil, s.failure
	}
	var held map[int32]int64
	if err := s.retryAtStart(ctx, "the offline store", func(ctx context.Context) (err error) {
		held, err = s.cfg.Log.Offsets(ctx, s.src)
		return err
	}); err != nil {
		return nil, fmt.Errorf("read the log's offsets: %w", err)
	}
	applied := make([]map[int32]int64, len(s.views))
	for i, v := range s.views {
		var resumes map[string]string
		if err := s.retryAtStart(ctx, "the online store", func(ctx context.Context) (err error) {
			resumes, err = s.cfg.Online.Resumes(ctx, v.ViewGeneration)
			return err
		}); err != nil {
			return nil, fmt.Errorf("read the resume points of %s: %w", v, err)
		}
		if was := resumes[resumeTopicID(s.src.Kafka.Topic)]; was != "" && topicID != "" && was != topicID {
			return nil, fmt.Errorf("%w: topic %s was deleted and created again (its ID was %s and is %s), so the offsets that the offline log and view %s hold are not of this topic's records; "+
				"give its events a source of their own, or a topic of another name", ErrOffsets, s.src.Kafka.Topic, was, topicID, v)
		}
		var err error
		if applied[i], err = streamResumes(s.src.Kafka.Topic, resumes); err != nil {
			return nil, fmt.Errorf("%s: %w", v, err)
		}
	}

	starts := map[int32]int64{}
	for _, p := range partitions {
		from, err := s.startOf(p, "the offline log", held)
		if err != nil {
			return nil, err
		}
		start := max(from, p.Start)
		s.rows.assign(p.ID, from)
		for i, v := range s.views {
			if at, ok := applied[i][p.ID]; ok && at < p.Start && held[p.ID] >= p.Start {
				// Kafka has deleted what the view lacks, the log has it.
				v.lacksHistory = true
				return nil, fmt.Errorf("%w: %s lacks records that only the offline log has", ErrAgain, v)
			}
			at, err := s.startOf(p, "view "+v.String(), applied[i])
			if err != nil {
				return nil, err
			}
			_, known := applied[i][p.ID]
			v.assign(p.ID, at, known)
			start = min(start, max(at, p.Start))
		}
		starts[p.ID] = start
		s.owned[p.ID] = true
		s.everHad = true
		s.stats.assign(p, start)
		s.log.Info("partition assigned", "partition", p.ID, "from", start, "end", p.End)
	}
	s.topicID = topicID
	s.stats.setState(StateRunning, nil)
	return starts, nil
}

// startOf is where a sink goes on in a partition: where it says, or at the first record.
func (s *session) startOf(p Partition, sink string, positions map[int32]int64) (int64, error) {
	at, ok := positions[p.ID]
	switch {
	case !ok:
		return p.Start, nil
	case at > p.End:
		return 0, fmt.Errorf("%w: %s/%d ends at offset %d, but %s holds everything up to offset %d: the topic was created again, or its brokers lost data; "+
			"restore the topic, or give its events a source of their own or a topic of another name", ErrOffsets, s.src.Kafka.Topic, p.ID, p.End, sink, at)
	case at < p.Start && !s.cfg.AcceptGaps:
		return 0, fmt.Errorf("%w: %s/%d begins at offset %d, but %s needs it from offset %d on: %d offsets were deleted by retention before they were read; "+
			"bring them back as files with ingest if they matter, then accept the gap to go on", ErrOffsets, s.src.Kafka.Topic, p.ID, p.Start, sink, at, p.Start-at)
	case at < p.Start:
		s.log.Warn("a gap is accepted: records were deleted by retention before they were read", "partition", p.ID, "sink", sink, "from", at, "to", p.Start)
		s.stats.skipped.Add(p.Start - at)
	}
	return at, nil
}

// Revoked implements [Owner].
func (s *session) Revoked(_ context.Context, partitions []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil && len(s.owned) > 0 {
		ctx, cancel := context.WithTimeoutCause(s.work, s.cfg.HandoverTimeout, errHandover)
		err := s.rows.flush(ctx)
		cancel()
		if err == nil {
			err = s.checkpoint()
		}
		if err != nil {
			// The partitions go all the same: the next owner starts from what the stores hold.
			s.failure = fmt.Errorf("%w: partitions were taken away before they were completed: %w", ErrAgain, err)
		}
	}
	s.waiting.Store(false)
	s.forget(partitions)
}

// Lost implements [Owner]. The buffers hold rows of other partitions beside those
// lost, so all of them go.
func (s *session) Lost(partitions []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting.Store(false)
	for _, p := range partitions {
		if s.owned[p] && s.failure == nil {
			s.failure = fmt.Errorf("%w: the group gave partitions to others", ErrAgain)
		}
	}
	s.forget(partitions)
}

// Waiting implements [Owner].
func (s *session) Waiting() { s.waiting.Store(true) }

func (s *session) forget(partitions []int32) {
	for _, p := range partitions {
		if !s.owned[p] {
			continue
		}
		delete(s.owned, p)
		delete(s.applied, p)
		s.rows.forget(p)
		for _, v := range s.views {
			v.forget(p)
		}
		s.stats.forget(p)
		s.log.Info("partition given away", "partition", p)
	}
}

// retryAtStart is retry within ctx, bounded by StartTimeout until the stream has once begun.
func (s *session) retryAtStart(ctx context.Context, what string, op func(context.Context) error) error {
	if s.first {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.cfg.StartTimeout, fmt.Errorf("not there within %s of the start", s.cfg.StartTimeout))
		defer cancel()
	}
	return s.retryIn(ctx, what, op)
}

// bootstrap fills the views that lack history which the offline store has, and makes them live.
func (s *session) bootstrap(ctx context.Context) error {
	if len(s.views) == 0 {
		return nil
	}
	var held map[int32]int64
	if err := s.retryAtStart(ctx, "the offline store", func(ctx context.Context) (err error) {
		held, err = s.cfg.Log.Offsets(ctx, s.src)
		return err
	}); err != nil {
		return fmt.Errorf("read the log's offsets: %w", err)
	}
	for _, v := range s.views {
		var resumes map[string]string
		if err := s.retryAtStart(ctx, "the online store", func(ctx context.Context) (err error) {
			resumes, err = s.cfg.Online.Resumes(ctx, v.ViewGeneration)
			return err
		}); err != nil {
			return fmt.Errorf("read the resume points of %s: %w", v, err)
		}
		applied, err := streamResumes(s.src.Kafka.Topic, resumes)
		if err != nil {
			return fmt.Errorf("%s: %w", v, err)
		}
		_, filled := resumes[resumeOffline]
		for p := range maps.Keys(held) {
			_, ok := applied[p]
			filled = filled && ok
		}
		if filled && !v.lacksHistory {
			continue
		}
		s.log.Info("filling a view from the offline store", "view", v.String())
		batch := Batch{Tables: s.cfg.Tables, Online: s.cfg.Online, Log: s.cfg.Log, Retry: s.cfg.Retry}
		if s.first {
			batch.Retry.Limit = s.cfg.StartTimeout
		}
		result, err := batch.Run(ctx, BatchRequest{View: v.ViewGeneration})
		if errors.Is(err, ErrUnavailable) && !s.first {
			return fmt.Errorf("%w: %w", ErrAgain, err)
		}
		if err != nil {
			return err
		}
		v.lacksHistory = false
		s.log.Info("filled a view from the offline store", "view", v.String(), "rows", result.Rows, "applied", result.Applied, "live", result.WentLive)
	}
	return nil
}
