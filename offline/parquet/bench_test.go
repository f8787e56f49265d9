package parquet

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

const (
	benchRows  = 2_000_000
	benchUsers = 100_000
	benchSpan  = int64(90 * feature.Day)
)

// benchView is a view of eight floats by user.
func benchView() registry.ViewGeneration {
	p := &registry.Project{Name: "bench"}
	cols := []registry.SourceColumn{{Field: feature.Field{Name: "at", Type: feature.TypeTimestamp}}, {Field: feature.Field{Name: "user_id", Type: feature.TypeInt64}}}
	v := registry.FeatureView{Meta: registry.Meta{Name: "users"}, Source: "events", Entities: []string{"user"}, TTL: 30 * feature.Day}
	for i := range 8 {
		f := feature.Field{Name: fmt.Sprint("f", i), Type: feature.TypeFloat64}
		cols = append(cols, registry.SourceColumn{Field: f})
		v.Features = append(v.Features, registry.Feature{Field: feature.Field{Name: "v_" + f.Name, Type: f.Type}, Expr: f.Name})
	}
	p.Sources = []registry.Source{{Meta: registry.Meta{Name: "events"}, Timestamp: "at", Columns: cols}}
	p.Entities = []registry.Entity{{Meta: registry.Meta{Name: "user"}, JoinKeys: []feature.Field{cols[1].Field}}}
	p.Views = []registry.FeatureView{v}
	return registry.ViewGeneration{Project: p, View: &p.Views[0], Number: 1}
}

// benchAppend appends rows of random users and times.
func benchAppend(tb testing.TB, s *Store, v registry.ViewGeneration, rows int) {
	tb.Helper()
	src := v.Source()
	rng := rand.New(rand.NewPCG(1, uint64(rows)))
	a, err := s.Append(tb.Context(), src, &offline.FileOrigin{Name: "bench"})
	if err != nil {
		tb.Fatal(err)
	}
	b := feature.NewBatch(src.Fields(), 8192)
	for i := range rows {
		at := rng.Int64N(benchSpan)
		b.Columns[0].AppendBits(uint64(at))
		b.Columns[1].AppendBits(rng.Uint64N(benchUsers))
		for _, c := range b.Columns[2:] {
			c.Append(feature.OfFloat64(rng.Float64()))
		}
		b.Versions = append(b.Versions, feature.Version{EventTime: at, IngestedAt: a.IngestedAt(), Major: int64(i), Minor: a.IngestedAt()})
		if b.Rows++; b.Rows == 8192 || i == rows-1 {
			if err := a.Write(tb.Context(), b); err != nil {
				tb.Fatal(err)
			}
			b.Reset()
		}
	}
	if err := a.Commit(tb.Context(), offline.Origin{File: &offline.FileOrigin{Name: "bench", Hash: "bench"}}); err != nil {
		tb.Fatal(err)
	}
}

func benchSpine(rows int) iter.Seq2[*feature.Batch, error] {
	return func(yield func(*feature.Batch, error) bool) {
		rng := rand.New(rand.NewPCG(2, 2))
		b := feature.NewBatch([]feature.Field{{Name: "user_id", Type: feature.TypeInt64}, {Name: "event_timestamp", Type: feature.TypeTimestamp}}, 8192)
		for i := range rows {
			b.Columns[0].AppendBits(rng.Uint64N(benchUsers))
			b.Columns[1].AppendBits(uint64(benchSpan/3 + rng.Int64N(benchSpan*2/3)))
			if b.Rows++; b.Rows == 8192 || i == rows-1 {
				if !yield(b, nil) {
					return
				}
				b.Reset()
			}
		}
	}
}

func rate(b *testing.B, rows int) {
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkAppend(b *testing.B) {
	v := benchView()
	for b.Loop() {
		benchAppend(b, open(b, nil), v, benchRows)
	}
	rate(b, benchRows)
}

func BenchmarkRefresh(b *testing.B) {
	v := benchView()
	s := open(b, nil)
	benchAppend(b, s, v, benchRows)
	for b.Loop() {
		v.Number++ // a table of its own
		if _, err := s.Refresh(b.Context(), v); err != nil {
			b.Fatal(err)
		}
	}
	rate(b, benchRows)
}

func BenchmarkScan(b *testing.B) {
	v := benchView()
	s := open(b, nil)
	benchAppend(b, s, v, benchRows)
	if _, err := s.Refresh(b.Context(), v); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for _, err := range s.Scan(b.Context(), v, offline.ScanOptions{NewestOnly: true}) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	rate(b, benchRows)
}

func BenchmarkJoin(b *testing.B) {
	v := benchView()
	s := open(b, nil)
	benchAppend(b, s, v, benchRows)
	if _, err := s.Refresh(b.Context(), v); err != nil {
		b.Fatal(err)
	}
	for _, spine := range []int{2_000, 200_000} {
		b.Run(fmt.Sprint(spine), func(b *testing.B) {
			for b.Loop() {
				rows := 0
				req := offline.JoinRequest{Spine: benchSpine(spine), Timestamp: "event_timestamp", Roles: []offline.Role{
					{View: v, Keys: []string{"user_id"}, Features: []int{0, 1, 2, 3, 4, 5, 6, 7}, TTL: v.View.TTL}}}
				for j, err := range s.Join(b.Context(), req) {
					if err != nil {
						b.Fatal(err)
					}
					rows += j.Spine.Rows
				}
				if rows != spine {
					b.Fatalf("%d rows of %d", rows, spine)
				}
			}
			rate(b, spine)
		})
	}
}
