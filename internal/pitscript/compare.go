package pitscript

import (
	"math"
	"slices"

	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// rounding is how far float sums and moments may differ, of the value.
const rounding = 1e-12

// approximate are the functions whose floats depend on the order of additions.
var approximate = []string{"sum", "mean", "variance", "stddev", "variance_pop", "stddev_pop"}

// Rounded reports whether an output is a float that is computed of sums: by such a function, or on demand.
func Rounded(sel *selection.Selection, o selection.Output) bool {
	if o.Type.Kind != feature.Float64 && (o.Type.Kind != feature.List || o.Type.Elem != feature.Float64) {
		return false
	}
	if o.From.Role < 0 {
		return o.From.Step >= 0
	}
	role := sel.Roles[o.From.Role]
	index := role.Features[o.From.Feature]
	for _, a := range role.View.View.Aggregations { // features are theirs, one for each of their windows
		if index < len(a.Windows) {
			return slices.Contains(approximate, a.Function)
		}
		index -= len(a.Windows)
	}
	return false
}

// Matches reports whether a value with its status is what is expected. Numbers are compared bit for
// bit; where rounded, floats within 1e-12 of the expected value; with a tolerance, within that.
func (e *Expected) Matches(v feature.Value, s feature.Status, rounded bool) bool {
	if e.Any {
		return true
	}
	if s != e.Status {
		return false
	}
	within := e.Tolerance
	relative := e.Relative
	if within == 0 && rounded {
		within, relative = rounding, true
	}
	if e.Value.Kind() == feature.List && v.Kind() == feature.List {
		a, b := e.Value.List(), v.List()
		return len(a) == len(b) && !slices.ContainsFunc(indexes(len(a)), func(i int) bool { return !near(a[i], b[i], within, relative) })
	}
	return near(e.Value, v, within, relative)
}

func indexes(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// near reports whether two values are equal, or numbers not further apart than allowed.
func near(want, got feature.Value, within float64, relative bool) bool {
	if want.Equal(got) {
		return true
	}
	if within == 0 || want.Kind() != got.Kind() {
		return false
	}
	var a, b float64
	switch want.Kind() {
	case feature.Int64:
		a, b = float64(want.Int64()), float64(got.Int64())
	case feature.Float64:
		a, b = want.Float64(), got.Float64()
	default:
		return false
	}
	if relative {
		within *= math.Abs(a)
	}
	return math.Abs(a-b) <= within // not so for infinities and NaNs
}
