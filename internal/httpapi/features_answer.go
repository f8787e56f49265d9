package httpapi

import (
	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry/feature"
)

// appendFeatures appends the answer to POST /v1/features:
//
//	{"revision":"sha256:…","instant":"…","features":["…"],
//	 "rows":[{"values":[…],"statuses":[…],"event_timestamps":[…]}]}
//
// with "stale_since":"…" after the instant where there is one.
func appendFeatures(dst []byte, shape *answerShape, f *Found, rows int, r *featuresRequest) []byte {
	dst = append(dst, shape.json...)
	dst = feature.AppendTimestamp(dst, f.Instant)
	if f.StaleSince != 0 {
		dst = append(dst, `","`+api.FieldStaleSince+`":"`...)
		dst = feature.AppendTimestamp(dst, f.StaleSince)
	}
	dst = append(dst, shape.jsonFeatures...)
	var memory [fewStretches]stretch
	same := stretches(memory[:0], f)
	for i := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"`+api.FieldValues+`":[`...)
		for j, c := range f.Columns {
			if j > 0 {
				dst = append(dst, ',')
			}
			dst = appendCell(dst, c, i)
		}
		if !r.omitStatuses {
			dst = append(dst, `],"`+api.FieldStatuses+`":[`...)
			for _, s := range same {
				from := len(dst)
				dst = append(append(dst, statusJSON[s.statuses[i]]...), ',')
				dst = repeatTail(dst, len(dst)-from, s.n)
			}
			if len(f.Statuses) > 0 {
				dst = dst[:len(dst)-1] // the last comma
			}
		}
		if !r.omitTimestamps {
			dst = append(dst, `],"`+api.FieldEventTimestamps+`":[`...)
			dst = appendEventTimes(dst, same, i)
		}
		dst = append(dst, "]}"...)
	}
	return append(dst, "]}\n"...)
}

// appendCell appends one value; numbers without a Value in between.
func appendCell(dst []byte, c *feature.Column, i int) []byte {
	if c.Type.Kind == feature.Float64 && !c.Nulls.Get(i) {
		return feature.AppendFloatJSON(dst, c.Float64s()[i], 64)
	}
	return c.Value(i).AppendJSON(dst)
}

// appendEventTimes appends the event times of a row. Stretches of one record have one instant: it is
// formatted once and copied.
func appendEventTimes(dst []byte, same []stretch, i int) []byte {
	var last int64 = NoTime
	start, end := 0, 0 // where last stands in dst
	for _, s := range same {
		from := len(dst)
		switch t := s.times[i]; {
		case t == NoTime || s.statuses[i] == feature.NotFound:
			dst = append(dst, "null,"...)
		case t == last:
			dst = append(dst, dst[start:end]...)
		default:
			dst = append(dst, '"')
			dst = feature.AppendTimestamp(dst, t)
			dst = append(dst, '"', ',')
			last, start, end = t, from, len(dst)
		}
		dst = repeatTail(dst, len(dst)-from, s.n)
	}
	if len(same) > 0 {
		dst = dst[:len(dst)-1] // the last comma
	}
	return dst
}

// stretch is neighbours among the outputs that share statuses and event times, as those of one record without nulls do:
// what is written of them is written once a row, and copied.
type stretch struct {
	statuses []feature.Status
	times    []int64
	n        int
}

// fewStretches is as many as most answers have.
const fewStretches = 16

// stretches appends the stretches of an answer; none of one without rows.
func stretches(dst []stretch, f *Found) []stretch {
	for j, s := range f.Statuses {
		t := f.EventTimes[j]
		if len(s) == 0 {
			return dst
		}
		if last := len(dst) - 1; last >= 0 && &dst[last].statuses[0] == &s[0] && &dst[last].times[0] == &t[0] {
			dst[last].n++
			continue
		}
		dst = append(dst, stretch{s, t, 1})
	}
	return dst
}

// statusJSON are the statuses' names as JSON strings, by number.
var statusJSON = [...]string{
	feature.StatusInvalid: `"INVALID"`,
	feature.Present:       `"PRESENT"`,
	feature.NullValue:     `"NULL_VALUE"`,
	feature.NotFound:      `"NOT_FOUND"`,
	feature.OutsideMaxAge: `"OUTSIDE_MAX_AGE"`,
}
