package joinsql

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// writeTable writes columns as a Parquet file.
func writeTable(t *testing.T, path string, cols []*feature.Column) {
	t.Helper()
	var fields []arrow.Field
	var arrs []arrow.Array
	for _, c := range cols {
		fields, arrs = append(fields, files.ArrowField(feature.Field{Name: c.Name, Type: c.Type})), append(arrs, files.Array(c))
	}
	schema := arrow.NewSchema(fields, nil)
	out := must(files.Create(path, schema))
	if err := errors.Join(out.Write(array.NewRecord(schema, arrs, int64(cols[0].Len))), out.Commit()); err != nil {
		t.Fatal(err)
	}
}

// TestWindowsInDuckDB compares windows as DuckDB computes them with the library that everything else uses.
func TestWindowsInDuckDB(t *testing.T) {
	py, rng, p := python(t), seeded(t), project()
	input := func(name, expr string, typ feature.Type) registry.Feature {
		return registry.Feature{Field: feature.Field{Name: name, Type: typ}, Expr: expr}
	}
	v := registry.FeatureView{Meta: registry.Meta{Name: "w"}, Source: "events", Entities: []string{"ids"},
		Inputs: []registry.Feature{input("i", "i", feature.TypeInt64), input("f", "f", feature.TypeFloat64), input("cond", "i > 2", feature.TypeBool)},
		Aggregations: []registry.Aggregation{
			{Function: "count", Windows: []registry.Window{"5m", "1h", "lifetime"}},
			{Function: "sum", Column: "i", Windows: []registry.Window{"5m", "1h"}},
			{Function: "mean", Column: "f", Windows: []registry.Window{"1h"}},
			{Function: "min", Column: "f", Windows: []registry.Window{"1h"}},
			{Function: "max", Column: "i", Windows: []registry.Window{"5m", "lifetime"}},
			{Function: "count", Column: "f", Where: "i > 2", Windows: []registry.Window{"1h"}},
			{Function: "mean", Column: "i", Where: "i > 2", Windows: []registry.Window{"5m"}},
		}}
	plan := must(window.ForView(&v))
	types := plan.Outputs()
	for k, a := range v.Aggregations {
		for _, w := range a.Windows {
			v.Features = append(v.Features, registry.Feature{Field: feature.Field{Name: a.Function + "_" + string(w) + "_" + string(rune('a'+k)), Type: types[len(v.Features)]}})
		}
	}
	p.Views = append(p.Views, v)

	// The derived table's file, as the store writes it: keys, versions, inputs.
	const span = 3 * 3600 * 1e6
	names := []feature.Field{{Name: "id", Type: feature.TypeInt64}, {Name: "event_timestamp", Type: feature.TypeTimestamp}, {Name: "_ingested_at", Type: feature.TypeTimestamp},
		{Name: "_sequence_major", Type: feature.TypeInt64}, {Name: "_sequence_minor", Type: feature.TypeInt64}, v.Inputs[0].Field, v.Inputs[1].Field, v.Inputs[2].Field}
	events := feature.NewBatch(names, 0)
	for i := range 600 {
		orNull := func(v feature.Value) feature.Value {
			if rng.IntN(5) == 0 {
				return feature.Value{}
			}
			return v
		}
		at := rng.Int64N(2*span) - span
		if rng.IntN(4) == 0 {
			at -= at % 60e6 // on a hop
		}
		f := feature.OfFloat64(rng.NormFloat64())
		if rng.IntN(10) == 0 {
			f = feature.OfFloat64(nan())
		}
		for k, val := range []feature.Value{feature.OfInt64(rng.Int64N(3)), feature.OfTimestamp(at), feature.OfTimestamp(rng.Int64N(10)), feature.OfInt64(int64(i)), feature.OfInt64(0),
			orNull(feature.OfInt64(rng.Int64N(1<<62) - 1<<61)), orNull(f), orNull(feature.OfBool(rng.IntN(2) == 0))} {
			events.Columns[k].Append(val)
		}
	}
	dir := t.TempDir()
	table := filepath.Join(dir, "w.parquet")
	writeTable(t, table, events.Columns)

	// The spine and what the windows hold at its instants, each by itself.
	known := int64(7)
	out := feature.NewBatch(append([]feature.Field{{Name: "ts", Type: feature.TypeTimestamp}, {Name: "id", Type: feature.TypeInt64}}, prefixed(v)...), 0)
	for i := range 150 {
		at, id := feature.OfTimestamp(rng.Int64N(2*span)-span), feature.OfInt64(rng.Int64N(4))
		if i%3 == 0 {
			at = feature.OfTimestamp(at.Int64() - at.Int64()%60e6)
		}
		if i == 7 {
			id = feature.Value{}
		}
		var s window.State
		for e := range 600 {
			if et := events.Columns[1].Value(e).Int64(); !id.IsNull() && id.Equal(events.Columns[0].Value(e)) && et <= at.Int64() && events.Columns[2].Value(e).Int64() <= known {
				plan.Add(&s, window.Row{Version: feature.Version{EventTime: et, Major: int64(e)}, Columns: events.Columns[5:], Index: e})
			}
		}
		var scratch window.Scratch
		values, _ := plan.Values(&s, at.Int64(), &scratch, nil)
		out.Columns[0].Append(at)
		out.Columns[1].Append(id)
		for k, val := range values {
			out.Columns[2+k].Append(val)
		}
	}
	want, spine := filepath.Join(dir, "want.parquet"), filepath.Join(dir, "spine.parquet")
	writeTable(t, want, out.Columns)
	writeTable(t, spine, out.Columns[:2])

	text, _, err := Write(DuckDB, Query{Selection: resolve(t, p, "w"), Project: "x", Timestamp: "ts", KnownAt: &known, Columns: []string{"ts", "id"},
		Tables: []offline.TableFiles{{Snapshot: "1", Files: []string{table}}}})
	if err != nil {
		t.Fatal(err)
	}
	sql := filepath.Join(dir, "q.sql")
	if err := os.WriteFile(sql, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"testdata/compare.py", "duckdb", sql, spine, want, dir}
	for _, f := range prefixed(v) {
		args = append(args, f.Name)
	}
	cmd := exec.Command(py, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	got, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s%s\n%s", err, got, stderr.String(), text)
	}
	t.Logf("%s", got)
}

func prefixed(v registry.FeatureView) (fs []feature.Field) {
	for _, f := range v.Features {
		fs = append(fs, feature.Field{Name: v.Name + "__" + f.Name, Type: f.Type})
	}
	return fs
}

func nan() float64 {
	zero := 0.0
	return zero / zero
}
