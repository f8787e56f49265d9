package joinsql

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/dataset"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/offline/parquet"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var columns = []feature.Field{
	{Name: "at", Type: feature.TypeTimestamp}, {Name: "learned", Type: feature.TypeTimestamp},
	{Name: "id", Type: feature.TypeInt64}, {Name: "name", Type: feature.TypeString},
	{Name: "i", Type: feature.TypeInt64}, {Name: "f", Type: feature.TypeFloat64}, {Name: "s", Type: feature.TypeString},
	{Name: "b", Type: feature.TypeBool}, {Name: "t", Type: feature.TypeTimestamp}, {Name: "li", Type: feature.ListOf(feature.Int64)},
}

func project() *registry.Project {
	meta := func(n string) registry.Meta { return registry.Meta{Name: n} }
	p := &registry.Project{Name: "sqltest", Entities: []registry.Entity{
		{Meta: meta("ids"), JoinKeys: []feature.Field{columns[2]}}, {Meta: meta("names"), JoinKeys: []feature.Field{columns[3]}}}}
	src := registry.Source{Meta: meta("events"), Timestamp: "at", Created: "learned"}
	for _, c := range columns {
		src.Columns = append(src.Columns, registry.SourceColumn{Field: c})
	}
	p.Sources = []registry.Source{src}
	feats := func(cs ...int) (fs []registry.Feature) {
		for _, c := range cs {
			fs = append(fs, registry.Feature{Field: feature.Field{Name: "v_" + columns[c].Name, Type: columns[c].Type}, Expr: columns[c].Name})
		}
		return fs
	}
	p.Views = []registry.FeatureView{
		{Meta: meta("all"), Source: "events", TTL: 3, Features: feats(4)},
		{Meta: meta("both"), Source: "events", Entities: []string{"names", "ids"}, TTL: 7, Filter: "i != 3", Features: feats(4, 5, 6)},
		{Meta: meta("by_id"), Source: "events", Entities: []string{"ids"}, TTL: 4, Features: feats(4, 5, 6, 7, 8, 9)},
		{Meta: meta("empty"), Source: "nothing", Entities: []string{"ids"}, Features: feats(4, 6)},
	}
	none := src
	none.Name = "nothing"
	p.Sources = append(p.Sources, none)
	p.OnDemand = []registry.OnDemandView{{Meta: meta("demand"), Inputs: []string{"by_id"}, Features: []registry.Feature{{Field: feature.Field{Name: "twice", Type: feature.TypeInt64}, Expr: "by_id.v_i * 2"}}}}
	return p
}

func resolve(t *testing.T, p *registry.Project, refs ...string) *selection.Selection {
	t.Helper()
	return must(selection.Resolve(t.Context(), p, selection.Request{Features: refs, FullNames: true}, func(_ context.Context, view string, n int) (registry.ViewGeneration, error) {
		return registry.ViewGeneration{Project: p, View: p.View(view), Number: max(n, 1)}, nil
	}))
}

func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if v := os.Getenv("FOREBAY_SEED"); v != "" {
		seed = must(strconv.ParseUint(v, 10, 64))
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("run again with FOREBAY_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 1))
}

// fill appends random rows in several appends: few instants, so that ties of every kind happen.
func fill(t *testing.T, s offline.Store, p *registry.Project, rng *rand.Rand) {
	t.Helper()
	src := p.Source("events")
	for k := range 3 {
		file := offline.FileOrigin{Name: fmt.Sprintf("f%d", k), Hash: fmt.Sprintf("%064d", k)}
		a := must(s.Append(t.Context(), src, &file))
		b := feature.NewBatch(src.Fields(), 0)
		for row := range int64(120) {
			at, learned := rng.Int64N(20)-5, 100+rng.Int64N(3)
			orNull := func(v feature.Value) feature.Value {
				if rng.IntN(6) == 0 {
					return feature.Value{}
				}
				return v
			}
			for i, v := range []feature.Value{
				feature.OfTimestamp(at), feature.OfTimestamp(learned), feature.OfInt64(rng.Int64N(4)), feature.OfString([]string{"a", "b'\\", ""}[rng.IntN(3)]),
				orNull(feature.OfInt64(rng.Int64N(6))), orNull(feature.OfFloat64([]float64{0, math.Copysign(0, -1), math.NaN(), 1.5}[rng.IntN(4)])),
				orNull(feature.OfString(fmt.Sprint(k, row))), orNull(feature.OfBool(rng.IntN(2) == 0)), orNull(feature.OfTimestamp(row)),
				orNull(feature.OfList(feature.Int64, []feature.Value{feature.OfInt64(row)})),
			} {
				b.Columns[i].Append(v)
			}
			b.Rows++
			b.Versions = append(b.Versions, feature.Version{EventTime: at, IngestedAt: learned, Major: row, Minor: a.IngestedAt()})
		}
		if err := errors.Join(a.Write(t.Context(), b), a.Commit(t.Context(), offline.Origin{File: &file})); err != nil {
			t.Fatal(err)
		}
	}
}

var spineFields = []feature.Field{
	{Name: "label", Type: feature.TypeInt64}, {Name: "name", Type: feature.TypeString}, {Name: "ts", Type: feature.TypeTimestamp}, {Name: "id", Type: feature.TypeInt64},
}

// writeSpine writes random rows, nulls and duplicates among them, unsorted.
func writeSpine(t *testing.T, rng *rand.Rand) files.File {
	t.Helper()
	b := feature.NewBatch(spineFields, 0)
	for i := range 400 {
		for k, v := range []feature.Value{feature.OfInt64(int64(i)), feature.OfString([]string{"a", "b'\\", "", "c"}[rng.IntN(4)]), feature.OfTimestamp(rng.Int64N(30) - 8), feature.OfInt64(rng.Int64N(5))} {
			if k > 0 && rng.IntN(15) == 0 {
				v = feature.Value{}
			}
			b.Columns[k].Append(v)
		}
	}
	var fields []arrow.Field
	var cols []arrow.Array
	for i, f := range spineFields {
		fields, cols = append(fields, files.ArrowField(f)), append(cols, files.Array(b.Columns[i]))
	}
	path := filepath.Join(t.TempDir(), "spine.parquet")
	out := must(files.Create(path, arrow.NewSchema(fields, nil)))
	if err := errors.Join(out.Write(array.NewRecord(arrow.NewSchema(fields, nil), cols, 400)), out.Commit()); err != nil {
		t.Fatal(err)
	}
	return must(files.At(path))
}

// python finds an interpreter with DuckDB, or skips the test.
func python(t *testing.T) string {
	t.Helper()
	p := os.Getenv("FOREBAY_TEST_PYTHON")
	if p == "" {
		p, _ = filepath.Abs("../../.cache/venv/bin/python") // of an absolute folder there is no error
	}
	if err := exec.Command(p, "-c", "import pyarrow, duckdb").Run(); err != nil {
		const msg = "no Python with pyarrow and duckdb: run make test, or set FOREBAY_TEST_PYTHON"
		if os.Getenv("CI") == "true" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	return p
}

// query is what Write needs, of the tables as they are.
func query(t *testing.T, s *parquet.Store, p *registry.Project, sel *selection.Selection, known *int64) Query {
	t.Helper()
	q := Query{Selection: sel, Project: p.Name, Timestamp: "ts", KnownAt: known}
	for _, f := range spineFields {
		q.Columns = append(q.Columns, f.Name)
	}
	for _, r := range sel.Roles {
		q.Tables = append(q.Tables, must(s.TableFiles(t.Context(), r.View, "")))
	}
	return q
}

// TestDuckDB compares what DuckDB makes of the query with the dataset, for random rows with ties in
// event time, ingestion time and sequence, nulls and NaNs, composite keys and none, ttls that end
// on a row, and known_at.
func TestDuckDB(t *testing.T) { compare(t, DuckDB, python(t)) }

// TestSpark is the same with Spark, which takes a minute: `make test-spark` sets it up and runs it.
func TestSpark(t *testing.T) {
	dir := os.Getenv("FOREBAY_TEST_SPARK")
	if dir == "" {
		t.Skip("Spark is not asked for: make test-spark runs this")
	}
	t.Setenv("ICEBERG_JAR", filepath.Join(dir, "iceberg-spark-runtime-3.5_2.12-1.10.0.jar"))
	compare(t, Spark, filepath.Join(dir, "venv", "bin", "python"))
}

// TestClickHouse is the same with the real engine.
func TestClickHouse(t *testing.T) {
	py := python(t)
	t.Setenv("CLICKHOUSE_URL", "http://"+testenv.ClickHouse(t).Addr())
	compare(t, ClickHouse, py)
}

func compare(t *testing.T, d Dialect, py string) {
	rng, p := seeded(t), project()
	folder := t.TempDir()
	s := must(parquet.Open(t.Context(), parquet.Options{URL: "file://" + folder, Project: p.Name}))
	defer func() { _ = s.Close() }()
	fill(t, s, p, rng)
	spine := writeSpine(t, rng)
	sel := resolve(t, p, "by_id", "both", "all", "empty", "demand:twice")
	for _, known := range []*int64{nil, new(int64)} {
		if known != nil {
			*known = 101
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "d.parquet")
		// The dataset without what is computed on demand.
		plain := resolve(t, p, "by_id", "both", "all", "empty")
		b := &dataset.Builder{Store: s}
		if _, err := b.Build(t.Context(), dataset.Request{Selection: plain, Revision: &registry.Revision{Project: p}, Spine: spine, Timestamp: "ts", KnownAt: known}, file); err != nil {
			t.Fatal(err)
		}
		text, missing, err := Write(d, query(t, s, p, sel, known))
		if err != nil || len(missing) != 1 || missing[0] != "demand__twice" {
			t.Fatalf("missing %v, %v", missing, err)
		}
		sql := filepath.Join(dir, "q.sql")
		if err := os.WriteFile(sql, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(py, "testdata/compare.py", string(d), sql, spine.Path, file, folder)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s%s\n%s", err, out, stderr.String(), text)
		}
		t.Logf("%s", out)
	}
}

// TestDialects pins what is written for each engine.
func TestDialects(t *testing.T) {
	p := project()
	sel := resolve(t, p, "by_id:v_i", "both:v_s", "empty:v_i")
	known := int64(5)
	q := Query{Selection: sel, Project: p.Name, Timestamp: "ts", KnownAt: &known, Columns: []string{"label", "name", "ts", "id"}, Tables: []offline.TableFiles{
		{Folder: "/data/sqltest/views/by_id@1", Snapshot: "11", Files: []string{"/data/sqltest/views/by_id@1/data/a.parquet", "/data/it's.parquet"}},
		{Folder: "/data/sqltest/views/both@1", Snapshot: "12", Files: []string{"/data/b.parquet"}}, {}}}
	for _, d := range Dialects {
		got, _, err := Write(d, q)
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", string(d)+".sql")
		if os.Getenv("FOREBAY_UPDATE") != "" {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil { //nolint:gosec // a golden file
				t.Fatal(err)
			}
		}
		if want := string(must(os.ReadFile(golden))); got != want {
			t.Errorf("%s: wrote\n%s\nwant\n%s", d, got, want)
		}
	}
	if _, _, err := Write("mysql", q); !errors.Is(err, ErrDialect) {
		t.Errorf("got %v", err)
	}
}

// TestWindowsRefused: what has no SQL of the same value is refused by name.
func TestWindowsRefused(t *testing.T) {
	p := project()
	v := registry.FeatureView{Meta: registry.Meta{Name: "w"}, Source: "events", Entities: []string{"ids"},
		Inputs:       []registry.Feature{{Field: feature.Field{Name: "i", Type: feature.TypeInt64}, Expr: "i"}},
		Features:     []registry.Feature{{Field: feature.Field{Name: "i_last_1h", Type: feature.TypeInt64}}},
		Aggregations: []registry.Aggregation{{Function: "last", Column: "i", Windows: []registry.Window{"1h"}}}}
	p.Views = append(p.Views, v)
	sel := resolve(t, p, "w")
	_, _, err := Write(DuckDB, Query{Selection: sel, Project: "x", Timestamp: "ts", Tables: []offline.TableFiles{{Snapshot: "1"}}})
	if !errors.Is(err, ErrWindow) || !strings.Contains(err.Error(), "i_last_1h of w@1") {
		t.Errorf("got %v", err)
	}
}
