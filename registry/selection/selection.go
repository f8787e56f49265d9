// Package selection resolves what somebody asks for (a service, or a list of
// feature references) into what must be read and computed for it: the same
// resolution for lookups and for training datasets.
package selection

import (
	"context"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
)

// Request asks for features: by service or by references, not both.
type Request struct {
	Service   string
	Features  []string // feature references, as registry.ParseRef reads them
	FullNames bool     // name outputs view__feature
}

// Generations finds the generation of a view that a reference means: number 0 is
// the one that the caller reads by default (the live one for lookups, the
// revision's for training).
type Generations func(ctx context.Context, view string, number int) (registry.ViewGeneration, error)

// Selection is a resolved request. It is immutable, and safe for concurrent use.
type Selection struct {
	// Roles are the views to read, each in one role: with one set of key columns.
	Roles []Role
	// Steps are the on-demand features to compute, in an order in which each
	// reads only roles, the request, and steps before it.
	Steps []Step
	// Outputs are what was asked for, in the order asked for.
	Outputs []Output
	// Keys are the columns that identify the entities of all roles: what a spine or a
	// lookup's entity must have. Sorted by first use.
	Keys []feature.Field
	// Request are the request fields that the steps read.
	Request []feature.Field
}

// Role is one view, read for the entity that certain columns identify.
type Role struct {
	View     registry.ViewGeneration
	Keys     []int // indexes into Selection.Keys, one per join key of the view, in order
	Features []int // indexes into View.View.Features: what outputs and steps need
}

// Step is one on-demand feature in one role.
type Step struct {
	View    *registry.OnDemandView
	Feature int // index into View.Features
	Program *expr.Program
	Inputs  []Column // one per Program.Inputs()
}

// Column is a place that a value comes from; exactly one of the three is not negative.
type Column struct {
	Role    int // index into Roles…
	Feature int // … and into that role's Features
	Step    int // index into Steps
	Request int // index into Selection.Request
}

// Output is one requested feature.
type Output struct {
	Name    string // as the caller sees it: feature, prefix+feature or view__feature
	View    string
	Feature string
	Type    feature.Type
	From    Column
}

// Code is the stable code of an Error.
type Code string

// What may be wrong with a request.
const (
	UnknownService Code = "unknown_service"
	UnknownView    Code = "unknown_view"
	UnknownFeature Code = "unknown_feature"
	BadReference   Code = "bad_reference"
	NameClash      Code = "name_clash"
	Empty          Code = "no_features"
	TypeClash      Code = "type_clash" // one column is wanted with two types
)

// Error is a mistake in a request.
type Error struct {
	Code Code
	Name string // the service, view, reference or output it is about
	Msg  string // the whole sentence, with a hint where there is one
}

func (e *Error) Error() string { return e.Msg }

// Resolve resolves a request against a project. Mistakes of the request are *Error.
func Resolve(ctx context.Context, p *registry.Project, req Request, gens Generations) (*Selection, error) {
	panic("selection: being written")
}
