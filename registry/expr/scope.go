package expr

import (
	"errors"
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/stdlib"
	"github.com/google/cel-go/ext"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Scope is the set of variables that the expressions of one view may read.
// It is immutable and safe for concurrent use.
type Scope struct {
	env    *cel.Env
	inputs []Input
	byName map[string]int  // index into inputs, by Input.String
	views  map[string]bool // the views among the inputs
}

// NewScope makes the scope of the given variables. Of two that are written
// alike, the later one is an error.
func NewScope(inputs []Input) (*Scope, error) {
	base, err := baseEnv()
	if err != nil {
		return nil, err
	}
	s := &Scope{inputs: inputs, byName: make(map[string]int, len(inputs)), views: map[string]bool{}}
	vars := make([]cel.EnvOption, len(inputs))
	for i, in := range inputs {
		name := in.String()
		if _, twice := s.byName[name]; twice {
			return nil, fmt.Errorf("two inputs are called %q", name)
		}
		s.byName[name] = i
		if in.View != "" {
			s.views[in.View] = true
		}
		vars[i] = cel.Variable(name, celType(in.Type))
	}
	s.env, err = base.Extend(vars...)
	return s, err
}

// SourceScope is the scope of feature views of a source: its columns.
func SourceScope(src *registry.Source) (*Scope, error) {
	inputs := make([]Input, len(src.Columns))
	for i, c := range src.Columns {
		inputs[i] = Input{Name: c.Name, Type: c.Type}
	}
	return NewScope(inputs)
}

// OnDemandScope is the scope of an on-demand view of p: the features of its
// inputs, then the fields of the request. Inputs that p does not have are left out.
func OnDemandScope(p *registry.Project, v *registry.OnDemandView) (*Scope, error) {
	var inputs []Input
	for _, name := range v.Inputs {
		var features []registry.Feature
		if view := p.View(name); view != nil {
			features = view.Features
		} else if view := p.OnDemandView(name); view != nil {
			features = view.Features
		}
		for _, f := range features {
			inputs = append(inputs, Input{View: name, Name: f.Name, Type: f.Type})
		}
	}
	for _, f := range v.Request {
		inputs = append(inputs, Input{Name: f.Name, Type: f.Type})
	}
	return NewScope(inputs)
}

// names lists the variables as expressions write them.
func (s *Scope) names() []string {
	ns := make([]string, len(s.inputs))
	for i, in := range s.inputs {
		ns[i] = in.String()
	}
	return ns
}

// nullFunction stands for the literal null where it is not compared with: a
// value of whatever type its place wants.
const nullFunction = "@null"

// isNullFunction stands for a comparison with the literal null.
const isNullFunction = "@is_null"

// baseEnv is the language without variables: CEL's functions and macros but
// for type() and dyn(), which would undo the type checking, and the string and
// math extensions. The names of CEL's types are no variables in it, so that a
// column may be called bytes or timestamp.
var baseEnv = sync.OnceValues(func() (*cel.Env, error) {
	a := cel.TypeParamType("A")
	opts := []cel.EnvOption{
		cel.Macros(cel.StandardMacros...),
		ext.Strings(ext.StringsVersion(5)),
		ext.Math(),
		cel.CrossTypeNumericComparisons(true),
		cel.HomogeneousAggregateLiterals(),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals()),
		cel.ParserExpressionSizeLimit(MaxSource),
		cel.ParserRecursionLimit(100),
		cel.Function(nullFunction, cel.Overload("null_literal", nil, a)),
		cel.Function(isNullFunction, cel.Overload("is_null", []*cel.Type{a}, cel.BoolType)),
	}
	for _, f := range stdlib.Functions() {
		if f.Name() != "type" && f.Name() != "dyn" {
			opts = append(opts, cel.FunctionDecls(f))
		}
	}
	env, err := cel.NewCustomEnv(opts...)
	if err != nil {
		err = errors.Join(errors.New("set up CEL"), err)
	}
	return env, err
})

// celType is the type that a value of t has in an expression.
func celType(t feature.Type) *cel.Type {
	switch t.Kind {
	case feature.Bool:
		return cel.BoolType
	case feature.Int64:
		return cel.IntType
	case feature.Float64:
		return cel.DoubleType
	case feature.String:
		return cel.StringType
	case feature.Bytes:
		return cel.BytesType
	case feature.Timestamp:
		return cel.TimestampType
	case feature.List:
		return cel.ListType(celType(feature.Type{Kind: t.Elem}))
	case feature.Embedding:
		return cel.ListType(cel.DoubleType)
	}
	panic("expr: a variable of type " + t.String())
}

// featureType is the feature type whose values are of the CEL type t.
func featureType(t *cel.Type) (feature.Type, bool) {
	switch t.Kind() {
	case cel.BoolKind:
		return feature.TypeBool, true
	case cel.IntKind:
		return feature.TypeInt64, true
	case cel.DoubleKind:
		return feature.TypeFloat64, true
	case cel.StringKind:
		return feature.TypeString, true
	case cel.BytesKind:
		return feature.TypeBytes, true
	case cel.TimestampKind:
		return feature.TypeTimestamp, true
	case cel.ListKind:
		if e, ok := featureType(t.Parameters()[0]); ok && e.Kind <= feature.Timestamp {
			return feature.ListOf(e.Kind), true
		}
	}
	return feature.Type{}, false
}

// typeName is a CEL type in Forebay's words.
func typeName(t *cel.Type) string {
	if ft, ok := featureType(t); ok {
		return ft.String()
	}
	switch t.Kind() {
	case cel.ListKind:
		return "list<" + typeName(t.Parameters()[0]) + ">"
	case cel.MapKind:
		return "map<" + typeName(t.Parameters()[0]) + ", " + typeName(t.Parameters()[1]) + ">"
	case cel.DurationKind:
		return "duration"
	case cel.DynKind, cel.TypeParamKind:
		return "any type"
	}
	return t.String()
}
