package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry/feature"
)

// recordOf is a record of rows: an instant in seconds (0 for null) and a name.
func recordOf(times []int64, names []string) arrow.Record {
	at, name := feature.NewColumn("at", feature.TypeTimestamp, 0), feature.NewColumn("name", feature.TypeString, 0)
	for i, t := range times {
		if t == 0 {
			at.AppendNull()
		} else {
			at.Append(feature.OfTimestamp(t * 1e6))
		}
		name.Append(feature.OfString(names[i]))
	}
	schema := arrow.NewSchema([]arrow.Field{files.ArrowField(field("at", feature.TypeTimestamp)), files.ArrowField(field("name", feature.TypeString))}, nil)
	return array.NewRecord(schema, []arrow.Array{files.Array(at), files.Array(name)}, int64(len(times)))
}

// parts are the names in each part, of a record taken in random runs.
func parts(t *testing.T, s Split, rec arrow.Record, rng *rand.Rand) [][]string {
	t.Helper()
	out := make([][]string, s.Parts())
	for from := int64(0); from < rec.NumRows(); {
		to := min(rec.NumRows(), from+1+rng.Int64N(50))
		for p, r := range must(s.Apply(rec.NewSlice(from, to))) {
			if r == nil {
				continue
			}
			for i := range int(r.NumRows()) {
				out[p] = append(out[p], r.Column(1).(*array.String).Value(i))
			}
		}
		from = to
	}
	return out
}

func TestSplitByEntity(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var times []int64
	var names []string
	for range 5000 {
		times, names = append(times, 1), append(names, fmt.Sprint("entity ", rng.IntN(1000)))
	}
	rec := recordOf(times, names)
	s := must(SplitByEntity([]string{"name"}, 0.7, 0.2, 0.1))
	got, again := parts(t, s, rec, rng), parts(t, s, rec, rng)
	if fmt.Sprint(got) != fmt.Sprint(again) {
		t.Error("the split depends on how rows are cut into batches")
	}
	in := map[string]int{}
	total := 0
	for p, ns := range got {
		total += len(ns)
		for _, n := range ns {
			if was, ok := in[n]; ok && was != p {
				t.Fatalf("%s is in parts %d and %d", n, was, p)
			}
			in[n] = p
			// The documented hash.
			key := append([]byte{1}, binary.LittleEndian.AppendUint32(nil, uint32(len(n)))...)
			sum := sha256.Sum256(append(key, n...))
			u := float64(binary.BigEndian.Uint64(sum[:])) / 0x1p64
			if want := map[bool]int{true: 0, false: 1}[u < 0.7]; p == 0 && want != 0 || p > 0 && want == 0 || p == 2 && u < 0.9-1e-9 {
				t.Fatalf("%s, %v, is in part %d", n, u, p)
			}
		}
	}
	if total != 5000 || len(got[0]) < 3200 || len(got[0]) > 3800 || len(got[2]) < 300 {
		t.Errorf("%d, %d, %d rows", len(got[0]), len(got[1]), len(got[2]))
	}
}

func TestSplitByTime(t *testing.T) {
	rec := recordOf([]int64{5, 10, 9, 20, 19, 10}, []string{"a", "b", "c", "d", "e", "f"})
	s := must(SplitByTime("at", 10e6, 20e6))
	if got := fmt.Sprint(parts(t, s, rec, rand.New(rand.NewPCG(1, 2)))); got != "[[a c] [b e f] [d]]" {
		t.Errorf("got %s", got)
	}
	if _, err := s.Apply(recordOf([]int64{5, 0}, []string{"a", "b"})); !errors.Is(err, ErrSplit) {
		t.Errorf("got %v", err)
	}
}

func TestSplitRefused(t *testing.T) {
	for name, err := range map[string]error{
		"no cuts":      func() error { _, err := SplitByTime("at"); return err }(),
		"unsorted":     func() error { _, err := SplitByTime("at", 2, 1); return err }(),
		"one fraction": func() error { _, err := SplitByEntity([]string{"name"}, 1); return err }(),
		"sum":          func() error { _, err := SplitByEntity([]string{"name"}, 0.5, 0.4); return err }(),
		"no keys":      func() error { _, err := SplitByEntity(nil, 0.5, 0.5); return err }(),
		"column": func() error {
			_, err := must(SplitByEntity([]string{"x"}, 0.5, 0.5)).Apply(recordOf([]int64{1}, []string{"a"}))
			return err
		}(),
		"type": func() error {
			_, err := must(SplitByTime("name", 1)).Apply(recordOf([]int64{1}, []string{"a"}))
			return err
		}(),
	} {
		if !errors.Is(err, ErrSplit) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
