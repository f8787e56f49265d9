package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/forebay/forebay/registry/feature"
)

// textTable is a text file whose columns were given types.
type textTable struct {
	file    File
	columns []textColumn
	count   int64
	// start begins to read the file's rows.
	start func(in io.Reader) (rowReader, error)
}

// textColumn is a column of a text file.
type textColumn struct {
	feature.Field
	json bool // of type string, and holds JSON
}

// rowReader reads rows of a textTable.
type rowReader interface {
	// next reads a row; io.EOF after the last.
	next() error
	// value is column i of that row, as a value of its type, valid until the next row.
	value(i int) (feature.Value, error)
}

func (c textColumn) arrowField() arrow.Field {
	f := ArrowField(c.Field)
	if c.json {
		f.Metadata = annotated("JSON")
	}
	return f
}

func (t *textTable) names() []string {
	ns := make([]string, len(t.columns))
	for i, c := range t.columns {
		ns[i] = c.Name
	}
	return ns
}

func (t *textTable) rows() int64 { return t.count }

func (t *textTable) close() error { return nil }

func (t *textTable) index(name string) int {
	for i, c := range t.columns {
		if c.Name == name {
			return i
		}
	}
	return -1
}

func (t *textTable) field(path []string) (arrow.Field, bool, error) {
	i := t.index(path[0])
	if len(path) != 1 || i < 0 {
		return arrow.Field{}, false, nil
	}
	return t.columns[i].arrowField(), true, nil
}

func (t *textTable) records(ctx context.Context, paths [][]string) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		var at []int
		var fields []feature.Field
		var arrowFields []arrow.Field
		for _, p := range paths {
			i := t.index(p[0])
			if i < 0 {
				yield(nil, missing(t.file, p[0], t.names()))
				return
			}
			at = append(at, i)
			fields, arrowFields = append(fields, t.columns[i].Field), append(arrowFields, t.columns[i].arrowField())
		}
		schema := arrow.NewSchema(arrowFields, nil)
		in, _, err := t.file.open()
		if err != nil {
			yield(nil, err)
			return
		}
		defer func() { _ = in.Close() }() // it was read only
		r, err := t.start(in)
		if err != nil {
			yield(nil, err)
			return
		}
		batch := feature.NewBatch(fields, runRows)
		for done, more := int64(0), true; more; {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			more, err = t.run(r, batch, at, done)
			if err != nil {
				yield(nil, err)
				return
			}
			done += int64(batch.Rows)
			if batch.Rows == 0 {
				continue
			}
			cols := make([]arrow.Array, len(batch.Columns))
			for i, c := range batch.Columns {
				cols[i] = Array(c)
			}
			if !yield(array.NewRecord(schema, cols, int64(batch.Rows)), nil) {
				return
			}
		}
	}
}

// run fills the batch with the next rows; false once there are no more.
func (t *textTable) run(r rowReader, batch *feature.Batch, at []int, done int64) (more bool, err error) {
	batch.Reset()
	for size := 0; batch.Rows < runRows && size < runBytes; {
		err := r.next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("%s: row %d: %w", t.file.Name, done+int64(batch.Rows), err)
		}
		for i, c := range batch.Columns {
			v, err := r.value(at[i])
			if err != nil {
				return false, fmt.Errorf("%s: row %d, column %q: %w", t.file.Name, done+int64(batch.Rows), c.Name, err)
			}
			c.Append(v)
		}
		batch.Rows++
		size += textSize(batch)
	}
	return true, nil
}

// openCSVTable opens a CSV spine.
func openCSVTable(f File, want []Want) (table, error) {
	in, _, err := f.open()
	if err != nil {
		return nil, err
	}
	_, names, err := csvHeader(f, in)
	if err = errors.Join(err, in.Close()); err != nil {
		return nil, err
	}
	t := &textTable{file: f, count: -1}
	for _, n := range names {
		c := textColumn{Field: feature.Field{Name: n, Type: feature.TypeString}}
		for _, w := range want {
			if w.Name == n {
				c.Type = w.Type
			}
		}
		t.columns = append(t.columns, c)
	}
	t.start = func(in io.Reader) (rowReader, error) {
		s, _, err := csvHeader(f, in)
		return &csvRows{s: s, columns: t.columns}, err
	}
	return t, nil
}

type csvRows struct {
	s       *csvScanner
	columns []textColumn
}

func (r *csvRows) next() error {
	if err := r.s.next(); err != nil {
		return err
	}
	if len(r.s.fields) != len(r.columns) {
		return fmt.Errorf("%d fields where the header has %d", len(r.s.fields), len(r.columns))
	}
	return nil
}

func (r *csvRows) value(i int) (feature.Value, error) {
	return csvValue(r.columns[i].Type, "", r.s.field(i), r.s.fields[i].quoted)
}
