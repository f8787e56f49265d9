package parquet

import (
	"io"

	pq "github.com/parquet-go/parquet-go"

	"github.com/forebay/forebay/offline/pit"
	"github.com/forebay/forebay/registry/feature"
)

// pageKeys is the greatest key of one page of a sorted file, from its column
// index: pages before a key need not be read.
type pageKeys struct {
	end int64  // the row after the page
	max uint64 // as pit.Keys has words
}

// pageKeys are the pages of a file whose key is one number; nil for other keys,
// or where the file has no column index.
func (r *fileReader) pageKeys(keys []*columnReader) []pageKeys {
	if len(keys) != 1 || keys[0].spec.Type.Kind != feature.Int64 && keys[0].spec.Type.Kind != feature.Timestamp {
		return nil
	}
	var pages []pageKeys
	start := int64(0)
	for _, g := range r.file.RowGroups() {
		chunk := g.ColumnChunks()[keys[0].leaf.Index()]
		ci, err := chunk.ColumnIndex()
		if err != nil {
			return nil
		}
		oi, err := chunk.OffsetIndex()
		if err != nil || ci.NumPages() != oi.NumPages() {
			return nil
		}
		for i := range ci.NumPages() {
			end := start + g.NumRows()
			if i+1 < oi.NumPages() {
				end = start + oi.FirstRowIndex(i+1)
			}
			m := ci.MaxValue(i)
			if m.IsNull() || m.Kind() != pq.Int64 {
				return nil
			}
			pages = append(pages, pageKeys{end, uint64(m.Int64()) ^ 1<<63})
		}
		start += g.NumRows()
	}
	return pages
}

// Next implements pit.Cursor.
func (f *sortedFile) Next(keys *pit.Keys, from int) (*pit.Block, error) {
	at := f.start + int64(f.n)
	for len(f.pages) > 0 && (f.pages[0].end <= at || f.pages[0].max < keys.Words[from]) {
		at = max(at, f.pages[0].end)
		f.pages = f.pages[1:]
	}
	f.start, f.n = at, 0
	ok, err := f.advance()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, io.EOF
	}
	f.block = pit.Block{Keys: f.keys, Times: f.verCols[0].Int64s()}
	if f.known {
		if err := f.loadVersion(1); err != nil {
			return nil, err
		}
		f.block.Ingested = f.verCols[1].Int64s()
	}
	return &f.block, nil
}
