package kafka

import (
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/materializetest"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// avroSource has a column of every type.
func avroSource(format string, columns ...string) *registry.Source {
	src := &registry.Source{Meta: registry.Meta{Name: "s"}, Timestamp: "ts", TimestampFormat: format, Kafka: &registry.Kafka{Topic: "t", Format: "avro"}}
	for _, c := range columns {
		part := strings.Fields(c)
		t, err := feature.ParseType(part[1])
		if err != nil {
			panic(err)
		}
		column := registry.SourceColumn{Field: feature.Field{Name: part[0], Type: t}}
		if len(part) > 2 {
			column.From = part[2]
		}
		src.Columns = append(src.Columns, column)
	}
	return src
}

const tsField = `{"name":"ts","type":{"type":"long","logicalType":"timestamp-micros"}}`

func frame(id int, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), body...)
}

func TestAvroTypes(t *testing.T) {
	type m = map[string]any
	ts := int64(1_700_000_000_000_001)
	for _, c := range []struct {
		name    string
		columns []string
		format  string
		fields  string
		value   m
		want    string // row as JSON, or the reason of the refusal
	}{
		{"scalars", []string{"b bool", "i int64", "l int64", "f float64", "d float64", "s string", "y bytes", "e string", "x bytes"}, "",
			`{"name":"b","type":"boolean"},{"name":"i","type":"int"},{"name":"l","type":"long"},{"name":"f","type":"float"},{"name":"d","type":"double"},{"name":"s","type":"string"},{"name":"y","type":"bytes"},{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},{"name":"x","type":{"type":"fixed","name":"F","size":2}}`,
			m{"b": true, "i": -7, "l": int64(-1 << 62), "f": float32(1.5), "d": 2.25, "s": "héé", "y": []byte{0, 1}, "e": "B", "x": [2]byte{3, 4}},
			`true,-7,-4611686018427387904,1.5,2.25,"héé","AAE=","B","AwQ="`},
		{"missing field is null", []string{"i int64", "new string"}, "", `{"name":"i","type":"int"},{"name":"gone","type":"string"}`, m{"i": 1, "gone": "x"}, `1,null`},
		{"unions", []string{"a int64", "b int64", "c string", "d float64"}, "",
			`{"name":"a","type":["null","long"]},{"name":"b","type":["null","long"]},{"name":"c","type":["string","null"]},{"name":"d","type":["int","double","null"]}`,
			m{"a": nil, "b": int64(5), "c": nil, "d": 2.5}, `null,5,null,2.5`},
		{"timestamps", []string{"ms timestamp", "ns timestamp", "day timestamp", "text timestamp"}, "",
			`{"name":"ms","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"ns","type":{"type":"long","logicalType":"timestamp-nanos"}},{"name":"day","type":{"type":"int","logicalType":"date"}},{"name":"text","type":"string"}`,
			m{"ms": int64(1500), "ns": int64(-1), "day": int32(-1), "text": "2001-02-03T04:05:06Z"},
			`"1970-01-01T00:00:01.5Z","1969-12-31T23:59:59.999999Z","1969-12-31T00:00:00Z","2001-02-03T04:05:06Z"`},
		{"unix_ms", []string{"n timestamp"}, "unix_ms", `{"name":"n","type":"long"}`, m{"n": int64(1)}, `"1970-01-01T00:00:00.001Z"`},
		{"lists", []string{"l list<int64>", "s list<string>", "e embedding<2>"}, "",
			`{"name":"l","type":{"type":"array","items":"long"}},{"name":"s","type":{"type":"array","items":"string"}},{"name":"e","type":{"type":"array","items":"float"}}`,
			m{"l": []int64{1, 2, 3}, "s": []string{"a", ""}, "e": []float32{0.5, -1}}, `[1,2,3],["a",""],[0.5,-1.0]`},
		{"nested path", []string{"deep int64 p.q.r"}, "",
			`{"name":"p","type":["null",{"type":"record","name":"P","fields":[{"name":"skipped","type":{"type":"map","values":"string"}},{"name":"q","type":{"type":"record","name":"Q","fields":[{"name":"r","type":"int"}]}}]}]}`,
			m{"p": m{"skipped": map[string]string{"k": "v"}, "q": m{"r": 9}}}, `9`},
		{"nested path through null", []string{"deep int64 p.r"}, "", `{"name":"p","type":["null",{"type":"record","name":"P","fields":[{"name":"r","type":"int"}]}]}`, m{"p": nil}, `null`},
		{"named type twice", []string{"b int64 y.n"}, "",
			`{"name":"x","type":{"type":"record","name":"N","fields":[{"name":"n","type":"int"}]}},{"name":"y","type":"N"}`, m{"x": m{"n": 1}, "y": m{"n": 2}}, `2`},
		{"recursive type is skipped", []string{"i int64"}, "",
			`{"name":"tree","type":{"type":"record","name":"T","fields":[{"name":"left","type":["null","T"]},{"name":"v","type":"int"}]}},{"name":"i","type":"int"}`,
			m{"tree": m{"left": m{"left": nil, "v": 1}, "v": 2}, "i": 3}, `3`},

		{"long that no float64 is", []string{"f float64"}, "", `{"name":"f","type":"long"}`, m{"f": int64(1<<53 + 1)}, "bad_field"},
		{"embedding too short", []string{"e embedding<2>"}, "", `{"name":"e","type":{"type":"array","items":"float"}}`, m{"e": []float32{1}}, "bad_field"},
		{"timestamp out of range", []string{"n timestamp"}, "unix_s", `{"name":"n","type":"long"}`, m{"n": int64(1 << 60)}, "bad_field"},
		{"wrong type", []string{"i int64"}, "", `{"name":"i","type":"string"}`, m{"i": "1"}, "bad_schema"},
		{"no narrowing", []string{"i int64"}, "", `{"name":"i","type":"double"}`, m{"i": 1.0}, "bad_schema"},
		{"decimal", []string{"y bytes"}, "", `{"name":"y","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}}`, m{"y": "1.5"}, "bad_schema"},
		{"long without a unit", []string{"n timestamp"}, "rfc3339", `{"name":"n","type":"long"}`, m{"n": int64(1)}, "bad_schema"},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := avroSource(c.format, append([]string{"ts timestamp"}, c.columns...)...)
			schema := avro.MustParse(`{"type":"record","name":"R","fields":[` + tsField + `,` + c.fields + `]}`)
			c.value["ts"] = ts
			body, err := schema.Encode(c.value)
			if err != nil {
				t.Fatal(err)
			}
			p, err := compileAvro(src, schema.Root())
			if err != nil {
				if c.want != "bad_schema" {
					t.Fatal(err)
				}
				return
			}
			b := feature.NewBatch(src.Fields(), 1)
			if r := p.append(body, b); r != nil {
				if string(r.reason) != c.want {
					t.Fatalf("refused: %+v", r)
				}
				if b.Rows != 0 || b.Columns[0].Len != 0 {
					t.Fatal("a refused row left something behind")
				}
				return
			}
			if got, want := materializetest.Values(b, 0), `"2023-11-14T22:13:20.000001Z",`+c.want; got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
			// Every prefix is cut off, and one byte more is too much.
			for n := range body {
				if r := p.append(body[:n], b); r == nil || r.reason != materialize.ReasonMalformed {
					t.Fatalf("%d of %d bytes: %+v", n, len(body), r)
				}
			}
			if r := p.append(append(body, 0), b); r == nil || r.reason != materialize.ReasonMalformed {
				t.Fatalf("a byte too many: %+v", r)
			}
		})
	}
}

func TestAvroRegistry(t *testing.T) {
	fake := srfake.New()
	defer fake.Close()
	src := avroSource("", "ts timestamp", "i int64", "note string")
	fake.SeedSchema("common", 1, 1, sr.Schema{Type: sr.TypeAvro, Schema: `{"type":"record","name":"N","fields":[{"name":"i","type":"int"}]}`})
	fake.SeedSchema("t-value", 1, 2, sr.Schema{Type: sr.TypeAvro, Schema: `{"type":"record","name":"R","fields":[` + tsField + `,{"name":"i","type":"int"}]}`})
	fake.SeedSchema("t-value", 2, 3, sr.Schema{Type: sr.TypeAvro, Schema: `{"type":"record","name":"R","fields":[{"name":"note","type":["null","string"],"default":null},` + tsField + `,{"name":"i","type":"long"},{"name":"n","type":"N"}]}`,
		References: []sr.SchemaReference{{Name: "N", Subject: "common", Version: 1}}})
	fake.SeedSchema("t-value", 3, 4, sr.Schema{Type: sr.TypeAvro, Schema: `{"type":"record","name":"R","fields":[` + tsField + `,{"name":"i","type":"string"}]}`})

	var away atomic.Bool
	var asked atomic.Int64
	fake.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		asked.Add(1)
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return away.Load()
	})
	reg, err := NewSchemaRegistry(fake.URL())
	if err != nil {
		t.Fatal(err)
	}
	decode := reg.decoder(src, 5*time.Second)
	b := feature.NewBatch(src.Fields(), 10)

	v1 := avro.MustParse(`{"type":"record","name":"R","fields":[` + tsField + `,{"name":"i","type":"int"}]}`)
	body1, _ := v1.Encode(map[string]any{"ts": int64(0), "i": 1})
	v2 := avro.MustParse(`{"type":"record","name":"R","fields":[{"name":"note","type":["null","string"]},` + tsField + `,{"name":"i","type":"long"},{"name":"n","type":{"type":"record","name":"N","fields":[{"name":"i","type":"int"}]}}]}`)
	body2, _ := v2.Encode(map[string]any{"ts": int64(0), "i": int64(2), "note": "x", "n": map[string]any{"i": 9}})

	// Away: not the record's fault, and what is known goes on.
	away.Store(true)
	if _, err := decode(frame(2, body1), b); !errors.Is(err, materialize.ErrUnavailable) || !strings.Contains(err.Error(), fake.URL()) {
		t.Fatalf("got %v", err)
	}
	if err := reg.ping(t.Context(), time.Second); !errors.Is(err, materialize.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	away.Store(false)
	for _, value := range [][]byte{frame(2, body1), frame(3, body2), frame(2, body1)} {
		if r, err := decode(value, b); r != nil || err != nil {
			t.Fatal(r, err)
		}
	}
	if b.Rows != 3 || materializetest.Values(b, 0) != `"1970-01-01T00:00:00Z",1,null` || materializetest.Values(b, 1) != `"1970-01-01T00:00:00Z",2,"x"` {
		t.Fatalf("rows %d, %s, %s", b.Rows, materializetest.Values(b, 0), materializetest.Values(b, 1))
	}
	before := asked.Load()
	for range 10 {
		if r, err := decode(frame(3, body2), b); r != nil || err != nil {
			t.Fatal(r, err)
		}
	}
	if asked.Load() != before {
		t.Error("a known schema was asked for again")
	}
	for _, c := range []struct {
		value []byte
		want  materialize.Reason
	}{
		{[]byte("{}"), materialize.ReasonMalformed}, {[]byte{}, materialize.ReasonMalformed}, {frame(99, body1), materialize.ReasonUnknownSchema},
		{frame(4, body1), materialize.ReasonBadSchema}, {frame(2, body1[:1]), materialize.ReasonMalformed},
	} {
		r, err := decode(c.value, b)
		if err != nil || r == nil || r.reason != c.want {
			t.Errorf("%x: %+v, %v; want %s", c.value, r, err, c.want)
		}
	}
	if b.Rows != 13 {
		t.Errorf("%d rows", b.Rows)
	}
}

func FuzzAvro(f *testing.F) {
	schema := avro.MustParse(`{"type":"record","name":"R","fields":[` + tsField + `,{"name":"tree","type":{"type":"record","name":"T","fields":[{"name":"left","type":["null","T"]},{"name":"all","type":{"type":"array","items":"null"}}]}},{"name":"s","type":"string"},{"name":"l","type":{"type":"array","items":"long"}}]}`)
	src := avroSource("", "ts timestamp", "s string", "l list<int64>")
	body, err := schema.Encode(map[string]any{"ts": int64(1), "tree": map[string]any{"left": nil, "all": []any{nil}}, "s": "x", "l": []int64{1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	p, err := compileAvro(src, schema.Root())
	if err != nil {
		f.Fatal(err)
	}
	b := feature.NewBatch(src.Fields(), 1)
	f.Fuzz(func(t *testing.T, data []byte) {
		b.Reset()
		if r := p.append(data, b); r == nil && b.Rows != 1 || r != nil && b.Rows != 0 {
			t.Fatalf("%d rows with refusal %+v", b.Rows, r)
		}
		for _, c := range b.Columns {
			if c.Len != b.Rows {
				t.Fatalf("column %s has %d rows of %d", c.Name, c.Len, b.Rows)
			}
		}
	})
}

// TestTruncate takes rows off again and appends others in their place.
func TestTruncate(t *testing.T) {
	src := avroSource("", "ts timestamp", "s string", "l list<int64>", "e embedding<1>", "b bool")
	b := feature.NewBatch(src.Fields(), 2)
	add := func(null bool) {
		for _, c := range b.Columns {
			switch {
			case null:
				c.AppendInvalid()
			case c.Type.Kind == feature.String:
				c.Append(feature.OfString("text"))
			case c.Type.Kind == feature.List:
				c.Append(feature.OfList(feature.Int64, []feature.Value{feature.OfInt64(1)}))
			case c.Type.Kind == feature.Embedding:
				c.Append(feature.OfEmbedding([]float32{1}))
			case c.Type.Kind == feature.Bool:
				c.Append(feature.OfBool(true))
			default:
				c.Append(feature.OfTimestamp(0))
			}
		}
		b.Rows++
	}
	add(false)
	add(true)
	dropLast(b)
	add(false)
	if got, want := materializetest.Values(b, 1), materializetest.Values(b, 0); got != want || b.Rows != 2 {
		t.Errorf("row 1 is %s, row 0 %s", got, want)
	}
}
