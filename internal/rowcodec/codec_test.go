package rowcodec

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/forebay/forebay/registry/feature"
)

var update = flag.Bool("update", false, "append goldens that are missing; those that are there stay as they are")

var version = feature.Version{EventTime: 1_700_000_000_000_000, IngestedAt: 1_700_000_001_000_000, Major: 3, Minor: 42}

// row is one row to encode: fields and their values.
type row struct {
	name   string
	fields []feature.Field
	values []feature.Value
}

func field(name, typ string) feature.Field {
	t, err := feature.ParseType(typ)
	if err != nil {
		panic(err)
	}
	return feature.Field{Name: name, Type: t}
}

func one(typ string, v feature.Value) row {
	return row{name: typ, fields: []feature.Field{field("f", typ)}, values: []feature.Value{v}}
}

func (r row) columns() []*feature.Column {
	cols := make([]*feature.Column, len(r.fields))
	for i, f := range r.fields {
		cols[i] = feature.NewColumn(f.Name, f.Type, 1)
		cols[i].Append(r.values[i])
	}
	return cols
}

func golden() []row {
	str, i64 := feature.OfString, feature.OfInt64
	rows := []row{
		one("bool", feature.OfBool(true)),
		one("int64", i64(-2)),
		one("float64", feature.OfFloat64(math.Pi)),
		one("string", str("SFO é\x00")),
		one("bytes", feature.OfBytes([]byte{0, 1, 0xff})),
		one("timestamp", feature.OfTimestamp(-1)),
		one("list<bool>", feature.OfList(feature.Bool, []feature.Value{feature.OfBool(true), feature.OfBool(false)})),
		one("list<int64>", feature.OfList(feature.Int64, []feature.Value{i64(1), i64(math.MinInt64)})),
		one("list<float64>", feature.OfList(feature.Float64, []feature.Value{feature.OfFloat64(0.5), feature.OfFloat64(math.Inf(-1))})),
		one("list<string>", feature.OfList(feature.String, []feature.Value{str(""), str("b")})),
		one("list<bytes>", feature.OfList(feature.Bytes, []feature.Value{feature.OfBytes([]byte{0})})),
		one("list<timestamp>", feature.OfList(feature.Timestamp, []feature.Value{feature.OfTimestamp(5)})),
		one("embedding<3>", feature.OfEmbedding([]float32{1, -0.5, float32(math.NaN())})),
		{name: "null", fields: []feature.Field{field("f", "int64")}, values: []feature.Value{{}}},
		{name: "invalid", fields: []feature.Field{field("f", "float64")}, values: []feature.Value{feature.Invalid()}},
		{name: "no features"},
		{
			name: "mixed",
			fields: []feature.Field{field("z", "string"), field("a", "float64"), field("b", "bool"), field("c", "int64"), field("d", "string"),
				field("e", "bool"), field("g", "float64"), field("h", "list<int64>"), field("i", "timestamp"), field("j", "bytes")},
			values: []feature.Value{str("last"), feature.OfFloat64(1), feature.OfBool(true), {}, str("first"),
				{}, feature.Invalid(), feature.OfList(feature.Int64, []feature.Value{i64(9)}), feature.OfTimestamp(7), {}},
		},
	}
	wide := one("string", str(strings.Repeat("x", 70_000)))
	wide.name = "wide"
	return append(rows, wide)
}

// TestGolden holds the format: testdata/newest-row-1.txt never changes but by
// additions, and every record in it decodes to what it held, forever.
func TestGolden(t *testing.T) {
	const path = "testdata/newest-row-1.txt"
	want := map[string]string{}
	f, err := os.Open(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	if err == nil {
		for sc := bufio.NewScanner(f); sc.Scan(); {
			if name, rec, ok := strings.Cut(sc.Text(), ": "); ok {
				want[name] = rec
			}
		}
		f.Close()
	}
	for _, r := range golden() {
		t.Run(r.name, func(t *testing.T) {
			c := New("flights/airport_latest@1", r.fields)
			rec, err := c.Append(nil, version, r.columns(), 0)
			if err != nil {
				t.Fatal(err)
			}
			text := hex.EncodeToString(rec)
			if r.name == "wide" { // kept short: its parts that are not "x"
				text = strings.ReplaceAll(text, strings.Repeat("78", 70_000), "(78 x 70000)")
			}
			if want[r.name] == "" && *update {
				f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				fmt.Fprintf(f, "%s: %s\n", r.name, text)
				return
			}
			if text != want[r.name] {
				t.Errorf("encodes to\n%s, want\n%s", text, want[r.name])
			}
			old, err := hex.DecodeString(strings.ReplaceAll(want[r.name], "(78 x 70000)", strings.Repeat("78", 70_000)))
			if err != nil {
				t.Fatal(err)
			}
			checkDecodes(t, c, old, r)
		})
	}
}

// checkDecodes checks all ways of decoding a record against the row it was made from.
func checkDecodes(t *testing.T, c *Codec, rec []byte, r row) {
	t.Helper()
	o, err := c.Open(rec)
	if err != nil {
		t.Fatal(err)
	}
	if o.Version() != version || o.EventTime() != version.EventTime {
		t.Errorf("version %v, want %v", o.Version(), version)
	}
	if v, err := Version(rec); err != nil || v != version {
		t.Errorf("Version: %v, %v", v, err)
	}
	all := make([]int, len(r.fields))
	for i, want := range r.values {
		all[i] = len(r.fields) - 1 - i
		got, err := o.Value(i)
		if err != nil || !got.Equal(want) || got.IsInvalid() != want.IsInvalid() {
			t.Errorf("%s: %v (%v), want %v", r.fields[i].Name, got, err, want)
		}
		checkColumns(t, c, rec, r, []int{i})
	}
	checkColumns(t, c, rec, r, all)
	checkColumns(t, c, rec, r, append(all, all...))
}

func checkColumns(t *testing.T, c *Codec, rec []byte, r row, pick []int) {
	t.Helper()
	d := c.Decoder(pick)
	cols := d.Columns(2)
	rows := []Row{{}, {}, InvalidRow(), {}}
	for _, i := range []int{0, 3} {
		if err := d.Open(rec, &rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time in memory that was used
		for _, col := range cols {
			col.Reset()
		}
		d.Room(cols, len(rows))
		for first := range rows {
			d.Decode(rows[first:first+1], cols, first)
		}
		for i, f := range pick {
			for n, want := range []feature.Value{r.values[f], {}, feature.Invalid(), r.values[f]} {
				if got := cols[i].Value(n); cols[i].Len != len(rows) || !got.Equal(want) || got.IsInvalid() != want.IsInvalid() {
					t.Errorf("chosen %v: row %d, %s: %v, want %v", pick, n, r.fields[f].Name, got, want)
				}
			}
		}
	}
}

// randomRow makes a row of up to 80 fields of any type.
func randomRow(rnd *rand.Rand) row {
	types := []string{"bool", "int64", "float64", "string", "bytes", "timestamp", "list<bool>", "list<int64>", "list<string>", "list<bytes>", "embedding<4>"}
	var r row
	nulls := rnd.Float64() * float64(rnd.IntN(2))
	for i := range rnd.IntN(80) {
		f := field(fmt.Sprintf("f%d", rnd.IntN(1000)*100+i), types[rnd.IntN(len(types))])
		r.fields = append(r.fields, f)
		switch {
		case rnd.Float64() >= nulls:
			r.values = append(r.values, randomValue(rnd, f.Type))
		case rnd.IntN(3) == 0:
			r.values = append(r.values, feature.Invalid())
		default:
			r.values = append(r.values, feature.Value{})
		}
	}
	return r
}

func randomValue(rnd *rand.Rand, t feature.Type) feature.Value {
	switch t.Kind {
	case feature.Bool:
		return feature.OfBool(rnd.IntN(2) == 1)
	case feature.Int64:
		return feature.OfInt64(int64(rnd.Uint64()))
	case feature.Float64:
		return feature.OfFloat64(math.Float64frombits(rnd.Uint64()))
	case feature.Timestamp:
		return feature.OfTimestamp(rnd.Int64())
	case feature.String, feature.Bytes:
		b := make([]byte, rnd.IntN(12))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		if t.Kind == feature.Bytes {
			return feature.OfBytes(b)
		}
		return feature.OfString(string(b))
	case feature.Embedding:
		fs := make([]float32, t.Dim)
		for i := range fs {
			fs[i] = rnd.Float32()
		}
		return feature.OfEmbedding(fs)
	}
	vs := make([]feature.Value, rnd.IntN(4))
	for i := range vs {
		vs[i] = randomValue(rnd, feature.Type{Kind: t.Elem})
	}
	return feature.OfList(t.Elem, vs)
}

func TestRoundTripRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		r := randomRow(rnd)
		c := New("p/v@1", r.fields)
		rec, err := c.Append([]byte("before"), version, r.columns(), 0)
		if err != nil {
			t.Fatal(err)
		}
		rec = rec[len("before"):]
		checkDecodes(t, c, rec, r)
		if t.Failed() {
			t.FailNow()
		}
		// The order of the fields in the definition does not matter.
		back := row{}
		for i := len(r.fields) - 1; i >= 0; i-- {
			back.fields, back.values = append(back.fields, r.fields[i]), append(back.values, r.values[i])
		}
		checkDecodes(t, New("p/v@1", back.fields), rec, back)
	}
}

func TestOrderIsVersionOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	part := func() int64 {
		return []int64{math.MinInt64, -1, 0, 1, 255, 256, math.MaxInt64, int64(rnd.Uint64())}[rnd.IntN(8)]
	}
	for range 5000 {
		v := feature.Version{EventTime: part(), IngestedAt: part(), Major: part(), Minor: part()}
		w := feature.Version{EventTime: part(), IngestedAt: part(), Major: part(), Minor: part()}
		if got := strings.Compare(string(appendOrder(nil, v)), string(appendOrder(nil, w))); got != v.Compare(w) {
			t.Fatalf("%v and %v compare as %d by their bytes, want %d", v, w, got, v.Compare(w))
		}
	}
}

// TestDamage alters records in every way that one byte can be: each is an error.
func TestDamage(t *testing.T) {
	for _, r := range golden() {
		if r.name == "wide" {
			continue
		}
		c := New("p/v@1", r.fields)
		rec, err := c.Append(nil, version, r.columns(), 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rec {
			if _, err := c.Open(rec[:i]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: cut off at %d: %v", r.name, i, err)
			}
			for b := 1; b < 256; b <<= 1 {
				bad := append([]byte(nil), rec...)
				bad[i] ^= byte(b)
				want := ErrCorrupt
				if i == 0 {
					want = ErrKind
				}
				if _, err := c.Open(bad); !errors.Is(err, want) {
					t.Errorf("%s: byte %d altered: %v, want %v", r.name, i, err, want)
				}
			}
		}
		if _, err := c.Open(append(append([]byte(nil), rec...), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: a byte too many: %v", r.name, err)
		}
		others := map[string]*Codec{
			"project":    New("q/v@1", r.fields),
			"generation": New("p/v@2", r.fields),
			"features":   New("p/v@1", append([]feature.Field{field("more", "int64")}, r.fields...)),
		}
		for what, other := range others {
			if _, err := other.Open(rec); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: a record of another %s: %v", r.name, what, err)
			}
		}
	}
	if _, err := Version(make([]byte, 32)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Version of 32 bytes: %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	r := one("string", feature.OfString(strings.Repeat("x", MaxRecord)))
	dst, err := New("p/v@1", r.fields).Append([]byte("before"), version, r.columns(), 0)
	if !errors.Is(err, ErrTooLarge) || string(dst) != "before" {
		t.Fatalf("%d bytes, %v", len(dst), err)
	}
}

// TestSizeOfFiftyFloats holds the size on which the memory in Redis depends.
func TestSizeOfFiftyFloats(t *testing.T) {
	for bad := range 51 {
		for _, null := range []feature.Value{{}, feature.Invalid()} {
			r := floats(50)
			for i := range bad {
				r.values[i] = null
			}
			rec, err := New("p/v@1", r.fields).Append(nil, version, r.columns(), 0)
			if err != nil || len(rec) > 444 || (bad == 0 && len(rec) != 438) {
				t.Fatalf("%d nulls: %d bytes, %v", bad, len(rec), err)
			}
		}
	}
}

func floats(n int) row {
	var r row
	for i := range n {
		r.fields = append(r.fields, field(fmt.Sprintf("feature_%d", i), "float64"))
		r.values = append(r.values, feature.OfFloat64(float64(i)/7))
	}
	return r
}

// FuzzOpen feeds bytes to the decoder, with their checksum put right, so that
// what lies behind it is tried too: an error or values, never a panic.
func FuzzOpen(f *testing.F) {
	rows := golden()
	for i, r := range rows[:len(rows)-1] {
		rec, err := New("p/v@1", r.fields).Append(nil, version, r.columns(), 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), rec)
	}
	f.Fuzz(func(t *testing.T, i uint8, rec []byte) {
		r := rows[int(i)%len(rows)]
		c := New("p/v@1", r.fields)
		if o, err := c.Open(rec); err == nil {
			o.Version()
		}
		if len(rec) > trailerLen {
			rec = rec[:len(rec)-trailerLen]
			rec = binary.LittleEndian.AppendUint32(rec, c.checksum(rec))
		}
		all := make([]int, len(r.fields))
		for i := range all {
			all[i] = i
		}
		d := c.Decoder(all)
		found := make([]Row, 1)
		if err := d.Open(rec, &found[0]); err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrKind) {
				t.Fatal(err)
			}
			return
		}
		cols := d.Columns(1)
		d.Room(cols, 1)
		d.Decode(found, cols, 0)
		for i := range all {
			if v, err := found[0].Value(i); err != nil || !v.Equal(cols[i].Value(0)) {
				t.Fatalf("%v and %v (%v)", v, cols[i].Value(0), err)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{50, 250} {
		b.Run(fmt.Sprintf("float64=%d", n), func(b *testing.B) {
			r := floats(n)
			c, cols := New("p/v@1", r.fields), r.columns()
			var rec []byte
			b.ReportAllocs()
			for b.Loop() {
				rec, _ = c.Append(rec[:0], version, cols, 0)
			}
			b.SetBytes(int64(len(rec)))
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{50, 250} {
		for _, nulls := range []int{0, 5} {
			for _, rows := range []int{1, 100} {
				b.Run(fmt.Sprintf("float64=%d/nulls=%d/rows=%d", n, nulls, rows), func(b *testing.B) { benchmarkDecode(b, n, nulls, rows) })
			}
		}
	}
}

func benchmarkDecode(b *testing.B, n, nulls, rows int) {
	r := floats(n)
	all := make([]int, n)
	for i := range all {
		all[i] = i
		if i < nulls {
			r.values[i*7] = feature.Value{}
		}
	}
	c := New("p/v@1", r.fields)
	recs := make([][]byte, rows)
	for i := range recs {
		var err error
		if recs[i], err = c.Append(nil, version, r.columns(), 0); err != nil {
			b.Fatal(err)
		}
	}
	d := c.Decoder(all)
	cols, found := d.Columns(rows), make([]Row, Tile)
	b.ReportAllocs()
	b.SetBytes(int64(rows * len(recs[0])))
	for b.Loop() {
		for _, col := range cols {
			col.Reset()
		}
		d.Room(cols, rows)
		first := 0
		for tile := range slices.Chunk(recs, Tile) {
			for i, rec := range tile {
				if err := d.Open(rec, &found[i]); err != nil {
					b.Fatal(err)
				}
			}
			d.Decode(found[:len(tile)], cols, first)
			first += len(tile)
		}
	}
}
