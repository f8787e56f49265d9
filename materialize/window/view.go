package window

import (
	"fmt"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// The caps of aggregates that declare none: what one entity keeps is bounded.
const (
	DefaultDistinct = 10_000 // values of distinct_count
	DefaultKeys     = 1_000  // secondary keys of count and sum
)

// ForView compiles a windowed view's aggregations. The plan's input columns are
// the view's Inputs, and its outputs the view's Features, each in order.
func ForView(v *registry.FeatureView) (*Plan, error) {
	var aggs []Aggregation
	for _, d := range v.Aggregations {
		a := Aggregation{Input: v.Input(d.Column), Where: v.Input(d.Where), By: v.Input(d.By), N: d.N}
		missing := func(expr string, at int) bool { return expr != "" && at < 0 }
		if missing(d.Column, a.Input) || missing(d.Where, a.Where) || missing(d.By, a.By) {
			return nil, fmt.Errorf("view %q: %s: the view does not keep an input of it", v.Name, d.Function)
		}
		var ok bool
		if a.Func, ok = funcOf(d.Function, d.By != ""); !ok {
			return nil, fmt.Errorf("view %q: there is no aggregate function %q", v.Name, d.Function)
		}
		if a.Input >= 0 {
			a.Type = v.Inputs[a.Input].Type
		}
		if a.By >= 0 {
			a.ByType = v.Inputs[a.By].Type
		}
		switch {
		case a.N > 0:
		case a.Func == DistinctCount:
			a.N = DefaultDistinct
		case a.Func == CountBy, a.Func == SumBy:
			a.N = DefaultKeys
		}
		for _, w := range d.Windows {
			length := w.Length()
			hop := feature.Duration(0)
			if length != feature.Lifetime {
				hop = v.Hop(length)
			}
			a.Windows = append(a.Windows, Window{Length: length, Hop: hop})
		}
		aggs = append(aggs, a)
	}
	p, err := Compile(aggs)
	if err != nil {
		return nil, fmt.Errorf("view %q: %w", v.Name, err)
	}
	return p, nil
}

// funcOf is the function of a name; by says whether it is split by a secondary key.
func funcOf(name string, by bool) (Func, bool) {
	f, ok := map[string]Func{
		"count": Count, "sum": Sum, "mean": Mean, "min": Min, "max": Max,
		"variance": Variance, "stddev": Stddev, "variance_pop": VariancePop, "stddev_pop": StddevPop,
		"first": First, "last": Last, "first_n": FirstN, "last_n": LastN,
		"distinct_count": DistinctCount, "approx_distinct_count": ApproxDistinctCount,
		"approx_percentile": ApproxPercentile, "top_k": TopK,
	}[name]
	switch {
	case by && f == Count:
		f = CountBy
	case by && f == Sum:
		f = SumBy
	}
	return f, ok
}
