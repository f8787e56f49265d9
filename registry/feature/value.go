package feature

import (
	"bytes"
	"encoding/base64"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// Value is one cell: a value of some kind, null, or null because it could not
// be computed ([Invalid]). The zero Value is null.
//
// A Value of kind String, Bytes, List or Embedding refers to memory it does
// not own; whoever hands one out says how long it stays valid.
type Value struct {
	ptr  unsafe.Pointer // String, Bytes: the bytes; List: []Value; Embedding: []float32
	num  uint64         // the bits of a fixed kind, or the length of what ptr points to; 1 for Invalid
	kind Kind
	elem Kind // of a List
}

// Invalid is the null of a value that could not be computed (overflow,
// division by zero): status INVALID.
func Invalid() Value { return Value{num: 1} }

// OfBool makes a bool.
func OfBool(b bool) Value {
	if b {
		return Value{kind: Bool, num: 1}
	}
	return Value{kind: Bool}
}

// OfInt64 makes an int64.
func OfInt64(i int64) Value { return Value{kind: Int64, num: uint64(i)} }

// OfFloat64 makes a float64.
func OfFloat64(f float64) Value { return Value{kind: Float64, num: math.Float64bits(f)} }

// OfTimestamp makes a timestamp of microseconds since the Unix epoch.
func OfTimestamp(micros int64) Value { return Value{kind: Timestamp, num: uint64(micros)} }

// OfString makes a string; it refers to s.
func OfString(s string) Value {
	return Value{kind: String, num: uint64(len(s)), ptr: unsafe.Pointer(unsafe.StringData(s))}
}

// OfBytes makes a byte string; it refers to b.
func OfBytes(b []byte) Value {
	return Value{kind: Bytes, num: uint64(len(b)), ptr: unsafe.Pointer(unsafe.SliceData(b))}
}

// OfList makes a list of elem; it refers to vs. No element may be null or a list.
func OfList(elem Kind, vs []Value) Value {
	return Value{kind: List, elem: elem, num: uint64(len(vs)), ptr: unsafe.Pointer(unsafe.SliceData(vs))}
}

// OfEmbedding makes an embedding; it refers to fs.
func OfEmbedding(fs []float32) Value {
	return Value{kind: Embedding, num: uint64(len(fs)), ptr: unsafe.Pointer(unsafe.SliceData(fs))}
}

// ofBits makes a value of a fixed kind from its bits.
func ofBits(k Kind, bits uint64) Value { return Value{kind: k, num: bits} }

// Kind is the value's kind; Null for a null, valid or not.
func (v Value) Kind() Kind { return v.kind }

// Type is the type of a value that is not null.
func (v Value) Type() Type {
	switch v.kind {
	case List:
		return ListOf(v.elem)
	case Embedding:
		return EmbeddingOf(int(v.num))
	}
	return Type{Kind: v.kind}
}

// IsNull reports whether there is no value, for whatever reason.
func (v Value) IsNull() bool { return v.kind == Null }

// IsInvalid reports whether the value is null because it could not be computed.
func (v Value) IsInvalid() bool { return v.kind == Null && v.num == 1 }

// Bits are the 64 bits of a value of a fixed kind.
func (v Value) Bits() uint64 { return v.num }

// Bool is the value of a Bool.
func (v Value) Bool() bool { return v.num != 0 }

// Int64 is the value of an Int64, or the microseconds of a Timestamp.
func (v Value) Int64() int64 { return int64(v.num) }

// Float64 is the value of a Float64.
func (v Value) Float64() float64 { return math.Float64frombits(v.num) }

// Str is the text of a String, or the bytes of a Bytes as a string. It shares memory.
func (v Value) Str() string { return unsafe.String((*byte)(v.ptr), int(v.num)) }

// Bytes are the bytes of a Bytes or of a String. They are shared: never write to them.
func (v Value) Bytes() []byte { return unsafe.Slice((*byte)(v.ptr), int(v.num)) }

// Elem is the kind of a List's elements.
func (v Value) Elem() Kind { return v.elem }

// List are the elements of a List. They are shared: never write to them.
func (v Value) List() []Value { return unsafe.Slice((*Value)(v.ptr), int(v.num)) }

// Embedding are the numbers of an Embedding. They are shared: never write to them.
func (v Value) Embedding() []float32 { return unsafe.Slice((*float32)(v.ptr), int(v.num)) }

// Clone copies the memory the value refers to.
func (v Value) Clone() Value {
	switch v.kind {
	case String:
		return OfString(strings.Clone(v.Str()))
	case Bytes:
		return OfBytes(bytes.Clone(v.Bytes()))
	case List:
		vs := make([]Value, int(v.num))
		for i, e := range v.List() {
			vs[i] = e.Clone()
		}
		return OfList(v.elem, vs)
	case Embedding:
		return OfEmbedding(append([]float32(nil), v.Embedding()...))
	}
	return v
}

// Equal reports whether two values are the same, bit for bit; all NaNs are one
// value, and so are null and invalid.
func (v Value) Equal(w Value) bool {
	if v.kind != w.kind {
		return false
	}
	switch v.kind {
	case Null:
		return true
	case Float64:
		return v.num == w.num || (v.Float64() != v.Float64() && w.Float64() != w.Float64())
	case String, Bytes:
		return v.Str() == w.Str()
	case List:
		if v.num != w.num || v.elem != w.elem {
			return false
		}
		a, b := v.List(), w.List()
		for i := range a {
			if !a[i].Equal(b[i]) {
				return false
			}
		}
		return true
	case Embedding:
		if v.num != w.num {
			return false
		}
		a, b := v.Embedding(), w.Embedding()
		for i := range a {
			if math.Float32bits(a[i]) != math.Float32bits(b[i]) && (a[i] == a[i] || b[i] == b[i]) {
				return false
			}
		}
		return true
	}
	return v.num == w.num
}

// String is the value as a person reads it; null is "null".
func (v Value) String() string {
	if v.kind == String {
		return v.Str()
	}
	return string(v.AppendJSON(nil))
}

// AppendJSON appends the value as JSON: timestamps as RFC 3339 in UTC, bytes in
// base64, and the floats JSON has no number for as "NaN", "Infinity" and
// "-Infinity" (the JSON mapping of Protocol Buffers).
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case Bool:
		return strconv.AppendBool(dst, v.Bool())
	case Int64:
		return strconv.AppendInt(dst, v.Int64(), 10)
	case Float64:
		return AppendFloatJSON(dst, v.Float64(), 64)
	case String:
		return AppendStringJSON(dst, v.Str())
	case Bytes:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, v.Bytes())
		return append(dst, '"')
	case Timestamp:
		dst = append(dst, '"')
		dst = AppendTimestamp(dst, v.Int64())
		return append(dst, '"')
	case List:
		dst = append(dst, '[')
		for i, e := range v.List() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = e.AppendJSON(dst)
		}
		return append(dst, ']')
	case Embedding:
		dst = append(dst, '[')
		for i, f := range v.Embedding() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendFloatJSON(dst, float64(f), 32)
		}
		return append(dst, ']')
	}
	return append(dst, "null"...)
}

// AppendFloatJSON appends a float in the fewest digits that read back to the
// same number of bits (32 or 64), always recognisable as a float ("3.0").
func AppendFloatJSON(dst []byte, f float64, bits int) []byte {
	switch {
	case f != f:
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	format := byte('f')
	switch abs := math.Abs(f); {
	case abs == 0:
	case abs < 1e-6 || abs >= 1e16:
		format = 'e'
	case bits == 64:
		return appendDecimal(dst, f)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, format, -1, bits)
	if format == 'f' && bytes.IndexByte(dst[start:], '.') < 0 {
		dst = append(dst, '.', '0')
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// AppendStringJSON appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD.
func AppendStringJSON(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf {
			if b >= ' ' && b != '"' && b != '\\' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch b {
			case '"', '\\':
				dst = append(dst, '\\', b)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\ufffd"...)
			i++
			start = i
			continue
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
