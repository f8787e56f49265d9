package expr

import (
	"bytes"
	"cmp"
	"math"
	"strings"

	"github.com/google/cel-go/common/overloads"

	"github.com/forebay/forebay/registry/feature"
)

// unaryOp finds the native operator of one operand by CEL's name of the
// overload; nil if it has none and CEL's own function is called.
func unaryOp(overload string) func(feature.Value) feature.Value {
	switch overload {
	case overloads.LogicalNot:
		return func(a feature.Value) feature.Value { return feature.OfBool(!a.Bool()) }
	case overloads.NegateInt64:
		return func(a feature.Value) feature.Value {
			if a.Int64() == math.MinInt64 {
				return feature.Invalid()
			}
			return feature.OfInt64(-a.Int64())
		}
	case overloads.NegateDouble:
		return func(a feature.Value) feature.Value { return feature.OfFloat64(-a.Float64()) }
	case overloads.IntToDouble:
		return func(a feature.Value) feature.Value { return feature.OfFloat64(float64(a.Int64())) }
	}
	return nil
}

// binaryOp is unaryOp for operators of two operands.
func binaryOp(overload string) func(a, b feature.Value) feature.Value {
	switch overload {
	case overloads.AddInt64:
		return func(a, b feature.Value) feature.Value {
			x, y := a.Int64(), b.Int64()
			s := x + y
			return intUnless((x^s)&(y^s) < 0, s)
		}
	case overloads.SubtractInt64:
		return func(a, b feature.Value) feature.Value {
			x, y := a.Int64(), b.Int64()
			d := x - y
			return intUnless((x^y)&(x^d) < 0, d)
		}
	case overloads.MultiplyInt64:
		return func(a, b feature.Value) feature.Value {
			x, y := a.Int64(), b.Int64()
			if x == 0 || y == 0 {
				return feature.OfInt64(0)
			}
			p := x * y
			return intUnless(p/y != x || x == -1 && y == math.MinInt64 || y == -1 && x == math.MinInt64, p)
		}
	case overloads.DivideInt64:
		return func(a, b feature.Value) feature.Value {
			x, y := a.Int64(), b.Int64()
			if y == 0 || x == math.MinInt64 && y == -1 {
				return feature.Invalid()
			}
			return feature.OfInt64(x / y)
		}
	case overloads.ModuloInt64:
		return func(a, b feature.Value) feature.Value {
			x, y := a.Int64(), b.Int64()
			if y == 0 || x == math.MinInt64 && y == -1 {
				return feature.Invalid()
			}
			return feature.OfInt64(x % y)
		}
	case overloads.AddDouble:
		return floatOp(func(x, y float64) float64 { return x + y })
	case overloads.SubtractDouble:
		return floatOp(func(x, y float64) float64 { return x - y })
	case overloads.MultiplyDouble:
		return floatOp(func(x, y float64) float64 { return x * y })
	case overloads.DivideDouble:
		divide := floatOp(func(x, y float64) float64 { return x / y })
		return func(a, b feature.Value) feature.Value {
			if b.Float64() == 0 {
				return feature.Invalid()
			}
			return divide(a, b)
		}
	}
	return comparison(overload)
}

func intUnless(overflow bool, i int64) feature.Value {
	if overflow {
		return feature.Invalid()
	}
	return feature.OfInt64(i)
}

// floatOp makes an operator that is invalid where finite operands overflow.
// Infinities and NaNs that came in go on as IEEE 754 has them.
func floatOp(op func(x, y float64) float64) func(a, b feature.Value) feature.Value {
	return func(a, b feature.Value) feature.Value {
		x, y := a.Float64(), b.Float64()
		r := op(x, y)
		if !finite(r) && finite(x) && finite(y) {
			return feature.Invalid()
		}
		return feature.OfFloat64(r)
	}
}

func finite(f float64) bool { return !math.IsInf(f, 0) && f == f }

// comparison finds <, <=, > and >= of two values of one type, or of an int64 and
// a float64, and the tests of one text against another. Nothing is less or
// greater than NaN, nor equal to it.
func comparison(overload string) func(a, b feature.Value) feature.Value {
	switch overload {
	case overloads.LessInt64, overloads.LessTimestamp:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(a.Int64() < b.Int64()) }
	case overloads.LessEqualsInt64, overloads.LessEqualsTimestamp:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(a.Int64() <= b.Int64()) }
	case overloads.GreaterInt64, overloads.GreaterTimestamp:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(a.Int64() > b.Int64()) }
	case overloads.GreaterEqualsInt64, overloads.GreaterEqualsTimestamp:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(a.Int64() >= b.Int64()) }
	case overloads.LessDouble:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(a.Float64() < b.Float64()) }
	case overloads.LessEqualsDouble:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(a.Float64() <= b.Float64()) }
	case overloads.GreaterDouble:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(a.Float64() > b.Float64()) }
	case overloads.GreaterEqualsDouble:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(a.Float64() >= b.Float64()) }
	case overloads.LessInt64Double, overloads.LessDoubleInt64:
		return mixed(func(c int) bool { return c < 0 })
	case overloads.LessEqualsInt64Double, overloads.LessEqualsDoubleInt64:
		return mixed(func(c int) bool { return c <= 0 })
	case overloads.GreaterInt64Double, overloads.GreaterDoubleInt64:
		return mixed(func(c int) bool { return c > 0 })
	case overloads.GreaterEqualsInt64Double, overloads.GreaterEqualsDoubleInt64:
		return mixed(func(c int) bool { return c >= 0 })
	case overloads.StartsWithString:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(strings.HasPrefix(a.Str(), b.Str())) }
	case overloads.EndsWithString:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(strings.HasSuffix(a.Str(), b.Str())) }
	case overloads.ContainsString:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(strings.Contains(a.Str(), b.Str())) }
	case overloads.LessString, overloads.LessBytes:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(a.Str() < b.Str()) }
	case overloads.LessEqualsString, overloads.LessEqualsBytes:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(a.Str() <= b.Str()) }
	case overloads.GreaterString, overloads.GreaterBytes:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(a.Str() > b.Str()) }
	case overloads.GreaterEqualsString, overloads.GreaterEqualsBytes:
		return func(a, b feature.Value) feature.Value { return feature.OfBool(a.Str() >= b.Str()) }
	}
	return nil
}

// mixed compares an int64 with a float64, in either order, by their exact values.
func mixed(holds func(c int) bool) func(a, b feature.Value) feature.Value {
	return func(a, b feature.Value) feature.Value {
		if a.Kind() == feature.Int64 {
			f := b.Float64()
			return feature.OfBool(f == f && holds(compareIntFloat(a.Int64(), f)))
		}
		f := a.Float64()
		return feature.OfBool(f == f && holds(-compareIntFloat(b.Int64(), f)))
	}
}

// compareIntFloat compares without the rounding that float64(i) would bring. f is no NaN.
func compareIntFloat(i int64, f float64) int {
	switch {
	case f >= 1<<63:
		return -1
	case f < -(1 << 63):
		return 1
	}
	whole := math.Floor(f)
	if c := cmp.Compare(i, int64(whole)); c != 0 || whole == f {
		return c
	}
	return -1 // i is the floor of f, which has a fraction
}

// equality finds == of two values of one scalar kind.
func equality(k feature.Kind) func(a, b feature.Value) bool {
	switch k {
	case feature.Bool, feature.Int64, feature.Timestamp:
		return func(a, b feature.Value) bool { return a.Bits() == b.Bits() }
	case feature.Float64:
		return func(a, b feature.Value) bool { return a.Float64() == b.Float64() }
	case feature.String, feature.Bytes:
		return func(a, b feature.Value) bool { return bytes.Equal(a.Bytes(), b.Bytes()) }
	}
	return nil
}
