package offlinetest

import (
	"fmt"
	"math"
	"math/big"
	"slices"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// windowOracle knows what windows are by looking at every event for every one of them.
type windowOracle struct {
	v      registry.ViewGeneration
	rows   []row // that the view's filter selects, and that were known
	of     []windowFeature
	events []row // of the entity, up to the instant, by version
	t      *big.Int
}

// windowFeature is one feature: an aggregation over one window.
type windowFeature struct {
	registry.Aggregation
	length, hop feature.Duration
}

func newWindowOracle(v registry.ViewGeneration, rows []row, knownAt *int64) *windowOracle {
	o := &windowOracle{v: v}
	for _, r := range rows {
		if conditions[v.View.Filter](r) && (knownAt == nil || r.version.IngestedAt <= *knownAt) {
			o.rows = append(o.rows, r)
		}
	}
	for _, a := range v.View.Aggregations {
		for _, w := range a.Windows {
			f := windowFeature{Aggregation: a, length: w.Length()}
			if f.length != feature.Lifetime {
				f.hop = v.View.Hop(f.length)
			}
			o.of = append(o.of, f)
		}
	}
	return o
}

// at takes an entity and an instant, which may be null.
func (o *windowOracle) at(key []feature.Value, t feature.Value) {
	o.events, o.t = nil, big.NewInt(t.Int64())
	if t.IsNull() {
		return
	}
next:
	for _, r := range o.rows {
		for i, k := range o.v.JoinKeys() {
			if v := r.get(k.Name); key[i].IsNull() || v.IsNull() || !v.Equal(key[i]) {
				continue next
			}
		}
		if r.version.EventTime <= t.Int64() {
			o.events = append(o.events, r)
		}
	}
	slices.SortFunc(o.events, func(a, b row) int { return a.version.Compare(b.version) })
}

// within are the events in a feature's window: (floor(T - length, hop), T].
func (o *windowOracle) within(f windowFeature) (in []row) {
	if f.length == feature.Lifetime {
		return o.events
	}
	hop := big.NewInt(int64(f.hop))
	x := new(big.Int).Sub(o.t, big.NewInt(int64(f.length)))
	tail := x.Sub(x, new(big.Int).Mod(x, hop)) // Mod is never negative
	for _, e := range o.events {
		if big.NewInt(e.version.EventTime).Cmp(tail) > 0 {
			in = append(in, e)
		}
	}
	return in
}

// found reports whether the longest window holds an event.
func (o *windowOracle) found() bool {
	return slices.ContainsFunc(o.of, func(f windowFeature) bool { return len(o.within(f)) > 0 })
}

// differs says what is wrong with the value of a feature; "" if nothing is.
func (o *windowOracle) differs(f int, have feature.Value) string {
	w := o.of[f]
	var in []row
	var values []feature.Value
	for _, e := range o.within(w) {
		if !conditions[w.Where](e) || w.By != "" && e.get(w.By).IsNull() {
			continue
		}
		if w.Column != "" {
			v := e.get(w.Column)
			if v.IsNull() || v.Kind() == feature.Float64 && math.IsNaN(v.Float64()) {
				continue
			}
			values = append(values, v)
		}
		in = append(in, e)
	}
	if w.Function == "approx_distinct_count" {
		n := int64(distinct(values))
		if d := have.Int64() - n; have.IsNull() || d < -1-n/20 || d > 1+n/20 {
			return fmt.Sprintf("%v, want about %d", have, n)
		}
		return ""
	}
	want := o.value(w, in, values)
	if !have.Equal(want) || have.IsInvalid() != want.IsInvalid() {
		return fmt.Sprintf("%v (invalid: %v), want %v (invalid: %v), of %d events: %v", have, have.IsInvalid(), want, want.IsInvalid(), len(in), values)
	}
	return ""
}

func (o *windowOracle) value(w windowFeature, in []row, values []feature.Value) feature.Value {
	switch {
	case w.By != "":
		return byKey(w, in)
	case w.Function == "count":
		return feature.OfInt64(int64(len(in)))
	case w.Function == "distinct_count":
		n := distinct(values)
		if w.N > 0 {
			n = min(n, w.N)
		}
		return feature.OfInt64(int64(n))
	case len(values) == 0:
		return feature.Value{}
	}
	sorted := slices.Clone(values)
	slices.SortStableFunc(sorted, compareValues)
	elem := values[0].Kind()
	switch w.Function {
	case "min":
		return sorted[0]
	case "max":
		return sorted[len(sorted)-1]
	case "first":
		return values[0]
	case "last":
		return values[len(values)-1]
	case "first_n":
		return feature.OfList(elem, values[:min(w.N, len(values))])
	case "last_n":
		return feature.OfList(elem, values[max(0, len(values)-w.N):])
	case "approx_percentile":
		// The least value that at least so many percent are not above.
		k := (len(sorted)*w.N + 99) / 100
		v := sorted[max(k, 1)-1]
		if v.Kind() == feature.Int64 {
			return feature.OfFloat64(float64(v.Int64()))
		}
		return v
	case "top_k":
		return mostFrequent(sorted, w.N)
	}
	return moments(w.Function, values)
}

// compareValues orders the values of one kind: -0 before 0.
func compareValues(a, b feature.Value) int {
	less := func(a, b feature.Value) bool {
		switch a.Kind() {
		case feature.Float64:
			x, y := a.Float64(), b.Float64()
			return x < y || x == y && math.Signbit(x) && !math.Signbit(y)
		case feature.String, feature.Bytes:
			return a.Str() < b.Str()
		}
		return a.Int64() < b.Int64()
	}
	switch {
	case less(a, b):
		return -1
	case less(b, a):
		return 1
	}
	return 0
}

func distinct(values []feature.Value) int {
	sorted := slices.Clone(values)
	slices.SortFunc(sorted, compareValues)
	return len(slices.CompactFunc(sorted, func(a, b feature.Value) bool { return compareValues(a, b) == 0 }))
}

func mostFrequent(sorted []feature.Value, k int) feature.Value {
	type counted struct {
		v feature.Value
		n int
	}
	var all []counted
	for _, v := range sorted {
		if n := len(all); n > 0 && compareValues(all[n-1].v, v) == 0 {
			all[n-1].n++
		} else {
			all = append(all, counted{v, 1})
		}
	}
	slices.SortStableFunc(all, func(a, b counted) int { return b.n - a.n })
	vs := []feature.Value{}
	for _, c := range all[:min(k, len(all))] {
		vs = append(vs, c.v)
	}
	return feature.OfList(sorted[0].Kind(), vs)
}

// moments is sum, mean, variance or stddev by rational arithmetic.
func moments(function string, values []feature.Value) feature.Value {
	sum, squares := new(big.Rat), new(big.Rat)
	pos, neg := false, false
	for _, v := range values {
		x := new(big.Rat)
		if v.Kind() == feature.Int64 {
			x.SetInt64(v.Int64())
		} else if x.SetFloat64(v.Float64()) == nil {
			pos, neg = pos || v.Float64() > 0, neg || v.Float64() < 0
			continue
		}
		sum.Add(sum, x)
		squares.Add(squares, new(big.Rat).Mul(x, x))
	}
	if function == "sum" && values[0].Kind() == feature.Int64 {
		if !sum.Num().IsInt64() {
			return feature.Invalid()
		}
		return feature.OfInt64(sum.Num().Int64())
	}
	n := big.NewRat(int64(len(values)), 1)
	mean := new(big.Rat).Quo(sum, n)
	rounded := func(r *big.Rat) feature.Value {
		f, _ := r.Float64()
		switch {
		case pos && neg, !pos && !neg && math.IsInf(f, 0):
			return feature.Invalid()
		case pos:
			return feature.OfFloat64(math.Inf(1))
		case neg:
			return feature.OfFloat64(math.Inf(-1))
		}
		return feature.OfFloat64(f)
	}
	switch function {
	case "sum":
		return rounded(sum)
	case "mean":
		return rounded(mean)
	}
	if pos || neg {
		return feature.Invalid()
	}
	d := int64(len(values))
	if function == "variance" || function == "stddev" {
		if d--; d == 0 {
			return feature.Value{}
		}
	}
	v := squares.Sub(squares, mean.Mul(mean, sum))
	x, _ := v.Quo(v, big.NewRat(d, 1)).Float64()
	if math.IsInf(x, 0) {
		return feature.Invalid()
	}
	if function == "stddev" || function == "stddev_pop" {
		x = math.Sqrt(x)
	}
	return feature.OfFloat64(x)
}

// byKey is count or sum by a secondary key, as JSON; null of no event, invalid past the cap.
func byKey(w windowFeature, in []row) feature.Value {
	if len(in) == 0 {
		return feature.Value{}
	}
	keys := make([]feature.Value, len(in))
	for i, e := range in {
		keys[i] = e.get(w.By)
	}
	slices.SortFunc(keys, compareValues)
	keys = slices.CompactFunc(keys, func(a, b feature.Value) bool { return compareValues(a, b) == 0 })
	if w.N > 0 && len(keys) > w.N {
		return feature.Invalid()
	}
	out := []byte("{")
	for i, k := range keys {
		var values []feature.Value
		for _, e := range in {
			if compareValues(e.get(w.By), k) != 0 {
				continue
			}
			if w.Function == "sum" {
				values = append(values, e.get(w.Column))
			} else {
				values = append(values, feature.OfInt64(1))
			}
		}
		v := moments("sum", values)
		if v.IsInvalid() {
			return v
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(feature.AppendStringJSON(out, k.String()), ':')
		out = v.AppendJSON(out)
	}
	return feature.OfString(string(append(out, '}')))
}
