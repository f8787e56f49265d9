package plan

import (
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/lineage"
)

// Change is one difference between two states of a project. It is one of the
// Add…, Modify… and Remove… types of this package.
type Change interface {
	// Summary is the change in the form that is shown.
	Summary() Summary
	sealed()
}

// Action says what happens to a definition.
type Action string

// The actions.
const (
	Add    Action = "add"
	Modify Action = "modify"
	Remove Action = "remove"
)

// Summary is what there is to show of a change.
type Summary struct {
	Action Action `json:"action"`
	lineage.Node
	// Fields are the fields that differ, of a modification.
	Fields []Difference `json:"fields,omitempty"`
	// Generation is the view's in the new revision, and Previous that in the one
	// before: 0 where there is none.
	Generation int `json:"generation,omitempty"`
	Previous   int `json:"previous_generation,omitempty"`
}

// The changes of entities.
type (
	AddEntity    struct{ Entity *registry.Entity }
	RemoveEntity struct{ Entity *registry.Entity }
	ModifyEntity struct {
		Before, After *registry.Entity
		Fields        []Difference
	}
)

// The changes of sources.
type (
	AddSource    struct{ Source *registry.Source }
	RemoveSource struct{ Source *registry.Source }
	ModifySource struct {
		Before, After *registry.Source
		Fields        []Difference
	}
)

// The changes of feature views. A view is modified too where it is its entity or its source that
// gives its values another meaning.
type (
	AddView struct {
		View       *registry.FeatureView
		Generation int // 1, unless the registry knew a view of that name before
	}
	RemoveView struct {
		View       *registry.FeatureView
		Generation int // that it had
	}
	ModifyView struct {
		Before, After *registry.FeatureView
		Fields        []Difference
		From, To      int // generations; equal where the meaning of stored values stays
	}
)

// The changes of on-demand views.
type (
	AddOnDemandView    struct{ View *registry.OnDemandView }
	RemoveOnDemandView struct{ View *registry.OnDemandView }
	ModifyOnDemandView struct {
		Before, After *registry.OnDemandView
		Fields        []Difference
	}
)

// The changes of services.
type (
	AddService    struct{ Service *registry.Service }
	RemoveService struct{ Service *registry.Service }
	ModifyService struct {
		Before, After *registry.Service
		Fields        []Difference
	}
)

func (AddEntity) sealed()          {}
func (RemoveEntity) sealed()       {}
func (ModifyEntity) sealed()       {}
func (AddSource) sealed()          {}
func (RemoveSource) sealed()       {}
func (ModifySource) sealed()       {}
func (AddView) sealed()            {}
func (RemoveView) sealed()         {}
func (ModifyView) sealed()         {}
func (AddOnDemandView) sealed()    {}
func (RemoveOnDemandView) sealed() {}
func (ModifyOnDemandView) sealed() {}
func (AddService) sealed()         {}
func (RemoveService) sealed()      {}
func (ModifyService) sealed()      {}

func node(k lineage.Kind, m registry.Meta) lineage.Node { return lineage.Node{Kind: k, Name: m.Name} }

// Summary implements Change.
func (c AddEntity) Summary() Summary {
	return Summary{Action: Add, Node: node(lineage.Entity, c.Entity.Meta)}
}

// Summary implements Change.
func (c RemoveEntity) Summary() Summary {
	return Summary{Action: Remove, Node: node(lineage.Entity, c.Entity.Meta)}
}

// Summary implements Change.
func (c ModifyEntity) Summary() Summary {
	return Summary{Action: Modify, Node: node(lineage.Entity, c.After.Meta), Fields: c.Fields}
}

// Summary implements Change.
func (c AddSource) Summary() Summary {
	return Summary{Action: Add, Node: node(lineage.Source, c.Source.Meta)}
}

// Summary implements Change.
func (c RemoveSource) Summary() Summary {
	return Summary{Action: Remove, Node: node(lineage.Source, c.Source.Meta)}
}

// Summary implements Change.
func (c ModifySource) Summary() Summary {
	return Summary{Action: Modify, Node: node(lineage.Source, c.After.Meta), Fields: c.Fields}
}

// Summary implements Change.
func (c AddView) Summary() Summary {
	return Summary{Action: Add, Node: node(lineage.View, c.View.Meta), Generation: c.Generation}
}

// Summary implements Change.
func (c RemoveView) Summary() Summary {
	return Summary{Action: Remove, Node: node(lineage.View, c.View.Meta), Previous: c.Generation}
}

// Summary implements Change.
func (c ModifyView) Summary() Summary {
	return Summary{Action: Modify, Node: node(lineage.View, c.After.Meta), Fields: c.Fields, Generation: c.To, Previous: c.From}
}

// Summary implements Change.
func (c AddOnDemandView) Summary() Summary {
	return Summary{Action: Add, Node: node(lineage.OnDemandView, c.View.Meta)}
}

// Summary implements Change.
func (c RemoveOnDemandView) Summary() Summary {
	return Summary{Action: Remove, Node: node(lineage.OnDemandView, c.View.Meta)}
}

// Summary implements Change.
func (c ModifyOnDemandView) Summary() Summary {
	return Summary{Action: Modify, Node: node(lineage.OnDemandView, c.After.Meta), Fields: c.Fields}
}

// Summary implements Change.
func (c AddService) Summary() Summary {
	return Summary{Action: Add, Node: node(lineage.Service, c.Service.Meta)}
}

// Summary implements Change.
func (c RemoveService) Summary() Summary {
	return Summary{Action: Remove, Node: node(lineage.Service, c.Service.Meta)}
}

// Summary implements Change.
func (c ModifyService) Summary() Summary {
	return Summary{Action: Modify, Node: node(lineage.Service, c.After.Meta), Fields: c.Fields}
}
