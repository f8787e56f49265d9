package expr

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/nearest"
)

// Compile compiles an expression whose value must be of type want. Mistakes in
// the expression are returned as Errors.
func Compile(source string, s *Scope, want feature.Type) (*Program, error) {
	if i, ok := s.byName[strings.TrimSpace(source)]; ok {
		return s.copy(source, i, want)
	}
	if strings.TrimSpace(source) == "" {
		return nil, Errors{{Kind: Syntax, Message: "the expression is empty"}}
	}
	parsed, issues := s.env.Parse(source)
	if issues.Err() != nil {
		// What follows the first is mostly the parser finding its feet again.
		return nil, Errors{syntaxError(source, issues.Errors()[0])}
	}
	tree := parsed.NativeRep()
	rewriteNulls(tree)
	r := resolver{scope: s, source: source, info: tree.SourceInfo()}
	if r.visit(tree.Expr(), nil); len(r.errs) > 0 {
		return nil, ordered(r.errs)
	}
	checked, issues := s.env.Check(parsed)
	if issues.Err() != nil {
		var errs Errors
		for _, e := range issues.Errors() {
			errs = append(errs, typeError(source, e))
		}
		return nil, ordered(errs)
	}
	if err := wrongResult(source, checked.OutputType(), want); err != nil {
		return nil, Errors{err}
	}
	pl := newPlanner(s, source, checked.NativeRep())
	root, err := pl.plan(checked.NativeRep().Expr())
	if err != nil {
		var es Errors
		if errors.As(err, &es) {
			return nil, es
		}
		return nil, Errors{{Kind: BadType, Message: err.Error()}}
	}
	return &Program{inputs: pl.inputs, result: want, root: root, locals: pl.slots}, nil
}

// copy is the program that is a variable as it is.
func (s *Scope) copy(source string, i int, want feature.Type) (*Program, error) {
	in := s.inputs[i]
	if in.Type == want {
		return &Program{inputs: []Input{in}, result: want}, nil
	}
	if in.Type.Kind == feature.Embedding && want == feature.ListOf(feature.Float64) {
		// The numbers of an embedding, widened.
		return &Program{inputs: []Input{in}, result: want, root: &widened{column{0}}}, nil
	}
	err := wrongResult(source, celType(in.Type), want)
	if err == nil || want.Kind == feature.Embedding {
		err = &Error{Kind: WrongResult, Message: fmt.Sprintf("%s is of type %s, not %s", in, in.Type, want), Hint: "declare it as " + in.Type.String()}
	}
	return nil, Errors{err}
}

// widened is an embedding as a list of float64.
type widened struct{ column }

func (n *widened) eval(f *frame) feature.Value {
	return unbox(n.ref(f), feature.ListOf(feature.Float64))
}

// wrongResult finds out whether a value of type got can be a feature of type want.
func wrongResult(source string, got *cel.Type, want feature.Type) *Error {
	e := &Error{Kind: WrongResult, Offset: len(source) - len(strings.TrimLeft(source, " \t\r\n")),
		Message: fmt.Sprintf("the expression is of type %s, not %s", typeName(got), want)}
	if want.Kind == feature.Embedding {
		e.Hint = "an embedding is a column or feature of that very type, by its name alone"
		return e
	}
	if got.IsExactType(celType(want)) {
		return nil
	}
	src := strings.TrimSpace(source)
	has, native := featureType(got)
	switch {
	case got.Kind() == types.DynKind:
		e.Message = "the expression has no type: it is null, or mixes types"
	case has == feature.TypeInt64 && want == feature.TypeFloat64:
		e.Hint = "write double(" + src + ")"
	case has == feature.TypeFloat64 && want == feature.TypeInt64:
		e.Hint = "write int(" + src + ") to cut off the fraction, or int(math.round(" + src + "))"
	case got.Kind() == types.UintKind && want == feature.TypeInt64:
		e.Hint = "write int(" + src + ")"
	case got.Kind() == types.DurationKind:
		e.Hint = "take a number of it: (" + src + ").getSeconds()"
	case want == feature.TypeString && native && has.Kind != feature.List:
		e.Hint = "write string(" + src + ")"
	case native:
		e.Hint = "declare it as " + has.String()
	}
	return e
}

// rewriteNulls replaces the literal null, which CEL's checker lets nobody
// compare with or choose, by functions that fit every type.
func rewriteNulls(tree *ast.AST) {
	fac := ast.NewExprFactory()
	isNull := func(e ast.Expr) bool { return e.Kind() == ast.LiteralKind && e.AsLiteral() == types.NullValue }
	var nulls []ast.Expr
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if isNull(e) {
			nulls = append(nulls, e)
			return
		}
		if e.Kind() != ast.CallKind {
			return
		}
		c := e.AsCall()
		if c.FunctionName() != operators.Equals && c.FunctionName() != operators.NotEquals {
			return
		}
		for i, arg := range c.Args() {
			if !isNull(arg) {
				continue
			}
			test := fac.NewCall(e.ID(), isNullFunction, c.Args()[1-i])
			if c.FunctionName() == operators.NotEquals {
				// The null's own node has no more use; it lends its ID.
				inner := fac.NewCall(arg.ID(), isNullFunction, c.Args()[1-i])
				test = fac.NewCall(e.ID(), operators.LogicalNot, inner)
			}
			e.SetKindCase(test)
			return
		}
	}))
	for _, e := range nulls {
		e.SetKindCase(fac.NewCall(e.ID(), nullFunction))
	}
}

// resolver finds names that mean nothing, with better words than CEL has.
type resolver struct {
	scope  *Scope
	source string
	info   *ast.SourceInfo
	errs   Errors
}

func (r *resolver) offset(e ast.Expr) int {
	rng, _ := r.info.GetOffsetRange(e.ID())
	return byteOffset(r.source, int(rng.Start))
}

func (r *resolver) unknown(offset int, hint, format string, args ...any) {
	r.errs = append(r.errs, &Error{Kind: UnknownName, Offset: offset, Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (r *resolver) noFunction(offset int, name, hint string) {
	r.errs = append(r.errs, &Error{Kind: UnknownFunction, Offset: offset, Message: "there is no function " + name + "()", Hint: hint})
}

// visit looks at e, in which the given variables of comprehensions exist.
func (r *resolver) visit(e ast.Expr, locals []string) {
	switch e.Kind() {
	case ast.IdentKind:
		r.ident(e, locals)
	case ast.SelectKind:
		r.selection(e, locals)
	case ast.CallKind:
		r.call(e, locals)
	case ast.ListKind:
		for _, x := range e.AsList().Elements() {
			r.visit(x, locals)
		}
	case ast.MapKind:
		for _, x := range e.AsMap().Entries() {
			r.visit(x.AsMapEntry().Key(), locals)
			r.visit(x.AsMapEntry().Value(), locals)
		}
	case ast.StructKind:
		r.errs = append(r.errs, &Error{Kind: BadType, Offset: r.offset(e), Message: "messages cannot be made in an expression"})
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		r.visit(c.IterRange(), locals)
		r.visit(c.AccuInit(), locals)
		inner := append(locals[:len(locals):len(locals)], c.IterVar(), c.AccuVar())
		r.visit(c.LoopCondition(), inner)
		r.visit(c.LoopStep(), inner)
		r.visit(c.Result(), inner)
	}
}

func has(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

func (r *resolver) ident(e ast.Expr, locals []string) {
	name := e.AsIdent()
	if has(locals, name) {
		return
	}
	name = strings.TrimPrefix(name, ".")
	if _, ok := r.scope.byName[name]; ok {
		return
	}
	if r.scope.views[name] {
		r.unknown(r.offset(e), fmt.Sprintf("write %s.feature", name), "%q is a view, not a value", name)
		return
	}
	known := append(r.scope.names(), locals...)
	for v := range r.scope.views {
		known = append(known, v)
	}
	sort.Strings(known) // hints do not depend on the order of a map
	hint := nearest.Hint(name, known)
	if hint == "" {
		for _, in := range r.scope.inputs {
			if in.View != "" && in.Name == name {
				hint = "write " + in.String()
			}
		}
	}
	if len(r.scope.views) > 0 {
		r.unknown(r.offset(e), hint, "there is no request field or input view %q", name)
	} else {
		r.unknown(r.offset(e), hint, "there is no column %q", name)
	}
}

func (r *resolver) selection(e ast.Expr, locals []string) {
	sel := e.AsSelect()
	op := sel.Operand()
	if op.Kind() != ast.IdentKind || has(locals, op.AsIdent()) {
		r.visit(op, locals)
		return
	}
	view := strings.TrimPrefix(op.AsIdent(), ".")
	in := Input{View: view, Name: sel.FieldName()}
	if !r.scope.views[view] {
		r.visit(op, locals)
		return
	}
	if _, ok := r.scope.byName[in.String()]; !ok {
		var names []string
		for _, x := range r.scope.inputs {
			if x.View == view {
				names = append(names, x.Name)
			}
		}
		at := r.offset(e) + 1 // the select's own place is its dot
		for at < len(r.source) && strings.ContainsRune(" \t\r\n", rune(r.source[at])) {
			at++
		}
		r.unknown(at, nearest.Hint(in.Name, names), "view %q has no feature %q", view, in.Name)
		return
	}
	if sel.IsTestOnly() {
		r.errs = append(r.errs, &Error{Kind: BadType, Offset: r.offset(op), Message: "has() is for maps", Hint: "write " + in.String() + " != null"})
	}
}

func (r *resolver) call(e ast.Expr, locals []string) {
	c := e.AsCall()
	fn, at := c.FunctionName(), r.offset(e)
	if c.IsMemberFunction() {
		t := c.Target()
		if t.Kind() == ast.IdentKind && !has(locals, t.AsIdent()) {
			_, variable := r.scope.byName[t.AsIdent()]
			qualified := t.AsIdent() + "." + fn
			switch {
			case r.scope.env.HasFunction(qualified):
				fn, t = qualified, nil
			case !variable && (t.AsIdent() == "math" || t.AsIdent() == "strings"):
				r.noFunction(r.offset(t), qualified, nearest.Hint(qualified, r.functions()))
				fn, t = "", nil
			}
		}
		if t != nil {
			r.visit(t, locals)
		}
	}
	for _, a := range c.Args() {
		r.visit(a, locals)
	}
	if fn == "" || r.scope.env.HasFunction(fn) {
		return
	}
	hint := nearest.Hint(fn, r.functions())
	switch fn {
	case "now":
		hint = "an expression gives the same value whenever it runs; use the columns, or a request field"
	case "int64":
		hint = "write int(…)"
	case "float64", "float":
		hint = "write double(…)"
	case "type", "dyn":
		hint = "types are known before an expression runs"
	}
	if !c.IsMemberFunction() {
		at -= len(fn) // the call's own place is its parenthesis
	} else {
		at = strings.LastIndex(r.source[:at], fn)
	}
	r.noFunction(max(0, at), fn, hint)
}

// functions lists the names of functions as expressions write them.
func (r *resolver) functions() []string {
	names := []string{"all", "exists", "exists_one", "filter", "has", "map", "math.greatest", "math.least"}
	for n := range r.scope.env.Functions() {
		if !strings.ContainsAny(n, "@_") {
			names = append(names, n)
		}
	}
	sort.Strings(names) // hints do not depend on the order of a map
	return names
}

// ordered sorts errors by their places.
func ordered(es Errors) Errors {
	sort.SliceStable(es, func(i, j int) bool { return es[i].Offset < es[j].Offset })
	return es
}

// byteOffset turns a number of code points into a number of bytes.
func byteOffset(s string, runes int) int {
	for i := range s {
		if runes == 0 {
			return i
		}
		runes--
	}
	return len(s)
}

// locate turns CEL's line and column, counted in code points, into an offset.
func locate(source string, l common.Location) int {
	at := 0
	for line := 1; line < l.Line(); line++ {
		n := strings.IndexByte(source[at:], '\n')
		if n < 0 {
			break
		}
		at += n + 1
	}
	return at + byteOffset(source[at:], max(0, l.Column()))
}
