package files

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/forebay/forebay/registry/feature"
)

// Want is a column that a training request needs of its spine.
type Want struct {
	feature.Field
	Use string // what for, for errors: "entity key", "instant", "request field"
}

// Spine is an opened file of the rows to enrich. It can be read more than once, also
// at the same time.
type Spine struct {
	file   File
	want   []Want
	table  table
	schema *arrow.Schema
	paths  [][]string // of the wanted columns
}

// OpenSpine opens a spine. It fails with a *SchemaError if a wanted column is missing
// or has a type that cannot be read as the wanted one, if two columns share a
// name, or if a column has a type that cannot pass through. Errors of the file's content,
// here and while it is read, are ErrContent.
//
// Columns of Parquet and Arrow files keep their types. In CSV and NDJSON the wanted
// columns have the wanted types. CSV's other columns are strings; NDJSON's are bool, int64,
// float64 or string if all rows agree, else they keep the JSON as it is.
func OpenSpine(ctx context.Context, f File, want []Want) (*Spine, error) {
	s := &Spine{file: f, want: want}
	var err error
	switch f.Format {
	case CSV:
		s.table, err = openCSVTable(f, want)
	case NDJSON:
		s.table, err = openNDJSONTable(ctx, f, want)
	default:
		s.table, err = openTable(f)
	}
	if err != nil {
		return nil, ofContent(ctx, err)
	}
	if err := s.check(); err != nil {
		return nil, ofContent(ctx, errors.Join(err, s.table.close()))
	}
	return s, nil
}

func (s *Spine) check() error {
	names := s.table.names()
	if err := duplicate(s.file, names); err != nil {
		return err
	}
	var errs []error
	var fields []arrow.Field
	byName := map[string]arrow.Field{}
	for _, n := range names {
		f, _, err := s.table.field([]string{n})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fields = append(fields, f)
		byName[n] = f
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	s.schema = arrow.NewSchema(fields, nil)
	var missing []string
	for _, w := range s.want {
		f, ok := byName[w.Name]
		if !ok {
			missing = append(missing, fmt.Sprintf("%s (%s, %s)", w.Name, w.Use, w.Type))
			continue
		}
		if err := convertible(f.Type, w.Type, true); err != nil {
			errs = append(errs, &SchemaError{File: s.file.Name, Column: w.Name, Msg: err.Error() + " (" + w.Use + ")"})
		}
		s.paths = append(s.paths, []string{w.Name})
	}
	if len(missing) > 0 {
		errs = append([]error{&SchemaError{File: s.file.Name, Msg: "the spine lacks " + strings.Join(missing, ", ") + "; it has " + strings.Join(names, ", ")}}, errs...)
	}
	return errors.Join(errs...)
}

// Schema is that of Records: every column of the file, in its order.
func (s *Spine) Schema() *arrow.Schema { return s.schema }

// Total is the number of rows; -1 if only reading tells.
func (s *Spine) Total() int64 { return s.table.rows() }

// Close closes the file.
func (s *Spine) Close() error { return s.table.close() }

// Wanted yields the wanted columns of every row, in order, in the wanted types. A value
// that cannot be read so is an error: no row of a spine is left out. A batch is
// valid until the next is asked for.
func (s *Spine) Wanted(ctx context.Context) iter.Seq2[*feature.Batch, error] {
	return func(yield func(*feature.Batch, error) bool) {
		fields := make([]feature.Field, len(s.want))
		for i, w := range s.want {
			fields[i] = w.Field
		}
		b := feature.NewBatch(fields, runRows)
		var at int64
		for rec, err := range s.table.records(ctx, s.paths) {
			if err == nil {
				err = s.convert(rec, b, at)
			}
			if err != nil {
				yield(nil, ofContent(ctx, err))
				return
			}
			at += rec.NumRows()
			if !yield(b, nil) {
				return
			}
		}
	}
}

func (s *Spine) convert(rec arrow.Record, b *feature.Batch, at int64) (err error) {
	b.Reset()
	b.Rows = int(rec.NumRows())
	for j, c := range b.Columns {
		appendArray(c, rec.Column(j), func(i int, msg string) {
			if err == nil {
				err = fmt.Errorf("%s: row %d, column %q (%s): %s", s.file.Name, at+int64(i), c.Name, s.want[j].Use, msg)
			}
		})
	}
	return err
}

// Records yields every column of every row, in order, as the file has them. A
// record is the receiver's.
func (s *Spine) Records(ctx context.Context) iter.Seq2[arrow.Record, error] {
	var paths [][]string
	for _, n := range s.table.names() {
		paths = append(paths, []string{n})
	}
	return func(yield func(arrow.Record, error) bool) {
		for rec, err := range s.table.records(ctx, paths) {
			if !yield(rec, ofContent(ctx, err)) {
				return
			}
		}
	}
}
