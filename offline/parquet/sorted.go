package parquet

import (
	"context"

	"github.com/forebay/forebay/offline/pit"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// blockRows is how many rows of a sorted file are looked at together: a page.
const blockRows = pageRows

// layout says where things are in the columns of a derived table, which are
// those of tableColumns: join keys, version, features, _invalid, _bucket.
type layout struct {
	columns []column
	fields  []feature.Field // of its rows in memory: join keys, features
	types   []feature.Type  // of the join keys
	keys    int             // how many join keys
}

func newLayout(v registry.ViewGeneration) *layout {
	l := &layout{columns: tableColumns(v), keys: len(v.JoinKeys()), fields: v.Fields()}
	for _, k := range v.JoinKeys() {
		l.types = append(l.types, k.Type)
	}
	return l
}

func (l *layout) version() []column  { return l.columns[l.keys : l.keys+4] }
func (l *layout) features() []column { return l.columns[l.keys+4 : len(l.columns)-2] }
func (l *layout) invalid() column    { return l.columns[len(l.columns)-2] }

// encoder turns sorted rows into the columns of a file.
type encoder struct {
	l       *layout
	version [4]*feature.Column
	invalid *feature.Column
	bucket  *feature.Column
	bits    []byte
}

func newEncoder(l *layout) *encoder {
	e := &encoder{l: l, invalid: feature.NewColumn(colInvalid, feature.TypeBytes, 0), bucket: feature.NewColumn(colBucket, feature.TypeInt64, 0)}
	for i, c := range l.version() {
		e.version[i] = feature.NewColumn(c.Name, c.Type, 0)
	}
	return e
}

// encode is valid until the next call.
func (e *encoder) encode(rows *feature.Batch, bucket int) []*feature.Column {
	n := len(rows.Versions)
	var words [4][]uint64
	for i, c := range e.version {
		c.Reset()
		words[i] = extend(c, n)
		c.Len = n
	}
	for i := range rows.Versions {
		v := &rows.Versions[i]
		words[0][i], words[1][i], words[2][i], words[3][i] = uint64(v.EventTime), uint64(v.IngestedAt), uint64(v.Major), uint64(v.Minor)
	}
	e.bucket.Reset()
	bs := extend(e.bucket, n)
	e.bucket.Len = n
	for i := range bs {
		bs[i] = uint64(bucket)
	}
	cols := append(make([]*feature.Column, 0, len(e.l.columns)), rows.Columns[:e.l.keys]...)
	cols = append(cols, e.version[:]...)
	features := rows.Columns[e.l.keys:]
	cols = append(cols, features...)
	return append(cols, e.invalids(features, n), e.bucket)
}

// invalids is the column _invalid; nil where all is well.
func (e *encoder) invalids(features []*feature.Column, n int) *feature.Column {
	bad := false
	for _, f := range features {
		bad = bad || len(f.Bad) > 0
	}
	if !bad {
		return nil
	}
	e.invalid.Reset()
	for i := range n {
		if e.bitmap(features, i) {
			e.invalid.AppendBytes(e.bits)
		} else {
			e.invalid.AppendNull()
		}
	}
	return e.invalid
}

// bitmap is the _invalid of row i: bit j of byte j/8, from the lowest, for feature j.
func (e *encoder) bitmap(features []*feature.Column, i int) bool {
	e.bits = append(e.bits[:0], make([]byte, (len(features)+7)/8)...)
	found := false
	for j, f := range features {
		if f.Bad.Get(i) {
			e.bits[j/8] |= 1 << (j % 8)
			found = true
		}
	}
	return found
}

// sortedFile reads a file of a derived table block by block. Keys and event
// times are read for each block; the rest of a block only if asked for.
type sortedFile struct {
	ctx      context.Context
	l        *layout
	r        *fileReader
	features []int // indexes of the layout's features
	rows     int64
	start    int64 // the first row of the block
	n        int   // rows of the block
	pages    []pageKeys

	keyCols  []*feature.Column
	keyRead  []*columnReader
	verCols  [4]*feature.Column
	verRead  [4]*columnReader
	verHave  [4]bool
	featCols []*feature.Column
	featRead []*columnReader
	featHave bool
	invalid  *feature.Column
	invRead  *columnReader // nil: the file says that nothing is invalid

	keys  *pit.Keys
	block pit.Block
	known bool // the block has its ingestion times
}

var _ pit.Cursor = (*sortedFile)(nil)

// openSorted opens a file for some of its features.
func (s *Store) openSorted(ctx context.Context, l *layout, features []int, path string, size, rows int64, known bool) (*sortedFile, error) {
	r, err := openFile(s.fs, path, size, rows)
	if err != nil {
		return nil, err
	}
	f := &sortedFile{ctx: ctx, l: l, r: r, features: features, rows: rows, keys: pit.NewKeys(l.types), known: known,
		invalid: feature.NewColumn(colInvalid, feature.TypeBytes, 0)}
	block := int(min(rows, blockRows))
	open := func(c column) *columnReader {
		cr, e := r.newColumnReader(c)
		if e != nil && err == nil {
			err = e
		}
		return cr
	}
	for _, c := range l.columns[:l.keys] {
		f.keyCols = append(f.keyCols, feature.NewColumn(c.Name, c.Type, block))
		f.keyRead = append(f.keyRead, open(c))
	}
	for i, c := range l.version() {
		f.verCols[i] = feature.NewColumn(c.Name, c.Type, block)
		f.verRead[i] = open(c)
	}
	for _, j := range features {
		c := l.features()[j]
		f.featCols = append(f.featCols, feature.NewColumn(c.Name, c.Type, block))
		f.featRead = append(f.featRead, open(c))
	}
	if r.hasValues(l.invalid()) {
		f.invRead = open(l.invalid())
	}
	if err != nil {
		_ = r.Close() // nothing was written
		return nil, err
	}
	f.pages = r.pageKeys(f.keyRead)
	return f, nil
}

func (f *sortedFile) Close() error {
	for _, cr := range f.keyRead {
		cr.close()
	}
	for _, cr := range f.verRead {
		cr.close()
	}
	for _, cr := range f.featRead {
		cr.close()
	}
	if f.invRead != nil {
		f.invRead.close()
	}
	return f.r.Close()
}

func fill(cr *columnReader, c *feature.Column, start int64, n int) (err error) {
	defer damaged(cr.r.path, &err)
	c.Reset()
	if err := cr.seek(start); err != nil {
		return err
	}
	return cr.read(c, n)
}

// advance reads the keys and times of the next block; false at the end.
func (f *sortedFile) advance() (bool, error) {
	if err := f.ctx.Err(); err != nil {
		return false, context.Cause(f.ctx)
	}
	f.start += int64(f.n)
	f.n = int(min(blockRows-f.start%blockRows, f.rows-f.start))
	f.verHave, f.featHave = [4]bool{}, false
	if f.n <= 0 {
		f.n = 0
		return false, nil
	}
	for i, cr := range f.keyRead {
		if err := fill(cr, f.keyCols[i], f.start, f.n); err != nil {
			return false, err
		}
	}
	f.keys.Reset()
	if len(f.keyCols) == 0 {
		for range f.n {
			f.keys.AppendRow(nil, 0)
		}
	} else {
		f.keys.AppendRows(f.keyCols, 0, f.n)
	}
	return true, f.loadVersion(0)
}

// loadVersion reads one of event time, ingestion time, major and minor of the block.
func (f *sortedFile) loadVersion(i int) error {
	if f.verHave[i] {
		return nil
	}
	f.verHave[i] = true
	return fill(f.verRead[i], f.verCols[i], f.start, f.n)
}

func (f *sortedFile) loadVersions() error {
	for i := range f.verCols {
		if err := f.loadVersion(i); err != nil {
			return err
		}
	}
	return nil
}

// version is that of row i of the block, after loadVersions.
func (f *sortedFile) version(i int) feature.Version {
	return feature.Version{
		EventTime:  int64(f.verCols[0].Nums[i]),
		IngestedAt: int64(f.verCols[1].Nums[i]),
		Major:      int64(f.verCols[2].Nums[i]),
		Minor:      int64(f.verCols[3].Nums[i]),
	}
}

// loadFeatures reads the features of the block.
func (f *sortedFile) loadFeatures() error {
	if f.featHave {
		return nil
	}
	f.featHave = true
	for i, cr := range f.featRead {
		if err := fill(cr, f.featCols[i], f.start, f.n); err != nil {
			return err
		}
	}
	if len(f.featRead) == 0 || f.invRead == nil {
		return nil
	}
	if err := fill(f.invRead, f.invalid, f.start, f.n); err != nil {
		return err
	}
	if f.invalid.Nulls.Count() == f.n {
		return nil
	}
	for row := range f.n {
		if f.invalid.IsNull(row) {
			continue
		}
		bits := f.invalid.Bytes(row)
		for i, j := range f.features {
			if j/8 < len(bits) && bits[j/8]>>(j%8)&1 != 0 {
				f.featCols[i].Bad.Set(row)
			}
		}
	}
	return nil
}
