// Package expr compiles the expressions of a registry and runs them over rows:
// the same CEL program in the stream, in training and in serving.
//
// cel-go parses and type-checks an expression and brings the functions; what it
// means for a value to be absent is decided here, since CEL's null is a value
// like any other and ours is SQL's. See docs/expressions.md:
//
//   - An operator or function that meets null gives null. && and || absorb it:
//     false && null is false, true || null is true.
//   - x == null and x != null test for null, whatever the reason, and give a bool.
//   - A ternary whose condition is null gives null.
//   - Overflow, division by zero (of floats too), a conversion that fails, an
//     index out of range and the like make the value invalid: a null with a
//     status of its own. Where a null and an invalid operand meet, null wins.
//   - Types are strict: int64 and float64 can be compared by order with each
//     other, and nothing else about them mixes; the result has the declared type.
//   - The same inputs give the same value, always: there is no now().
//   - Instants are floored to the microsecond after every step.
//
// Evaluation is bounded: see MaxSteps and MaxText.
package expr

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/common/types/ref"

	"github.com/forebay/forebay/registry/feature"
)

// Limits of one evaluation of one expression; what goes beyond them is invalid.
const (
	// MaxSteps is the number of list and map elements that may be visited.
	MaxSteps = 100_000
	// MaxText is the length in bytes of a string or bytes that a function may make.
	MaxText = 1 << 20
	// MaxSource is the length in code points of an expression.
	MaxSource = 10_000
)

// Input is a variable that a program reads. View is "" for a column of the
// source (in a feature view) or a field of the request (in an on-demand view).
type Input struct {
	View string
	Name string
	Type feature.Type
}

// String is the input as an expression writes it.
func (in Input) String() string {
	if in.View != "" {
		return in.View + "." + in.Name
	}
	return in.Name
}

// Program is one compiled expression. It is safe for concurrent use.
type Program struct {
	inputs []Input
	result feature.Type
	root   node // nil if the program is inputs[0] as it is
	locals int  // variables of comprehensions
}

// Inputs are the variables the program reads, each once, in the order in which
// Eval wants them. They are the program's: do not change them.
func (p *Program) Inputs() []Input { return p.inputs }

// Type is the type of the program's result.
func (p *Program) Type() feature.Type { return p.result }

// Eval appends the program's value for each of rows rows to out, a column of Type.
// in has one column per input, each of at least rows rows. It returns how many
// values could not be computed.
func (p *Program) Eval(in []*feature.Column, rows int, out *feature.Column) (invalid int) {
	return p.eval(in, rows, nil, out)
}

// eval is Eval for the rows in sel only, or for the first rows if sel is nil.
func (p *Program) eval(in []*feature.Column, rows int, sel []int, out *feature.Column) (invalid int) {
	if p.root == nil {
		return copyRows(in[0], rows, sel, out)
	}
	if sel != nil {
		rows = len(sel)
	}
	f := frame{in: in}
	if p.locals > 0 {
		f.locals = make([]ref.Val, p.locals)
	}
	for i := range rows {
		f.row = i
		if sel != nil {
			f.row = sel[i]
		}
		f.steps = MaxSteps
		v := p.root.eval(&f)
		if p.result.Kind == feature.List && !v.IsNull() {
			v = cloneList(v) // its texts may lie in an input column
		}
		if v.IsInvalid() {
			invalid++
		}
		out.Append(v)
	}
	return invalid
}

// copyRows appends the rows in sel of a column to another of its type, or the
// first rows if sel is nil. It returns how many of them are invalid.
func copyRows(in *feature.Column, rows int, sel []int, out *feature.Column) (invalid int) {
	start, fixed := out.Len, in.Type.Kind.Fixed()
	switch {
	case fixed && sel == nil:
		out.Nums = append(out.Nums, in.Nums[:rows]...)
	case fixed:
		for _, row := range sel {
			out.Nums = append(out.Nums, in.Nums[row])
		}
	}
	if sel != nil {
		rows = len(sel)
	}
	if fixed {
		if out.Len += rows; len(in.Nulls) == 0 {
			return 0
		}
	}
	for i := range rows {
		row := i
		if sel != nil {
			row = sel[i]
		}
		switch {
		case !fixed:
			out.AppendRow(in, row)
		case in.Nulls.Get(row):
			out.Nulls.Set(start + i)
			if in.Bad.Get(row) {
				out.Bad.Set(start + i)
			}
		}
		if in.Bad.Get(row) {
			invalid++
		}
	}
	return invalid
}

// cloneList copies the texts of a list, whose elements a column keeps by reference.
func cloneList(v feature.Value) feature.Value {
	if e := v.Elem(); e == feature.String || e == feature.Bytes {
		return v.Clone()
	}
	return v
}

// ErrorKind says what sort of mistake an Error is.
type ErrorKind uint8

// The sorts of mistakes in an expression.
const (
	Syntax      ErrorKind = iota // it is no CEL
	UnknownName                  // a column, view, feature or request field that does not exist
	UnknownFunction
	BadType     // an operator or function applied to what it does not take
	WrongResult // the value is of another type than declared
)

// Error is one mistake in an expression.
type Error struct {
	Kind    ErrorKind
	Offset  int    // in bytes from the start of the expression
	Message string // what is wrong
	Hint    string // what to do about it; "" if nothing sensible can be said
}

func (e *Error) Error() string {
	s := fmt.Sprintf("at %d: %s", e.Offset+1, e.Message)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Errors are the mistakes in one expression, at least one, in the order of their places.
type Errors []*Error

func (es Errors) Error() string {
	all := make([]string, len(es))
	for i, e := range es {
		all[i] = e.Error()
	}
	return strings.Join(all, "; ")
}
