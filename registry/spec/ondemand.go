package spec

import (
	"slices"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/lineage"
)

// onDemandDecl is an on-demand view and the places of its parts.
type onDemandDecl struct {
	registry.OnDemandView
	inputs   []text
	request  []text // the names of Request
	features []featureDecl
	whole    bool // there are no features and request fields beside those read
}

func (l *loader) onDemandView(o *object) {
	m, named := l.meta(o, lineage.OnDemandView, "an on-demand feature view")
	before := len(l.diagnostics)
	d := &onDemandDecl{OnDemandView: registry.OnDemandView{Meta: m}, inputs: o.texts("inputs")}
	if i, ok := o.get("request"); ok {
		d.Request, d.request = l.fields(i, "request field")
	}
	if i, ok := o.get("features"); !ok {
		o.item.report(EmptyView, "give it features:", "the view has no features")
	} else if d.features = l.features(i); len(d.features) == 0 && len(l.diagnostics) == before {
		i.report(EmptyView, "", "the view has no features")
	}
	d.whole = len(l.diagnostics) == before
	if !named {
		l.nameless.onDemand = append(l.nameless.onDemand, d)
		return
	}
	l.onDemand[m.Name] = d
}

// viewNames are the names of all views, on-demand ones too.
func (l *loader) viewNames() []string {
	names := append(sortedKeys(l.views), sortedKeys(l.onDemand)...)
	slices.Sort(names)
	return names
}

// outputs are the features of a view, on-demand or not, and whether they are all
// of them; false if there is no such view.
func (l *loader) outputs(view string) (fs []feature.Field, whole, found bool) {
	if v := l.views[view]; v != nil {
		return v.outputs, v.whole, true
	}
	if v := l.onDemand[view]; v != nil {
		for _, f := range v.features {
			fs = append(fs, f.Field)
		}
		return fs, v.whole, true
	}
	return nil, false, false
}

// checkOnDemand holds an on-demand view against its inputs.
func (l *loader) checkOnDemand(d *onDemandDecl) {
	d.Inputs = nil
	var inputs []expr.Input
	whole := d.whole
	for _, t := range d.inputs {
		fs, all, found := l.outputs(t.string)
		switch {
		case !found:
			if strings.ContainsAny(t.string, ":@") {
				t.report(BadReference, "expressions say which features they read", "an input is a view's name, not the reference %q", t.string)
			} else {
				t.unknown("view", t.string, l.viewNames())
			}
			whole = false
			continue
		case slices.Contains(d.Inputs, t.string):
			t.report(DuplicateName, "", "the view already has the input %q", t.string)
			continue
		}
		d.Inputs = append(d.Inputs, t.string)
		whole = whole && all
		for _, f := range fs {
			if f.Type.Kind == feature.Null {
				whole = false // what it is cannot be said
				continue
			}
			inputs = append(inputs, expr.Input{View: t.string, Name: f.Name, Type: f.Type})
		}
	}
	for i, f := range d.Request {
		if slices.Contains(d.Inputs, f.Name) {
			d.request[i].report(NameClash, "", "the request field %q has the name of an input view", f.Name)
			continue
		}
		inputs = append(inputs, expr.Input{Name: f.Name, Type: f.Type})
	}
	scope, err := expr.NewScope(inputs)
	if err != nil {
		l.add(l.places[lineage.Node{Kind: lineage.OnDemandView, Name: d.Name}], Expression, "", "%s", err)
		return
	}
	for _, f := range d.features {
		if slices.ContainsFunc(d.Request, func(r feature.Field) bool { return r.Name == f.Name }) {
			f.name.report(NameClash, "", "the feature %q has the name of a request field", f.Name)
		}
		if f.Type.Kind != feature.Null {
			l.expression(f.expr, scope, f.Type, whole)
		}
	}
}

// checkCycles reports each cycle among on-demand views once, at the input that
// closes it.
func (l *loader) checkCycles() {
	const (
		open = 1 + iota
		done
	)
	state := map[string]int{}
	var path []string
	var visit func(name string)
	visit = func(name string) {
		state[name] = open
		path = append(path, name)
		for _, t := range l.onDemand[name].inputs {
			if l.onDemand[t.string] == nil {
				continue
			}
			switch state[t.string] {
			case 0:
				visit(t.string)
			case open:
				cycle := append(slices.Clone(path[slices.Index(path, t.string):]), t.string)
				t.report(Cycle, "", "on-demand views read each other: %s", strings.Join(cycle, " reads "))
			}
		}
		path = path[:len(path)-1]
		state[name] = done
	}
	for _, name := range sortedKeys(l.onDemand) {
		if state[name] == 0 {
			visit(name)
		}
	}
}

// model is the view as the registry has it.
func (d *onDemandDecl) model() registry.OnDemandView {
	v := d.OnDemandView
	for _, f := range d.features {
		v.Features = append(v.Features, f.model())
	}
	return v
}
