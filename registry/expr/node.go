package expr

import (
	"regexp"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/forebay/forebay/registry/feature"
)

// node is a step of a program. Every node gives its value in either form; eval
// must not be asked of a node whose type has no native form.
type node interface {
	eval(f *frame) feature.Value
	ref(f *frame) ref.Val
}

// frame is the state of one evaluation.
type frame struct {
	in     []*feature.Column
	row    int
	steps  int       // that may still be taken
	locals []ref.Val // variables of comprehensions
}

// visit takes n steps; false if they are too many.
func (f *frame) visit(n int) bool {
	f.steps -= n
	return f.steps >= 0
}

// absent is the result of a strict operator of which at least one operand is absent.
func absent(a, b feature.Value) feature.Value {
	if a.IsNull() && !a.IsInvalid() || b.IsNull() && !b.IsInvalid() {
		return feature.Value{}
	}
	return feature.Invalid()
}

type constant struct {
	v feature.Value // if native
	r ref.Val
}

func (n *constant) eval(*frame) feature.Value { return n.v }
func (n *constant) ref(*frame) ref.Val        { return n.r }

// column reads an input.
type column struct{ input int }

func (n *column) eval(f *frame) feature.Value { return f.in[n.input].Value(f.row) }
func (n *column) ref(f *frame) ref.Val        { return box(n.eval(f)) }

// variable reads a variable of a comprehension.
type variable struct {
	slot int
	t    feature.Type
}

func (n *variable) eval(f *frame) feature.Value { return unbox(f.locals[n.slot], n.t) }
func (n *variable) ref(f *frame) ref.Val        { return f.locals[n.slot] }

// unary is a strict native operator of one operand.
type unary struct {
	a  node
	op func(feature.Value) feature.Value
}

func (n *unary) eval(f *frame) feature.Value {
	a := n.a.eval(f)
	if a.IsNull() {
		return a
	}
	return n.op(a)
}
func (n *unary) ref(f *frame) ref.Val { return box(n.eval(f)) }

// binary is a strict native operator of two operands.
type binary struct {
	a, b node
	op   func(a, b feature.Value) feature.Value
}

func (n *binary) eval(f *frame) feature.Value {
	a, b := n.a.eval(f), n.b.eval(f)
	if a.IsNull() || b.IsNull() {
		return absent(a, b)
	}
	return n.op(a, b)
}
func (n *binary) ref(f *frame) ref.Val { return box(n.eval(f)) }

// logic is && or ||: the operand that equals decides settles it, whatever the
// others are; without one, an absent operand makes the result absent.
type logic struct {
	terms   []node
	decides bool // false for &&, true for ||
}

func (n *logic) eval(f *frame) feature.Value {
	result := feature.OfBool(!n.decides)
	for _, t := range n.terms {
		v := t.eval(f)
		switch {
		case !v.IsNull():
			if v.Bool() == n.decides {
				return v
			}
		case result.IsNull():
			result = absent(result, v)
		default:
			result = v
		}
	}
	return result
}
func (n *logic) ref(f *frame) ref.Val { return box(n.eval(f)) }

// choice is the ternary operator.
type choice struct{ cond, yes, no node }

func (n *choice) eval(f *frame) feature.Value {
	switch c := n.cond.eval(f); {
	case c.IsNull():
		return c
	case c.Bool():
		return n.yes.eval(f)
	}
	return n.no.eval(f)
}

func (n *choice) ref(f *frame) ref.Val {
	switch c := n.cond.eval(f); {
	case c.IsNull():
		return box(c)
	case c.Bool():
		return n.yes.ref(f)
	}
	return n.no.ref(f)
}

// nullTest is == null, or != null if not is set.
type nullTest struct {
	a      node
	native bool // a has a native form
	not    bool
}

func (n *nullTest) eval(f *frame) feature.Value {
	if n.native {
		return feature.OfBool(n.a.eval(f).IsNull() != n.not)
	}
	return feature.OfBool(absentRef(n.a.ref(f)) != n.not)
}
func (n *nullTest) ref(f *frame) ref.Val { return box(n.eval(f)) }

// notStrictlyFalse goes on with a comprehension unless its condition is false.
type notStrictlyFalse struct{ a node }

func (n *notStrictlyFalse) eval(f *frame) feature.Value {
	if v := n.a.eval(f); !v.IsNull() {
		return v
	}
	return feature.OfBool(true)
}
func (n *notStrictlyFalse) ref(f *frame) ref.Val { return box(n.eval(f)) }

// membership is x in a list of constants.
type membership struct {
	a       node
	numbers map[uint64]struct{} // of int64 or timestamps
	texts   map[string]struct{}
}

func (n *membership) eval(f *frame) feature.Value {
	v := n.a.eval(f)
	if v.IsNull() {
		return v
	}
	var found bool
	if n.texts != nil {
		_, found = n.texts[v.Str()]
	} else {
		_, found = n.numbers[v.Bits()]
	}
	return feature.OfBool(found)
}
func (n *membership) ref(f *frame) ref.Val { return box(n.eval(f)) }

// matches is the test of a string against a constant pattern.
func matches(re *regexp.Regexp) func(feature.Value) feature.Value {
	return func(v feature.Value) feature.Value { return feature.OfBool(re.MatchString(v.Str())) }
}

// call is a strict call of one of CEL's functions.
type call struct {
	args     []node
	fn       func(args []ref.Val) ref.Val
	t        feature.Type // of the result, if native
	visits   bool         // an argument is a list or map, which the function may walk
	tooLarge func(args []ref.Val) bool
}

func (n *call) eval(f *frame) feature.Value { return unbox(n.ref(f), n.t) }

func (n *call) ref(f *frame) ref.Val {
	var few [3]ref.Val
	args, null, invalid := few[:0], false, false
	for _, a := range n.args {
		r := a.ref(f)
		null, invalid = null || isNullRef(r), invalid || isInvalidRef(r)
		if s, ok := r.(traits.Sizer); n.visits && ok && !isText(r) {
			size, _ := s.Size().(types.Int)
			invalid = invalid || !f.visit(int(size))
		}
		args = append(args, r)
	}
	switch {
	case null:
		return types.NullValue
	case invalid, n.tooLarge != nil && n.tooLarge(args):
		return invalidRef()
	}
	return n.apply(args)
}

// apply calls the function. One that panics on what is in a row, as CEL's own
// evaluator expects of them too, makes this value invalid and no more.
func (n *call) apply(args []ref.Val) (r ref.Val) {
	defer func() {
		if recover() != nil {
			r = invalidRef()
		}
	}()
	return settle(n.fn(args))
}

// settle brings a function's result into the shape this package wants: one
// invalid value, instants in microseconds, no text beyond MaxText.
func settle(r ref.Val) ref.Val {
	switch v := r.(type) {
	case *types.Err, *types.Unknown:
		return invalidRef()
	case types.Timestamp:
		if v.Nanosecond()%1000 != 0 {
			return box(instant(v.Time))
		}
	case types.String:
		if len(v) > MaxText {
			return invalidRef()
		}
	case types.Bytes:
		if len(v) > MaxText {
			return invalidRef()
		}
	}
	return r
}

func isText(r ref.Val) bool {
	switch r.(type) {
	case types.String, types.Bytes:
		return true
	}
	return false
}

// equal is the equality of values that have no native form, or whose types are
// known only when they are there.
type equal struct {
	a, b node
	not  bool
}

func (n *equal) eval(f *frame) feature.Value { return unbox(n.ref(f), feature.TypeBool) }

func (n *equal) ref(f *frame) ref.Val {
	a, b := n.a.ref(f), n.b.ref(f)
	switch {
	case isNullRef(a) || isNullRef(b):
		return types.NullValue
	case isInvalidRef(a) || isInvalidRef(b):
		return invalidRef()
	}
	if s, ok := a.(traits.Sizer); ok && !isText(a) {
		if size, _ := s.Size().(types.Int); !f.visit(int(size)) {
			return invalidRef()
		}
	}
	eq, ok := types.Equal(a, b).(types.Bool)
	if !ok {
		return invalidRef()
	}
	return types.Bool(bool(eq) != n.not)
}

// list makes a list; one with an absent element is absent, since no list of
// features holds nulls.
type list struct {
	elems []node
	elem  feature.Type // of the elements, if native
}

func (n *list) eval(f *frame) feature.Value { return unbox(n.ref(f), feature.ListOf(n.elem.Kind)) }

func (n *list) ref(f *frame) ref.Val {
	vs := make([]ref.Val, len(n.elems))
	null, invalid := false, false
	for i, e := range n.elems {
		vs[i] = e.ref(f)
		null, invalid = null || isNullRef(vs[i]), invalid || isInvalidRef(vs[i])
	}
	switch {
	case null:
		return types.NullValue
	case invalid:
		return invalidRef()
	}
	return types.NewRefValList(types.DefaultTypeAdapter, vs)
}

// dictionary makes a map; one with an absent key or value is absent.
type dictionary struct{ keys, values []node }

func (n *dictionary) eval(*frame) feature.Value { panic("expr: a map has no native form") }

func (n *dictionary) ref(f *frame) ref.Val {
	m := make(map[ref.Val]ref.Val, len(n.keys))
	null, invalid := false, false
	for i := range n.keys {
		k, v := n.keys[i].ref(f), n.values[i].ref(f)
		null, invalid = null || isNullRef(k) || isNullRef(v), invalid || isInvalidRef(k) || isInvalidRef(v)
		if !null && !invalid {
			m[k] = v
		}
	}
	switch {
	case null:
		return types.NullValue
	case invalid:
		return invalidRef()
	}
	return types.NewRefValMap(types.DefaultTypeAdapter, m)
}

// entry is a map's value under a constant key: m.key, or has(m.key) if test is set.
type entry struct {
	m    node
	key  types.String
	test bool
	t    feature.Type // of the result, if native
}

func (n *entry) eval(f *frame) feature.Value { return unbox(n.ref(f), n.t) }

func (n *entry) ref(f *frame) ref.Val {
	r := n.m.ref(f)
	if absentRef(r) {
		return r
	}
	m, ok := r.(traits.Mapper)
	if !ok {
		return invalidRef()
	}
	v, found := m.Find(n.key)
	switch {
	case n.test:
		return types.Bool(found)
	case !found:
		return invalidRef()
	}
	return settle(v)
}

// fold is a comprehension: what the macros all, exists, exists_one, map and
// filter become.
type fold struct {
	over                   node
	init, cond, step, then node
	accu, elem             int          // slots
	t                      feature.Type // of the result, if native
}

func (n *fold) eval(f *frame) feature.Value { return unbox(n.ref(f), n.t) }

func (n *fold) ref(f *frame) ref.Val {
	over := n.over.ref(f)
	if absentRef(over) {
		return over
	}
	items, ok := over.(traits.Iterable)
	if !ok {
		return invalidRef()
	}
	accu := n.init.ref(f)
	if l, ok := accu.(traits.Lister); ok && l.Size() == types.IntZero {
		accu = types.NewMutableList(types.DefaultTypeAdapter) // so that appending an element does not copy the list
	}
	f.locals[n.accu] = accu
	for it := items.Iterator(); it.HasNext() == types.True; {
		if !f.visit(1) {
			return invalidRef()
		}
		f.locals[n.elem] = it.Next()
		if c := n.cond.eval(f); !c.IsNull() && !c.Bool() {
			break
		}
		f.locals[n.accu] = n.step.ref(f)
	}
	if l, ok := f.locals[n.accu].(traits.MutableLister); ok {
		f.locals[n.accu] = l.ToImmutableList()
	}
	return n.then.ref(f)
}
