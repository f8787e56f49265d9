package feature

import "testing"

func TestParseTimestamp(t *testing.T) {
	for s, want := range map[string]string{
		"2001-06-30T23:51:00Z":           "2001-06-30T23:51:00Z",
		"2001-06-30T23:51:00.1234569Z":   "2001-06-30T23:51:00.123456Z",
		"1969-12-31T23:59:59.9999999Z":   "1969-12-31T23:59:59.999999Z",
		"2001-06-30T23:51:00+02:00":      "2001-06-30T21:51:00Z",
		"2001-06-30 23:51:00":            "2001-06-30T23:51:00Z",
		"2001-06-30 23:51:00.5+00":       "2001-06-30T23:51:00.5Z",
		"2001-06-30T23:51:00":            "2001-06-30T23:51:00Z",
		"2001-06-30 23:51":               "2001-06-30T23:51:00Z",
		"2001-06-30":                     "2001-06-30T00:00:00Z",
		"2001-06-30 23:51:00.25 +00:00x": "",
		"30.06.2001":                     "",
		"2001-02-29":                     "",
		"1234567890":                     "",
		"":                               "",
	} {
		m, err := ParseTimestamp(s)
		if want == "" {
			if err == nil {
				t.Errorf("%q was taken as %s", s, FormatTimestamp(m))
			}
			continue
		}
		if err != nil || FormatTimestamp(m) != want {
			t.Errorf("%q: %s, %v; want %s", s, FormatTimestamp(m), err, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for s, want := range map[string]Duration{
		"90s": 90 * Second, "15m": 15 * Minute, "24h": Day, "7d": Week, "4w": 4 * Week, "0s": 0, "lifetime": Lifetime,
	} {
		d, err := ParseDuration(s)
		if err != nil || d != want {
			t.Errorf("%q: %d, %v", s, d, err)
		}
		again, err := ParseDuration(d.String())
		if err != nil || again != d {
			t.Errorf("%q is written as %q, which reads as %d, %v", s, d, again, err)
		}
	}
	for _, s := range []string{"", "1", "h", "-1h", "+1h", "1.5h", "1h30m", "1y", " 1h", "99999999999999999999s", "40000d"} {
		if d, err := ParseDuration(s); err == nil {
			t.Errorf("%q was taken as %s", s, d)
		}
	}
}

func TestFloorDiv(t *testing.T) {
	for _, c := range [][3]int64{{7, 2, 3}, {-7, 2, -4}, {-8, 2, -4}, {0, 5, 0}, {-1, 1000, -1}} {
		if got := FloorDiv(c[0], c[1]); got != c[2] {
			t.Errorf("FloorDiv(%d, %d) = %d, want %d", c[0], c[1], got, c[2])
		}
	}
}
