package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/lineage"
	"github.com/forebay/forebay/registry/selection"
)

// service compares what a service gives and what it needs to be given.
func (f *findings) service(before, after *registry.Service) error {
	was, err := shape(f.c.head.Project, before)
	if err != nil {
		return err
	}
	is, err := shape(f.c.next, after)
	if err != nil || was == nil || is == nil {
		return err
	}
	n := node(lineage.Service, after.Meta)
	f.outputs(n, was, is)

	had, needs := columnTypes(was.Keys, was.Request), columnTypes(is.Keys, is.Request)
	for _, name := range slices.Sorted(maps.Keys(needs)) {
		switch t, ok := had[name]; {
		case !ok:
			f.add(ServiceKeyNeeded, Blocking, n, nil, "Lookups and spines of service %s must have another column, %s (%s).", n.Name, name, needs[name])
		case t != needs[name]:
			f.add(ServiceKeyNeeded, Blocking, n, nil, "Column %s of lookups and spines of service %s was %s and must be %s.", name, n.Name, t, needs[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(had)) {
		if _, ok := needs[name]; !ok {
			f.add(ServiceKeyDropped, Notice, n, nil, "Lookups and spines of service %s need column %s no longer.", n.Name, name)
		}
	}
	return nil
}

// outputs compares what a service gives, by name.
func (f *findings) outputs(n lineage.Node, was, is *selection.Selection) {
	byName := func(s *selection.Selection, name string) *selection.Output {
		for i := range s.Outputs {
			if s.Outputs[i].Name == name {
				return &s.Outputs[i]
			}
		}
		return nil
	}
	for _, b := range was.Outputs {
		if a := byName(is, b.Name); a != nil {
			if a.Type != b.Type {
				f.add(ServiceOutputTypeChanged, Blocking, n, nil, "Service %s gave %s as %s and will give it as %s.", n.Name, b.Name, b.Type, a.Type)
			}
			continue
		}
		renamed := slices.IndexFunc(is.Outputs, func(a selection.Output) bool {
			return a.View == b.View && a.Feature == b.Feature && byName(was, a.Name) == nil
		})
		if renamed >= 0 {
			f.add(ServiceOutputRenamed, Blocking, n, nil, "Service %s gave %s:%s as %s and will give it as %s.", n.Name, b.View, b.Feature, b.Name, is.Outputs[renamed].Name)
		} else {
			f.add(ServiceOutputRemoved, Blocking, n, nil, "Service %s gives %s (%s:%s) no longer.", n.Name, b.Name, b.View, b.Feature)
		}
	}
}

// shape resolves a service within its project; nil if it cannot be resolved, as
// one that reads windows cannot yet.
func shape(p *registry.Project, s *registry.Service) (*selection.Selection, error) {
	own := func(_ context.Context, view string, number int) (registry.ViewGeneration, error) {
		v := p.View(view)
		if v == nil {
			return registry.ViewGeneration{}, fmt.Errorf("view %q: %w", view, registry.ErrNoRevision)
		}
		return registry.ViewGeneration{Project: p, View: v, Number: max(number, 1)}, nil
	}
	sel, err := selection.Resolve(context.Background(), p, selection.Request{Service: s.Name}, own)
	var mistake *selection.Error
	if errors.As(err, &mistake) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("service %q: %w", s.Name, err)
	}
	return sel, nil
}
