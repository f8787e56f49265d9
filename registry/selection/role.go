package selection

import (
	"fmt"
	"slices"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// naming says what join keys are called in lookups and spines.
type naming struct {
	service *registry.Service    // nil for a list of references
	entry   []registry.KeyRename // of the entry; they go before the service's
}

// within is the naming for one entry of the service.
func (n naming) within(e registry.ServiceFeature) naming {
	n.entry = e.Keys
	return n
}

// column is what a join key of an entity is called.
func (n naming) column(entity, joinKey string) string {
	for _, k := range n.entry {
		if k.JoinKey == joinKey {
			return k.To
		}
	}
	if n.service != nil {
		for _, k := range n.service.Entities {
			if k.Entity == entity && k.JoinKey == joinKey {
				return k.To
			}
		}
	}
	return joinKey
}

// viewFeature is the column of a generation's feature, in the role that the
// naming gives the view. It is absent if the generation has no such feature, or
// not of the type accepted (nil for any): then no role is read for it, but its
// key columns are still among those that a lookup may have.
func (r *resolver) viewFeature(g registry.ViewGeneration, name string, accepted *feature.Type, names naming) (Column, error) {
	keys, err := r.keys(g, names)
	if err != nil {
		return Column{}, err
	}
	index := slices.IndexFunc(g.View.Features, func(f registry.Feature) bool { return f.Name == name })
	if index < 0 || accepted != nil && g.View.Features[index].Type != *accepted {
		return absent(), nil
	}
	role := r.role(g, keys)
	features := &r.sel.Roles[role].Features
	at := slices.Index(*features, index)
	if at < 0 {
		at = len(*features)
		*features = append(*features, index)
	}
	return fromRole(role, at), nil
}

// role finds or adds the role of a generation for the entity in these key columns.
func (r *resolver) role(g registry.ViewGeneration, keys []int) int {
	for i, role := range r.sel.Roles {
		if role.View.View.Name == g.View.Name && role.View.Number == g.Number && slices.Equal(role.Keys, keys) {
			return i
		}
	}
	r.sel.Roles = append(r.sel.Roles, Role{View: g, Keys: keys})
	return len(r.sel.Roles) - 1
}

// keys finds or adds the key columns of a generation.
func (r *resolver) keys(g registry.ViewGeneration, names naming) ([]int, error) {
	var keys []int
	for _, entity := range g.View.Entities {
		for _, k := range g.Project.Entity(entity).JoinKeys {
			f := feature.Field{Name: names.column(entity, k.Name), Type: k.Type}
			if err := r.want(f, fmt.Sprintf("join key %s of %s", k.Name, g.View.Name)); err != nil {
				return nil, err
			}
			keys = append(keys, indexOrAdd(&r.sel.Keys, f))
		}
	}
	return keys, nil
}

// indexOrAdd is the index of a field in a list, which it is added to if it is not there.
func indexOrAdd(fields *[]feature.Field, f feature.Field) int {
	i := slices.Index(*fields, f)
	if i < 0 {
		i = len(*fields)
		*fields = append(*fields, f)
	}
	return i
}
