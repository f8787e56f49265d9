package sdk

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/jsonscan"
	"github.com/forebay/forebay/registry/feature"
)

// Status says why a value is what it is.
type Status string

// The statuses of values.
const (
	Present       Status = "PRESENT"
	NullValue     Status = "NULL_VALUE"      // the row is there, its value is null
	Invalid       Status = "INVALID"         // it could not be computed
	NotFound      Status = "NOT_FOUND"       // there is no row
	OutsideMaxAge Status = "OUTSIDE_MAX_AGE" // the newest row is older than the view's ttl
)

// Result is the answer to a lookup. It is immutable, and safe for concurrent use.
type Result struct {
	// Revision is the ID of the registry's revision that answered.
	Revision string
	// Instant is the instant that was looked up: the server's clock, mostly.
	Instant time.Time
	// StaleSince is zero, or since when some of the values may have changed: the server could not reach
	// its online store, and answered with what it had read by then.
	StaleSince time.Time

	features []string
	index    map[string]int
	rows     int
	cells    []cell // row by row
}

// cell is one value as it was written.
type cell struct {
	value  []byte // JSON
	time   []byte // RFC 3339; empty for none
	status Status // "" where statuses were omitted
}

// Len is the number of rows: one for each entity asked for.
func (r *Result) Len() int { return r.rows }

// Features are the names of the features, in the order asked for. Do not change them.
func (r *Result) Features() []string { return r.features }

// Row is row i: the features of the entity that was asked for at place i. It
// panics if there is none.
func (r *Result) Row(i int) Row {
	if i < 0 || i >= r.rows {
		panic(fmt.Sprintf("sdk: row %d of a result of %d", i, r.rows))
	}
	return Row{r, i}
}

// Row is one row of a Result. Its typed methods report false for a null, for a
// value of another type, and for a name that is no feature of the result; Status
// tells them apart.
type Row struct {
	result *Result
	i      int
}

func (r Row) cell(name string) (cell, bool) {
	j, ok := r.result.index[name]
	if !ok {
		return cell{}, false
	}
	return r.result.cells[r.i*len(r.result.features)+j], true
}

// Status says why a value is what it is. It is "" for a name that is no feature of
// the result, and where statuses were omitted.
func (r Row) Status(name string) Status {
	c, _ := r.cell(name)
	return c.status
}

// EventTime is the event time of the row that a value is from; false if there is none.
func (r Row) EventTime(name string) (time.Time, bool) {
	c, ok := r.cell(name)
	if !ok || len(c.time) == 0 {
		return time.Time{}, false
	}
	micros, err := feature.ParseTimestamp(string(c.time))
	return time.UnixMicro(micros).UTC(), err == nil
}

// value reads a cell with a function; false for null and for what it cannot read.
func value[T any](r Row, name string, read func([]byte) (T, error)) (v T, ok bool) {
	c, ok := r.cell(name)
	if !ok || isNull(c.value) {
		return v, false
	}
	v, err := read(c.value)
	return v, err == nil
}

func isNull(raw []byte) bool { return len(raw) == 0 || raw[0] == 'n' }

// Float64 is the value of a float64 feature, or that of an int64 feature as a float64.
func (r Row) Float64(name string) (float64, bool) { return value(r, name, readFloat64) }

// Int64 is the value of an int64 feature, whole.
func (r Row) Int64(name string) (int64, bool) { return value(r, name, readInt64) }

// Bool is the value of a bool feature.
func (r Row) Bool(name string) (bool, bool) { return value(r, name, readBool) }

// String is the value of a string feature.
func (r Row) String(name string) (string, bool) { return value(r, name, readString) }

// Bytes is the value of a bytes feature.
func (r Row) Bytes(name string) ([]byte, bool) { return value(r, name, readBytes) }

// Timestamp is the value of a timestamp feature, in UTC.
func (r Row) Timestamp(name string) (time.Time, bool) { return value(r, name, readTime) }

// Float64s is the value of a list<float64> or an embedding.
func (r Row) Float64s(name string) ([]float64, bool) {
	return value(r, name, listOf(readFloat64))
}

// Int64s is the value of a list<int64>.
func (r Row) Int64s(name string) ([]int64, bool) { return value(r, name, listOf(readInt64)) }

// Strings is the value of a list<string>.
func (r Row) Strings(name string) ([]string, bool) { return value(r, name, listOf(readString)) }

// Value is the value of any feature: nil, bool, int64, float64, string (also for
// bytes and timestamps, as they are written) or a []any of these.
func (r Row) Value(name string) (v any, ok bool) {
	c, ok := r.cell(name)
	if !ok || isNull(c.value) {
		return nil, false
	}
	v, err := readAny(c.value)
	return v, err == nil
}

var errType = errors.New("another type of value")

func readFloat64(raw []byte) (float64, error) {
	switch string(raw) {
	case `"NaN"`:
		return math.NaN(), nil
	case `"Infinity"`:
		return math.Inf(1), nil
	case `"-Infinity"`:
		return math.Inf(-1), nil
	}
	if !isNumber(raw) {
		return 0, errType
	}
	return jsonscan.ParseFloat64(raw)
}

func readInt64(raw []byte) (int64, error) {
	if !isNumber(raw) {
		return 0, errType
	}
	return jsonscan.ParseInt64(raw)
}

func isNumber(raw []byte) bool { return raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9' }

func readBool(raw []byte) (bool, error) {
	if raw[0] != 't' && raw[0] != 'f' {
		return false, errType
	}
	return raw[0] == 't', nil
}

func readString(raw []byte) (string, error) {
	if raw[0] != '"' {
		return "", errType
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	var s jsonscan.Scanner
	if err := s.Reset(bytes.Clone(raw)); err != nil { // it unescapes in place, and results are shared
		return "", err
	}
	b, err := s.Text()
	return string(b), err
}

func readBytes(raw []byte) ([]byte, error) {
	text, err := readString(raw)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}

func readTime(raw []byte) (time.Time, error) {
	text, err := readString(raw)
	if err != nil {
		return time.Time{}, err
	}
	micros, err := feature.ParseTimestamp(text)
	return time.UnixMicro(micros).UTC(), err
}

// listOf reads an array whose elements read reads.
func listOf[T any](read func([]byte) (T, error)) func([]byte) ([]T, error) {
	return func(raw []byte) ([]T, error) {
		var s jsonscan.Scanner
		if err := s.Reset(raw); err != nil { // Skip changes nothing
			return nil, err
		}
		if err := s.OpenArray(); err != nil {
			return nil, errType
		}
		list := []T{}
		for {
			more, err := s.More()
			if err != nil || !more {
				return list, err
			}
			e, err := s.Skip()
			if err != nil {
				return nil, err
			}
			v, err := read(e)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
	}
}

func readAny(raw []byte) (any, error) {
	switch raw[0] {
	case 'n':
		return nil, nil //nolint:nilnil // null
	case 't', 'f':
		return readBool(raw)
	case '"':
		return readString(raw)
	case '[':
		return listOf(readAny)(raw)
	}
	if n, err := jsonscan.ParseInt64(raw); err == nil {
		return n, nil
	}
	return readFloat64(raw)
}

// decodeResult reads the answer to a lookup. The result refers to it.
func decodeResult(body []byte) (*Result, error) {
	var s jsonscan.Scanner
	if err := s.Reset(body); err != nil {
		return nil, err
	}
	r := &Result{}
	if err := s.OpenObject(); err != nil {
		return nil, err
	}
	for {
		key, more, err := s.Key()
		if err != nil {
			return nil, err
		}
		if !more {
			return r, s.End()
		}
		if err := r.member(&s, string(key)); err != nil {
			return nil, err
		}
	}
}

func (r *Result) member(s *jsonscan.Scanner, name string) error {
	switch name {
	case api.FieldRevision:
		b, err := s.Text()
		r.Revision = string(b)
		return err
	case api.FieldInstant, api.FieldStaleSince:
		b, err := s.Text()
		if err != nil {
			return err
		}
		micros, err := feature.ParseTimestamp(string(b))
		if name == api.FieldInstant {
			r.Instant = time.UnixMicro(micros).UTC()
		} else {
			r.StaleSince = time.UnixMicro(micros).UTC()
		}
		return err
	case api.FieldFeatures:
		r.index = map[string]int{}
		return each(s, func() error {
			b, err := s.Text()
			r.index[string(b)] = len(r.features)
			r.features = append(r.features, string(b))
			return err
		})
	case api.FieldRows:
		if r.index == nil {
			return errors.New("rows before features")
		}
		return each(s, func() error { return r.row(s) })
	}
	_, err := s.Skip() // a later server may say more
	return err
}

// each calls f at each element of an array.
func each(s *jsonscan.Scanner, f func() error) error {
	if err := s.OpenArray(); err != nil {
		return err
	}
	for {
		more, err := s.More()
		if err != nil || !more {
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
}

func (r *Result) row(s *jsonscan.Scanner) error {
	at := len(r.cells)
	for range r.features {
		r.cells = append(r.cells, cell{})
	}
	cells := r.cells[at:]
	r.rows++
	if err := s.OpenObject(); err != nil {
		return err
	}
	for {
		key, more, err := s.Key()
		if err != nil || !more {
			return err
		}
		name := string(key)
		switch name {
		case api.FieldValues, api.FieldStatuses, api.FieldEventTimestamps:
		default:
			if _, err := s.Skip(); err != nil {
				return err
			}
			continue
		}
		j := 0
		err = each(s, func() error {
			if j == len(cells) {
				return fmt.Errorf("row %d has more %s than features", r.rows-1, name)
			}
			err := cells[j].read(s, name)
			j++
			return err
		})
		if err != nil {
			return err
		}
		if j != len(cells) {
			return fmt.Errorf("row %d has %d %s for %d features", r.rows-1, j, name, len(cells))
		}
	}
}

func (c *cell) read(s *jsonscan.Scanner, name string) (err error) {
	switch name {
	case api.FieldValues:
		c.value, err = s.Skip()
	case api.FieldStatuses:
		var b []byte
		b, err = s.Text()
		c.status = statusOf(b)
	case api.FieldEventTimestamps:
		var null bool
		if null, err = s.Null(); err == nil && !null {
			c.time, err = s.Text()
		}
	}
	return err
}

// statusOf is a status without an allocation for those that are known.
func statusOf(b []byte) Status {
	for _, s := range []Status{Present, NullValue, NotFound, OutsideMaxAge, Invalid} {
		if string(b) == string(s) {
			return s
		}
	}
	return Status(b)
}
