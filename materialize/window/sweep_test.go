package window

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/forebay/forebay/registry/feature"
)

// rowsOf are the events of a batch for a Sweep, with their versions or without.
func rowsOf(b *feature.Batch, versions bool) Rows {
	rows := Rows{Columns: b.Columns}
	for _, v := range b.Versions {
		rows.Times = append(rows.Times, v.EventTime)
		if versions {
			rows.Ingested, rows.Major, rows.Minor = append(rows.Ingested, v.IngestedAt), append(rows.Major, v.Major), append(rows.Minor, v.Minor)
		}
	}
	return rows
}

// TestSweepEqualsTheDefinition: chosen features at rising instants over several entities equal the oracle,
// and the state's own values; with lists so short that what is not needed is dropped all the time, too.
func TestSweepEqualsTheDefinition(t *testing.T) {
	r := seeded(t)
	var scratch Scratch
	for round := range 250 {
		aggs := randomAggregations(r)
		if len(aggs) == 0 {
			continue
		}
		p, err := Compile(aggs)
		if err != nil {
			t.Fatal(err)
		}
		outputs := r.Perm(len(p.outputs))[:1+r.IntN(len(p.outputs))]
		s := p.Sweep(outputs)
		if r.IntN(2) == 0 {
			for i := range s.runs {
				s.runs[i].roomy = 1 + r.IntN(8)
			}
		}
		for entity := range 3 {
			s.Reset()
			events := randomEvents(r, r.IntN([]int{5, 60, 400}[r.IntN(3)]))
			slices.SortFunc(events, func(a, b event) int { return a.version.Compare(b.version) })
			b := batchOf(events)
			rows := rowsOf(b, s.Ordered())
			for i := range rows.Columns { // what is not asked for is not looked at
				if !slices.Contains(s.Inputs(), i) {
					rows.Columns = slices.Clone(rows.Columns)
					rows.Columns[i] = nil
				}
			}
			state := &State{}
			at, in := int64(math.MinInt64), 0
			for k := range 12 {
				switch {
				case k == 0 && r.IntN(3) == 0: // before any tail
				case len(events) == 0:
					at = r.Int64N(1e15)
				case r.IntN(3) == 0:
					at = max(at, events[r.IntN(len(events))].version.EventTime)
				case at < events[0].version.EventTime:
					at = events[0].version.EventTime - r.Int64N(5*minute) + 2*minute
				default:
					at += []int64{0, 1, minute, 61 * minute, 36 * 60 * minute}[r.IntN(5)]
				}
				for in < len(events) && events[in].version.EventTime <= at {
					to := in + 1
					for to < len(events) && events[to].version.EventTime <= at && r.IntN(5) > 0 {
						to++
					}
					skip := in
					if r.IntN(2) == 0 { // events that need not be added
						for skip < to && events[skip].version.EventTime <= s.Before(at) {
							skip++
						}
					}
					s.Add(rows, skip, to)
					for ; in < to; in++ {
						p.Add(state, Row{Version: b.Versions[in], Columns: b.Columns, Index: in})
					}
				}
				got, found := s.Values(at, nil)
				where := fmt.Sprintf("round %d, entity %d, %d of %d events at %d", round, entity, in, len(events), at)
				if in == 0 {
					at = max(at, -1e17) // the definition's arithmetic does not reach further
				}
				want, wantFound := p.Values(state, at, &scratch, nil)
				if found != wantFound {
					t.Fatalf("%s: found %v, want %v", where, found, wantFound)
				}
				n := -1
				for _, a := range aggs {
					for _, w := range a.Windows {
						n++
						i := slices.Index(outputs, n)
						if i < 0 {
							continue
						}
						def := oracle(a, w, events[:in], at)
						for _, v := range []feature.Value{def, want[n]} {
							if !got[i].Equal(v) || got[i].IsInvalid() != v.IsInvalid() {
								t.Fatalf("%s: %+v over %s hop %s: %v (invalid %v), want %v (invalid %v)", where, a, w.Length, w.Hop, got[i], got[i].IsInvalid(), v, v.IsInvalid())
							}
						}
					}
				}
			}
		}
	}
}

// TestSweepMemory: what a Sweep keeps of an entity is bounded by the hops of its windows.
func TestSweepMemory(t *testing.T) {
	windows := []Window{{feature.Hour, feature.Minute}, {feature.Day, feature.Hour}, {feature.Lifetime, 0}}
	var aggs []Aggregation
	for _, fn := range []Func{Count, Sum, Min, Max, FirstN, LastN, DistinctCount, ApproxPercentile} {
		aggs = append(aggs, Aggregation{Func: fn, Input: 0, Type: feature.TypeInt64, Where: -1, By: -1, N: 3, Windows: windows})
	}
	p, err := Compile(aggs)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]int, len(p.outputs))
	for i := range all {
		all[i] = i
	}
	s := p.Sweep(all)
	b := feature.NewBatch(inputs, 0)
	const n = 100_000
	for i := range n { // a falling series: no value is beaten by a later one
		b.Columns[0].Append(feature.OfInt64(int64(-i)))
		b.Versions = append(b.Versions, feature.Version{EventTime: int64(i) * minute / 4, Minor: int64(i)})
	}
	rows := rowsOf(b, true)
	for from := 0; from < n; from += 100 {
		s.Add(rows, from, from+100)
		s.Values(rows.Times[from+99], nil)
	}
	r := &s.runs[0]
	// Of a day of values, four a minute, as many again wait to be dropped.
	for what, have := range map[string]int{"queue": len(r.ranks.queue), "hops": len(r.values.hops), "last": len(r.values.last)} {
		if have > 2*(24*60*4+60*4)+2*spare {
			t.Errorf("%d of the %s are kept of %d events", have, what, n)
		}
	}
	// 60 hops of a minute, 24 of an hour, the endless one; three first values each.
	for what, have := range map[string]int{"points": len(r.points), "highs": len(r.highs), "lows": len(r.lows), "firsts": len(r.firsts), "lasts": len(r.lasts)} {
		if have > 4*roomy {
			t.Errorf("%d %s are kept of %d events", have, what, n)
		}
	}
	got, _ := s.Values(b.Versions[n-1].EventTime, nil)
	if got[0].Int64() != 60*4+3 || got[2].Int64() != n { // from the full minute on
		t.Errorf("counts %v %v %v", got[0], got[1], got[2])
	}
}

// BenchmarkSweep: sixteen features at every 100th event of an entity with an event a minute.
func BenchmarkSweep(b *testing.B) {
	windows := []Window{{feature.Hour, feature.Minute}, {feature.Day, feature.Hour}, {7 * feature.Day, feature.Hour}, {30 * feature.Day, feature.Day}}
	var aggs []Aggregation
	for _, fn := range []Func{Count, Sum, Mean, Max} {
		aggs = append(aggs, Aggregation{Func: fn, Input: 1, Type: feature.TypeFloat64, Where: -1, By: -1, Windows: windows})
	}
	p, err := Compile(aggs)
	if err != nil {
		b.Fatal(err)
	}
	all := make([]int, len(p.outputs))
	for i := range all {
		all[i] = i
	}
	s := p.Sweep(all)
	r := rand.New(rand.NewPCG(1, 2))
	batch := feature.NewBatch(inputs, 0)
	const n = 100_000
	for i := range n {
		batch.Columns[1].Append(feature.OfFloat64(r.Float64()))
		batch.Versions = append(batch.Versions, feature.Version{EventTime: int64(i) * minute})
	}
	rows := rowsOf(batch, false)
	var dst []feature.Value
	b.ReportAllocs()
	for b.Loop() {
		s.Reset()
		for i := 0; i < n; i += 100 {
			s.Add(rows, i, i+100)
			dst, _ = s.Values(rows.Times[i+99], dst[:0])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/event")
}

// TestSweepPercentiles: percentiles over many values, some equal, some infinite, are those of all values in order.
func TestSweepPercentiles(t *testing.T) {
	r := seeded(t)
	windows := []Window{{feature.Hour, feature.Minute}, {feature.Day, feature.Hour}, {feature.Lifetime, 0}}
	var aggs []Aggregation
	for _, n := range []int{1, 50, 99} {
		aggs = append(aggs, Aggregation{Func: ApproxPercentile, Input: 1, Type: feature.TypeFloat64, Where: -1, By: -1, N: n, Windows: windows})
	}
	p, err := Compile(aggs)
	if err != nil {
		t.Fatal(err)
	}
	s := p.Sweep([]int{8, 1, 2, 3, 4, 5, 6, 7, 0})
	for range 3 {
		s.Reset()
		b := feature.NewBatch(inputs, 0)
		at := int64(0)
		for b.Rows < 20_000 {
			x := math.Round(r.NormFloat64() * 100)
			if r.IntN(500) == 0 {
				x = []float64{math.Inf(1), math.Inf(-1), math.NaN(), math.Copysign(0, -1)}[r.IntN(4)]
			}
			b.Columns[1].Append(feature.OfFloat64(x))
			b.Versions = append(b.Versions, feature.Version{EventTime: at})
			at += r.Int64N(minute / 4)
			if b.Rows++; r.IntN(3000) == 0 {
				at += int64(feature.Day)
			}
		}
		rows := rowsOf(b, true)
		for from := 0; from < b.Rows; {
			to := min(from+1+r.IntN(2000), b.Rows)
			s.Add(rows, from, to)
			at := rows.Times[to-1] + r.Int64N(minute)
			if to < b.Rows {
				at = min(at, rows.Times[to])
			}
			got, _ := s.Values(at, nil)
			got[0], got[8] = got[8], got[0]
			for i, w := range windows {
				var in []float64
				for k := range to {
					if x := b.Columns[1].Value(k).Float64(); rows.Times[k] > w.tail(at) && x == x {
						in = append(in, x)
					}
				}
				slices.SortFunc(in, func(a, b float64) int { return order(feature.OfFloat64(a), feature.OfFloat64(b)) })
				for k, n := range []int{1, 50, 99} {
					want := feature.Value{}
					if len(in) > 0 {
						want = feature.OfFloat64(in[max(1, int(math.Ceil(float64(n*len(in))/100)))-1])
					}
					if have := got[k*3+i]; !have.Equal(want) {
						t.Fatalf("%d%% over %s of %d values: %v, want %v", n, w.Length, len(in), have, want)
					}
				}
			}
			from = to
		}
	}
}

// TestSweepRepeats: sketches over many values give the same again, whatever instants were asked for on the way:
// a training set that is built again is the same.
func TestSweepRepeats(t *testing.T) {
	r := seeded(t)
	windows := []Window{{feature.Hour, feature.Minute}, {feature.Day, 7 * feature.Minute}, {feature.Day, feature.Hour}}
	var aggs []Aggregation
	for _, fn := range []Func{ApproxDistinctCount, ApproxPercentile, TopK} {
		aggs = append(aggs, Aggregation{Func: fn, Input: 0, Type: feature.TypeInt64, Where: -1, By: -1, N: 50, Windows: windows})
	}
	p, err := Compile(aggs)
	if err != nil {
		t.Fatal(err)
	}
	b := feature.NewBatch(inputs, 0)
	const n = 20_000
	for i := range n {
		b.Columns[0].Append(feature.OfInt64(r.Int64N(1 + r.Int64N(4000))))
		b.Versions = append(b.Versions, feature.Version{EventTime: int64(i) * 4 * minute / 60})
	}
	rows := rowsOf(b, true)
	asked := [][]int{{2000, n}, {n}, nil}
	for i := 50; i <= n; i += 50 {
		asked[2] = append(asked[2], i)
	}
	var want []feature.Value
	for _, ends := range asked {
		s := p.Sweep([]int{0, 1, 2, 3, 4, 5, 6, 7, 8})
		from := 0
		var got []feature.Value
		for _, end := range ends {
			at := rows.Times[end-1]
			for from < end && rows.Times[from] <= s.Before(at) {
				from++
			}
			s.Add(rows, from, end)
			from = end
			got, _ = s.Values(at, got[:0])
		}
		if want == nil {
			want = slices.Clone(got)
		}
		for i := range want {
			if !got[i].Equal(want[i]) {
				t.Errorf("asked at %d instants: output %d is %v, else %v", len(ends), i, got[i], want[i])
			}
		}
	}
}
