package feature

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// referenceFloat is AppendFloatJSON by strconv alone.
func referenceFloat(dst []byte, f float64) []byte {
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if bytes.IndexByte(dst[start:], '.') < 0 {
		dst = append(dst, '.', '0')
	}
	return dst
}

// TestAppendDecimal compares with strconv: numbers of every exponent, around powers of two and ten, with
// few digits and with all of them.
func TestAppendDecimal(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	var got, want []byte
	n := 0
	check := func(f float64) {
		if a := math.Abs(f); math.IsNaN(f) || a < 1e-6 || a >= 1e16 {
			return
		}
		n++
		got, want = appendDecimal(got[:0], f), referenceFloat(want[:0], f)
		if !bytes.Equal(got, want) {
			t.Fatalf("%x: %s, want %s (seed %d)", f, got, want, seed)
		}
	}
	around := func(f float64) {
		for bits := math.Float64bits(f) - 50; bits <= math.Float64bits(f)+50; bits++ {
			check(math.Float64frombits(bits))
			check(-math.Float64frombits(bits))
		}
	}
	for e := -21; e <= 54; e++ {
		around(math.Ldexp(1, e))
		around(math.Ldexp(1.5, e))
	}
	for e := -6; e <= 16; e++ {
		p := math.Pow10(e)
		for m := 1; m < 1000; m++ {
			around(p * float64(m))
		}
	}
	around(math.Pow(2, 53))
	random := 3_000_000
	if testing.Short() {
		random = 200_000
	}
	for range random {
		exponent := uint64(1023 - 20 + r.IntN(75))
		check(math.Float64frombits(r.Uint64()&(1<<63|1<<52-1) | exponent<<52))
		check(float64(r.Int64N(1e17)) / math.Pow10(r.IntN(20)))
		check(float64(r.Int64N(1e6)) / math.Pow10(r.IntN(8)))
		check(float64(math.Float32frombits(r.Uint32())))
		check(r.Float64())
		check(r.NormFloat64() * 100)
	}
	t.Logf("%d numbers", n)
}

func BenchmarkAppendFloatJSON(b *testing.B) {
	var fs [1024]float64
	for i := range fs {
		fs[i] = rand.NormFloat64() * 100
	}
	var buf [64]byte
	for name, appendFloat := range map[string]func([]byte, float64) []byte{
		"strconv": referenceFloat,
		"ours":    func(dst []byte, f float64) []byte { return AppendFloatJSON(dst, f, 64) },
	} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				appendFloat(buf[:0], fs[i%len(fs)])
			}
		})
	}
}
