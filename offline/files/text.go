package files

import (
	"encoding/base64"
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/forebay/forebay/registry/feature"
)

// appendJSON appends value i of an array as JSON: as feature.Value.AppendJSON does
// where the type is a feature's; decimals as numbers with all their digits, dates and
// times of day as strings, timestamps without a zone as strings without one, structs as
// objects, maps as arrays of {"key": …, "value": …}. A column annotated as JSON is
// itself.
func appendJSON(dst []byte, arr arrow.Array, i int) []byte {
	if isNull(arr, i) {
		return append(dst, "null"...)
	}
	switch a := arr.(type) {
	case *array.String:
		return feature.AppendStringJSON(dst, a.Value(i))
	case *array.LargeString:
		return feature.AppendStringJSON(dst, a.Value(i))
	case *array.Float64:
		return feature.AppendFloatJSON(dst, a.Value(i), 64)
	case *array.Float32:
		return feature.AppendFloatJSON(dst, float64(a.Value(i)), 32)
	case *array.Float16:
		return feature.AppendFloatJSON(dst, float64(a.Value(i).Float32()), 32)
	case array.ListLike:
		if m, ok := arr.(*array.Map); ok {
			return appendMap(dst, m, i)
		}
		start, end := a.ValueOffsets(i)
		dst = append(dst, '[')
		for j := start; j < end; j++ {
			if j > start {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, a.ListValues(), int(j))
		}
		return append(dst, ']')
	case *array.Struct:
		dst = append(dst, '{')
		for j := range a.NumField() {
			if j > 0 {
				dst = append(dst, ',')
			}
			dst = append(feature.AppendStringJSON(dst, a.DataType().(*arrow.StructType).Field(j).Name), ':')
			dst = appendJSON(dst, a.Field(j), i)
		}
		return append(dst, '}')
	case *array.Boolean, *array.Int8, *array.Int16, *array.Int32, *array.Int64,
		*array.Uint8, *array.Uint16, *array.Uint32, *array.Uint64, *array.Decimal128, *array.Decimal256:
		return appendText(dst, arr, i)
	}
	dst = append(dst, '"')
	dst = appendText(dst, arr, i)
	return append(dst, '"')
}

func appendMap(dst []byte, m *array.Map, i int) []byte {
	start, end := m.ValueOffsets(i)
	dst = append(dst, '[')
	for j := start; j < end; j++ {
		if j > start {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"key":`...)
		dst = appendJSON(dst, m.Keys(), int(j))
		dst = append(dst, `,"value":`...)
		dst = appendJSON(dst, m.Items(), int(j))
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendText appends value i of an array, which is not null, as CSV holds it before
// quoting: what JSON has, without quotes around it; NaN and infinities bare.
func appendText(dst []byte, arr arrow.Array, i int) []byte {
	switch a := arr.(type) {
	case *array.Boolean:
		return strconv.AppendBool(dst, a.Value(i))
	case *array.Int8:
		return strconv.AppendInt(dst, int64(a.Value(i)), 10)
	case *array.Int16:
		return strconv.AppendInt(dst, int64(a.Value(i)), 10)
	case *array.Int32:
		return strconv.AppendInt(dst, int64(a.Value(i)), 10)
	case *array.Int64:
		return strconv.AppendInt(dst, a.Value(i), 10)
	case *array.Uint8:
		return strconv.AppendUint(dst, uint64(a.Value(i)), 10)
	case *array.Uint16:
		return strconv.AppendUint(dst, uint64(a.Value(i)), 10)
	case *array.Uint32:
		return strconv.AppendUint(dst, uint64(a.Value(i)), 10)
	case *array.Uint64:
		return strconv.AppendUint(dst, a.Value(i), 10)
	case *array.Float16:
		return appendFloat(dst, float64(a.Value(i).Float32()), 32)
	case *array.Float32:
		return appendFloat(dst, float64(a.Value(i)), 32)
	case *array.Float64:
		return appendFloat(dst, a.Value(i), 64)
	case *array.String:
		return append(dst, a.Value(i)...)
	case *array.LargeString:
		return append(dst, a.Value(i)...)
	case *array.Binary:
		return base64.StdEncoding.AppendEncode(dst, a.Value(i))
	case *array.LargeBinary:
		return base64.StdEncoding.AppendEncode(dst, a.Value(i))
	case *array.FixedSizeBinary:
		return base64.StdEncoding.AppendEncode(dst, a.Value(i))
	case *array.Decimal128:
		return append(dst, a.Value(i).ToString(a.DataType().(*arrow.Decimal128Type).Scale)...)
	case *array.Decimal256:
		return append(dst, a.Value(i).ToString(a.DataType().(*arrow.Decimal256Type).Scale)...)
	case *array.Date32:
		return time.Unix(int64(a.Value(i))*86400, 0).UTC().AppendFormat(dst, time.DateOnly)
	case *array.Date64:
		return time.UnixMilli(int64(a.Value(i))).UTC().AppendFormat(dst, time.DateOnly)
	case *array.Time32:
		return a.Value(i).ToTime(a.DataType().(*arrow.Time32Type).Unit).AppendFormat(dst, "15:04:05.999999999")
	case *array.Time64:
		return a.Value(i).ToTime(a.DataType().(*arrow.Time64Type).Unit).AppendFormat(dst, "15:04:05.999999999")
	case *array.Timestamp:
		ts := a.DataType().(*arrow.TimestampType)
		layout := time.RFC3339Nano
		if ts.TimeZone == "" {
			layout = "2006-01-02T15:04:05.999999999"
		}
		return toTime(int64(a.Value(i)), ts.Unit).AppendFormat(dst, layout)
	}
	return appendJSON(dst, arr, i)
}

// toTime is an instant of a unit since the Unix epoch, in UTC.
func toTime(v int64, unit arrow.TimeUnit) time.Time {
	switch unit {
	case arrow.Second:
		return time.Unix(v, 0).UTC()
	case arrow.Millisecond:
		return time.UnixMilli(v).UTC()
	case arrow.Microsecond:
		return time.UnixMicro(v).UTC()
	}
	return time.Unix(feature.FloorDiv(v, 1e9), v-feature.FloorDiv(v, 1e9)*1e9).UTC()
}

func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case f != f:
		return append(dst, "NaN"...)
	case math.IsInf(f, 0):
		if f < 0 {
			dst = append(dst, '-')
		}
		return append(dst, "Infinity"...)
	}
	return feature.AppendFloatJSON(dst, f, bits)
}
