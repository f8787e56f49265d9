package window

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/forebay/forebay/registry/feature"
)

// TestReaderEqualsValues: chosen features read from the bytes are those of the
// state, with one Merger for states of every size.
func TestReaderEqualsValues(t *testing.T) {
	r := seeded(t)
	for round := range 400 {
		aggs := randomAggregations(r)
		if len(aggs) == 0 {
			continue
		}
		p, err := Compile(aggs)
		if err != nil {
			t.Fatal(err)
		}
		outputs := r.Perm(len(p.outputs))[:1+r.IntN(len(p.outputs))]
		reader := p.Reader(outputs)
		var m Merger
		var scratch Scratch
		for range 4 {
			events := randomEvents(r, r.IntN(60))
			b := batchOf(events)
			s := &State{}
			for i := range events {
				p.Add(s, Row{Version: b.Versions[i], Columns: b.Columns, Index: i})
			}
			encoded := p.Append(nil, s)
			newest, any := s.Newest()
			for _, at := range []int64{newest - 1, newest, newest + 1, newest + minute, newest + r.Int64N(40*24*60*minute)} {
				want, wantFound := p.Values(s, at, &scratch, nil)
				got, gotNewest, found, err := reader.Values(encoded, at, &m, nil)
				if err != nil || found != wantFound || any && gotNewest != newest {
					t.Fatalf("round %d at %d: newest %d, found %v, %v; want %d, %v", round, at, gotNewest, found, err, newest, wantFound)
				}
				for i, o := range outputs {
					if !got[i].Equal(want[o]) || got[i].IsInvalid() != want[o].IsInvalid() {
						t.Fatalf("round %d at %d: output %d, %+v: %v, want %v", round, at, o, p.outputs[o], got[i], want[o])
					}
				}
			}
			for n := 2; n < len(encoded); n += 1 + len(encoded)/20 { // before are nothing, and a state that has seen nothing
				if _, _, _, err := reader.Values(encoded[:n], newest, &m, nil); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("round %d: cut off after %d of %d bytes: %v", round, n, len(encoded), err)
				}
			}
		}
	}
}

// TestReaderOfNothing: empty windows for who was never seen.
func TestReaderOfNothing(t *testing.T) {
	p, err := Compile([]Aggregation{
		{Func: Count, Input: -1, Where: -1, By: -1, Windows: []Window{{feature.Hour, feature.Minute}}},
		{Func: Mean, Input: 0, Type: feature.TypeInt64, Where: -1, By: -1, Windows: []Window{{feature.Hour, feature.Minute}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, src := range [][]byte{nil, p.Append(nil, &State{})} {
		values, _, found, err := p.Reader([]int{1, 0}).Values(src, 0, &Merger{}, nil)
		if err != nil || found || len(values) != 2 || !values[0].IsNull() || values[0].IsInvalid() || values[1].Int64() != 0 {
			t.Errorf("%x: %v, %v, %v", src, values, found, err)
		}
	}
}

// TestQuotient: long division rounds as rational arithmetic does.
func TestQuotient(t *testing.T) {
	r := seeded(t)
	for range 20_000 {
		var e Exact
		sum := new(big.Rat)
		for range 1 + r.IntN(4) {
			f := math.Ldexp(r.Float64()-0.5, r.IntN(200)-100)
			if r.IntN(10) == 0 {
				f = math.Ldexp(r.Float64()-0.5, r.IntN(2090)-1070)
			}
			e.AddFloat(f)
			sum.Add(sum, new(big.Rat).SetFloat64(f))
		}
		n := r.Int64N(int64(1)<<(1+r.IntN(62))) + 1
		want, _ := new(big.Rat).Quo(sum, new(big.Rat).SetInt64(n)).Float64()
		if got := quotient(&e, n); got != want {
			t.Fatalf("%v / %d: %v, want %v", sum, n, got, want)
		}
	}
}

func FuzzReader(f *testing.F) {
	w := []Window{{feature.Hour, feature.Minute}, {feature.Lifetime, 0}}
	var aggs []Aggregation
	for fn := Count; fn <= SumBy; fn++ {
		a := Aggregation{Func: fn, Input: 1, Type: feature.TypeFloat64, Where: -1, By: -1, N: 3, Windows: w}
		if fn >= CountBy {
			a.By, a.ByType = 2, feature.TypeString
		}
		aggs = append(aggs, a)
	}
	p, err := Compile(aggs)
	if err != nil {
		f.Fatal(err)
	}
	s := &State{}
	b := batchOf(randomEvents(rand.New(rand.NewPCG(1, 2)), 20))
	for i := range b.Rows {
		p.Add(s, Row{Version: b.Versions[i], Columns: b.Columns, Index: i})
	}
	f.Add(p.Append(nil, s))
	f.Add([]byte{stateVersion})
	few := p.Reader([]int{2, 9})
	all := p.Reader([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
	f.Fuzz(func(t *testing.T, src []byte) {
		for _, reader := range []*Reader{few, all} {
			if _, _, _, err := reader.Values(src, 0, &Merger{}, nil); err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
		}
	})
}

// BenchmarkLookup computes a view of four windows by (count, sum, mean, max) from
// the bytes of an entity with an event a minute for 30 days.
func BenchmarkLookup(b *testing.B) {
	windows := []Window{{feature.Hour, feature.Minute}, {24 * feature.Hour, feature.Hour}, {7 * feature.Day, feature.Hour}, {30 * feature.Day, feature.Day}}
	var aggs []Aggregation
	for _, fn := range []Func{Count, Sum, Mean, Max} {
		aggs = append(aggs, Aggregation{Func: fn, Input: 1, Type: feature.TypeFloat64, Where: -1, By: -1, Windows: windows})
	}
	p, err := Compile(aggs)
	if err != nil {
		b.Fatal(err)
	}
	for _, events := range []int{10, 30 * 24 * 60} {
		r := rand.New(rand.NewPCG(1, 2))
		batch := feature.NewBatch(inputs, 0)
		x := batch.Columns[1]
		s := &State{}
		for i := range events {
			x.Append(feature.OfFloat64(math.Round(r.Float64()*10000) / 100))
			p.Add(s, Row{Version: feature.Version{EventTime: 1_700_000_000_000_000 + int64(i)*minute}, Columns: batch.Columns, Index: i})
		}
		encoded := p.Append(nil, s)
		newest, _ := s.Newest()
		all := make([]int, len(p.outputs))
		for i := range all {
			all[i] = i
		}
		reader := p.Reader(all)
		b.Run(fmt.Sprintf("decode/events=%d", events), func(b *testing.B) {
			var scratch Scratch
			var dst []feature.Value
			b.ReportAllocs()
			b.ReportMetric(float64(len(encoded)), "bytes")
			for b.Loop() {
				s, err := p.Decode(encoded)
				if err != nil {
					b.Fatal(err)
				}
				dst, _ = p.Values(s, newest, &scratch, dst[:0])
			}
		})
		b.Run(fmt.Sprintf("read/events=%d", events), func(b *testing.B) {
			var m Merger
			var dst []feature.Value
			b.ReportAllocs()
			for b.Loop() {
				if dst, _, _, err = reader.Values(encoded, newest, &m, dst[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
