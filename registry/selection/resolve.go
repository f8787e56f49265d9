package selection

import (
	"context"
	"errors"
	"fmt"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
)

// Resolve resolves a request against a project. Mistakes of the request are *Error;
// any other error is one of gens, or of the project itself.
//
// A feature is looked for in the project's definition of its view (in that of the
// pinned generation for view@N), and then in the generation that is read. While a
// changed view is being filled these differ: a feature that the generation lacks
// resolves to an absent [Column] instead of failing, so that a service goes on
// answering with what there is.
func Resolve(ctx context.Context, p *registry.Project, req Request, gens Generations) (*Selection, error) {
	entries, names, err := entriesOf(p, req)
	if err != nil {
		return nil, err
	}
	r := &resolver{
		project: p, gens: gens, sel: &Selection{},
		definitions: map[registry.Ref]registry.ViewGeneration{},
		programs:    map[string][]*expr.Program{},
		wanted:      map[string]want{},
		named:       map[string]string{},
	}
	for _, e := range entries {
		if err := r.entry(ctx, e, names.within(e), req.FullNames); err != nil {
			return nil, err
		}
	}
	return r.sel, nil
}

// entriesOf are the entries of the request, and what renames their key columns.
func entriesOf(p *registry.Project, req Request) ([]registry.ServiceFeature, naming, error) {
	switch {
	case req.Service != "" && len(req.Features) > 0:
		return nil, naming{}, mistake(BadReference, req.Service, "the request names both service %q and a list of features: give one of the two", req.Service)
	case req.Service != "":
		s := p.Service(req.Service)
		if s == nil {
			return nil, naming{}, mistake(UnknownService, req.Service, "project %q has no service %q%s", p.Name, req.Service, hint(req.Service, serviceNames(p)))
		}
		if len(s.Features) == 0 {
			return nil, naming{}, mistake(Empty, req.Service, "service %q has no features", req.Service)
		}
		return s.Features, naming{service: s}, nil
	case len(req.Features) == 0:
		return nil, naming{}, mistake(Empty, "", "the request asks for no features: name a service or a list of feature references")
	}
	entries := make([]registry.ServiceFeature, len(req.Features))
	for i, text := range req.Features {
		ref, err := registry.ParseRef(text)
		if err != nil {
			return nil, naming{}, mistake(BadReference, text, "%v", err)
		}
		entries[i].Ref = ref
	}
	return entries, naming{}, nil
}

// resolver collects the selection of one request.
type resolver struct {
	project *registry.Project
	gens    Generations
	sel     *Selection

	definitions map[registry.Ref]registry.ViewGeneration // by view and generation asked for
	programs    map[string][]*expr.Program               // by on-demand view
	wanted      map[string]want                          // key columns and request fields, by name
	named       map[string]string                        // by output name, the reference it came from
}

// entry resolves one entry: a view's features, all or one, as outputs.
func (r *resolver) entry(ctx context.Context, e registry.ServiceFeature, names naming, fullNames bool) error {
	if v := r.project.OnDemandView(e.Ref.View); v != nil {
		return r.onDemandEntry(ctx, e, v, names, fullNames)
	}
	defined, err := r.definition(ctx, e.Ref)
	if err != nil {
		return err
	}
	features, err := asked(e.Ref, defined.Features)
	if err != nil {
		return err
	}
	g, err := r.generation(ctx, e.Ref.View, e.Ref.Generation)
	if err != nil {
		return err
	}
	for _, f := range features {
		out := Output{View: e.Ref.View, Feature: f.Name, Type: f.Type}
		if out.From, err = r.viewFeature(g, f.Name, nil, names); err != nil {
			return err
		}
		if !out.From.Absent() {
			role := r.sel.Roles[out.From.Role]
			out.Type = g.View.Features[role.Features[out.From.Feature]].Type
		}
		if err := r.output(out, e, fullNames); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) onDemandEntry(ctx context.Context, e registry.ServiceFeature, v *registry.OnDemandView, names naming, fullNames bool) error {
	if e.Ref.Generation > 0 {
		return mistake(BadReference, e.Ref.String(), "%s: on-demand view %q stores nothing and so has no generations; write %s", e.Ref, v.Name, registry.Ref{View: v.Name, Feature: e.Ref.Feature})
	}
	features, err := asked(e.Ref, v.Features)
	if err != nil {
		return err
	}
	for _, f := range features {
		from, err := r.step(ctx, v, f.Name, names)
		if err != nil {
			return err
		}
		if err := r.output(Output{View: v.Name, Feature: f.Name, Type: f.Type, From: from}, e, fullNames); err != nil {
			return err
		}
	}
	return nil
}

// definition is the view in which an entry's features are looked for.
func (r *resolver) definition(ctx context.Context, ref registry.Ref) (*registry.FeatureView, error) {
	if ref.Generation > 0 {
		g, err := r.generation(ctx, ref.View, ref.Generation)
		return g.View, err
	}
	if v := r.project.View(ref.View); v != nil {
		return v, nil
	}
	return nil, mistake(UnknownView, ref.View, "project %q has no view %q%s", r.project.Name, ref.View, hint(ref.View, viewNames(r.project)))
}

// generation finds a generation of a view, asking the caller once for each.
func (r *resolver) generation(ctx context.Context, view string, number int) (registry.ViewGeneration, error) {
	id := registry.Ref{View: view, Generation: number}
	if g, ok := r.definitions[id]; ok {
		return g, nil
	}
	g, err := r.gens(ctx, view, number)
	switch {
	case errors.Is(err, registry.ErrNoRevision) && r.project.View(view) == nil:
		return g, mistake(UnknownView, view, "project %q has no view %q%s", r.project.Name, view, hint(view, viewNames(r.project)))
	case errors.Is(err, registry.ErrNoRevision):
		return g, mistake(UnknownView, id.String(), "view %q has no generation %d in any revision that was applied", view, number)
	case err != nil:
		return g, fmt.Errorf("finding the generation of view %s: %w", id, err)
	}
	r.definitions[id] = g
	return g, nil
}

// asked are the features that a reference means.
func asked(ref registry.Ref, all []registry.Feature) ([]registry.Feature, error) {
	if len(all) == 0 {
		return nil, mistake(Empty, ref.String(), "view %q has no features to read", ref.View)
	}
	if ref.Feature == "" {
		return all, nil
	}
	for i, f := range all {
		if f.Name == ref.Feature {
			return all[i : i+1], nil
		}
	}
	names := make([]string, len(all))
	for i, f := range all {
		names[i] = f.Name
	}
	view := registry.Ref{View: ref.View, Generation: ref.Generation}
	return nil, mistake(UnknownFeature, ref.String(), "view %q has no feature %q%s", view, ref.Feature, hint(ref.Feature, names))
}

// output names a resolved feature and adds it.
func (r *resolver) output(out Output, e registry.ServiceFeature, fullNames bool) error {
	out.Name = e.Prefix + out.Feature
	if fullNames {
		out.Name = e.Prefix + out.View + "__" + out.Feature
	}
	origin := registry.Ref{View: out.View, Generation: e.Ref.Generation, Feature: out.Feature}.String()
	if e.Prefix != "" {
		origin += " with prefix " + e.Prefix
	}
	if first, clash := r.named[out.Name]; clash {
		if first == origin {
			return mistake(NameClash, out.Name, "two features are called %q: %s is asked for twice", out.Name, origin)
		}
		return mistake(NameClash, out.Name, "two features are called %q: %s and %s; part them with a prefix in a service or with full names", out.Name, first, origin)
	}
	r.named[out.Name] = origin
	r.sel.Outputs = append(r.sel.Outputs, out)
	return nil
}

// want is the type a column of the lookup or spine must have, and for what.
type want struct {
	typ feature.Type
	by  string
}

// want notes that a column is read, and refuses it if it is read as another type already.
func (r *resolver) want(f feature.Field, by string) error {
	w, ok := r.wanted[f.Name]
	if ok && w.typ != f.Type {
		return mistake(TypeClash, f.Name, "column %q is wanted as %s (%s) and as %s (%s); rename one of them with keys in a service", f.Name, w.typ, w.by, f.Type, by)
	}
	if !ok {
		r.wanted[f.Name] = want{f.Type, by}
	}
	return nil
}

func serviceNames(p *registry.Project) []string {
	names := make([]string, len(p.Services))
	for i, s := range p.Services {
		names[i] = s.Name
	}
	return names
}

func viewNames(p *registry.Project) []string {
	var names []string
	for _, v := range p.Views {
		names = append(names, v.Name)
	}
	for _, v := range p.OnDemand {
		names = append(names, v.Name)
	}
	return names
}
