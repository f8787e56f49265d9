package files

import (
	"fmt"
	"math/big"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// pnode is a column or a part of one, and how arrays are assembled from the levels
// of its leaves (Melnik et al., "Dremel", 2010): an entry of a leaf begins a new
// slot of a node unless its repetition level is deeper than the list the node is
// an element of, or its definition level says that this list has no element there.
type pnode struct {
	field    arrow.Field
	def      byte // the definition level from which the value is not null
	leaf     *leafReader
	children []*pnode // of a struct; one, the element, of a list or a map

	rep     byte // of a list or a map: the repetition level of its further elements
	elemDef byte // of a list or a map: the definition level from which it has an element
}

func level(n int) byte { return byte(n) } //nolint:gosec // levels of parquet-go are bytes

func isListOrMap(c *parquet.Column) bool {
	if c.Leaf() {
		return false
	}
	lt := c.Type().LogicalType()
	if lt == nil {
		return false
	}
	switch lt.Value.(type) {
	case *format.ListType, *format.MapType:
		return true
	}
	return false
}

// node describes a column; the error says why it cannot be read.
func (t *parquetTable) node(c *parquet.Column) (*pnode, error) {
	if !c.Repeated() {
		return t.value(c)
	}
	// A repeated field that is not in a LIST: a list that is never null.
	element, err := t.value(c)
	if err != nil {
		return nil, err
	}
	element.field.Name, element.field.Nullable = "element", false
	return &pnode{
		field:    arrow.Field{Name: c.Name(), Type: arrow.ListOfField(element.field)},
		def:      level(c.MaxDefinitionLevel() - 1),
		rep:      level(c.MaxRepetitionLevel()),
		elemDef:  level(c.MaxDefinitionLevel()),
		children: []*pnode{element},
	}, nil
}

// value describes a column as if it were not repeated.
func (t *parquetTable) value(c *parquet.Column) (*pnode, error) {
	n := &pnode{field: arrow.Field{Name: c.Name(), Nullable: c.Optional()}, def: level(c.MaxDefinitionLevel())}
	var err error
	switch {
	case c.Leaf():
		n.leaf = newLeafReader(c)
		n.field.Type, n.field.Metadata, err = t.leafType(c)
		return n, err
	case isListOrMap(c):
		return n, t.listOrMap(c, n)
	}
	var fields []arrow.Field
	for _, child := range c.Columns() {
		m, err := t.node(child)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", child.Name(), err)
		}
		n.children, fields = append(n.children, m), append(fields, m.field)
	}
	n.field.Type = arrow.StructOf(fields...)
	return n, nil
}

func (t *parquetTable) listOrMap(c *parquet.Column, n *pnode) error {
	if len(c.Columns()) != 1 || !c.Columns()[0].Repeated() {
		return fmt.Errorf("a LIST or MAP of an unknown form")
	}
	repeated := c.Columns()[0]
	n.rep, n.elemDef = level(repeated.MaxRepetitionLevel()), level(repeated.MaxDefinitionLevel())
	_, isMap := c.Type().LogicalType().Value.(*format.MapType)
	if isMap {
		if repeated.Leaf() || len(repeated.Columns()) != 2 {
			return fmt.Errorf("a MAP of an unknown form")
		}
		entry, err := t.value(repeated)
		if err != nil {
			return err
		}
		key, item := entry.children[0], entry.children[1]
		key.field.Nullable = false
		m := arrow.MapOf(key.field.Type, item.field.Type)
		m.SetItemNullable(item.field.Nullable)
		n.field.Type, n.children = m, []*pnode{entry}
		return nil
	}
	// The rules for lists of older writers: LogicalTypes.md of parquet-format.
	element := repeated
	if !repeated.Leaf() && len(repeated.Columns()) == 1 && repeated.Name() != "array" && repeated.Name() != c.Name()+"_tuple" {
		element = repeated.Columns()[0]
	}
	var e *pnode
	var err error
	if element == repeated {
		e, err = t.value(element)
	} else {
		e, err = t.node(element)
	}
	if err != nil {
		return err
	}
	e.field.Name = "element"
	n.field.Type, n.children = arrow.ListOfField(e.field), []*pnode{e}
	return nil
}

// annotation is the key of a field's metadata that keeps a Parquet annotation which
// Arrow has no type for, so that it can be written again.
const annotation = "forebay:annotation"

func annotated(name string) arrow.Metadata {
	return arrow.NewMetadata([]string{annotation}, []string{name})
}

var instantUTC = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}

func (t *parquetTable) leafType(c *parquet.Column) (arrow.DataType, arrow.Metadata, error) {
	var none arrow.Metadata
	typ := c.Type()
	var logical format.LogicalTypeValue
	if lt := typ.LogicalType(); lt != nil {
		logical = lt.Value
	}
	switch l := logical.(type) {
	case nil:
	case *format.StringType:
		return arrow.BinaryTypes.String, none, nil
	case *format.EnumType:
		return arrow.BinaryTypes.String, annotated("ENUM"), nil
	case *format.JsonType:
		return arrow.BinaryTypes.String, annotated("JSON"), nil
	case *format.BsonType:
		return arrow.BinaryTypes.Binary, annotated("BSON"), nil
	case *format.UUIDType:
		return &arrow.FixedSizeBinaryType{ByteWidth: 16}, annotated("UUID"), nil
	case *format.NullType: // what pandas and Arrow write of a column without a value
		return arrow.Null, none, nil
	case *format.DateType:
		return arrow.FixedWidthTypes.Date32, none, nil
	case *format.TimeType:
		switch l.Unit.Value.(type) {
		case *format.MilliSeconds:
			return arrow.FixedWidthTypes.Time32ms, none, nil
		case *format.MicroSeconds:
			return arrow.FixedWidthTypes.Time64us, none, nil
		}
		return arrow.FixedWidthTypes.Time64ns, none, nil
	case *format.TimestampType:
		ts := &arrow.TimestampType{Unit: arrow.Nanosecond}
		switch l.Unit.Value.(type) {
		case *format.MilliSeconds:
			ts.Unit = arrow.Millisecond
		case *format.MicroSeconds:
			ts.Unit = arrow.Microsecond
		}
		if l.IsAdjustedToUTC {
			ts.TimeZone = "UTC"
		}
		return ts, none, nil
	case *format.IntType:
		return intType(l), none, nil
	case *format.DecimalType:
		if l.Precision > 76 || l.Precision < 1 {
			return nil, none, fmt.Errorf("a decimal of %d digits cannot be read: 76 is the most", l.Precision)
		}
		if l.Precision > 38 {
			return &arrow.Decimal256Type{Precision: l.Precision, Scale: l.Scale}, none, nil
		}
		return &arrow.Decimal128Type{Precision: l.Precision, Scale: l.Scale}, none, nil
	default:
		return nil, none, fmt.Errorf("Parquet's %s cannot be read", typ)
	}
	if t.isFloat16(c) {
		return arrow.FixedWidthTypes.Float16, none, nil
	}
	switch typ.Kind() {
	case parquet.Boolean:
		return arrow.FixedWidthTypes.Boolean, none, nil
	case parquet.Int32:
		return arrow.PrimitiveTypes.Int32, none, nil
	case parquet.Int64:
		return arrow.PrimitiveTypes.Int64, none, nil
	case parquet.Int96:
		return instantUTC, none, nil
	case parquet.Float:
		return arrow.PrimitiveTypes.Float32, none, nil
	case parquet.Double:
		return arrow.PrimitiveTypes.Float64, none, nil
	case parquet.ByteArray:
		return arrow.BinaryTypes.Binary, none, nil
	case parquet.FixedLenByteArray:
		if typ.String() == "INTERVAL" {
			return nil, none, fmt.Errorf("Parquet's INTERVAL cannot be read")
		}
		return &arrow.FixedSizeBinaryType{ByteWidth: typ.Length()}, none, nil
	}
	return nil, none, fmt.Errorf("Parquet's %s cannot be read", typ)
}

func intType(l *format.IntType) arrow.DataType {
	types := map[int8][2]arrow.DataType{
		8:  {arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Int8},
		16: {arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Int16},
		32: {arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Int32},
		64: {arrow.PrimitiveTypes.Uint64, arrow.PrimitiveTypes.Int64},
	}
	if l.IsSigned {
		return types[l.BitWidth][1]
	}
	return types[l.BitWidth][0]
}

// isFloat16 looks the column up in the footer: the library has no type for the annotation.
func (t *parquetTable) isFloat16(c *parquet.Column) bool {
	if c.Type().Kind() != parquet.FixedLenByteArray || c.Type().Length() != 2 {
		return false
	}
	leaf := 0
	for _, e := range t.pq.Metadata().Schema {
		if !e.Type.Valid {
			continue
		}
		if leaf == c.Index() {
			_, ok := e.LogicalType.Value.(*format.Float16Type)
			return ok
		}
		leaf++
	}
	return false
}

// leaves appends the readers of the node's leaves.
func (n *pnode) leaves(to []*leafReader) []*leafReader {
	if n.leaf != nil {
		return append(to, n.leaf)
	}
	for _, c := range n.children {
		to = c.leaves(to)
	}
	return to
}

func (n *pnode) first() *leafReader {
	for n.leaf == nil {
		n = n.children[0]
	}
	return n.leaf
}

// build makes the node's array of the run that its leaves have read. A slot
// is an entry with a repetition level up to slotRep and a definition level from slotDef.
func (n *pnode) build(slotDef, slotRep byte) (arrow.ArrayData, error) {
	l := n.first()
	slots, nulls, bitmap := n.validity(l, slotDef, slotRep)
	switch {
	case n.leaf != nil:
		return leafData(n, slots, nulls, bitmap)
	case n.elemDef > 0:
		offsets := make([]int32, 0, slots+1)
		var count int32
		for i := range l.n {
			var rep byte
			if l.runRep != nil {
				rep = l.runRep[i]
			}
			def := l.runDef[i]
			if rep <= slotRep && def >= slotDef {
				offsets = append(offsets, count)
			}
			if rep <= n.rep && def >= n.elemDef {
				count++
			}
		}
		offsets = append(offsets, count)
		child, err := n.children[0].build(n.elemDef, n.rep)
		if err != nil {
			return nil, err
		}
		if child.Len() != int(count) {
			return nil, fmt.Errorf("a list whose elements do not agree")
		}
		return array.NewData(n.field.Type, slots, []*memory.Buffer{bitmap, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(offsets))}, []arrow.ArrayData{child}, nulls, 0), nil
	}
	children := make([]arrow.ArrayData, len(n.children))
	for i, c := range n.children {
		var err error
		if children[i], err = c.build(slotDef, slotRep); err != nil {
			return nil, err
		}
		if children[i].Len() != slots {
			return nil, fmt.Errorf("a struct whose fields do not agree")
		}
	}
	return array.NewData(n.field.Type, slots, []*memory.Buffer{bitmap}, children, nulls, 0), nil
}

// validity counts the slots and the nulls among them; bitmap is nil without nulls.
func (n *pnode) validity(l *leafReader, slotDef, slotRep byte) (slots, nulls int, bitmap *memory.Buffer) {
	if l.maxDef == 0 {
		return l.n, 0, nil
	}
	if l.maxRep == 0 {
		slots = l.n
		for _, d := range l.runDef {
			if d < n.def {
				nulls++
			}
		}
		if nulls == 0 {
			return slots, 0, nil
		}
	}
	bits := make([]byte, bitutil.BytesForBits(int64(l.n)))
	slots, nulls = 0, 0
	for i, d := range l.runDef {
		if d < slotDef || (l.runRep != nil && l.runRep[i] > slotRep) {
			continue
		}
		if d >= n.def {
			bits[slots>>3] |= 1 << (uint(slots) & 7)
		} else {
			nulls++
		}
		slots++
	}
	if nulls == 0 {
		return slots, 0, nil
	}
	return slots, nulls, memory.NewBufferBytes(bits)
}

// leafData makes a leaf's array of its dense values.
func leafData(n *pnode, slots, nulls int, bitmap *memory.Buffer) (arrow.ArrayData, error) {
	l := n.leaf
	if slots-nulls != l.dense {
		return nil, fmt.Errorf("%d values for %d entries: the file is damaged", l.dense, slots-nulls)
	}
	dt := n.field.Type
	if dt.ID() == arrow.NULL {
		if l.dense > 0 {
			return nil, fmt.Errorf("%d values where none can be: the file is damaged", l.dense)
		}
		return array.NewData(dt, slots, []*memory.Buffer{nil}, nil, slots, 0), nil
	}
	fixed, width, err := l.logical(dt)
	if err != nil {
		return nil, err
	}
	if width == 0 {
		offsets := l.offsets
		if nulls > 0 {
			offsets = make([]int32, slots+1)
			for i, v := 0, 0; i < slots; i++ {
				if bitutil.BitIsSet(bitmap.Bytes(), i) {
					v++
				}
				offsets[i+1] = l.offsets[v]
			}
		}
		return array.NewData(dt, slots, []*memory.Buffer{bitmap, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(offsets)), memory.NewBufferBytes(l.bytes)}, nil, nulls, 0), nil
	}
	if nulls > 0 {
		spread := make([]byte, slots*width)
		for i, v := 0, 0; i < slots; i++ {
			if bitutil.BitIsSet(bitmap.Bytes(), i) {
				copy(spread[i*width:(i+1)*width], fixed[v*width:])
				v++
			}
		}
		fixed = spread
	}
	if dt.ID() == arrow.BOOL {
		bits := make([]byte, bitutil.BytesForBits(int64(slots)))
		for i, b := range fixed {
			if b != 0 {
				bits[i>>3] |= 1 << (uint(i) & 7)
			}
		}
		fixed = bits
	}
	return array.NewData(dt, slots, []*memory.Buffer{bitmap, memory.NewBufferBytes(fixed)}, nil, nulls, 0), nil
}

// logical turns the dense values of the physical type into those of the logical
// one; width is 0 for byte arrays.
func (l *leafReader) logical(dt arrow.DataType) (fixed []byte, width int, err error) {
	switch dt := dt.(type) {
	case *arrow.Int8Type, *arrow.Uint8Type:
		return narrow(l.fixed, 1), 1, nil
	case *arrow.Int16Type, *arrow.Uint16Type:
		return narrow(l.fixed, 2), 2, nil
	case *arrow.Decimal128Type:
		fixed, err = l.decimals(16)
		return fixed, 16, err
	case *arrow.Decimal256Type:
		fixed, err = l.decimals(32)
		return fixed, 32, err
	case *arrow.TimestampType:
		if l.width == 12 {
			return int96Micros(l.fixed), 8, nil
		}
	case *arrow.BooleanType:
		return l.fixed, 1, nil
	case arrow.BinaryDataType:
		return nil, 0, nil
	case arrow.FixedWidthDataType:
		if dt.BitWidth() != 8*l.width {
			return nil, 0, fmt.Errorf("%d bytes a value for %s", l.width, dt)
		}
	}
	return l.fixed, l.width, nil
}

// narrow keeps the low bytes of each 32-bit value.
func narrow(fixed []byte, width int) []byte {
	out := make([]byte, 0, len(fixed)/4*width)
	for i := 0; i < len(fixed); i += 4 {
		out = append(out, fixed[i:i+width]...)
	}
	return out
}

// decimals are the dense values as little-endian two's complement of size bytes.
func (l *leafReader) decimals(size int) ([]byte, error) {
	out := make([]byte, l.dense*size)
	for i := range l.dense {
		to := out[i*size : (i+1)*size]
		if kind := l.column.Type().Kind(); kind == parquet.Int32 || kind == parquet.Int64 {
			copy(to, l.fixed[i*l.width:(i+1)*l.width])
			extend(to, l.width)
			continue
		}
		var b []byte // big-endian
		if l.width > 0 {
			b = l.fixed[i*l.width : (i+1)*l.width]
		} else {
			b = l.bytes[l.offsets[i]:l.offsets[i+1]]
		}
		for len(b) > size { // padding of a wide type
			if (b[0] != 0 && b[0] != 0xff) || b[0]>>7 != b[1]>>7 {
				return nil, fmt.Errorf("the decimal %s has more digits than its type", new(big.Int).SetBytes(b))
			}
			b = b[1:]
		}
		for j, v := range b {
			to[len(b)-1-j] = v
		}
		extend(to, len(b))
	}
	return out, nil
}

// extend fills the bytes of a little-endian number from n on with its sign.
func extend(b []byte, n int) {
	if n > 0 && b[n-1]&0x80 != 0 {
		for i := n; i < len(b); i++ {
			b[i] = 0xff
		}
	}
}
