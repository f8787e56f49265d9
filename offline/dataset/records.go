package dataset

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

var errRows = errors.New("the join did not return one row for each row of the spine")

// Records yields the dataset's rows, in the spine's order, once. A record is the receiver's.
func (run *Run) Records(ctx context.Context) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		// The file is read a second time, in step with what the join returns.
		next, stop := iter.Pull2(run.spine.Records(ctx))
		defer stop()
		var rec arrow.Record // of the file's rows, those that were not yielded yet
		for j, err := range run.joined(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			outputs := run.outputs(j)
			for at, n := int64(0), int64(j.Spine.Rows); at < n; {
				if rec == nil || rec.NumRows() == 0 {
					var ok bool
					if rec, err, ok = next(); !ok {
						err = errRows
					}
					if err != nil {
						yield(nil, err)
						return
					}
					continue
				}
				take := min(n-at, rec.NumRows())
				out := run.record(rec.NewSlice(0, take), outputs, at)
				rec, at = rec.NewSlice(take, rec.NumRows()), at+take
				run.hash.add(out)
				if !yield(out, nil) {
					return
				}
			}
		}
		for rec == nil || rec.NumRows() == 0 {
			var err error
			var ok bool
			if rec, err, ok = next(); !ok {
				run.done = true
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
		yield(nil, fmt.Errorf("%w: it ended after %d", errRows, run.hash.rows))
	}
}

// record puts outputs, from row at on, beside rows of the spine.
func (run *Run) record(spine arrow.Record, outputs []arrow.Array, at int64) arrow.Record {
	cols := append([]arrow.Array(nil), spine.Columns()...)
	for _, o := range outputs {
		cols = append(cols, array.NewSlice(o, at, at+spine.NumRows()))
	}
	return array.NewRecord(run.schema, cols, spine.NumRows())
}

// outputs computes the output columns of joined rows.
func (run *Run) outputs(j *offline.Joined) []arrow.Array {
	steps := run.steps(j)
	out := make([]arrow.Array, len(run.r.Selection.Outputs))
	for i, o := range run.r.Selection.Outputs {
		out[i] = files.Array(run.column(j, steps, o.From, o.Type))
	}
	return out
}

// steps computes the on-demand features of joined rows.
func (run *Run) steps(j *offline.Joined) []*feature.Column {
	sel, n := run.r.Selection, j.Spine.Rows
	steps := make([]*feature.Column, len(sel.Steps))
	for i, s := range sel.Steps {
		in := make([]*feature.Column, len(s.Inputs))
		for k, input := range s.Program.Inputs() {
			in[k] = run.column(j, steps, s.Inputs[k], input.Type)
		}
		f := s.View.Features[s.Feature]
		steps[i] = feature.NewColumn(f.Name, s.Program.Type(), n)
		s.Program.Eval(in, n, steps[i])
	}
	return steps
}

// column is what a column of the selection holds for joined rows.
func (run *Run) column(j *offline.Joined, steps []*feature.Column, from selection.Column, t feature.Type) *feature.Column {
	switch {
	case from.Role >= 0:
		return j.Roles[from.Role].Features[from.Feature]
	case from.Step >= 0:
		return steps[from.Step]
	case from.Request >= 0:
		return j.Spine.Column(run.r.Selection.Request[from.Request].Name)
	}
	absent := feature.NewColumn("", t, j.Spine.Rows)
	for range j.Spine.Rows {
		absent.AppendNull()
	}
	return absent
}
