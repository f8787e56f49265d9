package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// makeSource makes a source of "name type" or "name type from" columns; the first is its timestamp.
func makeSource(t testing.TB, columns ...string) *registry.Source {
	t.Helper()
	src := &registry.Source{Meta: registry.Meta{Name: "events"}}
	for _, c := range columns {
		parts := strings.Fields(c)
		typ, err := feature.ParseType(parts[1])
		if err != nil {
			t.Fatal(err)
		}
		col := registry.SourceColumn{Field: feature.Field{Name: parts[0], Type: typ}}
		if len(parts) > 2 {
			col.From = parts[2]
		}
		src.Columns = append(src.Columns, col)
	}
	src.Timestamp = src.Columns[0].Name
	return src
}

func write(t testing.TB, name, content string) File {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := At(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// readSource renders good rows as "position: value, value" and bad ones as "position! column: reason".
func readSource(t testing.TB, f File, src *registry.Source) (good, bad []string) {
	t.Helper()
	s, err := OpenSource(f, src)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for rows, err := range s.Rows(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range rows.At {
			var vs []string
			for _, c := range rows.Batch.Columns {
				vs = append(vs, string(c.Value(i).AppendJSON(nil)))
			}
			good = append(good, fmt.Sprintf("%d: %s", at, strings.Join(vs, ", ")))
		}
		for _, b := range rows.Bad {
			if !json.Valid(b.JSON) {
				t.Errorf("the bad row's JSON is none: %s", b.JSON)
			}
			bad = append(bad, fmt.Sprintf("%d! %s: %s", b.Row, b.Field, b.Reason))
		}
	}
	return good, bad
}

func wantLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d lines, want %d\n got %s\nwant %s", what, len(got), len(want), strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		return
	}
	for i := range got {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%s:\n got %s\nwant %s", what, got[i], want[i])
		}
	}
}

func TestParquetSource(t *testing.T) {
	for _, tc := range []struct {
		file, column string
		want         []string // rows 0 to 2; row 3 is null
	}{
		{"types_pyarrow", "i8 int64", []string{"-128", "127", "0"}},
		{"types_pyarrow", "u32 int64", []string{"0", "4294967295", "0"}},
		{"types_pyarrow", "i64 int64", []string{"-9223372036854775808", "9223372036854775807", "9007199254740993"}},
		{"types_pyarrow", "f32 float64", []string{"0.0", "1.5", `"NaN"`}},
		{"types_pyarrow", "i32 float64", []string{"-2147483648.0", "2147483647.0", "-2147483648.0"}},
		{"types_pyarrow", "b bool", []string{"true", "false", "false"}},
		{"types_pyarrow", "s string", []string{`"SFO"`, `""`, `"naïve 😀"`}},
		{"types_pyarrow", "raw bytes", []string{`"AP8="`, `""`, `"AP8="`}},
		{"types_pyarrow", "fixed bytes", []string{`"YWJj"`, `"AAEC"`, `"YWJj"`}},
		{"types_pyarrow", "day timestamp", []string{`"2001-06-30T00:00:00Z"`, `"1969-12-31T00:00:00Z"`, `"0001-01-01T00:00:00Z"`}},
		{"types_pyarrow", "t_ms timestamp", []string{`"2001-06-30T23:51:00.123Z"`, `"1969-12-31T23:59:59.999Z"`, `"1700-01-01T00:00:00Z"`}},
		{"types_pyarrow", "t_us timestamp", []string{`"2001-06-30T23:51:00.123456Z"`, `"1969-12-31T23:59:59.999Z"`, `"0001-01-01T00:00:00Z"`}},
		{"types_pyarrow", "t_ns_utc timestamp", []string{`"2001-06-30T23:51:00.123Z"`, `"1969-12-31T23:59:59.999Z"`, `"1700-01-01T00:00:00Z"`}},
		{"types_pyarrow", "ls list<string>", []string{`["a",""]`, `["bc"]`, `["a",""]`}},
		{"types_pyarrow", "lf embedding<2>", []string{"[0.5,1.5]", "[2.5,3.5]", "[0.5,1.5]"}},
		{"types_pyarrow", "lf list<float64>", []string{"[0.5,1.5]", "[2.5,3.5]", "[0.5,1.5]"}},
		{"types_pyarrow", "late int64 st.late", []string{"1", "null", "3"}},
		{"types_pyarrow", "deep string st.more.deep", []string{`"x"`, "null", "null"}},
	} {
		for _, ext := range []string{".parquet", ".arrow", ".arrows"} {
			t.Run(tc.column+ext, func(t *testing.T) {
				src := makeSource(t, "at timestamp t_us_utc", tc.column)
				s, err := OpenSource(at(t, "testdata/"+tc.file+ext), src)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = s.Close() }()
				var got []string
				for rows, err := range s.Rows(t.Context()) {
					if err != nil {
						t.Fatal(err)
					}
					for i, at := range rows.At {
						if at < 3 {
							got = append(got, string(rows.Batch.Columns[1].Value(i).AppendJSON(nil)))
						}
					}
				}
				if strings.Join(got, " ") != strings.Join(tc.want, " ") {
					t.Errorf("got %v, want %v", got, tc.want)
				}
			})
		}
	}
}

func TestSchemaErrors(t *testing.T) {
	for _, tc := range []struct{ column, want string }{
		{"nope int64", `column "nope": it is not in the file; it has required, i8, i16`},
		{"x int64 st.nope", `column "st.nope": it is not in the file`},
		{"x int64 i64.nope", `column "i64.nope": it is not in the file`},
		{"i64 bool", `column "i64": it is int64 in the file, which cannot be read as bool`},
		{"f64 int64", `column "f64": it is float64 in the file, which cannot be read as int64; nothing is narrowed silently`},
		{"i64 string", `column "i64": it is int64 in the file, which cannot be read as string`},
		{"s timestamp", `column "s": it is utf8 in the file, which cannot be read as timestamp; cast it`},
		{"s int64", `column "s": it is utf8 in the file, which cannot be read as int64`},
		{"i64 timestamp", `column "i64": it is int64 in the file, which cannot be read as timestamp`},
		{"d9 float64", `decimals are no feature type`},
		{"clock timestamp", `cannot be read as timestamp`},
		{"st string", `cannot be read as string`},
		{"ll list<int64>", `cannot be read as int64`},
		{"li int64", `cannot be read as int64`},
		{"li embedding<3>", `cannot be read as embedding<3>; nothing is narrowed`},
	} {
		for _, ext := range []string{".parquet", ".arrow"} {
			s, err := OpenSource(at(t, "testdata/types_pyarrow"+ext), makeSource(t, "t_us timestamp", tc.column))
			var schema *SchemaError
			if !errors.As(err, &schema) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "types_pyarrow") {
				t.Errorf("%s%s: got %v\nwant %s", tc.column, ext, err, tc.want)
				if err == nil {
					_ = s.Close()
				}
			}
		}
	}
	_, err := OpenSource(at(t, "testdata/types_pyarrow.parquet"), makeSource(t, "t_us timestamp", "nope int64", "i64 bool"))
	if err == nil || !strings.Contains(err.Error(), "nope") || !strings.Contains(err.Error(), "i64") {
		t.Errorf("not all mistakes are told at once: %v", err)
	}
}

func TestBadRowsOfParquet(t *testing.T) {
	good, bad := readSource(t, at(t, "testdata/bad_rows.parquet"), makeSource(t, "t timestamp", "e embedding<2>", "u int64"))
	wantLines(t, "good", good, []string{`0: "2001-01-01T00:00:00Z", [1.0,2.0], 1`})
	wantLines(t, "bad", bad, []string{"1! e: an embedding of 1 numbers, want 2", "2! u: 18446744073709551615 is out of the range of int64"})

	good, bad = readSource(t, at(t, "testdata/types_pyarrow.parquet"), makeSource(t, "t_us timestamp", "li list<int64>"))
	wantLines(t, "bad", bad, []string{"2! li: a null in a list", "3! t_us: the timestamp is missing or null", "5! li: a null in a list"})
	wantLines(t, "good", good, []string{"0:", "1:", "4:", "6:"})

	_, bad = readSource(t, at(t, "testdata/types_pyarrow.parquet"), makeSource(t, "t_us timestamp", "x float64 i64"))
	wantLines(t, "bad", bad, []string{"1! i64: the integer is not exact", "2! i64: the integer is not exact", "3! t_us", "4! i64", "5! i64"})

	src := makeSource(t, "at timestamp t_us", "seen timestamp t_ms")
	src.Created = "seen"
	_, bad = readSource(t, at(t, "testdata/types_pyarrow.parquet"), src)
	wantLines(t, "bad", bad, []string{"3! t_us: the timestamp is missing or null"})
}

func TestInt96(t *testing.T) {
	good, bad := readSource(t, at(t, "testdata/int96.parquet"), makeSource(t, "t timestamp"))
	wantLines(t, "bad", bad, []string{"3! t"})
	wantLines(t, "good", good, []string{`0: "2001-06-30T23:51:00.123Z"`, `1: "1969-12-31T23:59:59.999Z"`, `2: "1700-01-01T00:00:00Z"`,
		`4: "2001-06-30T23:51:00.123Z"`, `5: "1969-12-31T23:59:59.999Z"`, `6: "1700-01-01T00:00:00Z"`})
}

// TestLegacyLists reads lists of two levels, and repeated fields without any.
func TestLegacyLists(t *testing.T) {
	two := &orderedGroup{}
	two.add("array", parquet.Repeated(parquet.Leaf(parquet.Int64Type)))
	root := &orderedGroup{}
	root.add("t", parquet.Optional(parquet.Timestamp(parquet.Microsecond)))
	root.add("two", parquet.Optional(legacyList{two}))
	root.add("bare", parquet.Repeated(parquet.Leaf(parquet.Int64Type)))
	path := filepath.Join(t.TempDir(), "legacy.parquet")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := parquet.NewWriter(out, parquet.NewSchema("s", root))
	i, null := parquet.Int64Value, parquet.NullValue
	rows := []parquet.Row{
		{i(0).Level(0, 1, 0), i(1).Level(0, 2, 1), i(2).Level(1, 2, 1), i(7).Level(0, 1, 2)},
		{i(1).Level(0, 1, 0), null().Level(0, 1, 1), null().Level(0, 0, 2)},
		{i(2).Level(0, 1, 0), null().Level(0, 0, 1), i(8).Level(0, 1, 2), i(9).Level(1, 1, 2)},
	}
	if _, err := w.WriteRows(rows); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
	good, _ := readSource(t, at(t, path), makeSource(t, "t timestamp", "two list<int64>", "bare list<int64>"))
	wantLines(t, "good", good, []string{
		`0: "1970-01-01T00:00:00Z", [1,2], [7]`, `1: "1970-01-01T00:00:00.000001Z", [], []`, `2: "1970-01-01T00:00:00.000002Z", null, [8,9]`})
}

// legacyList is a group annotated as LIST whatever is in it.
type legacyList struct{ *orderedGroup }

func (legacyList) Type() parquet.Type { return parquet.List(parquet.String()).Type() }

func TestCSVSource(t *testing.T) {
	src := makeSource(t, "t timestamp", "i int64", "f float64", "s string", "b bool", "raw bytes", "l list<int64>", "e embedding<2>", "late int64 payload.late")
	const header = "t,i,f,s,b,raw,l,e,payload.late,other\n"
	good, bad := readSource(t, write(t, "x.csv", "\xef\xbb\xbf"+header+strings.Join([]string{
		`2001-01-01T00:00:00Z,9007199254740993,1.5,x,true,AAE=,"[1,2]","[1,2.5]",7,o`,
		`2001-01-01,,,,,,,,,`,
		`2001-01-01,-5,NaN,"",FALSE,"","[]",,"",""`,
		`2001-01-01,"1",-inf,"a ""quoted"", comma` + "\r\n" + `and line",True,,,,,` + "\r",
		``,
		`2001-01-01,1.0,,,,,,,,`,
		`2001-01-01,,x,,,,,,,`,
		`2001-01-01,,0x10,,,,,,,`,
		`,1,,,,,,,,`,
		`yesterday,1,,,,,,,,`,
		`2001-01-01,1`,
		`2001-01-01,1,,,,,,,,,`,
		`2001-01-01,,,a"b,,,,,,`,
		`2001-01-01,,,"a"b,,,,,,`,
		`2001-01-01,,,` + "\xff" + `,,,,,,`,
		`2001-01-01,,,,yes,,,,,`,
		`2001-01-01,,,,,A,,,,`,
		`2001-01-01,,,,,,[null],,,`,
		`2001-01-01,,,,,,,[1],,`,
		`2001-01-01,9223372036854775808,,,,,,,,`,
		`2001-01-01,3,,last,,,,,,`,
		`2001-01-01,,,"never closed,,,,,,`,
		``,
	}, "\n")), src)
	wantLines(t, "good", good, []string{
		`0: "2001-01-01T00:00:00Z", 9007199254740993, 1.5, "x", true, "AAE=", [1,2], [1.0,2.5], 7`,
		`1: "2001-01-01T00:00:00Z", null, null, null, null, null, null, null, null`,
		`2: "2001-01-01T00:00:00Z", -5, "NaN", "", false, null, [], null, null`,
		`3: "2001-01-01T00:00:00Z", 1, "-Infinity", "a \"quoted\", comma\r\nand line", true`,
		`19: "2001-01-01T00:00:00Z", 3, null, "last"`,
	})
	wantLines(t, "bad", bad, []string{
		`4! i: want int64, got "1.0"`, `5! f: want float64, got "x"`, `6! f: want float64`, `7! t: the timestamp is missing or null`,
		`8! t: "yesterday" is not an instant`, `9! : 2 fields where the header has 10`, `10! : 11 fields where the header has 10`,
		`11! : not CSV: a quote within field 4`, `12! : not CSV: something follows the closing quote of field 4`, `13! s: the string is not valid UTF-8`,
		`14! b: want bool, got "yes"`, `15! raw: want bytes as padded base64`, `16! l: element 1 is null`, `17! e: want 2 numbers, got 1`,
		"18! i: \"9223372036854775808\" is out of the range", `20! : not CSV: field 4 has no closing quote`,
	})
}

func TestNDJSONSource(t *testing.T) {
	src := makeSource(t, "t timestamp", "i int64", "late int64 payload.late", "seen timestamp")
	src.Created = "seen"
	good, bad := readSource(t, write(t, "x.ndjson", "\xef\xbb\xbf"+strings.Join([]string{
		`{"t":"2001-01-01T00:00:00Z","i":9007199254740993,"payload":{"late":3},"seen":"2002-01-01"}`,
		``, "  \t", `{"t":"2001-01-01","seen":"2002-01-01"}` + "\r",
		`{"t":"2001-01-01"}`, `{"t":null,"seen":"2002-01-01"}`, `{"t":"2001-01-01","i":1.5,"seen":"2002-01-01"}`, `not JSON`, `[]`,
		`{"t":"2001-01-02","seen":"2002-01-01"}`, `{"t":"2001-01-02","seen":"20`,
	}, "\n")), src)
	wantLines(t, "good", good, []string{
		`0: "2001-01-01T00:00:00Z", 9007199254740993, 3, "2002-01-01T00:00:00Z"`, `1: "2001-01-01T00:00:00Z", null, null`, `7: "2001-01-02T00:00:00Z"`})
	wantLines(t, "bad", bad, []string{
		"2! seen: the instant at which the row became known", "3! t: the timestamp is missing", "4! i: want an int64", "5! : not a JSON object",
		"6! : want a JSON object, got an array", "8! : not a JSON object: it is cut off"})
}

func TestUnixTimestampsInText(t *testing.T) {
	src := makeSource(t, "t timestamp")
	src.TimestampFormat = "unix_ms"
	want := []string{`0: "1970-01-01T00:00:01.5Z"`, `1: "1970-01-01T00:00:00Z"`}
	good, _ := readSource(t, write(t, "x.csv", "t\n1500\n1970-01-01\n"), src)
	wantLines(t, "CSV", good, want)
	good, _ = readSource(t, write(t, "x.ndjson", `{"t":1500}`+"\n"+`{"t":0}`), src)
	wantLines(t, "NDJSON", good, want)
}

func TestFilesThatAreNone(t *testing.T) {
	src := makeSource(t, "t timestamp")
	for _, tc := range []struct{ name, content, want string }{
		{"x.parquet", "", "is empty (0 bytes)"}, {"x.csv", "", "is empty (0 bytes)"}, {"x.ndjson", "", "is empty (0 bytes)"}, {"x.arrow", "", "is empty (0 bytes)"},
		{"x.parquet", "t,i\n1,2\n", "is not a Parquet file"},
		{"x.parquet", "PAR1", "is cut off"},
		{"x.parquet", "PAR1 and then something", "is cut off"},
		{"x.parquet", "PAR1\xff\xff\xff\x7fPAR1", "x.parquet"},
		{"x.parquet", "PAREPARE12345PARE", "encrypted"},
		{"x.arrow", "ARROW1 or so", "x.arrow"},
		{"x.arrows", "nothing of the kind", "x.arrows"},
		{"x.csv", "\n\n", "it has no header line"},
		{"x.csv", "t,a,t\n", "there are two columns of this name"},
		{"x.csv", "\"t\n", "the header: not CSV"},
		{"x.csv", "a,b\n1,2\n", `column "t": it is not in the file; it has a, b`},
		{"x.csv", "PAR1\x00\xff\xfe", "is it a CSV file?"},
	} {
		s, err := OpenSource(write(t, tc.name, tc.content), src)
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.name) {
			t.Errorf("%s %q: got %v, want %s", tc.name, tc.content, err, tc.want)
		}
	}
	if _, err := OpenSource(at(t, "testdata/lz4.parquet"), src); err == nil || !strings.Contains(err.Error(), "LZ4_RAW") {
		t.Errorf("got %v", err)
	}
	if _, err := At("x.xlsx"); !errors.Is(err, ErrFormat) {
		t.Errorf("got %v", err)
	}
	if good, bad := readSource(t, write(t, "x.csv", "t\n"), src); len(good)+len(bad) > 0 {
		t.Errorf("rows of a file without any: %v %v", good, bad)
	}
}

// TestCutOff cuts real files off at every byte: there is an error, and never a panic or fewer rows.
func TestCutOff(t *testing.T) {
	for _, name := range []string{"types_pyarrow.parquet", "types_duckdb.parquet", "types_pyarrow.arrow", "types_pyarrow.arrows"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		src := makeSource(t, "t_us timestamp", "s string", "li list<int64>")
		path := filepath.Join(t.TempDir(), name)
		for n := 0; n < len(raw); n += 61 {
			if err := os.WriteFile(path, raw[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			rows, err := countRows(t.Context(), path, src)
			if err == nil && rows < 7 && filepath.Ext(name) != ".arrows" {
				t.Fatalf("%s cut off after %d of %d bytes: no error, and %d rows", name, n, len(raw), rows)
			}
		}
	}
}

// TestDamaged flips bits of real files: whatever comes of it, it is no panic.
func TestDamaged(t *testing.T) {
	step, flips := 101, []byte{0x55}
	if os.Getenv("FOREBAY_TEST_LONG") != "" { // every byte, in more ways: minutes
		step, flips = 1, []byte{0x01, 0x55, 0x80, 0xff}
	}
	for _, name := range []string{"types_pyarrow.parquet", "types_polars.parquet", "types_pyarrow.arrow", "types_pyarrow.arrows", "polars.arrow"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		src := makeSource(t, "t_us timestamp", "s string", "li list<int64>")
		path := filepath.Join(t.TempDir(), name)
		for n := 0; n < len(raw); n += step {
			for _, flip := range flips {
				b := append([]byte(nil), raw...)
				b[n] ^= flip
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
				_, _ = countRows(t.Context(), path, src)
				_, _ = rewrite(t, at(t, path), filepath.Join(t.TempDir(), "out.ndjson"))
			}
		}
	}
}

func countRows(ctx context.Context, path string, src *registry.Source) (n int, err error) {
	f, err := At(path)
	if err != nil {
		return 0, err
	}
	s, err := OpenSource(f, src)
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.Close() }()
	for rows, err := range s.Rows(ctx) {
		if err != nil {
			return n, err
		}
		n += rows.Batch.Rows + len(rows.Bad)
	}
	return n, nil
}
