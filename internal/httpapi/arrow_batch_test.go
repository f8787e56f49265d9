package httpapi

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"

	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// shapedPlan is a plan that has outputs and nothing else.
type shapedPlan struct {
	Plan
	sel selection.Selection
}

func (*shapedPlan) Revision() string { return "sha256:1" }

func (p *shapedPlan) Selection() *selection.Selection { return &p.sel }

// randomFound makes an answer of random types, nulls, statuses and event times, some of them shared as those of one record are.
func randomFound(rnd *rand.Rand, rows int) (*shapedPlan, *Found) {
	kinds := []feature.Type{feature.TypeBool, feature.TypeInt64, feature.TypeFloat64, feature.TypeString, feature.TypeBytes, feature.TypeTimestamp}
	plan, f := &shapedPlan{}, &Found{}
	var statuses []feature.Status
	var times []int64
	for j := range rnd.IntN(12) {
		c := feature.NewColumn(fmt.Sprint("f", j), kinds[rnd.IntN(len(kinds))], 0)
		nulls := rnd.IntN(3) // none, some, all
		if statuses == nil || rnd.IntN(2) == 0 {
			statuses, times = make([]feature.Status, rows), make([]int64, rows)
			absent := rnd.IntN(3)
			for i := range rows {
				statuses[i], times[i] = feature.Present, rnd.Int64()
				if absent > 0 && rnd.IntN(absent+1) == 0 {
					statuses[i], times[i] = feature.NotFound, NoTime
				}
			}
		}
		for range rows {
			switch {
			case nulls == 2 || nulls == 1 && rnd.IntN(2) == 0:
				c.AppendNull()
			case c.Type.Kind == feature.Bool:
				c.AppendBits(rnd.Uint64N(2))
			case c.Type.Kind.Fixed():
				c.AppendBits(rnd.Uint64() >> 2) // never NaN, which equals nothing
			default:
				c.AppendBytes(bytes.Repeat([]byte("é"), rnd.IntN(9)))
			}
		}
		plan.sel.Outputs = append(plan.sel.Outputs, selection.Output{Name: c.Name, Type: c.Type})
		f.Columns, f.Statuses, f.EventTimes = append(f.Columns, c), append(f.Statuses, statuses), append(f.EventTimes, times)
	}
	return plan, f
}

// readArrow reads a stream of one record.
func readArrow(t *testing.T, stream []byte) arrow.Record {
	t.Helper()
	r, err := ipc.NewReader(bytes.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	if !r.Next() {
		t.Fatalf("no record: %v", r.Err())
	}
	rec := r.Record()
	rec.Retain()
	if r.Next() || r.Err() != nil {
		t.Fatalf("a second record, or %v", r.Err())
	}
	return rec
}

// TestArrowBatch: what arrowBatch writes is read as what Arrow's library writes, and is not longer.
func TestArrowBatch(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	var a answerBuffer
	var shapes answerShapes
	for range 500 {
		rows := []int{0, 1, 7, 8, 63, 64, 65, rnd.IntN(200)}[rnd.IntN(8)]
		plan, f := randomFound(rnd, rows)
		r := &featuresRequest{omitStatuses: rnd.IntN(3) == 0, omitTimestamps: rnd.IntN(3) == 0}
		a.bytes = append(a.bytes[:0], "before"...)
		if err := a.append(shapes.get(plan), asArrow, f, rows, r); err != nil {
			t.Fatal(err)
		}
		schema, err := shapes.get(plan).arrow(r)
		if err != nil {
			t.Fatal(err)
		}
		library, err := appendArrowLists(nil, schema.schema, f, rows, r)
		if err != nil {
			t.Fatal(err)
		}
		ours := a.bytes[len("before"):]
		got, want := readArrow(t, ours), readArrow(t, library)
		if !got.Schema().Equal(want.Schema()) || got.NumRows() != int64(rows) || !array.RecordEqual(got, want) {
			t.Fatalf("%d rows: %.2000v\nwant %.2000v", rows, fmt.Sprint(got), fmt.Sprint(want))
		}
		for i, c := range got.Columns() {
			if c.NullN() != want.Column(i).NullN() {
				t.Fatalf("column %d has %d nulls, want %d", i, c.NullN(), want.Column(i).NullN())
			}
		}
		if len(ours) > len(library) {
			t.Fatalf("%d rows, %d columns: %d bytes, the library writes %d", rows, len(f.Columns), len(ours), len(library))
		}
	}
	if len(shapes.of) > maxShapes {
		t.Errorf("%d shapes are kept", len(shapes.of))
	}
}
