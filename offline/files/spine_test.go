package files

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/forebay/forebay/registry/feature"
)

func want(name, typ, use string) Want {
	t, err := feature.ParseType(typ)
	if err != nil {
		panic(err)
	}
	return Want{Field: feature.Field{Name: name, Type: t}, Use: use}
}

func schemaText(s *arrow.Schema) string {
	var parts []string
	for _, f := range s.Fields() {
		part := f.Name + " " + f.Type.String()
		if a := annotationOf(f); a != "" {
			part += " " + a
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

func wantedText(t *testing.T, f File, ws []Want) string {
	t.Helper()
	s, err := OpenSpine(t.Context(), f, ws)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var lines []string
	for b, err := range s.Wanted(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Rows {
			var vs []string
			for _, c := range b.Columns {
				vs = append(vs, string(c.Value(i).AppendJSON(nil)))
			}
			lines = append(lines, strings.Join(vs, " "))
		}
	}
	return strings.Join(lines, "\n")
}

func TestCSVSpine(t *testing.T) {
	const text = "\xef\xbb\xbfid,when,note,code\n007,2001-01-01 12:00,\"\",01\n,2001-01-01T12:00:00+02:00,,x\n-3,,\"a,\"\"b\"\"\",\n"
	ws := []Want{want("id", "int64", "entity key"), want("when", "timestamp", "instant")}
	f := write(t, "s.csv", text)
	if got, want := wantedText(t, f, ws), "7 \"2001-01-01T12:00:00Z\"\nnull \"2001-01-01T10:00:00Z\"\n-3 null"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	s, err := OpenSpine(t.Context(), f, ws)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := schemaText(s.Schema()), "id int64, when timestamp[us, tz=UTC], note utf8, code utf8"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	var out bytes.Buffer
	w, err := NewWriter(&out, CSV, s.Schema())
	if err != nil {
		t.Fatal(err)
	}
	for rec, err := range s.Records(t.Context()) {
		if err := errors.Join(err, w.Write(rec)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "id,when,note,code\n7,2001-01-01T12:00:00Z,\"\",01\n,2001-01-01T10:00:00Z,,x\n-3,,\"a,\"\"b\"\"\",\n"; got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestNDJSONSpine(t *testing.T) {
	const text = `{"id":1,"b":true,"f":1,"big":9007199254740993,"mix":1,"when":"2001-01-01","none":null}
{"f":1.5,"mix":"x","obj":{"a":[1, 2]},"s":"x","huge":18446744073709551615,"late":1}

{"id":null,"big":5,"mix":null,"b":null,"both":1e3}
{"both":9007199254740993}
`
	ws := []Want{want("id", "int64", "entity key"), want("when", "timestamp", "instant")}
	got, schema := spineTextWanting(t, write(t, "s.ndjson", text), ws)
	if got, want := schemaText(schema), "id int64, b bool, f float64, big int64, mix utf8 JSON, when timestamp[us, tz=UTC], none utf8, obj utf8 JSON, s utf8, huge utf8 JSON, late int64, both utf8 JSON"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	want := `{"id":1,"b":true,"f":1.0,"big":9007199254740993,"mix":1,"when":"2001-01-01T00:00:00Z","none":null,"obj":null,"s":null,"huge":null,"late":null,"both":null}
{"id":null,"b":null,"f":1.5,"big":null,"mix":"x","when":null,"none":null,"obj":{"a":[1, 2]},"s":"x","huge":18446744073709551615,"late":1,"both":null}
{"id":null,"b":null,"f":null,"big":5,"mix":null,"when":null,"none":null,"obj":null,"s":null,"huge":null,"late":null,"both":1e3}
{"id":null,"b":null,"f":null,"big":null,"mix":null,"when":null,"none":null,"obj":null,"s":null,"huge":null,"late":null,"both":9007199254740993}
`
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func spineTextWanting(t *testing.T, f File, ws []Want) ([]byte, *arrow.Schema) {
	t.Helper()
	s, err := OpenSpine(t.Context(), f, ws)
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
		if err := errors.Join(err, w.Write(rec)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), s.Schema()
}

func TestTypedSpine(t *testing.T) {
	for _, ext := range []string{".parquet", ".arrow", ".arrows"} {
		f := at(t, "testdata/types_pyarrow"+ext)
		got := wantedText(t, f, []Want{want("i32", "int64", "entity key"), want("day", "timestamp", "instant"), want("u8", "float64", "request field"), want("s", "string", "entity key")})
		if want := "-2147483648 \"2001-06-30T00:00:00Z\" 0.0 \"SFO\"\n2147483647 \"1969-12-31T00:00:00Z\" 255.0 \"\"\n"; !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s\nwant %s", ext, got, want)
		}
	}
}

// TestTextInstants takes instants as strings from typed files too, in a spine.
func TestTextInstants(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.parquet")
	copySpine(t, write(t, "s.csv", "when\n2001-01-01 10:00:00\n2001-01-01T10:00:00+01:00\n\n"), path)
	ws := []Want{want("when", "timestamp", "instant")}
	if got, want := wantedText(t, at(t, path), ws), "\"2001-01-01T10:00:00Z\"\n\"2001-01-01T09:00:00Z\""; got != want {
		t.Errorf("got %s", got)
	}
	if _, schema := spineTextWanting(t, at(t, path), ws); schemaText(schema) != "when utf8" {
		t.Errorf("the column itself became %s", schema)
	}
	copySpine(t, write(t, "s.csv", "when\n2001-01-01\nyesterday\n"), path)
	s, err := OpenSpine(t.Context(), at(t, path), ws)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range s.Wanted(t.Context()) {
		if err == nil || !strings.Contains(err.Error(), `row 1, column "when" (instant): "yesterday" is not an instant`) {
			t.Errorf("got %v", err)
		}
	}
	_ = s.Close()
}

func TestSpineErrors(t *testing.T) {
	for _, tc := range []struct{ name, content, want string }{
		{"s.csv", "a,b\n", "the spine lacks id (entity key, int64), when (instant, timestamp); it has a, b"},
		{"s.csv", "id,when,id\n", "there are two columns of this name"},
		{"s.csv", "id,when\n1,2001-01-01\nx,2001-01-01\n", `row 1, column "id": want int64, got "x"`},
		{"s.csv", "id,when\n1,2001-01-01\n1\n", "row 1: 1 fields where the header has 2"},
		{"s.csv", "id,when\n1,\"2001\n", "row 0: not CSV: field 2 has no closing quote"},
		{"s.ndjson", "{\"id\":1}\nx\n", "row 1: the line is not a JSON object"},
		{"s.ndjson", `{"id":1,"when":null}{}`, "row 0: something follows the JSON object"},
		{"s.ndjson", `{"id":1,"when":"x"}`, `row 0, column "when": "x" is not an instant`},
		{"s.ndjson", `{"id":1.5,"when":null}`, `row 0, column "id": want an int64, got the number 1.5`},
		{"s.ndjson", `{"id":1,"id":2}`, "duplicate"},
		{"s.parquet", "", "is empty (0 bytes)"},
	} {
		s, err := OpenSpine(t.Context(), write(t, tc.name, tc.content), []Want{want("id", "int64", "entity key"), want("when", "timestamp", "instant")})
		if err == nil {
			for _, e := range s.Wanted(t.Context()) {
				err = e
			}
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.name) {
			t.Errorf("%q: got %v\nwant %s", tc.content, err, tc.want)
		}
	}
	_, err := OpenSpine(t.Context(), at(t, "testdata/types_pyarrow.parquet"), []Want{want("s", "int64", "entity key"), want("f64", "timestamp", "instant")})
	var schema *SchemaError
	if !errors.As(err, &schema) || !strings.Contains(err.Error(), `column "s": it is utf8 in the file, which cannot be read as int64 (entity key)`) || !strings.Contains(err.Error(), `column "f64"`) {
		t.Errorf("got %v", err)
	}
}

func TestSpool(t *testing.T) {
	for name, format := range map[string]Format{"testdata/types_pyarrow.parquet": Parquet, "testdata/types_pyarrow.arrows": ArrowStream, "testdata/types_pyarrow.arrow": ArrowFile, "testdata/types.json": NDJSON} {
		in, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		f, remove, err := Spool(t.Context(), in, "stdin", Unknown, dir)
		if err != nil || f.Format != format || f.Name != "stdin" {
			t.Errorf("%s: got %+v, %v", name, f, err)
		}
		if text, _ := spineText(t, f); len(text) == 0 {
			t.Errorf("%s: nothing", name)
		}
		if err := errors.Join(remove(), in.Close()); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("left %v", left)
		}
	}
	if _, remove, err := Spool(t.Context(), strings.NewReader(""), "stdin", Unknown, t.TempDir()); err == nil || !strings.Contains(err.Error(), "stdin is empty") || remove() != nil {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, _, err := Spool(ctx, strings.NewReader("a,b\n"), "stdin", CSV, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestMediaTypes(t *testing.T) {
	for in, want := range map[string]Format{"text/csv; charset=utf-8": CSV, "application/vnd.apache.arrow.stream": ArrowStream, "application/x-ndjson": NDJSON,
		"application/vnd.apache.parquet": Parquet, "text/html": Unknown, "": Unknown} {
		if got := FormatOfMediaType(in); got != want {
			t.Errorf("%q is %s, want %s", in, got, want)
		}
	}
}

func TestOutput(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	dir := t.TempDir()
	path := filepath.Join(dir, "o.csv")
	names := func() string {
		var ns []string
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			ns = append(ns, e.Name())
		}
		return strings.Join(ns, " ")
	}
	o, err := Create(path, schema)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is half a file: %v", err)
	}
	if err := o.Abort(); err != nil || names() != "" {
		t.Errorf("%v, left %q", err, names())
	}
	if o, err = Create(path, schema); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(o.Commit(), o.Abort()); err != nil || names() != "o.csv" {
		t.Errorf("%v, there is %q", err, names())
	}
	if b, _ := os.ReadFile(path); string(b) != "x\n" {
		t.Errorf("got %q", b)
	}
	if _, err := Create(filepath.Join(dir, "no", "o.csv"), schema); err == nil || !strings.Contains(err.Error(), "o.csv") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{".csv", ".ndjson", ".parquet", ".arrows"} { // a disk that is full: no half file
		full := filepath.Join(dir, "full"+ext)
		for room := 0; room < 1200; room += 100 {
			o, err := Create(full, schema)
			if err != nil {
				t.Fatal(err)
			}
			disk := &shortDisk{room: room}
			o.buf.Reset(disk)
			b := array.NewInt64Builder(memory.DefaultAllocator)
			for i := range int64(1000) {
				b.Append(i * i * 12345)
			}
			err = o.Write(array.NewRecord(schema, []arrow.Array{b.NewArray()}, 1000))
			if err == nil {
				err = o.Commit()
			} else if aerr := o.Abort(); aerr != nil {
				t.Error(aerr)
			}
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "full"+ext) || names() != "" {
				t.Fatalf("%s, %d bytes: %v, left %q", ext, room, err, names())
			}
		}
	}
	union := arrow.NewSchema([]arrow.Field{{Name: "d", Type: &arrow.DurationType{}}}, nil)
	if _, err := Create(path, union); err == nil || !strings.Contains(err.Error(), `column "d"`) || names() != "" {
		t.Errorf("got %v, there is %q", err, names())
	}
}

// TestManyRows writes more rows than a run, a page or a row group has, with nulls and
// lists that cross their bounds, and reads them back.
func TestManyRows(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any seed
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // of a test
	var fields []feature.Field
	for _, typ := range []string{"bool", "int64", "float64", "string", "bytes", "timestamp", "list<int64>", "list<string>", "embedding<3>"} {
		ft, err := feature.ParseType(typ)
		if err != nil {
			t.Fatal(err)
		}
		fields = append(fields, feature.Field{Name: typ, Type: ft})
	}
	var arrowFields []arrow.Field
	for _, f := range fields {
		arrowFields = append(arrowFields, ArrowField(f))
	}
	schema := arrow.NewSchema(arrowFields, nil)
	all := feature.NewBatch(fields, 0)
	var outs []*Output
	dir := t.TempDir()
	for _, ext := range []string{".parquet", ".arrow", ".arrows", ".csv", ".ndjson"} {
		o, err := Create(filepath.Join(dir, "x"+ext), schema)
		if err != nil {
			t.Fatal(err)
		}
		outs = append(outs, o)
	}
	for all.Rows < 300_000 {
		b := feature.NewBatch(fields, 0)
		nulls := r.IntN(3)
		for range 1 + r.IntN(40_000) {
			for _, c := range b.Columns {
				if nulls > 0 && r.IntN(3*nulls) == 0 {
					c.AppendNull()
				} else {
					c.Append(randomValue(r, c.Type))
				}
			}
			b.Rows++
		}
		var cols []arrow.Array
		for i, c := range b.Columns {
			cols = append(cols, Array(c))
			for j := range b.Rows {
				all.Columns[i].AppendRow(c, j)
			}
		}
		all.Rows += b.Rows
		rec := array.NewRecord(schema, cols, int64(b.Rows))
		for _, o := range outs {
			if err := o.Write(rec); err != nil {
				t.Fatal(err)
			}
		}
	}
	var ws []Want
	for _, f := range fields {
		ws = append(ws, Want{Field: f})
	}
	for _, o := range outs {
		if err := o.Commit(); err != nil {
			t.Fatal(err)
		}
		s, err := OpenSpine(t.Context(), at(t, o.path), ws)
		if err != nil {
			t.Fatal(err)
		}
		row := 0
		for b, err := range s.Wanted(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			for i := range b.Rows {
				for j, c := range b.Columns {
					// CSV has no empty bytes: they are null.
					if got, want := c.Value(i), all.Columns[j].Value(row); !got.Equal(want) && (filepath.Ext(o.path) != ".csv" || !got.IsNull() || len(want.Bytes()) > 0) {
						t.Fatalf("%s: row %d, %s: got %s, want %s", o.path, row, c.Name, got, want)
					}
				}
				row++
			}
		}
		if row != all.Rows {
			t.Errorf("%s: %d rows, want %d", o.path, row, all.Rows)
		}
		_ = s.Close()
	}
}

func randomValue(r *rand.Rand, t feature.Type) feature.Value {
	switch t.Kind {
	case feature.Bool:
		return feature.OfBool(r.IntN(2) == 0)
	case feature.Int64:
		return feature.OfInt64(int64(r.Uint64())) //nolint:gosec // any bits
	case feature.Float64:
		return feature.OfFloat64([]float64{0, 1.5, r.NormFloat64(), math.Copysign(0, -1), 1e300}[r.IntN(5)])
	case feature.String:
		return feature.OfString([]string{"", "SFO", "a,\"b\"\n", strings.Repeat("é", r.IntN(20))}[r.IntN(4)])
	case feature.Bytes:
		return feature.OfBytes([]byte(fmt.Sprint(r.Uint64()))[:r.IntN(5)])
	case feature.Timestamp:
		return feature.OfTimestamp(feature.MinTimestamp + r.Int64N(feature.MaxTimestamp-feature.MinTimestamp))
	case feature.List:
		vs := make([]feature.Value, r.IntN(4))
		for i := range vs {
			vs[i] = randomValue(r, feature.Type{Kind: t.Elem})
		}
		return feature.OfList(t.Elem, vs)
	}
	fs := make([]float32, t.Dim)
	for i := range fs {
		fs[i] = r.Float32()
	}
	return feature.OfEmbedding(fs)
}

// FuzzCSV holds the scanner against encoding/csv, where that takes the text.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"a,b\n1,2\n", "\"a\"\"b\",\"c\nd\"\r\n,\n", "a\r\n\r\n\"\"\n", "a,\"b", "a\"b,c\n", "\"a\"b\n", "a\rb\n", "\"a\r\nb\"\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s := newCSVScanner(bytes.NewReader(in))
		var got [][]string
		bad := false
		for {
			err := s.next()
			if errors.Is(err, io.EOF) {
				break
			}
			var m malformed
			if errors.As(err, &m) {
				bad = true
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			var rec []string
			for i := range s.fields {
				rec = append(rec, string(s.field(i)))
			}
			got = append(got, rec)
		}
		if bytes.Contains(in, []byte("\r")) || bytes.HasPrefix(in, bom) {
			return // encoding/csv drops CRs within quotes and keeps the byte order mark
		}
		r := csv.NewReader(bytes.NewReader(in))
		r.FieldsPerRecord = -1
		want, err := r.ReadAll()
		if (err != nil) != bad {
			t.Fatalf("encoding/csv says %v, the scanner found a bad row: %v", err, bad)
		}
		if err == nil && fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

// FuzzSpines reads text as spines of both formats, and what was written of it again.
func FuzzSpines(f *testing.F) {
	f.Add([]byte("a,b\n1,\"x\"\n"), true)
	f.Add([]byte("{\"a\":1,\"b\":[1]}\n{\"a\":\"x\"}\n"), false)
	f.Add([]byte("{\"a\":1.5}\n{\"a\":2}\n{\"b\":true}\n"), false)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, in []byte, isCSV bool) {
		ext := ".ndjson"
		if isCSV {
			ext = ".csv"
		}
		path := filepath.Join(dir, "in"+ext)
		if err := os.WriteFile(path, in, 0o600); err != nil {
			t.Fatal(err)
		}
		format, _ := FormatOf(path)
		first, err := rewrite(t, File{Path: path, Name: path, Format: format}, filepath.Join(dir, "out"+ext))
		if err != nil {
			return
		}
		if isCSV {
			return // types are lost on the way
		}
		again, err := rewrite(t, File{Path: filepath.Join(dir, "out"+ext), Name: "again", Format: format}, filepath.Join(dir, "out2"+ext))
		if err != nil || !bytes.Equal(first, again) {
			t.Fatalf("%v: %q became %q", err, first, again)
		}
	})
}

func rewrite(t *testing.T, f File, to string) ([]byte, error) {
	s, err := OpenSpine(t.Context(), f, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	if len(s.Schema().Fields()) == 0 {
		return nil, errors.New("no columns")
	}
	o, err := Create(to, s.Schema())
	if err != nil {
		return nil, err
	}
	defer func() { _ = o.Abort() }()
	for rec, err := range s.Records(t.Context()) {
		if err != nil {
			return nil, err
		}
		if err := o.Write(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
	return os.ReadFile(to)
}

// shortDisk is a disk with so many bytes of room.
type shortDisk struct{ room int }

func (d *shortDisk) Write(b []byte) (int, error) {
	n := min(len(b), d.room)
	d.room -= n
	if n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}
