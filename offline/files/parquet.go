package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// parquetTable reads a Parquet file page by page, row group by row group.
type parquetTable struct {
	file File
	in   *os.File
	pq   *parquet.File
	// arrow reads what parquet-go cannot; nil until it is needed.
	arrow *file.Reader
}

// runBytes is how many bytes a run of rows is meant to take, uncompressed.
const runBytes = 16 << 20

func openParquet(f File) (t *parquetTable, err error) {
	in, size, err := f.open()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = in.Close()
		}
	}()
	if err := checkParquet(f, in, size); err != nil {
		return nil, err
	}
	t = &parquetTable{file: f, in: in}
	err = t.guard(func() error {
		t.pq, err = parquet.OpenFile(in, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(256<<10))
		if err != nil {
			return fmt.Errorf("%s cannot be read as Parquet: %w", f.Name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, g := range t.pq.Metadata().RowGroups {
		for _, c := range g.Columns {
			if c.MetaData.Codec == format.Lz4Raw {
				return nil, fmt.Errorf("%s is compressed with LZ4_RAW, which is not read reliably: write it with Snappy or zstd", f.Name)
			}
		}
	}
	return t, duplicate(f, t.names())
}

// checkParquet looks at both ends of the file, to tell what is wrong with it.
func checkParquet(f File, in io.ReaderAt, size int64) error {
	var head, tail [4]byte
	if size >= 4 {
		if _, err := in.ReadAt(head[:], 0); err != nil {
			return fmt.Errorf("read %s: %w", f.Name, err)
		}
		if _, err := in.ReadAt(tail[:], size-4); err != nil {
			return fmt.Errorf("read %s: %w", f.Name, err)
		}
	}
	magic := []byte("PAR1")
	switch {
	case bytes.Equal(head[:], []byte("PARE")) || bytes.Equal(tail[:], []byte("PARE")):
		return fmt.Errorf("%s is an encrypted Parquet file, which cannot be read", f.Name)
	case !bytes.Equal(head[:], magic):
		return fmt.Errorf("%s is not a Parquet file: it does not begin with PAR1", f.Name)
	case size < 12 || !bytes.Equal(tail[:], magic):
		return fmt.Errorf("%s is cut off: a Parquet file ends with its footer, and this one (%d bytes) does not", f.Name, size)
	}
	return nil
}

// guard turns a panic of the Parquet library, which damaged files can cause, into an error.
func (t *parquetTable) guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s cannot be read as Parquet, it is damaged or written in an unknown way: %v", t.file.Name, r)
		}
	}()
	return f()
}

func (t *parquetTable) names() []string {
	var ns []string
	for _, c := range t.pq.Root().Columns() {
		ns = append(ns, c.Name())
	}
	return ns
}

func (t *parquetTable) rows() int64 { return t.pq.NumRows() }

func (t *parquetTable) close() error { return t.in.Close() }

// column finds a column by its path; nil if there is none.
func (t *parquetTable) column(path []string) *parquet.Column {
	c := t.pq.Root()
	for i, step := range path {
		if i > 0 && (c.Leaf() || c.Repeated() || isListOrMap(c)) {
			return nil
		}
		if c = c.Column(step); c == nil {
			return nil
		}
	}
	return c
}

func (t *parquetTable) field(path []string) (arrow.Field, bool, error) {
	c := t.column(path)
	if c == nil {
		return arrow.Field{}, false, nil
	}
	n, err := t.node(c)
	if err != nil {
		return arrow.Field{}, false, &SchemaError{File: t.file.Name, Column: path[len(path)-1], Msg: err.Error()}
	}
	f := n.field
	f.Nullable = n.def > 0 // a required field of an optional group may be absent, too
	return f, true, nil
}

func (t *parquetTable) records(ctx context.Context, paths [][]string) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		var nodes []*pnode
		var fields []arrow.Field
		for _, p := range paths {
			f, ok, err := t.field(p)
			if err == nil && !ok {
				err = missing(t.file, p[len(p)-1], t.names())
			}
			if err != nil {
				yield(nil, err)
				return
			}
			n, err := t.node(t.column(p))
			if err != nil {
				yield(nil, err)
				return
			}
			fields, nodes = append(fields, f), append(nodes, n)
		}
		schema := arrow.NewSchema(fields, nil)
		for g, group := range t.pq.RowGroups() {
			if !t.rowGroup(ctx, g, group, schema, nodes, yield) {
				return
			}
		}
	}
}

// rowGroup yields the records of one row group; false if it is to stop.
func (t *parquetTable) rowGroup(ctx context.Context, g int, group parquet.RowGroup, schema *arrow.Schema, nodes []*pnode, yield func(arrow.Record, error) bool) bool {
	var leaves []*leafReader
	for _, n := range nodes {
		leaves = n.leaves(leaves)
	}
	defer func() {
		for _, l := range leaves {
			l.close()
		}
	}()
	chunks, meta := group.ColumnChunks(), t.pq.Metadata().RowGroups[g]
	var size int64
	for _, l := range leaves {
		l.open(chunks[l.column.Index()])
		if needsRLEBools(&meta.Columns[l.column.Index()].MetaData) {
			err := t.guard(func() (err error) {
				l.bools, err = t.rleBools(g, l.column.Index())
				return err
			})
			if err != nil {
				yield(nil, err)
				return false
			}
		}
		size += meta.Columns[l.column.Index()].MetaData.TotalUncompressedSize
	}
	run := int64(runRows)
	if total := group.NumRows(); total > 0 && size/total > runBytes/runRows {
		run = max(1, runBytes/(size/total))
	}
	for at := int64(0); at < group.NumRows(); at += run {
		if err := ctx.Err(); err != nil {
			yield(nil, err)
			return false
		}
		n := int(min(run, group.NumRows()-at))
		var rec arrow.Record
		err := t.guard(func() (err error) {
			rec, err = readRun(schema, nodes, leaves, n)
			return err
		})
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				err = fmt.Errorf("it is cut off: %w", io.ErrUnexpectedEOF)
			}
			yield(nil, fmt.Errorf("%s, row group %d, rows from %d: %w", t.file.Name, g, at, err))
			return false
		}
		if !yield(rec, nil) {
			return false
		}
	}
	return true
}

func readRun(schema *arrow.Schema, nodes []*pnode, leaves []*leafReader, n int) (arrow.Record, error) {
	for _, l := range leaves {
		if err := l.read(n); err != nil {
			return nil, fmt.Errorf("column %v: %w", l.column.Path(), err)
		}
	}
	cols := make([]arrow.Array, len(nodes))
	for i, node := range nodes {
		data, err := node.build(0, 0)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", node.field.Name, err)
		}
		if data.Len() != n {
			return nil, fmt.Errorf("column %q has %d rows where %d were expected: the file is damaged", node.field.Name, data.Len(), n)
		}
		cols[i] = array.MakeFromData(data)
	}
	return array.NewRecord(schema, cols, int64(n)), nil
}
