package files

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/parquet-go/parquet-go"
)

// groupRows is how many rows a row group has at most.
const groupRows = 256 << 10

// parquetWriter writes Parquet column by column, compressed with Snappy: the cheapest
// to read of those that every reader has.
type parquetWriter struct {
	w     *parquet.Writer
	nodes []*wnode
	rows  int // in the row group being written
}

func newParquetWriter(w io.Writer, schema *arrow.Schema) (*parquetWriter, error) {
	p := &parquetWriter{}
	root := &orderedGroup{}
	leaves := 0
	for _, f := range schema.Fields() {
		node, n, err := parquetNode(f, &leaves, 0, 0)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
		root.add(f.Name, node)
		p.nodes = append(p.nodes, n)
	}
	// The library's own choice for texts, DELTA_LENGTH_BYTE_ARRAY, is read wrongly by Spark 3.5 where there are
	// nulls: its vectorized reader gives other texts, without an error.
	p.w = parquet.NewWriter(w, parquet.NewSchema("schema", root), parquet.Compression(&parquet.Snappy), parquet.CreatedBy("forebay", "", ""),
		parquet.DefaultEncodingFor(parquet.ByteArray, &parquet.Plain))
	return p, nil
}

func (p *parquetWriter) Write(rec arrow.Record) error {
	const step = 1 << 12 // rows turned into values at a time: they take more room than arrays
	for at := int64(0); at < rec.NumRows(); at += step {
		end := min(at+step, rec.NumRows())
		part := rec.NewSlice(at, end)
		columns := p.w.ColumnWriters()
		for i, n := range p.nodes {
			if err := n.writeTo(columns, part.Column(i)); err != nil {
				return fmt.Errorf("column %q: %w", rec.ColumnName(i), err)
			}
		}
		if p.rows += int(end - at); p.rows >= groupRows {
			p.rows = 0
			if err := p.w.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *parquetWriter) Close() error { return p.w.Close() }

// orderedGroup is a group whose fields stay in the order they were added in.
type orderedGroup struct {
	parquet.Group
	fields []parquet.Field
}

func (g *orderedGroup) Fields() []parquet.Field { return g.fields }

func (g *orderedGroup) add(name string, n parquet.Node) {
	if g.Group == nil {
		g.Group = parquet.Group{}
	}
	g.Group[name] = n
	i := slices.IndexFunc(g.Group.Fields(), func(f parquet.Field) bool { return f.Name() == name })
	g.fields = append(g.fields, g.Group.Fields()[i])
}

// wnode takes arrays apart into values with levels: the counterpart of pnode.
type wnode struct {
	nullable bool
	def      byte // of a value that is not null
	list     bool
	rep      byte // of a list: the repetition level of its further elements
	leaf     int
	children []*wnode

	// Of the array at hand.
	arr    arrow.Array
	value  func(i int) parquet.Value
	bounds func(i int) (start, end int64)
	values []parquet.Value // of a leaf
}

// parquetNode makes the Parquet schema of a field; def and rep are the levels around it.
func parquetNode(f arrow.Field, leaves *int, def, rep byte) (parquet.Node, *wnode, error) {
	n := &wnode{nullable: f.Nullable, def: def, leaf: -1}
	if f.Nullable {
		n.def++
	}
	node, err := n.node(f, leaves, rep)
	if err != nil {
		return nil, nil, err
	}
	if f.Nullable {
		return parquet.Optional(node), n, nil
	}
	return parquet.Required(node), n, nil
}

func (n *wnode) node(f arrow.Field, leaves *int, rep byte) (parquet.Node, error) {
	switch t := f.Type.(type) {
	case *arrow.StructType:
		g := &orderedGroup{}
		for _, child := range t.Fields() {
			node, c, err := parquetNode(child, leaves, n.def, rep)
			if err != nil {
				return nil, err
			}
			g.add(child.Name, node)
			n.children = append(n.children, c)
		}
		return g, nil
	case *arrow.MapType:
		n.list, n.rep = true, rep+1
		entry := &wnode{def: n.def + 1, leaf: -1}
		key, k, err := parquetNode(t.KeyField(), leaves, n.def+1, n.rep)
		if err != nil {
			return nil, err
		}
		item, v, err := parquetNode(t.ItemField(), leaves, n.def+1, n.rep)
		if err != nil {
			return nil, err
		}
		entry.children, n.children = []*wnode{k, v}, []*wnode{entry}
		return parquet.Map(key, item), nil
	}
	if elem := listElem(f.Type); elem != nil {
		n.list, n.rep = true, rep+1
		node, e, err := parquetNode(elemField(f.Type), leaves, n.def+1, n.rep)
		if err != nil {
			return nil, err
		}
		n.children = []*wnode{e}
		return parquet.List(node), nil
	}
	n.leaf = *leaves
	*leaves++
	return parquetLeaf(f)
}

func elemField(dt arrow.DataType) arrow.Field {
	switch d := dt.(type) {
	case *arrow.ListType:
		return d.ElemField()
	case *arrow.LargeListType:
		return d.ElemField()
	}
	return dt.(*arrow.FixedSizeListType).ElemField()
}

func parquetLeaf(f arrow.Field) (parquet.Node, error) {
	units := map[arrow.TimeUnit]parquet.TimeUnit{
		arrow.Second: parquet.Millisecond, arrow.Millisecond: parquet.Millisecond,
		arrow.Microsecond: parquet.Microsecond, arrow.Nanosecond: parquet.Nanosecond,
	}
	switch t := f.Type.(type) {
	case *arrow.BooleanType:
		return parquet.Leaf(parquet.BooleanType), nil
	case *arrow.Int8Type, *arrow.Int16Type:
		return parquet.Int(8 * t.(arrow.FixedWidthDataType).Bytes()), nil
	case *arrow.Int32Type:
		return parquet.Leaf(parquet.Int32Type), nil
	case *arrow.Int64Type:
		return parquet.Leaf(parquet.Int64Type), nil
	case *arrow.Uint8Type, *arrow.Uint16Type, *arrow.Uint32Type, *arrow.Uint64Type:
		return parquet.Uint(8 * t.(arrow.FixedWidthDataType).Bytes()), nil
	case *arrow.Float16Type, *arrow.Float32Type:
		return parquet.Leaf(parquet.FloatType), nil
	case *arrow.Float64Type:
		return parquet.Leaf(parquet.DoubleType), nil
	case *arrow.StringType, *arrow.LargeStringType, *arrow.NullType:
		switch annotationOf(f) {
		case "JSON":
			return parquet.JSON(), nil
		case "ENUM":
			return parquet.Enum(), nil
		}
		return parquet.String(), nil
	case *arrow.BinaryType, *arrow.LargeBinaryType:
		if annotationOf(f) == "BSON" {
			return parquet.BSON(), nil
		}
		return parquet.Leaf(parquet.ByteArrayType), nil
	case *arrow.FixedSizeBinaryType:
		if annotationOf(f) == "UUID" {
			return parquet.UUID(), nil
		}
		return parquet.Leaf(parquet.FixedLenByteArrayType(t.ByteWidth)), nil
	case *arrow.Date32Type, *arrow.Date64Type:
		return parquet.Date(), nil
	case *arrow.Time32Type:
		return parquet.TimeAdjusted(units[t.Unit], false), nil
	case *arrow.Time64Type:
		return parquet.TimeAdjusted(units[t.Unit], false), nil
	case *arrow.TimestampType:
		return parquet.TimestampAdjusted(units[t.Unit], t.TimeZone != ""), nil
	case arrow.DecimalType:
		return parquet.Decimal(int(t.GetScale()), int(t.GetPrecision()), parquet.FixedLenByteArrayType(decimalBytes(t.GetPrecision()))), nil
	}
	return nil, fmt.Errorf("%s cannot be written as Parquet", f.Type)
}

// decimalBytes is how many bytes a decimal of a precision needs: the table in
// LogicalTypes.md of parquet-format, floor(log10(2^(8n-1) - 1)) digits in n bytes.
func decimalBytes(precision int32) int {
	n := 1
	for digits := 2.107209969647868; digits < float64(precision); digits += 2.408239965311849 { // log10(2^7), log10(2^8)
		n++
	}
	return n
}

// writeTo writes the values of an array to the writers of the node's leaves.
func (n *wnode) writeTo(columns []*parquet.ColumnWriter, arr arrow.Array) error {
	if err := n.bind(arr); err != nil {
		return err
	}
	for i := range arr.Len() {
		n.append(i, 0)
	}
	return n.flush(columns)
}

func (n *wnode) flush(columns []*parquet.ColumnWriter) error {
	if n.leaf >= 0 {
		_, err := columns[n.leaf].WriteRowValues(n.values)
		clear(n.values)
		n.values = n.values[:0]
		return err
	}
	for _, c := range n.children {
		if err := c.flush(columns); err != nil {
			return err
		}
	}
	return nil
}

// bind makes an array the one at hand.
func (n *wnode) bind(arr arrow.Array) (err error) {
	n.arr = arr
	switch a := arr.(type) {
	case *array.Struct:
		for i, c := range n.children {
			if err := c.bind(a.Field(i)); err != nil {
				return err
			}
		}
		return nil
	case *array.Map:
		n.bounds = a.ValueOffsets
		entry := n.children[0]
		entry.arr = a.ListValues()
		if err := entry.children[0].bind(a.Keys()); err != nil {
			return err
		}
		return entry.children[1].bind(a.Items())
	case array.ListLike:
		n.bounds = a.ValueOffsets
		return n.children[0].bind(a.ListValues())
	}
	n.value, err = valuer(arr)
	return err
}

// append takes row i of the array at hand apart.
func (n *wnode) append(i int, rep byte) {
	switch {
	case n.nullable && n.arr.IsNull(i):
		n.appendNull(rep, n.def-1)
	case n.leaf >= 0:
		n.values = append(n.values, n.value(i).Level(int(rep), int(n.def), n.leaf))
	case n.list:
		start, end := n.bounds(i)
		if start == end {
			n.children[0].appendNull(rep, n.def)
		}
		for j := start; j < end; j++ {
			n.children[0].append(int(j), rep)
			rep = n.rep
		}
	default:
		for _, c := range n.children {
			c.append(i, rep)
		}
	}
}

// appendNull appends that there is nothing, from definition level def on, to all leaves.
func (n *wnode) appendNull(rep, def byte) {
	if n.leaf >= 0 {
		n.values = append(n.values, parquet.NullValue().Level(int(rep), int(def), n.leaf))
	}
	for _, c := range n.children {
		c.appendNull(rep, def)
	}
}

// valuer gives access to the values of a leaf's array as Parquet has them.
func valuer(arr arrow.Array) (func(i int) parquet.Value, error) {
	switch a := arr.(type) {
	case *array.Null:
		return func(int) parquet.Value { return parquet.NullValue() }, nil
	case *array.Boolean:
		return func(i int) parquet.Value { return parquet.BooleanValue(a.Value(i)) }, nil
	case *array.Int8:
		return int32Values(a.Int8Values()), nil
	case *array.Int16:
		return int32Values(a.Int16Values()), nil
	case *array.Int32:
		return int32Values(a.Int32Values()), nil
	case *array.Uint8:
		return int32Values(a.Uint8Values()), nil
	case *array.Uint16:
		return int32Values(a.Uint16Values()), nil
	case *array.Uint32:
		return int32Values(a.Uint32Values()), nil
	case *array.Date32:
		return int32Values(a.Date32Values()), nil
	case *array.Date64:
		return func(i int) parquet.Value { return parquet.Int32Value(int32(a.Value(i) / 86400e3)) }, nil //nolint:gosec // whole days
	case *array.Time32:
		if a.DataType().(*arrow.Time32Type).Unit == arrow.Second {
			return func(i int) parquet.Value { return parquet.Int32Value(int32(a.Value(i)) * 1000) }, nil
		}
		return int32Values(a.Time32Values()), nil
	case *array.Int64:
		return int64Values(a.Int64Values()), nil
	case *array.Uint64:
		return int64Values(a.Uint64Values()), nil
	case *array.Time64:
		return int64Values(a.Time64Values()), nil
	case *array.Timestamp:
		if a.DataType().(*arrow.TimestampType).Unit == arrow.Second {
			return func(i int) parquet.Value { return parquet.Int64Value(int64(a.Value(i)) * 1000) }, nil
		}
		return int64Values(a.TimestampValues()), nil
	case *array.Float16:
		return func(i int) parquet.Value { return parquet.FloatValue(a.Value(i).Float32()) }, nil
	case *array.Float32:
		return func(i int) parquet.Value { return parquet.FloatValue(a.Value(i)) }, nil
	case *array.Float64:
		return func(i int) parquet.Value { return parquet.DoubleValue(a.Value(i)) }, nil
	case *array.FixedSizeBinary:
		return func(i int) parquet.Value { return parquet.FixedLenByteArrayValue(a.Value(i)) }, nil
	case *array.Decimal128:
		size := decimalBytes(a.DataType().(*arrow.Decimal128Type).Precision)
		return func(i int) parquet.Value {
			v := a.Value(i)
			var b [16]byte
			binary.BigEndian.PutUint64(b[:], uint64(v.HighBits())) //nolint:gosec // the bits
			binary.BigEndian.PutUint64(b[8:], v.LowBits())
			return parquet.FixedLenByteArrayValue(b[16-size:])
		}, nil
	case *array.Decimal256:
		size := decimalBytes(a.DataType().(*arrow.Decimal256Type).Precision)
		return func(i int) parquet.Value {
			words := a.Value(i).Array() // little-endian
			var b [32]byte
			for j, w := range words {
				binary.BigEndian.PutUint64(b[24-8*j:], w)
			}
			return parquet.FixedLenByteArrayValue(b[32-size:])
		}, nil
	}
	if text := texts(arr); text != nil {
		return func(i int) parquet.Value { return parquet.ByteArrayValue(text(i)) }, nil
	}
	return nil, fmt.Errorf("%s cannot be written as Parquet", arr.DataType())
}

func int32Values[T ~int8 | ~int16 | ~int32 | ~uint8 | ~uint16 | ~uint32](vs []T) func(int) parquet.Value {
	return func(i int) parquet.Value { return parquet.Int32Value(int32(vs[i])) } //nolint:gosec // the bits
}

func int64Values[T ~int64 | ~uint64](vs []T) func(int) parquet.Value {
	return func(i int) parquet.Value { return parquet.Int64Value(int64(vs[i])) } //nolint:gosec // the bits
}
