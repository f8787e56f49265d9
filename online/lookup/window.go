package lookup

import (
	"errors"
	"fmt"

	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// windowed is how the records of a windowed view are read.
type windowed struct {
	codec  *rowcodec.WindowCodec
	reader *window.Reader
	fields []feature.Field // of the chosen features
	empty  []feature.Value // what they are for an entity without events
}

func newWindowed(v registry.ViewGeneration, features []int) (*windowed, error) {
	plan, err := window.ForView(v.View)
	if err != nil {
		return nil, fmt.Errorf("plan a lookup of %s: %w", v, err)
	}
	w := &windowed{codec: rowcodec.ForWindows(v), reader: plan.Reader(features)}
	for _, f := range features {
		w.fields = append(w.fields, v.View.Features[f].Field)
	}
	w.empty, _, _, err = w.reader.Values(nil, 0, &window.Merger{}, nil)
	return w, err
}

func (w *windowed) columns() []*feature.Column {
	cols := make([]*feature.Column, len(w.fields))
	for i, f := range w.fields {
		cols[i] = feature.NewColumn(f.Name, f.Type, 1)
	}
	return cols
}

// decodeWindows fills in what a role of a windowed view found: the windows of each
// record at now, or at the record's newest event where that is later.
func (r *Result) decodeWindows(plan *role, role *roleResult, now int64) {
	for row, ref := range role.refs {
		role.found[row], role.times[row] = feature.NotFound, NoTime
		values := plan.windows.empty
		if ref >= 0 && r.records[ref] != nil {
			_, _, state, err := plan.windows.codec.Decode(r.records[ref])
			var newest int64
			var found bool
			if err == nil {
				r.values, newest, found, err = plan.windows.reader.Values(state, now, &role.merger, r.values[:0])
				err = damaged(err)
			}
			if err != nil {
				r.corrupt(int(ref), plan, err)
				role.found[row] = feature.StatusInvalid
				for _, c := range role.columns {
					c.AppendInvalid()
				}
				continue
			}
			values = r.values
			if found {
				role.found[row], role.times[row] = feature.Present, newest
				r.Instant = max(r.Instant, newest)
			}
		}
		for i, c := range role.columns {
			c.Append(values[i])
		}
	}
}

// damaged says of a state that cannot be read what rowcodec says of a record.
func damaged(err error) error {
	if errors.Is(err, window.ErrCorrupt) {
		return fmt.Errorf("%w: %w", rowcodec.ErrCorrupt, err)
	}
	return err
}
