package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/forebay/forebay/internal/config"
	"github.com/forebay/forebay/internal/pitscript"
	"github.com/forebay/forebay/internal/telemetry"
	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/kafka"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/dataset"
	"github.com/forebay/forebay/offline/ingest"
	"github.com/forebay/forebay/offline/parquet"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/embedded"
	"github.com/forebay/forebay/online/lookup"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/history"
	"github.com/forebay/forebay/registry/plan"
)

// scriptConfig says what a scriptEngine is made of.
type scriptConfig struct {
	Project *registry.Project
	// Name tells the engine's topics and consumer groups from those of other engines.
	Name string
	Dir  string // a folder of its own, which Close removes
	// Brokers are the addresses of Kafka.
	Brokers []string
	// Online is the online store, which Close closes; nil for an engine that answers with training data.
	Online online.Store
	Log    *slog.Logger // nil: none
}

// scriptEngine runs a script through the pipelines and stores that everything else uses: events go
// through Kafka into the offline log and, where the engine has an online store, into that; events of
// sources without a topic are appended to the log as files are, and materialized. Lookups are answered by the
// online store, or by a point-in-time join with the offline one.
//
// It is an App with parts of its own, of which only the clock and the disk's care are not the real ones.
type scriptEngine struct {
	app     *App
	head    *registry.Revision
	cluster *kafka.Cluster
	dir     string
	now     atomic.Int64
	refused map[pitscript.Refusal]int64 // by Kafka's dead letters, and rows of sources without a topic
	views   []registry.ViewGeneration
	behind  map[string]bool // views whose derived tables lack rows of the log
	nulls   map[string]bool // views that were given a null key, which only their tables may count
}

var _ pitscript.Engine = (*scriptEngine)(nil)

// scriptPartitions is one: of two events that nothing else tells apart, the one that a script has later is later.
const scriptPartitions = 1

func newScriptEngine(ctx context.Context, c scriptConfig) (_ *scriptEngine, err error) {
	e := &scriptEngine{dir: c.Dir, refused: map[pitscript.Refusal]int64{}, behind: map[string]bool{}, nulls: map[string]bool{}}
	wall := func() time.Time { return time.UnixMicro(e.now.Load()).UTC() }
	e.app = &App{
		project: c.Project.Name, env: &config.Environment{Name: "script", Stream: &config.Stream{Brokers: c.Brokers, Group: c.Name}},
		log: c.Log, metrics: telemetry.NewRegistry(), clock: wall, wall: wall, corrupt: prometheus.NewCounter(prometheus.CounterOpts{}),
	}
	if e.app.log == nil {
		e.app.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if c.Online != nil {
		e.app.on = c.Online
		e.app.opened = append(e.app.opened, c.Online)
	}
	store, err := parquet.Open(ctx, parquet.Options{URL: "file://" + filepath.ToSlash(c.Dir), Project: c.Project.Name, NoSync: true, Workers: 1, Now: wall})
	if err != nil {
		return nil, err
	}
	e.app.off = store
	e.app.opened = append(e.app.opened, store)
	if e.cluster, err = kafka.New(kafka.Config{Brokers: c.Brokers, Logger: c.Log, Now: wall}); err != nil {
		return nil, err
	}
	e.app.kafka = e.cluster
	e.app.opened = append(e.app.opened, closer(func() error { e.cluster.Close(); return nil }))
	return e, e.apply(ctx, scripted(c.Project, c.Name))
}

// scripted is a project whose events a script can write: as JSON by the columns' own names, on topics that no
// other engine reads. What the features mean is untouched.
func scripted(p *registry.Project, name string) *registry.Project {
	own := *p
	own.Sources = slices.Clone(p.Sources)
	for i := range own.Sources {
		s := &own.Sources[i]
		if s.Kafka == nil {
			continue
		}
		s.Kafka = &registry.Kafka{Topic: name + "-" + s.Name, Format: "json", Key: s.Kafka.Key}
		s.TimestampFormat = ""
		s.Columns = slices.Clone(s.Columns)
		for c := range s.Columns {
			s.Columns[c].From = ""
		}
	}
	return &own
}

// apply makes the engine's registry, of one revision, and the topics.
func (e *scriptEngine) apply(ctx context.Context, p *registry.Project) error {
	repo, err := history.Open(ctx, "mem://")
	if err != nil {
		return err
	}
	e.app.repo = repo
	e.app.opened = append(e.app.opened, repo)
	first, err := plan.Compute(nil, nil, p)
	if err != nil {
		return err
	}
	e.head = first.Revision("", "", time.Unix(0, 0).UTC())
	if err := repo.Append(ctx, e.head); err != nil {
		return err
	}
	if e.views, err = views(e.head, nil); err != nil {
		return err
	}
	for _, s := range p.Sources {
		if s.Kafka == nil {
			continue
		}
		if err := e.cluster.CreateTopic(ctx, s.Kafka.Topic, scriptPartitions); err != nil {
			return err
		}
	}
	return nil
}

// SetClock implements pitscript.Engine.
func (e *scriptEngine) SetClock(at int64) { e.now.Store(at) }

// Deliver implements pitscript.Engine.
func (e *scriptEngine) Deliver(ctx context.Context, all []pitscript.Events) error {
	streamed := false
	var loaded []string // sources without a topic
	for _, given := range all {
		src := e.head.Project.Source(given.Source.Name)
		e.given(src, given.Rows)
		if src.Kafka == nil {
			if err := e.load(ctx, src, given.Rows); err != nil {
				return err
			}
			loaded = append(loaded, src.Name)
			continue
		}
		records := events(src, given.Rows)
		for i := range records {
			records[i].Time = time.UnixMicro(given.Rows.Versions[i].IngestedAt)
		}
		if err := e.cluster.Produce(ctx, src.Kafka.Topic, records); err != nil {
			return err
		}
		streamed = true
	}
	if streamed {
		if err := e.stream(ctx); err != nil {
			return err
		}
	}
	if e.app.on == nil {
		return nil
	}
	var views []string
	for _, v := range e.views {
		if slices.Contains(loaded, v.View.Source) {
			views = append(views, v.View.Name)
		}
	}
	if len(views) == 0 {
		return nil
	}
	_, err := e.app.Materialize(ctx, MaterializeOptions{Views: views})
	return err
}

// given notes which views rows of a source concern.
func (e *scriptEngine) given(src *registry.Source, rows *feature.Batch) {
	for _, v := range e.views {
		if v.View.Source != src.Name {
			continue
		}
		e.behind[v.View.Name] = true
		for _, key := range v.JoinKeys() {
			if len(rows.Columns[src.Column(key.Name)].Nulls) > 0 {
				e.nulls[v.View.Name] = true
			}
		}
	}
}

// refresh brings the derived table of a view up to date.
func (e *scriptEngine) refresh(ctx context.Context, v registry.ViewGeneration) error {
	if !e.behind[v.View.Name] {
		return nil
	}
	_, err := e.app.off.Refresh(ctx, v)
	e.behind[v.View.Name] = err != nil
	return err
}

// load appends rows to the log of a source without a topic, as an ingest of a file with them does.
func (e *scriptEngine) load(ctx context.Context, src *registry.Source, given *feature.Batch) (err error) {
	origin := &offline.FileOrigin{Name: "script"}
	app, err := e.app.off.Append(ctx, src, origin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, app.Abort()) }()
	timestamp := src.Column(src.Timestamp)
	rows := feature.NewBatch(src.Fields(), given.Rows)
	for i := range given.Rows {
		if given.Columns[timestamp].IsNull(i) {
			e.refused[pitscript.Refusal{Source: src.Name, Reason: pitscript.BadTimestamp}]++
			continue
		}
		rows.AppendRow(given, i)
		rows.Versions[rows.Rows-1] = feature.Version{
			EventTime: given.Columns[timestamp].Int64s()[i], IngestedAt: given.Versions[i].IngestedAt, Major: int64(i), Minor: app.IngestedAt(),
		}
	}
	if rows.Rows == 0 {
		return nil
	}
	if err := app.Write(ctx, rows); err != nil {
		return err
	}
	return app.Commit(ctx, offline.Origin{File: origin})
}

// stream reads what the topics hold into the stores, and ends.
func (e *scriptEngine) stream(ctx context.Context) error {
	var s *materialize.Stream
	var err error
	if e.app.on != nil {
		s, err = e.app.newStream(ctx, e.head, StreamOptions{UntilCaughtUp: true})
	} else {
		s, err = materialize.NewStream(materialize.StreamConfig{
			Sources: streamed(e.head, nil, true), Inputs: e.cluster, Log: logSink{e.app.off}, Group: e.app.env.Stream.Group, UntilCaughtUp: true, Logger: e.app.log,
		})
	}
	if err != nil {
		return err
	}
	if err := s.Run(ctx); err != nil {
		return err
	}
	for _, stats := range s.Stats() {
		for reason, n := range stats.DeadLetters {
			e.refused[pitscript.Refusal{Source: stats.Source, Reason: string(reason)}] += n
		}
	}
	return nil
}

// Push implements pitscript.Engine.
func (e *scriptEngine) Push(ctx context.Context, of *registry.Source, given *feature.Batch) error {
	src := e.head.Project.Source(of.Name)
	e.given(src, given)
	rows := *given
	rows.Versions = nil // what a push fills in is this engine's alone
	if src.Kafka != nil && slices.ContainsFunc(e.views, func(v registry.ViewGeneration) bool { return v.View.Source == src.Name && v.View.Windowed() }) {
		return fmt.Errorf("a topic feeds the windows of %s, and pushed rows are in none: they would have them only after another `forebay materialize`; produce them instead", src.Name)
	}
	if e.app.on != nil {
		_, err := e.app.push(ctx, e.head, src, &rows)
		return err
	}
	written, err := compileOf(e.views, src)
	if err != nil {
		return err
	}
	if err := checkRows(written, src, &rows, e.app.wall()); err != nil {
		return err
	}
	return ingest.Push(ctx, e.app.off, src, &rows)
}

// Lookup implements pitscript.Engine.
func (e *scriptEngine) Lookup(ctx context.Context, l pitscript.Lookup) (*pitscript.Answer, error) {
	if e.app.on == nil {
		return e.join(ctx, l)
	}
	if l.KnownAt != nil {
		return nil, pitscript.ErrHistory
	}
	p, err := lookup.NewPlan(l.Selection)
	if err != nil {
		return nil, err
	}
	r, err := lookup.Lookup(ctx, e.app.on, p, lookup.Request{Keys: l.Keys, Request: l.Request, Rows: l.Rows, Now: e.now.Load()})
	if err != nil {
		return nil, err
	}
	// It is not released: the answer keeps its columns.
	return &pitscript.Answer{Columns: r.Columns, Statuses: r.Statuses, Instant: r.Instant}, r.CorruptErr
}

// join answers with what a training dataset has.
func (e *scriptEngine) join(ctx context.Context, l pitscript.Lookup) (*pitscript.Answer, error) {
	points, err := pointsOf(l.Selection, l.Keys, l.Request, slices.Repeat([]int64{l.At}, l.Rows))
	if err != nil {
		return nil, err
	}
	points.KnownAt = l.KnownAt
	for _, role := range l.Selection.Roles {
		if err := e.refresh(ctx, role.View); err != nil {
			return nil, err
		}
	}
	found, err := dataset.Find(ctx, e.app.off, points)
	if err != nil {
		return nil, err
	}
	return &pitscript.Answer{Columns: found.Columns, Statuses: found.Statuses, Instant: l.At}, nil
}

// Refused implements pitscript.Engine.
func (e *scriptEngine) Refused(ctx context.Context) (map[pitscript.Refusal]int64, error) {
	refused := map[pitscript.Refusal]int64{}
	for of, n := range e.refused {
		refused[of] += n
	}
	for _, v := range e.views {
		if !e.nulls[v.View.Name] || v.Source().Kafka != nil && e.app.on != nil {
			continue // there are none, or they are dead letters
		}
		if err := e.refresh(ctx, v); err != nil {
			return nil, err
		}
		table, err := e.app.off.Table(ctx, v)
		if err != nil {
			return nil, err
		}
		if table.BadRows > 0 {
			refused[pitscript.Refusal{Source: v.View.Source, Reason: pitscript.NullKey}] += table.BadRows
		}
	}
	return refused, nil
}

// Close implements pitscript.Engine.
func (e *scriptEngine) Close() error { return errors.Join(e.app.Close(), os.RemoveAll(e.dir)) }

// scriptPebble opens an embedded online store for a script.
func scriptPebble(project, dir string) (online.Store, error) {
	s, err := embedded.Open(embedded.Options{Dir: dir, Project: project, NoSync: true, CacheBytes: 1 << 20, MemTableBytes: 256 << 10, Command: "forebay test"})
	if err != nil {
		return nil, fmt.Errorf("online store of a script: %w", err)
	}
	return s, nil
}
