package window

import (
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"math/bits"
)

// Exact is a sum of integers and floats without any rounding: an integer of as
// many 64-bit words as it needs, scaled by a power of two. Because it is exact
// it does not depend on the order of the additions, so that the stream, a
// backfill and a training set agree in every bit; and what was added can be
// taken away again. The zero Exact is zero.
//
// The idea is Kulisch's long accumulator, kept only as long as the values seen
// demand: two or three words for values of one magnitude.
type Exact struct {
	low   int      // the value is words × 2^(64·low)
	words []uint64 // little-endian, two's complement; nil is zero
}

// AddInt adds an integer.
func (e *Exact) AddInt(i int64) { e.add(0, uint64(i), uint64(i>>63), uint64(i>>63)) }

// AddFloat adds a finite float. NaN and infinities are the caller's to keep away.
func (e *Exact) AddFloat(f float64) {
	m, exp := split(f)
	if m == 0 {
		return
	}
	q, s := floorShift(exp)
	lo, hi := uint64(m)<<s, uint64(m>>(64-s)) // for s = 0 the arithmetic shift by 64 is the sign
	e.add(q, lo, hi, uint64(m>>63))
}

// AddSquareInt adds i².
func (e *Exact) AddSquareInt(i int64) {
	hi, lo := bits.Mul64(magnitude(i), magnitude(i))
	e.add(0, lo, hi, 0)
}

// AddSquareFloat adds f² of a finite float.
func (e *Exact) AddSquareFloat(f float64) {
	m, exp := split(f)
	if m == 0 {
		return
	}
	hi, lo := bits.Mul64(magnitude(m), magnitude(m))
	q, s := floorShift(2 * exp)
	if s == 0 {
		e.add(q, lo, hi, 0)
		return
	}
	e.add(q, lo<<s, hi<<s|lo>>(64-s), hi>>(64-s))
}

// split takes a finite float apart: f = m × 2^exp, with |m| < 2^53.
func split(f float64) (m int64, exp int) {
	b := math.Float64bits(f)
	exp = int(b >> 52 & 0x7ff)
	m = int64(b & (1<<52 - 1))
	if exp == 0 {
		exp = 1
	} else {
		m |= 1 << 52
	}
	if b>>63 != 0 {
		m = -m
	}
	return m, exp - 1075
}

func magnitude(i int64) uint64 {
	if i < 0 {
		return -uint64(i)
	}
	return uint64(i)
}

func floorShift(exp int) (q int, s uint) { return exp >> 6, uint(exp & 63) }

// add adds the three-word two's complement integer (a, b, c) × 2^(64·q).
func (e *Exact) add(q int, a, b, c uint64) {
	sign := uint64(int64(c) >> 63)
	e.reach(q, 3)
	i := q - e.low
	var carry uint64
	e.words[i], carry = bits.Add64(e.words[i], a, 0)
	e.words[i+1], carry = bits.Add64(e.words[i+1], b, carry)
	e.addFrom(i+2, c, sign, carry)
}

// addFrom adds c at word i and its sign in every word above, with a carry.
func (e *Exact) addFrom(i int, c, sign, carry uint64) {
	for ; ; i++ {
		old := e.words[i]
		e.words[i], carry = bits.Add64(old, c, carry)
		if i == len(e.words)-1 {
			// Overflow: both operands have one sign and the result the other.
			if (old^e.words[i])&(c^e.words[i])>>63 != 0 {
				e.words = append(e.words, uint64(int64(old)>>63))
			}
			return
		}
		c = sign
		if sign+carry == 0 { // adding nothing to the words above
			return
		}
	}
}

// reach makes words for n words from q.
func (e *Exact) reach(q, n int) {
	if e.words == nil {
		e.low, e.words = q, make([]uint64, n, n+1)
		return
	}
	if q < e.low {
		more := make([]uint64, e.low-q+len(e.words), e.low-q+len(e.words)+1)
		copy(more[e.low-q:], e.words)
		e.low, e.words = q, more
	}
	sign := uint64(int64(e.words[len(e.words)-1]) >> 63)
	for e.low+len(e.words) < q+n {
		e.words = append(e.words, sign)
	}
}

// Add adds another sum.
func (e *Exact) Add(o *Exact) { e.merge(o, 0) }

// Sub takes another sum away.
func (e *Exact) Sub(o *Exact) { e.merge(o, ^uint64(0)) }

// merge adds o, its words xor-ed with flip (and one added, where flip is set: the negative).
func (e *Exact) merge(o *Exact, flip uint64) {
	if len(o.words) == 0 {
		return
	}
	e.reach(o.low, len(o.words)+1)
	carry := flip & 1
	i := o.low - e.low
	for _, w := range o.words {
		e.words[i], carry = bits.Add64(e.words[i], w^flip, carry)
		i++
	}
	sign := uint64(int64(o.words[len(o.words)-1]^flip) >> 63)
	e.addFrom(i, sign, sign, carry)
}

// Reset makes it zero and keeps the memory.
func (e *Exact) Reset() {
	if e.words != nil {
		clear(e.words)
	}
}

// Clone copies the sum.
func (e *Exact) Clone() Exact {
	return Exact{low: e.low, words: append([]uint64(nil), e.words...)}
}

// trimmed is the sum without words that say nothing, sharing memory.
func (e *Exact) trimmed() Exact {
	w, low := e.words, e.low
	for len(w) > 1 && w[len(w)-1] == uint64(int64(w[len(w)-2])>>63) {
		w = w[:len(w)-1]
	}
	for len(w) > 0 && w[0] == 0 {
		w, low = w[1:], low+1
	}
	if len(w) == 0 {
		return Exact{}
	}
	return Exact{low: low, words: w}
}

// IsZero reports whether the sum is zero.
func (e *Exact) IsZero() bool { return len(e.trimmed().words) == 0 }

// Int64 is the sum as an integer; false if it does not fit, or has a fraction.
func (e *Exact) Int64() (int64, bool) {
	t := e.trimmed()
	switch {
	case len(t.words) == 0:
		return 0, true
	case len(t.words) == 1 && t.low == 0:
		return int64(t.words[0]), true
	}
	return 0, false
}

// Float64 is the sum rounded once, to the nearest float64, ties to even; it is
// infinite where the sum is too great.
func (e *Exact) Float64() float64 {
	t := e.trimmed()
	if len(t.words) == 0 {
		return 0
	}
	neg := int64(t.words[len(t.words)-1]) < 0
	// The magnitude, word by word: for a negative sum ^w + 1 from the lowest word on,
	// which is not zero, so the carry goes no further than it.
	word := func(i int) uint64 {
		switch {
		case !neg:
			return t.words[i]
		case i == 0:
			return -t.words[0]
		}
		return ^t.words[i]
	}
	top := len(t.words) - 1
	for top > 0 && word(top) == 0 {
		top--
	}
	hi := word(top)
	shift := uint(bits.LeadingZeros64(hi))
	m := hi << shift
	sticky := false
	if top > 0 {
		m |= word(top-1) >> (64 - shift)
		sticky = word(top-1)<<shift != 0
		for i := top - 2; i >= 0 && !sticky; i-- {
			sticky = word(i) != 0
		}
	}
	if sticky {
		m |= 1 // below the last bit that rounding to 53 looks at
	}
	exp := (t.low+top)*64 - int(shift)
	if exp < -1022-11 {
		return e.bigFloat64() // subnormal: rounding happens at another bit
	}
	f := math.Ldexp(float64(m), exp)
	if neg {
		f = -f
	}
	return f
}

func (e *Exact) bigFloat64() float64 {
	n, exp := e.bigInt()
	f := new(big.Float).SetPrec(uint(n.BitLen()) + 1).SetInt(n)
	f.SetMantExp(f, exp)
	r, _ := f.Float64()
	return r
}

// bigInt is the sum as n × 2^exp.
func (e *Exact) bigInt() (n *big.Int, exp int) {
	t := e.trimmed()
	n = new(big.Int)
	if len(t.words) == 0 {
		return n, 0
	}
	buf := make([]byte, 8*len(t.words))
	for i, w := range t.words {
		binary.BigEndian.PutUint64(buf[len(buf)-8*(i+1):], w)
	}
	n.SetBytes(buf)
	if int64(t.words[len(t.words)-1]) < 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(buf))))
	}
	return n, 64 * t.low
}

// variance is (S2 - S1²/n) / d, rounded once; n and d are not zero. It is the
// textbook formula, which is safe here because both sums are exact.
func variance(s1, s2 *Exact, n, d int64) float64 {
	a, ea := s1.bigInt()
	b, eb := s2.bigInt()
	// n·S2 - S1² over n·d, with both at the lower of the two exponents.
	a.Mul(a, a)
	ea *= 2
	b.Mul(b, big.NewInt(n))
	exp := min(ea, eb)
	a.Lsh(a, uint(ea-exp))
	b.Lsh(b, uint(eb-exp))
	b.Sub(b, a)
	den := new(big.Int).Mul(big.NewInt(n), big.NewInt(d))
	if exp >= 0 {
		b.Lsh(b, uint(exp))
	} else {
		den.Lsh(den, uint(-exp))
	}
	f, _ := new(big.Rat).SetFrac(b, den).Float64()
	return f
}

// quotient is S / n, rounded once.
func quotient(s *Exact, n int64) float64 {
	if n == 1 {
		return s.Float64()
	}
	if f, ok := s.over(uint64(n)); ok {
		return f
	}
	a, exp := s.bigInt()
	den := big.NewInt(n)
	if exp >= 0 {
		a.Lsh(a, uint(exp))
	} else {
		den.Lsh(den, uint(-exp))
	}
	f, _ := new(big.Rat).SetFrac(a, den).Float64()
	return f
}

// over is the sum over n, rounded once, by long division; false for a sum of many
// words, which math/big divides.
func (e *Exact) over(n uint64) (float64, bool) {
	t := e.trimmed()
	k := len(t.words)
	if k == 0 {
		return 0, true
	}
	// The quotient: two words of fraction, so that it has more bits than rounding
	// looks at, and a word for the sign.
	var q [9]uint64
	if k+3 > len(q) {
		return 0, false
	}
	neg := int64(t.words[k-1]) < 0
	copy(q[2:], t.words)
	if neg {
		carry := uint64(1)
		for i := 2; i < k+2; i++ {
			q[i], carry = bits.Add64(^q[i], 0, carry)
		}
	}
	rem := uint64(0)
	for i := k + 1; i >= 0; i-- {
		q[i], rem = bits.Div64(rem, q[i], n)
	}
	if rem != 0 {
		q[0] |= 1
	}
	quo := Exact{low: t.low - 2, words: q[:k+3]}
	f := quo.Float64()
	if neg {
		f = -f
	}
	return f, true
}

// smallSum bounds the integers that are encoded as one number.
const smallSum = 1 << 45

// Append encodes the sum: an integer below 2^45 as the uvarint 2·zigzag; any other as
// the uvarint 2·size + 1, the exponent of two as a zigzag varint, and the
// mantissa, an odd integer in two's complement, big-endian, in size bytes, as few as hold it.
func (e *Exact) Append(dst []byte) []byte {
	if i, ok := e.Int64(); ok && -smallSum < i && i < smallSum {
		return binary.AppendUvarint(dst, (uint64(i<<1)^uint64(i>>63))<<1)
	}
	n, exp := e.bigInt()
	zeros := n.TrailingZeroBits()
	n.Rsh(n, zeros)
	size := n.BitLen()/8 + 1 // one bit more than the magnitude, for the sign
	if n.Sign() < 0 {
		if new(big.Int).Not(n).BitLen()/8+1 < size {
			size = new(big.Int).Not(n).BitLen()/8 + 1
		}
		n.Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*size)))
	}
	dst = binary.AppendUvarint(dst, uint64(size)<<1|1)
	dst = binary.AppendVarint(dst, int64(exp)+int64(zeros))
	buf := make([]byte, size)
	return append(dst, n.FillBytes(buf)...)
}

var (
	errCutOff = errors.New("cut off")
	errSum    = errors.New("a sum out of range")
)

// smallOf is the integer of a sum that is encoded as one number.
func smallOf(u uint64) (int64, bool) {
	u >>= 1
	return int64(u>>1) ^ -int64(u&1), u < 2*smallSum
}

// maxExactBytes bounds what a decoder takes: squares of float64 span 4,200 bits,
// and 64 more hold the count of any number of them.
const maxExactBytes = (4200 + 128) / 8

// DecodeExact reads what Append wrote and returns what follows it.
func DecodeExact(src []byte) (e Exact, rest []byte, err error) {
	size, n := binary.Uvarint(src)
	if n <= 0 {
		return e, nil, errCutOff
	}
	src = src[n:]
	if size&1 == 0 {
		i, ok := smallOf(size)
		if !ok {
			return e, nil, errSum
		}
		if i != 0 {
			e.AddInt(i)
		}
		return e, src, nil
	}
	if size >>= 1; size == 0 {
		return e, nil, errSum
	}
	exp, n := binary.Varint(src)
	if n <= 0 || uint64(len(src)-n) < size {
		return e, nil, errCutOff
	}
	if size > maxExactBytes || exp < -5000 || exp > 5000 {
		return e, nil, errSum
	}
	mant := src[n : n+int(size)]
	v := new(big.Int).SetBytes(mant)
	if mant[0]>>7 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*size)))
	}
	q, s := floorShift(int(exp))
	v.Lsh(v, s)
	e.low = q
	neg := v.Sign() < 0
	if neg {
		v.Not(v)
	}
	words := (v.BitLen() + 64) / 64 // with room for the sign
	buf := v.FillBytes(make([]byte, 8*words))
	e.words = make([]uint64, words, words+1)
	for i := range e.words {
		e.words[i] = binary.BigEndian.Uint64(buf[8*(words-1-i):])
		if neg {
			e.words[i] = ^e.words[i]
		}
	}
	return e, src[n+int(size):], nil
}
