package dataset

import (
	"context"
	"math"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// windowOf is one feature of a windowed view.
type windowOf struct {
	read              *WindowRead
	after             int64
	column, where, by int // of the view's inputs; -1 for none
}

// takes reports whether the aggregation takes a row of the inputs that the view's filter selects.
func (w *windowOf) takes(inputs []*feature.Column, row int) bool {
	if w.where >= 0 && (inputs[w.where].IsNull(row) || inputs[w.where].Nums[row] == 0) || w.by >= 0 && inputs[w.by].IsNull(row) {
		return false
	}
	if w.column < 0 {
		return true
	}
	v := inputs[w.column].Value(row)
	return !v.IsNull() && !(v.Kind() == feature.Float64 && math.IsNaN(v.Float64()))
}

// windows counts, for each feature that is read of a windowed view, the events in its window:
// (floor(T - length, hop), T], as DESIGN has it.
func (s *search) windows(ctx context.Context, log offline.LogReader, o offline.LogOptions) error {
	ws := s.windowsOf(s.role.View.View)
	from := int64(math.MaxInt64)
	for _, w := range ws {
		from = min(from, w.after)
	}
	if from > feature.MinTimestamp {
		o.From = &from
	}
	for rows, err := range log.ReadLog(ctx, s.role.View.Source(), o) {
		if err != nil {
			return err
		}
		s.windowRows(rows, ws)
	}
	return nil
}

// windowsOf are the windows of the features that are read.
func (s *search) windowsOf(v *registry.FeatureView) []windowOf {
	var all []windowOf
	for _, a := range v.Aggregations {
		for _, w := range a.Windows {
			one := windowOf{after: math.MinInt64, column: v.Input(a.Column), where: v.Input(a.Where), by: v.Input(a.By)}
			if length := w.Length(); length != feature.Lifetime {
				hop := int64(v.Hop(length))
				one.after = feature.FloorDiv(s.at-int64(length), hop) * hop
			}
			all = append(all, one)
		}
	}
	s.read.Windows = make([]WindowRead, len(s.role.Features))
	ws := make([]windowOf, len(s.role.Features))
	for i, f := range s.role.Features {
		ws[i] = all[f] // features are named in this order
		ws[i].read = &s.read.Windows[i]
		*ws[i].read = WindowRead{Feature: v.Features[f].Name, Through: feature.FormatTimestamp(s.at)}
		if ws[i].after != math.MinInt64 {
			ws[i].read.After = feature.FormatTimestamp(ws[i].after)
		}
	}
	return ws
}

// windowRows counts the entity's events of a run of the log.
func (s *search) windowRows(rows *offline.LogRows, ws []windowOf) {
	var mine []int
	for i := range rows.Rows {
		if s.mine(rows, i) {
			mine = append(mine, i)
		}
	}
	if len(mine) == 0 {
		return
	}
	s.out.Reset()
	s.view.Apply(rows.Batch, s.out)
	made := make(map[feature.Version]int, len(s.out.Versions))
	for i, v := range s.out.Versions {
		made[v] = i
	}
	inputs := s.out.Columns[len(s.keys):]
	for _, i := range mine {
		v := rows.Versions[i]
		row, selected := made[v]
		why := s.reasons(v, selected, rows.Later)
		for _, w := range ws {
			if v.EventTime <= w.after {
				continue
			}
			if why[0] != Unexplained {
				if v.EventTime <= s.at { // later events are in no window of this row
					if w.read.Unused == nil {
						w.read.Unused = map[string]int64{}
					}
					w.read.Unused[why[0]]++
				}
				continue
			}
			w.read.Events++
			if w.takes(inputs, row) {
				w.read.Counted++
			}
		}
	}
}
