package expr

import (
	"errors"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/forebay/forebay/registry/feature"
)

// A value is held in one of two forms. The native form, a feature.Value, needs
// no memory of its own; the boxed form, a ref.Val, is what CEL's functions take,
// and the only one for durations, maps and the like. Null is the null Value or
// types.NullValue, an invalid value is feature.Invalid or a *types.Err.

var errInvalid = &types.Err{}

// invalidRef is the boxed invalid value. Why it is invalid is of no use to anyone.
func invalidRef() ref.Val { return errInvalid }

func isNullRef(r ref.Val) bool    { return r == types.NullValue }
func isInvalidRef(r ref.Val) bool { _, bad := r.(*types.Err); return bad }
func absentRef(r ref.Val) bool    { return isNullRef(r) || isInvalidRef(r) }

// box turns a native value into a boxed one. Text is shared.
func box(v feature.Value) ref.Val {
	switch v.Kind() {
	case feature.Null:
		if v.IsInvalid() {
			return invalidRef()
		}
		return types.NullValue
	case feature.Bool:
		return types.Bool(v.Bool())
	case feature.Int64:
		return types.Int(v.Int64())
	case feature.Float64:
		return types.Double(v.Float64())
	case feature.String:
		return types.String(v.Str())
	case feature.Bytes:
		return types.Bytes(v.Bytes())
	case feature.Timestamp:
		return types.Timestamp{Time: time.UnixMicro(v.Int64()).UTC()}
	case feature.List:
		elems := make([]ref.Val, len(v.List()))
		for i, e := range v.List() {
			elems[i] = box(e)
		}
		return types.NewRefValList(types.DefaultTypeAdapter, elems)
	case feature.Embedding:
		elems := make([]ref.Val, len(v.Embedding()))
		for i, e := range v.Embedding() {
			elems[i] = types.Double(e)
		}
		return types.NewRefValList(types.DefaultTypeAdapter, elems)
	}
	panic("expr: a value of kind " + v.Kind().String())
}

// unbox turns a boxed value into the native form of type t. What has no native
// form, and what t does not expect, is a mistake of the planner and panics.
func unbox(r ref.Val, t feature.Type) feature.Value {
	switch r := r.(type) {
	case types.Null:
		return feature.Value{}
	case *types.Err:
		return feature.Invalid()
	case types.Bool:
		return feature.OfBool(bool(r))
	case types.Int:
		return feature.OfInt64(int64(r))
	case types.Double:
		return feature.OfFloat64(float64(r))
	case types.String:
		return feature.OfString(string(r))
	case types.Bytes:
		return feature.OfBytes(r)
	case types.Timestamp:
		return instant(r.Time)
	case traits.Lister:
		n, _ := r.Size().(types.Int)
		vs := make([]feature.Value, n)
		for i := range vs {
			vs[i] = unbox(r.Get(types.Int(i)), feature.Type{Kind: t.Elem})
			if vs[i].IsNull() {
				return vs[i]
			}
		}
		return feature.OfList(t.Elem, vs)
	}
	panic(errors.New("expr: " + r.Type().TypeName() + " has no native form"))
}

// instant is a time floored to the microsecond, or invalid outside of the years 1 to 9999.
func instant(t time.Time) feature.Value {
	m := t.UnixMicro()
	if m < feature.MinTimestamp || m > feature.MaxTimestamp {
		return feature.Invalid()
	}
	return feature.OfTimestamp(m)
}
