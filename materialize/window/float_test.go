package window

import (
	"encoding/hex"
	"math"
	"testing"
)

// TestFloat: every float64 comes back bit for bit, and short decimals are short.
func TestFloat(t *testing.T) {
	check := func(f float64) []byte {
		t.Helper()
		b := appendFloat(nil, f)
		d := decoder{src: b}
		if got := d.float(); math.Float64bits(got) != math.Float64bits(f) || d.err != nil || len(d.src) != 0 {
			t.Fatalf("%v (%x) as %x comes back as %v (%x), %v", f, math.Float64bits(f), b, got, math.Float64bits(got), d.err)
		}
		if len(b) > 9 {
			t.Fatalf("%v takes %d bytes", f, len(b))
		}
		for n := range b {
			if d := (decoder{src: b[:n]}); d.float() != 0 || d.err == nil {
				t.Fatalf("%x cut off after %d bytes is read", b, n)
			}
		}
		return b
	}
	for f, want := range map[float64]string{
		0: "00", 1: "10", -1: "08", 5: "50", 0.5: "51", 12: "c001", 12.34: "a29a01", -0.000001: "0e", 1e6: "80c8d007",
		math.Copysign(0, -1): "078000000000000000", math.Inf(1): "077ff0000000000000", math.Inf(-1): "07fff0000000000000",
		math.Pi: "07400921fb54442d18", math.MaxFloat64: "077fefffffffffffff", math.SmallestNonzeroFloat64: "070000000000000001",
		1<<45 - 1: "f0ffffffffff7f", 1 << 45: "0742c0000000000000",
	} {
		if got := hex.EncodeToString(check(f)); f != 0 && got != want {
			t.Errorf("%v is %s, want %s", f, got, want)
		}
	}
	check(math.NaN())
	r := seeded(t)
	for range 200_000 {
		check(math.Float64frombits(r.Uint64()))
		m := float64(r.Int64N(1<<uint(1+r.IntN(60))) - r.Int64N(1000))
		check(m / math.Pow10(r.IntN(9)))
		check(math.Nextafter(m/math.Pow10(r.IntN(7)), math.Inf(1)))
	}
}
