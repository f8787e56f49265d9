package offlinetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// The conditions and the filter of windowed views, and what they mean.
var conditions = map[string]func(row) bool{
	"":       func(row) bool { return true },
	"flag":   func(r row) bool { return !r.get("flag").IsNull() && r.get("flag").Bool() },
	"i > 0":  func(r row) bool { return !r.get("i").IsNull() && r.get("i").Int64() > 0 },
	"i != 7": func(r row) bool { return !r.get("i").IsNull() && r.get("i").Int64() != 7 },
}

// windowFunctions are the aggregate functions, and the columns of the tests that each takes.
var windowFunctions = map[string][]string{
	"count": {"", "", "f", "s"}, "sum": {"i", "f"}, "mean": {"i", "f"}, "min": {"i", "f", "s", "t"}, "max": {"i", "f", "s", "t"},
	"variance": {"i", "f"}, "stddev": {"i", "f"}, "variance_pop": {"i", "f"}, "stddev_pop": {"i", "f"},
	"first": {"flag", "i", "f", "s", "y", "t"}, "last": {"flag", "i", "f", "s", "y", "t"}, "first_n": {"flag", "i", "s"}, "last_n": {"f", "s", "y", "t"},
	"distinct_count": {"i", "f", "s"}, "approx_distinct_count": {"i", "s"}, "approx_percentile": {"i", "f"}, "top_k": {"i", "f", "s"},
}

// windowed makes a view of random windows out of a view of newest rows, of the same keys.
func windowed(rng *rand.Rand, of registry.FeatureView, name string) registry.FeatureView {
	v := registry.FeatureView{Meta: registry.Meta{Name: name}, Source: of.Source, Entities: of.Entities}
	v.Filter = []string{"", "i != 7"}[rng.IntN(2)]
	lengths := []registry.Window{"1s", "1m", "10m", "3h", "24h", "7d", "5w", "lifetime"}
	for _, w := range lengths[:7] {
		hops := []feature.Duration{feature.Second, 7 * feature.Second, feature.Minute, feature.Hour}
		if h := hops[rng.IntN(len(hops))]; h <= w.Length() && (rng.IntN(3) == 0 || w == "1s") {
			v.Hops = append(v.Hops, registry.Hop{Window: w.Length(), Hop: h})
		} else if w == "1s" {
			v.Hops = append(v.Hops, registry.Hop{Window: w.Length(), Hop: feature.Second})
		}
	}
	functions := make([]string, 0, len(windowFunctions))
	for f := range windowFunctions {
		functions = append(functions, f)
	}
	slices.Sort(functions)
	input := func(expr string, t feature.Type) {
		if expr != "" && v.Input(expr) < 0 {
			v.Inputs = append(v.Inputs, registry.Feature{Field: feature.Field{Name: fmt.Sprint("in", len(v.Inputs)), Type: t}, Expr: expr})
		}
	}
	for n := range 2 + rng.IntN(6) {
		a := registry.Aggregation{Function: functions[rng.IntN(len(functions))], Where: []string{"", "", "flag", "i > 0"}[rng.IntN(4)]}
		a.Column = windowFunctions[a.Function][rng.IntN(len(windowFunctions[a.Function]))]
		switch a.Function {
		case "first_n", "last_n", "top_k":
			a.N = 1 + rng.IntN(4)
		case "distinct_count":
			a.N = []int{0, 2, 5}[rng.IntN(3)]
		case "approx_percentile":
			a.N = []int{1, 50, 90, 99}[rng.IntN(4)]
		case "count", "sum":
			if rng.IntN(3) == 0 {
				a.By, a.N = []string{"s", "flag", "i"}[rng.IntN(3)], []int{0, 2, 4}[rng.IntN(3)]
			}
		}
		for range 1 + rng.IntN(3) {
			w := lengths[rng.IntN(len(lengths))]
			if !slices.Contains(a.Windows, w) {
				a.Windows = append(a.Windows, w)
			}
		}
		for _, c := range []string{a.Column, a.By} {
			if c != "" {
				input(c, typeOf(c))
			}
		}
		input(a.Where, feature.TypeBool)
		for _, w := range a.Windows {
			v.Features = append(v.Features, registry.Feature{Field: feature.Field{Name: fmt.Sprintf("w%d_%s_%s", n, a.Function, w), Type: resultOf(a)}})
		}
		v.Aggregations = append(v.Aggregations, a)
	}
	return v
}

func typeOf(name string) feature.Type {
	i := slices.IndexFunc(columns, func(f feature.Field) bool { return f.Name == name })
	return columns[i].Type
}

// resultOf is the type of an aggregation's features.
func resultOf(a registry.Aggregation) feature.Type {
	switch {
	case a.By != "":
		return feature.TypeString
	case strings.HasSuffix(a.Function, "count"):
		return feature.TypeInt64
	case slices.Contains([]string{"sum", "min", "max", "first", "last"}, a.Function):
		return typeOf(a.Column)
	case slices.Contains([]string{"first_n", "last_n", "top_k"}, a.Function):
		return feature.ListOf(typeOf(a.Column).Kind)
	}
	return feature.TypeFloat64
}

// windowRow is a row with an event time that falls on either side of the edges of hops and windows.
func windowRow(rng *rand.Rand, spread int64) row {
	r := randomRow(rng, 2)
	at := rng.Int64N(spread) - spread/3
	if rng.IntN(3) == 0 {
		at = feature.FloorDiv(at, int64(feature.Minute))*int64(feature.Minute) + rng.Int64N(2)
	}
	r.version.EventTime, r.values[0] = at, feature.OfTimestamp(at)
	if rng.IntN(3) > 0 { // most sums should not overflow
		for i, f := range columns {
			switch {
			case r.values[i].IsNull() || i < 3:
			case f.Name == "i":
				r.values[i] = feature.OfInt64(rng.Int64N(9) - 1)
			case f.Name == "f":
				r.values[i] = feature.OfFloat64(float64(rng.IntN(40))/8 - 1)
			}
		}
	}
	return r
}

// testWindows: random histories (late, corrected, null, extreme), random windows, and spines, against the definition.
func testWindows(t *testing.T, s offline.Store) {
	rng := rand.New(rand.NewPCG(seed(t), 0))
	p := project()
	src := p.Source("events")
	var views []registry.ViewGeneration
	keys := []string{"all", "by_both", "by_data", "by_flag", "by_id", "by_name"}
	for i := range 6 {
		of := keys[rng.IntN(len(keys))]
		p.Views = append(p.Views, windowed(rng, *p.View(of), fmt.Sprintf("windows_%d_%s", i, of)))
	}
	for i := range p.Views {
		if p.Views[i].Windowed() {
			views = append(views, registry.ViewGeneration{Project: p, View: &p.Views[i], Number: 1})
		}
	}
	newest := view(p, "by_id", 1)
	spread := []int64{int64(20 * feature.Minute), int64(8 * feature.Hour), int64(60 * feature.Day)}[rng.IntN(3)]
	var all []row
	next := int64(0)
	for round := range 5 {
		rows := make([]row, 1+rng.IntN([]int{20, 60, 250}[rng.IntN(3)]))
		for i := range rows {
			rows[i] = windowRow(rng, spread)
			if i > 0 && rng.IntN(6) == 0 { // a correction, or a duplicate, of another event
				rows[i].values = slices.Clone(rows[rng.IntN(i)].values)
				rows[i].version.EventTime = rows[i].values[0].Int64()
			}
		}
		if rng.IntN(2) == 0 {
			appendFile(t, s, src, "f", fmt.Sprint("h", round), rows)
		} else {
			if err := appendStream(t, s, src, 1, next, rows); err != nil {
				t.Fatal(err)
			}
			next += int64(len(rows))
		}
		all = append(all, rows...)
		refresh(t, s, newest)
		for _, v := range views {
			if round == 2 && rng.IntN(2) == 0 {
				continue // what was appended comes later
			}
			st := refresh(t, s, v)
			want, bad := inputRows(v, all)
			if st.Rows != int64(len(want)) || st.BadRows != int64(bad) {
				t.Fatalf("%s: %+v; want %d rows, %d bad", v, st, len(want), bad)
			}
		}
		if round != 2 {
			checkWindows(t, s, rng, append(views, newest), all, spread)
		}
	}
	for _, v := range views {
		want, _ := inputRows(v, all)
		sameRows(t, v.String(), scan(t, s, v, offline.ScanOptions{}), want)
	}
}

// inputRows is what a windowed view should hold: every row with a whole key that its filter selects.
func inputRows(v registry.ViewGeneration, rows []row) (want []viewRow, bad int) {
next:
	for _, r := range rows {
		if !conditions[v.View.Filter](r) {
			continue
		}
		w := viewRow{version: r.version}
		for _, k := range v.JoinKeys() {
			if r.get(k.Name).IsNull() {
				bad++
				continue next
			}
			w.values = append(w.values, r.get(k.Name))
		}
		for _, in := range v.View.Inputs {
			switch value := in.Expr; {
			case value == "i > 0" && r.get("i").IsNull():
				w.values = append(w.values, feature.Value{})
			case value == "i > 0":
				w.values = append(w.values, feature.OfBool(r.get("i").Int64() > 0))
			default:
				w.values = append(w.values, r.get(value))
			}
		}
		want = append(want, w)
	}
	return want, bad
}

// randomInstant is one at which windows of the rows are likely to change.
func randomInstant(rng *rand.Rand, all []row, spread int64) int64 {
	at := all[rng.IntN(len(all))].version.EventTime
	switch rng.IntN(8) {
	case 0:
		return []int64{feature.MinTimestamp, feature.MaxTimestamp, -1 << 63, 1<<63 - 1}[rng.IntN(4)]
	case 1, 2: // the very instant of an event, or one beside it
		return at + rng.Int64N(3) - 1
	case 3, 4: // on the edge of a hop after an event
		return feature.FloorDiv(at, int64(feature.Hour))*int64(feature.Hour) + rng.Int64N(3)*int64(feature.Minute)
	}
	return rng.Int64N(2*spread) - spread/2
}

func checkWindows(t *testing.T, s offline.Store, rng *rand.Rand, views []registry.ViewGeneration, all []row, spread int64) {
	t.Helper()
	fields := []feature.Field{{Name: "when", Type: feature.TypeTimestamp}}
	fields = append(fields, columns[1:9]...)
	spine := feature.NewBatch(fields, 0)
	for range 1 + rng.IntN(120) {
		for i, f := range fields {
			c := spine.Columns[i]
			switch {
			case rng.IntN(15) == 0:
				c.AppendNull()
			case i == 0:
				c.Append(feature.OfTimestamp(randomInstant(rng, all, spread)))
			default:
				c.Append(randomValue(rng, f.Type))
			}
		}
		spine.Rows++
	}
	req := offline.JoinRequest{Timestamp: "when", Spine: batches(spine, 1+rng.IntN(100))}
	if rng.IntN(2) == 0 {
		k := rng.Int64N(6) - 1
		req.KnownAt = &k
	}
	if rng.IntN(2) == 0 {
		req.Memory = 1 << 10 // a few rows at a time then
	}
	for range 1 + rng.IntN(4) {
		r := offline.Role{View: views[rng.IntN(len(views))]}
		for _, k := range r.View.JoinKeys() {
			r.Keys = append(r.Keys, k.Name)
		}
		r.Features = rng.Perm(len(r.View.View.Features))
		r.Features = r.Features[:rng.IntN(len(r.Features)+1)]
		req.Roles = append(req.Roles, r)
	}
	back, got := join(t.Context(), t, s, req)
	if back.Rows != spine.Rows {
		t.Fatalf("%d rows back of %d", back.Rows, spine.Rows)
	}
	for k, r := range req.Roles {
		if !r.View.View.Windowed() {
			continue // told by testJoinAgainstOracle
		}
		o := newWindowOracle(r.View, all, req.KnownAt)
		for i := range spine.Rows {
			var key []feature.Value
			for _, c := range r.Keys {
				key = append(key, spine.Column(c).Value(i))
			}
			what := fmt.Sprintf("role %d (%s, known at %v), spine row %d: key %v at %v", k, r.View, req.KnownAt, i, key, spine.Columns[0].Value(i))
			o.at(key, spine.Columns[0].Value(i))
			have := got[k][i]
			want := feature.NotFound
			if o.found() {
				want = feature.Present
			}
			if have.status != want || have.version != (feature.Version{}) {
				t.Fatalf("%s: %v %+v, want %v and no version", what, have.status, have.version, want)
			}
			for n, f := range r.Features {
				if msg := o.differs(f, have.values[n]); msg != "" {
					t.Fatalf("%s: %s: %s", what, r.View.View.Features[f].Name, msg)
				}
			}
		}
	}
}

// testWindowsOfNothing: windows of a view without rows, or of an entity without, are empty.
func testWindowsOfNothing(t *testing.T, s offline.Store) {
	p := project()
	p.Views = append(p.Views, registry.FeatureView{Meta: registry.Meta{Name: "windows"}, Source: "events", Entities: []string{"id"},
		Inputs:       []registry.Feature{{Field: feature.Field{Name: "f", Type: feature.TypeFloat64}, Expr: "f"}},
		Aggregations: []registry.Aggregation{{Function: "count", Windows: []registry.Window{"1h"}}, {Function: "max", Column: "f", Windows: []registry.Window{"1h"}}},
		Features: []registry.Feature{{Field: feature.Field{Name: "count_1h", Type: feature.TypeInt64}},
			{Field: feature.Field{Name: "f_max_1h", Type: feature.TypeFloat64}}}})
	v := view(p, "windows", 1)
	if _, err := window.ForView(v.View); err != nil {
		t.Fatal(err)
	}
	spine := feature.NewBatch([]feature.Field{columns[1], {Name: "ts", Type: feature.TypeTimestamp}}, 3)
	for i := range 3 {
		spine.Columns[0].Append([]feature.Value{feature.OfInt64(1), {}, feature.OfInt64(2)}[i])
		spine.Columns[1].Append(feature.OfTimestamp(5))
		spine.Rows++
	}
	req := offline.JoinRequest{Spine: batches(spine, 10), Timestamp: "ts", Roles: []offline.Role{{View: v, Keys: []string{"id"}, Features: []int{1, 0}}}}
	check := func(what string, first feature.Status) {
		t.Helper()
		_, got := join(t.Context(), t, s, req)
		for i, r := range got[0] {
			status, count := feature.NotFound, int64(0)
			if i == 0 && first == feature.Present {
				status, count = first, 1
			}
			if r.status != status || !r.values[0].IsNull() || r.values[0].IsInvalid() || r.values[1].Int64() != count || r.values[1].IsNull() {
				t.Errorf("%s: row %d: %v %v", what, i, r.status, r.values)
			}
		}
	}
	check("no table", feature.NotFound)
	refresh(t, s, v)
	check("no log", feature.NotFound)
	r := row{values: make([]feature.Value, len(columns)), version: feature.Version{EventTime: 5}}
	r.values[0], r.values[1] = feature.OfTimestamp(5), feature.OfInt64(1) // f is null
	appendFile(t, s, p.Source("events"), "f", "h", []row{r})
	refresh(t, s, v)
	check("one event, of one entity, with a null", feature.Present)
	req.Roles[0].Snapshot = offline.NoRows
	check("the state before", feature.NotFound)
}
