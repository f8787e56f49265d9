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
func appendFeatures(dst []byte, plan Plan, f *Found, rows int, r *featuresRequest) []byte {
	outputs := plan.Selection().Outputs
	dst = append(dst, `{"`+api.FieldRevision+`":`...)
	dst = feature.AppendStringJSON(dst, plan.Revision())
	dst = append(dst, `,"`+api.FieldInstant+`":"`...)
	dst = feature.AppendTimestamp(dst, f.Instant)
	if f.StaleSince != 0 {
		dst = append(dst, `","`+api.FieldStaleSince+`":"`...)
		dst = feature.AppendTimestamp(dst, f.StaleSince)
	}
	dst = append(dst, `","`+api.FieldFeatures+`":[`...)
	for j := range outputs {
		if j > 0 {
			dst = append(dst, ',')
		}
		dst = feature.AppendStringJSON(dst, outputs[j].Name)
	}
	dst = append(dst, `],"`+api.FieldRows+`":[`...)
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
			for j := 0; j < len(f.Statuses); {
				status, n := f.Statuses[j][i], 1
				for j+n < len(f.Statuses) && f.Statuses[j+n][i] == status {
					n++
				}
				from := len(dst)
				dst = append(append(dst, statusJSON[status]...), ',')
				dst = repeatTail(dst, len(dst)-from, n)
				j += n
			}
			if len(f.Statuses) > 0 {
				dst = dst[:len(dst)-1] // the last comma
			}
		}
		if !r.omitTimestamps {
			dst = append(dst, `],"`+api.FieldEventTimestamps+`":[`...)
			dst = appendEventTimes(dst, f, i)
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

// appendEventTimes appends the event times of a row. Neighbours mostly come from
// one record: an instant is formatted once and copied.
func appendEventTimes(dst []byte, f *Found, i int) []byte {
	var last int64 = NoTime
	from, to := 0, 0 // where last stands in dst
	for j, times := range f.EventTimes {
		if j > 0 {
			dst = append(dst, ',')
		}
		t := times[i]
		switch {
		case t == NoTime || f.Statuses[j][i] == feature.NotFound:
			dst = append(dst, "null"...)
		case t == last:
			dst = append(dst, dst[from:to]...)
		default:
			from = len(dst)
			dst = append(dst, '"')
			dst = feature.AppendTimestamp(dst, t)
			dst = append(dst, '"')
			last, to = t, len(dst)
		}
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
