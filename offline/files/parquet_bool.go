package files

import (
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/parquet-go/parquet-go/encoding"
	"github.com/parquet-go/parquet-go/format"
)

// rleBools reads a column of bools that is encoded in runs (RLE), as writers of
// version 2 data pages do. parquet-go v0.32 reads such runs wrongly, without an
// error: it repeats a run's byte, not its bit, and rounds its length up to a
// multiple of eight. So these columns, and only these, are read with Arrow's reader.
type rleBools struct {
	column   *file.BooleanColumnChunkReader
	values   []bool
	def, rep []int16
}

// needsRLEBools reports whether a bool column chunk has values in runs: its
// encodings, which for the levels hold RLE in any case, lack PLAIN.
func needsRLEBools(c *format.ColumnMetaData) bool {
	return c.Type == format.Boolean && !slices.Contains(c.Encoding, format.Plain)
}

// rleBools opens column c of row group g with Arrow's reader.
func (t *parquetTable) rleBools(g, c int) (*rleBools, error) {
	if t.arrow == nil {
		size, err := t.in.Seek(0, io.SeekEnd)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", t.file.Name, err)
		}
		r, err := file.NewParquetReader(io.NewSectionReader(t.in, 0, size))
		if err != nil {
			return nil, fmt.Errorf("%s cannot be read as Parquet: %w", t.file.Name, err)
		}
		t.arrow = r
	}
	column, err := t.arrow.RowGroup(g).Column(c)
	if err != nil {
		return nil, err
	}
	bools, ok := column.(*file.BooleanColumnChunkReader)
	if !ok {
		return nil, fmt.Errorf("column %d is %s where bool was expected", c, column.Type())
	}
	const batch = 4096
	return &rleBools{column: bools, values: make([]bool, batch), def: make([]int16, batch), rep: make([]int16, batch)}, nil
}

// next makes the next entries the page being read; io.EOF after the last.
func (l *leafReader) nextBools() error {
	b := l.bools
	if !b.column.HasNext() {
		if err := b.column.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	entries, values, err := b.column.ReadBatch(int64(len(b.values)), b.values, b.def, b.rep)
	if err != nil {
		return err
	}
	if entries == 0 {
		return io.ErrUnexpectedEOF
	}
	l.entries, l.entry, l.value = int(entries), 0, 0
	l.def, l.rep, l.indexes = levels(l.def, b.def[:entries]), levels(l.rep, b.rep[:entries]), nil
	bits := make([]byte, (values+7)/8)
	for i, v := range b.values[:values] {
		if v {
			bits[i>>3] |= 1 << (uint(i) & 7)
		}
	}
	l.data = encoding.BooleanValues(bits)
	return nil
}

func levels(dst []byte, from []int16) []byte {
	dst = dst[:0]
	for _, v := range from {
		dst = append(dst, byte(v)) //nolint:gosec // levels are bytes
	}
	return dst
}
