package parquet

import (
	"encoding/binary"

	"github.com/forebay/forebay/registry/feature"
)

// spoolColumn appends a column to a block: its rows, nulls and bad ones as bitmaps, then the values as memory
// has them; lists with their lengths and elements.
func spoolColumn(dst []byte, c *feature.Column) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, uint32(c.Len))
	dst = le.AppendUint32(dst, uint32(len(c.Nulls)))
	dst = le.AppendUint32(dst, uint32(len(c.Bad)))
	dst = append(dst, bytesOf(c.Nulls)...)
	dst = append(dst, bytesOf(c.Bad)...)
	switch {
	case c.Len == 0:
	case c.Type.Kind.Fixed():
		dst = append(dst, bytesOf(c.Nums[:c.Len])...)
	case c.Type.Kind == feature.String || c.Type.Kind == feature.Bytes:
		dst = append(dst, bytesOf(c.Offsets[:c.Len+1])...)
		dst = append(dst, c.Data[:c.Offsets[c.Len]]...)
	default:
		for i, v := range c.Values[:c.Len] {
			if !c.IsNull(i) {
				dst = spoolList(dst, v)
			}
		}
	}
	return dst
}

func spoolList(dst []byte, v feature.Value) []byte {
	le := binary.LittleEndian
	if v.Kind() == feature.Embedding {
		return append(dst, bytesOf(v.Embedding())...)
	}
	elems := v.List()
	dst = le.AppendUint32(dst, uint32(len(elems)))
	for _, e := range elems {
		if e.Kind() == feature.String || e.Kind() == feature.Bytes {
			dst = le.AppendUint32(dst, uint32(len(e.Bytes())))
			dst = append(dst, e.Bytes()...)
		} else {
			dst = le.AppendUint64(dst, e.Bits())
		}
	}
	return dst
}

// unspoolColumn fills a column, which is emptied before, from the front of src, and returns the rest. What was
// handed out of the column before stays valid if it is a list.
func unspoolColumn(src []byte, c *feature.Column) []byte {
	le := binary.LittleEndian
	c.Reset()
	n, nulls, bad := int(le.Uint32(src)), int(le.Uint32(src[4:])), int(le.Uint32(src[8:]))
	src = src[12:]
	c.Nulls, c.Bad = sized(c.Nulls, nulls), sized(c.Bad, bad)
	src = unspool(c.Bad, unspool(c.Nulls, src))
	switch {
	case n == 0:
		return src
	case c.Type.Kind.Fixed():
		c.Nums = sized(c.Nums, n)
		src = unspool(c.Nums, src)
	case c.Type.Kind == feature.String || c.Type.Kind == feature.Bytes:
		c.Offsets = sized(c.Offsets, n+1)
		src = unspool(c.Offsets, src)
		c.Data = sized(c.Data, int(c.Offsets[n]))
		src = unspool(c.Data, src)
	default:
		for i := range n {
			var v feature.Value
			if !c.Nulls.Get(i) {
				v, src = unspoolList(src, c.Type)
			}
			c.Values = append(c.Values, v)
		}
	}
	c.Len = n
	return src
}

func unspoolList(src []byte, t feature.Type) (feature.Value, []byte) {
	le := binary.LittleEndian
	if t.Kind == feature.Embedding {
		fs := make([]float32, t.Dim)
		src = unspool(fs, src)
		return feature.OfEmbedding(fs), src
	}
	elems := feature.NewColumn("", feature.Type{Kind: t.Elem}, 0)
	n := int(le.Uint32(src))
	src = src[4:]
	for range n {
		if t.Elem == feature.String || t.Elem == feature.Bytes {
			size := le.Uint32(src)
			elems.AppendBytes(src[4 : 4+size])
			src = src[4+size:]
		} else {
			elems.AppendBits(le.Uint64(src))
			src = src[8:]
		}
	}
	vs := make([]feature.Value, n)
	for i := range vs {
		vs[i] = elems.Value(i)
	}
	return feature.OfList(t.Elem, vs), src
}

// sized is a slice of n elements in the memory of s, if that is enough.
func sized[S ~[]T, T any](s S, n int) S {
	if cap(s) < n {
		return make(S, n)
	}
	return s[:n]
}
