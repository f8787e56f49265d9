package app

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// onlineSink is the online store as the pipelines see it: it encodes rows as
// records. It is safe for concurrent use.
type onlineSink struct {
	store    online.Store
	pointers *pointers          // nil where nothing is to go live
	head     *registry.Revision // whose generations go live
	codecs   codecs
	expiries expiries
}

// sink is the online store as the pipelines of a revision see it.
func (a *App) sink(on online.Store, head *registry.Revision) *onlineSink {
	return &onlineSink{store: on, pointers: &pointers{store: on, manual: a.env.Generations.Manual, now: a.wall}, head: head}
}

var _ materialize.Online = (*onlineSink)(nil)

// writeChunk bounds what one write to the online store holds, in records and in bytes.
const (
	writeChunk      = 2000
	writeChunkBytes = 4 << 20
)

func (s *onlineSink) Write(ctx context.Context, v registry.ViewGeneration, rows *feature.Batch, overwrite bool) (applied, stale int, err error) {
	codec := s.codecs.of(v)
	nkeys := len(v.JoinKeys())
	if want := nkeys + len(v.View.Features); len(rows.Columns) != want || len(rows.Versions) != rows.Rows {
		return 0, 0, fmt.Errorf("writing %s online: rows of %d columns and %d versions, want %d and %d", v, len(rows.Columns), len(rows.Versions), want, rows.Rows)
	}
	mode := online.IfNewer
	if overwrite {
		mode = online.Always
	}
	var (
		records []online.Record
		memory  []byte
	)
	flush := func() error {
		if len(records) == 0 {
			return nil
		}
		result, err := s.store.Write(ctx, records, mode)
		if err != nil {
			return fmt.Errorf("writing %s online: %w", v, sinkError(err))
		}
		applied += result.Applied
		stale += result.Stale
		records, memory = records[:0], memory[:0]
		return nil
	}
	for i := range rows.Rows {
		start := len(memory)
		var whole bool
		if memory, whole = feature.AppendKeyRow(memory, rows.Columns[:nkeys], i); !whole {
			continue // such rows are counted, and left out, where views are applied
		}
		end := len(memory)
		if memory, err = codec.Append(memory, rows.Versions[i], rows.Columns[nkeys:], i); err != nil {
			return applied, stale, fmt.Errorf("writing %s online: %w", v, err)
		}
		records = append(records, online.Record{
			Key:   online.Key{View: v.View.Name, Generation: v.Number, Entity: memory[start:end:end]},
			Value: memory[end:len(memory):len(memory)],
		})
		if len(records) == writeChunk || len(memory) >= writeChunkBytes {
			if err := flush(); err != nil {
				return applied, stale, err
			}
		}
	}
	err = flush()
	return applied, stale, err
}

// States implements materialize.Online.
func (s *onlineSink) States(ctx context.Context, v registry.ViewGeneration, keys [][]byte, dst []materialize.WindowRecord) error {
	names, records := make([]online.Key, len(keys)), make([][]byte, len(keys))
	for i, key := range keys {
		names[i] = online.Key{View: v.View.Name, Generation: v.Number, Entity: key}
	}
	if err := s.store.Get(ctx, names, records); err != nil {
		return fmt.Errorf("reading %s online: %w", v, sinkError(err))
	}
	codec := rowcodec.ForWindows(v)
	for i, record := range records {
		dst[i] = materialize.WindowRecord{Key: keys[i]}
		if record == nil {
			continue
		}
		var err error
		if dst[i].Epoch, dst[i].Offset, dst[i].State, err = codec.Decode(record); err != nil {
			return fmt.Errorf("reading %s online: the record of entity key %x: %w; `forebay materialize %s --overwrite` builds all of them anew", v, keys[i], err, v.View.Name)
		}
	}
	return nil
}

// WriteStates implements materialize.Online.
func (s *onlineSink) WriteStates(ctx context.Context, v registry.ViewGeneration, states []materialize.WindowRecord) (applied, stale int, err error) {
	ttl, err := s.expiries.of(v)
	if err != nil {
		return 0, 0, err
	}
	codec := rowcodec.ForWindows(v)
	for len(states) > 0 {
		n, size := 0, 0
		for n < len(states) && n < writeChunk && (n == 0 || size < writeChunkBytes) {
			size += len(states[n].State) + rowcodec.WindowOverhead
			n++
		}
		records, memory := make([]online.Record, n), make([]byte, 0, size)
		for i, r := range states[:n] {
			start := len(memory)
			memory = codec.Append(memory, r.Epoch, r.Offset, r.State)
			records[i] = online.Record{Key: online.Key{View: v.View.Name, Generation: v.Number, Entity: r.Key}, Value: memory[start:len(memory):len(memory)], TTL: ttl}
		}
		result, err := s.store.Write(ctx, records, online.IfNewer)
		if err != nil {
			return applied, stale, fmt.Errorf("writing %s online: %w", v, sinkError(err))
		}
		applied += result.Applied
		stale += result.Stale
		states = states[n:]
	}
	return applied, stale, nil
}

// Server implements materialize.Online.
func (s *onlineSink) Server(ctx context.Context) (string, error) {
	name, err := online.ServerOf(ctx, s.store)
	return name, sinkError(err)
}

func (s *onlineSink) Resumes(ctx context.Context, v registry.ViewGeneration) (map[string]string, error) {
	points, err := s.store.Resumes(ctx, v.View.Name, v.Number)
	if err != nil {
		return nil, sinkError(err)
	}
	positions := make(map[string]string, len(points))
	for _, p := range points {
		positions[p.Input] = p.Position
	}
	return positions, nil
}

func (s *onlineSink) SetResumes(ctx context.Context, v registry.ViewGeneration, positions map[string]string) error {
	points := make([]online.Resume, 0, len(positions))
	for input, position := range positions {
		points = append(points, online.Resume{View: v.View.Name, Generation: v.Number, Input: input, Position: position})
	}
	return sinkError(s.store.SetResumes(ctx, points))
}

func (s *onlineSink) Live(ctx context.Context) (map[string]int, error) {
	live, err := s.store.Live(ctx)
	return live, sinkError(err)
}

// SetLive implements materialize.Online: what somebody chose stays live (see pointers.propose),
// and a generation that is only kept up to date for a rollback does not go live.
func (s *onlineSink) SetLive(ctx context.Context, v registry.ViewGeneration) error {
	if v.Number != s.head.Generation(v.View.Name) {
		return nil
	}
	return sinkError(s.pointers.propose(ctx, v.View.Name, v.Number))
}

// codecs keeps the codec of each view generation in use.
type codecs struct {
	mu sync.Mutex
	by map[registry.Ref]*rowcodec.Codec
}

func (c *codecs) of(v registry.ViewGeneration) *rowcodec.Codec {
	id := registry.Ref{View: v.View.Name, Generation: v.Number}
	c.mu.Lock()
	defer c.mu.Unlock()
	codec := c.by[id]
	if codec == nil {
		if c.by == nil {
			c.by = map[registry.Ref]*rowcodec.Codec{}
		}
		codec = rowcodec.For(v)
		c.by[id] = codec
	}
	return codec
}

// expiries keeps how long the records of each windowed view generation in use are kept.
type expiries struct {
	mu sync.Mutex
	by map[registry.Ref]time.Duration
}

func (e *expiries) of(v registry.ViewGeneration) (time.Duration, error) {
	id := registry.Ref{View: v.View.Name, Generation: v.Number}
	e.mu.Lock()
	defer e.mu.Unlock()
	ttl, ok := e.by[id]
	if ok {
		return ttl, nil
	}
	plan, err := window.ForView(v.View)
	if err != nil {
		return 0, err
	}
	if e.by == nil {
		e.by = map[registry.Ref]time.Duration{}
	}
	e.by[id] = min(plan.Expiry(), online.MaxTTL)
	return e.by[id], nil
}

// logSink is the offline store's logs as the stream sees them.
type logSink struct{ store offline.Store }

var _ materialize.Log = logSink{}

func (s logSink) Offsets(ctx context.Context, src *registry.Source) (map[int32]int64, error) {
	state, err := s.store.Log(ctx, src)
	return state.Offsets, sinkError(err)
}

func (s logSink) Append(ctx context.Context, src *registry.Source, rows []*feature.Batch, offsets map[int32]materialize.OffsetRange) (err error) {
	appender, err := s.store.Append(ctx, src, nil)
	if err != nil {
		return sinkError(err)
	}
	defer func() { err = errors.Join(err, appender.Abort()) }()
	for _, batch := range rows {
		if err := appender.Write(ctx, batch); err != nil {
			return sinkError(err)
		}
	}
	origin := offline.Origin{Topic: src.Kafka.Topic, Offsets: make(map[int32]offline.OffsetRange, len(offsets))}
	for partition, r := range offsets {
		origin.Offsets[partition] = offline.OffsetRange(r)
	}
	return sinkError(appender.Commit(ctx, origin))
}

// tables are the offline store's derived tables as the pipelines see them.
type tables struct{ store offline.Store }

var _ materialize.Tables = tables{}

// refreshes is how often a derived table is brought up to date to meet one state of a log that grows meanwhile.
const refreshes = 20

func (t tables) Refresh(ctx context.Context, v registry.ViewGeneration) (materialize.TableState, error) {
	for range refreshes {
		log, err := t.store.Log(ctx, v.Source())
		if err != nil {
			return materialize.TableState{}, sinkError(err)
		}
		state, err := t.store.Refresh(ctx, v)
		if err != nil {
			return materialize.TableState{}, sinkError(err)
		}
		out := materialize.TableState{Rows: state.Rows, Snapshot: state.Snapshot}
		if !v.View.Windowed() || v.Source().Kafka == nil {
			return out, nil
		}
		if state.LogSnapshot == log.Snapshot {
			out.Offsets = log.Offsets
			return out, nil
		}
	}
	return materialize.TableState{}, fmt.Errorf("%w: the log of %s grows faster than the table of %s is brought up to date", materialize.ErrUnavailable, v.View.Source, v)
}

func (t tables) Scan(ctx context.Context, v registry.ViewGeneration, o materialize.ScanOptions) iter.Seq2[*feature.Batch, error] {
	return func(yield func(*feature.Batch, error) bool) {
		first := o.Snapshot != ""
		for batch, err := range t.store.Scan(ctx, v, offline.ScanOptions{Since: o.Since, From: o.From, To: o.To, NewestOnly: !v.View.Windowed()}) {
			if first && err == nil {
				// The table was of that snapshot before the scan began; if it still is, the scan is of it.
				first = false
				var now offline.TableState
				if now, err = t.store.Table(ctx, v); err == nil && now.Snapshot != o.Snapshot {
					err = fmt.Errorf("%w: the table of %s has changed meanwhile", materialize.ErrConflict, v)
				}
				if err != nil {
					yield(nil, sinkError(err))
					return
				}
			}
			if !yield(batch, sinkError(err)) {
				return
			}
		}
	}
}

// sinkError says in the pipelines' words what is wrong with a store: that it
// cannot be reached, or that somebody else has appended to a log.
func sinkError(err error) error {
	switch {
	case errors.Is(err, online.ErrUnavailable), errors.Is(err, offline.ErrUnavailable):
		return fmt.Errorf("%w: %w", materialize.ErrUnavailable, err)
	case errors.Is(err, offline.ErrConflict):
		return fmt.Errorf("%w: %w", materialize.ErrConflict, err)
	}
	return err
}
