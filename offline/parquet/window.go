package parquet

import (
	"context"
	"errors"

	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/pit"
	"github.com/forebay/forebay/registry/feature"
)

// windowRole is how a role of a windowed view is computed.
type windowRole struct {
	plan     *window.Plan
	features []int           // outputs of the plan
	empty    []feature.Value // of windows without events
	perRow   int64           // about how many bytes the lists and texts of a spine row take
}

func newWindowRole(role offline.Role) (*windowRole, error) {
	plan, err := window.ForView(role.View.View)
	if err != nil {
		return nil, err
	}
	w := &windowRole{plan: plan, features: role.Features}
	w.empty, _ = plan.Sweep(role.Features).Values(0, nil)
	var lengths []int64 // of the lists, and of the keys of a text, by feature
	for _, a := range role.View.View.Aggregations {
		n := int64(a.N)
		if a.By != "" {
			n = min(max(n, 16), 64) // what a text of keys is likely to have
		} else if a.Function == "distinct_count" || a.Function == "approx_percentile" {
			n = 0
		}
		for range a.Windows {
			lengths = append(lengths, n)
		}
	}
	for _, f := range role.Features {
		w.perRow += 40 * lengths[f]
	}
	return w, nil
}

// eventFile reads the inputs of windows from a sorted file.
type eventFile struct {
	*sortedFile
	rows    window.Rows
	ordered bool
}

var _ pit.EventCursor = (*eventFile)(nil)

// Load implements pit.EventCursor. An input that could not be computed is a null as any other.
func (f *eventFile) Load() (window.Rows, error) {
	for i, cr := range f.featRead {
		if err := fill(cr, f.featCols[i], f.start, f.n); err != nil {
			return window.Rows{}, err
		}
	}
	if f.ordered {
		if err := f.loadVersions(); err != nil {
			return window.Rows{}, err
		}
		f.rows.Ingested, f.rows.Major, f.rows.Minor = f.verCols[1].Int64s(), f.verCols[2].Int64s(), f.verCols[3].Int64s()
	}
	return f.rows, nil
}

// windows computes windows for the part of the spine that lies in a bucket, from its files side by side.
func (m *bucketJoin) windows(ctx context.Context, j *joiner, files []dataFile, spine pit.Spine) (err error) {
	if len(files) == 0 {
		return nil
	}
	w := m.r.windows
	sweep := w.plan.Sweep(w.features)
	var runs []pit.EventCursor
	defer func() {
		for _, r := range runs {
			err = errors.Join(err, r.(*eventFile).Close())
		}
	}()
	for _, df := range files {
		f, err := j.s.openSorted(ctx, m.r.table.l, sweep.Inputs(), df.FilePath(), df.FileSizeBytes(), df.Count(), j.knownAt != pit.NoKnownAt)
		if err != nil {
			return err
		}
		e := &eventFile{sortedFile: f, ordered: sweep.Ordered()}
		e.rows.Columns = make([]*feature.Column, len(m.r.View.View.Inputs))
		for i, in := range sweep.Inputs() {
			e.rows.Columns[in] = f.featCols[i]
		}
		runs = append(runs, e)
	}
	res := m.res
	return pit.Windows(spine, runs, j.knownAt, sweep, func(s int, values []feature.Value, found bool) error {
		row := int(m.rows[s])
		if found {
			res.found.Offer(row, feature.Version{}) // there is no one row that was found
			res.set(row, values)
		}
		return nil
	})
}

// empty puts the values of empty windows everywhere.
func (r *results) empty(values []feature.Value) {
	for i, c := range r.columns {
		if values[i].IsNull() {
			continue
		}
		for row := range len(r.state) / len(r.columns) {
			r.put(row, c, values[i])
		}
	}
}

// set puts values, which are kept, into a row.
func (r *results) set(row int, values []feature.Value) {
	for i, c := range r.columns {
		r.put(row, c, values[i])
	}
}
