package window

import (
	"fmt"
	"math"
	"slices"

	"github.com/apache/datasketches-go/common"
	"github.com/apache/datasketches-go/frequencies"
	"github.com/apache/datasketches-go/hll"
	"github.com/apache/datasketches-go/kll"

	"github.com/forebay/forebay/registry/feature"
)

// The sketches are those of Apache DataSketches, with its serial forms.
const (
	// hllBits is the logarithm of the number of HLL buckets: a standard error of 1.6 %.
	hllBits = 12
	// kllK is the size of a quantile sketch: a rank error of 1.33 % with 99 % confidence.
	kllK = 200
	// topKeys is the number of keys that a frequency sketch tracks: counts are
	// exact while there are no more than three quarters of as many distinct ones.
	topKeys = 1024
)

const maxFinite = math.MaxFloat64

func ofFloatBits(u uint64) feature.Value { return feature.OfFloat64(math.Float64frombits(u)) }

// sketches are the approximate states of a group.
type sketches struct {
	hll hll.HllSketch
	// union is hll with what was merged into it since; nil if nothing was.
	union hll.Union
	kll   *kll.ItemsSketch[float64]
	fail  error // a sketch that cannot be used: the value is invalid
}

func (s *sketches) add(g *group, v feature.Value) *sketches {
	if s == nil {
		s = newSketches(g)
	}
	s.settle()
	if s.fail != nil {
		return s
	}
	if g.hll {
		switch v.Kind() {
		case feature.String, feature.Bytes:
			s.fail = s.hll.UpdateSlice(hllText(v.Bytes()))
		default:
			s.fail = s.hll.UpdateUInt64(v.Bits())
		}
	}
	if g.quantiles {
		s.kll.Update(number(v))
	}
	return s
}

// hllText marks text, so that the empty string, which the library skips, counts.
func hllText(b []byte) []byte { return append([]byte{'s'}, b...) }

func number(v feature.Value) float64 {
	if v.Kind() == feature.Int64 {
		return float64(v.Int64())
	}
	return v.Float64()
}

func newSketches(g *group) *sketches {
	s := &sketches{}
	if g.hll {
		s.hll, s.fail = hll.NewHllSketch(hllBits, hll.TgtHllTypeHll8)
	}
	if g.quantiles && s.fail == nil {
		s.kll, s.fail = kll.NewKllItemsSketch(kllK, 8, common.ItemSketchDoubleComparator(false), common.ItemSketchDoubleSerDe{})
	}
	return s
}

func (s *sketches) merge(g *group, o *sketches) *sketches {
	if s == nil {
		s = newSketches(g)
	}
	if s.fail != nil {
		return s
	}
	if s.fail = o.fail; s.fail != nil {
		return s
	}
	if g.hll {
		if s.union == nil {
			if s.union, s.fail = hll.NewUnion(hllBits); s.fail == nil {
				s.fail = s.union.UpdateSketch(s.hll)
			}
		}
		if o.settle(); s.fail == nil {
			s.fail = o.fail
		}
		if s.fail == nil {
			s.fail = s.union.UpdateSketch(o.hll)
		}
	}
	if g.quantiles {
		s.kll.Merge(o.kll)
	}
	return s
}

// settle makes hll whole: a union is kept while more may be merged into it, since its result costs a copy.
func (s *sketches) settle() {
	if s.union != nil && s.fail == nil {
		s.hll, s.fail = s.union.GetResult(hll.TgtHllTypeHll8)
		s.union = nil
	}
}

func (s *sketches) distinct() feature.Value {
	s.settle()
	if s.fail != nil {
		return feature.Invalid()
	}
	n, err := s.hll.GetEstimate()
	if err != nil {
		return feature.Invalid()
	}
	return feature.OfInt64(int64(math.Round(n)))
}

func (s *sketches) percentile(p int) feature.Value {
	if s.fail != nil {
		return feature.Invalid()
	}
	q, err := s.kll.GetQuantile(float64(p)/100, true)
	if err != nil {
		return feature.Invalid()
	}
	return feature.OfFloat64(q)
}

// frequent counts values for top_k.
type frequent struct {
	sketch *frequencies.ItemsSketch[string]
	fail   error
}

func newFrequent() *frequent {
	s, err := frequencies.NewFrequencyItemsSketchWithMaxMapSize[string](topKeys, common.ItemSketchStringHasher{}, common.ItemSketchStringSerDe{})
	return &frequent{s, err}
}

func (f *frequent) add(v feature.Value, n int64, _ int) *frequent {
	if f == nil {
		f = newFrequent()
	}
	if f.fail == nil {
		f.fail = f.sketch.UpdateMany(cell(v), n)
	}
	return f
}

func (f *frequent) merge(o *frequent, _ int) *frequent {
	if f == nil {
		f = newFrequent()
	}
	if f.fail == nil {
		f.fail = o.fail
	}
	if f.fail == nil {
		f.sketch, f.fail = f.sketch.Merge(o.sketch)
	}
	return f
}

// value lists the k most frequent values.
func (f *frequent) value(kind feature.Kind, k int) feature.Value {
	if f.fail != nil {
		return feature.Invalid()
	}
	rows, err := f.sketch.GetFrequentItemsWithThreshold(0, frequencies.ErrorTypeEnum.NoFalseNegatives)
	if err != nil {
		return feature.Invalid()
	}
	all := make([]counted, 0, len(rows))
	for _, r := range rows {
		v, ok := uncell(kind, r.GetItem())
		if !ok {
			return feature.Invalid()
		}
		all = append(all, counted{v, r.GetEstimate()})
	}
	return mostCounted(all, kind, k)
}

// counted is a value and how often it came.
type counted struct {
	v feature.Value
	n int64
}

// mostCounted lists the k most frequent values, the most frequent first, equals by value.
func mostCounted(all []counted, kind feature.Kind, k int) feature.Value {
	slices.SortFunc(all, func(a, b counted) int {
		switch {
		case a.n > b.n:
			return -1
		case a.n < b.n:
			return 1
		}
		return order(a.v, b.v)
	})
	vs := make([]feature.Value, min(k, len(all)))
	for i := range vs {
		vs[i] = all[i].v
	}
	return feature.OfList(kind, vs)
}

// decoded wraps an error of the library's decoders.
func decoded(what string, err error) error {
	if err != nil {
		return fmt.Errorf("a %s sketch: %w", what, err)
	}
	return nil
}
