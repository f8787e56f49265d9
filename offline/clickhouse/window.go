package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/pit"
	"github.com/forebay/forebay/registry/feature"
)

// windowRole is how a role of a windowed view is computed: by ours, from the events that the server
// hands out in order. SQL has neither exact sums nor our sketches, and so not the same values.
type windowRole struct {
	plan  *window.Plan
	empty []feature.Value // of windows without events
}

func newWindowRole(role offline.Role) (*windowRole, error) {
	plan, err := window.ForView(role.View.View)
	if err != nil {
		return nil, err
	}
	w := &windowRole{plan: plan}
	w.empty, _ = plan.Sweep(role.Features).Values(0, nil)
	return w, nil
}

// eventRows is what the server gives, in blocks.
type eventRows struct {
	next  func() (*feature.Batch, error, bool)
	keys  *pit.Keys
	joins int // join keys at the front of the batch
	block pit.Block
	rows  window.Rows
	input []int // of the plan, by column after the keys
}

var _ pit.EventCursor = (*eventRows)(nil)

// Next implements pit.Cursor.
func (e *eventRows) Next(*pit.Keys, int) (*pit.Block, error) {
	b, err, ok := e.next()
	switch {
	case !ok:
		return nil, io.EOF
	case err != nil:
		return nil, err
	}
	e.keys.Reset()
	if e.joins == 0 {
		for range b.Rows {
			e.keys.AppendRow(nil, 0)
		}
	} else {
		e.keys.AppendRows(b.Columns[:e.joins], 0, b.Rows)
	}
	e.rows.Times = e.rows.Times[:0]
	e.rows.Ingested, e.rows.Major, e.rows.Minor = e.rows.Ingested[:0], e.rows.Major[:0], e.rows.Minor[:0]
	for _, v := range b.Versions {
		e.rows.Times = append(e.rows.Times, v.EventTime)
		e.rows.Ingested, e.rows.Major, e.rows.Minor = append(e.rows.Ingested, v.IngestedAt), append(e.rows.Major, v.Major), append(e.rows.Minor, v.Minor)
	}
	for i, in := range e.input {
		e.rows.Columns[in] = b.Columns[e.joins+i]
	}
	e.block = pit.Block{Keys: e.keys, Times: e.rows.Times, Ingested: e.rows.Ingested}
	return &e.block, nil
}

// Load implements pit.EventCursor.
func (e *eventRows) Load() (window.Rows, error) { return e.rows, nil }

// windows computes the features of windows for the chunk.
func (j *joiner) windows(ctx context.Context, r *joinRole) error {
	staged, last, err := j.stage(ctx, r)
	if err != nil || staged == 0 {
		return err
	}
	var types []feature.Type
	cols := make([]*feature.Column, len(r.Keys))
	for i, k := range r.View.JoinKeys() {
		types, cols[i] = append(types, k.Type), j.spine.Column(r.Keys[i])
	}
	spine, rows := sorted(types, cols, j.at)
	sweep := r.windows.plan.Sweep(r.Features)
	fields := r.View.JoinKeys()
	e := &eventRows{keys: pit.NewKeys(types), joins: len(types), input: sweep.Inputs()}
	e.rows.Columns = make([]*feature.Column, len(r.View.View.Inputs))
	fields = slices.Clone(fields)
	for _, in := range e.input {
		fields = append(fields, r.View.View.Inputs[in].Field)
	}
	where := fmt.Sprintf("%s <= %d AND %s <= %s", ident(colLog), r.table.number, ident(colEventTime), int64Literal(last))
	if before := sweep.Before(slices.Min(spine.Times)); before >= feature.MinTimestamp {
		where += fmt.Sprintf(" AND %s > %s", ident(colEventTime), int64Literal(before))
	}
	if j.r.KnownAt != nil {
		where += fmt.Sprintf(" AND %s <= %s", ident(colIngestedAt), int64Literal(*j.r.KnownAt))
	}
	if len(types) > 0 && uint64(staged) < r.table.rows {
		var keys, staging []string
		for i, k := range r.View.JoinKeys() {
			keys, staging = append(keys, ident(k.Name)), append(staging, key(i))
		}
		where += fmt.Sprintf(" AND (%s) IN (SELECT %s FROM %s)", strings.Join(keys, ", "), strings.Join(staging, ", "), r.staging)
	}
	next, stop := iter.Pull2(j.s.events(ctx, r, fields, where))
	defer stop()
	e.next = next
	return pit.Windows(spine, []pit.EventCursor{e}, pit.NoKnownAt, sweep, func(s int, values []feature.Value, found bool) error {
		if found {
			at := rows[s]
			r.results.found[at] = feature.Present // there is no one row that was found, and so no version
			r.results.put(int(at), values)
		}
		return nil
	})
}

// sorted is the part of a chunk with whole keys and instants in the order of (key, instant), and
// the rows of the chunk.
func sorted(types []feature.Type, cols []*feature.Column, at *feature.Column) (pit.Spine, []int32) {
	keys := pit.NewKeys(types)
	var rows, order []int32
	for i := range at.Len {
		if !at.IsNull(i) && keys.AppendRow(cols, i) {
			order, rows = append(order, int32(len(rows))), append(rows, int32(i))
		}
	}
	times := at.Int64s()
	slices.SortFunc(order, func(a, b int32) int {
		if c := keys.Compare(int(a), keys, int(b)); c != 0 {
			return c
		}
		if x, y := times[rows[a]], times[rows[b]]; x < y {
			return -1
		} else if x > y {
			return 1
		}
		return int(a - b)
	})
	spine := pit.Spine{Keys: pit.NewKeys(types), Times: make([]int64, len(order))}
	out := make([]int32, len(order))
	for i, o := range order {
		spine.Keys.AppendKey(keys, int(o))
		spine.Times[i], out[i] = times[rows[o]], rows[o]
	}
	return spine, out
}

// events yields columns of a derived table's rows, with their versions, in the order of (entity key, version).
func (s *Store) events(ctx context.Context, r *joinRole, fields []feature.Field, where string) iter.Seq2[*feature.Batch, error] {
	return func(yield func(*feature.Batch, error) bool) {
		row := newRowReader(fields)
		var at, last feature.Version
		b := feature.NewBatch(fields, scanRows)
		got, read := uint64(0), uint64(0) // rows of the answer, and those that were no repetition
		query := fmt.Sprintf("SELECT %s FROM %s WHERE %s ORDER BY %s SETTINGS optimize_read_in_order = 1",
			strings.Join(append([]string{names([]tableColumn{{name: colEventTime}, {name: colIngestedAt}, {name: colMajor}, {name: colMinor}})}, row.columns("")...), ", "),
			s.viewTable(r.View), where, strings.Join(orderBy(r.View), ", "))
		err := s.client.each(ctx, query, append([]any{&at.EventTime, &at.IngestedAt, &at.Major, &at.Minor}, row.dests()...), func() error {
			// A refresh that was tried again left a row twice. No two rows of a source have one version.
			if got++; read > 0 && at == last {
				return nil
			}
			read++
			last = at
			for i, c := range b.Columns {
				row.appendTo(c, i, false)
			}
			b.Versions = append(b.Versions, at)
			if b.Rows++; b.Rows < scanRows {
				return nil
			}
			if !yield(b, nil) {
				return errStopped
			}
			b.Reset()
			return nil
		})
		if err == nil {
			err = s.whole(ctx, r, where, got, read)
		}
		switch {
		case errors.Is(err, errStopped):
		case err != nil:
			yield(nil, err)
		case b.Rows > 0:
			yield(b, nil)
		}
	}
}

// whole counts the rows that events should have given: an answer that is cut off looks like a short one. Where a
// refresh left rows twice a merge may have removed them meanwhile, and those that differ are counted.
func (s *Store) whole(ctx context.Context, r *joinRole, where string, got, read uint64) error {
	var n uint64
	count := "SELECT count() FROM " + s.viewTable(r.View)
	if _, err := s.client.one(ctx, count+" WHERE "+where, &n); err != nil || n == got {
		return err
	}
	if _, err := s.client.one(ctx, count+" FINAL WHERE "+where, &n); err != nil || n == read {
		return err
	}
	return fmt.Errorf("%w: %s: table %s gave %d events of %d", offline.ErrUnavailable, s.client.addr, s.viewTable(r.View), read, n)
}

// empty puts the values of empty windows everywhere.
func (r *results) empty(values []feature.Value) {
	for i := range r.columns {
		for at := range r.columns[i].state {
			r.columns[i].put(at, values[i])
		}
	}
}

// put puts values into a row.
func (r *results) put(at int, values []feature.Value) {
	for i := range r.columns {
		r.columns[i].put(at, values[i])
	}
}

func (c *resultColumn) put(at int, v feature.Value) {
	switch {
	case v.IsInvalid():
		c.state[at] = cellInvalid
	case v.IsNull():
		c.state[at] = cellNull
	case c.nums != nil:
		c.state[at], c.nums[at] = cellValue, v.Bits()
	default:
		c.state[at], c.values[at] = cellValue, v
	}
}
