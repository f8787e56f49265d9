package rowcodec

import (
	"encoding/binary"
	"slices"

	"github.com/forebay/forebay/registry/feature"
)

// Decoder decodes chosen features. It is immutable, and safe for concurrent use.
type Decoder struct {
	c      *Codec
	fields []int  // as chosen
	lists  []int  // of fields, those whose bytes may be wrong although the record is whole
	words  []pick // what is chosen, by its class, in the order of slots
	bools  []pick
	texts  []pick
}

// pick is one chosen feature.
type pick struct {
	slot int
	col  int // its place among the chosen
}

// Decoder compiles the decoding of chosen features, by their place in Fields.
func (c *Codec) Decoder(fields []int) *Decoder {
	d := &Decoder{c: c, fields: append([]int(nil), fields...)}
	at := make([][]int, len(c.slots))
	for i, f := range fields {
		s := c.slotOf[f]
		at[s] = append(at[s], i)
		if k := c.fields[f].Type.Kind; k == feature.List || k == feature.Embedding {
			d.lists = append(d.lists, f)
		}
	}
	for s, cols := range at {
		class := &d.texts
		if s < c.words {
			class = &d.words
		} else if s < c.bools {
			class = &d.bools
		}
		for _, col := range cols {
			*class = append(*class, pick{slot: s, col: col})
		}
	}
	return d
}

// Columns makes the columns that Decode fills, with memory for n rows.
func (d *Decoder) Columns(n int) []*feature.Column {
	cols := make([]*feature.Column, len(d.fields))
	for i, f := range d.fields {
		cols[i] = feature.NewColumn(d.c.fields[f].Name, d.c.fields[f].Type, n)
	}
	return cols
}

// Open is Codec.Open into a Row; it also checks the chosen lists, so that Decode cannot fail. Where there is an error the row is of no use.
func (d *Decoder) Open(rec []byte, r *Row) error {
	if err := d.c.open(rec, r); err != nil {
		return err
	}
	for _, f := range d.lists {
		if _, err := r.Value(f); err != nil {
			return err
		}
	}
	return nil
}

// Room makes room for n rows in cols, which are empty: one column for each chosen feature, in the order chosen.
func (d *Decoder) Room(cols []*feature.Column, n int) {
	feature.Reserve(cols, n)
	for _, picks := range [][]pick{d.words, d.bools} {
		for _, p := range picks {
			cols[p.col].Nums, cols[p.col].Len = slices.Grow(cols[p.col].Nums[:0], n)[:n], n
		}
	}
}

// Tile is how many rows are best decoded at a time: they and what becomes of them are in the processor's first cache.
const Tile = 16

// Decode puts the chosen features of some rows into cols, which have Room: those from row first on. All rows are
// decoded once, in their order, and are such as this decoder has opened. Strings and
// bytes are copied; lists refer to the record's bytes.
func (d *Decoder) Decode(rows []Row, cols []*feature.Column, first int) {
	whole := true // are all rows
	for i := range rows {
		if rows[i].kind != plain {
			d.fixed(&rows[i], cols, first+i)
			whole = false
		}
	}
	at := headerLen + bitmapLen(d.c.bools-d.c.words) // where the words of a plain row start
	for _, p := range d.words {
		from := at + 8*p.slot
		nums := cols[p.col].Nums[first : first+len(rows)]
		if whole {
			for i := range nums {
				nums[i] = binary.LittleEndian.Uint64(rows[i].rec[from:])
			}
			continue
		}
		for i := range nums {
			if rows[i].kind == plain {
				nums[i] = binary.LittleEndian.Uint64(rows[i].rec[from:])
			}
		}
	}
	for _, p := range d.bools {
		nums := cols[p.col].Nums[first : first+len(rows)]
		for i := range nums {
			if r := &rows[i]; r.kind == plain {
				nums[i] = toWord(r.bool(p.slot))
			}
		}
	}
	for _, p := range d.texts {
		for i := range rows {
			d.text(&rows[i], p, cols[p.col])
		}
	}
}

func toWord(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// fixed puts the words and bools of a row that is not plain into row i of their columns.
func (d *Decoder) fixed(r *Row, cols []*feature.Column, i int) {
	if r.kind != partial {
		for _, picks := range [][]pick{d.words, d.bools} {
			for _, p := range picks {
				setNull(cols[p.col], i, r.kind == badRow)
			}
		}
		return
	}
	nulls, words := r.rec[r.nulls:r.invalid], r.rec[r.words:r.ends]
	at, slot := 0, 0 // of words, where that of a slot is
	for _, p := range d.words {
		for ; slot < p.slot; slot++ {
			if !bit(nulls, slot) {
				at += 8
			}
		}
		if bit(nulls, slot) {
			setNull(cols[p.col], i, r.isInvalid(slot))
			continue
		}
		cols[p.col].Nums[i] = binary.LittleEndian.Uint64(words[at:])
	}
	for _, p := range d.bools {
		if bit(nulls, p.slot) {
			setNull(cols[p.col], i, r.isInvalid(p.slot))
			continue
		}
		cols[p.col].Nums[i] = toWord(r.bool(p.slot))
	}
}

// setNull makes row i of a column of words or bools null.
func setNull(c *feature.Column, i int, invalid bool) {
	if invalid {
		c.Bad.Set(i)
	}
	c.Nulls.Set(i)
	c.Nums[i] = 0
}

// text appends a string, bytes, list or embedding to its column.
func (d *Decoder) text(r *Row, p pick, c *feature.Column) {
	switch {
	case r.kind == badRow || r.kind == partial && r.isNull(p.slot) && r.isInvalid(p.slot):
		c.AppendInvalid()
		return
	case r.kind == noRow || r.isNull(p.slot):
		c.AppendNull()
		return
	}
	b := r.text(p.slot)
	if k := c.Type.Kind; k == feature.String || k == feature.Bytes {
		c.AppendBytes(b)
		return
	}
	v, err := r.decodeText(c.Type, b, d.c.slots[p.slot])
	if err != nil {
		panic("rowcodec: a row that this decoder has not opened: " + err.Error())
	}
	c.Append(v)
}
