package pitscript

import (
	"slices"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Needed is the part of a project whose views and sources decide what the script sees: the views that it
// looks at, those that may refuse one of its rows, and those that a push goes to. A run on that
// part has the same result as one on all of the project, and takes less time in a large one.
func (p *Program) Needed(all *registry.Project) *registry.Project {
	views, sources := map[string]bool{}, map[string]bool{}
	add := func(v *registry.FeatureView) { views[v.Name], sources[v.Source] = true, true }
	for _, s := range p.steps {
		switch s := s.(type) {
		case *expectStep:
			for _, role := range s.selection.Roles {
				add(role.View.View)
			}
		case *refusedStep:
			sources[s.refusal.Source] = true
		case *deliverStep:
			for _, events := range s.events {
				sources[events.Source.Name] = true
				eachView(all, events.Source, func(v *registry.FeatureView) {
					if nullKey(all.JoinKeys(v), events.Rows) {
						add(v)
					}
				})
			}
		case *pushStep:
			sources[s.source.Name] = true
			eachView(all, s.source, add)
		}
	}
	part := *all
	part.Views = slices.DeleteFunc(slices.Clone(all.Views), func(v registry.FeatureView) bool { return !views[v.Name] })
	part.Sources = slices.DeleteFunc(slices.Clone(all.Sources), func(s registry.Source) bool { return !sources[s.Name] })
	part.OnDemand, part.Services = nil, nil // which the script's lookups have resolved
	return &part
}

func eachView(p *registry.Project, of *registry.Source, do func(*registry.FeatureView)) {
	for i := range p.Views {
		if p.Views[i].Source == of.Name {
			do(&p.Views[i])
		}
	}
}

// nullKey reports whether rows have a null in one of the keys.
func nullKey(keys []feature.Field, rows *feature.Batch) bool {
	return slices.ContainsFunc(keys, func(k feature.Field) bool { return len(rows.Column(k.Name).Nulls) > 0 })
}
