package materialize

import (
	"context"
	"errors"
	"fmt"
	"time"
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
	if s.rows != nil {
		if err := s.retryAtStart(ctx, "the offline store", func(ctx context.Context) (err error) {
			held, err = s.cfg.Log.Offsets(ctx, s.src)
			return err
		}); err != nil {
			return nil, fmt.Errorf("read the log's offsets: %w", err)
		}
	}
	applied := make([]map[int32]*partitionResume, len(s.sinks))
	for i, k := range s.sinks {
		var err error
		if applied[i], err = s.appliedBy(ctx, k.at(), topicID); err != nil {
			return nil, err
		}
	}
	if len(s.sinks) > 0 { // else what was read may be another server's
		if err := s.sameServer(s.sinks[0].at().compiledView); err != nil {
			return nil, err
		}
	}

	starts := map[int32]int64{}
	for _, p := range partitions {
		if s.partitions > 0 && int(p.ID) >= s.partitions {
			return nil, fmt.Errorf("%w: topic %s has more partitions than before, %d and not %d", ErrAgain, s.topic, p.ID+1, s.partitions)
		}
		start := p.End
		if s.rows != nil {
			at, known := held[p.ID]
			from, err := s.startOf(p, "the offline log", at, known)
			if err != nil {
				return nil, err
			}
			s.rows.assign(p.ID, from)
			start = max(from, p.Start)
		}
		for i, k := range s.sinks {
			at, err := s.assignView(k.at(), p, applied[i][p.ID], held)
			if err != nil {
				return nil, err
			}
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

// appliedBy reads how far a view is in the topic, and checks that it is of the same topic and epoch.
func (s *session) appliedBy(ctx context.Context, k *progress, topicID string) (map[int32]*partitionResume, error) {
	var resumes map[string]string
	if err := s.retryAtStart(ctx, "the online store", func(ctx context.Context) (err error) {
		resumes, err = s.cfg.Online.Resumes(ctx, k.ViewGeneration)
		return err
	}); err != nil {
		return nil, fmt.Errorf("read the resume points of %s: %w", k.ViewGeneration, err)
	}
	epoch, err := resumedEpoch(resumes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.ViewGeneration, err)
	}
	if k.epoch != 0 && epoch != k.epoch {
		return nil, fmt.Errorf("%w: the windows of %s were built anew meanwhile", ErrAgain, k.ViewGeneration)
	}
	was := resumes[resumeTopicID(s.topic)]
	if was != "" && was != resumeNone && topicID != "" && was != topicID {
		if s.copies != nil {
			k.dropCopies("its internal topic was deleted")
			return nil, fmt.Errorf("%w: the internal topic %s was deleted and made again (its ID was %s and is %s)", ErrAgain, s.topic, was, topicID)
		}
		return nil, fmt.Errorf("%w: topic %s was deleted and created again (its ID was %s and is %s), so the offsets that the offline log and view %s hold are not of this topic's records; "+
			"give its events a source of their own, or a topic of another name", ErrOffsets, s.topic, was, topicID, k.ViewGeneration)
	}
	applied, err := streamResumes(s.topic, resumes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.ViewGeneration, err)
	}
	return applied, nil
}

// assignView says where a view goes on in a partition.
func (s *session) assignView(k *progress, p Partition, from *partitionResume, held map[int32]int64) (int64, error) {
	at, slot, known := from.start(k.epoch, s.server)
	switch {
	case s.copies != nil:
		// States skip copies that they have applied, so one may begin too early, but not too late.
		if known && at <= p.End && at >= p.Start {
			break
		}
		if known && at > p.End {
			k.dropCopies("its internal topic has lost records")
			return 0, fmt.Errorf("%w: %s/%d ends at offset %d, but %s holds everything up to offset %d: the internal topic has lost records", ErrAgain, s.topic, p.ID, p.End, k.ViewGeneration, at)
		}
		if p.Start > 0 && time.Since(time.UnixMicro(k.epoch)) > copiesKept {
			k.fill("copies that it lacks are gone from its internal topic")
			return 0, fmt.Errorf("%w: %s lacks copies of records that Kafka has deleted", ErrAgain, k.ViewGeneration)
		}
		at, slot, known = p.Start, 0, false
	case known && at < p.Start && held[p.ID] >= p.Start:
		k.fill("records that it lacks are in the offline log alone")
		return 0, fmt.Errorf("%w: %s lacks records that only the offline log has", ErrAgain, k.ViewGeneration)
	case !known && held[p.ID] > 0:
		// The log got them from another member since this session began, or it is not certain what the store holds.
		k.fill("it is not certain up to where it holds what the log holds")
		return 0, fmt.Errorf("%w: %s does not know partition %d, and the log does", ErrAgain, k.ViewGeneration, p.ID)
	default:
		var err error
		if at, err = s.startOf(p, "view "+k.ViewGeneration.String(), at, known); err != nil {
			return 0, err
		}
	}
	if !known {
		from = nil
	}
	k.assign(p.ID, at, from, slot)
	return at, nil
}

// copiesKept is for how long a view may rely on copies being there: less than internal topics
// keep them.
const copiesKept = 2 * 24 * time.Hour

// startOf is where a sink goes on in a partition: where it says, or at the first record.
func (s *session) startOf(p Partition, sink string, at int64, known bool) (int64, error) {
	switch {
	case !known:
		return p.Start, nil
	case at > p.End:
		return 0, fmt.Errorf("%w: %s/%d ends at offset %d, but %s holds everything up to offset %d: the topic was created again, or its brokers lost data; "+
			"restore the topic, or give its events a source of their own or a topic of another name", ErrOffsets, s.topic, p.ID, p.End, sink, at)
	case at < p.Start && !s.cfg.AcceptGaps:
		return 0, fmt.Errorf("%w: %s/%d begins at offset %d, but %s needs it from offset %d on: %d offsets were deleted by retention before they were read; "+
			"bring them back as files with ingest if they matter, then accept the gap to go on", ErrOffsets, s.topic, p.ID, p.Start, sink, at, p.Start-at)
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
		var err error
		if s.rows != nil {
			err = s.rows.flush(ctx)
		}
		cancel()
		if err == nil {
			err = s.checkpoint()
			s.committed(true)
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
		if s.rows != nil {
			s.rows.forget(p)
		}
		for _, k := range s.sinks {
			k.forget(p)
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
