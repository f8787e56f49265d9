package feature

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// seed prints the seed of a property test, so that a failure can be repeated.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	t.Logf("seed %d", n)
	return rand.New(rand.NewPCG(n, 0))
}

func randomText(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(5) {
		b.WriteByte([]byte{0, 1, 'a', 'b', 0xff}[r.IntN(5)])
	}
	return b.String()
}

func randomKeyValue(r *rand.Rand, k Kind) Value {
	ints := []int64{math.MinInt64, -1, 0, 1, 42, math.MaxInt64}
	switch k {
	case Bool:
		return OfBool(r.IntN(2) == 0)
	case Int64:
		return OfInt64(ints[r.IntN(len(ints))])
	case Timestamp:
		return OfTimestamp(ints[r.IntN(len(ints))])
	case String:
		return OfString(randomText(r))
	}
	return OfBytes([]byte(randomText(r)))
}

// compareValues is the order of two key values of one kind, told without the encoding.
func compareValues(a, b Value) int {
	switch a.Kind() {
	case String, Bytes:
		return cmp.Compare(a.Str(), b.Str())
	}
	return cmp.Compare(a.Int64(), b.Int64())
}

func TestKeyKeepsValuesAndTheirOrder(t *testing.T) {
	r := seed(t)
	kinds := []Kind{Bool, Int64, Timestamp, String, Bytes}
	for range 20_000 {
		types := make([]Type, 1+r.IntN(3))
		for i := range types {
			types[i] = Type{Kind: kinds[r.IntN(len(kinds))]}
		}
		make1 := func() ([]Value, []byte) {
			var key []byte
			vs := make([]Value, len(types))
			for i, typ := range types {
				vs[i] = randomKeyValue(r, typ.Kind)
				key = AppendKey(key, vs[i], i == len(types)-1)
			}
			return vs, key
		}
		a, ka := make1()
		b, kb := make1()
		want := 0
		for i := range a {
			if want = compareValues(a[i], b[i]); want != 0 {
				break
			}
		}
		if got := bytes.Compare(ka, kb); got != want {
			t.Fatalf("types %v: %v and %v compare %d, their keys %x and %x compare %d", types, a, b, want, ka, kb, got)
		}
		back, err := DecodeKey(ka, types)
		if err != nil {
			t.Fatalf("decode %x as %v: %v", ka, types, err)
		}
		for i := range a {
			if !a[i].Equal(back[i]) {
				t.Fatalf("types %v: %v came back as %v", types, a, back)
			}
		}
	}
}

// The bytes are persisted: these never change.
func TestKeyGolden(t *testing.T) {
	for _, c := range []struct {
		values []Value
		hex    string
	}{
		{[]Value{OfString("SFO")}, "53464f"},
		{[]Value{OfString("SFO"), OfString("JFK")}, "53464f00014a464b"},
		{[]Value{OfString("a\x00b"), OfInt64(1)}, "6100ff6200018000000000000001"},
		{[]Value{OfInt64(-1)}, "7fffffffffffffff"},
		{[]Value{OfBool(true), OfTimestamp(0)}, "018000000000000000"},
		{nil, ""},
	} {
		var key []byte
		for i, v := range c.values {
			key = AppendKey(key, v, i == len(c.values)-1)
		}
		if got := hex.EncodeToString(key); got != c.hex {
			t.Errorf("%v: %s, want %s", c.values, got, c.hex)
		}
	}
	for key, want := range map[string]uint64{"": 0xefd01f60ba992926, "SFO": 0x7cdc24b70075770e} {
		if got := HashKey([]byte(key)); got != want {
			t.Errorf("HashKey(%q) = %#x, want %#x", key, got, want)
		}
	}
}

func FuzzDecodeKey(f *testing.F) {
	f.Add([]byte("SFO\x00\x01JFK"), uint8(4), uint8(4))
	f.Add([]byte{0x80, 0, 0, 0, 0, 0, 0, 1, 'x'}, uint8(2), uint8(5))
	f.Fuzz(func(t *testing.T, key []byte, a, b uint8) {
		types := []Type{{Kind: Kind(a % 9)}, {Kind: Kind(b % 9)}}
		vs, err := DecodeKey(key, types)
		if err != nil {
			return
		}
		again := AppendKey(AppendKey(nil, vs[0], false), vs[1], true)
		if !bytes.Equal(key, again) {
			t.Fatalf("%x decodes to %v, which encodes to %x", key, vs, again)
		}
	})
}
