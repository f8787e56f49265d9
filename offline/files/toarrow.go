package files

import (
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/forebay/forebay/registry/feature"
)

// ArrowField is the Arrow field that a feature type is written as: timestamps in
// microseconds and UTC, embeddings as fixed-size lists of float32.
func ArrowField(f feature.Field) arrow.Field {
	return arrow.Field{Name: f.Name, Type: arrowType(f.Type), Nullable: true}
}

func arrowType(t feature.Type) arrow.DataType {
	switch t.Kind {
	case feature.Bool:
		return arrow.FixedWidthTypes.Boolean
	case feature.Int64:
		return arrow.PrimitiveTypes.Int64
	case feature.Float64:
		return arrow.PrimitiveTypes.Float64
	case feature.String:
		return arrow.BinaryTypes.String
	case feature.Bytes:
		return arrow.BinaryTypes.Binary
	case feature.Timestamp:
		return instantUTC
	case feature.List:
		return arrow.ListOfField(arrow.Field{Name: "element", Type: arrowType(feature.Type{Kind: t.Elem})})
	case feature.Embedding:
		return arrow.FixedSizeListOfField(int32(t.Dim), arrow.Field{Name: "element", Type: arrow.PrimitiveTypes.Float32}) //nolint:gosec // at most MaxDim
	}
	return arrow.Null
}

// Array copies a column into an Arrow array of ArrowField's type.
func Array(c *feature.Column) arrow.Array {
	n, dt := c.Len, arrowType(c.Type)
	bitmap, nulls := validity(c)
	switch {
	case c.Type.Kind == feature.Bool:
		bits := make([]byte, bitutil.BytesForBits(int64(n)))
		for i, v := range c.Nums {
			if v != 0 {
				bits[i>>3] |= 1 << (uint(i) & 7) //nolint:gosec // a row number
			}
		}
		return fixedArray(dt, n, bitmap, bits, nulls)
	case c.Type.Kind.Fixed():
		words := make([]uint64, n)
		copy(words, c.Nums)
		return fixedArray(dt, n, bitmap, arrow.Uint64Traits.CastToBytes(words), nulls)
	case c.Type.Kind == feature.String || c.Type.Kind == feature.Bytes:
		offsets := make([]int32, n+1)
		// The 32-bit offsets of a batch hold less than 2 GiB: runs are far smaller.
		copy(offsets, unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(c.Offsets))), len(c.Offsets)))
		data := array.NewData(dt, n, []*memory.Buffer{bitmap, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(offsets)),
			memory.NewBufferBytes(append([]byte(nil), c.Data...))}, nil, nulls, 0)
		return array.MakeFromData(data)
	case c.Type.Kind == feature.List:
		offsets := make([]int32, 1, n+1)
		elems := feature.NewColumn(c.Name, feature.Type{Kind: c.Type.Elem}, n)
		for _, v := range c.Values {
			if !v.IsNull() {
				for _, e := range v.List() {
					elems.Append(e)
				}
			}
			offsets = append(offsets, int32(elems.Len)) //nolint:gosec // as above
		}
		data := array.NewData(dt, n, []*memory.Buffer{bitmap, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(offsets))},
			[]arrow.ArrayData{Array(elems).Data()}, nulls, 0)
		return array.MakeFromData(data)
	}
	floats := make([]float32, n*c.Type.Dim)
	for i, v := range c.Values {
		if !v.IsNull() {
			copy(floats[i*c.Type.Dim:], v.Embedding())
		}
	}
	elems := fixedArray(arrow.PrimitiveTypes.Float32, len(floats), nil, arrow.Float32Traits.CastToBytes(floats), 0)
	return array.MakeFromData(array.NewData(dt, n, []*memory.Buffer{bitmap}, []arrow.ArrayData{elems.Data()}, nulls, 0))
}

func fixedArray(dt arrow.DataType, n int, bitmap *memory.Buffer, fixed []byte, nulls int) arrow.Array {
	return array.MakeFromData(array.NewData(dt, n, []*memory.Buffer{bitmap, memory.NewBufferBytes(fixed)}, nil, nulls, 0))
}

// validity is the column's bitmap of rows with a value; nil if all have one.
func validity(c *feature.Column) (*memory.Buffer, int) {
	nulls := c.Nulls.Count()
	if nulls == 0 {
		return nil, 0
	}
	words := make([]uint64, (c.Len+63)/64)
	for i := range words {
		words[i] = ^uint64(0)
		if i < len(c.Nulls) {
			words[i] = ^c.Nulls[i]
		}
	}
	return memory.NewBufferBytes(arrow.Uint64Traits.CastToBytes(words)), nulls
}
