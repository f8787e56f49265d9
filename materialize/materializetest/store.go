// Package materializetest has stores in memory for tests of the pipelines, which
// can be made to fail at every seam.
package materializetest

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
)

// Store is an online store, the logs, and the derived tables of a project, in memory. It is safe for concurrent use.
type Store struct {
	// Fault, if set, is called before and after each call takes effect, with its
	// name ("Write", "Append", …); an error is returned in its stead.
	// After the effect it stands for an answer that was lost. It is called by several goroutines.
	Fault func(ctx context.Context, call string, after bool) error

	mu      sync.Mutex
	server  int                          // who takes the writes
	journal []func()                     // what undoes each write, the last at the end
	records map[string]map[string]Record // by view@generation, then entity key
	states  map[string]map[string]materialize.WindowRecord
	resumes map[string]map[string]string
	live    map[string]int
	logs    map[string]*sourceLog
	writes  int
}

// Record is what the store has of an entity.
type Record struct {
	Version feature.Version
	Values  string // of the view's columns, as JSON, with commas between
}

type sourceLog struct {
	rows    *feature.Batch
	offsets map[int32]int64
	appends int
}

var (
	_ materialize.Online = (*Store)(nil)
	_ materialize.Log    = (*Store)(nil)
	_ materialize.Tables = (*Store)(nil)
)

// NewStore makes an empty store.
func NewStore() *Store {
	return &Store{records: map[string]map[string]Record{}, states: map[string]map[string]materialize.WindowRecord{}, resumes: map[string]map[string]string{}, live: map[string]int{}, logs: map[string]*sourceLog{}}
}

// put sets m[key], and notes how to undo it.
func put[T any](s *Store, m map[string]T, key string, value T) {
	old, had := m[key]
	m[key] = value
	s.journal = append(s.journal, func() {
		if had {
			m[key] = old
		} else {
			delete(m, key)
		}
	})
}

// under is m[key], made if it is not there.
func under[T any](m map[string]map[string]T, key string) map[string]T {
	if m[key] == nil {
		m[key] = map[string]T{}
	}
	return m[key]
}

func (s *Store) do(ctx context.Context, call string, effect func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.Fault != nil {
		if err := s.Fault(ctx, call, false); err != nil {
			return err
		}
	}
	s.mu.Lock()
	err := effect()
	s.mu.Unlock()
	if err == nil && s.Fault != nil {
		err = s.Fault(ctx, call, true)
	}
	return err
}

// Values are the values of a row, as JSON, with commas between.
func Values(b *feature.Batch, row int) string {
	var out []byte
	for i, c := range b.Columns {
		if i > 0 {
			out = append(out, ',')
		}
		out = c.Value(row).AppendJSON(out)
	}
	return string(out)
}

// Write implements materialize.Online.
func (s *Store) Write(ctx context.Context, v registry.ViewGeneration, rows *feature.Batch, overwrite bool) (applied, stale int, err error) {
	err = s.do(ctx, "Write", func() error {
		s.writes++
		view := under(s.records, v.String())
		for i := range rows.Rows {
			key, ok := feature.AppendKeyRow(nil, rows.Columns[:len(v.JoinKeys())], i)
			if !ok {
				return fmt.Errorf("row %d of %s has no entity key", i, v)
			}
			have, exists := view[string(key)]
			if exists && !overwrite && rows.Versions[i].Compare(have.Version) <= 0 {
				stale++
				continue
			}
			applied++
			put(s, view, string(key), Record{rows.Versions[i], Values(rows, i)})
		}
		return nil
	})
	return applied, stale, err
}

// States implements materialize.Online.
func (s *Store) States(ctx context.Context, v registry.ViewGeneration, keys [][]byte, dst []materialize.WindowRecord) error {
	return s.do(ctx, "States", func() error {
		for i, key := range keys {
			r := s.states[v.String()][string(key)]
			r.Key, r.State = key, slices.Clone(r.State)
			dst[i] = r
		}
		return nil
	})
}

// WriteStates implements materialize.Online.
func (s *Store) WriteStates(ctx context.Context, v registry.ViewGeneration, records []materialize.WindowRecord) (applied, stale int, err error) {
	err = s.do(ctx, "WriteStates", func() error {
		s.writes++
		view := under(s.states, v.String())
		seen := map[string]bool{}
		for _, r := range records {
			if seen[string(r.Key)] {
				return fmt.Errorf("the key %x comes twice", r.Key)
			}
			seen[string(r.Key)] = true
			have, exists := view[string(r.Key)]
			if exists && (r.Epoch < have.Epoch || r.Epoch == have.Epoch && r.Offset <= have.Offset) {
				stale++
				continue
			}
			applied++
			key := string(r.Key)
			r.Key, r.State = nil, slices.Clone(r.State)
			put(s, view, key, r)
		}
		return nil
	})
	return applied, stale, err
}

// Server implements materialize.Online.
func (s *Store) Server(ctx context.Context) (name string, err error) {
	err = s.do(ctx, "Server", func() error { name = fmt.Sprint("server-", s.server); return nil })
	return name, err
}

// Failover loses the last n writes to the online store, or all of them, as a failover to a
// replica does that lagged. Who takes the writes is another server from now on.
func (s *Store) Failover(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n = min(n, len(s.journal)); n > 0; n-- {
		s.journal[len(s.journal)-1]()
		s.journal = s.journal[:len(s.journal)-1]
	}
	s.server++
}

// Resumes implements materialize.Online.
func (s *Store) Resumes(ctx context.Context, v registry.ViewGeneration) (resumes map[string]string, err error) {
	err = s.do(ctx, "Resumes", func() error { resumes = maps.Clone(s.resumes[v.String()]); return nil })
	return resumes, err
}

// SetResumes implements materialize.Online.
func (s *Store) SetResumes(ctx context.Context, v registry.ViewGeneration, positions map[string]string) error {
	return s.do(ctx, "SetResumes", func() error {
		points, undo := under(s.resumes, v.String()), len(s.journal)
		for name, position := range positions {
			put(s, points, name, position)
		}
		all := slices.Clone(s.journal[undo:])
		s.journal = append(s.journal[:undo], func() { // they are stored together
			for _, f := range all {
				f()
			}
		})
		return nil
	})
}

// Live implements materialize.Online.
func (s *Store) Live(ctx context.Context) (live map[string]int, err error) {
	err = s.do(ctx, "Live", func() error { live = maps.Clone(s.live); return nil })
	return live, err
}

// SetLive implements materialize.Online.
func (s *Store) SetLive(ctx context.Context, v registry.ViewGeneration) error {
	return s.do(ctx, "SetLive", func() error { put(s, s.live, v.View.Name, v.Number); return nil })
}

func (s *Store) log(src *registry.Source) *sourceLog {
	l := s.logs[src.Name]
	if l == nil {
		l = &sourceLog{rows: feature.NewBatch(src.Fields(), 0), offsets: map[int32]int64{}}
		s.logs[src.Name] = l
	}
	return l
}

// Offsets implements materialize.Log.
func (s *Store) Offsets(ctx context.Context, src *registry.Source) (offsets map[int32]int64, err error) {
	err = s.do(ctx, "Offsets", func() error { offsets = maps.Clone(s.log(src).offsets); return nil })
	return offsets, err
}

// Append implements materialize.Log.
func (s *Store) Append(ctx context.Context, src *registry.Source, rows []*feature.Batch, offsets map[int32]materialize.OffsetRange) error {
	return s.do(ctx, "Append", func() error {
		l := s.log(src)
		for p, r := range offsets {
			if at, ok := l.offsets[p]; ok && at != r.From || r.To < r.From {
				return fmt.Errorf("%w: partition %d is at %d, the rows are of %d to %d", materialize.ErrConflict, p, at, r.From, r.To)
			}
		}
		for _, b := range rows {
			for i, v := range b.Versions {
				if r, ok := offsets[int32(v.Major)]; !ok || v.Minor < r.From || v.Minor >= r.To {
					return fmt.Errorf("a row of partition %d, offset %d is outside of the ranges %v", v.Major, v.Minor, offsets)
				}
				l.rows.AppendRow(b, i)
			}
		}
		for p, r := range offsets {
			l.offsets[p] = r.To
		}
		l.appends++
		return nil
	})
}

// Refresh implements materialize.Tables.
func (s *Store) Refresh(ctx context.Context, v registry.ViewGeneration) (state materialize.TableState, err error) {
	err = s.do(ctx, "Refresh", func() error {
		if n := s.log(v.Source()).rows.Rows; n > 0 {
			state = materialize.TableState{Rows: int64(n), Snapshot: strconv.Itoa(n)}
		}
		state.Offsets = maps.Clone(s.log(v.Source()).offsets)
		return nil
	})
	return state, err
}

// Scan implements materialize.Tables, in batches of seven rows.
func (s *Store) Scan(ctx context.Context, v registry.ViewGeneration, o materialize.ScanOptions) iter.Seq2[*feature.Batch, error] {
	return func(yield func(*feature.Batch, error) bool) {
		var rows *feature.Batch
		err := s.do(ctx, "Scan", func() (err error) {
			rows, err = s.derive(v, o)
			return err
		})
		if err != nil {
			yield(nil, err)
			return
		}
		out := feature.NewBatch(rows.Fields(), 7)
		for i := range rows.Rows {
			out.AppendRow(rows, i)
			if out.Rows < 7 && i < rows.Rows-1 {
				continue
			}
			if s.Fault != nil {
				if err := s.Fault(ctx, "Batch", false); err != nil {
					yield(nil, err)
					return
				}
			}
			if !yield(out, nil) {
				return
			}
			out.Reset()
		}
	}
}

func (s *Store) derive(v registry.ViewGeneration, o materialize.ScanOptions) (*feature.Batch, error) {
	program, err := expr.CompileView(v.Project, v.View)
	if err != nil {
		return nil, err
	}
	from, since := s.log(v.Source()).rows, 0
	if o.Snapshot != "" && o.Snapshot != strconv.Itoa(from.Rows) {
		return nil, fmt.Errorf("%w: the table has %d rows, not %s", materialize.ErrConflict, from.Rows, o.Snapshot)
	}
	if o.Since != "" {
		if since, err = strconv.Atoi(o.Since); err != nil {
			return nil, err
		}
	}
	in := feature.NewBatch(from.Fields(), 0)
	for i := since; i < from.Rows; i++ {
		at := from.Versions[i].EventTime
		if (o.From == nil || at >= *o.From) && (o.To == nil || at <= *o.To) {
			in.AppendRow(from, i)
		}
	}
	all := feature.NewBatch(program.Fields(), in.Rows)
	program.Apply(in, all)
	keys := make([]string, all.Rows)
	order := make([]int, all.Rows)
	for i := range order {
		key, _ := feature.AppendKeyRow(nil, all.Columns[:len(v.JoinKeys())], i)
		keys[i], order[i] = string(key), i
	}
	slices.SortFunc(order, func(a, b int) int {
		if keys[a] != keys[b] {
			if keys[a] < keys[b] {
				return -1
			}
			return 1
		}
		return all.Versions[a].Compare(all.Versions[b])
	})
	sorted := feature.NewBatch(all.Fields(), all.Rows)
	for _, i := range order {
		sorted.AppendRow(all, i)
	}
	return sorted, nil
}

// Records are the records of a view generation, by entity key.
func (s *Store) Records(v registry.ViewGeneration) map[string]Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.records[v.String()])
}

// WindowStates are the states of a windowed view generation, by entity key.
func (s *Store) WindowStates(v registry.ViewGeneration) map[string]materialize.WindowRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.states[v.String()])
}

// Rows are a copy of the rows of a source's log, in the order in which they were appended.
func (s *Store) Rows(src *registry.Source) *feature.Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.log(src)
	rows := feature.NewBatch(l.rows.Fields(), l.rows.Rows)
	for i := range l.rows.Rows {
		rows.AppendRow(l.rows, i)
	}
	return rows
}

// Appends and Writes count the calls that took effect.
func (s *Store) Appends(src *registry.Source) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log(src).appends
}

// Writes counts the calls of Write that took effect.
func (s *Store) Writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

// LoseOnline forgets everything that is online, as a store without a disk does when it restarts.
func (s *Store) LoseOnline() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records, s.states, s.resumes, s.live = map[string]map[string]Record{}, map[string]map[string]materialize.WindowRecord{}, map[string]map[string]string{}, map[string]int{}
	s.journal = nil
}

// LoseLog forgets a source's log.
func (s *Store) LoseLog(src *registry.Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.logs, src.Name)
}
