package httpapi

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry/feature"
)

// lookupFormat is how the answer to a lookup is written.
type lookupFormat uint8

const (
	asJSON lookupFormat = iota
	asArrow
	asMessagePack
)

// lookupTypes are the media types of the formats, as they are sent.
var lookupTypes = [...]string{asJSON: api.TypeJSON, asArrow: api.TypeArrow, asMessagePack: api.TypeMessagePack}

// lookupFormatOf picks a format by a request's Accept: of those that it names the one
// with the greatest q, the first of equals; JSON where it does not care.
func lookupFormatOf(accept []string) (lookupFormat, error) {
	if len(accept) == 0 || len(accept) == 1 && (accept[0] == "*/*" || accept[0] == api.TypeJSON) { // nearly always
		return asJSON, nil
	}
	best, most, anything := asJSON, 0.0, true
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		media, params, _ := strings.Cut(part, ";")
		if media = strings.ToLower(strings.TrimSpace(media)); media == "" {
			continue
		}
		anything = false
		q := 1.0
		if _, value, ok := strings.Cut(strings.ReplaceAll(params, " ", ""), "q="); ok {
			value, _, _ = strings.Cut(value, ";")
			parsed, err := strconv.ParseFloat(value, 64)
			if err != nil {
				continue
			}
			q = parsed
		}
		var f lookupFormat
		switch media {
		case api.TypeJSON:
			f = asJSON
		case api.TypeArrow:
			f = asArrow
		case api.TypeMessagePack, "application/x-msgpack", "application/vnd.msgpack":
			f = asMessagePack
		case "*/*", "application/*":
			q /= 1e6 // what is named goes first
		default:
			continue
		}
		if q > most {
			best, most = f, q
		}
	}
	if most == 0 && !anything {
		return asJSON, failed(http.StatusNotAcceptable, api.CodeNotAcceptable, "Accept is %q: a lookup is answered as %s, %s or %s", strings.Join(accept, ", "), api.TypeJSON, api.TypeArrow, api.TypeMessagePack)
	}
	return best, nil
}

// append appends the answer to a lookup, in a format, to bytes.
func (a *answerBuffer) append(shape *answerShape, format lookupFormat, f *Found, rows int, r *featuresRequest) (err error) {
	switch format {
	case asArrow:
		a.bytes, err = a.appendArrow(a.bytes, shape, f, rows, r)
	case asMessagePack:
		a.bytes = appendMessagePack(a.bytes, shape, f, rows, r)
	default:
		a.bytes = appendFeatures(a.bytes, shape, f, rows, r)
	}
	return err
}

// writeAnswer sends the answer to a lookup. What JSON and MessagePack say in
// themselves is in the headers too, where Arrow has no room for it.
func writeAnswer(c echo.Context, format lookupFormat, revision string, instant int64, body []byte) error {
	h := c.Response().Header()
	if format == asJSON {
		return writeJSON(c, body)
	}
	h[echo.HeaderContentType] = []string{lookupTypes[format]}
	h[echo.HeaderContentLength] = []string{strconv.Itoa(len(body))}
	h[api.HeaderRevision] = []string{revision}
	h[api.HeaderInstant] = []string{feature.FormatTimestamp(instant)}
	c.Response().WriteHeader(http.StatusOK)
	_, err := c.Response().Write(body)
	return err
}
