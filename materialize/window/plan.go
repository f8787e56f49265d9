package window

import (
	"errors"
	"fmt"
	"slices"

	"github.com/forebay/forebay/registry/feature"
)

// Func is an aggregate function.
type Func uint8

// The aggregate functions. The numbers are not persisted.
const (
	Count Func = iota
	Sum
	Mean
	Min
	Max
	Variance // of the sample: n - 1
	Stddev
	VariancePop
	StddevPop
	First
	Last
	FirstN
	LastN
	DistinctCount
	ApproxDistinctCount
	ApproxPercentile
	TopK
	CountBy
	SumBy
)

// Aggregation is one aggregate function over one or more windows.
type Aggregation struct {
	Func  Func
	Input int          // index of the column aggregated; -1 for the rows themselves (Count, CountBy)
	Type  feature.Type // of that column
	Where int          // index of a bool column that selects rows; -1 for all
	By    int          // index of the secondary key; -1 for none
	// ByType is the type of the secondary key.
	ByType feature.Type
	// N is the length of FirstN, LastN and TopK, the cap of DistinctCount,
	// CountBy and SumBy, the percentile of ApproxPercentile (1 to 99).
	N       int
	Windows []Window
}

// Window is a length of event time and the hop to which its tail is aligned.
type Window struct {
	Length feature.Duration
	Hop    feature.Duration // ignored for Lifetime
}

// tail is the instant up to which, and including which, the window at t holds nothing.
func (w Window) tail(t int64) int64 {
	if w.Length == feature.Lifetime {
		return minInstant
	}
	return feature.FloorDiv(t-int64(w.Length), int64(w.Hop)) * int64(w.Hop)
}

// minInstant is before every instant, with room to subtract from.
const minInstant = -1 << 62

// Plan is a compiled set of aggregations. It is immutable and safe for
// concurrent use.
type Plan struct {
	groups  []group
	levels  []level
	windows []Window // distinct, by length
	outputs []output
}

// group is what is kept of one input under one condition.
type group struct {
	input, where, by int
	typ, byType      feature.Type
	sum, square      bool
	min, max         bool
	firsts, lasts    int // how many of each
	distinct         int // cap; 0 for none
	hll, quantiles   bool
	top              int // greatest k
	keys             int // cap of the secondary key; 0 for none
}

// level is a tile size, and the windows that need it.
type level struct {
	grain    int64    // microseconds; 0 for the one endless tile of lifetime windows
	retained []Window // a tile moves on once all of these have passed it
}

// output is one feature.
type output struct {
	fn     Func
	group  int
	window int
	n      int
	typ    feature.Type
}

// Compile makes a plan. Outputs are in the order of the aggregations and, for
// each, of its windows.
func Compile(aggs []Aggregation) (*Plan, error) {
	p := &Plan{}
	for _, a := range aggs {
		typ, err := ResultType(a.Func, a.Type, a.Input >= 0)
		if err != nil {
			return nil, err
		}
		g := p.group(a)
		for _, w := range a.Windows {
			if w.Length != feature.Lifetime && (w.Hop <= 0 || w.Length < w.Hop) {
				return nil, fmt.Errorf("a window of %s is smaller than its hop of %s", w.Length, w.Hop)
			}
			if w.Length == feature.Lifetime {
				w.Hop = 0
			}
			i := slices.Index(p.windows, w)
			if i < 0 {
				i = len(p.windows)
				p.windows = append(p.windows, w)
			}
			p.outputs = append(p.outputs, output{fn: a.Func, group: g, window: i, n: a.N, typ: typ})
		}
	}
	if len(p.outputs) == 0 {
		return nil, errors.New("no aggregations")
	}
	p.levels = levelsOf(p.windows)
	return p, nil
}

// group finds or makes the group of an aggregation and notes what it needs.
func (p *Plan) group(a Aggregation) int {
	i := slices.IndexFunc(p.groups, func(g group) bool { return g.input == a.Input && g.where == a.Where && g.by == a.By })
	if i < 0 {
		i = len(p.groups)
		p.groups = append(p.groups, group{input: a.Input, where: a.Where, by: a.By, typ: a.Type, byType: a.ByType})
	}
	g := &p.groups[i]
	switch a.Func {
	case Sum, Mean:
		g.sum = true
	case Variance, Stddev, VariancePop, StddevPop:
		g.sum, g.square = true, true
	case Min:
		g.min = true
	case Max:
		g.max = true
	case First:
		g.firsts = max(g.firsts, 1)
	case FirstN:
		g.firsts = max(g.firsts, a.N)
	case Last:
		g.lasts = max(g.lasts, 1)
	case LastN:
		g.lasts = max(g.lasts, a.N)
	case DistinctCount:
		g.distinct = max(g.distinct, a.N)
	case ApproxDistinctCount:
		g.hll = true
	case ApproxPercentile:
		g.quantiles = true
	case TopK:
		g.top = max(g.top, a.N)
	case CountBy, SumBy:
		g.keys = max(g.keys, a.N)
	}
	return i
}

// levelsOf derives the tile sizes. With the windows by length, the events that
// only windows i and longer can still hold need tiles of the greatest common
// divisor of those windows' hops.
func levelsOf(windows []Window) []level {
	byLength := slices.Clone(windows)
	slices.SortStableFunc(byLength, func(a, b Window) int { return cmpDuration(a.Length, b.Length) })
	var levels []level
	for i, w := range byLength {
		grain := int64(0)
		for _, o := range byLength[i:] {
			grain = gcd(grain, int64(o.Hop))
		}
		if n := len(levels); n > 0 && levels[n-1].grain == grain {
			levels[n-1].retained = append(levels[n-1].retained, w)
			continue
		}
		var earlier []Window
		if n := len(levels); n > 0 {
			earlier = levels[n-1].retained
		}
		levels = append(levels, level{grain: grain, retained: append(slices.Clip(earlier), w)})
	}
	return levels
}

func cmpDuration(a, b feature.Duration) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// limit is the instant up to which every window retained by the level has passed
// by t: a tile that ends at or before it moves on.
func (l level) limit(t int64) int64 {
	limit := int64(1<<63 - 1)
	for _, w := range l.retained {
		limit = min(limit, w.tail(t))
	}
	return limit
}

// start is the start of the tile, (start, start+grain], that an instant lies in.
func (l level) start(t int64) int64 {
	if l.grain == 0 {
		return minInstant
	}
	return feature.FloorDiv(t-1, l.grain) * l.grain
}

// Outputs are the types of the features, in order.
func (p *Plan) Outputs() []feature.Type {
	types := make([]feature.Type, len(p.outputs))
	for i, o := range p.outputs {
		types[i] = o.typ
	}
	return types
}

// Longest is the length of the longest window.
func (p *Plan) Longest() feature.Duration {
	longest := feature.Duration(0)
	for _, w := range p.windows {
		longest = max(longest, w.Length)
	}
	return longest
}

// ResultType is the type of an aggregate of a column; column says whether there is one.
func ResultType(f Func, t feature.Type, column bool) (feature.Type, error) {
	if !column {
		switch f {
		case Count:
			return feature.TypeInt64, nil
		case CountBy:
			return feature.TypeString, nil
		}
		return feature.Type{}, errors.New("the function needs a column")
	}
	number := t.Kind == feature.Int64 || t.Kind == feature.Float64
	scalar := t.Kind >= feature.Bool && t.Kind <= feature.Timestamp
	refused := func(want string) (feature.Type, error) {
		return feature.Type{}, fmt.Errorf("the function aggregates %s, not %s", want, t)
	}
	switch f {
	case Count:
		return feature.TypeInt64, nil
	case Sum:
		if !number {
			return refused("int64 or float64")
		}
		return t, nil
	case Mean, Variance, Stddev, VariancePop, StddevPop, ApproxPercentile:
		if !number {
			return refused("int64 or float64")
		}
		return feature.TypeFloat64, nil
	case Min, Max:
		if !scalar || t.Kind == feature.Bool || t.Kind == feature.Bytes {
			return refused("int64, float64, string or timestamp")
		}
		return t, nil
	case First, Last:
		if !scalar {
			return refused("a scalar")
		}
		return t, nil
	case FirstN, LastN, TopK:
		if !scalar {
			return refused("a scalar")
		}
		return feature.ListOf(t.Kind), nil
	case DistinctCount, ApproxDistinctCount:
		if !scalar {
			return refused("a scalar")
		}
		return feature.TypeInt64, nil
	case CountBy:
		return feature.TypeString, nil
	case SumBy:
		if !number {
			return refused("int64 or float64")
		}
		return feature.TypeString, nil
	}
	return feature.Type{}, fmt.Errorf("unknown function %d", f)
}
