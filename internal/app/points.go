package app

import (
	"fmt"
	"slices"

	"github.com/forebay/forebay/offline/dataset"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// pointsOf are the rows of a lookup as points of a join, at an instant each.
func pointsOf(sel *selection.Selection, keys, request []*feature.Column, instants []int64) (dataset.Points, error) {
	p := dataset.Points{Selection: sel, Timestamp: dataset.DefaultTimestamp}
	columns := slices.Concat(sel.Keys, sel.Request)
	for slices.ContainsFunc(columns, func(f feature.Field) bool { return f.Name == p.Timestamp }) {
		p.Timestamp += "_"
	}
	at := feature.NewColumn(p.Timestamp, feature.TypeTimestamp, len(instants))
	for _, t := range instants {
		at.Append(feature.OfTimestamp(t))
	}
	p.Rows = &feature.Batch{Columns: []*feature.Column{at}, Rows: len(instants)}
	for i, given := range slices.Concat(keys, request) {
		if given.Len != len(instants) {
			return p, fmt.Errorf("column %q has %d rows, want %d", columns[i].Name, given.Len, len(instants))
		}
		if p.Rows.Column(columns[i].Name) != nil {
			continue // a key that is a request field too
		}
		c := *given
		c.Name = columns[i].Name
		p.Rows.Columns = append(p.Rows.Columns, &c)
	}
	return p, nil
}
