package pitscript

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/forebay/forebay/internal/rowjson"
	"github.com/forebay/forebay/registry/feature"
)

// calendar reads instants, which may be written from the script's start.
type calendar struct{ start int64 }

// defaultStart is the start of a script that names none.
var defaultStart = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// instant reads an instant in any of its forms.
func (c calendar) instant(text string) (int64, error) {
	if strings.HasPrefix(text, "+") || strings.HasPrefix(text, "-") {
		d, err := duration(text[1:])
		if err != nil {
			return 0, fmt.Errorf("%s is not an instant: %w", quote(text), err)
		}
		if text[0] == '-' {
			d = -d
		}
		at := c.start + d
		if at < feature.MinTimestamp || at > feature.MaxTimestamp {
			return 0, fmt.Errorf("%s is not between the years 1 and 9999", quote(text))
		}
		return at, nil
	}
	for _, layout := range []string{"15:04", "15:04:05.999999999"} {
		if t, err := time.Parse(layout, text); err == nil {
			day := feature.FloorDiv(c.start, int64(feature.Day)) * int64(feature.Day)
			return day + t.Sub(t.Truncate(24*time.Hour)).Microseconds(), nil
		}
	}
	at, err := feature.ParseTimestamp(text)
	if err != nil {
		return 0, fmt.Errorf("%s is not an instant such as 10:30, 2024-03-01, 2024-03-01T10:30:00Z or +1d2h (from the start)", quote(text))
	}
	return at, nil
}

// show writes an instant the shortest way that reads back to it: a clock time on the
// day of the start.
func (c calendar) show(at int64) string {
	t := time.UnixMicro(at).UTC()
	if feature.FloorDiv(at, int64(feature.Day)) != feature.FloorDiv(c.start, int64(feature.Day)) {
		return feature.FormatTimestamp(at)
	}
	if t.Second() == 0 && t.Nanosecond() == 0 {
		return t.Format("15:04")
	}
	return t.Format("15:04:05.999999")
}

var units = []struct {
	name  string
	micro int64
}{
	{"ms", 1000}, {"us", 1}, {"w", int64(feature.Week)}, {"d", int64(feature.Day)}, {"h", int64(feature.Hour)},
	{"m", int64(feature.Minute)}, {"s", int64(feature.Second)},
}

// duration reads lengths such as 15m or 1d2h30m, in microseconds.
func duration(text string) (sum int64, err error) {
	wrong := fmt.Errorf("%s is not a duration such as 90s, 15m or 1d2h", quote(text))
	rest := text
	for {
		digits := 0
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			digits++
		}
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil {
			return 0, wrong
		}
		rest = rest[digits:]
		found := false
		for _, u := range units {
			after, ok := strings.CutPrefix(rest, u.name)
			if !ok {
				continue
			}
			if n > (feature.MaxTimestamp-feature.MinTimestamp)/u.micro {
				return 0, fmt.Errorf("%s is longer than all of time", quote(text))
			}
			found, rest = true, after
			sum += n * u.micro
			break
		}
		if !found || sum > feature.MaxTimestamp-feature.MinTimestamp {
			return 0, wrong
		}
		if rest == "" {
			return sum, nil
		}
	}
}

// value reads a cell as a type. An empty cell and null are the null value.
func (c calendar) value(t feature.Type, text string) (feature.Value, error) {
	if text == "" || text == "null" {
		return feature.Value{}, nil
	}
	raw := []byte(text)
	quoted := strings.HasPrefix(text, `"`)
	switch t.Kind {
	case feature.Timestamp:
		if quoted {
			return rowjson.ParseValue(t, rowjson.RFC3339, raw)
		}
		at, err := c.instant(text)
		return feature.OfTimestamp(at), err
	case feature.String, feature.Bytes:
		if !quoted {
			raw = feature.AppendStringJSON(nil, text)
		}
	case feature.Float64:
		if text == "NaN" || text == "Infinity" || text == "-Infinity" {
			raw = feature.AppendStringJSON(nil, text)
		}
	}
	v, err := rowjson.ParseValue(t, rowjson.RFC3339, raw)
	if err == nil && v.IsNull() { // null was dealt with: some other text that begins like it
		err = fmt.Errorf("want %s, got %s", t, quote(text))
	}
	return v, err
}

// Expected is what a script expects of one value.
type Expected struct {
	Any    bool // nothing is expected
	Value  feature.Value
	Status feature.Status
	// Tolerance is how far a number may be off: absolutely, or of the expected value where Relative.
	Tolerance float64
	Relative  bool
	text      string // as it is written
}

// String is the expectation as the script has it.
func (e *Expected) String() string { return e.text }

// expected reads what is expected of a value of a type.
func (c calendar) expected(t feature.Type, text string) (e Expected, err error) {
	e.text = text
	if text == "*" {
		e.Any = true
		return e, nil
	}
	rest, status, stated := cutStatus(text)
	number := t.Kind == feature.Int64 || t.Kind == feature.Float64
	if number || t.Kind == feature.List && (t.Elem == feature.Int64 || t.Elem == feature.Float64) {
		var tolerance string
		var tolerant bool
		if rest, tolerance, tolerant = cutTolerance(rest); tolerant {
			number := strings.TrimSpace(tolerance)
			number, e.Relative = strings.CutSuffix(number, "%")
			if e.Tolerance, err = strconv.ParseFloat(number, 64); err != nil || !(e.Tolerance >= 0) || math.IsInf(e.Tolerance, 0) {
				return e, fmt.Errorf("%s is not a tolerance such as ~0.5 or ~2%%", quote("~"+tolerance))
			}
			if e.Relative {
				e.Tolerance /= 100
			}
		}
	}
	if stated && rest == "" {
		rest = "null"
	}
	if e.Value, err = c.value(t, rest); err != nil {
		return e, err
	}
	switch {
	case !stated:
		e.Status = feature.StatusOf(e.Value)
	case status == feature.Present && e.Value.IsNull():
		return e, fmt.Errorf("a value that is null is never PRESENT: it is NULL_VALUE, NOT_FOUND, OUTSIDE_MAX_AGE or INVALID")
	case !e.Value.IsNull() && status != feature.Present && status != feature.NotFound:
		return e, fmt.Errorf("a value that is %s is null", status)
	default:
		e.Status = status
	}
	return e, nil
}

// cutStatus takes the status off the end of an expectation.
func cutStatus(text string) (rest string, status feature.Status, ok bool) {
	last := strings.LastIndexAny(text, " \t") + 1
	status, ok = feature.ParseStatus(text[last:])
	if !ok {
		return text, 0, false
	}
	return strings.TrimRight(text[:last], " \t"), status, true
}

// cutTolerance takes "~ 0.5" off the end of an expectation.
func cutTolerance(text string) (rest, tolerance string, ok bool) {
	parts, starts := split(text, func(b byte) bool { return b == '~' })
	if len(parts) != 2 || strings.TrimSpace(parts[0]) == "" {
		return text, "", false
	}
	return strings.TrimRight(text[:starts[1]-1], " \t"), parts[1], true
}
