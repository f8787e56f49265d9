package parquet

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"

	"github.com/apache/iceberg-go/table"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// python finds an interpreter with PyIceberg, or skips the test.
func python(t *testing.T) string {
	t.Helper()
	p := os.Getenv("FOREBAY_TEST_PYTHON")
	if p == "" {
		p, _ = filepath.Abs("../../.cache/venv/bin/python") // of an absolute folder there is no error
	}
	if err := exec.Command(p, "-c", "import pyiceberg, pyarrow").Run(); err != nil {
		const msg = "no Python with pyiceberg: run make test, or set FOREBAY_TEST_PYTHON (python3 -m venv .cache/venv && .cache/venv/bin/pip install 'pyiceberg[pyarrow]')"
		if os.Getenv("CI") == "true" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	return p
}

// pythonRow is what read.py says of a row.
type pythonRow map[string]any

func readWithPython(t *testing.T, python string, args ...string) [][]pythonRow {
	t.Helper()
	cmd := exec.Command(python, append([]string{"testdata/read.py"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("read.py: %v\n%s", err, stderr.String())
	}
	var tables [][]pythonRow
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<28)
	for lines.Scan() {
		var doc struct{ Rows []pythonRow }
		if err := json.Unmarshal(lines.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, doc.Rows)
	}
	if len(tables) != len(args) {
		t.Fatalf("read.py printed %d tables of %d", len(tables), len(args))
	}
	return tables
}

// pythonValue is a value as read.py writes it.
func pythonValue(v feature.Value) any {
	float := func(f float64) any {
		if f != f {
			return "nan"
		}
		return fmt.Sprintf("%016x", math.Float64bits(f))
	}
	switch v.Kind() {
	case feature.Null:
		return nil
	case feature.Bool:
		return strconv.FormatBool(v.Bool())
	case feature.Float64:
		return float(v.Float64())
	case feature.String:
		return v.Str()
	case feature.Bytes:
		return hex.EncodeToString(v.Bytes())
	case feature.List:
		l := []any{}
		for _, e := range v.List() {
			l = append(l, pythonValue(e))
		}
		return l
	case feature.Embedding:
		l := []any{}
		for _, f := range v.Embedding() {
			l = append(l, float(float64(f)))
		}
		return l
	}
	return strconv.FormatInt(v.Int64(), 10)
}

// metadata is the newest metadata file of a table.
func metadata(t *testing.T, s *Store, ident table.Identifier) string {
	t.Helper()
	st, err := s.load(t.Context(), ident)
	if err != nil || st == nil {
		t.Fatalf("%v: %v, %v", ident, st, err)
	}
	return st.MetadataLocation()
}

// TestPyIceberg: another engine reads logs and derived tables, compacted ones too, with the right values,
// and its pruning by our statistics leaves nothing out.
func TestPyIceberg(t *testing.T) {
	py := python(t)
	types := []feature.Type{feature.TypeBool, feature.TypeInt64, feature.TypeFloat64, feature.TypeString, feature.TypeBytes, feature.TypeTimestamp,
		feature.ListOf(feature.Bool), feature.ListOf(feature.Int64), feature.ListOf(feature.Float64), feature.ListOf(feature.String), feature.ListOf(feature.Bytes), feature.ListOf(feature.Timestamp), feature.EmbeddingOf(3)}
	fields := []feature.Field{{Name: "at", Type: feature.TypeTimestamp}, {Name: "id", Type: feature.TypeInt64}, {Name: "name", Type: feature.TypeString}}
	p := &registry.Project{Name: "py", Entities: []registry.Entity{{Meta: registry.Meta{Name: "who"}, JoinKeys: []feature.Field{fields[1], fields[2]}}}}
	v := registry.FeatureView{Meta: registry.Meta{Name: "v"}, Source: "events", Entities: []string{"who"}, Filter: "id != 3"}
	for i, ty := range types {
		f := feature.Field{Name: fmt.Sprint("c", i), Type: ty}
		fields = append(fields, f)
		v.Features = append(v.Features, registry.Feature{Field: feature.Field{Name: "v" + f.Name, Type: ty}, Expr: f.Name})
	}
	v.Features = append(v.Features, registry.Feature{Field: feature.Field{Name: "share", Type: feature.TypeInt64}, Expr: "12 / id"})
	src := registry.Source{Meta: registry.Meta{Name: "events"}, Timestamp: "at"}
	for _, f := range fields {
		src.Columns = append(src.Columns, registry.SourceColumn{Field: f})
	}
	p.Sources, p.Views = []registry.Source{src}, []registry.FeatureView{v}
	gen := registry.ViewGeneration{Project: p, View: &p.Views[0], Number: 1}

	s := open(t, nil)
	rng := rand.New(rand.NewPCG(7, 8))
	wantLog, wantView := map[string]pythonRow{}, map[string]pythonRow{}
	instants := map[string]bool{}
	for f := range 10 { // more than a bucket may have files: the view is compacted
		var file *offline.FileOrigin
		if f%2 == 0 {
			file = &offline.FileOrigin{Name: fmt.Sprintf("file %d", f)}
		}
		a, err := s.Append(t.Context(), p.Source("events"), file)
		must(t, err)
		b := feature.NewBatch(fields, 0)
		for i := range 40 {
			ver := feature.Version{EventTime: rng.Int64N(2e12) - 1e12, IngestedAt: rng.Int64N(1e15), Major: int64(f), Minor: int64(i)}
			if file != nil {
				ver.Major, ver.Minor = int64(i), a.IngestedAt()
				instants[strconv.FormatInt(ver.Minor, 10)] = true
			}
			values := []feature.Value{feature.OfTimestamp(ver.EventTime), feature.OfInt64(rng.Int64N(6)), feature.OfString(fmt.Sprintf("é\x00%d", rng.IntN(3)))}
			for _, ty := range types {
				values = append(values, pyRandom(rng, ty))
			}
			for c, val := range values {
				b.Columns[c].Append(val)
			}
			b.Versions = append(b.Versions, ver)
			b.Rows++
			key := fmt.Sprint(ver.Major, " ", ver.Minor)
			row := pythonRow{colIngestedAt: strconv.FormatInt(ver.IngestedAt, 10), colPartition: nil, colOffset: nil, colFile: nil, colRow: nil, colAppendedAt: nil}
			if file != nil {
				row[colFile], row[colRow], row[colAppendedAt] = file.Name, strconv.FormatInt(ver.Major, 10), strconv.FormatInt(ver.Minor, 10)
			} else {
				row[colPartition], row[colOffset] = strconv.FormatInt(ver.Major, 10), strconv.FormatInt(ver.Minor, 10)
			}
			for c, fd := range fields {
				row[fd.Name] = pythonValue(values[c])
			}
			wantLog[key] = row
			id := values[1].Int64()
			if id == 3 {
				continue
			}
			row = pythonRow{colEventTime: strconv.FormatInt(ver.EventTime, 10), colIngestedAt: strconv.FormatInt(ver.IngestedAt, 10),
				colMajor: strconv.FormatInt(ver.Major, 10), colMinor: strconv.FormatInt(ver.Minor, 10), colInvalid: nil, "share": nil,
				"id": pythonValue(values[1]), "name": pythonValue(values[2])}
			if id != 0 {
				row["share"] = strconv.FormatInt(12/id, 10)
			} else {
				row[colInvalid] = "0020" // feature 13
			}
			for c := range types {
				row[fmt.Sprint("vc", c)] = pythonValue(values[3+c])
			}
			wantView[key] = row
		}
		must(t, a.Write(t.Context(), b))
		o := offline.Origin{File: file}
		if file == nil {
			o = offline.Origin{Topic: "t", Offsets: map[int32]offline.OffsetRange{int32(f): {To: 40}}}
		}
		must(t, a.Commit(t.Context(), o))
		_, err = s.Refresh(t.Context(), gen)
		must(t, err)
	}
	log, view := metadata(t, s, s.logIdent(p.Source("events"))), metadata(t, s, s.viewIdent(gen))
	// The second of each pair reads through a filter that prunes by bounds and partitions.
	got := readWithPython(t, py, log, log+"?id == 2 and at < '1970-01-02T00:00:00+00:00'", view, view+"?id == 2 and _bucket >= 0 and event_timestamp >= '1970-01-02T00:00:00+00:00'")
	const day = 86400e6
	some := func(all map[string]pythonRow, time string, before bool) map[string]pythonRow {
		m := map[string]pythonRow{}
		for k, r := range all {
			at, err := strconv.ParseInt(r[time].(string), 10, 64)
			must(t, err)
			if r["id"] == "2" && at < day == before {
				m[k] = r
			}
		}
		return m
	}
	logKey := func(r pythonRow) string {
		if r[colRow] != nil {
			return fmt.Sprint(r[colRow], " ", r[colAppendedAt])
		}
		return fmt.Sprint(r[colPartition], " ", r[colOffset])
	}
	viewKey := func(r pythonRow) string { return fmt.Sprint(r[colMajor], " ", r[colMinor]) }
	comparePython(t, "log", got[0], wantLog, logKey)
	comparePython(t, "log, filtered", got[1], some(wantLog, "at", true), logKey)
	for _, rows := range got[2:] {
		for _, r := range rows {
			if b, err := strconv.Atoi(r[colBucket].(string)); err != nil || b < 0 || b >= minBuckets {
				t.Fatalf("bucket %v", r[colBucket])
			}
			delete(r, colBucket)
		}
	}
	comparePython(t, "view", got[2], wantView, viewKey)
	comparePython(t, "view, filtered", got[3], some(wantView, colEventTime, false), viewKey)
}

func comparePython(t *testing.T, what string, got []pythonRow, want map[string]pythonRow, key func(pythonRow) string) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Errorf("%s: %d rows, want %d", what, len(got), len(want))
	}
	for _, r := range got {
		w, ok := want[key(r)]
		if !ok {
			t.Fatalf("%s: row %q is not one of ours", what, key(r))
		}
		for c := range r {
			if _, ok := w[c]; !ok {
				t.Fatalf("%s: a column %q too many", what, c)
			}
		}
		for c, v := range w {
			if !reflect.DeepEqual(r[c], v) {
				t.Fatalf("%s: row %q, column %s: %#v, want %#v", what, key(r), c, r[c], v)
			}
		}
	}
}

// pyRandom is a value of a type, or null.
func pyRandom(rng *rand.Rand, t feature.Type) feature.Value {
	if rng.IntN(5) == 0 {
		return feature.Value{}
	}
	return pyValue(rng, t)
}

func pyValue(rng *rand.Rand, t feature.Type) feature.Value {
	floats := []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(-1), 1e300, -2.5}
	switch t.Kind {
	case feature.Bool:
		return feature.OfBool(rng.IntN(2) == 0)
	case feature.Int64:
		return feature.OfInt64([]int64{0, -1, math.MinInt64, math.MaxInt64, 12}[rng.IntN(5)])
	case feature.Float64:
		return feature.OfFloat64(floats[rng.IntN(len(floats))])
	case feature.String:
		return feature.OfString([]string{"", "x", "日本語のかなり長いテキスト", "a\x00b", "\U0010ffff\U0010ffff\U0010ffff\U0010ffff\U0010ffff"}[rng.IntN(5)])
	case feature.Bytes:
		return feature.OfBytes([]byte{0, 255, byte(rng.IntN(256))}[:rng.IntN(4)])
	case feature.Timestamp:
		return feature.OfTimestamp([]int64{0, -1, feature.MinTimestamp, feature.MaxTimestamp}[rng.IntN(4)])
	case feature.List:
		vs := make([]feature.Value, rng.IntN(4))
		for i := range vs {
			vs[i] = pyValue(rng, feature.Type{Kind: t.Elem})
		}
		return feature.OfList(t.Elem, vs)
	}
	fs := make([]float32, t.Dim)
	for i := range fs {
		fs[i] = float32(floats[rng.IntN(4)])
	}
	return feature.OfEmbedding(fs)
}
