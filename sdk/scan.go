package sdk

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/nearest"
)

// Scan fills a slice of structs (or of pointers to structs), one for each row;
// what dest held before is replaced. Fields name a feature in a tag:
//
//	type row struct {
//		Mean  *float64   `forebay:"delay_mean_24h"`
//		Why   sdk.Status `forebay:"delay_mean_24h,status"`
//		AsOf  *time.Time `forebay:"delay_mean_24h,event_timestamp"`
//		Count int64      `forebay:"count_24h"`
//	}
//
// A null leaves a pointer nil, and a plain field zero. Fields without a tag are
// left alone. A name that is no feature of the result, and a value that does not
// fit its field, is an error; then dest is unchanged.
func (r *Result) Scan(dest any) error {
	to := reflect.ValueOf(dest)
	if to.Kind() != reflect.Pointer || to.IsNil() || to.Elem().Kind() != reflect.Slice {
		return fmt.Errorf("sdk: Scan into a %T: want a pointer to a slice of structs", dest)
	}
	slice := to.Elem().Type()
	elem, pointers := slice.Elem(), false
	if elem.Kind() == reflect.Pointer {
		elem, pointers = elem.Elem(), true
	}
	if elem.Kind() != reflect.Struct {
		return fmt.Errorf("sdk: Scan into a %T: want a pointer to a slice of structs", dest)
	}
	targets, err := r.targets(elem, nil)
	if err != nil {
		return err
	}
	out := reflect.MakeSlice(slice, r.rows, r.rows)
	for i := range r.rows {
		row := out.Index(i)
		if pointers {
			row.Set(reflect.New(elem))
			row = row.Elem()
		}
		for _, t := range targets {
			if err := t.fill(row.FieldByIndex(t.index), r.cells[i*len(r.features)+t.feature]); err != nil {
				return fmt.Errorf("sdk: row %d, %s: %w", i, r.features[t.feature], err)
			}
		}
	}
	to.Elem().Set(out)
	return nil
}

// target is a field of a struct, and what it is filled with.
type target struct {
	index   []int
	feature int
	part    string // "", "status" or "event_timestamp"
}

// targets finds the tagged fields of a struct and of those embedded in it.
func (r *Result) targets(t reflect.Type, path []int) (all []target, err error) {
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(append([]int(nil), path...), i)
		tag, ok := f.Tag.Lookup("forebay")
		if !ok && f.Anonymous && f.Type.Kind() == reflect.Struct {
			inner, err := r.targets(f.Type, index)
			if err != nil {
				return nil, err
			}
			all = append(all, inner...)
			continue
		}
		if !ok || tag == "-" {
			continue
		}
		if !f.IsExported() {
			return nil, fmt.Errorf("sdk: field %s.%s has a tag but is not exported", t, f.Name)
		}
		name, part, _ := strings.Cut(tag, ",")
		j, known := r.index[name]
		if !known {
			return nil, fmt.Errorf("sdk: field %s.%s: the result has no feature %q%s", t, f.Name, name, hint(name, r.features))
		}
		if part != "" && part != "status" && part != "event_timestamp" {
			return nil, fmt.Errorf("sdk: field %s.%s: %q in its tag: want status or event_timestamp", t, f.Name, part)
		}
		all = append(all, target{index, j, part})
	}
	return all, nil
}

func hint(name string, known []string) string {
	if h := nearest.Hint(name, known); h != "" {
		return "; " + h
	}
	return ""
}

var (
	timeType   = reflect.TypeFor[time.Time]()
	bytesType  = reflect.TypeFor[[]byte]()
	statusType = reflect.TypeFor[Status]()
)

func (t target) fill(field reflect.Value, c cell) error {
	switch t.part {
	case "status":
		if field.Type() != statusType && field.Kind() != reflect.String {
			return fmt.Errorf("a status goes into an sdk.Status, not into a %s", field.Type())
		}
		field.SetString(string(c.status))
		return nil
	case "event_timestamp":
		if len(c.time) == 0 {
			return nil
		}
		micros, err := feature.ParseTimestamp(string(c.time))
		if err != nil {
			return err
		}
		field = allocated(field)
		if field.Type() != timeType {
			return fmt.Errorf("an event timestamp goes into a time.Time, not into a %s", field.Type())
		}
		field.Set(reflect.ValueOf(time.UnixMicro(micros).UTC()))
		return nil
	}
	if isNull(c.value) {
		return nil
	}
	return setValue(allocated(field), c.value)
}

// allocated is what a pointer points to, made if need be; other fields are themselves.
func allocated(field reflect.Value) reflect.Value {
	for field.Kind() == reflect.Pointer {
		if field.IsNil() {
			field.Set(reflect.New(field.Type().Elem()))
		}
		field = field.Elem()
	}
	return field
}

func setValue(field reflect.Value, raw []byte) error {
	mismatch := func(err error) error {
		if errors.Is(err, errType) {
			return fmt.Errorf("%.60s does not go into a %s", raw, field.Type())
		}
		return fmt.Errorf("%.60s does not go into a %s: %w", raw, field.Type(), err)
	}
	switch {
	case field.Type() == timeType:
		v, err := readTime(raw)
		if err != nil {
			return mismatch(err)
		}
		field.Set(reflect.ValueOf(v))
		return nil
	case field.Type() == bytesType:
		v, err := readBytes(raw)
		if err != nil {
			return mismatch(err)
		}
		field.SetBytes(v)
		return nil
	}
	switch field.Kind() {
	case reflect.Bool:
		v, err := readBool(raw)
		if err != nil {
			return mismatch(err)
		}
		field.SetBool(v)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v, err := readInt64(raw)
		if err != nil {
			return mismatch(err)
		}
		if field.OverflowInt(v) {
			return mismatch(errors.New("it does not fit"))
		}
		field.SetInt(v)
	case reflect.Float32, reflect.Float64:
		v, err := readFloat64(raw)
		if err != nil {
			return mismatch(err)
		}
		field.SetFloat(v)
	case reflect.String:
		v, err := readString(raw)
		if err != nil {
			return mismatch(err)
		}
		field.SetString(v)
	case reflect.Slice:
		elements, err := listOf(func(e []byte) ([]byte, error) { return e, nil })(raw)
		if err != nil {
			return mismatch(err)
		}
		list := reflect.MakeSlice(field.Type(), len(elements), len(elements))
		for i, e := range elements {
			if err := setValue(allocated(list.Index(i)), e); err != nil {
				return fmt.Errorf("element %d: %w", i, err)
			}
		}
		field.Set(list)
	case reflect.Interface:
		v, err := readAny(raw)
		if err != nil {
			return mismatch(err)
		}
		if !reflect.TypeOf(v).AssignableTo(field.Type()) {
			return mismatch(errType)
		}
		field.Set(reflect.ValueOf(v))
	default:
		return mismatch(errType)
	}
	return nil
}
