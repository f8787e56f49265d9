package files

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
)

// decodeLines decodes NDJSON, numbers as they are written.
func decodeLines(t *testing.T, b []byte) []map[string]any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var rows []map[string]any
	for {
		var row map[string]any
		err := dec.Decode(&row)
		if errors.Is(err, io.EOF) {
			return rows
		}
		if err != nil {
			t.Fatalf("%v in %.300s", err, b)
		}
		rows = append(rows, row)
	}
}

// same compares a value with one of types.json.
func same(got, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for k := range w {
			if !same(g[k], w[k]) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			if !same(g[i], w[i]) {
				return false
			}
		}
		return true
	case string:
		if f, ok := strings.CutPrefix(w, "float:"); ok {
			want, _ := strconv.ParseFloat(f, 64)
			if n, ok := got.(json.Number); ok {
				g, _ := n.Float64()
				return math.Float64bits(g) == math.Float64bits(want)
			}
			s, _ := got.(string)
			g, err := strconv.ParseFloat(s, 64)
			return err == nil && (g == want || (g != g && want != want))
		}
		if d, ok := strings.CutPrefix(w, "decimal:"); ok {
			n, _ := got.(json.Number)
			return n.String() == d
		}
		g, _ := got.(string)
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
			if at, err := time.Parse(layout, w); err == nil {
				gt, err := time.Parse(layout, g)
				return err == nil && gt.Equal(at)
			}
		}
		return g == w
	}
	return reflect.DeepEqual(got, want)
}

// spineText opens a file as a spine and writes it as NDJSON.
func spineText(t *testing.T, f File) ([]byte, *arrow.Schema) {
	t.Helper()
	s, err := OpenSpine(t.Context(), f, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var out bytes.Buffer
	w, err := NewWriter(&out, NDJSON, s.Schema())
	if err != nil {
		t.Fatal(err)
	}
	for rec, err := range s.Records(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), s.Schema()
}

func at(t *testing.T, path string) File {
	t.Helper()
	f, err := At(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var typeFiles = []string{
	"types_pyarrow.parquet", "types_pyarrow_plain_v2.parquet", "types_duckdb.parquet", "types_polars.parquet",
	"types_pyarrow.arrow", "types_pyarrow.arrows",
}

func TestReadsWhatOthersWrite(t *testing.T) {
	raw, err := os.ReadFile("testdata/types.json")
	if err != nil {
		t.Fatal(err)
	}
	want := decodeLines(t, raw)
	for _, name := range typeFiles {
		t.Run(name, func(t *testing.T) {
			text, _ := spineText(t, at(t, filepath.Join("testdata", name)))
			got := decodeLines(t, text)
			if len(got) != len(want) {
				t.Fatalf("%d rows, want %d", len(got), len(want))
			}
			for i := range want {
				for column := range want[i] {
					if !same(got[i][column], want[i][column]) {
						t.Errorf("row %d, %s: got %v, want %v", i, column, got[i][column], want[i][column])
					}
				}
			}
		})
	}
}

func TestPolarsStringViews(t *testing.T) {
	raw, err := os.ReadFile("testdata/types.json")
	if err != nil {
		t.Fatal(err)
	}
	want := decodeLines(t, raw)
	text, _ := spineText(t, at(t, "testdata/polars.arrow"))
	for i, row := range decodeLines(t, text) {
		for column := range row {
			if !same(row[column], want[i][column]) {
				t.Errorf("row %d, %s: got %v, want %v", i, column, row[column], want[i][column])
			}
		}
	}
}

func TestCategories(t *testing.T) {
	text, schema := spineText(t, at(t, "testdata/categories.arrow"))
	if want := `{"c":"a"}` + "\n" + `{"c":null}` + "\n" + `{"c":"b"}` + "\n" + `{"c":"a"}` + "\n"; string(text) != want || schema.Field(0).Type.ID() != arrow.STRING {
		t.Errorf("got %s of %s", text, schema)
	}
}

func TestRoundTrips(t *testing.T) {
	for _, from := range typeFiles {
		for _, ext := range []string{".parquet", ".arrow", ".arrows"} {
			t.Run(from+" to "+ext, func(t *testing.T) {
				text, schema := spineText(t, at(t, filepath.Join("testdata", from)))
				path := filepath.Join(t.TempDir(), "out"+ext)
				copySpine(t, at(t, filepath.Join("testdata", from)), path)
				again, schema2 := spineText(t, at(t, path))
				if !bytes.Equal(again, text) {
					t.Errorf("values changed\n got %s\nwant %s", again, text)
				}
				for i, f := range schema.Fields() {
					g := schema2.Field(i)
					if want := parquetOf(f.Type); f.Name != g.Name || (ext == ".parquet" && !arrow.TypeEqual(parquetOf(g.Type), want)) ||
						(ext != ".parquet" && !arrow.TypeEqual(g.Type, f.Type)) {
						t.Errorf("column %s: %s became %s", f.Name, f.Type, g.Type)
					}
				}
			})
		}
	}
}

// TestColumnsWithoutValues has columns of the type null: they pass through every format, and are read as any type.
func TestColumnsWithoutValues(t *testing.T) {
	const values = `{"id":1,"none":null,"nones":[]}` + "\n" + `{"id":2,"none":null,"nones":[null]}` + "\n"
	for _, from := range []string{"nulls.parquet", "nulls.arrow"} {
		for _, ext := range []string{".parquet", ".arrow", ".arrows", ".csv", ".ndjson"} {
			path := filepath.Join(t.TempDir(), "out"+ext)
			copySpine(t, at(t, filepath.Join("testdata", from)), path)
			wantText := values
			if ext == ".csv" {
				wantText = `{"id":"1","none":null,"nones":"[]"}` + "\n" + `{"id":"2","none":null,"nones":"[null]"}` + "\n"
			}
			if text, _ := spineText(t, at(t, path)); string(text) != wantText {
				t.Errorf("%s to %s: got\n%swant\n%s", from, ext, text, wantText)
			}
		}
		for _, typ := range []string{"bool", "int64", "float64", "string", "bytes", "timestamp", "list<string>", "embedding<2>"} {
			got := wantedText(t, at(t, filepath.Join("testdata", from)), []Want{want("id", "int64", "entity key"), want("none", typ, "request field")})
			if got != "1 null\n2 null" {
				t.Errorf("%s as %s: got %s", from, typ, got)
			}
		}
	}
}

// parquetOf is the type that a type has after a trip through Parquet.
func parquetOf(dt arrow.DataType) arrow.DataType {
	switch d := dt.(type) {
	case *arrow.LargeStringType:
		return arrow.BinaryTypes.String
	case *arrow.LargeBinaryType:
		return arrow.BinaryTypes.Binary
	case *arrow.StructType:
		var fs []arrow.Field
		for _, f := range d.Fields() {
			fs = append(fs, arrow.Field{Name: f.Name, Type: parquetOf(f.Type), Nullable: f.Nullable})
		}
		return arrow.StructOf(fs...)
	case arrow.ListLikeType:
		f := d.ElemField()
		return arrow.ListOfField(arrow.Field{Name: "element", Type: parquetOf(f.Type), Nullable: f.Nullable})
	}
	return dt
}

func copySpine(t *testing.T, f File, path string) {
	t.Helper()
	s, err := OpenSpine(t.Context(), f, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	out, err := Create(path, s.Schema())
	if err != nil {
		t.Fatal(err)
	}
	for rec, err := range s.Records(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Write(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Commit(); err != nil {
		t.Fatal(err)
	}
}
