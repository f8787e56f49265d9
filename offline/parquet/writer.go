package parquet

import (
	"errors"
	"fmt"
	"math"

	"github.com/apache/iceberg-go"
	pq "github.com/parquet-go/parquet-go"

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
	maxValues     = 1 << 16 // elements of lists handed over at once
)

// fileWriter writes one Parquet data file of a table. After an error only abort may be called.
type fileWriter struct {
	fs      FS
	path    string
	out     countingWriter
	close   func() error
	w       *pq.Writer
	columns []column
	leaves  []*pq.ColumnWriter
	stats   []columnStats
	values  []pq.Value
	inPage  int
	inGroup int64
	rows    int64
	ended   bool
}

// newFileWriter creates a data file of a table with some of its columns.
func newFileWriter(fs FS, path, table string, columns []column) (*fileWriter, error) {
	f, err := fs.Create(path)
	if err != nil {
		return nil, fmt.Errorf("creating data file %s: %w", path, err)
	}
	w := &fileWriter{fs: fs, path: path, close: f.Close, columns: columns, stats: make([]columnStats, len(columns))}
	w.out.w = f
	w.w = pq.NewWriter(&w.out, parquetSchema(table, columns),
		pq.Compression(&pq.Snappy),
		pq.PageBufferSize(pageBytes),
		pq.WriteBufferSize(256<<10),
		pq.DictionaryMaxBytes(dictionaryMax),
		pq.CreatedBy("forebay", "1", ""),
		pq.KeyValueMetadata(keyFormat, formatVersion))
	w.leaves = w.w.ColumnWriters() // one leaf a column, in order
	if len(w.leaves) != len(columns) {
		return nil, errors.Join(fmt.Errorf("data file %s: %d leaves for %d columns", path, len(w.leaves), len(columns)), w.abort())
	}
	return w, nil
}

// write appends rows [from, to) of the columns, which are in the order of the
// writer's; a nil one is all null.
func (w *fileWriter) write(cols []*feature.Column, from, to int) error {
	for from < to {
		n := min(to-from, pageRows-w.inPage)
		for i, c := range cols {
			if err := w.writeColumn(i, c, from, from+n); err != nil {
				return w.fail(err)
			}
		}
		from += n
		w.rows += int64(n)
		w.inGroup += int64(n)
		if w.inPage += n; w.inPage == pageRows {
			if err := w.endPage(); err != nil {
				return w.fail(err)
			}
		}
	}
	return nil
}

func (w *fileWriter) fail(err error) error {
	return fmt.Errorf("writing data file %s: %w", w.path, err)
}

func (w *fileWriter) endPage() error {
	for _, l := range w.leaves {
		if err := l.Flush(); err != nil {
			return err
		}
	}
	w.inPage = 0
	if w.inGroup >= groupRows || w.w.Size()-w.out.n >= groupBytes {
		w.inGroup = 0
		return w.w.Flush()
	}
	return nil
}

// writeColumn hands rows to the column's page as Parquet values with their levels.
func (w *fileWriter) writeColumn(i int, c *feature.Column, from, to int) error {
	spec := &w.columns[i]
	def := 1
	if spec.required {
		def = 0
	}
	vs := w.values[:0]
	if c == nil {
		w.stats[i].values += int64(to - from)
		w.stats[i].nulls += int64(to - from)
		for range to - from {
			vs = append(vs, pq.Value{}.Level(0, 0, i))
		}
		w.values = vs
		_, err := w.leaves[i].WriteRowValues(vs)
		return err
	}
	if k := c.Type.Kind; (k == feature.String || k == feature.Bytes) && to-from > 1 && c.Offsets[to]-c.Offsets[from] > pageBytes {
		mid := from + (to-from)/2 // long texts make several pages
		if err := w.writeColumn(i, c, from, mid); err != nil {
			return err
		}
		return w.writeColumn(i, c, mid, to)
	}
	w.stats[i].add(c, from, to)
	if spec.required && c.Nulls.Count() > 0 {
		return fmt.Errorf("column %q: null in a column without nulls", spec.Name)
	}
	if c.Type.Kind == feature.List || c.Type.Kind == feature.Embedding {
		return w.writeLists(i, c, from, to, def)
	}
	valueOf := valuesOf(spec, c)
	if spec.required {
		for row := from; row < to; row++ {
			vs = append(vs, valueOf(row)) // the zero levels are right
		}
	} else {
		null := pq.Value{}.Level(0, 0, i)
		hasNulls := len(c.Nulls) > 0
		for row := from; row < to; row++ {
			if hasNulls && c.IsNull(row) {
				vs = append(vs, null)
			} else {
				vs = append(vs, valueOf(row).Level(0, def, i))
			}
		}
	}
	w.values = vs
	_, err := w.leaves[i].WriteRowValues(vs)
	return err
}

// valuesOf makes Parquet values, without levels, of a column's rows.
func valuesOf(spec *column, c *feature.Column) func(row int) pq.Value {
	switch {
	case c.Type.Kind == feature.Bool:
		return func(row int) pq.Value { return pq.BooleanValue(c.Nums[row] != 0) }
	case spec.narrow:
		return func(row int) pq.Value { return pq.Int32Value(int32(c.Nums[row])) }
	case c.Type.Kind == feature.Float64:
		return func(row int) pq.Value { return pq.DoubleValue(math.Float64frombits(c.Nums[row])) }
	case c.Type.Kind.Fixed():
		return func(row int) pq.Value { return pq.Int64Value(int64(c.Nums[row])) }
	}
	return func(row int) pq.Value { return pq.ByteArrayValue(c.Bytes(row)) }
}

// writeLists hands over lists, no more than maxValues elements at once.
func (w *fileWriter) writeLists(i int, c *feature.Column, from, to, def int) error {
	vs := w.values[:0]
	for row := from; row < to; row++ {
		if c.IsNull(row) {
			vs = append(vs, pq.Value{}.Level(0, 0, i))
		} else {
			vs = appendList(vs, c.Values[row], def, i)
		}
		if len(vs) >= maxValues || row == to-1 {
			if _, err := w.leaves[i].WriteRowValues(vs); err != nil {
				return err
			}
			vs = vs[:0]
		}
	}
	w.values = vs
	return nil
}

// appendList appends the elements of a list or embedding; def is the level of an empty one.
func appendList(vs []pq.Value, v feature.Value, def, leaf int) []pq.Value {
	rep := 0
	if v.Kind() == feature.Embedding {
		for _, f := range v.Embedding() {
			vs = append(vs, pq.FloatValue(f).Level(rep, def+1, leaf))
			rep = 1
		}
	} else {
		for _, e := range v.List() {
			var p pq.Value
			switch e.Kind() {
			case feature.Bool:
				p = pq.BooleanValue(e.Bool())
			case feature.Float64:
				p = pq.DoubleValue(e.Float64())
			case feature.String, feature.Bytes:
				p = pq.ByteArrayValue(e.Bytes())
			default:
				p = pq.Int64Value(e.Int64())
			}
			vs = append(vs, p.Level(rep, def+1, leaf))
			rep = 1
		}
	}
	if rep == 0 {
		vs = append(vs, pq.Value{}.Level(0, def, leaf))
	}
	return vs
}

// finish ends the file and describes it for a manifest. bucket is the value of
// the table's one partition field, or -1 where it has none.
func (w *fileWriter) finish(spec iceberg.PartitionSpec, bucket int) (iceberg.DataFile, error) {
	if err := w.w.Close(); err != nil {
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
	for _, g := range w.w.File().Metadata().RowGroups {
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
