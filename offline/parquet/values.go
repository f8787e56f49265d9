package parquet

import (
	"encoding/binary"
	"errors"
	"math"
	"unsafe"

	"github.com/forebay/forebay/offline/pages"
	"github.com/forebay/forebay/registry/feature"
)

var errNull = errors.New("null in a column without nulls")

// pageValues are rows [from, to) of a column as a page holds them; a nil column is all null. They share
// the column's memory where that has the page's form, and use v's where not.
func pageValues(spec *column, c *feature.Column, from, to int, v *pages.Values) (pages.Values, error) {
	v.Reset()
	n := to - from
	if c == nil {
		if spec.required {
			return *v, errNull
		}
		v.Entries = n
		v.Def = append(v.Def, make([]byte, n)...)
		if list(spec.Type) {
			v.Rep = append(v.Rep, make([]byte, n)...)
		}
		return *v, nil
	}
	if list(spec.Type) {
		return lists(spec, c, from, to, v)
	}
	v.Entries = n
	nulls := false
	if len(c.Nulls) > 0 {
		for row := from; row < to; row++ {
			def := byte(1)
			if c.IsNull(row) {
				def, nulls = 0, true
			}
			v.Def = append(v.Def, def)
		}
	}
	if nulls && spec.required {
		return *v, errNull
	}
	out := *v
	if !nulls {
		out.Def = nil
	}
	switch {
	case !c.Type.Kind.Fixed():
		out.Data, out.Offsets = c.Data, c.Offsets[from:to+1]
		if nulls { // a null has no bytes, so what is left is still in one piece
			for row := from; row < to; row++ {
				if !c.IsNull(row) {
					v.Offsets = append(v.Offsets, c.Offsets[row])
				}
			}
			out.Offsets = append(v.Offsets, c.Offsets[to])
			v.Offsets = out.Offsets
		}
	case c.Type.Kind == feature.Bool:
		for row := from; row < to; row++ {
			if !nulls || !c.IsNull(row) {
				v.Fixed = append(v.Fixed, byte(c.Nums[row]))
			}
		}
		out.Fixed = v.Fixed
	case spec.narrow:
		for row := from; row < to; row++ {
			if !nulls || !c.IsNull(row) {
				v.Fixed = binary.LittleEndian.AppendUint32(v.Fixed, uint32(c.Nums[row]))
			}
		}
		out.Fixed = v.Fixed
	case nulls:
		for row := from; row < to; row++ {
			if !c.IsNull(row) {
				v.Fixed = binary.LittleEndian.AppendUint64(v.Fixed, c.Nums[row])
			}
		}
		out.Fixed = v.Fixed
	default:
		out.Fixed = wordBytes(c.Nums[from:to])
	}
	return out, nil
}

func list(t feature.Type) bool { return t.Kind == feature.List || t.Kind == feature.Embedding }

// wordBytes is the memory of words.
func wordBytes(w []uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w))), 8*len(w))
}

// lists takes lists apart into levels and elements.
func lists(spec *column, c *feature.Column, from, to int, v *pages.Values) (pages.Values, error) {
	empty := byte(1) // the definition level of a list without elements
	if spec.required {
		empty = 0
	}
	text := c.Type.Kind == feature.List && !c.Type.Elem.Fixed()
	if text {
		v.Offsets = append(v.Offsets, 0)
	}
	for row := from; row < to; row++ {
		var n int
		switch {
		case c.IsNull(row):
			if spec.required {
				return *v, errNull
			}
			v.Def, v.Rep = append(v.Def, 0), append(v.Rep, 0)
			continue
		case c.Type.Kind == feature.Embedding:
			e := c.Values[row].Embedding()
			n = len(e)
			for _, f := range e {
				v.Fixed = binary.LittleEndian.AppendUint32(v.Fixed, math.Float32bits(f))
			}
		default:
			elems := c.Values[row].List()
			n = len(elems)
			for _, e := range elems {
				switch {
				case text:
					v.Data = append(v.Data, e.Bytes()...)
					v.Offsets = append(v.Offsets, uint32(len(v.Data)))
				case e.Kind() == feature.Bool:
					v.Fixed = append(v.Fixed, byte(e.Bits()))
				default:
					v.Fixed = binary.LittleEndian.AppendUint64(v.Fixed, e.Bits())
				}
			}
		}
		if n == 0 {
			v.Def, v.Rep = append(v.Def, empty), append(v.Rep, 0)
			continue
		}
		for i := range n {
			v.Def, v.Rep = append(v.Def, empty+1), append(v.Rep, byte(min(i, 1)))
		}
	}
	v.Entries = len(v.Def)
	return *v, nil
}
