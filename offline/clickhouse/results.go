package clickhouse

import (
	"context"
	"fmt"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// results is what one role found for a chunk of the spine, by row of the chunk: the server's
// answer is in no order.
type results struct {
	found    []feature.Status
	versions []feature.Version // nil where nobody looks at them
	columns  []resultColumn
}

// What a cell of a resultColumn is.
const (
	cellNull    = iota
	cellValue   //
	cellInvalid // null because it could not be computed
)

type resultColumn struct {
	field  feature.Field
	state  []uint8
	nums   []uint64        // of a fixed kind
	values []feature.Value // of others
}

func newResults(fields []feature.Field, n int, versions bool) *results {
	r := &results{found: make([]feature.Status, n)}
	if versions {
		r.versions = make([]feature.Version, n)
	}
	for i := range r.found {
		r.found[i] = feature.NotFound
	}
	for _, f := range fields {
		c := resultColumn{field: f, state: make([]uint8, n)}
		if f.Type.Kind.Fixed() {
			c.nums = make([]uint64, n)
		} else {
			c.values = make([]feature.Value, n)
		}
		r.columns = append(r.columns, c)
	}
	return r
}

// set takes field i of what was read for a row.
func (r *results) set(at, i int, row *rowReader, bad bool) {
	c := &r.columns[i]
	switch {
	case bad:
		c.state[at] = cellInvalid
		return
	case row.null(i):
		return
	}
	v := row.cells[i].value()
	if v.IsNull() {
		return
	}
	c.state[at] = cellValue
	if c.nums != nil {
		c.nums[at] = v.Bits()
	} else {
		c.values[at] = v
	}
}

// appendTo appends rows [from, to) to a column.
func (c *resultColumn) appendTo(dst *feature.Column, from, to int) {
	for i := from; i < to; i++ {
		switch {
		case c.state[i] == cellNull:
			dst.AppendNull()
		case c.state[i] == cellInvalid:
			dst.AppendInvalid()
		case c.nums != nil:
			dst.AppendBits(c.nums[i])
		default:
			dst.Append(c.values[i])
		}
	}
}

// hand yields the chunk, in order, with what was found.
func (j *joiner) hand() error {
	out := &offline.Joined{Spine: feature.NewBatch(j.spine.Fields(), emitRows), Roles: make([]offline.JoinedRole, len(j.roles))}
	for i, r := range j.roles {
		for _, f := range r.fields {
			out.Roles[i].Features = append(out.Roles[i].Features, feature.NewColumn(f.Name, f.Type, emitRows))
		}
	}
	for from := 0; from < j.spine.Rows; from += emitRows {
		to := min(from+emitRows, j.spine.Rows)
		out.Spine.Reset()
		for i := from; i < to; i++ {
			out.Spine.AppendRow(j.spine, i)
		}
		for i, r := range j.roles {
			o := &out.Roles[i]
			if o.Found = r.results.found[from:to]; r.results.versions != nil {
				o.Versions = r.results.versions[from:to]
			}
			for k := range r.results.columns {
				o.Features[k].Reset()
				r.results.columns[k].appendTo(o.Features[k], from, to)
			}
		}
		if !j.yield(out, nil) {
			return errStopped
		}
		j.done += int64(to - from)
		if j.r.Progress != nil {
			j.r.Progress(j.done, 0)
		}
	}
	for _, r := range j.roles {
		r.results = nil
	}
	return nil
}

// refreshedTo is the state of a derived table that a snapshot names: every earlier one can be read, for
// rows are only added, and carry the number of their append.
func (s *Store) refreshedTo(ctx context.Context, v registry.ViewGeneration, newest *refreshed, snapshot string) (*refreshed, error) {
	gone := fmt.Errorf("%w: snapshot %s of %s (table %s)", offline.ErrSnapshotGone, snapshot, v, s.viewTable(v))
	if newest == nil {
		return nil, gone
	}
	n, ok := numberOf(newest.log, snapshot)
	if !ok || n > newest.number {
		return nil, gone
	}
	r, err := s.refreshedAt(ctx, v, &n)
	if err != nil {
		return nil, err
	}
	if r == nil || r.number != n {
		return nil, gone
	}
	return r, nil
}
