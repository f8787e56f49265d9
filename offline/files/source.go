package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Rows is a run of rows of a source's file.
type Rows struct {
	// Batch has the good rows: the source's columns, without versions.
	Batch *feature.Batch
	// At is the position in the file of each of them, from 0; bad rows count.
	At []int64
	// Bad are the rows that were set aside.
	Bad []BadRow
}

// BadRow is a row that cannot be taken.
type BadRow struct {
	Row    int64  // its position in the file, from 0
	Field  string // the outside name of the column it is about; "" where it is about the row
	Reason string
	JSON   []byte // the row as a JSON object, or its text as a JSON string
}

func (b BadRow) String() string {
	if b.Field == "" {
		return fmt.Sprintf("row %d: %s", b.Row, b.Reason)
	}
	return fmt.Sprintf("row %d, column %q: %s", b.Row, b.Field, b.Reason)
}

// Source is an opened file of a source's rows. It is used by one goroutine.
type Source struct {
	file      File
	columns   columns
	timestamp int
	created   int // -1: none
	keys      [][]int

	table table // Parquet and Arrow…
	paths [][]string
	text  textRows // …or CSV and NDJSON
	in    *os.File
}

// columns are those wanted of a file.
type columns struct {
	fields  []feature.Field
	outside []string // their names in the file
	format  string   // of timestamps as numbers in text
}

// textRows reads a text format row by row.
type textRows interface {
	// next appends the next row to b, or says what is wrong with it. io.EOF after the last.
	next(ctx context.Context, b *feature.Batch) (*BadRow, error)
	// row is the row read last, as JSON.
	row() []byte
}

// OpenSource opens a file of rows of src. It fails with a *SchemaError if a declared
// column is not there or cannot be read as its type. (NDJSON has no schema: a
// missing member is null.)
func OpenSource(f File, src *registry.Source) (*Source, error) {
	s := &Source{file: f, timestamp: src.Column(src.Timestamp), created: -1}
	if s.timestamp < 0 {
		return nil, fmt.Errorf("source %s has no column %q, its timestamp", src.Name, src.Timestamp)
	}
	if src.Created != "" {
		s.created = src.Column(src.Created)
	}
	s.columns = columns{fields: src.Fields(), format: src.TimestampFormat}
	for _, c := range src.Columns {
		s.columns.outside = append(s.columns.outside, c.Outside())
	}
	switch f.Format {
	case CSV, NDJSON:
		in, _, err := f.open()
		if err != nil {
			return nil, err
		}
		s.in = in
		if f.Format == CSV {
			s.text, err = openCSVSource(f, in, s.columns)
		} else {
			s.text = openNDJSONSource(in, src)
		}
		if err != nil {
			return nil, errors.Join(err, in.Close())
		}
		return s, nil
	}
	t, err := openTable(f)
	if err != nil {
		return nil, err
	}
	if s.paths, err = match(f, t, s.columns, false); err != nil {
		return nil, errors.Join(err, t.close())
	}
	s.table = t
	return s, nil
}

// RequireKey makes a row bad that belongs to no entity of any view. keys are the join
// keys of each view of the source, which has them as columns; of a view without
// entities there are none, and every row is its.
func (s *Source) RequireKey(src *registry.Source, keys [][]feature.Field) {
	s.keys = nil
	for _, view := range keys {
		var columns []int
		for _, k := range view {
			columns = append(columns, src.Column(k.Name))
		}
		s.keys = append(s.keys, columns)
	}
}

// keyless is a join key that is null in a row, if every view lacks one; else -1.
func (s *Source) keyless(b *feature.Batch, i int) int {
	null := -1
	for _, view := range s.keys {
		at := slices.IndexFunc(view, func(c int) bool { return b.Columns[c].IsNull(i) })
		if at < 0 {
			return -1
		}
		null = view[at]
	}
	return null
}

// match finds the wanted columns in a table; all that is wrong is told at once.
func match(f File, t table, c columns, text bool) (paths [][]string, err error) {
	var errs []error
	for i, outside := range c.outside {
		path, field, ok, err := find(t, outside)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case !ok:
			errs = append(errs, missing(f, outside, t.names()))
			continue
		}
		if err := convertible(field.Type, c.fields[i].Type, text); err != nil {
			errs = append(errs, &SchemaError{File: f.Name, Column: outside, Msg: err.Error()})
		}
		paths = append(paths, path)
	}
	return paths, errors.Join(errs...)
}

// Total is the number of rows in the file, bad ones included; -1 if only reading tells.
func (s *Source) Total() int64 {
	if s.table != nil {
		return s.table.rows()
	}
	return -1
}

// Close closes the file.
func (s *Source) Close() error {
	if s.table != nil {
		return s.table.close()
	}
	return s.in.Close()
}

// Rows yields the file's rows, once. What it yields is valid until the next is
// asked for. After an error there is nothing more.
func (s *Source) Rows(ctx context.Context) iter.Seq2[*Rows, error] {
	if s.table != nil {
		return s.tableRows(ctx)
	}
	return s.textRows(ctx)
}

func (s *Source) textRows(ctx context.Context) iter.Seq2[*Rows, error] {
	return func(yield func(*Rows, error) bool) {
		out := &Rows{Batch: feature.NewBatch(s.columns.fields, runRows)}
		for at, more := int64(0), true; more; {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			out.Batch.Reset()
			out.At, out.Bad = out.At[:0], out.Bad[:0]
			for size := 0; out.Batch.Rows < runRows && len(out.Bad) < runRows && size < runBytes; at++ {
				bad, err := s.text.next(ctx, out.Batch)
				if errors.Is(err, io.EOF) {
					more = false
					break
				}
				if err != nil {
					yield(nil, fmt.Errorf("read %s, row %d: %w", s.file.Name, at, err))
					return
				}
				if bad == nil {
					if bad = s.incomplete(out.Batch, out.Batch.Rows-1); bad != nil {
						bad.JSON = s.text.row()
						dropLast(out.Batch)
					}
				}
				if bad != nil {
					bad.Row = at
					size += len(bad.JSON)
					out.Bad = append(out.Bad, *bad)
					continue
				}
				size += textSize(out.Batch)
				out.At = append(out.At, at)
			}
			if (out.Batch.Rows > 0 || len(out.Bad) > 0) && !yield(out, nil) {
				return
			}
		}
	}
}

// textSize is about how many bytes the newest row of a batch has.
func textSize(b *feature.Batch) (n int) {
	for _, c := range b.Columns {
		switch {
		case c.Type.Kind.Fixed():
			n += 8
		case len(c.Offsets) > 0:
			n += 4 + int(c.Offsets[c.Len]-c.Offsets[c.Len-1])
		default:
			n += 64
		}
	}
	return n
}

// incomplete says what a row lacks to be a version of its entity; nil if nothing.
func (s *Source) incomplete(b *feature.Batch, i int) *BadRow {
	if b.Columns[s.timestamp].IsNull(i) {
		return &BadRow{Field: s.columns.outside[s.timestamp], Reason: "the timestamp is missing or null"}
	}
	if s.created >= 0 && b.Columns[s.created].IsNull(i) {
		return &BadRow{Field: s.columns.outside[s.created], Reason: "the instant at which the row became known (created) is missing or null"}
	}
	if k := s.keyless(b, i); k >= 0 {
		return &BadRow{Field: s.columns.outside[k], Reason: "the join key is missing or null"}
	}
	return nil
}

// mayBeIncomplete reports whether a batch has nulls where incomplete looks for them.
func (s *Source) mayBeIncomplete(b *feature.Batch) bool {
	null := func(c int) bool { return b.Columns[c].Nulls.Count() > 0 }
	return null(s.timestamp) || (s.created >= 0 && null(s.created)) ||
		slices.ContainsFunc(s.keys, func(view []int) bool { return slices.ContainsFunc(view, null) })
}

// dropLast takes the last row out of a batch.
func dropLast(b *feature.Batch) {
	b.Rows--
	for _, c := range b.Columns {
		c.Len--
		for _, set := range []feature.Bitmap{c.Nulls, c.Bad} {
			if i := c.Len >> 6; i < len(set) {
				set[i] &^= 1 << (uint(c.Len) & 63) //nolint:gosec // a row number
			}
		}
		switch {
		case c.Type.Kind.Fixed():
			c.Nums = c.Nums[:c.Len]
		case c.Type.Kind == feature.String || c.Type.Kind == feature.Bytes:
			c.Offsets = c.Offsets[:c.Len+1]
			c.Data = c.Data[:c.Offsets[c.Len]]
		default:
			c.Values = c.Values[:c.Len]
		}
	}
}

func (s *Source) tableRows(ctx context.Context) iter.Seq2[*Rows, error] {
	return func(yield func(*Rows, error) bool) {
		out, all, good := &Rows{}, feature.NewBatch(s.columns.fields, runRows), (*feature.Batch)(nil)
		var at int64
		for rec, err := range s.table.records(ctx, s.paths) {
			if err != nil {
				yield(nil, err)
				return
			}
			out.At, out.Bad = out.At[:0], out.Bad[:0]
			bad := s.convert(rec, all)
			n := int(rec.NumRows())
			if len(bad) == 0 {
				out.Batch = all
				for i := range n {
					out.At = append(out.At, at+int64(i))
				}
			} else {
				if good == nil {
					good = feature.NewBatch(s.columns.fields, runRows)
				}
				good.Reset()
				out.Batch = good
				for i := range n {
					if b, is := bad[i]; is {
						b.Row, b.JSON = at+int64(i), recordJSON(rec, s.columns.outside, i)
						out.Bad = append(out.Bad, b)
						continue
					}
					good.AppendRow(all, i)
					out.At = append(out.At, at+int64(i))
				}
			}
			at += int64(n)
			if !yield(out, nil) {
				return
			}
		}
	}
}

// convert fills b with the record's rows and says which of them are bad.
func (s *Source) convert(rec arrow.Record, b *feature.Batch) map[int]BadRow {
	b.Reset()
	b.Rows = int(rec.NumRows())
	bad := map[int]BadRow{}
	for j, c := range b.Columns {
		appendArray(c, rec.Column(j), func(i int, msg string) {
			if _, is := bad[i]; !is {
				bad[i] = BadRow{Field: s.columns.outside[j], Reason: msg}
			}
		})
	}
	if s.mayBeIncomplete(b) {
		for i := range b.Rows {
			if _, is := bad[i]; !is {
				if row := s.incomplete(b, i); row != nil {
					bad[i] = *row
				}
			}
		}
	}
	return bad
}

// recordJSON is row i of a record as a JSON object.
func recordJSON(rec arrow.Record, names []string, i int) []byte {
	dst := []byte{'{'}
	for j, name := range names {
		if j > 0 {
			dst = append(dst, ',')
		}
		dst = append(feature.AppendStringJSON(dst, name), ':')
		dst = appendJSON(dst, rec.Column(j), i)
	}
	return append(dst, '}')
}
