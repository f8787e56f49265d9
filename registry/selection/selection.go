// Package selection resolves what somebody asks for (a service, or a list of
// feature references) into what must be read and computed for it: the same
// resolution for lookups and for training datasets.
//
// A role is a view of one generation read for the entity that certain columns
// identify. Entries of a service that read the same view for the same columns
// share a role, and what on-demand features need from it is read along with
// what was asked for. Columns of the entity key are called as the entry's keys
// say, else as the service's entities say, else as the join keys themselves; for
// an on-demand view that holds for the views it reads, its own inputs' too.
//
// Resolving costs as much as compiling the on-demand expressions it meets, so
// callers that ask for the same again keep the Selection.
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
// revision's for training). It returns an error that wraps
// [registry.ErrNoRevision] where there is no such generation; other errors mean
// that it could not find out.
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
	// Request are the request fields that the steps read, by first use. One may
	// have the name of a key column, and is then the same column, of the same type.
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
	Inputs  []Column // one per Program.Inputs(); an absent one is a column of nulls
}

// Column is a place that a value comes from: exactly one of Role, Step and
// Request is not negative, or none of them is and the column is absent.
//
// A column is absent where the project has a feature that the generation which
// is read does not have yet, or has with another type that an on-demand
// expression cannot take: its values are null, with status NOT_FOUND.
type Column struct {
	Role    int // index into Roles…
	Feature int // … and into that role's Features
	Step    int // index into Steps
	Request int // index into Selection.Request
}

// Absent reports whether there is nothing to read the column from: every value
// of it is null, with status NOT_FOUND.
func (c Column) Absent() bool { return c.Role < 0 && c.Step < 0 && c.Request < 0 }

func absent() Column { return Column{Role: -1, Feature: -1, Step: -1, Request: -1} }
func fromRole(role, feature int) Column {
	return Column{Role: role, Feature: feature, Step: -1, Request: -1}
}
func fromStep(step int) Column     { return Column{Role: -1, Feature: -1, Step: step, Request: -1} }
func fromRequest(field int) Column { return Column{Role: -1, Feature: -1, Step: -1, Request: field} }

// Output is one requested feature.
type Output struct {
	Name    string // as the caller sees it: feature, prefix+feature or view__feature
	View    string
	Feature string
	Type    feature.Type // of the values read: the generation's, where it differs from the project's
	From    Column
}
