package spec

import (
	"slices"
	"strconv"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/nearest"
)

// aggregationDecl is an aggregation and the places of its parts.
type aggregationDecl struct {
	registry.Aggregation
	function, column, by, where, name text
	n                                 item
	windows                           []windowDecl
}

// windowDecl is a window as written: 24h and 1d are one length and two names.
type windowDecl struct {
	feature.Duration
	text text
}

type hopDecl struct {
	registry.Hop
	window, hop text
}

// function says what an aggregate function takes and gives.
type function struct {
	name   string
	takes  string                  // of the column, in words
	column func(feature.Type) bool // whether it aggregates a column of the type
	gives  func(column feature.Type) feature.Type
	rows   bool // it can do without a column
	by     bool // it can do with a secondary key
	// n is what "n" means to it; nMin and nMax bound it. It is needed unless nOptional.
	n          string
	nMin, nMax int
	nOptional  bool
}

// mostKept bounds how many values an aggregate may keep of each entity.
const mostKept = 10_000

func functions() []function {
	number := func(t feature.Type) bool { return t == feature.TypeInt64 || t == feature.TypeFloat64 }
	scalar := func(t feature.Type) bool { return t.Kind >= feature.Bool && t.Kind <= feature.Timestamp }
	ordered := func(t feature.Type) bool { return number(t) || t == feature.TypeString || t == feature.TypeTimestamp }
	anything := func(feature.Type) bool { return true }
	same := func(t feature.Type) feature.Type { return t }
	always := func(t feature.Type) func(feature.Type) feature.Type {
		return func(feature.Type) feature.Type { return t }
	}
	listOf := func(t feature.Type) feature.Type { return feature.ListOf(t.Kind) }
	float, whole := always(feature.TypeFloat64), always(feature.TypeInt64)
	const numbers, scalars = "int64 or float64", "a scalar"
	return []function{
		{name: "count", takes: "anything", column: anything, gives: whole, rows: true, by: true},
		{name: "sum", takes: numbers, column: number, gives: same, by: true},
		{name: "mean", takes: numbers, column: number, gives: float},
		{name: "min", takes: "int64, float64, string or timestamp", column: ordered, gives: same},
		{name: "max", takes: "int64, float64, string or timestamp", column: ordered, gives: same},
		{name: "variance", takes: numbers, column: number, gives: float},
		{name: "stddev", takes: numbers, column: number, gives: float},
		{name: "variance_pop", takes: numbers, column: number, gives: float},
		{name: "stddev_pop", takes: numbers, column: number, gives: float},
		{name: "first", takes: scalars, column: scalar, gives: same},
		{name: "last", takes: scalars, column: scalar, gives: same},
		{name: "first_n", takes: scalars, column: scalar, gives: listOf, n: "the length of the list", nMin: 1, nMax: mostKept},
		{name: "last_n", takes: scalars, column: scalar, gives: listOf, n: "the length of the list", nMin: 1, nMax: mostKept},
		{name: "distinct_count", takes: scalars, column: scalar, gives: whole, n: "the cap", nMin: 1, nMax: mostKept, nOptional: true},
		{name: "approx_distinct_count", takes: scalars, column: scalar, gives: whole},
		{name: "approx_percentile", takes: numbers, column: number, gives: float, n: "the percentile", nMin: 1, nMax: 99},
		{name: "top_k", takes: scalars, column: scalar, gives: listOf, n: "the length of the list", nMin: 1, nMax: mostKept},
	}
}

// aggregations reads a view's aggregations.
func (l *loader) aggregations(i item) []aggregationDecl {
	var out []aggregationDecl
	for _, e := range i.list() {
		o, ok := e.object("an aggregation")
		if !ok {
			continue
		}
		a := aggregationDecl{function: o.needText("function"), column: o.text("column"), by: o.text("by")}
		if n, ok := o.get("n"); ok {
			a.n = n
			v, err := strconv.Atoi(n.raw())
			if n.kind() != "a whole number" || err != nil {
				n.wrong("a whole number")
			}
			a.N = v
		}
		if w, ok := o.get("where"); ok {
			a.where = w.expression()
		}
		if w, ok := o.need("windows"); ok {
			a.windows = l.windows(w)
		}
		a.name = o.text("name")
		l.checkColumn(a.name, "feature")
		o.finish()
		a.Function, a.Column, a.By, a.Where, a.Name = a.function.string, a.column.string, a.by.string, a.where.string, a.name.string
		for _, w := range a.windows {
			a.Windows = append(a.Windows, registry.Window(w.text.string))
		}
		out = append(out, a)
	}
	return out
}

func (l *loader) windows(i item) []windowDecl {
	var ws []windowDecl
	items := i.list()
	if len(items) == 0 && i.kind() == "a list" {
		i.report(MissingKey, "", "an aggregation needs at least one window")
	}
	for _, e := range items {
		if !e.scalar() {
			e.wrong("a duration")
			continue
		}
		t := text{e.raw(), e}
		d, ok := t.duration()
		switch {
		case !ok:
		case d == 0:
			t.report(BadDuration, "", "a window is longer than nothing")
		case slices.ContainsFunc(ws, func(w windowDecl) bool { return w.Duration == d }):
			t.report(DuplicateName, "", "the aggregation already has the window %s", t.string)
		default:
			ws = append(ws, windowDecl{d, t})
		}
	}
	return ws
}

func (l *loader) hops(i item) []hopDecl {
	var hs []hopDecl
	for _, e := range i.entries() {
		h := hopDecl{window: e.key}
		if !e.value.scalar() {
			e.value.wrong("a duration")
			continue
		}
		h.hop = text{e.value.raw(), e.value}
		var ok, ok2 bool
		h.Window, ok = h.window.duration()
		h.Hop.Hop, ok2 = h.hop.duration()
		if !ok || !ok2 {
			continue
		}
		switch {
		case h.Hop.Hop == 0 || h.Hop.Hop == feature.Lifetime:
			h.hop.report(BadHop, "", "a hop is longer than nothing and shorter than lifetime")
		case h.Window == feature.Lifetime:
			h.window.report(BadHop, "", "lifetime has no tail, and so no hop")
		case h.Hop.Hop > h.Window:
			h.hop.report(BadHop, "", "the hop of %s is longer than the window of %s", h.hop.string, h.window.string)
		default:
			hs = append(hs, h)
		}
	}
	return hs
}

// checkAggregations holds a view's aggregations against its source, and finds
// the features that they make.
func (l *loader) checkAggregations(d *viewDecl, src *sourceDecl, scope *expr.Scope) {
	if !d.windowed.given() {
		if len(d.hops) > 0 {
			d.hops[0].window.report(BadHop, "", "a hop is for windows, and the view has no aggregations")
		}
		return
	}
	if d.ttl.given() {
		d.ttl.report(TTLWithWindows, "leave it out: the windows say how far back they reach", "a view with aggregations has no ttl")
	}
	outputs := map[string]bool{}
	for i := range d.aggregations {
		a := &d.aggregations[i]
		t, ok := l.checkAggregation(a, src)
		d.whole = d.whole && ok
		l.condition(a.where, scope, src.whole)
		for _, w := range a.windows {
			name := a.output(w.text.string)
			if outputs[name] {
				w.text.report(DuplicateName, "give one of them a name", "two aggregations are called %q", name)
				continue
			}
			outputs[name] = true
			d.outputs = append(d.outputs, feature.Field{Name: name, Type: t})
			l.checkHop(d, w)
		}
	}
	d.Inputs = inputs(d, src, l.joinKeyNames(d))
	for _, h := range d.hops {
		if !slices.ContainsFunc(d.aggregations, func(a aggregationDecl) bool {
			return slices.ContainsFunc(a.Windows, func(w registry.Window) bool { return w.Length() == h.Window })
		}) {
			h.window.report(BadHop, "", "no aggregation has a window of %s", h.window.string)
		}
	}
}

// checkHop holds a window that declares no hop against the default one.
func (l *loader) checkHop(d *viewDecl, w windowDecl) {
	declared := slices.ContainsFunc(d.hops, func(h hopDecl) bool { return h.Window == w.Duration })
	if hop := registry.DefaultHop(w.Duration); !declared && w.Duration < hop {
		w.text.report(BadHop, "declare a shorter one: hop: {"+w.text.string+": 1s}", "the window of %s is smaller than its hop, which is %s where none is declared", w.text.string, hop)
	}
}

func (l *loader) joinKeyNames(d *viewDecl) []string {
	var names []string
	for _, e := range d.Entities {
		for _, k := range l.entities[e].JoinKeys {
			names = append(names, k.Name)
		}
	}
	return names
}

// inputs are what the view keeps of each event: the columns it aggregates and splits
// by under their own names, and its conditions. Where a name is that of a join key or of the instant,
// which the rows have beside them, "_" is put after it.
func inputs(d *viewDecl, src *sourceDecl, taken []string) []registry.Feature {
	var in []registry.Feature
	add := func(name, expr string, t feature.Type) {
		if slices.ContainsFunc(in, func(f registry.Feature) bool { return f.Expr == expr }) {
			return
		}
		for isInstant(name) || slices.ContainsFunc(taken, func(t string) bool { return strings.EqualFold(t, name) }) {
			name += "_"
		}
		taken = append(taken, name)
		in = append(in, registry.Feature{Field: feature.Field{Name: name, Type: t}, Expr: expr})
	}
	for _, a := range d.aggregations {
		for _, column := range []string{a.Column, a.By} {
			if i := src.Column(column); i >= 0 {
				add(column, column, src.Columns[i].Type)
			}
		}
	}
	for _, a := range d.aggregations {
		if a.Where != "" {
			add("where_"+strconv.Itoa(len(in)+1), a.Where, feature.TypeBool)
		}
	}
	return in
}

// output is the name of the feature of one window: [column_]function[_n]_window,
// or name_window. last_n with n: 5 is called last_5.
func (a *aggregationDecl) output(window string) string {
	if a.Name != "" {
		return a.Name + "_" + window
	}
	var parts []string
	if a.Column != "" {
		parts = append(parts, a.Column)
	}
	if a.n.node != nil {
		parts = append(parts, strings.TrimSuffix(a.Function, "_n"), strconv.Itoa(a.N))
	} else {
		parts = append(parts, a.Function)
	}
	return strings.Join(append(parts, window), "_")
}

// checkAggregation is the type of an aggregation's features; of no type, and
// false, if it has a mistake.
func (l *loader) checkAggregation(a *aggregationDecl, src *sourceDecl) (feature.Type, bool) {
	none := feature.Type{}
	if !a.function.given() {
		return none, false
	}
	all := functions()
	i := slices.IndexFunc(all, func(f function) bool { return f.name == a.Function })
	if i < 0 {
		var names []string
		for _, f := range all {
			names = append(names, f.name)
		}
		hint := nearest.Hint(a.Function, names)
		switch a.Function {
		case "avg", "average":
			hint = "write mean"
		case "percentile", "quantile", "median":
			hint = "write approx_percentile with n: 50"
		}
		if hint == "" {
			hint = "the functions are " + strings.Join(names, ", ")
		}
		a.function.report(BadAggregation, hint, "there is no aggregate function %q", a.Function)
		return none, false
	}
	f, ok := all[i], true
	fail := func(t text, hint, format string, args ...any) {
		t.report(BadAggregation, hint, format, args...)
		ok = false
	}
	switch {
	case a.n.node == nil && f.n != "" && !f.nOptional:
		fail(a.function, "", "%s needs the key \"n\", %s", f.name, f.n)
	case a.n.node != nil && f.n == "" && !a.by.given():
		fail(text{item: a.n}, "leave it out", "%s has no n", f.name)
	case a.n.node != nil && f.n != "" && (a.N < f.nMin || a.N > f.nMax):
		fail(text{item: a.n}, "", "n, %s, is from %d to %d", f.n, f.nMin, f.nMax)
	}
	if a.by.given() {
		if a.n.node != nil && (a.N < 1 || a.N > mostKept) {
			fail(text{item: a.n}, "", "n, the cap on the number of keys, is from 1 to %d", mostKept)
		}
		if !f.by {
			fail(a.by, "count and sum can", "%s cannot be split by a secondary key", f.name)
		} else if i := l.column(src, a.by); i >= 0 && !src.Columns[i].Type.Key() {
			fail(a.by, "", "a secondary key cannot be of type %s", src.Columns[i].Type)
		}
	}
	if !a.column.given() {
		if !f.rows {
			fail(a.function, "", "%s needs the key \"column\"", f.name)
			return none, false
		}
		if a.by.given() {
			return feature.TypeString, ok
		}
		return f.gives(none), ok
	}
	i = l.column(src, a.column)
	if i < 0 {
		return none, false
	}
	t := src.Columns[i].Type
	if !f.column(t) {
		fail(a.column, "", "%s aggregates %s, and %q is of type %s", f.name, f.takes, a.Column, t)
		return none, false
	}
	if a.by.given() {
		return feature.TypeString, ok
	}
	return f.gives(t), ok
}
