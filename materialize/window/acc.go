package window

import (
	"cmp"
	"math"
	"slices"

	"github.com/forebay/forebay/registry/feature"
)

// acc is the partial state of one group in one tile, or of several merged.
type acc struct {
	n              int64 // values, or rows where the group has no input
	posInf, negInf int64 // of these, the infinite ones, which the sums leave out
	sum, square    Exact
	min, max       feature.Value
	firsts, lasts  []item // oldest first
	distinct       *set
	sketch         *sketches
	top            *frequent
	keys           *keyed
}

// item is one value with its version, for first and last.
type item struct {
	version feature.Version
	value   feature.Value
}

// add puts one value into the state; v is not null and not NaN.
func (a *acc) add(g *group, version feature.Version, v, by feature.Value) {
	a.n++
	switch v.Kind() {
	case feature.Int64:
		if g.sum {
			a.sum.AddInt(v.Int64())
		}
		if g.square {
			a.square.AddSquareInt(v.Int64())
		}
	case feature.Float64:
		f := v.Float64()
		switch {
		case math.IsInf(f, 1):
			a.posInf++
		case math.IsInf(f, -1):
			a.negInf++
		default:
			if g.sum {
				a.sum.AddFloat(f)
			}
			if g.square {
				a.square.AddSquareFloat(f)
			}
		}
	}
	if g.min && (a.min.IsNull() || order(v, a.min) < 0) {
		a.min = v.Clone()
	}
	if g.max && (a.max.IsNull() || order(v, a.max) > 0) {
		a.max = v.Clone()
	}
	if g.firsts > 0 {
		a.firsts = keepFirst(a.firsts, item{version, v}, g.firsts)
	}
	if g.lasts > 0 {
		a.lasts = keepLast(a.lasts, item{version, v}, g.lasts)
	}
	if g.distinct > 0 {
		a.distinct = a.distinct.add(v, g.distinct)
	}
	if g.hll || g.quantiles {
		a.sketch = a.sketch.add(g, v)
	}
	if g.top > 0 {
		a.top = a.top.add(v, 1, g.top)
	}
	if g.keys > 0 && !by.IsNull() {
		a.keys = a.keys.add(by, v, g.keys)
	}
}

// merge puts another state of the same group into this one; o stays as it is.
func (a *acc) merge(g *group, o *acc) {
	if o.n == 0 {
		return
	}
	a.n += o.n
	a.posInf += o.posInf
	a.negInf += o.negInf
	if g.sum {
		a.sum.Add(&o.sum)
	}
	if g.square {
		a.square.Add(&o.square)
	}
	if g.min && !o.min.IsNull() && (a.min.IsNull() || order(o.min, a.min) < 0) {
		a.min = o.min
	}
	if g.max && !o.max.IsNull() && (a.max.IsNull() || order(o.max, a.max) > 0) {
		a.max = o.max
	}
	for _, it := range o.firsts {
		a.firsts = keepFirst(a.firsts, it, g.firsts)
	}
	for _, it := range o.lasts {
		a.lasts = keepLast(a.lasts, it, g.lasts)
	}
	if o.distinct != nil {
		a.distinct = a.distinct.merge(o.distinct, g.distinct)
	}
	if o.sketch != nil {
		a.sketch = a.sketch.merge(g, o.sketch)
	}
	if o.top != nil {
		a.top = a.top.merge(o.top, g.top)
	}
	if o.keys != nil {
		a.keys = a.keys.merge(o.keys, g.keys)
	}
}

// reset makes the state empty and keeps what memory it can.
func (a *acc) reset() {
	a.sum.Reset()
	a.square.Reset()
	*a = acc{sum: a.sum, square: a.square, firsts: a.firsts[:0], lasts: a.lasts[:0]}
}

// keepFirst inserts an item by version and keeps the n oldest.
func keepFirst(items []item, it item, n int) []item {
	i, _ := slices.BinarySearchFunc(items, it, func(a, b item) int { return a.version.Compare(b.version) })
	if i >= n {
		return items
	}
	if len(items) == n {
		items = items[:n-1]
	}
	it.value = it.value.Clone()
	return slices.Insert(items, i, it)
}

// keepLast inserts an item by version and keeps the n newest.
func keepLast(items []item, it item, n int) []item {
	i, _ := slices.BinarySearchFunc(items, it, func(a, b item) int { return a.version.Compare(b.version) })
	if len(items) == n {
		if i == 0 {
			return items
		}
		copy(items, items[1:i])
		it.value = it.value.Clone()
		items[i-1] = it
		return items
	}
	it.value = it.value.Clone()
	return slices.Insert(items, i, it)
}

// order is a total order of the values of one kind: -0 before 0, and text byte for byte.
func order(a, b feature.Value) int {
	switch a.Kind() {
	case feature.Float64:
		if c := cmp.Compare(a.Float64(), b.Float64()); c != 0 {
			return c
		}
		return -cmp.Compare(a.Bits()>>63, b.Bits()>>63)
	case feature.String, feature.Bytes:
		return cmp.Compare(a.Str(), b.Str())
	}
	return cmp.Compare(a.Int64(), b.Int64())
}

// value is the aggregate of a merged state.
func (a *acc) value(o *output, g *group) feature.Value {
	if a.n == 0 {
		if o.fn == Count || o.fn == DistinctCount || o.fn == ApproxDistinctCount {
			return feature.OfInt64(0)
		}
		return feature.Value{}
	}
	switch o.fn {
	case Count:
		return feature.OfInt64(a.n)
	case Sum:
		if g.typ.Kind == feature.Int64 {
			if i, ok := a.sum.Int64(); ok {
				return feature.OfInt64(i)
			}
			return feature.Invalid()
		}
		return a.float(func() float64 { return a.sum.Float64() })
	case Mean:
		return a.float(func() float64 { return quotient(&a.sum, a.n) })
	case Variance, Stddev, VariancePop, StddevPop:
		return a.moment(o.fn)
	case Min:
		return a.min
	case Max:
		return a.max
	case First:
		return a.firsts[0].value
	case Last:
		return a.lasts[len(a.lasts)-1].value
	case FirstN:
		return listOf(g.typ.Kind, a.firsts[:min(o.n, len(a.firsts))])
	case LastN:
		return listOf(g.typ.Kind, a.lasts[max(0, len(a.lasts)-o.n):])
	case DistinctCount:
		return feature.OfInt64(int64(min(o.n, a.distinct.size())))
	case ApproxDistinctCount:
		return a.sketch.distinct()
	case ApproxPercentile:
		return a.sketch.percentile(o.n)
	case TopK:
		return a.top.value(g.typ.Kind, o.n)
	case CountBy, SumBy:
		return a.keys.value(o.fn, g, o.n)
	}
	return feature.Invalid()
}

// float is a float aggregate: infinite where infinities of one sign went in,
// invalid where both did or the finite values are too great.
func (a *acc) float(finite func() float64) feature.Value {
	switch {
	case a.posInf > 0 && a.negInf > 0:
		return feature.Invalid()
	case a.posInf > 0:
		return feature.OfFloat64(math.Inf(1))
	case a.negInf > 0:
		return feature.OfFloat64(math.Inf(-1))
	}
	f := finite()
	if math.IsInf(f, 0) {
		return feature.Invalid()
	}
	return feature.OfFloat64(f)
}

func (a *acc) moment(f Func) feature.Value {
	if a.posInf+a.negInf > 0 {
		return feature.Invalid()
	}
	d := a.n
	if f == Variance || f == Stddev {
		if d--; d == 0 {
			return feature.Value{}
		}
	}
	v := variance(&a.sum, &a.square, a.n, d)
	if math.IsInf(v, 0) {
		return feature.Invalid()
	}
	if f == Stddev || f == StddevPop {
		v = math.Sqrt(v)
	}
	return feature.OfFloat64(v)
}

func listOf(k feature.Kind, items []item) feature.Value {
	vs := make([]feature.Value, len(items))
	for i, it := range items {
		vs[i] = it.value
	}
	return feature.OfList(k, vs)
}
