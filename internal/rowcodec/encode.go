package rowcodec

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/forebay/forebay/registry/feature"
)

// Append appends the record of one row: of version v, with the values that row
// of cols holds. cols are the columns of the codec's features, in the order in
// which it was given them; columns of other types are a mistake of the caller
// and panic. The error is ErrTooLarge, and dst then unchanged.
func (c *Codec) Append(dst []byte, v feature.Version, cols []*feature.Column, row int) ([]byte, error) {
	c.checkColumns(cols)
	start := len(dst)
	dst = append(dst, KindNewestRow)
	dst = appendOrder(dst, v)
	dst = append(dst, 0)
	flags := byte(0)

	dst, found := c.appendBitmap(dst, len(c.slots), func(s int) bool { return cols[c.slots[s]].Nulls.Get(row) })
	if found {
		flags |= flagNulls
		if dst, found = c.appendBitmap(dst, len(c.slots), func(s int) bool { return cols[c.slots[s]].Bad.Get(row) }); found {
			flags |= flagInvalid
		}
	}
	if c.bools > c.words {
		if dst, found = c.appendBitmap(dst, c.bools-c.words, func(s int) bool { return cols[c.slots[c.words+s]].Nums[row] != 0 }); !found {
			dst = append(dst, make([]byte, bitmapLen(c.bools-c.words))...) // the one bitmap that is always there
		}
	}
	for _, f := range c.slots[:c.words] {
		if col := cols[f]; flags == 0 || !col.Nulls.Get(row) {
			dst = binary.LittleEndian.AppendUint64(dst, col.Nums[row])
		}
	}
	if c.bools < len(c.slots) {
		var wide bool
		dst, wide = c.appendTexts(dst, cols, row)
		if wide {
			flags |= flagWide
		}
	}
	if n := len(dst) - start + trailerLen; n > MaxRecord {
		return dst[:start], fmt.Errorf("%w: %s: %d bytes, the limit is %d", ErrTooLarge, c.scope, n, MaxRecord)
	}
	dst[start+orderEnd] = flags
	return binary.LittleEndian.AppendUint32(dst, c.checksum(dst[start:])), nil
}

func (c *Codec) checksum(body []byte) uint32 { return crc32.Update(c.seed, castagnoli, body) }

func (c *Codec) checkColumns(cols []*feature.Column) {
	if len(cols) != len(c.fields) {
		panic(fmt.Sprintf("rowcodec: %d columns for the %d features of %s", len(cols), len(c.fields), c.scope))
	}
	for i, col := range cols {
		if col.Type != c.fields[i].Type {
			panic(fmt.Sprintf("rowcodec: a column of %s for %s of %s, a %s", col.Type, c.fields[i].Name, c.scope, c.fields[i].Type))
		}
	}
}

// appendBitmap appends a bitmap of n bits, or nothing if none is set.
func (c *Codec) appendBitmap(dst []byte, n int, bit func(int) bool) (_ []byte, found bool) {
	start := len(dst)
	for i := 0; i < n; i += 8 {
		b := byte(0)
		for j := i; j < min(i+8, n); j++ {
			if bit(j) {
				b |= 1 << (j & 7)
			}
		}
		found = found || b != 0
		dst = append(dst, b)
	}
	if !found {
		return dst[:start], false
	}
	return dst, true
}

// appendTexts appends the ends and the bytes of the texts that are not null.
func (c *Codec) appendTexts(dst []byte, cols []*feature.Column, row int) (_ []byte, wide bool) {
	slots := c.slots[c.bools:]
	count, size := 0, 0
	for _, f := range slots {
		if col := cols[f]; !col.Nulls.Get(row) {
			count, size = count+1, size+textLen(col, row)
		}
	}
	if size > MaxRecord { // refused by the caller, without a copy of it
		return append(dst, make([]byte, MaxRecord)...), true
	}
	width := 2
	if wide = size > math.MaxUint16; wide {
		width = 4
	}
	ends := len(dst)
	dst = append(dst, make([]byte, count*width)...)
	data := len(dst)
	for _, f := range slots {
		col := cols[f]
		if col.Nulls.Get(row) {
			continue
		}
		dst = appendText(dst, col, row)
		if wide {
			binary.LittleEndian.PutUint32(dst[ends:], uint32(len(dst)-data))
		} else {
			binary.LittleEndian.PutUint16(dst[ends:], uint16(len(dst)-data))
		}
		ends += width
	}
	return dst, wide
}

// textLen is the number of bytes that appendText appends.
func textLen(col *feature.Column, row int) int {
	switch col.Type.Kind {
	case feature.String, feature.Bytes:
		return len(col.Bytes(row))
	case feature.Embedding:
		return 4 * col.Type.Dim
	}
	vs := col.Values[row].List()
	n := uvarintLen(uint64(len(vs)))
	switch col.Type.Elem {
	case feature.Bool:
		return n + len(vs)
	case feature.String, feature.Bytes:
		for _, v := range vs {
			n += uvarintLen(uint64(len(v.Bytes()))) + len(v.Bytes())
		}
		return n
	}
	return n + 8*len(vs)
}

func uvarintLen(n uint64) int {
	l := 1
	for ; n >= 0x80; n >>= 7 {
		l++
	}
	return l
}

func appendText(dst []byte, col *feature.Column, row int) []byte {
	switch col.Type.Kind {
	case feature.String, feature.Bytes:
		return append(dst, col.Bytes(row)...)
	case feature.Embedding:
		for _, f := range col.Values[row].Embedding() {
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(f))
		}
		return dst
	}
	vs := col.Values[row].List()
	dst = binary.AppendUvarint(dst, uint64(len(vs)))
	for _, v := range vs {
		switch col.Type.Elem {
		case feature.Bool:
			dst = append(dst, byte(v.Bits()))
		case feature.String, feature.Bytes:
			dst = append(binary.AppendUvarint(dst, uint64(len(v.Bytes()))), v.Bytes()...)
		default:
			dst = binary.LittleEndian.AppendUint64(dst, v.Bits())
		}
	}
	return dst
}
