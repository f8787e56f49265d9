package parquet

import (
	"bytes"
	"encoding/binary"
	"math"
	"unicode/utf8"

	"github.com/forebay/forebay/registry/feature"
)

// columnStats gathers what an Iceberg manifest says of a column in one file, so
// that any engine can leave files out. Bounds are in Iceberg's single-value
// serialization (Iceberg table spec, appendix D): little-endian numbers, text cut to 16.
type columnStats struct {
	values, nulls, nans int64
	any                 bool
	lo, hi              uint64 // order of the kind decides
	loText, hiText      []byte
}

const boundLength = 16

// add looks at rows [from, to) of a column.
func (s *columnStats) add(c *feature.Column, from, to int) {
	n := int64(to - from)
	s.values += n
	hasNulls := len(c.Nulls) > 0
	switch c.Type.Kind {
	case feature.Int64, feature.Timestamp, feature.Bool:
		for i := from; i < to; i++ {
			if hasNulls && c.IsNull(i) {
				s.nulls++
				continue
			}
			v := c.Nums[i]
			if !s.any {
				s.lo, s.hi, s.any = v, v, true
			} else if int64(v) < int64(s.lo) {
				s.lo = v
			} else if int64(v) > int64(s.hi) {
				s.hi = v
			}
		}
	case feature.Float64:
		for i := from; i < to; i++ {
			if hasNulls && c.IsNull(i) {
				s.nulls++
				continue
			}
			v := math.Float64frombits(c.Nums[i])
			switch {
			case v != v:
				s.nans++
			case !s.any:
				s.lo, s.hi, s.any = c.Nums[i], c.Nums[i], true
			case v < math.Float64frombits(s.lo):
				s.lo = c.Nums[i]
			case v > math.Float64frombits(s.hi):
				s.hi = c.Nums[i]
			}
		}
	case feature.String:
		for i := from; i < to; i++ {
			if hasNulls && c.IsNull(i) {
				s.nulls++
				continue
			}
			s.addText(c.Bytes(i))
		}
	default:
		for i := from; i < to; i++ {
			if c.IsNull(i) {
				s.nulls++
			}
		}
	}
}

func (s *columnStats) addText(b []byte) {
	if !s.any {
		s.loText, s.hiText, s.any = bytes.Clone(b), bytes.Clone(b), true
		return
	}
	if bytes.Compare(b, s.loText) < 0 {
		s.loText = append(s.loText[:0], b...)
	}
	if bytes.Compare(b, s.hiText) > 0 {
		s.hiText = append(s.hiText[:0], b...)
	}
}

// bounds are the serialized bounds; nil where there are none.
func (s *columnStats) bounds(c column) (lo, hi []byte) {
	if !s.any {
		return nil, nil
	}
	switch {
	case c.narrow:
		return binary.LittleEndian.AppendUint32(nil, uint32(s.lo)), binary.LittleEndian.AppendUint32(nil, uint32(s.hi))
	case c.Type.Kind == feature.Bool:
		return []byte{byte(s.lo)}, []byte{byte(s.hi)}
	case c.Type.Kind == feature.Float64:
		// Some engines order -0.0 before 0.0, some take them for equal: a
		// bound that is zero holds for both.
		l, h := s.lo, s.hi
		if math.Float64frombits(l) == 0 {
			l = math.Float64bits(math.Copysign(0, -1))
		}
		if math.Float64frombits(h) == 0 {
			h = 0
		}
		return binary.LittleEndian.AppendUint64(nil, l), binary.LittleEndian.AppendUint64(nil, h)
	case c.Type.Kind == feature.String:
		return cutText(s.loText), cutTextUp(s.hiText)
	}
	return binary.LittleEndian.AppendUint64(nil, s.lo), binary.LittleEndian.AppendUint64(nil, s.hi)
}

// cutText is the longest prefix of at most boundLength bytes that ends with a character.
func cutText(b []byte) []byte {
	if len(b) <= boundLength {
		return b
	}
	n := boundLength
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return b[:n]
}

// cutTextUp is a short text that is not below b; nil if there is none.
func cutTextUp(b []byte) []byte {
	if len(b) <= boundLength {
		return b
	}
	rs := []rune(string(cutText(b)))
	for i := len(rs) - 1; i >= 0; i-- {
		r := rs[i] + 1
		if r >= 0xd800 && r <= 0xdfff {
			r = 0xe000
		}
		if r <= utf8.MaxRune && rs[i] != utf8.RuneError {
			return []byte(string(append(rs[:i:i], r)))
		}
	}
	return nil
}
