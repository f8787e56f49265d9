// Package expr compiles the expressions of a registry and runs them over rows:
// the same CEL program in the stream, in training and in serving.
//
// An operator that meets null gives null; && and || absorb it as CEL absorbs
// errors; == null and != null test for it. Overflow, division by zero and the
// like make the value invalid, which is a null with a status of its own.
package expr

import (
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Input is a variable that a program reads. View is "" for a column of the
// source (in a feature view) or a field of the request (in an on-demand view).
type Input struct {
	View string
	Name string
	Type feature.Type
}

// Program is one compiled expression. It is safe for concurrent use.
type Program struct{}

// Inputs are the variables the program reads, each once, in the order in which Eval wants them.
func (p *Program) Inputs() []Input { panic("expr: being written") }

// Type is the type of the program's result.
func (p *Program) Type() feature.Type { panic("expr: being written") }

// Eval appends the program's value for each of rows rows to out, a column of Type.
// in has one column per input, each of at least rows rows. It returns how many
// values could not be computed.
func (p *Program) Eval(in []*feature.Column, rows int, out *feature.Column) (invalid int) {
	panic("expr: being written")
}

// View is a compiled feature view of newest rows: source rows in, view rows out.
// It is safe for concurrent use.
type View struct{}

// Stats counts what Apply did with the rows it was given.
type Stats struct {
	Rows     int // given
	Filtered int // not selected by the filter
	NullKeys int // selected, but without a whole entity key: bad rows
	Invalid  int // values that could not be computed
}

// CompileView compiles the filter and the features of a view of p. An error is a
// mistake of the view's YAML, which validate reports with its place.
func CompileView(p *registry.Project, v *registry.FeatureView) (*View, error) {
	panic("expr: being written")
}

// Fields are the columns Apply makes: the join keys, then the features.
func (v *View) Fields() []feature.Field { panic("expr: being written") }

// Columns are the indexes of the source's columns that the view reads, in order.
func (v *View) Columns() []int { panic("expr: being written") }

// Apply appends to out one row for each row of in that the filter selects and
// whose entity key is whole, with its version. in has the source's columns, in
// the source's order; columns that are not among Columns may be nil. out has Fields.
func (v *View) Apply(in, out *feature.Batch) Stats { panic("expr: being written") }

// CompileOnDemand compiles the features of an on-demand view of p, one program
// each, in order.
func CompileOnDemand(p *registry.Project, v *registry.OnDemandView) ([]*Program, error) {
	panic("expr: being written")
}
