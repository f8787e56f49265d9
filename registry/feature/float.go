package feature

import (
	"math"
	"math/bits"
	"slices"
)

// appendDecimal appends a number in its shortest decimal form that is read back as the same
// number, of these the nearest, with a point and a digit behind it: 60.0, 0.1. It takes numbers of
// 1e-6 <= |f| < 1e16, whose form has no exponent, and gives what strconv.AppendFloat(dst, f, 'f', -1, 64)
// does, in less than half the time.
//
// The method is Schubfach (Raffaello Giulietti, "The Schubfach way to render doubles", 2020). In
// this range the powers of ten that it multiplies by are exact.
func appendDecimal(dst []byte, f float64) []byte {
	word := math.Float64bits(f)
	if word>>63 != 0 {
		dst = append(dst, '-')
	}
	const mantissa = 1<<52 - 1
	c, q := word&mantissa|(mantissa+1), int(word>>52&0x7ff)-1075 // f is c 2^q: none is subnormal
	if q <= 0 && q > -53 && c&(1<<-q-1) == 0 {
		return append(appendDigits(dst, c>>-q), '.', '0')
	}
	// k is floor(log10(2^q)), for a power of two, whose lower neighbour is nearer, floor(log10(3/4 2^q)).
	// All numbers are taken 4 times, times 10^-k: v the number's, and the ends of what rounds to it.
	left, k := 4*c-2, (q*1262611)>>22
	if word&mantissa == 0 {
		left, k = 4*c-1, (q*1262611-524031)>>22
	}
	h := q + (-k*1741647)>>19 + 1
	g := &powers[-k]
	v, low, high := g.times(4*c<<h), g.times(left<<h), g.times((4*c+2)<<h)
	if c&1 != 0 { // the ends round to an even neighbour
		low, high = low+1, high-1
	}
	s := v / 4
	digits, scale := s, -k // the number is digits 10^-scale
	if ten := s / 10; s >= 10 && (low <= 40*ten) != (40*ten+40 <= high) {
		if digits, scale = ten, scale-1; low > 40*ten {
			digits++
		}
		for digits%10 == 0 {
			digits, scale = digits/10, scale-1
		}
	} else if below, above := low <= 4*s, 4*s+4 <= high; below != above {
		if above {
			digits++
		}
	} else if middle := 4*s + 2; v > middle || v == middle && s&1 != 0 {
		digits++
	}
	if scale <= 0 {
		for ; scale < 0; scale++ {
			digits *= 10
		}
		return append(appendDigits(dst, digits), '.', '0')
	}
	return appendScaled(dst, digits, scale)
}

// appendScaled appends digits 10^-scale, with scale above 0.
func appendScaled(dst []byte, digits uint64, scale int) []byte {
	var text digitsText
	start := putDigits(&text, digits)
	point := maxDigits - scale
	// What is copied has always the same length, which costs less than the right one; the rest is not kept.
	n := len(dst)
	dst = slices.Grow(dst, 2*maxDigits+2)
	out := dst[n : n+2*maxDigits+2]
	if point > start {
		whole := point - start
		*(*[maxDigits]byte)(out) = *(*[maxDigits]byte)(text[start:])
		out[whole] = '.'
		*(*[maxDigits]byte)(out[whole+1:]) = *(*[maxDigits]byte)(text[point:])
		return dst[:n+whole+1+scale]
	}
	out[0], out[1] = '0', '.'
	zeros := start - point
	copy(out[2:], "000000000000000000000000"[:zeros])
	*(*[maxDigits]byte)(out[2+zeros:]) = *(*[maxDigits]byte)(text[start:])
	return dst[:n+2+scale]
}

func appendDigits(dst []byte, n uint64) []byte {
	var text digitsText
	return append(dst, text[putDigits(&text, n):maxDigits]...)
}

// maxDigits is more than a number of appendDecimal has: 17 digits, and up to 22 behind the point.
const maxDigits = 24

// digitsText has digits that end at maxDigits, and as much room behind them.
type digitsText [2 * maxDigits]byte

// putDigits puts the digits of n at the end of text and returns where they start.
func putDigits(text *digitsText, n uint64) int {
	at := maxDigits
	for n >= 1e8 { // divisions of 32 bits are cheaper, and these do not wait for each other
		low := uint32(n % 1e8)
		n /= 1e8
		a, b := low/1e4, low%1e4
		at -= 8
		put2(text, at, a/100)
		put2(text, at+2, a%100)
		put2(text, at+4, b/100)
		put2(text, at+6, b%100)
	}
	m := uint32(n)
	for m >= 100 {
		at -= 2
		put2(text, at, m%100)
		m /= 100
	}
	if m >= 10 {
		at -= 2
		put2(text, at, m)
		return at
	}
	at--
	text[at] = byte('0' + m)
	return at
}

func put2(text *digitsText, at int, n uint32) {
	text[at], text[at+1] = pairs[2*n], pairs[2*n+1]
}

const pairs = "00010203040506070809" + "10111213141516171819" + "20212223242526272829" + "30313233343536373839" + "40414243444546474849" +
	"50515253545556575859" + "60616263646566676869" + "70717273747576777879" + "80818283848586878889" + "90919293949596979899"

// power is a power of ten, times a power of two so that the first of its 128 bits is set.
type power struct{ high, low uint64 }

// times is the product with n, less its last 128 bits; its last bit is set where they were not all 0 (rounding to odd).
func (g *power) times(n uint64) uint64 {
	x, _ := bits.Mul64(g.low, n)
	high, low := bits.Mul64(g.high, n)
	low, carry := bits.Add64(low, x, 0)
	high += carry
	if low > 1 {
		high |= 1
	}
	return high
}

// powers are 10^0 to 10^23.
var powers = func() (p [24]power) {
	n := power{low: 1}
	for i := range p {
		if n.high == 0 {
			p[i].high = n.low << bits.LeadingZeros64(n.low)
		} else {
			shift := bits.LeadingZeros64(n.high)
			p[i] = power{n.high<<shift | n.low>>(64-shift), n.low << shift}
		}
		carry, low := bits.Mul64(n.low, 10)
		n = power{n.high*10 + carry, low}
	}
	return p
}()
