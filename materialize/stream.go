package materialize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/forebay/forebay/registry"
)

// StreamConfig says what a [Stream] does, and with what.
type StreamConfig struct {
	// Sources are consumed, and their rows appended to their logs. Each has Kafka.
	Sources []*registry.Source
	// Views are kept up to date online; their sources are among Sources, by name.
	Views []registry.ViewGeneration

	Inputs Inputs
	// Repartitioner copies the topics of views whose entity is not what their source's topic is keyed
	// by. It may be nil where there are none.
	Repartitioner Repartitioner
	Online        Online
	Log           Log
	Tables        Tables // for the history of views that have none yet

	// Group begins the name of each source's consumer group: Group-source. By
	// convention "forebay-" and the project.
	Group string
	// UntilCaughtUp ends Run when everything is applied that Kafka had at its start.
	UntilCaughtUp bool
	// AcceptGaps goes on where Kafka has deleted records that were not read yet. Default: an error.
	AcceptGaps bool

	// PollRows is the greatest number of records dealt with at once: where many wait, an entity that comes
	// several times among them is written once. Default 100,000.
	PollRows int
	// CheckpointEvery is the time between stores of resume points, which bounds what
	// a restart applies again. Default 1 s.
	CheckpointEvery time.Duration
	// LogRows, LogEvery: rows wait for the log until there are so many, or one waits so
	// long. Defaults 200,000 and 10 s.
	LogRows  int
	LogEvery time.Duration
	// Memory bounds the decoded rows that wait for the log, in bytes, over all
	// sources; when it is used up nothing is fetched. Default 256 MiB.
	Memory int64
	// States bounds what is kept in memory of the states of windows, in bytes, over all
	// views; the others are read again when an event of theirs comes. Default 256 MiB.
	States int64

	// FillWait is how long a start waits for views that are filled from the offline store; where that takes
	// longer the other views are streamed meanwhile. Default 2 s; UntilCaughtUp waits for all.
	FillWait time.Duration
	// StartTimeout bounds how long stores may be unavailable at the start. Default 30 s.
	StartTimeout time.Duration
	// HandoverTimeout bounds the completion of what was read when partitions are
	// taken away, or at the end; it must be below the group's rebalance timeout. Default 20 s.
	HandoverTimeout time.Duration
	// Retry is used when a store is unavailable; its Limit is not.
	Retry Backoff

	// Served, if set, hears the lengths of time that SourceStats.Served counts, one by one, in microseconds.
	// Sources call it at the same time.
	Served func(micros int64)

	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: no metrics
}

func (c *StreamConfig) setDefaults() {
	set(&c.PollRows, 100_000)
	set(&c.CheckpointEvery, time.Second)
	set(&c.LogRows, 200_000)
	set(&c.LogEvery, 10*time.Second)
	set(&c.Memory, 256<<20)
	set(&c.States, 256<<20)
	set(&c.FillWait, 2*time.Second)
	set(&c.StartTimeout, 30*time.Second)
	set(&c.HandoverTimeout, 20*time.Second)
	c.Retry.Limit = 0
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

func set[T int | int64 | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

// Stream consumes the topics of sources: each row goes to the online store at
// once, for every view of its source, and to the source's log in commits. It
// is run once.
//
// Each source is a pipeline of its own, in a consumer group of its own, with one sink for the log and
// one for each view generation; a windowed view whose entity is not what the topic is keyed by is a pipeline of
// its own, that reads an internal topic of copies. A sink knows the next offset of each partition
// that it does not hold, from what it has stored beside its data. A partition
// starts at the least of them, and each sink skips what it holds: the log exactly, by offset; a view by
// the version of its rows, or the offset in the record of each entity. Nothing else decides what is read, so that a
// process may end anywhere.
type Stream struct {
	cfg       StreamConfig
	pipelines []*pipeline
}

// NewStream checks the configuration and compiles the views.
func NewStream(cfg StreamConfig) (*Stream, error) {
	cfg.setDefaults()
	s := &Stream{cfg: cfg}
	for _, src := range cfg.Sources {
		if src.Kafka == nil {
			return nil, fmt.Errorf("source %s has no kafka topic to stream from", src.Name)
		}
		p := &pipeline{cfg: &s.cfg, src: src, topic: src.Kafka.Topic, group: cfg.Group + "-" + src.Name, memory: cfg.Memory / int64(len(cfg.Sources)),
			log: cfg.Logger.With("source", src.Name, "topic", src.Kafka.Topic)}
		p.stats.init(src, cfg.Served)
		s.pipelines = append(s.pipelines, p)
	}
	windowed := 0
	for _, v := range cfg.Views {
		p := s.pipeline(v.View.Source)
		if p == nil {
			return nil, fmt.Errorf("view %s: its source %s is not streamed", v, v.View.Source)
		}
		if v.View.Windowed() {
			windowed++
		}
		if !v.View.Windowed() || keyed(v) {
			if err := p.addView(v); err != nil {
				return nil, err
			}
			continue
		}
		if cfg.Repartitioner == nil {
			return nil, fmt.Errorf("view %s: topic %s is not keyed by its entity, and there is nothing that copies it", v, p.topic)
		}
		q, err := p.copied(v)
		if err != nil {
			return nil, err
		}
		s.pipelines = append(s.pipelines, q)
	}
	for _, p := range s.pipelines {
		p.states = s.cfg.States / int64(max(1, windowed))
	}
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(&collector{s}); err != nil {
			return nil, fmt.Errorf("register the stream's metrics: %w", err)
		}
	}
	return s, nil
}

func (s *Stream) pipeline(source string) *pipeline {
	for _, p := range s.pipelines {
		if p.src.Name == source {
			return p
		}
	}
	return nil
}

// Run streams until ctx ends, and then completes and commits what it has read.
// Before it starts, views without history get it from the offline store. It returns nil
// if everything that was read is in both stores; stores that are unavailable are waited for, but
// not at the start (StartTimeout).
func (s *Stream) Run(ctx context.Context) error {
	if s.cfg.Registerer != nil {
		defer s.cfg.Registerer.Unregister(&collector{s})
	}
	for _, p := range s.pipelines {
		if p.copies != nil {
			continue
		}
		if err := s.cfg.Inputs.Check(ctx, p.src); err != nil {
			return fmt.Errorf("stream %s: %w", p.src.Name, err)
		}
	}
	// One source that cannot go on stops the others in order: a supervisor
	// that starts the process again would not see it otherwise.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(s.pipelines))
	var wg sync.WaitGroup
	for i, p := range s.pipelines {
		wg.Go(func() {
			if err := p.run(ctx); err != nil {
				errs[i] = fmt.Errorf("stream %s: %w", p.src.Name, err)
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Health is nil while every source is streamed, and says what is wrong otherwise.
func (s *Stream) Health() error {
	var errs []error
	for _, src := range s.cfg.Sources {
		if err := s.health(src); err != nil {
			errs = append(errs, fmt.Errorf("stream %s: %w", src.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Stream) health(src *registry.Source) error {
	var errs []error
	for _, p := range s.pipelines {
		if p.src == src {
			errs = append(errs, p.stats.health())
		}
	}
	return errors.Join(errs...)
}

// Stats describes every source, in the order of StreamConfig.Sources.
func (s *Stream) Stats() []SourceStats {
	stats := make([]SourceStats, 0, len(s.cfg.Sources))
	for _, p := range s.pipelines {
		if p.copies == nil {
			stats = append(stats, s.statsOf(p))
		}
	}
	return stats
}

// statsOf describes a source, with the views that are fed through internal topics.
func (s *Stream) statsOf(p *pipeline) SourceStats {
	stats := p.stats.snapshot()
	for _, q := range s.pipelines {
		if q.copies != nil && q.src == p.src {
			stats.merge(q.stats.snapshot())
		}
	}
	return stats
}
