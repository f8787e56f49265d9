package expr

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/forebay/forebay/registry/feature"
)

// planner turns a checked expression into nodes.
type planner struct {
	scope  *Scope
	source string
	tree   *ast.AST
	inputs []Input
	index  map[string]int // of inputs, by Input.String
	locals []named        // the innermost last
	slots  int
}

// named is a variable of a comprehension that is in scope.
type named struct {
	name string
	slot int
}

func newPlanner(s *Scope, source string, tree *ast.AST) *planner {
	return &planner{scope: s, source: source, tree: tree, index: map[string]int{}}
}

func (p *planner) fail(e ast.Expr, format string, args ...any) error {
	rng, _ := p.tree.SourceInfo().GetOffsetRange(e.ID())
	return Errors{{Kind: BadType, Offset: byteOffset(p.source, int(rng.Start)), Message: fmt.Sprintf(format, args...)}}
}

// native is the feature type of e's values, if they have a native form.
func (p *planner) native(e ast.Expr) (feature.Type, bool) { return featureType(p.tree.GetType(e.ID())) }

func (p *planner) plan(e ast.Expr) (node, error) {
	switch e.Kind() {
	case ast.LiteralKind:
		return p.constant(e.AsLiteral()), nil
	case ast.IdentKind:
		return p.ident(e)
	case ast.SelectKind:
		sel := e.AsSelect()
		m, err := p.plan(sel.Operand())
		if err != nil {
			return nil, err
		}
		t, _ := p.native(e)
		return &entry{m: m, key: types.String(sel.FieldName()), test: sel.IsTestOnly(), t: t}, nil
	case ast.CallKind:
		return p.call(e)
	case ast.ListKind:
		return p.list(e)
	case ast.MapKind:
		return p.dictionary(e)
	case ast.ComprehensionKind:
		return p.fold(e)
	}
	return nil, p.fail(e, "this cannot be used in an expression")
}

// constant makes a node of a value; where it has a native form, of both forms.
func (p *planner) constant(r ref.Val) node {
	c := &constant{r: r}
	switch r.(type) {
	case types.Null, *types.Err, types.Bool, types.Int, types.Double, types.String, types.Bytes, types.Timestamp:
		c.v = unbox(r, feature.Type{})
	}
	return c
}

func (p *planner) ident(e ast.Expr) (node, error) {
	name := e.AsIdent()
	for i := len(p.locals) - 1; i >= 0; i-- {
		if p.locals[i].name == name {
			t, _ := p.native(e)
			return &variable{slot: p.locals[i].slot, t: t}, nil
		}
	}
	name = strings.TrimPrefix(name, ".")
	i, ok := p.scope.byName[name]
	if !ok {
		return nil, p.fail(e, "%s is not a value", name)
	}
	j, ok := p.index[name]
	if !ok {
		j = len(p.inputs)
		p.index[name] = j
		p.inputs = append(p.inputs, p.scope.inputs[i])
	}
	return &column{input: j}, nil
}

func (p *planner) all(es []ast.Expr) ([]node, error) {
	nodes := make([]node, len(es))
	for i, e := range es {
		n, err := p.plan(e)
		if err != nil {
			return nil, err
		}
		nodes[i] = n
	}
	return nodes, nil
}

// folded is n, computed here and now if all that it reads is constant.
func (p *planner) folded(n node, from ...[]node) node {
	for _, ns := range from {
		for _, m := range ns {
			if _, ok := m.(*constant); !ok {
				return n
			}
		}
	}
	return p.constant(n.ref(&frame{steps: MaxSteps}))
}

func (p *planner) list(e ast.Expr) (node, error) {
	elems, err := p.all(e.AsList().Elements())
	if err != nil {
		return nil, err
	}
	if len(e.AsList().OptionalIndices()) > 0 {
		return nil, p.fail(e, "optional elements are not supported")
	}
	t, _ := p.native(e)
	l := &list{elems: elems, elem: feature.Type{Kind: t.Elem}}
	c, ok := p.folded(l, elems).(*constant)
	if !ok {
		return l, nil
	}
	if t.Kind == feature.List && !absentRef(c.r) {
		c.v = unbox(c.r, t)
	}
	return c, nil
}

func (p *planner) dictionary(e ast.Expr) (node, error) {
	d := &dictionary{}
	for _, x := range e.AsMap().Entries() {
		k, err := p.plan(x.AsMapEntry().Key())
		if err != nil {
			return nil, err
		}
		v, err := p.plan(x.AsMapEntry().Value())
		if err != nil {
			return nil, err
		}
		d.keys, d.values = append(d.keys, k), append(d.values, v)
	}
	return p.folded(d, d.keys, d.values), nil
}

func (p *planner) fold(e ast.Expr) (node, error) {
	c := e.AsComprehension()
	n := &fold{accu: p.slots, elem: p.slots + 1}
	p.slots += 2
	n.t, _ = p.native(e)
	var err error
	if n.over, err = p.plan(c.IterRange()); err != nil {
		return nil, err
	}
	if n.init, err = p.plan(c.AccuInit()); err != nil {
		return nil, err
	}
	outer := len(p.locals)
	defer func() { p.locals = p.locals[:outer] }()
	p.locals = append(p.locals, named{c.AccuVar(), n.accu}, named{c.IterVar(), n.elem})
	if n.cond, err = p.plan(c.LoopCondition()); err != nil {
		return nil, err
	}
	if n.step, err = p.plan(c.LoopStep()); err != nil {
		return nil, err
	}
	n.then, err = p.plan(c.Result())
	return n, err
}

func (p *planner) call(e ast.Expr) (node, error) {
	c := e.AsCall()
	args := c.Args()
	if c.IsMemberFunction() {
		args = append([]ast.Expr{c.Target()}, args...)
	}
	nodes, err := p.all(args)
	if err != nil {
		return nil, err
	}
	switch c.FunctionName() {
	case nullFunction:
		return p.constant(types.NullValue), nil
	case isNullFunction:
		_, native := p.native(args[0])
		return &nullTest{a: nodes[0], native: native}, nil
	case operators.LogicalAnd, operators.LogicalOr:
		return &logic{terms: nodes, decides: c.FunctionName() == operators.LogicalOr}, nil
	case operators.Conditional:
		return &choice{nodes[0], nodes[1], nodes[2]}, nil
	case operators.NotStrictlyFalse:
		return &notStrictlyFalse{nodes[0]}, nil
	}
	if p.tree.GetType(e.ID()).Kind() == types.DynKind {
		return nil, p.fail(e, "the types of the operands do not decide the type of the result")
	}
	n, err := p.strict(e, args, nodes)
	if err != nil {
		return nil, err
	}
	return p.folded(n, nodes), nil
}

// strict plans a call that needs all of its arguments.
func (p *planner) strict(e ast.Expr, args []ast.Expr, nodes []node) (node, error) {
	name := e.AsCall().FunctionName()
	if t, ok := nodes[0].(*nullTest); ok && name == operators.LogicalNot && !t.not {
		return &nullTest{a: t.a, native: t.native, not: true}, nil
	}
	if name == operators.Equals || name == operators.NotEquals {
		return p.equality(args, nodes, name == operators.NotEquals), nil
	}
	overloadID := ""
	if ids := p.tree.GetOverloadIDs(e.ID()); len(ids) == 1 {
		overloadID = ids[0]
	}
	// A single overload settles what is native: types that are known only when
	// the values are there (of an empty list's elements) go the slow way.
	if p.known(args) {
		if op := unaryOp(overloadID); op != nil && len(nodes) == 1 {
			return &unary{nodes[0], op}, nil
		}
		if op := binaryOp(overloadID); op != nil && len(nodes) == 2 {
			return &binary{nodes[0], nodes[1], op}, nil
		}
		if n := p.matches(overloadID, nodes); n != nil {
			return n, nil
		}
		if n := p.membership(overloadID, args, nodes); n != nil {
			return n, nil
		}
	}
	fn, err := p.function(name, overloadID)
	if err != nil {
		return nil, p.fail(e, "%s", err)
	}
	n := &call{args: nodes, fn: fn, tooLarge: textLimit(name)}
	n.t, _ = p.native(e)
	for _, a := range args {
		k := p.tree.GetType(a.ID()).Kind()
		n.visits = n.visits || k == types.ListKind || k == types.MapKind
	}
	if growing(e) {
		n.visits = false // a fold appends to its own list, and has paid for the step
	}
	return n, nil
}

// known reports whether all operands have a native form.
func (p *planner) known(args []ast.Expr) bool {
	for _, a := range args {
		if _, ok := p.native(a); !ok {
			return false
		}
	}
	return true
}

// growing reports whether e appends to the accumulator of a comprehension.
func growing(e ast.Expr) bool {
	c := e.AsCall()
	return c.FunctionName() == operators.Add && len(c.Args()) == 2 &&
		c.Args()[0].Kind() == ast.IdentKind && strings.HasPrefix(c.Args()[0].AsIdent(), "@")
}

func (p *planner) equality(args []ast.Expr, nodes []node, not bool) node {
	a, aNative := p.native(args[0])
	b, bNative := p.native(args[1])
	if op := equality(a.Kind); aNative && bNative && a == b && op != nil {
		return &binary{nodes[0], nodes[1], func(a, b feature.Value) feature.Value { return feature.OfBool(op(a, b) != not) }}
	}
	return &equal{a: nodes[0], b: nodes[1], not: not}
}

// matches plans a test against a constant pattern, compiled once.
func (p *planner) matches(overloadID string, nodes []node) node {
	if overloadID != overloads.Matches && overloadID != overloads.MatchesString {
		return nil
	}
	pattern, ok := nodes[1].(*constant)
	if !ok || pattern.v.IsNull() {
		return nil
	}
	re, err := regexp.Compile(pattern.v.Str())
	if err != nil {
		return nil // CEL's validator has refused it already
	}
	return &unary{nodes[0], matches(re)}
}

// membership plans x in a constant list of texts, whole numbers or instants.
func (p *planner) membership(overloadID string, args []ast.Expr, nodes []node) node {
	in, ok := nodes[len(nodes)-1].(*constant)
	if !ok || overloadID != overloads.InList || in.v.Kind() != feature.List {
		return nil
	}
	t, _ := p.native(args[0])
	if t.Kind != in.v.Elem() {
		return nil
	}
	m := &membership{a: nodes[0]}
	switch t.Kind {
	case feature.String, feature.Bytes:
		m.texts = map[string]struct{}{}
		for _, v := range in.v.List() {
			m.texts[v.Str()] = struct{}{}
		}
	case feature.Int64, feature.Timestamp:
		m.numbers = map[uint64]struct{}{}
		for _, v := range in.v.List() {
			m.numbers[v.Bits()] = struct{}{}
		}
	default:
		return nil
	}
	return m
}

// function finds CEL's implementation of a function.
func (p *planner) function(name, overloadID string) (func([]ref.Val) ref.Val, error) {
	decl := p.scope.env.Functions()[name]
	bindings, err := decl.Bindings()
	if err != nil {
		return nil, err
	}
	var found *functions.Overload
	for _, b := range bindings {
		if b.Operator == overloadID || found == nil && b.Operator == name {
			found = b
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%s() cannot be used here", name)
	}
	o := *found
	return func(args []ref.Val) ref.Val {
		if o.OperandTrait != 0 && !args[0].Type().HasTrait(o.OperandTrait) {
			return invalidRef()
		}
		switch {
		case len(args) == 1 && o.Unary != nil:
			return o.Unary(args[0])
		case len(args) == 2 && o.Binary != nil:
			return o.Binary(args[0], args[1])
		case o.Function != nil:
			return o.Function(args...)
		case args[0].Type().HasTrait(traits.ReceiverType):
			return args[0].(traits.Receiver).Receive(name, overloadID, args[1:])
		}
		return invalidRef()
	}, nil
}

// textLimit finds the test, for the functions that can make much of little,
// whether their result would be beyond MaxText.
func textLimit(name string) func([]ref.Val) bool {
	switch name {
	case "replace":
		return func(args []ref.Val) bool {
			s, _ := args[0].(types.String)
			by, _ := args[2].(types.String)
			return len(by) > 1 && (len(s)+1) > MaxText/len(by)
		}
	case "join":
		return func(args []ref.Val) bool {
			l, ok := args[0].(traits.Lister)
			if !ok {
				return true
			}
			n, _ := l.Size().(types.Int)
			size := 0
			if len(args) > 1 {
				sep, _ := args[1].(types.String)
				size = len(sep) * int(n)
			}
			for i := types.Int(0); i < n && size <= MaxText; i++ {
				s, _ := l.Get(i).(types.String)
				size += len(s)
			}
			return size > MaxText
		}
	}
	return nil
}
