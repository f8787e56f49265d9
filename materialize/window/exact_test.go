package window

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"
)

func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	t.Logf("seed %d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// randomFloat is a finite float of any magnitude, often an extreme one.
func randomFloat(r *rand.Rand) float64 {
	switch r.IntN(6) {
	case 0:
		return []float64{0, math.Copysign(0, -1), 1, -1, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 0x1p-1022, 0.1}[r.IntN(9)]
	case 1:
		return float64(r.IntN(2000) - 1000)
	case 2:
		return r.NormFloat64() * 1e-3
	}
	for {
		if f := math.Float64frombits(r.Uint64()); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f
		}
	}
}

// exactSum is the oracle: a fixed-point number wide enough for any float64, or the square of one.
const oracleScale = 2200

func oracleAdd(sum *big.Int, f float64, square bool) {
	x := new(big.Rat).SetFloat64(f)
	if square {
		x.Mul(x, x)
	}
	x.Mul(x, new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), oracleScale)))
	if !x.IsInt() {
		panic("the oracle's scale is too small")
	}
	sum.Add(sum, x.Num())
}

func oracleRat(sum *big.Int) *big.Rat {
	return new(big.Rat).SetFrac(sum, new(big.Int).Lsh(big.NewInt(1), oracleScale))
}

func TestExactAgainstBigRationals(t *testing.T) {
	r := seeded(t)
	for round := range 400 {
		var e, sq Exact
		sum, sumSq := new(big.Int), new(big.Int)
		var fs []float64
		for range 1 + r.IntN(30) {
			f := randomFloat(r)
			if len(fs) > 0 && r.IntN(3) == 0 {
				f = -fs[r.IntN(len(fs))] // cancels
			}
			fs = append(fs, f)
			e.AddFloat(f)
			sq.AddSquareFloat(f)
			oracleAdd(sum, f, false)
			oracleAdd(sumSq, f, true)
		}
		want, _ := oracleRat(sum).Float64()
		if got := e.Float64(); got != want {
			t.Fatalf("round %d: sum of %v is %g, want %g", round, fs, got, want)
		}
		wantSq, _ := oracleRat(sumSq).Float64()
		if got := sq.Float64(); got != wantSq {
			t.Fatalf("round %d: sum of squares of %v is %g, want %g", round, fs, got, wantSq)
		}
		// The same values in another order and in two halves: the same bytes.
		r.Shuffle(len(fs), func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
		var a, b Exact
		cut := r.IntN(len(fs) + 1)
		for _, f := range fs[:cut] {
			a.AddFloat(f)
		}
		for _, f := range fs[cut:] {
			b.AddFloat(f)
		}
		a.Add(&b)
		if x, y := string(a.Append(nil)), string(e.Append(nil)); x != y {
			t.Fatalf("round %d: %v: %x in one order, %x in another", round, fs, x, y)
		}
		back, rest, err := DecodeExact(append(e.Append(nil), 7))
		if err != nil || len(rest) != 1 || back.Float64() != want {
			t.Fatalf("round %d: %v came back as %g, %d bytes left, %v", round, fs, back.Float64(), len(rest), err)
		}
		back.Sub(&e)
		if !back.IsZero() {
			t.Fatalf("round %d: %v minus itself is %g", round, fs, back.Float64())
		}
		n := int64(len(fs))
		q, _ := new(big.Rat).Quo(oracleRat(sum), new(big.Rat).SetInt64(n)).Float64()
		if got := quotient(&e, n); got != q {
			t.Fatalf("round %d: mean of %v is %g, want %g", round, fs, got, q)
		}
		v := new(big.Rat).Mul(oracleRat(sum), oracleRat(sum))
		v.Quo(v, new(big.Rat).SetInt64(n))
		v.Sub(oracleRat(sumSq), v).Quo(v, new(big.Rat).SetInt64(n))
		if want, _ := v.Float64(); variance(&e, &sq, n, n) != want {
			t.Fatalf("round %d: variance of %v is %g, want %g", round, fs, variance(&e, &sq, n, n), want)
		}
	}
}

func TestExactIntegers(t *testing.T) {
	r := seeded(t)
	edges := []int64{math.MinInt64, math.MaxInt64, 0, 1, -1, 1 << 32}
	for range 2000 {
		var e, sq Exact
		sum, sumSq := new(big.Int), new(big.Int)
		for range r.IntN(20) {
			i := edges[r.IntN(len(edges))]
			e.AddInt(i)
			sq.AddSquareInt(i)
			b := big.NewInt(i)
			sum.Add(sum, b)
			sumSq.Add(sumSq, b.Mul(b, b))
		}
		got, ok := e.Int64()
		if ok != sum.IsInt64() || ok && got != sum.Int64() {
			t.Fatalf("%d, %v; want %s", got, ok, sum)
		}
		if n, exp := sq.bigInt(); n.Lsh(n, uint(exp)).Cmp(sumSq) != 0 {
			t.Fatalf("squares: %s, want %s", n, sumSq)
		}
		back, _, err := DecodeExact(e.Append(nil))
		if b, ok2 := back.Int64(); err != nil || ok2 != ok || b != got {
			t.Fatalf("%s came back as %d, %v, %v", sum, b, ok2, err)
		}
	}
}

func FuzzDecodeExact(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{1, 0, 5, 9})
	f.Fuzz(func(t *testing.T, src []byte) {
		e, rest, err := DecodeExact(src)
		if err != nil {
			return
		}
		again, _, err := DecodeExact(e.Append(nil))
		if err != nil {
			t.Fatalf("%x: %v", src, err)
		}
		again.Sub(&e)
		if !again.IsZero() || len(rest) > len(src) {
			t.Fatalf("%x does not come back", src)
		}
	})
}

func BenchmarkExactAddFloat(b *testing.B) {
	var e Exact
	for i := range b.N {
		e.AddFloat(float64(i) * 0.1)
	}
}
