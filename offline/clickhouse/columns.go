package clickhouse

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/forebay/forebay/registry/feature"
)

// The columns that Forebay adds to those of a source or a view.
const (
	colIngestedAt = "_ingested_at"
	colMajor      = "_sequence_major"
	colMinor      = "_sequence_minor"
	// Of a log.
	colFile   = "_file"
	colAppend = "_append"
	// Of a derived table.
	colEventTime = "event_timestamp"
	colInvalid   = "_invalid"
	colLog       = "_log"
)

const micros = "microseconds since the Unix epoch, UTC"

// scalar is the type of values of a kind, and what to say of it.
func scalar(k feature.Kind) (kind, comment string) {
	switch k {
	case feature.Bool:
		return "Bool", ""
	case feature.Int64:
		return "Int64", ""
	case feature.Float64:
		return "Float64", ""
	case feature.Timestamp:
		return "Int64", micros // DateTime64 ends at 2299
	}
	return "String", ""
}

// columnOf is the column of a field. ClickHouse has no null arrays, so a list is an array of
// one list, or of none where it is null.
func columnOf(f feature.Field, required bool) tableColumn {
	switch f.Type.Kind {
	case feature.List:
		kind, _ := scalar(f.Type.Elem)
		return tableColumn{f.Name, "Array(Array(" + kind + "))", "empty: null; else one list, " + f.Type.String()}
	case feature.Embedding:
		return tableColumn{f.Name, "Array(Array(Float32))", "empty: null; else one list, " + f.Type.String()}
	}
	kind, comment := scalar(f.Type.Kind)
	if !required {
		kind = "Nullable(" + kind + ")"
	}
	return tableColumn{f.Name, kind, comment}
}

// put appends rows [from, to) of a column to a column of an insert.
func put(to driver.BatchColumn, c *feature.Column, from, end int) error {
	switch k := c.Type.Kind; k {
	case feature.Int64, feature.Timestamp:
		return putFixed(to, c, from, end, c.Int64s())
	case feature.Float64:
		return putFixed(to, c, from, end, c.Float64s())
	case feature.Bool:
		bools := make([]*bool, end-from) // the driver loses the nulls of a nullable column of plain ones
		values := [2]bool{false, true}
		for i := range bools {
			if !c.IsNull(from + i) {
				bools[i] = &values[c.Nums[from+i]&1]
			}
		}
		return to.Append(bools)
	case feature.String, feature.Bytes:
		texts := make([]string, end)
		for i := from; i < end; i++ {
			b := c.Bytes(i)
			texts[i] = unsafe.String(unsafe.SliceData(b), len(b))
		}
		return putFixed(to, c, from, end, texts)
	case feature.Embedding:
		return putLists(to, c, from, end, func(v feature.Value) []float32 { return v.Embedding() })
	}
	switch c.Type.Elem {
	case feature.Bool:
		return putLists(to, c, from, end, elements(feature.Value.Bool))
	case feature.Int64, feature.Timestamp:
		return putLists(to, c, from, end, elements(feature.Value.Int64))
	case feature.Float64:
		return putLists(to, c, from, end, elements(feature.Value.Float64))
	}
	return putLists(to, c, from, end, elements(feature.Value.Str))
}

func putFixed[T any](to driver.BatchColumn, c *feature.Column, from, end int, values []T) error {
	if len(c.Nulls) == 0 {
		return to.Append(values[from:end])
	}
	ptrs := make([]*T, end-from)
	for i := range ptrs {
		if !c.IsNull(from + i) {
			ptrs[i] = &values[from+i]
		}
	}
	return to.Append(ptrs)
}

func elements[T any](of func(feature.Value) T) func(feature.Value) []T {
	return func(v feature.Value) []T {
		list := make([]T, len(v.List()))
		for i, e := range v.List() {
			list[i] = of(e)
		}
		return list
	}
}

func putLists[T any](to driver.BatchColumn, c *feature.Column, from, end int, list func(feature.Value) []T) error {
	rows := make([][][]T, end-from)
	for i := range rows {
		rows[i] = [][]T{}
		if !c.IsNull(from + i) {
			rows[i] = [][]T{list(c.Values[from+i])}
		}
	}
	return to.Append(rows)
}

// cell is where the value of one column of a result row goes, and how to look at it.
type cell struct {
	t     feature.Type
	i     int64
	f     float64
	b     bool
	s     string
	lists lists
}

// lists holds a value of a list, by the kind of its elements.
type lists struct {
	b   [][]bool
	i   [][]int64
	f   [][]float64
	f32 [][]float32
	s   [][]string
}

// dest is what a row is scanned into.
func (c *cell) dest() any {
	switch c.t.Kind {
	case feature.Bool:
		return &c.b
	case feature.Int64, feature.Timestamp:
		return &c.i
	case feature.Float64:
		return &c.f
	case feature.String, feature.Bytes:
		return &c.s
	case feature.Embedding:
		return &c.lists.f32
	}
	switch c.t.Elem {
	case feature.Bool:
		return &c.lists.b
	case feature.Int64, feature.Timestamp:
		return &c.lists.i
	case feature.Float64:
		return &c.lists.f
	}
	return &c.lists.s
}

// value is what was scanned; it stays valid. A list knows itself whether it is null.
func (c *cell) value() feature.Value {
	switch c.t.Kind {
	case feature.Bool:
		return feature.OfBool(c.b)
	case feature.Int64:
		return feature.OfInt64(c.i)
	case feature.Timestamp:
		return feature.OfTimestamp(c.i)
	case feature.Float64:
		return feature.OfFloat64(c.f)
	case feature.String:
		return feature.OfString(c.s)
	case feature.Bytes:
		return feature.OfBytes(unsafe.Slice(unsafe.StringData(c.s), len(c.s)))
	case feature.Embedding:
		if len(c.lists.f32) == 0 {
			return feature.Value{}
		}
		return feature.OfEmbedding(c.lists.f32[0])
	}
	switch c.t.Elem {
	case feature.Bool:
		return listOf(c.t.Elem, c.lists.b, feature.OfBool)
	case feature.Int64:
		return listOf(c.t.Elem, c.lists.i, feature.OfInt64)
	case feature.Timestamp:
		return listOf(c.t.Elem, c.lists.i, feature.OfTimestamp)
	case feature.Float64:
		return listOf(c.t.Elem, c.lists.f, feature.OfFloat64)
	case feature.Bytes:
		return listOf(c.t.Elem, c.lists.s, func(s string) feature.Value { return feature.OfBytes([]byte(s)) })
	}
	return listOf(c.t.Elem, c.lists.s, feature.OfString)
}

func listOf[T any](elem feature.Kind, rows [][]T, of func(T) feature.Value) feature.Value {
	if len(rows) == 0 {
		return feature.Value{}
	}
	vs := make([]feature.Value, len(rows[0]))
	for i, e := range rows[0] {
		vs[i] = of(e)
	}
	return feature.OfList(elem, vs)
}

// rowReader reads rows of a table: nullable columns as their values with masks of the nulls
// beside them, 64 to a number, for a pointer per value would cost more than the value.
type rowReader struct {
	fields []feature.Field
	cells  []cell
	masks  []uint64
}

func newRowReader(fields []feature.Field) *rowReader {
	r := &rowReader{fields: fields, cells: make([]cell, len(fields)), masks: make([]uint64, (len(fields)+63)/64)}
	for i, f := range fields {
		r.cells[i].t = f.Type
	}
	return r
}

// columns are the expressions to select; from qualifies the columns ("d.", or "").
func (r *rowReader) columns(from string) []string {
	var out []string
	for m := range r.masks {
		var bits []string
		for i := m * 64; i < min(len(r.fields), m*64+64); i++ {
			if k := r.fields[i].Type.Kind; k != feature.List && k != feature.Embedding {
				bits = append(bits, fmt.Sprintf("bitShiftLeft(toUInt64(isNull(%s%s)), %d)", from, ident(r.fields[i].Name), i-m*64))
			}
		}
		if bits == nil {
			bits = []string{"toUInt64(0)"}
		}
		out = append(out, strings.Join(bits, " + "))
	}
	for _, f := range r.fields {
		name := from + ident(f.Name)
		switch k := f.Type.Kind; k {
		case feature.List, feature.Embedding:
			out = append(out, name)
		case feature.Bool:
			out = append(out, "ifNull("+name+", false)")
		case feature.String, feature.Bytes:
			out = append(out, "ifNull("+name+", '')")
		case feature.Float64:
			out = append(out, "ifNull("+name+", toFloat64(0))")
		default:
			out = append(out, "ifNull("+name+", toInt64(0))")
		}
	}
	return out
}

// dests are where the columns go.
func (r *rowReader) dests() []any {
	var ds []any
	for i := range r.masks {
		ds = append(ds, &r.masks[i])
	}
	for i := range r.cells {
		ds = append(ds, r.cells[i].dest())
	}
	return ds
}

func (r *rowReader) null(i int) bool { return r.masks[i/64]>>(i%64)&1 != 0 }

// appendTo appends field i of the row to a column. bad says that its null could not be computed.
func (r *rowReader) appendTo(col *feature.Column, i int, bad bool) {
	switch c := &r.cells[i]; {
	case bad:
		col.AppendInvalid()
	case r.null(i):
		col.AppendNull()
	default:
		col.Append(c.value())
	}
}

// isBad looks a feature up in the bitmap of those that could not be computed.
func isBad(invalid string, i int) bool { return i/8 < len(invalid) && invalid[i/8]>>(i%8)&1 != 0 }

// invalidBitmap is the bitmap of row i's features that could not be computed; "" for none.
func invalidBitmap(features []*feature.Column, i int) string {
	var bits []byte
	for j, c := range features {
		if c.Bad.Get(i) {
			for len(bits) <= j/8 {
				bits = append(bits, 0)
			}
			bits[j/8] |= 1 << (j % 8)
		}
	}
	return string(bits)
}

// sizeOf is how many bytes rows [from, to) of a column hold, as they are sent.
func sizeOf(c *feature.Column, from, to int) (n int64) {
	switch k := c.Type.Kind; {
	case k.Fixed():
		return int64(to-from) * 8
	case k == feature.String || k == feature.Bytes:
		return int64(c.Offsets[to]-c.Offsets[from]) + int64(to-from)
	case k == feature.Embedding:
		return int64(to-from) * int64(8+4*c.Type.Dim)
	}
	for i := from; i < to; i++ {
		n += 16
		if c.IsNull(i) {
			continue
		}
		for _, v := range c.Values[i].List() {
			if n += 8; c.Type.Elem == feature.String || c.Type.Elem == feature.Bytes {
				n += int64(len(v.Bytes()))
			}
		}
	}
	return n
}
