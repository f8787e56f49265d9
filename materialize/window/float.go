package window

import (
	"encoding/binary"
	"math"
)

// Most numbers that people write down have few digits, which take fewer bytes than
// the eight of a float64: 12.34 takes three.
const (
	maxDecimals = 6       // the greatest k of m / 10^k
	rawFloat    = 7       // in the place of k: eight bytes follow
	maxDecimal  = 1 << 46 // zigzag of m is below
)

// powers are 10^k; both they and m are exact as float64, so that one division gives
// the float64 nearest to m / 10^k.
var powers = [maxDecimals + 1]float64{1, 10, 100, 1e3, 1e4, 1e5, 1e6}

// appendFloat encodes a float64: one that is the nearest to a decimal m / 10^k as the
// uvarint zigzag(m)·8 + k, with the least k; any other as the byte 7 and its eight bytes,
// big-endian. The bits come back as they are.
func appendFloat(dst []byte, f float64) []byte {
	for k := range uint64(maxDecimals + 1) {
		scaled := math.Round(f * powers[k])
		if !(math.Abs(scaled) < maxDecimal/2) { // also NaN
			break
		}
		m := int64(scaled)
		if math.Float64bits(float64(m)/powers[k]) == math.Float64bits(f) {
			return binary.AppendUvarint(dst, (uint64(m<<1)^uint64(m>>63))<<3|k)
		}
	}
	return binary.BigEndian.AppendUint64(append(dst, rawFloat), math.Float64bits(f))
}

// float reads what appendFloat wrote.
func (d *decoder) float() float64 {
	u := d.uvarint()
	k := u & 7
	if k == rawFloat {
		if u != rawFloat || len(d.src) < 8 {
			d.fail("a float64 cut off")
			return 0
		}
		f := math.Float64frombits(binary.BigEndian.Uint64(d.src))
		d.src = d.src[8:]
		return f
	}
	if u >>= 3; u >= maxDecimal {
		d.fail("a decimal out of range")
		return 0
	}
	return float64(int64(u>>1)^-int64(u&1)) / powers[k]
}
