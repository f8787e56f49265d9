package httpapi

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry/feature"
)

// appendMessagePack appends the answer to a lookup as MessagePack
// (github.com/msgpack/msgpack/blob/master/spec.md): the document that JSON has, with
// bytes as bin, NaN and infinities as the numbers they are, and instants as the
// extension type -1.
func appendMessagePack(dst []byte, shape *answerShape, f *Found, rows int, r *featuresRequest) []byte {
	outputs := len(f.Columns)
	fields := byte(4)
	if f.StaleSince != 0 {
		fields++
	}
	dst = append(append(dst, 0x80|fields), shape.packed...)
	dst = packInstant(dst, f.Instant)
	if f.StaleSince != 0 {
		dst = packInstant(packText(dst, api.FieldStaleSince), f.StaleSince)
	}
	dst = packArray(append(dst, shape.packedFeatures...), rows)
	fields = 1
	if !r.omitStatuses {
		fields++
	}
	if !r.omitTimestamps {
		fields++
	}
	var memory [fewStretches]stretch
	same := stretches(memory[:0], f)
	floats := allFloats(f.Columns)
	for i := range rows {
		dst = packText(append(dst, 0x80|fields), api.FieldValues)
		dst = packArray(dst, outputs)
		if floats {
			dst = packFloats(dst, f.Columns, i)
		} else {
			for _, c := range f.Columns {
				dst = packCell(dst, c, i)
			}
		}
		if !r.omitStatuses {
			dst = packArray(packText(dst, api.FieldStatuses), outputs)
			for _, s := range same {
				dst = appendTimes(dst, statusPacked[s.statuses[i]], s.n)
			}
		}
		if !r.omitTimestamps {
			dst = packArray(packText(dst, api.FieldEventTimestamps), outputs)
			for _, s := range same {
				from := len(dst)
				if t := s.times[i]; t == NoTime || s.statuses[i] == feature.NotFound {
					dst = append(dst, packNull)
				} else {
					dst = packInstant(dst, t)
				}
				dst = repeatTail(dst, len(dst)-from, s.n)
			}
		}
	}
	return dst
}

// allFloats says whether columns are numbers without a null.
func allFloats(cols []*feature.Column) bool {
	for _, c := range cols {
		if c.Type.Kind != feature.Float64 || len(c.Nulls) > 0 {
			return false
		}
	}
	return true
}

// packFloats appends a row of allFloats.
func packFloats(dst []byte, cols []*feature.Column, i int) []byte {
	const size = 9
	dst = slices.Grow(dst, size*len(cols))
	row := dst[len(dst) : len(dst)+size*len(cols)]
	for _, c := range cols {
		cell := row[:size]
		cell[0] = 0xcb
		binary.BigEndian.PutUint64(cell[1:], c.Nums[i])
		row = row[size:]
	}
	return dst[:len(dst)+size*len(cols)]
}

const packNull = 0xc0

// appendTimes appends a text n times.
func appendTimes(dst []byte, text string, n int) []byte {
	return repeatTail(append(dst, text...), len(text), n)
}

// repeatTail makes the last bytes, so many, be there n times: by copies that double.
func repeatTail(dst []byte, size, n int) []byte {
	from := len(dst) - size
	for want := from + size*n; len(dst) < want; {
		dst = append(dst, dst[from:min(len(dst), from+want-len(dst))]...)
	}
	return dst
}

// statusPacked are the statuses' names as MessagePack has them, by number.
var statusPacked = [...]string{
	feature.StatusInvalid: "\xa7INVALID",
	feature.Present:       "\xa7PRESENT",
	feature.NullValue:     "\xaaNULL_VALUE",
	feature.NotFound:      "\xa9NOT_FOUND",
	feature.OutsideMaxAge: "\xafOUTSIDE_MAX_AGE",
}

// packCell appends one value; numbers without a Value in between.
func packCell(dst []byte, c *feature.Column, i int) []byte {
	if c.Type.Kind == feature.Float64 && !c.Nulls.Get(i) {
		return binary.BigEndian.AppendUint64(append(dst, 0xcb), c.Nums[i])
	}
	return packValue(dst, c.Value(i))
}

func packValue(dst []byte, v feature.Value) []byte {
	switch v.Kind() {
	case feature.Bool:
		if v.Bool() {
			return append(dst, 0xc3)
		}
		return append(dst, 0xc2)
	case feature.Int64:
		return packInt(dst, v.Int64())
	case feature.Float64:
		return binary.BigEndian.AppendUint64(append(dst, 0xcb), v.Bits())
	case feature.String:
		return packText(dst, v.Str())
	case feature.Bytes:
		b := v.Bytes()
		dst = packLength(dst, len(b), 0xc4, 0xc5, 0xc6)
		return append(dst, b...)
	case feature.Timestamp:
		return packInstant(dst, v.Int64())
	case feature.List:
		dst = packArray(dst, len(v.List()))
		for _, e := range v.List() {
			dst = packValue(dst, e)
		}
		return dst
	case feature.Embedding:
		dst = packArray(dst, len(v.Embedding()))
		for _, e := range v.Embedding() {
			dst = binary.BigEndian.AppendUint32(append(dst, 0xca), math.Float32bits(e))
		}
		return dst
	}
	return append(dst, packNull)
}

func packInt(dst []byte, n int64) []byte {
	switch {
	case n >= 0 && n < 128, n < 0 && n >= -32:
		return append(dst, byte(n)) //nolint:gosec // fixint
	case n == int64(int32(n)): //nolint:gosec // that it fits is what is asked
		return binary.BigEndian.AppendUint32(append(dst, 0xd2), uint32(n)) //nolint:gosec // the bits
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(n)) //nolint:gosec // the bits
}

// packLength appends the length of something in the smallest of its forms.
func packLength(dst []byte, n int, form8, form16, form32 byte) []byte {
	switch {
	case n < 1<<8 && form8 != 0:
		return append(dst, form8, byte(n)) //nolint:gosec // checked
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, form16), uint16(n)) //nolint:gosec // checked
	}
	return binary.BigEndian.AppendUint32(append(dst, form32), uint32(n)) //nolint:gosec // an answer's
}

func packText(dst []byte, s string) []byte {
	if len(s) < 32 {
		dst = append(dst, 0xa0|byte(len(s))) //nolint:gosec // checked
	} else {
		dst = packLength(dst, len(s), 0xd9, 0xda, 0xdb)
	}
	return append(dst, s...)
}

func packArray(dst []byte, n int) []byte {
	if n < 16 {
		return append(dst, 0x90|byte(n)) //nolint:gosec // checked
	}
	return packLength(dst, n, 0, 0xdc, 0xdd)
}

// packInstant appends an instant as the extension type -1, in 8 bytes where its
// seconds fit 34 bits (years 1970 to 2514), else in 12.
func packInstant(dst []byte, micros int64) []byte {
	seconds := feature.FloorDiv(micros, 1e6)
	nanos := uint64(micros-seconds*1e6) * 1000 //nolint:gosec // below a second
	if seconds >= 0 && seconds < 1<<34 {
		return binary.BigEndian.AppendUint64(append(dst, 0xd7, 0xff), nanos<<34|uint64(seconds))
	}
	dst = binary.BigEndian.AppendUint32(append(dst, 0xc7, 12, 0xff), uint32(nanos)) //nolint:gosec // below a second
	return binary.BigEndian.AppendUint64(dst, uint64(seconds))                      //nolint:gosec // the bits
}
