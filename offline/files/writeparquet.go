package files

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/parquet-go/parquet-go"

	"github.com/forebay/forebay/offline/pages"
)

// groupRows and groupBytes are how large a row group is at most: it is held in memory until it is whole.
const (
	groupRows  = 256 << 10
	groupBytes = 64 << 20
	pageBytes  = 1 << 20
)

// parquetWriter writes Parquet column by column, compressed with Snappy: the cheapest
// to read of those that every reader has.
type parquetWriter struct {
	buf     *bufio.Writer // for the small parts; whole chunks pass it by
	w       *pages.Writer
	columns []*wnode
	rows    int64 // in the row group being written
}

func newParquetWriter(w io.Writer, schema *arrow.Schema) (*parquetWriter, error) {
	p := &parquetWriter{buf: bufio.NewWriterSize(w, 64<<10)}
	root := &orderedGroup{}
	leaves := 0
	for _, f := range schema.Fields() {
		node, n, err := parquetNode(f, &leaves, 0, 0)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
		root.add(f.Name, node)
		p.columns = append(p.columns, n)
	}
	var err error
	p.w, err = pages.NewWriter(p.buf, parquet.NewSchema("schema", root), pages.Options{CreatedBy: "forebay version 1(build )"})
	return p, err
}

func (p *parquetWriter) Write(rec arrow.Record) error {
	if rec.NumRows() == 0 {
		return nil
	}
	errs := make([]error, len(p.columns))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(len(p.columns), runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(p.columns)); i = next.Add(1) - 1 {
				errs[i] = p.columns[i].write(p.w, rec.Column(int(i)))
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("column %q: %w", rec.ColumnName(i), err)
		}
	}
	if p.rows += rec.NumRows(); p.rows >= groupRows || p.w.Buffered() >= groupBytes {
		p.rows = 0
		return p.w.EndGroup()
	}
	return nil
}

func (p *parquetWriter) Close() error {
	if err := p.w.Close(); err != nil {
		return err
	}
	return p.buf.Flush()
}

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
	inList   byte // of a leaf: the repetition level of the innermost list around it
	children []*wnode

	// Of the array at hand.
	arr    arrow.Array
	put    func(i int) // appends value i to values
	bounds func(i int) (start, end int64)
	values pages.Values // of a leaf
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
	n.leaf, n.inList = *leaves, rep
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

// write writes the values of an array to the chunks of the node's leaves.
func (n *wnode) write(w *pages.Writer, arr arrow.Array) error {
	if n.leaf >= 0 {
		if fixed := fixedBytes(arr); fixed != nil {
			v := pages.Values{Entries: arr.Len(), Fixed: fixed}
			if arr.NullN() > 0 {
				if !n.nullable {
					return errors.New("null in a column without nulls")
				}
				n.pack(arr, fixed)
				v.Def, v.Fixed = n.values.Def, n.values.Fixed
				defer n.values.Reset()
			}
			return w.Page(n.leaf, arr.Len(), &v)
		}
	}
	if err := n.bind(arr); err != nil {
		return err
	}
	for at := 0; at < arr.Len(); { // a page has as many rows as make pageBytes
		from := at
		for at < arr.Len() && (at == from || n.size() < pageBytes) {
			end := min(at+64, arr.Len())
			for ; at < end; at++ {
				n.append(at, 0)
			}
		}
		if err := n.flush(w, at-from); err != nil {
			return err
		}
	}
	return nil
}

// pack keeps those of an array's values that are not null.
func (n *wnode) pack(arr arrow.Array, fixed []byte) {
	valid, offset := arr.NullBitmapBytes(), arr.Data().Offset()
	def, packed, width := n.values.Def, n.values.Fixed, len(fixed)/arr.Len()
	for i := range arr.Len() {
		bit := valid[(offset+i)>>3] >> (uint(offset+i) & 7) & 1
		def = append(def, bit)
		if bit != 0 {
			packed = append(packed, fixed[i*width:(i+1)*width]...)
		}
	}
	n.values.Def, n.values.Fixed = def, packed
}

// size is how many bytes the largest of the node's leaves has gathered.
func (n *wnode) size() int {
	if n.leaf >= 0 {
		return n.values.Size() + n.values.Entries
	}
	size := 0
	for _, c := range n.children {
		size = max(size, c.size())
	}
	return size
}

func (n *wnode) flush(w *pages.Writer, rows int) error {
	if n.leaf >= 0 {
		v := n.values
		if n.def == 0 {
			v.Def = nil
		}
		err := w.Page(n.leaf, rows, &v)
		n.values.Reset()
		return err
	}
	for _, c := range n.children {
		if err := c.flush(w, rows); err != nil {
			return err
		}
	}
	return nil
}

// fixedBytes are the values of an array that has them as Parquet does; nil of others.
func fixedBytes(arr arrow.Array) []byte {
	switch a := arr.(type) {
	case *array.Int32:
		return arrow.Int32Traits.CastToBytes(a.Int32Values())
	case *array.Uint32:
		return arrow.Uint32Traits.CastToBytes(a.Uint32Values())
	case *array.Date32:
		return arrow.Date32Traits.CastToBytes(a.Date32Values())
	case *array.Float32:
		return arrow.Float32Traits.CastToBytes(a.Float32Values())
	case *array.Int64:
		return arrow.Int64Traits.CastToBytes(a.Int64Values())
	case *array.Uint64:
		return arrow.Uint64Traits.CastToBytes(a.Uint64Values())
	case *array.Time64:
		return arrow.Time64Traits.CastToBytes(a.Time64Values())
	case *array.Float64:
		return arrow.Float64Traits.CastToBytes(a.Float64Values())
	case *array.Timestamp:
		if a.DataType().(*arrow.TimestampType).Unit != arrow.Second {
			return arrow.TimestampTraits.CastToBytes(a.TimestampValues())
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
	n.put, err = putter(arr, &n.values)
	return err
}

// append takes row i of the array at hand apart.
func (n *wnode) append(i int, rep byte) {
	switch {
	case n.nullable && isNull(n.arr, i):
		n.appendNull(rep, n.def-1)
	case n.leaf >= 0:
		n.levels(rep, n.def)
		n.put(i)
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
		n.levels(rep, def)
	}
	for _, c := range n.children {
		c.appendNull(rep, def)
	}
}

func (n *wnode) levels(rep, def byte) {
	n.values.Entries++
	n.values.Def = append(n.values.Def, def)
	if n.inList > 0 {
		n.values.Rep = append(n.values.Rep, rep)
	}
}

// putter appends values of a leaf's array to v as Parquet has them.
func putter(arr arrow.Array, v *pages.Values) (func(i int), error) {
	switch a := arr.(type) {
	case *array.Null:
		return func(int) {}, nil
	case *array.Boolean:
		return func(i int) {
			bit := byte(0)
			if a.Value(i) {
				bit = 1
			}
			v.Fixed = append(v.Fixed, bit)
		}, nil
	case *array.Int8:
		return put32(v, a.Int8Values()), nil
	case *array.Int16:
		return put32(v, a.Int16Values()), nil
	case *array.Int32:
		return put32(v, a.Int32Values()), nil
	case *array.Uint8:
		return put32(v, a.Uint8Values()), nil
	case *array.Uint16:
		return put32(v, a.Uint16Values()), nil
	case *array.Uint32:
		return put32(v, a.Uint32Values()), nil
	case *array.Date32:
		return put32(v, a.Date32Values()), nil
	case *array.Date64:
		return func(i int) { v.Fixed = le32(v.Fixed, uint32(int32(a.Value(i)/86400e3))) }, nil //nolint:gosec // whole days
	case *array.Time32:
		if a.DataType().(*arrow.Time32Type).Unit == arrow.Second {
			return func(i int) { v.Fixed = le32(v.Fixed, uint32(a.Value(i))*1000) }, nil //nolint:gosec // the bits
		}
		return put32(v, a.Time32Values()), nil
	case *array.Int64:
		return put64(v, a.Int64Values()), nil
	case *array.Uint64:
		return put64(v, a.Uint64Values()), nil
	case *array.Time64:
		return put64(v, a.Time64Values()), nil
	case *array.Timestamp:
		if a.DataType().(*arrow.TimestampType).Unit == arrow.Second {
			return func(i int) { v.Fixed = le64(v.Fixed, uint64(a.Value(i))*1000) }, nil //nolint:gosec // the bits
		}
		return put64(v, a.TimestampValues()), nil
	case *array.Float16:
		return func(i int) { v.Fixed = le32(v.Fixed, math.Float32bits(a.Value(i).Float32())) }, nil
	case *array.Float32:
		return func(i int) { v.Fixed = le32(v.Fixed, math.Float32bits(a.Value(i))) }, nil
	case *array.Float64:
		return func(i int) { v.Fixed = le64(v.Fixed, math.Float64bits(a.Value(i))) }, nil
	case *array.FixedSizeBinary:
		return func(i int) { v.Fixed = append(v.Fixed, a.Value(i)...) }, nil
	case *array.Decimal128:
		size := decimalBytes(a.DataType().(*arrow.Decimal128Type).Precision)
		return func(i int) {
			d := a.Value(i)
			var b [16]byte
			binary.BigEndian.PutUint64(b[:], uint64(d.HighBits())) //nolint:gosec // the bits
			binary.BigEndian.PutUint64(b[8:], d.LowBits())
			v.Fixed = append(v.Fixed, b[16-size:]...)
		}, nil
	case *array.Decimal256:
		size := decimalBytes(a.DataType().(*arrow.Decimal256Type).Precision)
		return func(i int) {
			words := a.Value(i).Array() // little-endian
			var b [32]byte
			for j, w := range words {
				binary.BigEndian.PutUint64(b[24-8*j:], w)
			}
			v.Fixed = append(v.Fixed, b[32-size:]...)
		}, nil
	}
	if text := texts(arr); text != nil {
		return func(i int) {
			if len(v.Offsets) == 0 {
				v.Offsets = append(v.Offsets, 0)
			}
			v.Data = append(v.Data, text(i)...)
			v.Offsets = append(v.Offsets, uint32(len(v.Data))) //nolint:gosec // a page is far smaller
		}, nil
	}
	return nil, fmt.Errorf("%s cannot be written as Parquet", arr.DataType())
}

var (
	le32 = binary.LittleEndian.AppendUint32
	le64 = binary.LittleEndian.AppendUint64
)

func put32[T ~int8 | ~int16 | ~int32 | ~uint8 | ~uint16 | ~uint32](v *pages.Values, vs []T) func(int) {
	return func(i int) { v.Fixed = le32(v.Fixed, uint32(int32(vs[i]))) } //nolint:gosec // the bits
}

func put64[T ~int64 | ~uint64](v *pages.Values, vs []T) func(int) {
	return func(i int) { v.Fixed = le64(v.Fixed, uint64(vs[i])) } //nolint:gosec // the bits
}
