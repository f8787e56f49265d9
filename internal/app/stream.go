package app

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/registry"
)

// StreamOptions says what to stream.
type StreamOptions struct {
	Views         []string // none are all; the sources they are computed from are read whole
	UntilCaughtUp bool     // end when what the topics held at the start is read
	DryRun        bool     // only check that the topics are there
	// Progress, if set, hears the events read so far, from Kafka and for views that are filled from
	// the log, and how many there are in all (0 while unknown).
	Progress func(done, total int64)

	served func(micros int64) // materialize.StreamConfig.Served
}

// Streamed says what a stream did, source by source.
type Streamed struct {
	DryRun  bool                      `json:"dry_run,omitempty"`
	Sources []materialize.SourceStats `json:"sources"`
}

// Stream reads Kafka into both stores until ctx ends, or until it has caught up.
// It holds embedded stores as their owner. When another revision is applied it
// ends what it does in order, and goes on with that.
func (a *App) Stream(ctx context.Context, o StreamOptions) (*Streamed, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	if !o.DryRun {
		if err := a.Hold(ctx); err != nil {
			return nil, err
		}
	}
	fed, err := a.fedKey(ctx, head)
	if err != nil {
		return nil, err
	}
	s, err := a.newStream(ctx, head, o)
	if err != nil {
		return nil, err
	}
	if o.DryRun {
		return &Streamed{DryRun: true, Sources: s.Stats()}, nil
	}
	defer a.background(ctx, a.tend)()
	done := &Streamed{}
	for {
		stop := every(o.Progress, s)
		run, cancel := context.WithCancel(ctx)
		applied := make(chan *registry.Revision, 1)
		go func() {
			defer cancel()
			if o.UntilCaughtUp { // of one revision
				<-run.Done()
				applied <- nil
				return
			}
			applied <- a.nextRevision(run, head.ID, fed)
		}()
		err = a.runStream(run, s)
		cancel()
		stop()
		done.add(s.Stats())
		next := <-applied
		if err != nil || next == nil {
			return done, a.kafkaError(err)
		}
		head = next
		if fed, err = a.fedKey(ctx, head); err != nil {
			return done, err
		}
		a.log.Info("streaming", "revision", next.Number, "id", next.ID, "generations", fed)
		if s, err = a.newStream(ctx, head, o); err != nil {
			return done, err
		}
	}
}

// add adds the counts of a stream to those of the ones before it.
func (d *Streamed) add(stats []materialize.SourceStats) {
	for _, s := range stats {
		i := slices.IndexFunc(d.Sources, func(had materialize.SourceStats) bool { return had.Source == s.Source })
		if i < 0 {
			d.Sources = append(d.Sources, s)
			continue
		}
		had := d.Sources[i]
		s.Rows += had.Rows
		s.Logged += had.Logged
		for reason, n := range had.DeadLetters {
			s.DeadLetters[reason] += n
		}
		d.Sources[i] = s
	}
}

// background runs something until ctx ends or the function returned is called, which waits for it.
func (a *App) background(ctx context.Context, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// nextRevision waits until the newest revision is another than the one given, or other
// generations are to be written to, and returns the newest; nil when ctx ends before.
func (a *App) nextRevision(ctx context.Context, id, fed string) *registry.Revision {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// A registry that cannot be read now is read again: the stream goes on meanwhile.
		head, err := a.Head(ctx)
		if err != nil {
			continue
		}
		if now, err := a.fedKey(ctx, head); head.ID != id || err == nil && now != fed {
			return head
		}
	}
}

// newStream makes the stream of a revision's sources and views, and of the
// generations that are live meanwhile.
func (a *App) newStream(ctx context.Context, head *registry.Revision, o StreamOptions) (*materialize.Stream, error) {
	chosen, err := views(head, o.Views)
	if err != nil {
		return nil, err
	}
	sources := streamed(head, chosen, len(o.Views) == 0)
	if len(sources) == 0 {
		return nil, &Error{
			Err:  fmt.Errorf("no source of these views declares a kafka topic"),
			Hint: "Declare one (kafka: {topic: …, format: json}) and apply, or use `forebay ingest` and `forebay materialize`.",
		}
	}
	off, err := a.offlineStore(ctx)
	if err != nil {
		return nil, err
	}
	on, err := a.onlineStore(ctx)
	if err != nil {
		return nil, err
	}
	all, err := a.currentAndLive(ctx, head)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(v registry.ViewGeneration) bool {
		return !slices.ContainsFunc(sources, func(s *registry.Source) bool { return s.Name == v.View.Source }) ||
			!slices.ContainsFunc(chosen, func(c registry.ViewGeneration) bool { return c.View.Name == v.View.Name })
	})
	inputs, err := a.kafkaFor(ctx, sources)
	if err != nil {
		return nil, err
	}
	return materialize.NewStream(materialize.StreamConfig{
		Sources: sources, Views: all,
		Inputs: inputs, Repartitioner: inputs, Online: a.sink(on, head), Log: logSink{off}, Tables: tables{off},
		Group:         a.env.Stream.Group,
		UntilCaughtUp: o.UntilCaughtUp,
		Served:        o.served,
		Logger:        a.log, Registerer: a.metrics,
	})
}

// streamed are the sources with a topic that views are computed from, or all that have one.
func streamed(head *registry.Revision, views []registry.ViewGeneration, all bool) []*registry.Source {
	var sources []*registry.Source
	for i := range head.Project.Sources {
		s := &head.Project.Sources[i]
		read := slices.ContainsFunc(views, func(v registry.ViewGeneration) bool { return v.View.Source == s.Name })
		if s.Kafka != nil && (all || read) {
			sources = append(sources, s)
		}
	}
	return sources
}

// every tells from time to time how far a stream is, until stop is called.
func every(tell func(done, total int64), s *materialize.Stream) (stop func()) {
	if tell == nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				var read, lag int64
				for _, src := range s.Stats() {
					read += src.Rows
					for _, p := range src.Partitions {
						lag += p.Lag
					}
					for _, v := range src.Views {
						read += v.Filled
						lag += v.ToFill - v.Filled
					}
				}
				tell(read, read+lag)
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
