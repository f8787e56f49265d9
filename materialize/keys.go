package materialize

import (
	"fmt"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
)

// keyColumns are the columns of a source that are a view's entity key. Rows that the view's filter selects
// and that have none are dead letters. They are rare, so each row with a null is put to the filter by itself.
type keyColumns struct {
	view          string
	program       *expr.View
	src           *registry.Source
	columns       []int
	one, selected *feature.Batch
}

func newKeyColumns(v *compiledView, src *registry.Source) *keyColumns {
	k := &keyColumns{view: v.String(), program: v.program, src: src, one: feature.NewBatch(src.Fields(), 1), selected: feature.NewBatch(v.program.Fields(), 0)}
	for _, f := range v.JoinKeys() {
		k.columns = append(k.columns, src.Column(f.Name))
	}
	return k
}

// refused are dead letters of the rows that the view refuses; position says where a row was in the
// topic, and whether it is to be looked at.
func (k *keyColumns) refused(rows *feature.Batch, position func(row int) (partition int32, offset int64, look bool)) []Bad {
	var bad []Bad
	for i := range rows.Rows {
		column := k.null(rows, i)
		if column < 0 {
			continue
		}
		p, offset, look := position(i)
		if !look {
			continue
		}
		k.one.Reset()
		k.one.AppendRow(rows, i)
		k.selected.Reset()
		if k.program.Apply(k.one, k.selected).NullKeys > 0 {
			bad = append(bad, Bad{Partition: p, Offset: offset, Reason: ReasonNullKey, View: k.view, Message: fmt.Sprintf("join key %s is null", k.src.Columns[column].Name)})
		}
	}
	return bad
}

// null is the first of the columns that is null in a row; -1 if none is.
func (k *keyColumns) null(rows *feature.Batch, row int) int {
	for _, c := range k.columns {
		if rows.Columns[c].IsNull(row) {
			return c
		}
	}
	return -1
}
