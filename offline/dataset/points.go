package dataset

import (
	"context"
	"fmt"
	"iter"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// Points are rows to enrich that are in memory: what a training dataset has for them, with the
// statuses that a lookup has.
type Points struct {
	Selection *selection.Selection
	// Rows have the selection's keys and request fields and the column of the instant.
	Rows      *feature.Batch
	Timestamp string // the column of the instant; "" for DefaultTimestamp
	KnownAt   *int64 // hides rows that became known later, in microseconds; nil hides none
}

// Found is what was found for Points. It belongs to the caller.
type Found struct {
	// Columns and Statuses have one entry for each output of the selection.
	Columns  []*feature.Column
	Statuses [][]feature.Status
	// Roles have the statuses and the versions of the rows that each role of the selection found.
	Roles []FoundRole
}

// FoundRole is what one role found for each row.
type FoundRole struct {
	Found    []feature.Status  // as offline.JoinedRole has them
	Versions []feature.Version // zero where NotFound
}

// Find joins points with the derived tables as they are: the caller brings them up to date.
func Find(ctx context.Context, store offline.Store, p Points) (*Found, error) {
	run := &Run{b: &Builder{Store: store}, r: Request{Selection: p.Selection, Timestamp: p.Timestamp, KnownAt: p.KnownAt}}
	if run.r.Timestamp == "" {
		run.r.Timestamp = DefaultTimestamp
	}
	found := &Found{Statuses: make([][]feature.Status, len(p.Selection.Outputs)), Roles: make([]FoundRole, len(p.Selection.Roles))}
	for _, o := range p.Selection.Outputs {
		found.Columns = append(found.Columns, feature.NewColumn(o.Name, o.Type, p.Rows.Rows))
	}
	if p.Rows.Rows == 0 {
		return found, nil
	}
	rows := 0
	for j, err := range run.joinedRows(ctx, p.Rows) {
		if err != nil {
			return nil, err
		}
		steps := run.steps(j)
		for i, o := range p.Selection.Outputs {
			c := run.column(j, steps, o.From, o.Type)
			for row := range j.Spine.Rows {
				found.Columns[i].AppendRow(c, row)
				found.Statuses[i] = append(found.Statuses[i], status(j, o.From, c, row))
			}
		}
		for i, role := range j.Roles {
			found.Roles[i].Found = append(found.Roles[i].Found, role.Found...)
			found.Roles[i].Versions = append(found.Roles[i].Versions, role.Versions...)
		}
		rows += j.Spine.Rows
	}
	if rows != p.Rows.Rows {
		return nil, fmt.Errorf("%w: %d of %d", errRows, rows, p.Rows.Rows)
	}
	return found, nil
}

// joinedRows are rows with what the roles found for them.
func (run *Run) joinedRows(ctx context.Context, rows *feature.Batch) iter.Seq2[*offline.Joined, error] {
	if len(run.r.Selection.Roles) == 0 {
		return func(yield func(*offline.Joined, error) bool) { yield(&offline.Joined{Spine: rows}, nil) }
	}
	req := run.request(func(yield func(*feature.Batch, error) bool) { yield(rows, nil) })
	req.Progress = nil
	return run.b.Store.Join(ctx, req)
}

// status is why a column of the selection has the value it has in a joined row.
func status(j *offline.Joined, from selection.Column, c *feature.Column, row int) feature.Status {
	if from.Absent() {
		return feature.NotFound
	}
	if from.Role >= 0 {
		if found := j.Roles[from.Role].Found[row]; found != feature.Present {
			return found
		}
	}
	return feature.StatusOf(c.Value(row))
}
