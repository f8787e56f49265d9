package pages

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	pq "github.com/parquet-go/parquet-go"
)

// seed is that of a test's random numbers, printed if it fails; FOREBAY_SEED repeats one.
func seed(t *testing.T) uint64 {
	s := uint64(time.Now().UnixNano())
	if v := os.Getenv("FOREBAY_SEED"); v != "" {
		s, _ = strconv.ParseUint(v, 10, 64)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("FOREBAY_SEED=%d", s)
		}
	})
	return s
}

// entry is what a leaf has at one place: a value as text, or nothing.
type entry struct {
	rep, def int
	value    string
}

func (e entry) String() string { return fmt.Sprintf("(%d, %d, %q)", e.rep, e.def, e.value) }

// testLeaf is a leaf, and how its values are made.
type testLeaf struct {
	name           string
	node           pq.Node
	maxDef, maxRep int
	put            func(rng *rand.Rand, v *Values) string
}

func fixed(width int, bits func(*rand.Rand) uint64) func(*rand.Rand, *Values) string {
	return func(rng *rand.Rand, v *Values) string {
		b := binary.LittleEndian.AppendUint64(nil, bits(rng))[:width]
		v.Fixed = append(v.Fixed, b...)
		return string(b)
	}
}

func text(distinct int) func(*rand.Rand, *Values) string {
	return func(rng *rand.Rand, v *Values) string {
		s := strings.Repeat("x", rng.IntN(3)*rng.IntN(60)) + strconv.Itoa(rng.IntN(distinct))
		if len(v.Offsets) == 0 {
			v.Offsets = append(v.Offsets, 0)
		}
		v.Data = append(v.Data, s...)
		v.Offsets = append(v.Offsets, uint32(len(v.Data)))
		return s
	}
}

// numbers are small, large and, for floats, special.
func numbers(rng *rand.Rand) uint64 {
	switch rng.IntN(4) {
	case 0:
		return uint64(rng.Int64N(20) - 10)
	case 1:
		return math.Float64bits(rng.NormFloat64())
	case 2:
		return []uint64{math.Float64bits(math.NaN()), math.Float64bits(math.Inf(-1)), 0, 1 << 63, 1<<63 - 1, 1<<64 - 1}[rng.IntN(6)]
	}
	return rng.Uint64()
}

func testLeaves() []testLeaf {
	int64s := fixed(8, numbers)
	return []testLeaf{
		{"int64", pq.Leaf(pq.Int64Type), 0, 0, int64s},
		{"optional", pq.Optional(pq.Leaf(pq.Int64Type)), 1, 0, int64s},
		{"constant", pq.Leaf(pq.Int64Type), 0, 0, fixed(8, func(*rand.Rand) uint64 { return 7 })},
		{"uint64", pq.Uint(64), 0, 0, int64s},
		{"double", pq.Optional(pq.Leaf(pq.DoubleType)), 1, 0, int64s},
		{"nan", pq.Leaf(pq.DoubleType), 0, 0, fixed(8, func(*rand.Rand) uint64 { return math.Float64bits(math.NaN()) })},
		{"float", pq.Optional(pq.Leaf(pq.FloatType)), 1, 0, fixed(4, numbers)},
		{"int32", pq.Leaf(pq.Int32Type), 0, 0, fixed(4, numbers)},
		{"uint8", pq.Optional(pq.Uint(8)), 1, 0, fixed(4, func(r *rand.Rand) uint64 { return r.Uint64N(256) })},
		{"bool", pq.Optional(pq.Leaf(pq.BooleanType)), 1, 0, fixed(1, func(r *rand.Rand) uint64 { return r.Uint64N(2) })},
		{"text", pq.Optional(pq.Encoded(pq.String(), &pq.Plain)), 1, 0, text(1000)},
		{"dictionary", pq.Optional(pq.Encoded(pq.String(), &pq.RLEDictionary)), 1, 0, text(5)},
		{"overflow", pq.Encoded(pq.String(), &pq.RLEDictionary), 0, 0, text(1 << 40)},
		{"decimal", pq.Optional(pq.Decimal(2, 9, pq.FixedLenByteArrayType(4))), 1, 0, fixed(4, numbers)},
		{"list", pq.Optional(pq.List(pq.Leaf(pq.DoubleType))), 2, 1, int64s},
		{"texts", pq.List(pq.Optional(pq.Encoded(pq.String(), &pq.Plain))), 2, 1, text(100)},
	}
}

// row appends a row's entries.
func (l *testLeaf) row(rng *rand.Rand, v *Values, nulls float64, want []entry) []entry {
	n := 1
	if l.maxRep > 0 {
		n = max(1, rng.IntN(5))
	}
	for i := range n {
		e := entry{rep: min(i, l.maxRep), def: l.maxDef}
		if l.maxDef > 0 && rng.Float64() < nulls {
			if e.def = rng.IntN(l.maxDef); i > 0 { // further elements are there, though they may be null
				e.def = l.maxDef
				if l.name == "texts" {
					e.def--
				}
			}
		}
		v.Entries++
		v.Def = append(v.Def, byte(e.def))
		if l.maxRep > 0 {
			v.Rep = append(v.Rep, byte(e.rep))
		}
		if e.def == l.maxDef {
			e.value = l.put(rng, v)
		}
		want = append(want, e)
		if l.maxRep > 0 && e.def < l.maxDef && (l.name != "texts" || e.def == 0) {
			break // no list, or an empty one
		}
	}
	return want
}

// Pages are read by parquet-go as they were given, their bounds hold, and the file's numbers agree.
func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	for range 20 {
		leaves := testLeaves()
		rng.Shuffle(len(leaves), func(i, j int) { leaves[i], leaves[j] = leaves[j], leaves[i] })
		root := pq.Group{}
		for _, l := range leaves {
			root[l.name] = l.node
		}
		temporary := rng.IntN(3) == 0
		var file bytes.Buffer
		w, err := NewWriter(&file, pq.NewSchema("test", root), Options{CreatedBy: "test", DictionaryBytes: 4096, Temporary: temporary})
		if err != nil {
			t.Fatal(err)
		}
		byName := map[string]*testLeaf{}
		for i := range leaves {
			byName[leaves[i].name] = &leaves[i]
		}
		var order []*testLeaf // that of the schema
		for _, f := range root.Fields() {
			order = append(order, byName[f.Name()])
		}
		want := make([][]entry, len(order))
		groups, total := 1+rng.IntN(3), int64(0)
		for range groups {
			rows := 1 + rng.IntN(3000)
			total += int64(rows)
			for i, l := range order {
				nulls := []float64{0, 0.3, 1}[rng.IntN(3)]
				for at := 0; at < rows; {
					n := min(rows-at, 1+rng.IntN(1500))
					var v Values
					for range n {
						want[i] = l.row(rng, &v, nulls, want[i])
					}
					if l.maxDef == 0 || l.maxRep == 0 && nulls == 0 && rng.IntN(2) == 0 {
						v.Def = nil
					}
					if err := w.Page(i, n, &v); err != nil {
						t.Fatalf("%s: %v", l.name, err)
					}
					at += n
				}
			}
			if err := w.EndGroup(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if w.Written() != int64(file.Len()) {
			t.Fatalf("%d bytes, %d said", file.Len(), w.Written())
		}
		f, err := pq.OpenFile(bytes.NewReader(file.Bytes()), int64(file.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if f.NumRows() != total || len(f.RowGroups()) != groups {
			t.Fatalf("%d rows in %d groups, want %d in %d", f.NumRows(), len(f.RowGroups()), total, groups)
		}
		for i, l := range order {
			got := readLeaf(t, f, i, l, temporary)
			if len(got) != len(want[i]) {
				t.Fatalf("%s: %d entries, want %d", l.name, len(got), len(want[i]))
			}
			for k := range got {
				if got[k] != want[i][k] {
					t.Fatalf("%s, entry %d: %v, want %v", l.name, k, got[k], want[i][k])
				}
			}
		}
	}
}

// readLeaf reads a leaf and looks at its page index on the way.
func readLeaf(t *testing.T, f *pq.File, leaf int, l *testLeaf, temporary bool) (all []entry) {
	t.Helper()
	for _, g := range f.RowGroups() {
		chunk := g.ColumnChunks()[leaf]
		index, err := chunk.ColumnIndex()
		if err != nil {
			t.Fatal(err)
		}
		pages := chunk.Pages()
		nulls, start := int64(0), len(all)
		for n := 0; ; n++ {
			page, err := pages.ReadPage()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", l.name, err)
			}
			vs := make([]pq.Value, page.NumValues())
			if k, err := page.Values().ReadValues(vs); k != len(vs) {
				t.Fatalf("%s: %d of %d values: %v", l.name, k, len(vs), err)
			}
			for _, v := range vs {
				e := entry{rep: v.RepetitionLevel(), def: v.DefinitionLevel()}
				if v.IsNull() {
					nulls++
					all = append(all, e)
					continue
				}
				e.value = string(v.Bytes())
				all = append(all, e)
				nan := v.Kind() == pq.Double && math.IsNaN(v.Double()) || v.Kind() == pq.Float && math.IsNaN(float64(v.Float()))
				if temporary || nan { // NaN has no place in an order
					continue
				}
				compare := chunk.Type().Compare
				if l.name == "decimal" { // signed, which the library does not know
					compare = func(a, b pq.Value) int { return cmp.Compare(bigEndian(a), bigEndian(b)) }
				}
				if index.NullPage(n) || compare(v, index.MinValue(n)) < 0 || compare(v, index.MaxValue(n)) > 0 {
					t.Fatalf("%s: %v is not within [%v, %v] of page %d", l.name, v, index.MinValue(n), index.MaxValue(n), n)
				}
			}
			pq.Release(page)
		}
		if m := chunk.(*pq.FileColumnChunk); l.maxRep == 0 && m.NullCount() != nulls || m.NumValues() != int64(len(all)-start) {
			t.Fatalf("%s: %d nulls of %d, want %d of %d", l.name, m.NullCount(), m.NumValues(), nulls, len(all)-start)
		}
		if err := pages.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func bigEndian(v pq.Value) int32 { return int32(binary.BigEndian.Uint32(v.Bytes())) }

// Mistakes of a caller are told, and a writer that fails is.
func TestMistakes(t *testing.T) {
	schema := pq.NewSchema("test", pq.Group{"a": pq.Leaf(pq.Int64Type), "b": pq.Optional(pq.Leaf(pq.Int64Type))})
	open := func() *Writer {
		w, err := NewWriter(&limited{left: 100}, schema, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	for what, v := range map[string]*Values{
		"a value cut off":         {Entries: 1, Fixed: make([]byte, 7)},
		"fewer values":            {Entries: 2, Fixed: make([]byte, 8)},
		"a null that may not be":  {Entries: 2, Def: []byte{0, 0}, Fixed: make([]byte, 8)},
		"levels of other entries": {Entries: 1, Def: []byte{0, 0}, Fixed: make([]byte, 8)},
	} {
		if err := open().Page(0, v.Entries, v); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	w := open()
	if err := w.Page(0, 1, &Values{Entries: 1, Fixed: make([]byte, 8)}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "rows") {
		t.Errorf("columns of different lengths: %v", err)
	}
	w = open()
	for i := range 2 {
		if err := w.Page(i, 1, &Values{Entries: 1, Fixed: make([]byte, 8)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); !errors.Is(err, errFull) {
		t.Errorf("a full disk: %v", err)
	}
	if _, err := NewWriter(io.Discard, pq.NewSchema("test", pq.Group{"a": pq.Leaf(pq.Int96Type)}), Options{}); err == nil {
		t.Error("INT96 is taken")
	}
}

var errFull = errors.New("no space left")

// limited is a disk with so many bytes left.
type limited struct{ left int }

func (l *limited) Write(b []byte) (int, error) {
	if len(b) > l.left {
		return 0, errFull
	}
	l.left -= len(b)
	return len(b), nil
}
