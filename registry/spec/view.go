package spec

import (
	"errors"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/lineage"
)

// viewDecl is a feature view and the places of its parts.
type viewDecl struct {
	registry.FeatureView
	name         Position
	entities     []text
	source       text
	ttl          text
	filter       text
	features     []featureDecl
	aggregations []aggregationDecl
	hops         []hopDecl
	windowed     text // the key "aggregations"
	// outputs are the features, declared or of aggregations. One of no type
	// could not be read.
	outputs []feature.Field
	whole   bool // there are no features beside outputs
}

func (l *loader) view(o *object) {
	m, named := l.meta(o, lineage.View, "a feature view")
	before := len(l.diagnostics)
	d := &viewDecl{FeatureView: registry.FeatureView{Meta: m}, entities: o.texts("entities"), source: o.needText("source")}
	d.name = o.key("name").at()
	d.ttl = l.ttl(o, &d.TTL)
	if i, ok := o.get("filter"); ok {
		d.filter = i.expression()
		d.Filter = d.filter.string
	}
	features, hasFeatures := o.get("features")
	if hasFeatures {
		d.features = l.features(features)
	}
	aggregations, hasAggregations := o.get("aggregations")
	if hasAggregations {
		d.windowed = o.key("aggregations")
		d.aggregations = l.aggregations(aggregations)
	}
	if i, ok := o.get("hop"); ok {
		d.hops = l.hops(i)
	}
	switch {
	case hasFeatures && hasAggregations:
		d.windowed.report(BadValue, "make two views of it", "a view has either features of the newest row or aggregations")
	case !hasFeatures && !hasAggregations:
		o.item.report(EmptyView, "give it features: or aggregations:", "the view has no features")
	case hasFeatures && len(d.features) == 0 && len(l.diagnostics) == before:
		features.report(EmptyView, "", "the view has no features")
	case hasAggregations && len(d.aggregations) == 0 && len(l.diagnostics) == before:
		aggregations.report(EmptyView, "", "the view has no aggregations")
	}
	d.whole = len(l.diagnostics) == before
	for _, f := range d.features {
		d.outputs = append(d.outputs, f.Field)
	}
	if !named {
		l.nameless.views = append(l.nameless.views, d)
		return
	}
	l.views[m.Name] = d
}

// ttl reads a view's ttl. lifetime is the same as none.
func (l *loader) ttl(o *object, ttl *feature.Duration) text {
	d, t, ok := o.duration("ttl")
	switch {
	case !ok:
		return t
	case d == feature.Lifetime:
		return t
	case d == 0:
		t.report(BadDuration, "leave it out to use rows of any age", "a ttl is longer than nothing")
		return t
	}
	*ttl = d
	return t
}

// checkView holds a view against its entities and its source.
func (l *loader) checkView(d *viewDecl) {
	keys := l.viewKeys(d)
	for _, f := range d.features {
		for _, k := range keys {
			if f.Name == k.Name {
				f.name.report(NameClash, "the key is there without it", "the feature %q has the name of a join key", f.Name)
			}
		}
	}
	if !d.source.given() {
		return
	}
	src := l.sources[d.source.string]
	if src == nil {
		d.source.unknown("source", d.source.string, sortedKeys(l.sources))
		return
	}
	d.Source = src.Name
	l.checkKeyColumns(d, src)
	scope, err := expr.SourceScope(&src.Source)
	if err != nil {
		d.source.report(Expression, "", "%s", err)
		return
	}
	l.condition(d.filter, scope, src.whole)
	for _, f := range d.features {
		if f.Type.Kind != feature.Null {
			l.expression(f.expr, scope, f.Type, src.whole)
		}
	}
	l.checkAggregations(d, src, scope)
}

// viewKeys are the join keys of a view, as far as they are known.
func (l *loader) viewKeys(d *viewDecl) []feature.Field {
	d.Entities = nil
	var keys []feature.Field
	owner := map[string]string{}
	for _, t := range d.entities {
		e := l.entities[t.string]
		if e == nil {
			t.unknown("entity", t.string, sortedKeys(l.entities))
			continue
		}
		repeated := false
		for _, name := range d.Entities {
			repeated = repeated || name == e.Name
		}
		if repeated {
			t.report(DuplicateName, "", "the view already has the entity %q", e.Name)
			continue
		}
		d.Entities = append(d.Entities, e.Name)
		for _, k := range e.JoinKeys {
			if first, twice := owner[k.Name]; twice {
				t.report(BadJoinKey, "make one entity of both", "the entities %q and %q share the join key %q", first, e.Name, k.Name)
				continue
			}
			owner[k.Name] = e.Name
			keys = append(keys, k)
		}
	}
	return keys
}

// checkKeyColumns finds the join keys among the source's columns.
func (l *loader) checkKeyColumns(d *viewDecl, src *sourceDecl) {
	for _, t := range d.entities {
		e := l.entities[t.string]
		if e == nil {
			continue
		}
		for _, k := range e.JoinKeys {
			switch i := src.Column(k.Name); {
			case i < 0 && src.whole:
				t.report(MissingColumn, "a column of another outside name: "+k.Name+": {type: "+k.Type.String()+", from: …}",
					"source %q has no column %q, the join key of entity %q", src.Name, k.Name, e.Name)
			case i >= 0 && src.Columns[i].Type != k.Type:
				t.report(TypeMismatch, "", "the join key %q of entity %q is of type %s, but in source %q of type %s", k.Name, e.Name, k.Type, src.Name, src.Columns[i].Type)
			}
		}
	}
}

// expression compiles an expression and reports its mistakes. Names that are
// unknown are nobody's mistake where not all names could be read.
func (l *loader) expression(t text, scope *expr.Scope, want feature.Type, allNames bool) {
	if !t.given() {
		return
	}
	_, err := expr.Compile(t.string, scope, want)
	if err == nil {
		return
	}
	var errs expr.Errors
	if !errors.As(err, &errs) {
		t.report(Expression, "", "%s", err)
		return
	}
	for _, e := range errs {
		code := Expression
		switch e.Kind {
		case expr.UnknownName:
			if !allNames {
				continue
			}
			code = UnknownReference
		case expr.WrongResult:
			code = TypeMismatch
		}
		l.add(t.inside(e.Offset), code, e.Hint, "%s", e.Message)
	}
}

// condition is expression for what selects rows. Its type is not the writer's choice.
func (l *loader) condition(t text, scope *expr.Scope, allNames bool) {
	before := len(l.diagnostics)
	l.expression(t, scope, feature.TypeBool, allNames)
	for i := range l.diagnostics[before:] {
		if d := &l.diagnostics[before+i]; d.Code == TypeMismatch {
			d.Hint = "compare it with something: a row is taken where the expression is true"
		}
	}
}

// model is the view as the registry has it.
func (d *viewDecl) model() registry.FeatureView {
	v := d.FeatureView
	for _, f := range d.features {
		v.Features = append(v.Features, f.model())
	}
	if d.windowed.given() {
		for _, f := range d.outputs {
			v.Features = append(v.Features, registry.Feature{Field: f})
		}
	}
	for _, a := range d.aggregations {
		v.Aggregations = append(v.Aggregations, a.Aggregation)
	}
	for _, h := range d.hops {
		v.Hops = append(v.Hops, h.Hop)
	}
	return v
}
