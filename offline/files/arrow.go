package files

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// arrowTable reads Arrow IPC, one record batch at a time.
type arrowTable struct {
	file   File
	schema *arrow.Schema
}

func openArrow(f File) (t *arrowTable, err error) {
	in, _, err := f.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	t = &arrowTable{file: f}
	r, err := t.batches(in)
	if err != nil {
		return nil, err
	}
	t.schema = r.Schema()
	return t, duplicate(f, t.names())
}

// batches starts to read the file's record batches.
func (t *arrowTable) batches(in *os.File) (r batchReader, err error) {
	defer t.guard(&err)
	info, err := in.Stat()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.file.Name, err)
	}
	if err := checkArrow(in, info.Size(), t.file.Format); err != nil {
		return nil, t.damaged(err)
	}
	mem := ipc.WithAllocator(boundedAllocator{memory.DefaultAllocator, 16<<20 + 256*int(info.Size())})
	if t.file.Format == ArrowFile {
		var file *ipc.FileReader
		if file, err = ipc.NewFileReader(in, mem); err == nil {
			return file, nil
		}
	} else {
		var stream *ipc.Reader
		if stream, err = ipc.NewReader(bufio.NewReaderSize(in, 256<<10), mem); err == nil {
			return stream, nil
		}
	}
	return nil, t.damaged(err)
}

// boundedAllocator refuses a buffer that is larger than a file can mean: a damaged
// file says of a compressed buffer that it has any number of bytes.
type boundedAllocator struct {
	memory.Allocator
	limit int
}

// Allocate implements memory.Allocator; the panic ends in guard.
func (a boundedAllocator) Allocate(size int) []byte {
	if size < 0 || size > a.limit {
		panic(fmt.Sprintf("a buffer of %d bytes", size))
	}
	return a.Allocator.Allocate(size)
}

// Reallocate implements memory.Allocator.
func (a boundedAllocator) Reallocate(size int, b []byte) []byte {
	if size < 0 || size > a.limit {
		panic(fmt.Sprintf("a buffer of %d bytes", size))
	}
	return a.Allocator.Reallocate(size, b)
}

// batchReader is what ipc.FileReader and ipc.Reader share.
type batchReader interface {
	Schema() *arrow.Schema
	Read() (arrow.Record, error)
}

func (t *arrowTable) damaged(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is cut off, or not an %s: %w", t.file.Name, t.file.Format, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("%s cannot be read as an %s: %w", t.file.Name, t.file.Format, err)
}

// guard turns a panic of the Arrow library, which damaged files can cause, into an error.
func (t *arrowTable) guard(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s cannot be read as an %s, it is damaged: %v", t.file.Name, t.file.Format, r)
	}
}

func (t *arrowTable) names() []string {
	var ns []string
	for _, f := range t.schema.Fields() {
		ns = append(ns, f.Name)
	}
	return ns
}

func (t *arrowTable) rows() int64 { return -1 }

func (t *arrowTable) close() error { return nil }

// locate finds a column by its path: the index at each level.
func (t *arrowTable) locate(path []string) (at []int, f arrow.Field, ok bool) {
	fields, nullable := t.schema.Fields(), false
	for i, step := range path {
		if i > 0 {
			s, is := f.Type.(*arrow.StructType)
			if !is {
				return nil, f, false
			}
			fields = s.Fields()
		}
		ok = false
		for j := range fields {
			if fields[j].Name == step {
				f, at, ok = fields[j], append(at, j), true
				break
			}
		}
		if !ok {
			return nil, f, false
		}
		nullable = nullable || f.Nullable
	}
	f.Nullable = nullable
	return at, f, true
}

func (t *arrowTable) field(path []string) (arrow.Field, bool, error) {
	_, f, ok := t.locate(path)
	if !ok {
		return f, false, nil
	}
	f.Type = plain(f.Type)
	if err := passable(f.Type); err != nil {
		return f, false, &SchemaError{File: t.file.Name, Column: path[len(path)-1], Msg: err.Error()}
	}
	return f, true, nil
}

// plain is the type of what decode makes of an array of type dt.
func plain(dt arrow.DataType) arrow.DataType {
	for {
		switch d := dt.(type) {
		case *arrow.DictionaryType:
			dt = d.ValueType
		case arrow.ExtensionType:
			dt = d.StorageType()
		case *arrow.StringViewType:
			return arrow.BinaryTypes.String
		case *arrow.BinaryViewType:
			return arrow.BinaryTypes.Binary
		default:
			return dt
		}
	}
}

func (t *arrowTable) records(ctx context.Context, paths [][]string) iter.Seq2[arrow.Record, error] {
	return func(yield func(arrow.Record, error) bool) {
		var fields []arrow.Field
		for _, p := range paths {
			f, ok, err := t.field(p)
			if err == nil && !ok {
				err = missing(t.file, p[len(p)-1], t.names())
			}
			if err != nil {
				yield(nil, err)
				return
			}
			fields = append(fields, f)
		}
		schema := arrow.NewSchema(fields, nil)
		in, _, err := t.file.open()
		if err != nil {
			yield(nil, err)
			return
		}
		defer func() { _ = in.Close() }() // it was read only
		r, err := t.batches(in)
		if err != nil {
			yield(nil, err)
			return
		}
		for {
			rec, err := t.next(ctx, r, schema, paths)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for at := int64(0); at < rec.NumRows(); at += runRows {
				if !yield(rec.NewSlice(at, min(at+runRows, rec.NumRows())), nil) {
					return
				}
			}
		}
	}
}

// next reads one record batch; io.EOF after the last.
func (t *arrowTable) next(ctx context.Context, r batchReader, schema *arrow.Schema, paths [][]string) (rec arrow.Record, err error) {
	defer t.guard(&err)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	batch, err := r.Read()
	if err == io.EOF { //nolint:errorlint // the end itself; a wrapped one is a file cut off
		return nil, io.EOF
	}
	if err != nil {
		return nil, t.damaged(err)
	}
	cols := make([]arrow.Array, len(paths))
	for i, p := range paths {
		at, _, _ := t.locate(p)
		if cols[i], err = pick(batch, at); err != nil {
			return nil, &SchemaError{File: t.file.Name, Column: p[len(p)-1], Msg: err.Error()}
		}
		if err := sound(cols[i].Data()); err != nil {
			return nil, fmt.Errorf("%s: column %q: %w", t.file.Name, p[len(p)-1], err)
		}
	}
	return array.NewRecord(schema, cols, batch.NumRows()), nil
}

// pick is the column at a path of indexes, null where a struct around it is.
func pick(rec arrow.Record, at []int) (arrow.Array, error) {
	arr := rec.Column(at[0])
	for _, i := range at[1:] {
		outer, ok := arr.(*array.Struct)
		if !ok {
			return nil, fmt.Errorf("%s where a struct was expected", arr.DataType())
		}
		inner := outer.Field(i)
		if outer.NullN() > 0 {
			inner = masked(inner, outer)
		}
		arr = inner
	}
	return decode(arr)
}

// masked is arr with nulls where outer, an array as long, has them.
func masked(arr, outer arrow.Array) arrow.Array {
	data := arr.Data()
	if len(data.Buffers()) == 0 { // all null as it is
		return arr
	}
	n, off := arr.Len(), data.Offset()
	bits := make([]byte, bitutil.BytesForBits(int64(n+off)))
	nulls := 0
	for i := range n {
		if arr.IsNull(i) || outer.IsNull(i) {
			nulls++
		} else {
			bitutil.SetBit(bits, i+off)
		}
	}
	buffers := append([]*memory.Buffer(nil), data.Buffers()...)
	buffers[0] = memory.NewBufferBytes(bits)
	masked := array.NewData(data.DataType(), n, buffers, data.Children(), nulls, off)
	if d, ok := arr.(*array.Dictionary); ok {
		masked.SetDictionary(d.Dictionary().Data())
	}
	return array.MakeFromData(masked)
}

// isNull reports whether value i is null: an array of the type null does not say so by itself.
func isNull(arr arrow.Array, i int) bool {
	return arr.DataType().ID() == arrow.NULL || arr.IsNull(i)
}

// decode replaces a dictionary-encoded array by its values, views by what they
// see, and an extension by its storage.
func decode(arr arrow.Array) (arrow.Array, error) {
	if e, ok := arr.(array.ExtensionArray); ok {
		return decode(e.Storage())
	}
	switch v := arr.(type) {
	case *array.StringView:
		b := array.NewStringBuilder(memory.DefaultAllocator)
		defer b.Release()
		for i := range v.Len() {
			if v.IsNull(i) {
				b.AppendNull()
			} else {
				b.Append(v.Value(i))
			}
		}
		return b.NewArray(), nil
	case *array.BinaryView:
		b := array.NewBinaryBuilder(memory.DefaultAllocator, arrow.BinaryTypes.Binary)
		defer b.Release()
		for i := range v.Len() {
			if v.IsNull(i) {
				b.AppendNull()
			} else {
				b.Append(v.Value(i))
			}
		}
		return b.NewArray(), nil
	}
	d, ok := arr.(*array.Dictionary)
	if !ok {
		return arr, nil
	}
	values, err := decode(d.Dictionary())
	if err != nil {
		return nil, err
	}
	b := array.NewBuilder(memory.DefaultAllocator, values.DataType())
	defer b.Release()
	b.Reserve(d.Len())
	add, err := adder(b, values)
	if err != nil {
		return nil, err
	}
	for i := range d.Len() {
		if d.IsNull(i) || values.IsNull(d.GetValueIndex(i)) {
			b.AppendNull()
		} else {
			add(d.GetValueIndex(i))
		}
	}
	return b.NewArray(), nil
}

// adder appends values of an array, by their index, to a builder of its type.
func adder(b array.Builder, from arrow.Array) (func(i int), error) {
	switch from := from.(type) {
	case *array.String:
		return func(i int) { b.(*array.StringBuilder).Append(from.Value(i)) }, nil
	case *array.LargeString:
		return func(i int) { b.(*array.LargeStringBuilder).Append(from.Value(i)) }, nil
	case *array.Binary:
		return func(i int) { b.(*array.BinaryBuilder).Append(from.Value(i)) }, nil
	case *array.Int64:
		return func(i int) { b.(*array.Int64Builder).Append(from.Value(i)) }, nil
	case *array.Int32:
		return func(i int) { b.(*array.Int32Builder).Append(from.Value(i)) }, nil
	case *array.Float64:
		return func(i int) { b.(*array.Float64Builder).Append(from.Value(i)) }, nil
	case *array.Timestamp:
		return func(i int) { b.(*array.TimestampBuilder).Append(from.Value(i)) }, nil
	case *array.Date32:
		return func(i int) { b.(*array.Date32Builder).Append(from.Value(i)) }, nil
	case *array.Boolean:
		return func(i int) { b.(*array.BooleanBuilder).Append(from.Value(i)) }, nil
	}
	return nil, fmt.Errorf("a dictionary of %s cannot be read", from.DataType())
}

// passable says why columns of a type cannot pass through; nil if they can.
func passable(dt arrow.DataType) error {
	switch d := dt.(type) {
	case *arrow.NullType, *arrow.BooleanType,
		*arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type,
		*arrow.Uint8Type, *arrow.Uint16Type, *arrow.Uint32Type, *arrow.Uint64Type,
		*arrow.Float16Type, *arrow.Float32Type, *arrow.Float64Type,
		*arrow.StringType, *arrow.LargeStringType, *arrow.BinaryType, *arrow.LargeBinaryType, *arrow.FixedSizeBinaryType,
		*arrow.Date32Type, *arrow.Date64Type, *arrow.Time32Type, *arrow.Time64Type, *arrow.TimestampType,
		*arrow.Decimal128Type, *arrow.Decimal256Type:
		return nil
	case *arrow.ListType:
		return passable(d.Elem())
	case *arrow.LargeListType:
		return passable(d.Elem())
	case *arrow.FixedSizeListType:
		return passable(d.Elem())
	case *arrow.MapType:
		return errors.Join(passable(d.KeyType()), passable(d.ItemType()))
	case *arrow.StructType:
		for _, f := range d.Fields() {
			if err := passable(f.Type); err != nil {
				return fmt.Errorf("field %q: %w", f.Name, err)
			}
		}
		return nil
	}
	return fmt.Errorf("a column of %s cannot be read or written", dt)
}
