package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/forebay/forebay/internal/jsonscan"
	"github.com/forebay/forebay/registry/feature"
)

// appendFeastKey reads a value as Feast's server does where it is a join key:
// int() and str() of Python, as far as they keep the value. A key is never
// changed by it: 1001.0 and "1001" are 1001, but 1001.5 is a mistake (Python
// would cut it off), and so is what a float cannot hold exactly.
func appendFeastKey(s *jsonscan.Scanner, c *feature.Column) error {
	k, err := s.Peek()
	if err != nil {
		return err
	}
	switch c.Type.Kind {
	case feature.Int64:
		switch k {
		case jsonscan.True, jsonscan.False:
			b, err := s.Bool()
			if err != nil {
				return err
			}
			n := uint64(0)
			if b {
				n = 1
			}
			c.AppendBits(n)
			return nil
		case jsonscan.String:
			b, err := s.Text()
			if err != nil {
				return err
			}
			n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
			if err != nil {
				if errors.Is(err, strconv.ErrRange) {
					return fmt.Errorf("Value out of range: %s", short(b))
				}
				return fmt.Errorf("invalid literal for int() with base 10: '%s'", short(b))
			}
			c.AppendBits(uint64(n)) //nolint:gosec // the bits of an int64
			return nil
		case jsonscan.Number:
			lit, err := s.Literal()
			if err != nil {
				return err
			}
			n, err := wholeNumber(lit)
			if err != nil {
				return err
			}
			c.AppendBits(uint64(n)) //nolint:gosec // the bits of an int64
			return nil
		}
	case feature.String:
		switch k {
		case jsonscan.True, jsonscan.False:
			b, err := s.Bool()
			if err != nil {
				return err
			}
			if b {
				c.AppendBytes([]byte("True"))
			} else {
				c.AppendBytes([]byte("False"))
			}
			return nil
		case jsonscan.Number:
			lit, err := s.Literal()
			if err != nil {
				return err
			}
			text, err := pythonNumber(lit)
			if err != nil {
				return err
			}
			c.AppendBytes(text)
			return nil
		}
	}
	return appendJSON(s, c)
}

// wholeNumber reads a number's literal as an int64 if it is one, however it is written.
func wholeNumber(lit []byte) (int64, error) {
	n, err := jsonscan.ParseInt64(lit)
	if !errors.Is(err, jsonscan.ErrNotWhole) {
		if err != nil {
			return 0, fmt.Errorf("Value out of range: %s", short(lit))
		}
		return n, nil
	}
	f, err := jsonscan.ParseFloat64(lit)
	switch {
	case err != nil || math.Abs(f) >= 1<<63:
		return 0, fmt.Errorf("Value out of range: %s", short(lit))
	case f != math.Trunc(f):
		return 0, fmt.Errorf("%s is not a whole number", short(lit))
	case math.Abs(f) >= 1<<53 && !bytes.Equal(significant(lit), significant(strconv.AppendFloat(nil, f, 'e', -1, 64))):
		return 0, fmt.Errorf("%s is not a number that a float can hold", short(lit))
	}
	return int64(f), nil
}

// significant are the digits of a number's literal without zeros around them.
func significant(lit []byte) []byte {
	if e := bytes.IndexAny(lit, "eE"); e >= 0 {
		lit = lit[:e]
	}
	return bytes.Trim(bytes.ReplaceAll(lit, []byte("."), nil), "-0")
}

// appendFeastField reads the value of a request field. Python computes with bools as with
// numbers, and for Feast NaN is no value.
func appendFeastField(s *jsonscan.Scanner, c *feature.Column) error {
	k, err := s.Peek()
	if err != nil {
		return err
	}
	if c.Type.Kind != feature.Float64 && c.Type.Kind != feature.Int64 {
		return appendJSON(s, c)
	}
	switch k {
	case jsonscan.True, jsonscan.False:
		b, err := s.Bool()
		if err != nil {
			return err
		}
		n := int64(0)
		if b {
			n = 1
		}
		if c.Type.Kind == feature.Int64 {
			c.Append(feature.OfInt64(n))
		} else {
			c.Append(feature.OfFloat64(float64(n)))
		}
		return nil
	case jsonscan.Number:
		lit, err := s.Literal()
		if err != nil {
			return err
		}
		if string(lit) == pythonNaN {
			c.AppendNull()
			return nil
		}
		if c.Type.Kind == feature.Int64 {
			n, err := wholeNumber(lit)
			if err != nil {
				return err
			}
			c.Append(feature.OfInt64(n))
			return nil
		}
		c.Append(feature.OfFloat64(pythonFloat(lit)))
		return nil
	}
	return appendJSON(s, c)
}

const pythonNaN = "NaN"

// pythonFloat is float() of a number: one past the end is infinite.
func pythonFloat(lit []byte) float64 {
	f, err := strconv.ParseFloat(string(lit), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // never: a scanner has read it
		return math.NaN()
	}
	return f
}

// appendPlain appends what Python calls JSON as JSON: numbers that JSON has not become strings.
func appendPlain(dst, raw []byte) []byte {
	quoted := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			dst = append(dst, c)
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == 'N':
			dst = append(dst, `"NaN"`...)
			i += len("NaN") - 1
			continue
		case c == 'I':
			dst = append(dst, `"Infinity"`...)
			i += len("Infinity") - 1
			continue
		case c == '-' && raw[i+1] == 'I':
			dst = append(dst, `"-Infinity"`...)
			i += len("-Infinity") - 1
			continue
		}
		dst = append(dst, raw[i])
	}
	return dst
}

// appendFeastEcho appends a value that nothing reads as Feast gives it back.
func appendFeastEcho(dst, raw []byte) []byte {
	if missing(raw) {
		return append(dst, "null"...)
	}
	if f, err := strconv.ParseFloat(string(raw), 64); errors.Is(err, strconv.ErrRange) && bytes.ContainsAny(raw, ".eE") {
		return feature.OfFloat64(f).AppendJSON(dst)
	}
	return appendPlain(dst, raw)
}

// missing reports whether a value is null or, which is the same to Feast, NaN.
func missing(raw []byte) bool { return raw[0] == 'n' || raw[0] == 'N' }

// pythonNumber is str() of a number.
func pythonNumber(lit []byte) ([]byte, error) {
	if !bytes.ContainsAny(lit, ".eENI") {
		if string(lit) == "-0" {
			lit = lit[1:]
		}
		return lit, nil
	}
	f := pythonFloat(lit)
	switch abs := math.Abs(f); {
	case math.IsNaN(f):
		return nil, errors.New("NaN is no key")
	case math.IsInf(f, 1):
		return []byte("inf"), nil
	case math.IsInf(f, -1):
		return []byte("-inf"), nil
	case abs != 0 && (abs < 1e-4 || abs >= 1e16):
		return strconv.AppendFloat(nil, f, 'e', -1, 64), nil
	}
	return feature.AppendFloatJSON(nil, f, 64), nil
}

// appendFeastValue appends a value as Feast writes it: timestamps are whole
// seconds since the Unix epoch.
func appendFeastValue(dst []byte, v feature.Value) []byte {
	switch {
	case v.Kind() == feature.Timestamp:
		return strconv.AppendInt(dst, feature.FloorDiv(v.Int64(), 1e6), 10)
	case v.Kind() == feature.List && v.Elem() == feature.Timestamp:
		dst = append(dst, '[')
		for i, e := range v.List() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendFeastValue(dst, e)
		}
		return append(dst, ']')
	}
	return v.AppendJSON(dst)
}

// feastEpoch is the event time of what has none.
const feastEpoch = `"1970-01-01T00:00:00Z"`

// appendFeastTime appends an event time as protobuf's JSON writes it: with no,
// three or six digits of a second.
func appendFeastTime(dst []byte, micros int64) []byte {
	if micros == NoTime {
		return append(dst, feastEpoch...)
	}
	seconds := feature.FloorDiv(micros, 1e6)
	dst = append(dst, '"')
	dst = feature.AppendTimestamp(dst, seconds*1e6)
	dst = dst[:len(dst)-1] // the Z
	switch fraction := micros - seconds*1e6; {
	case fraction == 0:
	case fraction%1000 == 0:
		dst = appendPadded(append(dst, '.'), fraction/1000, 3)
	default:
		dst = appendPadded(append(dst, '.'), fraction, 6)
	}
	return append(dst, 'Z', '"')
}

func appendPadded(dst []byte, n int64, digits int) []byte {
	var b [6]byte
	for i := digits - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return append(dst, b[:digits]...)
}
