package clickhouse

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

const (
	benchRows  = 2_000_000
	benchUsers = 100_000
	benchSpan  = int64(90 * feature.Day)
	benchSpine = 200_000
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

// benchAppend appends rows of random users and times; with ties two rows of a user have one event time.
func benchAppend(tb testing.TB, s *Store, v registry.ViewGeneration, rows int, ties bool) {
	tb.Helper()
	src := v.Source()
	rng := rand.New(rand.NewPCG(1, uint64(rows)))
	a, err := s.Append(tb.Context(), src, &offline.FileOrigin{Name: "bench"})
	if err != nil {
		tb.Fatal(err)
	}
	b := feature.NewBatch(src.Fields(), 8192)
	for i := range rows {
		at, user := rng.Int64N(benchSpan)<<8|int64(i&255), rng.Uint64N(benchUsers) // different but by chance of 1 in 1e9
		at %= benchSpan
		if ties && i < 2 {
			at, user = 1, 1
		}
		b.Columns[0].AppendBits(uint64(at))
		b.Columns[1].AppendBits(user)
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
	if err := a.Commit(tb.Context(), offline.Origin{File: &offline.FileOrigin{Name: "bench"}}); err != nil {
		tb.Fatal(err)
	}
}

func spineOf(rows int) iter.Seq2[*feature.Batch, error] {
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

// BenchmarkJoin is the join beside hand-written SQL on the same table, in turn, both with the spine sent from
// here and the result read here. It reports the median of each, in milliseconds, and their ratio.
func BenchmarkJoin(b *testing.B) {
	for name, ties := range map[string]bool{"unique": false, "tied": true} {
		b.Run(name, func(b *testing.B) {
			v, s := benchView(), open(b, nil)
			benchAppend(b, s, v, benchRows, ties)
			if _, err := s.Refresh(b.Context(), v); err != nil {
				b.Fatal(err)
			}
			if r, err := s.refreshedAt(b.Context(), v, nil); err != nil || r.ties != ties {
				b.Fatalf("ties: %v, want %v (%v)", r.ties, ties, err)
			}
			if err := s.client.exec(b.Context(), "OPTIMIZE TABLE "+s.viewTable(v)+" FINAL"); err != nil { // no merges meanwhile
				b.Fatal(err)
			}
			var ours, theirs []float64
			for b.Loop() {
				ours = append(ours, milliseconds(func() { byStore(b, s, v) }))
				theirs = append(theirs, milliseconds(func() { byHand(b, s, v) }))
			}
			slices.Sort(ours)
			slices.Sort(theirs)
			o, t := ours[len(ours)/2], theirs[len(theirs)/2]
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(o, "store-ms")
			b.ReportMetric(t, "hand-ms")
			b.ReportMetric(o/t, "ratio")
		})
	}
}

func milliseconds(f func()) float64 {
	start := time.Now()
	f()
	return float64(time.Since(start).Microseconds()) / 1000
}

func byStore(b *testing.B, s *Store, v registry.ViewGeneration) {
	rows := 0
	req := offline.JoinRequest{Spine: spineOf(benchSpine), Timestamp: "event_timestamp", NoVersions: true, Roles: []offline.Role{
		{View: v, Keys: []string{"user_id"}, Features: []int{0, 1, 2, 3, 4, 5, 6, 7}, TTL: v.View.TTL}}}
	for j, err := range s.Join(b.Context(), req) {
		if err != nil {
			b.Fatal(err)
		}
		rows += j.Spine.Rows
	}
	if rows != benchSpine {
		b.Fatalf("%d rows of %d", rows, benchSpine)
	}
}

// byHand is the join as anyone writes it, with the spine in a table and the values read as clickhouse-go reads them.
// It leaves out known_at, the order of tied rows, and versions.
func byHand(b *testing.B, s *Store, v registry.ViewGeneration) {
	ctx := b.Context()
	spine := s.client.table(s.project + "/byhand")
	if err := s.client.exec(ctx, "CREATE TABLE "+spine+" (user_id Int64, t Int64) ENGINE = Memory"); err != nil {
		b.Fatal(err)
	}
	cs := []tableColumn{{name: "user_id", kind: "Int64"}, {name: "t", kind: "Int64"}}
	err := s.client.insert(ctx, spine, cs, "", func(batch driver.Batch) error {
		for part, err := range spineOf(benchSpine) {
			if err != nil {
				return err
			}
			for i, c := range part.Columns {
				if err := batch.Column(i).Append(c.Int64s()); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	var user, at int64
	var f [8]*float64
	dest := []any{&user, &at}
	for i := range f {
		dest = append(dest, &f[i])
	}
	rows, found := 0, 0
	err = s.client.each(ctx, "SELECT s.user_id, s.t, d.v_f0, d.v_f1, d.v_f2, d.v_f3, d.v_f4, d.v_f5, d.v_f6, d.v_f7 FROM "+spine+" AS s ASOF LEFT JOIN "+s.viewTable(v)+
		" AS d ON s.user_id = d.user_id AND s.t >= d.event_timestamp SETTINGS join_use_nulls = 1", dest, func() error {
		rows++
		if f[7] != nil {
			found++
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	if rows != benchSpine || found == 0 {
		b.Fatalf("%d rows, %d found", rows, found)
	}
	if err := s.client.exec(ctx, "DROP TABLE "+spine); err != nil {
		b.Fatal(err)
	}
}
