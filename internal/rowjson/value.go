package rowjson

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/forebay/forebay/registry/feature"
)

// The formats of timestamps, as registry.Source.TimestampFormat names them; ""
// is RFC3339.
const (
	RFC3339    = "rfc3339"
	UnixSecond = "unix_s"
	UnixMilli  = "unix_ms"
	UnixMicro  = "unix_us"
)

// ParseValue reads one JSON value as a type; format is that of timestamps. JSON null
// is the null value. Nothing of raw is kept. The error says what is wanted and what there is.
func ParseValue(t feature.Type, format string, raw []byte) (feature.Value, error) {
	if !jsontext.Value(raw).IsValid() {
		return feature.Value{}, fmt.Errorf("want %s, got %s, which is not JSON", article(t), quoteShort(raw))
	}
	p := parser{format: format, text: func(raw []byte) ([]byte, error) { return jsontext.AppendUnquote(nil, raw) }}
	v, err := p.value(t, trim(raw))
	return v.Clone(), err
}

func trim(raw []byte) []byte {
	space := func(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }
	for len(raw) > 0 && space(raw[0]) {
		raw = raw[1:]
	}
	for len(raw) > 0 && space(raw[len(raw)-1]) {
		raw = raw[:len(raw)-1]
	}
	return raw
}

// parser reads valid JSON values without space around them.
type parser struct {
	format string
	text   func(raw []byte) ([]byte, error) // unquotes; the result lives as long as the row
}

func (p *parser) value(t feature.Type, raw []byte) (feature.Value, error) {
	if raw[0] == 'n' {
		return feature.Value{}, nil
	}
	switch t.Kind {
	case feature.List:
		return p.list(t, raw)
	case feature.Embedding:
		return p.embedding(t, raw)
	}
	return p.scalar(t.Kind, raw)
}

func (p *parser) scalar(k feature.Kind, raw []byte) (feature.Value, error) {
	switch k {
	case feature.Bool:
		if raw[0] == 't' || raw[0] == 'f' {
			return feature.OfBool(raw[0] == 't'), nil
		}
	case feature.Int64:
		if isNumber(raw) {
			i, err := strconv.ParseInt(view(raw), 10, 64)
			if err == nil {
				return feature.OfInt64(i), nil
			}
			if errors.Is(err, strconv.ErrRange) {
				return feature.Value{}, fmt.Errorf("%s is out of the range of int64", quoteShort(raw))
			}
		}
	case feature.Float64:
		f, ok, err := p.float(raw, 64)
		if err != nil {
			return feature.Value{}, err
		}
		if ok {
			return feature.OfFloat64(f), nil
		}
	case feature.String:
		if raw[0] == '"' {
			s, err := p.text(raw)
			return feature.OfString(view(s)), err
		}
	case feature.Bytes:
		if raw[0] == '"' {
			s, err := p.text(raw)
			if err != nil {
				return feature.Value{}, err
			}
			b, err := base64.StdEncoding.Strict().AppendDecode(nil, s)
			if err != nil {
				return feature.Value{}, fmt.Errorf("want bytes as padded base64, got %s", quoteShort(raw))
			}
			return feature.OfBytes(b), nil
		}
	case feature.Timestamp:
		return p.timestamp(raw)
	}
	return feature.Value{}, mismatch(feature.Type{Kind: k}, raw)
}

func (p *parser) float(raw []byte, bits int) (f float64, ok bool, err error) {
	if isNumber(raw) {
		f, err = strconv.ParseFloat(view(raw), bits)
		if err != nil {
			return 0, false, fmt.Errorf("%s is out of the range of float%d", quoteShort(raw), bits)
		}
		return f, true, nil
	}
	switch string(raw) {
	case `"NaN"`:
		return math.NaN(), true, nil
	case `"Infinity"`:
		return math.Inf(1), true, nil
	case `"-Infinity"`:
		return math.Inf(-1), true, nil
	}
	return 0, false, nil
}

func (p *parser) timestamp(raw []byte) (feature.Value, error) {
	if p.format == "" || p.format == RFC3339 {
		if raw[0] != '"' {
			return feature.Value{}, fmt.Errorf("want a timestamp as a string such as \"2006-01-02T15:04:05Z\", got %s", describe(raw))
		}
		s, err := p.text(raw)
		if err != nil {
			return feature.Value{}, err
		}
		micros, err := feature.ParseTimestamp(view(s))
		return feature.OfTimestamp(micros), err
	}
	if !isNumber(raw) {
		return feature.Value{}, fmt.Errorf("want a timestamp as a number (%s), got %s", p.format, describe(raw))
	}
	micros, err := ParseUnix(p.format, raw)
	return feature.OfTimestamp(micros), err
}

// ParseUnix reads a decimal number of seconds, milliseconds or microseconds since
// the Unix epoch (UnixSecond, UnixMilli, UnixMicro), exactly, as microseconds.
// What is finer than a microsecond is floored; exponents are not taken.
func ParseUnix(format string, number []byte) (int64, error) {
	var digits int // that the unit has after the point, in microseconds
	switch format {
	case UnixSecond:
		digits = 6
	case UnixMilli:
		digits = 3
	case UnixMicro:
	default:
		return 0, fmt.Errorf("%q is not a timestamp format: want rfc3339, unix_s, unix_ms or unix_us", format)
	}
	outside := func() error {
		return fmt.Errorf("%s (%s) is not between the years 1 and 9999", quoteShort(number), format)
	}
	malformed := func() error {
		return fmt.Errorf("%s is not a decimal number of a timestamp (%s)", quoteShort(number), format)
	}
	s, negative := number, false
	if len(s) > 0 && s[0] == '-' {
		s, negative = s[1:], true
	}
	var n uint64
	whole := 0
	for whole < len(s) && isDigit(s[whole]) {
		if n > math.MaxInt64/10 {
			return 0, outside()
		}
		n = n*10 + uint64(s[whole]-'0')
		whole++
	}
	rest := s[whole:]
	if whole == 0 || (len(rest) > 0 && (rest[0] != '.' || len(rest) == 1)) {
		return 0, malformed()
	}
	if len(rest) > 0 {
		rest = rest[1:]
	}
	finer := false
	for i := 0; i < len(rest) || i < digits; i++ {
		digit := byte('0')
		if i < len(rest) {
			digit = rest[i]
		}
		if !isDigit(digit) {
			return 0, malformed()
		}
		switch {
		case i >= digits:
			finer = finer || digit != '0'
		case n > math.MaxInt64/10-1:
			return 0, outside()
		default:
			n = n*10 + uint64(digit-'0')
		}
	}
	micros := int64(n) //nolint:gosec // bounded above
	if negative {
		micros = -micros
		if finer {
			micros--
		}
	}
	if n > math.MaxInt64 || micros < feature.MinTimestamp || micros > feature.MaxTimestamp {
		return 0, outside()
	}
	return micros, nil
}

func (p *parser) list(t feature.Type, raw []byte) (feature.Value, error) {
	if raw[0] != '[' {
		return feature.Value{}, mismatch(t, raw)
	}
	vs := []feature.Value{}
	err := elements(raw, func(i int, e []byte) error {
		if e[0] == 'n' {
			return fmt.Errorf("element %d is null, which a list cannot hold", i+1)
		}
		v, err := p.scalar(t.Elem, e)
		if err != nil {
			return fmt.Errorf("element %d: %w", i+1, err)
		}
		vs = append(vs, v.Clone()) // a column keeps a list by reference
		return nil
	})
	return feature.OfList(t.Elem, vs), err
}

func (p *parser) embedding(t feature.Type, raw []byte) (feature.Value, error) {
	if raw[0] != '[' {
		return feature.Value{}, mismatch(t, raw)
	}
	fs := make([]float32, 0, t.Dim)
	n := 0
	err := elements(raw, func(i int, e []byte) error {
		n++
		f, ok, err := p.float(e, 32)
		if err == nil && !ok {
			err = fmt.Errorf("want a number, got %s", describe(e))
		}
		if err != nil {
			return fmt.Errorf("element %d: %w", i+1, err)
		}
		if n <= t.Dim {
			fs = append(fs, float32(f))
		}
		return nil
	})
	if err == nil && n != t.Dim {
		err = fmt.Errorf("want %d numbers, got %d", t.Dim, n)
	}
	return feature.OfEmbedding(fs), err
}

// elements calls f with the elements of a valid JSON array.
func elements(raw []byte, f func(i int, e []byte) error) error {
	i, n := 1, 0
	for {
		for i < len(raw) && (raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\n' || raw[i] == '\r' || raw[i] == ',') {
			i++
		}
		if raw[i] == ']' {
			return nil
		}
		end := i + elementLen(raw[i:])
		if err := f(n, raw[i:end]); err != nil {
			return err
		}
		i, n = end, n+1
	}
}

// elementLen is the length of the value that valid JSON begins with.
func elementLen(raw []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch b := raw[i]; {
		case quoted:
			if b == '\\' {
				i++
			} else if b == '"' {
				quoted = false
			}
		case b == '"':
			quoted = true
		case b == '[' || b == '{':
			depth++
		case b == ']' || b == '}' || b == ',' || b == ' ' || b == '\t' || b == '\n' || b == '\r':
			if depth == 0 {
				return i
			}
			if b == ']' || b == '}' {
				depth--
			}
		}
	}
	return len(raw)
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

func isNumber(raw []byte) bool { return raw[0] == '-' || isDigit(raw[0]) }

// view is b as a string that shares its memory.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func mismatch(t feature.Type, raw []byte) error {
	return fmt.Errorf("want %s, got %s", article(t), describe(raw))
}

func article(t feature.Type) string {
	if t.Kind == feature.Int64 || t.Kind == feature.Embedding {
		return "an " + t.String()
	}
	if t.Kind == feature.Bytes {
		return "bytes as a base64 string"
	}
	return "a " + t.String()
}

// describe says what a JSON value is, for an error.
func describe(raw []byte) string {
	raw = trim(raw)
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '"':
		return "the string " + quoteShort(raw)
	case '[':
		return "an array"
	case '{':
		return "an object"
	case 't', 'f', 'n':
		return quoteShort(raw)
	}
	return "the number " + quoteShort(raw)
}

// quoteShort is raw, cut after 40 bytes, so that a message stays readable.
func quoteShort(raw []byte) string {
	const limit = 40
	if len(raw) <= limit {
		return string(raw)
	}
	end := limit
	for end > 0 && !utf8.RuneStart(raw[end]) {
		end--
	}
	return string(raw[:end]) + "…"
}
