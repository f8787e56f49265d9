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
	for round := range 700 {
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
	for _, fn := range []Func{Count, Sum, Min, Max, FirstN, LastN} {
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
	s.Add(rowsOf(b, true), 0, n)
	r := &s.runs[0]
	// 60 hops of a minute, 24 of an hour, the endless one; three first values each.
	for what, have := range map[string]int{"points": len(r.points), "highs": len(r.highs), "lows": len(r.lows), "firsts": len(r.firsts), "lasts": len(r.lasts)} {
		if have > 4*roomy {
			t.Errorf("%d %s are kept of %d events", have, what, n)
		}
	}
	got, _ := s.Values(b.Versions[n-1].EventTime, nil)
	if got[0].Int64() != 4*60+4-1 && got[0].Int64() < 240 || got[2].Int64() != n {
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
