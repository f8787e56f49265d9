package feature

import (
	"fmt"
	"math/bits"
	"unsafe"
)

// Bitmap is a set of row numbers, 64 to a word. Rows past its end are not in it.
type Bitmap []uint64

// Get reports whether i is in the set.
func (b Bitmap) Get(i int) bool { return i>>6 < len(b) && b[i>>6]>>(uint(i)&63)&1 != 0 }

// Set puts i into the set, growing it.
func (b *Bitmap) Set(i int) {
	for i>>6 >= len(*b) {
		*b = append(*b, 0)
	}
	(*b)[i>>6] |= 1 << (uint(i) & 63)
}

// Count is the number of rows in the set.
func (b Bitmap) Count() (n int) {
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// Column is a vector of values of one type, in the memory layout that suits
// reading and writing many at once. Which slice holds the values depends on the
// kind of Type:
//
//	Bool, Int64, Float64, Timestamp   Nums, one word a row (0 where null)
//	String, Bytes                     Data[Offsets[i]:Offsets[i+1]] (empty where null)
//	List, Embedding                   Values (the null Value where null)
//
// Nulls are counted in Nulls as well; a row in Bad is null because it could not
// be computed. The zero Column with a Type is empty and ready for use.
type Column struct {
	Name    string
	Type    Type
	Len     int
	Nulls   Bitmap // rows without a value
	Bad     Bitmap // of these, the invalid ones
	Nums    []uint64
	Offsets []uint32 // Len+1 of them, or none while empty
	Data    []byte
	Values  []Value
}

// NewColumn makes an empty column with room for n rows.
func NewColumn(name string, t Type, n int) *Column {
	c := &Column{Name: name, Type: t}
	switch {
	case t.Kind.Fixed():
		c.Nums = make([]uint64, 0, n)
	case t.Kind == String || t.Kind == Bytes:
		c.Offsets = make([]uint32, 1, n+1)
	default:
		c.Values = make([]Value, 0, n)
	}
	return c
}

// Reserve makes room for n rows in columns that are empty: those of fixed kinds that have less get it
// side by side in one piece of memory. Whoever goes through such columns row by row then
// finds them spread over the processor's cache, where pieces of powers of two would meet in few of its places.
func Reserve(cols []*Column, n int) {
	const line = 8 // words of a cache line
	stride := ((n+line-1)/line | 1) * line
	short := 0
	for _, c := range cols {
		if c.Type.Kind.Fixed() && cap(c.Nums) < n {
			short++
		}
	}
	if short == 0 {
		return
	}
	words := make([]uint64, short*stride)
	for _, c := range cols {
		if c.Type.Kind.Fixed() && cap(c.Nums) < n {
			c.Nums, words = words[:0:stride], words[stride:]
		}
	}
}

// Reset empties the column and keeps its memory. Values handed out before become invalid.
func (c *Column) Reset() {
	c.Len, c.Nulls, c.Bad = 0, c.Nulls[:0], c.Bad[:0]
	c.Nums, c.Data = c.Nums[:0], c.Data[:0]
	c.Offsets = c.Offsets[:min(1, len(c.Offsets))]
	clear(c.Values)
	c.Values = c.Values[:0]
}

// IsNull reports whether row i has no value.
func (c *Column) IsNull(i int) bool { return c.Nulls.Get(i) }

// Int64s are the rows of an Int64 or Timestamp column, zero where null. They share memory.
func (c *Column) Int64s() []int64 {
	return unsafe.Slice((*int64)(unsafe.Pointer(unsafe.SliceData(c.Nums))), len(c.Nums))
}

// Float64s are the rows of a Float64 column, zero where null. They share memory.
func (c *Column) Float64s() []float64 {
	return unsafe.Slice((*float64)(unsafe.Pointer(unsafe.SliceData(c.Nums))), len(c.Nums))
}

// Bytes are the bytes of row i of a String or Bytes column. They are shared.
func (c *Column) Bytes(i int) []byte { return c.Data[c.Offsets[i]:c.Offsets[i+1]] }

// Value is row i. It refers to the column's memory and is valid until Reset.
func (c *Column) Value(i int) Value {
	if c.Nulls.Get(i) {
		if c.Bad.Get(i) {
			return Invalid()
		}
		return Value{}
	}
	switch c.Type.Kind {
	case String:
		b := c.Bytes(i)
		return OfString(unsafe.String(unsafe.SliceData(b), len(b)))
	case Bytes:
		return OfBytes(c.Bytes(i))
	case List, Embedding:
		return c.Values[i]
	}
	return ofBits(c.Type.Kind, c.Nums[i])
}

// AppendNull appends a null.
func (c *Column) AppendNull() {
	c.Nulls.Set(c.Len)
	switch {
	case c.Type.Kind.Fixed():
		c.Nums = append(c.Nums, 0)
	case c.Type.Kind == String || c.Type.Kind == Bytes:
		c.appendOffset()
	default:
		c.Values = append(c.Values, Value{})
	}
	c.Len++
}

// AppendInvalid appends the null of a value that could not be computed.
func (c *Column) AppendInvalid() {
	c.Bad.Set(c.Len)
	c.AppendNull()
}

// AppendBits appends a value of a fixed kind by its bits.
func (c *Column) AppendBits(bits uint64) {
	c.Nums = append(c.Nums, bits)
	c.Len++
}

// AppendBytes appends a string or bytes, copying b.
func (c *Column) AppendBytes(b []byte) {
	if len(c.Offsets) == 0 {
		c.Offsets = append(c.Offsets, 0)
	}
	c.Data = append(c.Data, b...)
	c.appendOffset()
	c.Len++
}

func (c *Column) appendOffset() {
	if len(c.Offsets) == 0 {
		c.Offsets = append(c.Offsets, 0)
	}
	if uint64(len(c.Data)) > 1<<32-1 {
		panic("feature: more than 4 GiB of text in one column of one batch")
	}
	c.Offsets = append(c.Offsets, uint32(len(c.Data)))
}

// Append appends a value of the column's type, or a null. Text is copied; a
// List or an Embedding is kept by reference. A value of another type is a
// mistake of the caller and panics.
func (c *Column) Append(v Value) {
	switch {
	case v.IsInvalid():
		c.AppendInvalid()
		return
	case v.IsNull():
		c.AppendNull()
		return
	case v.Kind() != c.Type.Kind || (v.Kind() == List && v.elem != c.Type.Elem) || (v.Kind() == Embedding && int(v.num) != c.Type.Dim):
		panic(fmt.Sprintf("feature: a %s appended to column %q of %s", v.Type(), c.Name, c.Type))
	}
	switch v.kind {
	case String, Bytes:
		c.AppendBytes(v.Bytes())
	case List, Embedding:
		c.Values = append(c.Values, v)
		c.Len++
	default:
		c.AppendBits(v.num)
	}
}

// AppendRow appends row i of a column of the same type.
func (c *Column) AppendRow(from *Column, i int) {
	if from.Nulls.Get(i) {
		if from.Bad.Get(i) {
			c.AppendInvalid()
		} else {
			c.AppendNull()
		}
		return
	}
	switch c.Type.Kind {
	case String, Bytes:
		c.AppendBytes(from.Bytes(i))
	case List, Embedding:
		c.Values = append(c.Values, from.Values[i])
		c.Len++
	default:
		c.AppendBits(from.Nums[i])
	}
}

// Batch is a number of rows, column by column.
type Batch struct {
	Columns []*Column
	// Versions has one entry a row where the rows are versions of something (a
	// source's or a view's rows), and is empty where they are not (a spine).
	Versions []Version
	// Rows is the number of rows; every column has as many.
	Rows int
}

// NewBatch makes an empty batch with room for n rows.
func NewBatch(fields []Field, n int) *Batch {
	b := &Batch{Columns: make([]*Column, len(fields))}
	for i, f := range fields {
		b.Columns[i] = NewColumn(f.Name, f.Type, n)
	}
	return b
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	for _, c := range b.Columns {
		c.Reset()
	}
	b.Versions, b.Rows = b.Versions[:0], 0
}

// Column finds a column by name; nil if there is none.
func (b *Batch) Column(name string) *Column {
	for _, c := range b.Columns {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Fields are the names and types of the columns.
func (b *Batch) Fields() []Field {
	fs := make([]Field, len(b.Columns))
	for i, c := range b.Columns {
		fs[i] = Field{Name: c.Name, Type: c.Type}
	}
	return fs
}

// AppendRow appends row i of a batch with the same columns in the same order.
func (b *Batch) AppendRow(from *Batch, i int) {
	for j, c := range b.Columns {
		c.AppendRow(from.Columns[j], i)
	}
	if len(from.Versions) > 0 {
		b.Versions = append(b.Versions, from.Versions[i])
	}
	b.Rows++
}
