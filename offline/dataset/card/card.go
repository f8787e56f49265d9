// Package card describes a training dataset for the people who train with it: of each column how many
// rows, nulls and NaNs, least and greatest value, mean, and how the values are spread; and how a label's classes are
// balanced. A [Card] is JSON, and one page of HTML that needs nothing beside it.
//
// A card is made in two passes over the rows, in bounded memory: the histogram's bins follow
// from the least and the greatest value.
package card

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// Card describes a dataset.
type Card struct {
	Format  int      `json:"format"` // 1
	Dataset string   `json:"dataset,omitempty"`
	Name    string   `json:"name,omitempty"`
	Rows    int64    `json:"rows"`
	Columns []Column `json:"columns"`
	// Label is the balance of the label's classes; nil where no label was named.
	Label *Balance `json:"label,omitempty"`
}

// Column describes one column.
type Column struct {
	Name  string `json:"name"`
	Type  string `json:"type"` // Arrow's name
	Nulls int64  `json:"nulls"`
	NaNs  int64  `json:"nans,omitempty"`
	// Min and Max are of numbers, without NaNs, and of instants, as RFC 3339; "" for other types and for none.
	Min string `json:"min,omitempty"`
	Max string `json:"max,omitempty"`
	// Mean and Stddev (of the whole, not of a sample) are of the finite numbers; nil for other types and for none.
	Mean   *float64 `json:"mean,omitempty"`
	Stddev *float64 `json:"stddev,omitempty"`
	// Histogram has bins of one width from Min to Max, for numbers and instants.
	Histogram []Bin `json:"histogram,omitempty"`
	// Distinct counts the values of texts, integers and bools, up to MaxDistinct; -1 for more, 0 for other types.
	Distinct int `json:"distinct,omitempty"`
	// Top are the most frequent of them, where there are no more than MaxDistinct.
	Top []Count `json:"top,omitempty"`
}

// Bin counts values v with From <= v < To, in the last one v <= To; seconds since the Unix epoch for instants.
type Bin struct {
	From  float64 `json:"from"`
	To    float64 `json:"to"`
	Count int64   `json:"count"`
}

// Count is how often a value is there.
type Count struct {
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// Balance is how a label's classes are spread.
type Balance struct {
	Column  string  `json:"column"`
	Nulls   int64   `json:"nulls"`
	Classes []Count `json:"classes"` // most frequent first
}

const (
	// Bins is how many a histogram has.
	Bins = 20
	// MaxDistinct is how many values of a column are counted one by one.
	MaxDistinct = 1000
	// topCount is how many of the most frequent values are named.
	topCount = 10
)

// Errors of Make, to be tested with errors.Is.
var (
	ErrNoColumn = errors.New("the dataset has no such column")
	// ErrNoClasses: the label has more values than classes can be.
	ErrNoClasses = errors.New("the label has too many values to be classes")
)

// Make describes rows, which are read twice. label names the column of the classes; "" for none.
func Make(rows func() iter.Seq2[arrow.Record, error], label string) (*Card, error) {
	c := &Card{Format: 1, Columns: []Column{}}
	var cols []*tally
	for rec, err := range rows() {
		if err != nil {
			return nil, err
		}
		for i, f := range rec.Schema().Fields() {
			if i == len(cols) {
				cols = append(cols, newTally(f))
			}
			cols[i].first(rec.Column(i))
		}
		c.Rows += rec.NumRows()
	}
	for _, t := range cols {
		t.begin()
	}
	for rec, err := range rows() {
		if err != nil {
			return nil, err
		}
		for i, t := range cols {
			t.second(rec.Column(i))
		}
	}
	for _, t := range cols {
		c.Columns = append(c.Columns, t.column())
	}
	if label == "" {
		return c, nil
	}
	i := slices.IndexFunc(cols, func(t *tally) bool { return t.field.Name == label })
	if i < 0 {
		return nil, fmt.Errorf("label %q: %w", label, ErrNoColumn)
	}
	if cols[i].counts == nil {
		return nil, fmt.Errorf("label %q, %s, with more than %d values: %w", label, cols[i].field.Type, MaxDistinct, ErrNoClasses)
	}
	c.Label = &Balance{Column: label, Nulls: cols[i].nulls, Classes: cols[i].frequent(MaxDistinct)}
	return c, nil
}

// tally gathers what is told of a column.
type tally struct {
	field        arrow.Field
	number       func(arrow.Array) func(i int) float64 // nil: not a number or an instant
	instant      bool
	nulls, nans  int64
	finite       int64
	min, max     float64
	any          bool
	mean, square float64          // running, of the finite ones (Welford)
	counts       map[string]int64 // nil: too many, or of no countable type
	over         bool
	bins         []int64
}

func newTally(f arrow.Field) *tally {
	t := &tally{field: f, counts: map[string]int64{}}
	switch typ := f.Type.(type) {
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type, *arrow.Uint8Type, *arrow.Uint16Type, *arrow.Uint32Type, *arrow.Uint64Type:
		t.number = numbers
	case *arrow.Float32Type, *arrow.Float64Type:
		t.number, t.counts = numbers, nil
	case *arrow.TimestampType:
		t.instant, t.counts = true, nil
		unit := float64(typ.Unit.Multiplier()) / 1e9
		t.number = func(a arrow.Array) func(int) float64 {
			ts := a.(*array.Timestamp)
			return func(i int) float64 { return float64(ts.Value(i)) * unit }
		}
	case *arrow.BooleanType, *arrow.StringType, *arrow.LargeStringType:
	default:
		t.counts = nil
	}
	return t
}

// numbers reads an array of numbers.
func numbers(a arrow.Array) func(i int) float64 {
	switch a := a.(type) {
	case *array.Int8:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Int16:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Int32:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Int64:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Uint8:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Uint16:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Uint32:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Uint64:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Float32:
		return func(i int) float64 { return float64(a.Value(i)) }
	case *array.Float64:
		return a.Value
	}
	return func(int) float64 { return math.NaN() }
}

// first counts, and finds the bounds.
func (t *tally) first(a arrow.Array) {
	var value func(int) float64
	if t.number != nil {
		value = t.number(a)
	}
	if a.DataType().ID() == arrow.NULL {
		t.nulls += int64(a.Len())
		return
	}
	for i := range a.Len() {
		if a.IsNull(i) {
			t.nulls++
			continue
		}
		if t.counts != nil {
			t.count(a.ValueStr(i))
		}
		if value == nil {
			continue
		}
		v := value(i)
		if v != v {
			t.nans++
			continue
		}
		if !t.any || v < t.min {
			t.min = v
		}
		if !t.any || v > t.max {
			t.max = v
		}
		t.any = true
		if !math.IsInf(v, 0) {
			t.finite++
			d := v - t.mean
			t.mean += d / float64(t.finite)
			t.square += d * (v - t.mean)
		}
	}
}

func (t *tally) count(v string) {
	if _, ok := t.counts[v]; !ok && len(t.counts) == MaxDistinct {
		t.counts, t.over = nil, true
		return
	}
	t.counts[v]++
}

// begin makes the bins.
func (t *tally) begin() {
	if t.any && !math.IsInf(t.min, 0) && !math.IsInf(t.max, 0) && !math.IsInf(t.max-t.min, 0) {
		t.bins = make([]int64, Bins)
		if t.min == t.max {
			t.bins = t.bins[:1]
		}
	}
}

// second counts the bins.
func (t *tally) second(a arrow.Array) {
	if t.bins == nil {
		return
	}
	value := t.number(a)
	width := (t.max - t.min) / float64(len(t.bins))
	for i := range a.Len() {
		if a.IsNull(i) {
			continue
		}
		if v := value(i); v == v {
			bin := 0
			if width > 0 {
				bin = min(int((v-t.min)/width), len(t.bins)-1)
			}
			t.bins[bin]++
		}
	}
}

// frequent are the values, most frequent first, up to n of them.
func (t *tally) frequent(n int) []Count {
	all := make([]Count, 0, len(t.counts))
	for v, k := range t.counts {
		all = append(all, Count{v, k})
	}
	slices.SortFunc(all, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	return all[:min(n, len(all))]
}

func (t *tally) column() Column {
	c := Column{Name: t.field.Name, Type: t.field.Type.String(), Nulls: t.nulls, NaNs: t.nans, Distinct: len(t.counts)}
	if t.over {
		c.Distinct = -1
	}
	c.Top = t.frequent(topCount)
	if !t.any {
		return c
	}
	c.Min, c.Max = t.text(t.min), t.text(t.max)
	if t.finite > 0 && !t.instant {
		mean, dev := t.mean, math.Sqrt(t.square/float64(t.finite))
		if !math.IsInf(mean, 0) && mean == mean && !math.IsInf(dev, 0) && dev == dev {
			c.Mean, c.Stddev = &mean, &dev
		}
	}
	for i, n := range t.bins {
		width := (t.max - t.min) / float64(len(t.bins))
		b := Bin{From: t.min + float64(i)*width, To: t.min + float64(i+1)*width, Count: n}
		if i == len(t.bins)-1 {
			b.To = t.max
		}
		c.Histogram = append(c.Histogram, b)
	}
	return c
}

// text is a bound for people.
func (t *tally) text(v float64) string {
	if t.instant {
		return instantText(v)
	}
	return fmt.Sprint(v)
}

func instantText(seconds float64) string {
	whole := math.Floor(seconds)
	return time.Unix(int64(whole), int64((seconds-whole)*1e9)).UTC().Round(time.Microsecond).Format("2006-01-02T15:04:05.999999Z")
}
