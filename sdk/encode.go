package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/forebay/forebay/registry/feature"
)

// Values are named values: of an entity, or of a row to push. A value may be nil
// (null), a bool, any integer or float, a string, []byte, a time.Time, a
// json.Number, a slice of these, or a pointer to one of them.
type Values map[string]any

// Entity is what features are looked up for: its join keys and the request's
// fields, by name. Values as those of [Values].
type Entity map[string]any

// appendObject appends named values as a JSON object, in the order of their names.
func appendObject(dst []byte, values map[string]any, names []string) ([]byte, []string, error) {
	names = names[:0]
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = feature.AppendStringJSON(dst, name)
		dst = append(dst, ':')
		var err error
		if dst, err = appendAny(dst, values[name]); err != nil {
			return dst, names, fmt.Errorf("%s: %w", name, err)
		}
	}
	return append(dst, '}'), names, nil
}

// appendAny appends a value as the server reads it.
func appendAny(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case string:
		return feature.AppendStringJSON(dst, v), nil
	case int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case float64:
		return feature.AppendFloatJSON(dst, v, 64), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case []byte:
		if v == nil {
			return append(dst, "null"...), nil
		}
		return feature.OfBytes(v).AppendJSON(dst), nil
	case time.Time:
		return appendTime(dst, v)
	case json.Number:
		if v == "" || !json.Valid([]byte(v)) || (v[0] != '-' && (v[0] < '0' || v[0] > '9')) {
			return dst, fmt.Errorf("%q is not a number", string(v))
		}
		return append(dst, v...), nil
	}
	return appendReflected(dst, reflect.ValueOf(v))
}

func appendTime(dst []byte, t time.Time) ([]byte, error) {
	micros := t.UnixMicro()
	if micros < feature.MinTimestamp || micros > feature.MaxTimestamp {
		return dst, fmt.Errorf("%s is not between the years 1 and 9999", t)
	}
	return feature.OfTimestamp(micros).AppendJSON(dst), nil
}

// appendReflected appends values of types that are not matched directly: named
// types, narrow numbers, slices and pointers.
func appendReflected(dst []byte, v reflect.Value) ([]byte, error) {
	switch v.Kind() {
	case reflect.Bool:
		return strconv.AppendBool(dst, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(dst, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if v.Uint() > math.MaxInt64 {
			return dst, fmt.Errorf("%d does not fit into an int64", v.Uint())
		}
		return strconv.AppendUint(dst, v.Uint(), 10), nil
	case reflect.Float32:
		return feature.AppendFloatJSON(dst, v.Float(), 32), nil
	case reflect.Float64:
		return feature.AppendFloatJSON(dst, v.Float(), 64), nil
	case reflect.String:
		return feature.AppendStringJSON(dst, v.String()), nil
	case reflect.Pointer:
		if v.IsNil() {
			return append(dst, "null"...), nil
		}
		return appendAny(dst, v.Elem().Interface())
	case reflect.Slice, reflect.Array:
		if v.Kind() == reflect.Slice && v.IsNil() {
			return append(dst, "null"...), nil
		}
		if v.Type().Elem().Kind() == reflect.Uint8 && v.Kind() == reflect.Slice {
			return feature.OfBytes(v.Bytes()).AppendJSON(dst), nil
		}
		dst = append(dst, '[')
		for i := range v.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			var err error
			if dst, err = appendAny(dst, v.Index(i).Interface()); err != nil {
				return dst, fmt.Errorf("element %d: %w", i, err)
			}
		}
		return append(dst, ']'), nil
	}
	if !v.IsValid() {
		return dst, errors.New("no value")
	}
	return dst, fmt.Errorf("a %s cannot be sent", v.Type())
}
