package httpapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
)

// feastFrame is a data frame: columns of values as they are written, nil where there is none.
type feastFrame struct {
	names   []string
	columns [][][]byte
	rows    int
}

// newFeastFrame makes a frame of what pandas takes for one: columns that are lists, or
// objects by the row's label, and among them single values, which all rows have.
func newFeastFrame(members []feastMember, limit int) (*feastFrame, error) {
	f := &feastFrame{}
	labels := map[string]int{} // of rows
	lists, objects := false, false
	for _, m := range members {
		switch m.value[0] {
		case '[':
			elements, _ := feastList(m.value)
			if lists && len(elements) != f.rows {
				return nil, feastBad("All arrays must be of the same length")
			}
			lists, f.rows = true, len(elements)
		case '{':
			cells, _, err := feastMembers(m.value)
			if err != nil {
				return nil, err
			}
			objects = true
			for _, cell := range cells {
				if _, ok := labels[cell.name]; !ok {
					labels[cell.name] = len(labels)
				}
			}
		}
	}
	switch {
	case lists && objects:
		return nil, feastBad("df: mixing dicts with lists may lead to ambiguous ordering")
	case objects:
		f.rows = len(labels)
	case !lists && len(members) > 0:
		return nil, feastBad("df: if all columns are single values, the number of rows is not known: give lists of values")
	}
	if f.rows > limit {
		return nil, feastBad(fmt.Sprintf("df: more than %d rows in one push", limit))
	}
	for _, m := range members {
		column := make([][]byte, f.rows)
		switch m.value[0] {
		case '[':
			column, _ = feastList(m.value)
		case '{':
			cells, _, err := feastMembers(m.value)
			if err != nil {
				return nil, err
			}
			for _, cell := range cells {
				column[labels[cell.name]] = cell.value
			}
		default:
			for i := range column {
				column[i] = m.value
			}
		}
		f.names, f.columns = append(f.names, m.name), append(f.columns, column)
	}
	return f, nil
}

// complete makes sure that the frame has every column that a feature view reads: one that
// was left out, or misspelt, would make live values null.
func (f *feastFrame) complete(p *registry.Project, src *registry.Source) error {
	for i := range p.Views {
		v := &p.Views[i]
		if v.Source != src.Name || f.rows == 0 {
			continue
		}
		program, err := expr.CompileView(p, v)
		if err != nil {
			return err
		}
		for _, column := range program.Columns() {
			name := src.Columns[column].Outside()
			root, _, _ := strings.Cut(name, ".")
			if !slices.Contains(f.names, name) && !slices.Contains(f.names, root) {
				return feastBad(fmt.Sprintf("df: the column '%s', which the feature view %s reads, is missing, so nothing was written", name, v.Name))
			}
		}
	}
	return nil
}

// objects turns the frame into rows as JSON objects.
func (f *feastFrame) objects(src *registry.Source) [][]byte {
	types := map[string]feature.Type{}
	for _, c := range src.Columns {
		types[c.Outside()] = c.Type
	}
	rows := make([][]byte, f.rows)
	for i := range rows {
		row := []byte{'{'}
		for j, name := range f.names {
			if j > 0 {
				row = append(row, ',')
			}
			row = append(feature.AppendStringJSON(row, name), ':')
			row = appendFrameValue(row, f.columns[j][i], types[name])
		}
		rows[i] = append(row, '}')
	}
	return rows
}

// appendFrameValue appends a value as the column's type wants it. A data frame is lax where
// our rows are not: whole numbers beside a missing one are floats there, and numbers in a
// column of text, or text in one of whole numbers, are converted. What cannot be stays as it
// is, to be refused with all other mistakes in the rows.
func appendFrameValue(dst, raw []byte, t feature.Type) []byte {
	if raw == nil || missing(raw) {
		return append(dst, "null"...)
	}
	if t.Kind == feature.Int64 || t.Kind == feature.String {
		c := feature.Column{Type: t}
		s, err := feastScanner(slices.Clone(raw)) // which is unescaped in place
		if err == nil {
			err = appendFeastKey(&s, &c)
		}
		if err == nil {
			return c.Value(0).AppendJSON(dst)
		}
	}
	return appendPlain(dst, raw)
}
