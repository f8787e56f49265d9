package feature

import (
	"encoding/json"
	"math"
	"testing"
	"unicode/utf8"
)

func TestParseType(t *testing.T) {
	for _, s := range []string{"bool", "int64", "float64", "string", "bytes", "timestamp", "list<int64>", "list<timestamp>", "embedding<3>", "embedding<65536>"} {
		typ, err := ParseType(s)
		if err != nil || typ.String() != s {
			t.Errorf("ParseType(%q) = %v, %v", s, typ, err)
		}
	}
	for _, s := range []string{"", "int", "INT64", "list<>", "list<list<int64>>", "list<embedding<3>>", "embedding<0>", "embedding<65537>", "embedding<x>", "null", "list"} {
		if typ, err := ParseType(s); err == nil {
			t.Errorf("ParseType(%q) = %v, want an error", s, typ)
		}
	}
}

func TestValueJSON(t *testing.T) {
	for _, c := range []struct {
		v    Value
		want string
	}{
		{Value{}, "null"}, {Invalid(), "null"},
		{OfBool(true), "true"}, {OfInt64(9007199254740993), "9007199254740993"},
		{OfFloat64(3), "3.0"}, {OfFloat64(0.1), "0.1"}, {OfFloat64(math.Copysign(0, -1)), "-0.0"},
		{OfFloat64(5e-324), "5e-324"}, {OfFloat64(1e21), "1e+21"}, {OfFloat64(1e-7), "1e-07"},
		{OfFloat64(math.NaN()), `"NaN"`}, {OfFloat64(math.Inf(1)), `"Infinity"`}, {OfFloat64(math.Inf(-1)), `"-Infinity"`},
		{OfString("a\"\\\n\x01é\xff"), `"a\"\\\n\u0001é` + "\ufffd" + `"`},
		{OfBytes([]byte{0, 1, 254}), `"AAH+"`},
		{OfTimestamp(1), `"1970-01-01T00:00:00.000001Z"`}, {OfTimestamp(-1), `"1969-12-31T23:59:59.999999Z"`},
		{OfList(Int64, []Value{OfInt64(3), OfInt64(2)}), "[3,2]"}, {OfList(String, nil), "[]"},
		{OfEmbedding([]float32{0.1, 1}), "[0.1,1.0]"},
	} {
		got := string(c.v.AppendJSON(nil))
		if got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("%s is not JSON", got)
		}
	}
}

func FuzzStringJSON(f *testing.F) {
	f.Add("plain")
	f.Add("\x00\u2028\xff\"\\")
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		b := AppendStringJSON(nil, s)
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatalf("%q: %s: %v", s, b, err)
		}
		if utf8.ValidString(s) && back != s {
			t.Fatalf("%q came back as %q", s, back)
		}
	})
}

func TestColumnKeepsWhatIsAppended(t *testing.T) {
	samples := map[Type][]Value{
		TypeBool:        {OfBool(true), OfBool(false)},
		TypeInt64:       {OfInt64(0), OfInt64(math.MinInt64)},
		TypeFloat64:     {OfFloat64(0), OfFloat64(math.Copysign(0, -1)), OfFloat64(math.NaN())},
		TypeString:      {OfString(""), OfString("x\x00y")},
		TypeBytes:       {OfBytes(nil), OfBytes([]byte{0})},
		TypeTimestamp:   {OfTimestamp(0), OfTimestamp(-5)},
		ListOf(Int64):   {OfList(Int64, nil), OfList(Int64, []Value{OfInt64(1)})},
		ListOf(String):  {OfList(String, []Value{OfString("")})},
		EmbeddingOf(2):  {OfEmbedding([]float32{0, -1})},
		ListOf(Float64): {OfList(Float64, []Value{OfFloat64(math.Inf(1))})},
	}
	r := seed(t)
	for typ, values := range samples {
		var c Column // the zero column is ready for use
		c.Type = typ
		again := NewColumn("again", typ, 4)
		for round := range 2 {
			var want []Value
			for range 200 {
				switch r.IntN(4) {
				case 0:
					want = append(want, Value{})
				case 1:
					want = append(want, Invalid())
				default:
					want = append(want, values[r.IntN(len(values))])
				}
				c.Append(want[len(want)-1])
				again.AppendRow(&c, c.Len-1)
			}
			for i, w := range want {
				for _, col := range []*Column{&c, again} {
					if got := col.Value(i); !got.Equal(w) || got.IsInvalid() != w.IsInvalid() || col.IsNull(i) != w.IsNull() {
						t.Fatalf("%s round %d row %d: %v, want %v", typ, round, i, got, w)
					}
				}
			}
			c.Reset()
			again.Reset()
		}
	}
}

func TestColumnRefusesAnotherType(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a string was appended to a column of int64")
		}
	}()
	NewColumn("n", TypeInt64, 0).Append(OfString("x"))
}

func TestVersionOrder(t *testing.T) {
	ordered := []Version{
		{1, 9, 9, 9}, {2, 1, 9, 9}, {2, 2, 1, 9}, {2, 2, 2, 1}, {2, 2, 2, 2},
	}
	for i, v := range ordered {
		for j, w := range ordered {
			if got := v.Compare(w); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%v against %v: %d", v, w, got)
			}
		}
	}
}
