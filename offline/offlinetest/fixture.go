package offlinetest

import (
	"context"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// columns of the source of the tests: every type there is.
var columns = []feature.Field{
	{Name: "at", Type: feature.TypeTimestamp},
	{Name: "id", Type: feature.TypeInt64},
	{Name: "name", Type: feature.TypeString},
	{Name: "flag", Type: feature.TypeBool},
	{Name: "i", Type: feature.TypeInt64},
	{Name: "f", Type: feature.TypeFloat64},
	{Name: "s", Type: feature.TypeString},
	{Name: "y", Type: feature.TypeBytes},
	{Name: "t", Type: feature.TypeTimestamp},
	{Name: "lb", Type: feature.ListOf(feature.Bool)},
	{Name: "li", Type: feature.ListOf(feature.Int64)},
	{Name: "lf", Type: feature.ListOf(feature.Float64)},
	{Name: "ls", Type: feature.ListOf(feature.String)},
	{Name: "ly", Type: feature.ListOf(feature.Bytes)},
	{Name: "lt", Type: feature.ListOf(feature.Timestamp)},
	{Name: "e", Type: feature.EmbeddingOf(3)},
}

// The views of the tests, by the columns that make their keys.
var viewKeys = map[string][]string{
	"by_id":   {"id"},
	"by_name": {"name"},
	"by_flag": {"flag"},
	"by_time": {"t"},
	"by_data": {"y"},
	"by_both": {"name", "id"},
	"all":     {},
}

// project is a project of one source and views of it by every kind of key.
func project() *registry.Project {
	p := &registry.Project{Name: "offlinetest"}
	src := registry.Source{Meta: registry.Meta{Name: "events"}, Timestamp: "at", MaxAhead: registry.DefaultMaxAhead}
	for _, f := range columns {
		src.Columns = append(src.Columns, registry.SourceColumn{Field: f})
	}
	p.Sources = []registry.Source{src}
	for _, name := range []string{"all", "by_both", "by_data", "by_flag", "by_id", "by_name", "by_time"} {
		v := registry.FeatureView{Meta: registry.Meta{Name: name}, Source: "events"}
		for _, k := range viewKeys[name] {
			if p.Entity(k) == nil {
				p.Entities = append(p.Entities, registry.Entity{Meta: registry.Meta{Name: k}, JoinKeys: []feature.Field{columns[src.Column(k)]}})
			}
			v.Entities = append(v.Entities, k)
		}
		for _, f := range columns[3:] {
			v.Features = append(v.Features, registry.Feature{Field: feature.Field{Name: "v_" + f.Name, Type: f.Type}, Expr: f.Name})
		}
		p.Views = append(p.Views, v)
	}
	p.Views = append(p.Views, registry.FeatureView{Meta: registry.Meta{Name: "computed"}, Source: "events", Entities: []string{"id"}, Filter: "i != 7",
		Features: []registry.Feature{
			{Field: feature.Field{Name: "share", Type: feature.TypeInt64}, Expr: "100 / i"},
			{Field: feature.Field{Name: "double", Type: feature.TypeInt64}, Expr: "i * 2"},
		}})
	return p
}

func view(p *registry.Project, name string, generation int) registry.ViewGeneration {
	return registry.ViewGeneration{Project: p, View: p.View(name), Number: generation}
}

// row is a source row and its version.
type row struct {
	values  []feature.Value // in the order of columns
	version feature.Version
}

func (r row) get(name string) feature.Value {
	for i, f := range columns {
		if f.Name == name {
			return r.values[i]
		}
	}
	panic("no column " + name)
}

// seed is FOREBAY_SEED, or a new one; it is printed if the test fails.
func seed(t *testing.T) uint64 {
	s := rand.Uint64()
	if v := os.Getenv("FOREBAY_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s = n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("run again with FOREBAY_SEED=%d", s)
		}
	})
	return s
}

var (
	texts  = []string{"", "a", "b", "a\x00", "a\x00b", "\x00", "ab", "é", "日本", "a longer text, of more than sixteen bytes", "\U0010ffff"}
	floats = []float64{0, math.Copysign(0, -1), 1.5, -1.5, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64}
	ints   = []int64{0, 1, -1, 2, 7, math.MaxInt64, math.MinInt64}
)

// randomValue is a value of a type, with edges more likely than not; no nulls.
func randomValue(rng *rand.Rand, t feature.Type) feature.Value {
	switch t.Kind {
	case feature.Bool:
		return feature.OfBool(rng.IntN(2) == 1)
	case feature.Int64:
		return feature.OfInt64(ints[rng.IntN(len(ints))])
	case feature.Float64:
		return feature.OfFloat64(floats[rng.IntN(len(floats))])
	case feature.String:
		return feature.OfString(texts[rng.IntN(len(texts))])
	case feature.Bytes:
		return feature.OfBytes([]byte(texts[rng.IntN(len(texts))] + "\xff"))
	case feature.Timestamp:
		return feature.OfTimestamp([]int64{0, -1, 1, feature.MinTimestamp, feature.MaxTimestamp, -1e15}[rng.IntN(6)])
	case feature.List:
		vs := make([]feature.Value, rng.IntN(4))
		for i := range vs {
			vs[i] = randomValue(rng, feature.Type{Kind: t.Elem})
		}
		return feature.OfList(t.Elem, vs)
	}
	fs := make([]float32, t.Dim)
	for i := range fs {
		fs[i] = []float32{0, -0.5, float32(math.NaN()), float32(math.Inf(-1)), math.MaxFloat32}[rng.IntN(5)]
	}
	return feature.OfEmbedding(fs)
}

// randomRow is a row of random values with an event time in [0, span).
func randomRow(rng *rand.Rand, span int64) row {
	r := row{values: make([]feature.Value, len(columns))}
	for i, f := range columns {
		if i >= 3 && rng.IntN(4) == 0 {
			continue // null
		}
		r.values[i] = randomValue(rng, f.Type)
	}
	r.version.EventTime = rng.Int64N(span) - span/2
	r.values[0] = feature.OfTimestamp(r.version.EventTime)
	if rng.IntN(25) == 0 {
		r.values[1+rng.IntN(2)] = feature.Value{} // a null key: a bad row of some views
	}
	return r
}

func batchOf(rows []row) *feature.Batch {
	b := feature.NewBatch(columns, len(rows))
	for _, r := range rows {
		for i, v := range r.values {
			b.Columns[i].Append(v)
		}
		b.Versions = append(b.Versions, r.version)
		b.Rows++
	}
	return b
}

// appendFile appends rows as a file, in several batches, and fills in their versions. Every
// third row's ingestion time comes from a created column.
func appendFile(t *testing.T, s offline.Store, src *registry.Source, name, hash string, rows []row) {
	t.Helper()
	a, err := s.Append(t.Context(), src, &offline.FileOrigin{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		v := &rows[i].version
		v.IngestedAt, v.Major, v.Minor = a.IngestedAt(), int64(i), a.IngestedAt()
		if i%3 == 2 {
			v.IngestedAt = int64(i % 5)
		}
	}
	write(t, a, rows)
	if err := a.Commit(t.Context(), offline.Origin{File: &offline.FileOrigin{Name: name, Hash: hash}}); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, a offline.Appender, rows []row) {
	t.Helper()
	for from := 0; from < len(rows); from += 37 {
		b := batchOf(rows[from:min(from+37, len(rows))])
		if err := a.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		b.Reset() // it is ours again
	}
}

// appendStream appends rows as offsets [from, from+len(rows)) of a partition.
func appendStream(t *testing.T, s offline.Store, src *registry.Source, partition int32, from int64, rows []row) error {
	t.Helper()
	a, err := s.Append(t.Context(), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		v := &rows[i].version
		v.IngestedAt, v.Major, v.Minor = int64(i%4), int64(partition), from+int64(i)
	}
	write(t, a, rows)
	err = a.Commit(t.Context(), offline.Origin{Topic: "events", Offsets: map[int32]offline.OffsetRange{partition: {From: from, To: from + int64(len(rows))}}})
	if err != nil {
		if e := a.Abort(); e != nil {
			t.Fatal(e)
		}
	}
	return err
}

func refresh(t *testing.T, s offline.Store, v registry.ViewGeneration) offline.TableState {
	t.Helper()
	st, err := s.Refresh(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// viewRow is a row of a view: keys, then features.
type viewRow struct {
	values  []feature.Value
	version feature.Version
}

func (r viewRow) String() string { return fmt.Sprintf("%v %+v", r.values, r.version) }

func (r viewRow) equal(o viewRow) bool {
	if r.version != o.version || len(r.values) != len(o.values) {
		return false
	}
	for i := range r.values {
		if !r.values[i].Equal(o.values[i]) || r.values[i].IsInvalid() != o.values[i].IsInvalid() {
			return false
		}
	}
	return true
}

// viewRows is what a view of bare columns should hold: rows with whole keys.
func viewRows(v registry.ViewGeneration, rows []row) (want []viewRow, bad int) {
	keys := viewKeys[v.View.Name]
next:
	for _, r := range rows {
		w := viewRow{version: r.version}
		for _, k := range keys {
			if r.get(k).IsNull() {
				bad++
				continue next
			}
			w.values = append(w.values, r.get(k))
		}
		for _, f := range v.View.Features {
			w.values = append(w.values, r.get(f.Expr))
		}
		want = append(want, w)
	}
	return want, bad
}

// scan collects a view's rows and checks their shape and order.
func scan(t *testing.T, s offline.Store, v registry.ViewGeneration, o offline.ScanOptions) []viewRow {
	t.Helper()
	var got []viewRow
	var last []byte
	var lastVersion feature.Version
	restarts := 0
	for b, err := range s.Scan(t.Context(), v, o) {
		if err != nil {
			t.Fatal(err)
		}
		if want := v.Fields(); fmt.Sprint(b.Fields()) != fmt.Sprint(want) {
			t.Fatalf("scan of %s has columns %v, want %v", v, b.Fields(), want)
		}
		if len(b.Versions) != b.Rows {
			t.Fatalf("scan of %s: %d versions of %d rows", v, len(b.Versions), b.Rows)
		}
		for i := range b.Rows {
			r := viewRow{version: b.Versions[i]}
			for _, c := range b.Columns {
				r.values = append(r.values, c.Value(i).Clone())
			}
			key, ok := feature.AppendKeyRow(nil, b.Columns[:len(v.JoinKeys())], i)
			if !ok {
				t.Fatalf("scan of %s: a null key", v)
			}
			if len(got) > 0 && (string(key) < string(last) || string(key) == string(last) && r.version.Compare(lastVersion) <= 0) {
				restarts++ // another bucket begins, or the order is wrong
			}
			last, lastVersion = key, r.version
			got = append(got, r)
		}
	}
	// Within a bucket the order rises; there are far fewer buckets than rows in these tests.
	if restarts > 256 || restarts > 0 && len(v.JoinKeys()) == 0 {
		t.Fatalf("scan of %s: the order of (entity key, version) broke %d times in %d rows", v, restarts, len(got))
	}
	return got
}

func byVersion(rows []viewRow) map[feature.Version]viewRow {
	m := make(map[feature.Version]viewRow, len(rows))
	for _, r := range rows {
		m[r.version] = r
	}
	return m
}

// sameRows compares two sets of rows by their versions, which are all different.
func sameRows(t *testing.T, what string, got, want []viewRow) {
	t.Helper()
	g, w := byVersion(got), byVersion(want)
	if len(got) != len(want) || len(g) != len(got) {
		t.Fatalf("%s: %d rows (%d different), want %d", what, len(got), len(g), len(want))
	}
	for v, r := range w {
		if o, ok := g[v]; !ok || !o.equal(r) {
			t.Fatalf("%s: version %+v: got %v (there: %v), want %v", what, v, o, ok, r)
		}
	}
}

// batches yields rows of a batch in batches of a size.
func batches(b *feature.Batch, size int) iter.Seq2[*feature.Batch, error] {
	return func(yield func(*feature.Batch, error) bool) {
		part := feature.NewBatch(b.Fields(), size)
		for i := range b.Rows {
			part.AppendRow(b, i)
			if part.Rows == size || i == b.Rows-1 {
				if !yield(part, nil) {
					return
				}
				part.Reset()
			}
		}
	}
}

// joinedRow is one row of one role's result.
type joinedRow struct {
	values  []feature.Value
	status  feature.Status
	version feature.Version
}

// join runs a join and returns the spine rows as handed back, and the results by role and row.
func join(ctx context.Context, t *testing.T, s offline.Store, r offline.JoinRequest) (*feature.Batch, [][]joinedRow) {
	t.Helper()
	var spine *feature.Batch
	out := make([][]joinedRow, len(r.Roles))
	for j, err := range s.Join(ctx, r) {
		if err != nil {
			t.Fatal(err)
		}
		if spine == nil {
			spine = feature.NewBatch(j.Spine.Fields(), 0)
		}
		for i := range j.Spine.Rows {
			spine.AppendRow(j.Spine, i)
		}
		if len(j.Roles) != len(r.Roles) {
			t.Fatalf("%d roles, want %d", len(j.Roles), len(r.Roles))
		}
		for k, role := range j.Roles {
			if len(role.Found) != j.Spine.Rows || len(role.Versions) != j.Spine.Rows && (!r.NoVersions || len(role.Versions) > 0) || len(role.Features) != len(r.Roles[k].Features) {
				t.Fatalf("role %d: %d statuses, %d versions, %d features for %d rows", k, len(role.Found), len(role.Versions), len(role.Features), j.Spine.Rows)
			}
			for i := range j.Spine.Rows {
				row := joinedRow{status: role.Found[i]}
				if !r.NoVersions {
					row.version = role.Versions[i]
				}
				for _, c := range role.Features {
					if c.Len != j.Spine.Rows {
						t.Fatalf("role %d: feature %s has %d rows of %d", k, c.Name, c.Len, j.Spine.Rows)
					}
					row.values = append(row.values, c.Value(i).Clone())
				}
				out[k] = append(out[k], row)
			}
		}
	}
	return spine, out
}
