package parquet

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"unsafe"

	iceio "github.com/apache/iceberg-go/io"
	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"

	"github.com/forebay/forebay/registry/feature"
)

// ErrDamaged means: a data file that a table names is missing, cut off or altered.
// The message names it.
var ErrDamaged = errors.New("damaged data file")

// fileReader reads columns of one data file.
type fileReader struct {
	path string
	f    iceio.File
	file *pq.File
	leaf map[int]*pq.Column    // by field ID
	name map[string]*pq.Column // of files without field IDs
}

// openFile opens a data file that has, by the table's metadata, so many bytes and rows.
func openFile(files FS, path string, size, rows int64) (r *fileReader, err error) {
	defer damaged(path, &err)
	f, err := files.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w %s: it is missing, though the table's snapshot names it: restore it, or drop the table and ingest again", ErrDamaged, path)
		}
		return nil, fmt.Errorf("opening data file %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening data file %s: %w", path, err)
	}
	if st.Size() != size {
		return nil, fmt.Errorf("%w %s: %d bytes, where the table's snapshot says %d: it was cut off or altered", ErrDamaged, path, st.Size(), size)
	}
	file, err := pq.OpenFile(f, size, pq.SkipBloomFilters(true), pq.SkipPageIndex(false), pq.ReadBufferSize(64<<10))
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrDamaged, path, err)
	}
	if file.NumRows() != rows {
		return nil, fmt.Errorf("%w %s: %d rows, where the table's snapshot says %d: it was altered", ErrDamaged, path, file.NumRows(), rows)
	}
	r = &fileReader{path: path, f: f, file: file, leaf: map[int]*pq.Column{}, name: map[string]*pq.Column{}}
	for _, top := range file.Root().Columns() {
		l := top
		for !l.Leaf() && len(l.Columns()) == 1 {
			l = l.Columns()[0]
		}
		if top.ID() > 0 {
			r.leaf[top.ID()] = l
		} else {
			r.name[top.Name()] = l
		}
	}
	return r, nil
}

// damaged turns a panic of the Parquet library, which some broken files cause, into an error.
func damaged(path string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w %s: %v", ErrDamaged, path, p)
	}
}

func (r *fileReader) Close() error { return r.f.Close() }

// hasValues reports whether a column may have a value that is not null, by the statistics of its row groups.
func (r *fileReader) hasValues(c column) bool {
	leaf := r.column(c)
	if leaf == nil {
		return false
	}
	for _, g := range r.file.Metadata().RowGroups {
		m := g.Columns[leaf.Index()].MetaData
		if m.Statistics.NullCount != m.NumValues {
			return true
		}
	}
	return false
}

func (r *fileReader) column(c column) *pq.Column {
	if l, ok := r.leaf[c.id]; ok {
		return l
	}
	return r.name[c.Name]
}

// columnReader reads one column of one file, front to back, across row groups.
type columnReader struct {
	r     *fileReader
	spec  column
	leaf  *pq.Column // nil: the file lacks the column, all rows are null
	group int        // the row group being read
	pages pq.Pages   // of it; nil before the first
	at    int64      // the row of the file that is read next
	start int64      // the first row of the group
	page  pq.Page    // nil where the next one is to be read
	rows  int        // in page
	row   int        // rows of page that have been read

	defs   []byte // of the page; empty where it has no nulls
	reps   []byte // of a list's page
	level  int    // of a list: position in defs and reps
	value  int    // position among the page's values
	maxDef byte
	data   encoding.Values
	index  []int32         // into dict, where the page has one
	dict   encoding.Values // the dictionary's values
	bools  []pq.Value
}

func (r *fileReader) newColumnReader(c column) (*columnReader, error) {
	cr := &columnReader{r: r, spec: c, leaf: r.column(c)}
	if cr.leaf == nil {
		if c.required {
			return nil, fmt.Errorf("%w %s: it lacks column %q: it was written by another program", ErrDamaged, r.path, c.Name)
		}
		return cr, nil
	}
	cr.maxDef = byte(cr.leaf.MaxDefinitionLevel())
	if want := physical(c); cr.leaf.Type().Kind() != want {
		return nil, fmt.Errorf("%w %s: column %q is stored as %s, not as %s", ErrDamaged, r.path, c.Name, cr.leaf.Type().Kind(), want)
	}
	return cr, nil
}

// physical is the Parquet type of a column's values.
func physical(c column) pq.Kind {
	k := c.Type.Kind
	if k == feature.List {
		k = c.Type.Elem
	}
	switch {
	case c.narrow:
		return pq.Int32
	case k == feature.Bool:
		return pq.Boolean
	case k == feature.Float64:
		return pq.Double
	case k == feature.Embedding:
		return pq.Float
	case k == feature.String || k == feature.Bytes:
		return pq.ByteArray
	}
	return pq.Int64
}

func (cr *columnReader) close() {
	if cr.page != nil {
		pq.Release(cr.page)
		cr.page = nil
	}
	if cr.pages != nil {
		_ = cr.pages.Close() // frees memory, nothing else
		cr.pages = nil
	}
}

// seek moves forward to a row of the file; pages on the way are not read.
func (cr *columnReader) seek(row int64) error {
	if cr.leaf == nil || row == cr.at {
		cr.at = row
		return nil
	}
	if cr.page != nil && row < cr.at+int64(cr.rows-cr.row) {
		cr.skip(int(row - cr.at))
		cr.at = row
		return nil
	}
	if cr.page != nil {
		pq.Release(cr.page)
		cr.page = nil
	}
	cr.at = row
	groups := cr.r.file.RowGroups()
	for cr.group < len(groups) && row >= cr.start+groups[cr.group].NumRows() {
		cr.start += groups[cr.group].NumRows()
		cr.group++
		if cr.pages != nil {
			_ = cr.pages.Close() // frees memory, nothing else
			cr.pages = nil
		}
	}
	if cr.group == len(groups) {
		return nil // the end
	}
	if cr.pages == nil {
		cr.pages = groups[cr.group].ColumnChunks()[cr.leaf.Index()].Pages()
	}
	return cr.pages.SeekToRow(row - cr.start)
}

// load reads the next page.
func (cr *columnReader) load() error {
	groups := cr.r.file.RowGroups()
	for cr.group < len(groups) && cr.at >= cr.start+groups[cr.group].NumRows() {
		cr.start += groups[cr.group].NumRows()
		cr.group++
		if cr.pages != nil {
			_ = cr.pages.Close() // frees memory, nothing else
			cr.pages = nil
		}
	}
	if cr.group == len(groups) {
		return fmt.Errorf("%w %s: column %q ends before row %d", ErrDamaged, cr.r.path, cr.spec.Name, cr.at)
	}
	if cr.pages == nil {
		cr.pages = groups[cr.group].ColumnChunks()[cr.leaf.Index()].Pages()
	}
	page, err := cr.pages.ReadPage()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("%w %s: column %q at row %d: %w", ErrDamaged, cr.r.path, cr.spec.Name, cr.at, err)
	}
	cr.page, cr.rows, cr.row = page, int(page.NumRows()), 0
	cr.level, cr.value = 0, 0
	cr.defs, cr.reps = page.DefinitionLevels(), page.RepetitionLevels()
	if len(cr.reps) == 0 && page.NumNulls() == 0 {
		cr.defs = nil
	}
	cr.index, cr.bools = nil, cr.bools[:0]
	switch d := page.Dictionary(); {
	case cr.leaf.Type().Kind() == pq.Boolean:
		// The bits of a page that was sliced start anywhere, so they are read one by one.
		n := int(page.NumValues())
		if cap(cr.bools) < n {
			cr.bools = make([]pq.Value, n)
		}
		cr.bools = cr.bools[:n]
		values := page.Values()
		for got := 0; got < n; {
			k, err := values.ReadValues(cr.bools[got:])
			if got += k; err != nil && !errors.Is(err, io.EOF) || k == 0 {
				return fmt.Errorf("%w %s: column %q at row %d: %w", ErrDamaged, cr.r.path, cr.spec.Name, cr.at, err)
			}
		}
		if len(cr.defs) > 0 {
			kept := cr.bools[:0]
			for i, v := range cr.bools {
				if cr.defs[i] == cr.maxDef {
					kept = append(kept, v)
				}
			}
			cr.bools = kept
		}
	case d != nil:
		data := page.Data()
		cr.index, cr.dict = data.Int32(), d.Page().Data()
	default:
		cr.data = page.Data()
	}
	return nil
}

// skip passes over rows of the page.
func (cr *columnReader) skip(n int) {
	cr.row += n
	switch {
	case len(cr.reps) > 0:
		for ; n > 0; n-- {
			cr.skipList()
		}
	case cr.defs == nil:
		cr.value += n
	default:
		for _, d := range cr.defs[cr.level : cr.level+n] {
			if d == cr.maxDef {
				cr.value++
			}
		}
	}
	if len(cr.reps) == 0 {
		cr.level += n
	}
}

func (cr *columnReader) skipList() {
	for first := true; cr.level < len(cr.reps) && (first || cr.reps[cr.level] != 0); first = false {
		if cr.defs[cr.level] == cr.maxDef {
			cr.value++
		}
		cr.level++
	}
}

// read appends the next n rows to dst.
func (cr *columnReader) read(dst *feature.Column, n int) error {
	if cr.leaf == nil {
		for range n {
			dst.AppendNull()
		}
		cr.at += int64(n)
		return nil
	}
	for n > 0 {
		if cr.page == nil {
			if err := cr.load(); err != nil {
				return err
			}
		}
		k := min(n, cr.rows-cr.row)
		if err := cr.append(dst, k); err != nil {
			return err
		}
		cr.row += k
		cr.at += int64(k)
		n -= k
		if cr.row == cr.rows {
			pq.Release(cr.page)
			cr.page = nil
		}
	}
	return nil
}

func (cr *columnReader) append(dst *feature.Column, n int) error {
	if len(cr.reps) > 0 {
		for range n {
			if err := cr.appendList(dst); err != nil {
				return err
			}
		}
		return nil
	}
	if cr.defs == nil {
		cr.level += n
		return cr.appendValues(dst, n)
	}
	defs := cr.defs[cr.level : cr.level+n]
	cr.level += n
	for i := 0; i < len(defs); {
		j := i
		if defs[i] != cr.maxDef {
			dst.AppendNull()
			i++
			continue
		}
		for j < len(defs) && defs[j] == cr.maxDef {
			j++
		}
		if err := cr.appendValues(dst, j-i); err != nil {
			return err
		}
		i = j
	}
	return nil
}

// appendValues appends the next n values of the page, none of them null.
func (cr *columnReader) appendValues(dst *feature.Column, n int) error {
	from, to := cr.value, cr.value+n
	cr.value = to
	if cr.index != nil {
		return cr.appendIndexed(dst, cr.index[from:to])
	}
	switch cr.leaf.Type().Kind() {
	case pq.Boolean:
		for _, v := range cr.bools[from:to] {
			bit := uint64(0)
			if v.Boolean() {
				bit = 1
			}
			dst.Nums = append(dst.Nums, bit)
		}
		dst.Len += n
	case pq.Int32:
		for _, v := range cr.data.Int32()[from:to] {
			dst.Nums = append(dst.Nums, uint64(v))
		}
		dst.Len += n
	case pq.Int64:
		dst.Nums = append(dst.Nums, cr.data.Uint64()[from:to]...)
		dst.Len += n
	case pq.Double:
		fs := cr.data.Double()[from:to]
		dst.Nums = append(dst.Nums, unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(fs))), len(fs))...)
		dst.Len += n
	default:
		data, offsets := cr.data.ByteArray()
		if len(dst.Offsets) == 0 {
			dst.Offsets = append(dst.Offsets, 0)
		}
		if uint64(len(dst.Data))+uint64(offsets[to]-offsets[from]) > 1<<32-1 {
			return fmt.Errorf("data file %s: column %q: more than 4 GiB of text in one batch", cr.r.path, cr.spec.Name)
		}
		shift := uint32(len(dst.Data)) - offsets[from]
		dst.Data = append(dst.Data, data[offsets[from]:offsets[to]]...)
		for _, o := range offsets[from+1 : to+1] {
			dst.Offsets = append(dst.Offsets, o+shift)
		}
		dst.Len += n
	}
	return nil
}

func (cr *columnReader) appendIndexed(dst *feature.Column, index []int32) error {
	size := 0
	switch cr.dict.Kind() {
	case encoding.Int32:
		size = len(cr.dict.Int32())
	case encoding.Int64:
		size = len(cr.dict.Int64())
	case encoding.Double:
		size = len(cr.dict.Double())
	case encoding.ByteArray:
		_, offsets := cr.dict.ByteArray()
		size = len(offsets) - 1
	}
	for _, i := range index {
		if uint(i) >= uint(size) {
			return fmt.Errorf("%w %s: column %q at row %d: entry %d of a dictionary of %d", ErrDamaged, cr.r.path, cr.spec.Name, cr.at, i, size)
		}
		switch cr.dict.Kind() {
		case encoding.Int32:
			dst.AppendBits(uint64(cr.dict.Int32()[i]))
		case encoding.Int64, encoding.Double:
			dst.AppendBits(cr.dict64()[i])
		default:
			data, offsets := cr.dict.ByteArray()
			dst.AppendBytes(data[offsets[i]:offsets[i+1]])
		}
	}
	return nil
}

func (cr *columnReader) dict64() []uint64 {
	b, _ := cr.dict.Data()
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/8)
}

// appendList appends the next row of a list or embedding.
func (cr *columnReader) appendList(dst *feature.Column) error {
	start, value := cr.level, cr.value
	cr.skipList()
	if cr.defs[start] < cr.maxDef {
		if cr.maxDef-cr.defs[start] > 1 {
			dst.AppendNull()
			return nil
		}
	}
	n := cr.value - value
	if dst.Type.Kind == feature.Embedding {
		if n != dst.Type.Dim {
			return fmt.Errorf("%w %s: column %q at row %d: %d numbers in an %s", ErrDamaged, cr.r.path, cr.spec.Name, cr.at, n, dst.Type)
		}
		fs := make([]float32, n)
		copy(fs, cr.data.Float()[value:])
		dst.Append(feature.OfEmbedding(fs))
		return nil
	}
	vs := make([]feature.Value, n)
	elems := feature.Column{Type: feature.Type{Kind: dst.Type.Elem}}
	cr.value = value
	if err := cr.appendValues(&elems, n); err != nil {
		return err
	}
	for i := range vs {
		vs[i] = elems.Value(i)
	}
	dst.Append(feature.OfList(dst.Type.Elem, vs))
	return nil
}
