package files

import (
	"fmt"
	"math"
	"unicode/utf8"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/float16"

	"github.com/forebay/forebay/registry/feature"
)

// convertible says why a column of an Arrow type cannot be read as a feature
// type; nil if it can, apart from single values. With text, strings are read as timestamps.
func convertible(dt arrow.DataType, want feature.Type, text bool) error {
	if dt.ID() == arrow.NULL {
		return nil
	}
	ok := false
	switch want.Kind {
	case feature.Bool:
		ok = dt.ID() == arrow.BOOL
	case feature.Int64:
		ok = arrow.IsInteger(dt.ID())
	case feature.Float64:
		ok = arrow.IsInteger(dt.ID()) || arrow.IsFloating(dt.ID())
	case feature.String:
		ok = isText(dt) || dt.ID() == arrow.BINARY || dt.ID() == arrow.LARGE_BINARY
	case feature.Bytes:
		ok = isText(dt) || dt.ID() == arrow.BINARY || dt.ID() == arrow.LARGE_BINARY || dt.ID() == arrow.FIXED_SIZE_BINARY
	case feature.Timestamp:
		ok = dt.ID() == arrow.TIMESTAMP || dt.ID() == arrow.DATE32 || dt.ID() == arrow.DATE64 || (text && isText(dt))
	case feature.List:
		if elem := listElem(dt); elem != nil {
			return convertible(elem, feature.Type{Kind: want.Elem}, text)
		}
	case feature.Embedding:
		elem := listElem(dt)
		ok = elem != nil && (elem.ID() == arrow.FLOAT32 || elem.ID() == arrow.FLOAT16)
		if f, is := dt.(*arrow.FixedSizeListType); ok && is && int(f.Len()) != want.Dim {
			return fmt.Errorf("it has lists of %d numbers in the file, and is declared as %s", f.Len(), want)
		}
	}
	if ok {
		return nil
	}
	hint := ""
	switch {
	case arrow.IsDecimal(dt.ID()):
		hint = "; decimals are no feature type: cast it to float64, int64 or string"
	case want.Kind == feature.Timestamp && isText(dt):
		hint = "; cast it to a timestamp, or write the file as CSV or NDJSON, where timestamps are text"
	case arrow.IsFloating(dt.ID()) && want.Kind == feature.Int64, want.Kind == feature.Embedding && listElem(dt) != nil:
		hint = "; nothing is narrowed silently: cast it in the file or declare another type"
	}
	return fmt.Errorf("it is %s in the file, which cannot be read as %s%s", dt, want, hint)
}

func isText(dt arrow.DataType) bool {
	return dt.ID() == arrow.STRING || dt.ID() == arrow.LARGE_STRING
}

// listElem is the type of a list's elements; nil if dt is no list.
func listElem(dt arrow.DataType) arrow.DataType {
	switch d := dt.(type) {
	case *arrow.ListType:
		return d.Elem()
	case *arrow.LargeListType:
		return d.Elem()
	case *arrow.FixedSizeListType:
		return d.Elem()
	}
	return nil
}

// appendArray appends an array of a type that is convertible to a column. A value that
// cannot be read is told to bad, with its index, and is null in the column.
func appendArray(col *feature.Column, arr arrow.Array, bad func(i int, msg string)) {
	if arr.DataType().ID() == arrow.NULL {
		for range arr.Len() {
			col.AppendNull()
		}
		return
	}
	switch col.Type.Kind {
	case feature.Bool:
		a := arr.(*array.Boolean)
		for i := range a.Len() {
			if a.IsNull(i) {
				col.AppendNull()
			} else {
				col.AppendBits(feature.OfBool(a.Value(i)).Bits())
			}
		}
	case feature.Int64:
		appendInt64s(col, arr, bad)
	case feature.Float64:
		appendFloat64s(col, arr, bad)
	case feature.String, feature.Bytes:
		appendTexts(col, arr, bad)
	case feature.Timestamp:
		appendTimestamps(col, arr, bad)
	case feature.List:
		appendLists(col, arr, bad)
	case feature.Embedding:
		appendEmbeddings(col, arr, bad)
	}
}

type integer interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64
}

// eachInt calls f with every value of an array of integers that is not null, or col.AppendNull.
func eachInt(col *feature.Column, arr arrow.Array, f func(i int, v int64, over bool)) {
	switch a := arr.(type) {
	case *array.Int8:
		ints(col, arr, a.Int8Values(), f)
	case *array.Int16:
		ints(col, arr, a.Int16Values(), f)
	case *array.Int32:
		ints(col, arr, a.Int32Values(), f)
	case *array.Int64:
		ints(col, arr, a.Int64Values(), f)
	case *array.Uint8:
		ints(col, arr, a.Uint8Values(), f)
	case *array.Uint16:
		ints(col, arr, a.Uint16Values(), f)
	case *array.Uint32:
		ints(col, arr, a.Uint32Values(), f)
	case *array.Uint64:
		ints(col, arr, a.Uint64Values(), f)
	}
}

func ints[T integer](col *feature.Column, arr arrow.Array, vs []T, f func(i int, v int64, over bool)) {
	for i, v := range vs {
		if arr.IsNull(i) {
			col.AppendNull()
			continue
		}
		n := int64(v) //nolint:gosec // what does not fit is told
		f(i, n, n < 0 && v > 0)
	}
}

// appendWords appends values of eight bytes without nulls.
func appendWords[T int64 | float64 | arrow.Timestamp](col *feature.Column, vs []T) {
	col.Nums = append(col.Nums, unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(vs))), len(vs))...)
	col.Len += len(vs)
}

func appendInt64s(col *feature.Column, arr arrow.Array, bad func(int, string)) {
	if a, ok := arr.(*array.Int64); ok && a.NullN() == 0 {
		appendWords(col, a.Int64Values())
		return
	}
	eachInt(col, arr, func(i int, v int64, over bool) {
		if over {
			bad(i, fmt.Sprintf("%d is out of the range of int64", uint64(v))) //nolint:gosec // the value as it was
			col.AppendNull()
			return
		}
		col.AppendBits(uint64(v)) //nolint:gosec // the bits
	})
}

func appendFloat64s(col *feature.Column, arr arrow.Array, bad func(int, string)) {
	switch a := arr.(type) {
	case *array.Float64:
		if a.NullN() == 0 {
			appendWords(col, a.Float64Values())
			return
		}
		floats(col, arr, a.Float64Values(), func(v float64) float64 { return v })
	case *array.Float32:
		floats(col, arr, a.Float32Values(), func(v float32) float64 { return float64(v) })
	case *array.Float16:
		floats(col, arr, a.Values(), func(v float16.Num) float64 { return float64(v.Float32()) })
	default:
		eachInt(col, arr, func(i int, v int64, over bool) {
			f := float64(v)
			var exact bool
			if over {
				f = float64(uint64(v)) //nolint:gosec // the value as it was
				exact = f < 1<<64 && uint64(f) == uint64(v)
			} else {
				exact = f < 1<<63 && int64(f) == v
			}
			if !exact {
				bad(i, "the integer is not exact as a float64")
				col.AppendNull()
				return
			}
			col.AppendBits(math.Float64bits(f))
		})
	}
}

func floats[T any](col *feature.Column, arr arrow.Array, vs []T, f func(T) float64) {
	for i, v := range vs {
		if arr.IsNull(i) {
			col.AppendNull()
		} else {
			col.AppendBits(math.Float64bits(f(v)))
		}
	}
}

// texts gives access to the bytes of an array of strings or bytes.
func texts(arr arrow.Array) func(i int) []byte {
	str := func(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
	switch a := arr.(type) {
	case *array.String:
		return func(i int) []byte { return str(a.Value(i)) }
	case *array.LargeString:
		return func(i int) []byte { return str(a.Value(i)) }
	case *array.Binary:
		return a.Value
	case *array.LargeBinary:
		return a.Value
	case *array.FixedSizeBinary:
		return a.Value
	}
	return nil
}

func appendTexts(col *feature.Column, arr arrow.Array, bad func(int, string)) {
	text := texts(arr)
	for i := range arr.Len() {
		if arr.IsNull(i) {
			col.AppendNull()
			continue
		}
		b := text(i)
		if col.Type.Kind == feature.String && !utf8.Valid(b) {
			bad(i, "the string is not valid UTF-8")
			col.AppendNull()
			continue
		}
		col.AppendBytes(b)
	}
}

func appendTimestamps(col *feature.Column, arr arrow.Array, bad func(int, string)) {
	instant := func(i int, v, perMicro, micros int64) {
		if arr.IsNull(i) {
			col.AppendNull()
			return
		}
		if perMicro > 1 {
			v = feature.FloorDiv(v, perMicro)
		}
		if v < feature.MinTimestamp/micros-1 || v > feature.MaxTimestamp/micros || v*micros < feature.MinTimestamp {
			bad(i, "the timestamp is not between the years 1 and 9999")
			col.AppendNull()
			return
		}
		col.AppendBits(uint64(v * micros)) //nolint:gosec // the bits
	}
	switch a := arr.(type) {
	case *array.Timestamp:
		perMicro, micros := int64(1), int64(1)
		switch a.DataType().(*arrow.TimestampType).Unit {
		case arrow.Second:
			micros = 1e6
		case arrow.Millisecond:
			micros = 1e3
		case arrow.Nanosecond:
			perMicro = 1e3
		}
		for i, v := range a.TimestampValues() {
			instant(i, int64(v), perMicro, micros)
		}
	case *array.Date32:
		for i, v := range a.Date32Values() {
			instant(i, int64(v), 1, 86400e6)
		}
	case *array.Date64:
		for i, v := range a.Date64Values() {
			instant(i, int64(v), 1, 1e3)
		}
	default:
		text := texts(arr)
		for i := range arr.Len() {
			if arr.IsNull(i) {
				col.AppendNull()
				continue
			}
			micros, err := feature.ParseTimestamp(string(text(i)))
			if err != nil {
				bad(i, err.Error())
				col.AppendNull()
				continue
			}
			col.AppendBits(uint64(micros)) //nolint:gosec // the bits
		}
	}
}

// appendLists converts the elements of all rows at once, and cuts them up. The
// lists refer to that memory, which is theirs alone.
func appendLists(col *feature.Column, arr arrow.Array, bad func(int, string)) {
	list := arr.(array.ListLike)
	elems, from := elements(list)
	values := feature.NewColumn(col.Name, feature.Type{Kind: col.Type.Elem}, elems.Len())
	wrong := map[int]string{}
	appendArray(values, elems, func(i int, msg string) { wrong[i] = msg })
	for i := range arr.Len() {
		if arr.IsNull(i) {
			col.AppendNull()
			continue
		}
		start, end := list.ValueOffsets(i)
		vs, msg := make([]feature.Value, 0, end-start), ""
		for j := int(start - from); j < int(end-from) && msg == ""; j++ {
			if w, is := wrong[j]; is {
				msg = w
			} else if values.IsNull(j) {
				msg = "a null in a list"
			} else {
				vs = append(vs, values.Value(j))
			}
		}
		if msg != "" {
			bad(i, msg)
			col.AppendNull()
			continue
		}
		col.Append(feature.OfList(col.Type.Elem, vs))
	}
}

// elements are those of a list array's rows, and the offset of the first.
func elements(list array.ListLike) (elems arrow.Array, from int64) {
	if list.Len() == 0 {
		return array.NewSlice(list.ListValues(), 0, 0), 0
	}
	from, _ = list.ValueOffsets(0)
	_, to := list.ValueOffsets(list.Len() - 1)
	return array.NewSlice(list.ListValues(), from, to), from
}

func appendEmbeddings(col *feature.Column, arr arrow.Array, bad func(int, string)) {
	list := arr.(array.ListLike)
	elems, from := elements(list)
	var all []float32
	switch a := elems.(type) {
	case *array.Float32:
		all = append(all, a.Float32Values()...) // the array may be another's
	case *array.Float16:
		for _, v := range a.Values() {
			all = append(all, v.Float32())
		}
	}
	dim := col.Type.Dim
	for i := range arr.Len() {
		if arr.IsNull(i) {
			col.AppendNull()
			continue
		}
		start, end := list.ValueOffsets(i)
		msg := ""
		if end-start != int64(dim) {
			msg = fmt.Sprintf("an embedding of %d numbers, want %d", end-start, dim)
		}
		for j := start - from; j < end-from && elems.NullN() > 0 && msg == ""; j++ {
			if elems.IsNull(int(j)) {
				msg = "a null in an embedding"
			}
		}
		if msg != "" {
			bad(i, msg)
			col.AppendNull()
			continue
		}
		col.Append(feature.OfEmbedding(all[start-from : end-from : end-from]))
	}
}
