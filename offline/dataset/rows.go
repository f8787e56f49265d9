package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// rowHash hashes rows by what they mean, not by how a file holds them: column by
// column, in the canonical form of docs/format/dataset.md. It is the same whatever
// runs the rows come in.
type rowHash struct {
	columns []columnHash
	rows    uint64
}

type columnHash struct {
	name, typ string
	sum       hash.Hash
	buf       []byte
}

func newRowHash(fields []arrow.Field) *rowHash {
	h := &rowHash{}
	for _, f := range fields {
		h.columns = append(h.columns, columnHash{name: f.Name, typ: typeName(f.Type), sum: sha256.New()})
	}
	return h
}

// add adds the rows of a record, several columns at once.
func (h *rowHash) add(rec arrow.Record) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(len(h.columns), runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(h.columns); i = int(next.Add(1)) - 1 {
				c := &h.columns[i]
				c.buf = appendCanonical(c.buf[:0], rec.Column(i))
				c.sum.Write(c.buf)
			}
		})
	}
	wg.Wait()
	h.rows += uint64(rec.NumRows()) //nolint:gosec // a count
}

// sum is the hash of the first n columns.
func (h *rowHash) sum(n int) string {
	all := sha256.New()
	buf := append([]byte("forebay rows 1\n"), make([]byte, 8)...)
	binary.LittleEndian.PutUint64(buf[len(buf)-8:], h.rows)
	for _, c := range h.columns[:n] {
		buf = appendBytes(buf, []byte(c.name))
		buf = appendBytes(buf, []byte(c.typ))
		buf = c.sum.Sum(buf)
	}
	all.Write(buf)
	return "sha256:" + hex.EncodeToString(all.Sum(nil))
}

// columnSum is the hash of a column's values, in hex.
func (h *rowHash) columnSum(i int) string { return hex.EncodeToString(h.columns[i].sum.Sum(nil)) }

// typeName is the canonical name of a type. Types that a Parquet file does not tell
// apart have one name.
func typeName(dt arrow.DataType) string {
	switch t := dt.(type) {
	case *arrow.NullType, *arrow.StringType, *arrow.LargeStringType:
		return "string"
	case *arrow.BooleanType:
		return "bool"
	case *arrow.BinaryType, *arrow.LargeBinaryType:
		return "bytes"
	case *arrow.FixedSizeBinaryType:
		return "bytes[" + strconv.Itoa(t.ByteWidth) + "]"
	case *arrow.Float16Type, *arrow.Float32Type:
		return "float32"
	case *arrow.Float64Type:
		return "float64"
	case *arrow.Date32Type, *arrow.Date64Type:
		return "date"
	case *arrow.Time32Type:
		return "time[ms]"
	case *arrow.Time64Type:
		return "time[" + t.Unit.String() + "]"
	case *arrow.TimestampType:
		unit := t.Unit
		if unit == arrow.Second {
			unit = arrow.Millisecond
		}
		if t.TimeZone != "" {
			return "timestamp[" + unit.String() + ",UTC]"
		}
		return "timestamp[" + unit.String() + "]"
	case arrow.DecimalType:
		return fmt.Sprintf("decimal(%d,%d)", t.GetPrecision(), t.GetScale())
	case *arrow.StructType:
		parts := make([]string, t.NumFields())
		for i, f := range t.Fields() {
			parts[i] = strconv.Quote(f.Name) + ":" + typeName(f.Type)
		}
		return "struct<" + strings.Join(parts, ",") + ">"
	case *arrow.MapType:
		return "map<" + typeName(t.KeyType()) + "," + typeName(t.ItemType()) + ">"
	case arrow.ListLikeType:
		return "list<" + typeName(t.Elem()) + ">"
	}
	return dt.Name() // int8 to uint64
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(b))) //nolint:gosec // Arrow's texts are shorter
	return append(dst, b...)
}

// appendCanonical appends the canonical form of an array's values: for each a byte,
// 0 for null or 1, and the value.
func appendCanonical(dst []byte, arr arrow.Array) []byte {
	value := encoder(arr)
	switch a := arr.(type) { // the common ones in one loop
	case *array.Int64:
		return appendWords(dst, a, a.Int64Values(), func(v int64) uint64 { return uint64(v) }) //nolint:gosec // the bits
	case *array.Float64:
		return appendWords(dst, a, a.Float64Values(), func(f float64) uint64 {
			if f != f {
				return canonicalNaN
			}
			return math.Float64bits(f)
		})
	}
	for i := range arr.Len() {
		dst = appendOne(dst, arr, i, value)
	}
	return dst
}

// canonicalNaN is what all NaNs are.
const canonicalNaN = 0x7ff8000000000000

// appendWords appends the canonical form of an array of eight bytes a value.
func appendWords[T int64 | float64](dst []byte, arr arrow.Array, vs []T, bits func(T) uint64) []byte {
	n := len(dst)
	dst = slices.Grow(dst, 9*len(vs))
	to, at := dst[n:n+9*len(vs)], 0
	valid, offset := arr.NullBitmapBytes(), arr.Data().Offset()
	if arr.NullN() == 0 {
		valid = nil
	}
	for i, v := range vs {
		if valid != nil && valid[(offset+i)>>3]>>(uint(offset+i)&7)&1 == 0 {
			to[at] = 0
			at++
			continue
		}
		to[at] = 1
		binary.LittleEndian.PutUint64(to[at+1:at+9], bits(v))
		at += 9
	}
	return dst[:n+at]
}

func appendOne(dst []byte, arr arrow.Array, i int, value func([]byte, int) []byte) []byte {
	if value == nil || arr.IsNull(i) {
		return append(dst, 0)
	}
	return value(append(dst, 1), i)
}

// encoder appends value i of an array, which is not null; nil where all are.
func encoder(arr arrow.Array) func(dst []byte, i int) []byte {
	switch a := arr.(type) {
	case *array.Boolean:
		return func(dst []byte, i int) []byte {
			if a.Value(i) {
				return append(dst, 1)
			}
			return append(dst, 0)
		}
	case *array.Int8:
		return words(a.Int8Values())
	case *array.Int16:
		return words(a.Int16Values())
	case *array.Int32:
		return words(a.Int32Values())
	case *array.Int64:
		return words(a.Int64Values())
	case *array.Uint8:
		return words(a.Uint8Values())
	case *array.Uint16:
		return words(a.Uint16Values())
	case *array.Uint32:
		return words(a.Uint32Values())
	case *array.Uint64:
		return words(a.Uint64Values())
	case *array.Date32:
		return words(a.Date32Values())
	case *array.Date64:
		return scaled(a.Date64Values(), func(v int64) int64 { return v / 86400e3 })
	case *array.Time32:
		if a.DataType().(*arrow.Time32Type).Unit == arrow.Second {
			return scaled(a.Time32Values(), func(v int64) int64 { return v * 1000 })
		}
		return words(a.Time32Values())
	case *array.Time64:
		return words(a.Time64Values())
	case *array.Timestamp:
		if a.DataType().(*arrow.TimestampType).Unit == arrow.Second {
			return scaled(a.TimestampValues(), func(v int64) int64 { return v * 1000 })
		}
		return words(a.TimestampValues())
	case *array.Float16:
		return func(dst []byte, i int) []byte { return appendFloat32(dst, a.Value(i).Float32()) }
	case *array.Float32:
		return func(dst []byte, i int) []byte { return appendFloat32(dst, a.Value(i)) }
	case *array.Float64:
		return func(dst []byte, i int) []byte {
			bits := math.Float64bits(a.Value(i))
			if f := a.Value(i); f != f {
				bits = canonicalNaN
			}
			return binary.LittleEndian.AppendUint64(dst, bits)
		}
	case *array.String:
		return func(dst []byte, i int) []byte { return appendText(dst, a.Value(i)) }
	case *array.LargeString:
		return func(dst []byte, i int) []byte { return appendText(dst, a.Value(i)) }
	case *array.Binary:
		return func(dst []byte, i int) []byte { return appendBytes(dst, a.Value(i)) }
	case *array.LargeBinary:
		return func(dst []byte, i int) []byte { return appendBytes(dst, a.Value(i)) }
	case *array.FixedSizeBinary:
		return func(dst []byte, i int) []byte { return append(dst, a.Value(i)...) }
	case *array.Decimal128:
		return func(dst []byte, i int) []byte {
			v := a.Value(i)
			dst = binary.LittleEndian.AppendUint64(dst, v.LowBits())
			return binary.LittleEndian.AppendUint64(dst, uint64(v.HighBits())) //nolint:gosec // the bits
		}
	case *array.Decimal256:
		return func(dst []byte, i int) []byte {
			for _, w := range a.Value(i).Array() {
				dst = binary.LittleEndian.AppendUint64(dst, w)
			}
			return dst
		}
	case *array.Struct:
		fields := make([]func([]byte, int) []byte, a.NumField())
		for j := range fields {
			fields[j] = encoder(a.Field(j))
		}
		return func(dst []byte, i int) []byte {
			for j, f := range fields {
				dst = appendOne(dst, a.Field(j), i, f)
			}
			return dst
		}
	case array.ListLike: // a map is a list of structs of key and value
		elem := encoder(a.ListValues())
		return func(dst []byte, i int) []byte {
			start, end := a.ValueOffsets(i)
			dst = binary.LittleEndian.AppendUint32(dst, uint32(end-start)) //nolint:gosec // 32 bits of offsets
			for j := start; j < end; j++ {
				dst = appendOne(dst, a.ListValues(), int(j), elem)
			}
			return dst
		}
	}
	return nil
}

func words[T ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64](vs []T) func([]byte, int) []byte {
	return func(dst []byte, i int) []byte { return binary.LittleEndian.AppendUint64(dst, uint64(vs[i])) } //nolint:gosec // the bits
}

func scaled[T ~int32 | ~int64](vs []T, f func(int64) int64) func([]byte, int) []byte {
	return func(dst []byte, i int) []byte {
		return binary.LittleEndian.AppendUint64(dst, uint64(f(int64(vs[i])))) //nolint:gosec // the bits
	}
}

func appendFloat32(dst []byte, f float32) []byte {
	bits := math.Float32bits(f)
	if f != f {
		bits = 0x7fc00000 // all NaNs are one
	}
	return binary.LittleEndian.AppendUint32(dst, bits)
}

func appendText(dst []byte, s string) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s))) //nolint:gosec // Arrow's texts are shorter
	return append(dst, s...)
}
