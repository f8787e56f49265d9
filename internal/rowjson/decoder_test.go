package rowjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

func column(name, typ, from string) registry.SourceColumn {
	t, err := feature.ParseType(typ)
	if err != nil {
		panic(err)
	}
	return registry.SourceColumn{Field: feature.Field{Name: name, Type: t}, From: from}
}

func source(format string) *registry.Source {
	return &registry.Source{
		Timestamp: "t", TimestampFormat: format,
		Columns: []registry.SourceColumn{
			column("t", "timestamp", ""), column("i", "int64", ""), column("f", "float64", ""), column("s", "string", ""),
			column("b", "bool", ""), column("raw", "bytes", ""), column("late", "int64", "payload.late"),
			column("deep", "string", "payload.more.deep"), column("l", "list<int64>", ""), column("ls", "list<string>", ""),
			column("e", "embedding<2>", ""),
		},
	}
}

// row renders the batch's row i as JSON, nulls left out.
func row(b *feature.Batch, i int) string {
	dst := []byte("{")
	for _, c := range b.Columns {
		if c.IsNull(i) {
			continue
		}
		if len(dst) > 1 {
			dst = append(dst, ' ')
		}
		dst = append(append(dst, c.Name...), ':')
		dst = c.Value(i).AppendJSON(dst)
	}
	return string(append(dst, '}'))
}

func TestAppend(t *testing.T) {
	const at = `"t":"2001-01-01T00:00:00Z"`
	for _, tc := range []struct{ name, format, in, want string }{
		{"all", "", `{` + at + `,"i":1,"f":2,"s":"x","b":true,"raw":"AAE=","payload":{"late":3,"more":{"deep":"d"}},"l":[1, 2 ,3],"ls":["a","b\u0041]"],"e":[1,"NaN"]}`,
			`{t:"2001-01-01T00:00:00Z" i:1 f:2.0 s:"x" b:true raw:"AAE=" late:3 deep:"d" l:[1,2,3] ls:["a","bA]"] e:[1.0,"NaN"]}`},
		{"null and missing are one", "", `{` + at + `,"i":null,"payload":null}`, `{t:"2001-01-01T00:00:00Z"}`},
		{"not through float", "", `{` + at + `,"i":9007199254740993}`, `{t:"2001-01-01T00:00:00Z" i:9007199254740993}`},
		{"least int64", "", `{` + at + `,"i":-9223372036854775808}`, `{t:"2001-01-01T00:00:00Z" i:-9223372036854775808}`},
		{"floats", "", `{` + at + `,"f":"-Infinity"}`, `{t:"2001-01-01T00:00:00Z" f:"-Infinity"}`},
		{"empty string, empty list", "", `{` + at + `,"s":"","l":[],"ls":[ ]}`, `{t:"2001-01-01T00:00:00Z" s:"" l:[] ls:[]}`},
		{"escapes, in names too", "", `{` + at + `,"\u0073":"\ud83d\ude00\n\u0000"}`, `{t:"2001-01-01T00:00:00Z" s:"😀\n\u0000"}`},
		{"flat dotted name", "", `{` + at + `,"payload.late":7}`, `{t:"2001-01-01T00:00:00Z" late:7}`},
		{"ignored", "", `{"x":{"t":[1,{"a":2}]},` + at + ` , "payload":{"other":1} } ` + "\n", `{t:"2001-01-01T00:00:00Z"}`},
		{"no zone", "", `{"t":"2001-01-01 12:00"}`, `{t:"2001-01-01T12:00:00Z"}`},
		{"zone", "", `{"t":"2001-01-01T12:00:00.1234567+02:00"}`, `{t:"2001-01-01T10:00:00.123456Z"}`},
		{"unix_s", UnixSecond, `{"t":1}`, `{t:"1970-01-01T00:00:01Z"}`},
		{"unix_s with a fraction", UnixSecond, `{"t":1.0000019}`, `{t:"1970-01-01T00:00:01.000001Z"}`},
		{"before 1970, floored", UnixSecond, `{"t":-1.0000001}`, `{t:"1969-12-31T23:59:58.999999Z"}`},
		{"unix_ms", UnixMilli, `{"t":1500.5}`, `{t:"1970-01-01T00:00:01.5005Z"}`},
		{"unix_us", UnixMicro, `{"t":1000001}`, `{t:"1970-01-01T00:00:01.000001Z"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := source(tc.format)
			d := NewDecoder(src)
			b := feature.NewBatch(src.Fields(), 1)
			in := []byte(tc.in)
			for i := range 2 { // a decoder is used again
				if err := d.Append(in, b); err != nil {
					t.Fatal(err)
				}
				if i == 1 {
					for j := range in { // nothing may refer to the input
						in[j] = '#'
					}
				}
			}
			if b.Rows != 2 || row(b, 0) != tc.want || row(b, 1) != tc.want {
				t.Errorf("%d rows\n got %s\n got %s\nwant %s", b.Rows, row(b, 0), row(b, 1), tc.want)
			}
		})
	}
}

func TestBadRows(t *testing.T) {
	const at = `"t":"2001-01-01T00:00:00Z"`
	for _, tc := range []struct{ format, in, field, msg string }{
		{"", ``, "", "not a JSON object: it is empty"},
		{"", `nope`, "", "not a JSON object: "},
		{"", `[1]`, "", "want a JSON object, got an array"},
		{"", `12`, "", "want a JSON object, got the number 12"},
		{"", `{` + at, "", "not a JSON object: it is cut off"},
		{"", `{` + at + `} x`, "", "something follows the JSON object at byte "},
		{"", `{` + at + `}{}`, "", "something follows the JSON object at byte "},
		{"", `{` + at + `,"i":1,"i":2}`, "", "duplicate object member name \"i\""},
		{"", `{` + at + `,"x":1,"x":2}`, "", "duplicate object member name \"x\""},
		{"", `{` + at + `,"payload.late":1,"payload":{"late":1}}`, "payload.late", "it is given twice"},
		{"", `{"i":1}`, "t", "the timestamp is missing or null"},
		{"", `{"t":null}`, "t", "the timestamp is missing or null"},
		{"", `{"t":"yesterday"}`, "t", `"yesterday" is not an instant`},
		{"", `{"t":1}`, "t", "want a timestamp as a string"},
		{"", `{"t":"99999-01-01"}`, "t", "is not an instant"},
		{UnixMilli, `{"t":"2001-01-01"}`, "t", "want a timestamp as a number (unix_ms)"},
		{UnixMilli, `{"t":1e3}`, "t", "is not a decimal number"},
		{UnixSecond, `{"t":999999999999}`, "t", "is not between the years 1 and 9999"},
		{UnixSecond, `{"t":99999999999999999999}`, "t", "is not between the years 1 and 9999"},
		{UnixMicro, `{"t":9223372036854775808}`, "t", "is not between the years 1 and 9999"},
		{"", `{` + at + `,"i":1.0}`, "i", "want an int64, got the number 1.0"},
		{"", `{` + at + `,"i":"1"}`, "i", `want an int64, got the string "1"`},
		{"", `{` + at + `,"i":true}`, "i", "want an int64, got true"},
		{"", `{` + at + `,"i":9223372036854775808}`, "i", "out of the range of int64"},
		{"", `{` + at + `,"f":1e999}`, "f", "out of the range of float64"},
		{"", `{` + at + `,"f":"1"}`, "f", "want a float64"},
		{"", `{` + at + `,"f":NaN}`, "", "not a JSON object"},
		{"", `{` + at + `,"i":01}`, "", "not a JSON object"},
		{"", `{` + at + `,"s":1}`, "s", "want a string, got the number 1"},
		{"", `{` + at + `,"s":"` + "\xff" + `"}`, "", "invalid UTF-8"},
		{"", `{` + at + `,"s":"\ud800"}`, "", "not a JSON object"},
		{"", `{` + at + `,"b":1}`, "b", "want a bool, got the number 1"},
		{"", `{` + at + `,"raw":"A"}`, "raw", "want bytes as padded base64"},
		{"", `{` + at + `,"payload":5}`, "payload.late", "its path leads through the number 5, want an object"},
		{"", `{` + at + `,"l":[1,null]}`, "l", "element 2 is null"},
		{"", `{` + at + `,"l":[1,"x"]}`, "l", "element 2: want an int64"},
		{"", `{` + at + `,"l":[[1]]}`, "l", "element 1: want an int64, got an array"},
		{"", `{` + at + `,"l":1}`, "l", "want a list<int64>, got the number 1"},
		{"", `{` + at + `,"e":[1]}`, "e", "want 2 numbers, got 1"},
		{"", `{` + at + `,"e":[1,2,3]}`, "e", "want 2 numbers, got 3"},
		{"", `{` + at + `,"e":[1,null]}`, "e", "element 2: want a number"},
		{"", strings.Repeat(`{"x":`, 20000), "", "not a JSON object"},
		{"", `{` + at + `,"x":` + strings.Repeat(`[`, 20000), "", "not a JSON object"},
	} {
		src := source(tc.format)
		d := NewDecoder(src)
		b := feature.NewBatch(src.Fields(), 1)
		good := `{"t":"2001-01-01T00:00:00Z","s":"x"}`
		if tc.format != "" {
			good = `{"t":5,"s":"x"}`
		}
		if err := d.Append([]byte(good), b); err != nil {
			t.Fatal(err)
		}
		before := row(b, 0)
		var bad *RowError
		if err := d.Append([]byte(tc.in), b); !errors.As(err, &bad) {
			t.Errorf("%.80s: got %v, want a RowError", tc.in, err)
			continue
		}
		if bad.Field != tc.field || !strings.Contains(bad.Msg, tc.msg) {
			t.Errorf("%.80s:\n got %q: %s\nwant %q: %s", tc.in, bad.Field, bad.Msg, tc.field, tc.msg)
		}
		if b.Rows != 1 || row(b, 0) != before || b.Columns[0].Len != 1 || b.Columns[len(b.Columns)-1].Len != 1 {
			t.Errorf("%.80s: a bad row changed the batch", tc.in)
		}
		if err := d.Append([]byte(good), b); err != nil || row(b, 1) != before {
			t.Errorf("%.80s: the row after a bad one: %v, %s", tc.in, err, row(b, 1))
		}
	}
}

func TestParseValue(t *testing.T) {
	v, err := ParseValue(feature.ListOf(feature.Timestamp), UnixSecond, []byte(" [1, 2.5] "))
	if err != nil || v.String() != `["1970-01-01T00:00:01Z","1970-01-01T00:00:02.5Z"]` {
		t.Errorf("got %s, %v", v, err)
	}
	if v, err := ParseValue(feature.TypeString, "", []byte(`null`)); err != nil || !v.IsNull() {
		t.Errorf("got %s, %v", v, err)
	}
	for _, in := range []string{"", " ", "x", "1 2", `"a`, "[1"} {
		if v, err := ParseValue(feature.TypeInt64, "", []byte(in)); err == nil {
			t.Errorf("%q gave %s", in, v)
		}
	}
}

// FuzzAppend holds the decoder against encoding/json.
func FuzzAppend(f *testing.F) {
	f.Add([]byte(`{"t":"2001-01-01T00:00:00Z","i":1,"f":1.5,"s":"x\u0041","payload":{"late":2},"l":[1,2],"e":[1,2]}`))
	f.Add([]byte(`{"t":"2001-01-01","i":9007199254740993,"f":"NaN","b":false,"raw":"AA==","ls":["a"]}`))
	f.Add([]byte(`{"t":null}`))
	src := source("")
	f.Fuzz(func(t *testing.T, in []byte) {
		d := NewDecoder(src)
		b := feature.NewBatch(src.Fields(), 1)
		err := d.Append(in, b)
		for _, c := range b.Columns {
			if c.Len != b.Rows {
				t.Fatalf("column %s has %d rows of %d (%v)", c.Name, c.Len, b.Rows, err)
			}
		}
		if err != nil {
			var bad *RowError
			if !errors.As(err, &bad) || b.Rows != 0 {
				t.Fatalf("%v, %d rows", err, b.Rows)
			}
			return
		}
		if !json.Valid(in) || !utf8.Valid(in) {
			t.Fatalf("taken, and not JSON: %q", in)
		}
		dec := json.NewDecoder(bytes.NewReader(in))
		dec.UseNumber()
		var object map[string]any
		if err := dec.Decode(&object); err != nil {
			t.Fatal(err)
		}
		if _, err := dec.Token(); err != io.EOF {
			t.Fatal("taken, and something follows it")
		}
		if s, _ := object["s"].(string); s != "" || !b.Columns[3].IsNull(0) {
			if got := b.Columns[3].Value(0); got.Str() != s {
				t.Errorf("s is %q, want %q", got.Str(), s)
			}
		}
		if n, ok := object["i"].(json.Number); ok {
			if got := b.Columns[1].Value(0).String(); got != n.String() && n.String() != "-0" {
				t.Errorf("i is %s, want %s", got, n)
			}
		}
		if n, ok := object["f"].(json.Number); ok {
			want, _ := n.Float64()
			if got := b.Columns[2].Value(0).Float64(); math.Float64bits(got) != math.Float64bits(want) {
				t.Errorf("f is %v, want %v", got, want)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	src := &registry.Source{Timestamp: "date", Columns: []registry.SourceColumn{
		column("date", "timestamp", ""), column("origin", "string", ""), column("destination", "string", ""),
		column("delay", "int64", ""), column("distance", "int64", "")}}
	in := []byte(`{"date":"2001-06-30T23:51:00Z","origin":"SFO","destination":"JFK","delay":12,"distance":2586}`)
	d := NewDecoder(src)
	batch := feature.NewBatch(src.Fields(), 1024)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if batch.Rows == 1024 {
			batch.Reset()
		}
		if err := d.Append(in, batch); err != nil {
			b.Fatal(err)
		}
	}
}
