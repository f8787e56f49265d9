package feature

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// MinTimestamp and MaxTimestamp bound the instants that Forebay takes: the
// years 0001 to 9999, which RFC 3339 can write.
var (
	MinTimestamp = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	MaxTimestamp = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC).UnixMicro()
)

// AppendTimestamp appends an instant in RFC 3339, UTC, with as many digits of
// a second as it needs.
func AppendTimestamp(dst []byte, micros int64) []byte {
	return time.UnixMicro(micros).UTC().AppendFormat(dst, time.RFC3339Nano)
}

// FormatTimestamp is an instant in RFC 3339, UTC.
func FormatTimestamp(micros int64) string { return string(AppendTimestamp(nil, micros)) }

var layouts = []string{
	time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999-07", "2006-01-02T15:04:05.999999999-0700",
	"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999",
	"2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02",
}

// ParseTimestamp reads an instant: RFC 3339, or a date and time without a zone
// (which is UTC) or with a space for the T, or a date alone (its midnight).
// What is finer than a microsecond is floored.
func ParseTimestamp(s string) (int64, error) {
	for _, l := range layouts {
		t, err := time.Parse(l, s)
		if err != nil {
			continue
		}
		return floorMicros(t)
	}
	return 0, fmt.Errorf("%q is not an instant such as 2006-01-02T15:04:05Z", s)
}

func floorMicros(t time.Time) (int64, error) {
	// time.Time keeps nanoseconds as a positive fraction, so UnixMicro floors.
	m := t.UnixMicro()
	if m < MinTimestamp || m > MaxTimestamp {
		return 0, fmt.Errorf("%s is not between the years 1 and 9999", t.Format(time.RFC3339))
	}
	return m, nil
}

// FloorDiv is a / b rounded towards minus infinity; b must be positive.
func FloorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// Duration is a length of time in microseconds; Lifetime has no end.
type Duration int64

// Lifetime is the window without a tail.
const Lifetime Duration = math.MaxInt64

// The units of a Duration.
const (
	Second = Duration(1e6)
	Minute = 60 * Second
	Hour   = 60 * Minute
	Day    = 24 * Hour
	Week   = 7 * Day
)

var durationUnits = []struct {
	suffix string
	unit   Duration
}{{"w", Week}, {"d", Day}, {"h", Hour}, {"m", Minute}, {"s", Second}}

var errDuration = errors.New("not a duration such as 90s, 15m, 24h, 7d, 4w or lifetime")

// ParseDuration reads a whole number and a unit (s, m, h, d, w), or "lifetime".
func ParseDuration(s string) (Duration, error) {
	if s == "lifetime" {
		return Lifetime, nil
	}
	for _, u := range durationUnits {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || digits == "" || digits[0] == '+' {
			break
		}
		if n > uint64(100*366*Day/u.unit) {
			return 0, fmt.Errorf("%q is longer than a hundred years; write lifetime", s)
		}
		return Duration(n) * u.unit, nil
	}
	return 0, fmt.Errorf("%q is %w", s, errDuration)
}

// String is the duration in its largest whole unit: 24h stays 1d.
func (d Duration) String() string {
	if d == Lifetime {
		return "lifetime"
	}
	for _, u := range durationUnits {
		if d%u.unit == 0 && (d != 0 || u.unit == Second) {
			return strconv.FormatInt(int64(d/u.unit), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(d), 10) + "us"
}
