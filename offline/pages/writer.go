package pages

import (
	"encoding/binary"
	"fmt"
	"io"

	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// Values are the entries of one leaf for a run of rows: levels as in the format
// (Melnik et al., "Dremel", 2010), and the values of those entries that have one, densely.
type Values struct {
	Entries int
	Def     []byte // definition level of each entry; nil: all entries have a value
	Rep     []byte // repetition level of each entry of a leaf in a list

	Fixed   []byte   // values of a fixed width, little-endian; of bools a byte each
	Data    []byte   // byte arrays: value i is Data[Offsets[i]:Offsets[i+1]]
	Offsets []uint32 // one more than there are values, or none
}

// Reset empties v and keeps its memory, which must be its own.
func (v *Values) Reset() {
	v.Entries, v.Def, v.Rep, v.Fixed, v.Data, v.Offsets = 0, v.Def[:0], v.Rep[:0], v.Fixed[:0], v.Data[:0], v.Offsets[:0]
}

// Size is how many bytes the values have.
func (v *Values) Size() int {
	if len(v.Offsets) > 0 {
		return int(v.Offsets[len(v.Offsets)-1]-v.Offsets[0]) + 4*len(v.Offsets)
	}
	return len(v.Fixed)
}

// Options of a Writer.
type Options struct {
	CreatedBy string
	Metadata  [][2]string // keys and values of the footer
	// DictionaryBytes is the size to which the dictionary of a leaf grows in a row group.
	DictionaryBytes int
	// Temporary leaves out what a file that is read once, soon and by us needs not: compression, checksums and bounds.
	Temporary bool
}

// Writer writes one file. Row groups are held in memory until they are whole.
// It is used by one goroutine, but for Page.
type Writer struct {
	w      io.Writer
	offset int64 // bytes written
	leaves []*leaf
	footer format.FileMetaData
	index  []chunkIndex // of every chunk written, in order
}

// chunkIndex is what is written of a chunk after the row groups.
type chunkIndex struct {
	columns format.ColumnIndex
	offsets format.OffsetIndex
}

// NewWriter begins a file. The leaves of the schema whose encoding is RLE_DICTIONARY get a dictionary.
func NewWriter(w io.Writer, schema *pq.Schema, o Options) (*Writer, error) {
	p := &Writer{w: w, footer: format.FileMetaData{Version: 2, CreatedBy: o.CreatedBy}}
	for _, kv := range o.Metadata {
		p.footer.KeyValueMetadata = append(p.footer.KeyValueMetadata, format.KeyValue{Key: kv[0], Value: kv[1]})
	}
	p.describe(schema.Name(), schema, nil, 0, 0, true)
	for _, l := range p.leaves {
		l.dictMax, l.temporary = o.DictionaryBytes, o.Temporary
		p.footer.ColumnOrders = append(p.footer.ColumnOrders, format.ColumnOrder{Value: new(format.TypeDefinedOrder)})
		if !l.known() {
			return nil, fmt.Errorf("column %v: %s cannot be written", l.path, l.kind)
		}
	}
	return p, p.write([]byte("PAR1"))
}

// describe appends a node and those below it to the footer's schema, depth first.
func (p *Writer) describe(name string, n pq.Node, path []string, def, rep int, root bool) {
	e := format.SchemaElement{Name: name, FieldID: int32(n.ID())} //nolint:gosec // an int32 in the format
	if !root {
		kind := format.Required
		switch {
		case n.Optional():
			kind, def = format.Optional, def+1
		case n.Repeated():
			kind, def, rep = format.Repeated, def+1, rep+1
		}
		e.RepetitionType.Set(kind)
	}
	t := n.Type()
	if l := t.LogicalType(); l != nil {
		e.LogicalType = *l
		if d, ok := l.Value.(*format.DecimalType); ok {
			e.Scale.Set(d.Scale)
			e.Precision.Set(d.Precision)
		}
	}
	if c := t.ConvertedType(); c != nil {
		e.ConvertedType.Set(*c)
	}
	if !n.Leaf() {
		e.NumChildren.Set(int32(len(n.Fields()))) //nolint:gosec // a count
		p.footer.Schema = append(p.footer.Schema, e)
		for _, f := range n.Fields() {
			p.describe(f.Name(), f, append(path[:len(path):len(path)], f.Name()), def, rep, false)
		}
		return
	}
	e.Type.Set(*t.PhysicalType())
	if t.Kind() == pq.FixedLenByteArray {
		e.TypeLength.Set(int32(t.Length())) //nolint:gosec // an int32 in the format
	}
	p.footer.Schema = append(p.footer.Schema, e)
	l := newLeaf(n, path, def, rep)
	p.leaves = append(p.leaves, l)
}

func (p *Writer) write(b []byte) error {
	n, err := p.w.Write(b)
	p.offset += int64(n)
	return err
}

// Leaves is the number of leaves of the schema.
func (p *Writer) Leaves() int { return len(p.leaves) }

// Page adds a data page of so many rows to a leaf's chunk. Every leaf gets the same rows in
// a row group, and may get them in other pages. Different leaves may be given theirs concurrently.
func (p *Writer) Page(leaf, rows int, v *Values) error {
	l := p.leaves[leaf]
	if rows == 0 {
		return nil
	}
	if err := l.page(rows, v); err != nil {
		return fmt.Errorf("column %v: %w", l.path, err)
	}
	return nil
}

// Buffered is how many bytes are held in memory for the row group.
func (p *Writer) Buffered() (n int64) {
	for _, l := range p.leaves {
		n += int64(len(l.buf) + l.dictBytes)
	}
	return n
}

// Written is how many bytes were written.
func (p *Writer) Written() int64 { return p.offset }

// EndGroup writes the row group. One without rows is none.
func (p *Writer) EndGroup() error {
	if len(p.leaves) == 0 || p.leaves[0].rows == 0 {
		return nil
	}
	g := format.RowGroup{NumRows: p.leaves[0].rows, FileOffset: p.offset, Ordinal: int16(len(p.footer.RowGroups))} //nolint:gosec // an int16 in the format
	for _, l := range p.leaves {
		if l.rows != g.NumRows {
			return fmt.Errorf("column %v: %d rows, where another column has %d", l.path, l.rows, g.NumRows)
		}
		chunk, index, err := l.end(p)
		if err != nil {
			return err
		}
		g.Columns = append(g.Columns, chunk)
		g.TotalByteSize += chunk.MetaData.TotalUncompressedSize
		g.TotalCompressedSize += chunk.MetaData.TotalCompressedSize
		p.index = append(p.index, index)
	}
	p.footer.RowGroups = append(p.footer.RowGroups, g)
	p.footer.NumRows += g.NumRows
	return nil
}

// RowGroups describes the row groups written.
func (p *Writer) RowGroups() []format.RowGroup { return p.footer.RowGroups }

// Close writes the last row group and what ends the file.
func (p *Writer) Close() error {
	if err := p.EndGroup(); err != nil {
		return err
	}
	at := 0
	each := func(f func(c *format.ColumnChunk, x *chunkIndex) error) error {
		at = 0
		for i := range p.footer.RowGroups {
			cs := p.footer.RowGroups[i].Columns
			for j := range cs {
				if err := f(&cs[j], &p.index[at]); err != nil {
					return err
				}
				at++
			}
		}
		return nil
	}
	err := each(func(c *format.ColumnChunk, x *chunkIndex) (err error) {
		c.ColumnIndexOffset = p.offset
		err = p.encode(&x.columns)
		c.ColumnIndexLength = int32(p.offset - c.ColumnIndexOffset) //nolint:gosec // an int32 in the format
		return err
	})
	if err == nil {
		err = each(func(c *format.ColumnChunk, x *chunkIndex) (err error) {
			c.OffsetIndexOffset = p.offset
			err = p.encode(&x.offsets)
			c.OffsetIndexLength = int32(p.offset - c.OffsetIndexOffset) //nolint:gosec // an int32 in the format
			return err
		})
	}
	if err != nil {
		return err
	}
	start := p.offset
	if err := p.encode(&p.footer); err != nil {
		return err
	}
	return p.write(append(binary.LittleEndian.AppendUint32(nil, uint32(p.offset-start)), "PAR1"...)) //nolint:gosec // an int32 in the format
}

func (p *Writer) encode(v any) error {
	b, err := thrift.Marshal(new(thrift.CompactProtocol), v)
	if err != nil {
		return err
	}
	return p.write(b)
}
