package parquet

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/apache/iceberg-go"

	"github.com/forebay/forebay/offline/pages"
	"github.com/forebay/forebay/registry/feature"
)

// The shape of data files. Pages of all columns end at the same rows, so that a
// reader can leave out the same rows of each.
const (
	pageRows      = 4096
	groupRows     = 64 * pageRows
	groupBytes    = 64 << 20 // of encoded pages, held in memory until the group is whole
	pageBytes     = 1 << 20  // a page of few wide rows may end earlier
	dictionaryMax = 1 << 20
)

// fileWriter writes one Parquet data file of a table. After an error only abort may be called.
type fileWriter struct {
	fs      FS
	path    string
	out     countingWriter
	buf     *bufio.Writer // for the small parts; whole chunks pass it by
	close   func() error
	w       *pages.Writer
	workers int // columns encoded at once
	columns []column
	stats   []columnStats
	values  []pages.Values // of each column's page: memory that is used again
	rest    []*feature.Column
	restLen int // rows of a page that is not whole yet, in rest
	inGroup int64
	rows    int64
	ended   bool

	temporary bool
}

// newFileWriter creates a data file of a table with some of its columns. One that is temporary has no
// statistics, and does not outlive a crash.
func newFileWriter(fs FS, path, table string, columns []column, temporary bool) (*fileWriter, error) {
	create := fs.Create
	if temporary {
		create = fs.CreateTemporary
	}
	f, err := create(path)
	if err != nil {
		return nil, fmt.Errorf("creating data file %s: %w", path, err)
	}
	w := &fileWriter{fs: fs, path: path, close: f.Close, workers: 1, temporary: temporary, columns: columns,
		stats: make([]columnStats, len(columns)), values: make([]pages.Values, len(columns))}
	w.out.w = f
	w.buf = bufio.NewWriterSize(&w.out, 64<<10)
	w.w, err = pages.NewWriter(w.buf, parquetSchema(table, columns),
		pages.Options{CreatedBy: "forebay version 1(build )", Metadata: [][2]string{{keyFormat, formatVersion}}, DictionaryBytes: dictionaryMax, Temporary: temporary})
	if err == nil && w.w.Leaves() != len(columns) { // one leaf a column, in order
		err = fmt.Errorf("%d leaves for %d columns", w.w.Leaves(), len(columns))
	}
	if err != nil {
		return nil, errors.Join(w.fail(err), w.abort())
	}
	return w, nil
}

// write appends rows, the first of the columns, which are in the order of the
// writer's; a nil one is all null.
func (w *fileWriter) write(cols []*feature.Column, rows int) error {
	for from := 0; from < rows; {
		if w.restLen == 0 && rows-from >= pageRows {
			if err := w.page(cols, from, from+pageRows); err != nil {
				return w.fail(err)
			}
			from += pageRows
			continue
		}
		n := min(rows-from, pageRows-w.restLen)
		w.keep(cols, from, from+n)
		from += n
		if w.restLen == pageRows {
			if err := w.endRest(); err != nil {
				return w.fail(err)
			}
		}
	}
	return nil
}

// keep copies rows that make no whole page.
func (w *fileWriter) keep(cols []*feature.Column, from, to int) {
	if w.rest == nil {
		for _, c := range w.columns {
			w.rest = append(w.rest, feature.NewColumn(c.Name, c.Type, 0))
		}
	}
	for i, c := range cols {
		if c != nil {
			appendRange(w.rest[i], c, from, to)
			continue
		}
		for range to - from {
			w.rest[i].AppendNull()
		}
	}
	w.restLen += to - from
}

func (w *fileWriter) endRest() error {
	if w.restLen == 0 {
		return nil
	}
	err := w.page(w.rest, 0, w.restLen)
	for _, c := range w.rest {
		c.Reset()
	}
	w.restLen = 0
	return err
}

// page writes the rows of one page.
func (w *fileWriter) page(cols []*feature.Column, from, to int) error {
	err := parallel(context.Background(), w.workers, len(cols), func(_ context.Context, i int) error {
		switch {
		case w.temporary:
		case cols[i] != nil:
			w.stats[i].add(cols[i], from, to)
		default:
			w.stats[i].values += int64(to - from)
			w.stats[i].nulls += int64(to - from)
		}
		return w.writeColumn(i, cols[i], from, to)
	})
	if err != nil {
		return err
	}
	w.rows += int64(to - from)
	w.inGroup += int64(to - from)
	if w.inGroup >= groupRows || w.w.Buffered() >= groupBytes {
		w.inGroup = 0
		return w.w.EndGroup()
	}
	return nil
}

// writeColumn hands rows of a column over as one page, or as several where they are large.
func (w *fileWriter) writeColumn(i int, c *feature.Column, from, to int) error {
	v, err := pageValues(&w.columns[i], c, from, to, &w.values[i])
	if err != nil {
		return fmt.Errorf("column %q: %w", w.columns[i].Name, err)
	}
	if v.Size() > pageBytes && to-from > 1 {
		mid := from + (to-from)/2
		if err := w.writeColumn(i, c, from, mid); err != nil {
			return err
		}
		return w.writeColumn(i, c, mid, to)
	}
	return w.w.Page(i, to-from, &v)
}

// size is about how large the file is so far.
func (w *fileWriter) size() int64 { return w.w.Written() + w.w.Buffered() }

func (w *fileWriter) fail(err error) error {
	return fmt.Errorf("writing data file %s: %w", w.path, err)
}

// finish ends the file and describes it for a manifest. bucket is the value of
// the table's one partition field, or -1 where it has none.
func (w *fileWriter) finish(spec iceberg.PartitionSpec, bucket int) (iceberg.DataFile, error) {
	err := w.endRest()
	if err == nil {
		err = w.w.Close()
	}
	if err == nil {
		err = w.buf.Flush()
	}
	if err != nil {
		return nil, w.fail(err)
	}
	w.ended = true
	if err := w.close(); err != nil {
		return nil, w.fail(err)
	}
	partition := map[int]any{}
	if bucket >= 0 {
		for _, f := range spec.Fields() {
			partition[f.FieldID] = int32(bucket)
		}
	}
	b, err := iceberg.NewDataFileBuilder(spec, iceberg.EntryContentData, w.path, iceberg.ParquetFile, partition, nil, nil, w.rows, w.out.n)
	if err != nil {
		return nil, w.fail(err)
	}
	sizes, values, nulls, nans := map[int]int64{}, map[int]int64{}, map[int]int64{}, map[int]int64{}
	lows, highs := map[int][]byte{}, map[int][]byte{}
	var splits []int64
	for _, g := range w.w.RowGroups() {
		start := g.Columns[0].MetaData.DataPageOffset
		if d := g.Columns[0].MetaData.DictionaryPageOffset; d > 0 {
			start = min(start, d)
		}
		splits = append(splits, start)
		for i := range g.Columns {
			sizes[w.columns[i].id] += g.Columns[i].MetaData.TotalCompressedSize
		}
	}
	for i, c := range w.columns {
		s := &w.stats[i]
		if c.Type.Kind == feature.List || c.Type.Kind == feature.Embedding {
			continue // Iceberg counts the elements of a list, not the lists
		}
		values[c.id], nulls[c.id] = s.values, s.nulls
		if c.Type.Kind == feature.Float64 {
			nans[c.id] = s.nans
		}
		lo, hi := s.bounds(c)
		if lo != nil {
			lows[c.id] = lo
		}
		if hi != nil {
			highs[c.id] = hi
		}
	}
	return b.ColumnSizes(sizes).ValueCounts(values).NullValueCounts(nulls).NaNValueCounts(nans).
		LowerBoundValues(lows).UpperBoundValues(highs).SplitOffsets(splits).Build(), nil
}

// abort drops the file.
func (w *fileWriter) abort() error {
	if !w.ended {
		w.ended = true
		_ = w.close() // the file goes away in any case
	}
	if err := w.fs.Remove(w.path); err != nil {
		return fmt.Errorf("removing unfinished data file %s: %w", w.path, err)
	}
	return nil
}
