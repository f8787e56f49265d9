package pages

import (
	"bytes"
	"encoding/binary"
	"math"

	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// span is the least and the greatest value, as PLAIN; none where there is no value.
type span struct {
	lo, hi []byte
	any    bool
}

// order is the sort order of a leaf (TypeDefinedOrder of parquet.thrift).
type order struct {
	compare func(a, b []byte) int
	signed  bool // of a fixed-length array: a decimal
	kind    pq.Kind
	natural bool // integers are unsigned
}

func orderOf(t pq.Type) order {
	o := order{kind: t.Kind(), compare: bytes.Compare}
	if l := t.LogicalType(); l != nil {
		switch v := l.Value.(type) {
		case *format.IntType:
			o.natural = !v.IsSigned
		case *format.DecimalType:
			o.signed = true
		}
	}
	switch {
	case o.kind == pq.Boolean:
	case o.kind == pq.Int32 && o.natural:
		o.compare = func(a, b []byte) int { return compare(words[uint32](a)[0], words[uint32](b)[0]) }
	case o.kind == pq.Int32:
		o.compare = func(a, b []byte) int { return compare(words[int32](a)[0], words[int32](b)[0]) }
	case o.kind == pq.Int64 && o.natural:
		o.compare = func(a, b []byte) int { return compare(words[uint64](a)[0], words[uint64](b)[0]) }
	case o.kind == pq.Int64:
		o.compare = func(a, b []byte) int { return compare(words[int64](a)[0], words[int64](b)[0]) }
	case o.kind == pq.Float:
		o.compare = func(a, b []byte) int { return compare(words[float32](a)[0], words[float32](b)[0]) }
	case o.kind == pq.Double:
		o.compare = func(a, b []byte) int { return compare(floats(a)[0], floats(b)[0]) }
	case o.signed: // big-endian two's complement, all of one length
		o.compare = func(a, b []byte) int {
			if len(a) > 0 && len(b) > 0 && a[0] != b[0] {
				return compare(int8(a[0]), int8(b[0])) //nolint:gosec // the sign
			}
			return bytes.Compare(a, b)
		}
	}
	return o
}

func compare[T int8 | int32 | int64 | uint32 | uint64 | float32 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// span is that of a page's values.
func (o *order) span(l *leaf, v *Values, dense int) span {
	if dense == 0 {
		return span{}
	}
	s := span{any: true}
	switch {
	case o.kind == pq.Boolean:
		lo, hi := v.Fixed[0], v.Fixed[0]
		for _, b := range v.Fixed {
			lo, hi = min(lo, b), max(hi, b)
		}
		s.lo, s.hi = []byte{lo & 1}, []byte{hi & 1}
	case o.kind == pq.Int32 && o.natural:
		lo, hi := extremes(words[uint32](v.Fixed))
		s.lo, s.hi = binary.LittleEndian.AppendUint32(nil, lo), binary.LittleEndian.AppendUint32(nil, hi)
	case o.kind == pq.Int32:
		lo, hi := extremes(words[int32](v.Fixed))
		s.lo, s.hi = binary.LittleEndian.AppendUint32(nil, uint32(lo)), binary.LittleEndian.AppendUint32(nil, uint32(hi)) //nolint:gosec // the bits
	case o.kind == pq.Int64 && o.natural:
		lo, hi := extremes(words[uint64](v.Fixed))
		s.lo, s.hi = binary.LittleEndian.AppendUint64(nil, lo), binary.LittleEndian.AppendUint64(nil, hi)
	case o.kind == pq.Int64:
		lo, hi := extremes(words[int64](v.Fixed))
		s.lo, s.hi = binary.LittleEndian.AppendUint64(nil, uint64(lo)), binary.LittleEndian.AppendUint64(nil, uint64(hi)) //nolint:gosec // the bits
	case o.kind == pq.Float:
		lo, hi := floatExtremes(words[float32](v.Fixed))
		s.lo = binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(lo)))
		s.hi = binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(hi)))
	case o.kind == pq.Double:
		lo, hi := floatExtremes(floats(v.Fixed))
		s.lo = binary.LittleEndian.AppendUint64(nil, math.Float64bits(lo))
		s.hi = binary.LittleEndian.AppendUint64(nil, math.Float64bits(hi))
	case o.kind == pq.FixedLenByteArray:
		lo, hi := v.Fixed[:l.width], v.Fixed[:l.width]
		for i := l.width; i < len(v.Fixed); i += l.width {
			lo, hi = o.wider(lo, hi, v.Fixed[i:i+l.width])
		}
		s.lo, s.hi = bytes.Clone(lo), bytes.Clone(hi)
	default:
		lo, hi := v.Data[v.Offsets[0]:v.Offsets[1]], v.Data[v.Offsets[0]:v.Offsets[1]]
		for i := range dense {
			lo, hi = o.wider(lo, hi, v.Data[v.Offsets[i]:v.Offsets[i+1]])
		}
		s.lo, s.hi = bytes.Clone(lo[:min(len(lo), boundBytes)]), cutUp(hi)
	}
	return s
}

func (o *order) wider(lo, hi, b []byte) ([]byte, []byte) {
	switch {
	case o.compare(b, lo) < 0:
		lo = b
	case o.compare(b, hi) > 0:
		hi = b
	}
	return lo, hi
}

// boundBytes is how much of a byte array is kept in a bound.
const boundBytes = 64

// cutUp is a short byte array that is not below b.
func cutUp(b []byte) []byte {
	if len(b) <= boundBytes {
		return bytes.Clone(b)
	}
	c := bytes.Clone(b[:boundBytes])
	for i := len(c) - 1; i >= 0; i-- {
		if c[i] < 0xff {
			c[i]++
			return c[:i+1]
		}
	}
	return bytes.Clone(b)
}

func extremes[T int32 | int64 | uint32 | uint64](vs []T) (lo, hi T) {
	lo, hi = vs[0], vs[0]
	for _, v := range vs {
		lo, hi = min(lo, v), max(hi, v)
	}
	return lo, hi
}

// floatExtremes leaves out NaN, as the format wants it; of NaN alone they bound everything. Zeros
// are bounded by both: -0 and +0 are equal to some readers, and not to others.
func floatExtremes[T float32 | float64](vs []T) (lo, hi float64) {
	l, h := T(math.Inf(1)), T(math.Inf(-1))
	for _, v := range vs {
		if v < l {
			l = v
		}
		if v > h {
			h = v
		}
	}
	if l > h {
		l, h = h, l
	}
	lo, hi = float64(l), float64(h)
	if lo == 0 {
		lo = negativeZero
	}
	if hi == 0 {
		hi = 0
	}
	return lo, hi
}

// join is the span of two.
func (o *order) join(a, b span) span {
	switch {
	case !a.any:
		return b
	case !b.any:
		return a
	}
	if o.compare(b.lo, a.lo) < 0 {
		a.lo = b.lo
	}
	if o.compare(b.hi, a.hi) > 0 {
		a.hi = b.hi
	}
	return a
}

// index fills in a column index of pages with these spans.
func (o *order) index(x *format.ColumnIndex, spans []span) {
	up, down := true, true
	var last *span
	for i := range spans {
		s := &spans[i]
		x.NullPages = append(x.NullPages, !s.any)
		x.MinValues, x.MaxValues = append(x.MinValues, s.lo), append(x.MaxValues, s.hi)
		if !s.any {
			continue
		}
		if last != nil {
			lo, hi := o.compare(last.lo, s.lo), o.compare(last.hi, s.hi)
			up, down = up && lo <= 0 && hi <= 0, down && lo >= 0 && hi >= 0
		}
		last = s
	}
	switch {
	case up:
		x.BoundaryOrder = format.Ascending
	case down:
		x.BoundaryOrder = format.Descending
	default:
		x.BoundaryOrder = format.Unordered
	}
}
