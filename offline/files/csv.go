package files

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/forebay/forebay/internal/rowjson"
	"github.com/forebay/forebay/registry/feature"
)

// maxRecord is how long a row of a text format may be.
const maxRecord = 64 << 20

// malformed is an error of one row of a text file; the next row can be read.
type malformed string

func (m malformed) Error() string { return string(m) }

// csvField is a field of a CSV record: a part of its text.
type csvField struct {
	start, end int
	quoted     bool
}

// csvScanner reads CSV as RFC 4180 has it, record by record; unlike encoding/csv it
// tells a field in quotes from one without. Lines may end in LF or CRLF; empty lines are skipped.
type csvScanner struct {
	r      *bufio.Reader
	text   []byte
	fields []csvField
	long   []byte // a line longer than r's buffer
	line   []byte // the line being read, without its end…
	end    []byte // …and its end
}

func newCSVScanner(r io.Reader) *csvScanner {
	s := &csvScanner{r: bufio.NewReaderSize(r, 256<<10)}
	if head, _ := s.r.Peek(len(bom)); bytes.Equal(head, bom) {
		_, _ = s.r.Discard(len(bom))
	}
	return s
}

// field is the text of field i, valid until the next record.
func (s *csvScanner) field(i int) []byte { return s.text[s.fields[i].start:s.fields[i].end] }

// readLine reads a line with its end. io.EOF after the last; malformed if it is too long.
func readLine(r *bufio.Reader, long *[]byte) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == nil {
		return line, nil
	}
	*long = append((*long)[:0], line...)
	over := false
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = r.ReadSlice('\n')
		if over = over || len(*long)+len(line) > maxRecord; !over {
			*long = append(*long, line...)
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if over {
		return nil, malformed(fmt.Sprintf("a line longer than %d MiB", maxRecord>>20))
	}
	if err != nil && len(*long) == 0 {
		return nil, io.EOF
	}
	return *long, nil
}

// chop drops the end of a line.
func chop(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

// next reads the next record. The error is io.EOF after the last, malformed for a
// record that is not CSV (the next one can be read), or one of reading.
func (s *csvScanner) next() error {
	for {
		line, err := readLine(s.r, &s.long)
		if err != nil {
			return err
		}
		if s.begin(line); len(s.line) > 0 {
			return s.record(s.line)
		}
	}
}

// begin makes a line the one being read.
func (s *csvScanner) begin(line []byte) {
	s.line = chop(line)
	s.end = line[len(s.line):]
}

func (s *csvScanner) record(line []byte) error {
	s.text, s.fields = s.text[:0], s.fields[:0]
	for {
		start := len(s.text)
		if len(line) == 0 || line[0] != '"' {
			field := line
			comma := bytes.IndexByte(line, ',')
			if comma >= 0 {
				field = line[:comma]
			}
			if bytes.IndexByte(field, '"') >= 0 {
				return malformed(fmt.Sprintf("not CSV: a quote within field %d, which is not in quotes", len(s.fields)+1))
			}
			s.text = append(s.text, field...)
			s.fields = append(s.fields, csvField{start: start, end: len(s.text)})
			if comma < 0 {
				return nil
			}
			line = line[comma+1:]
			continue
		}
		rest, err := s.quoted(line[1:])
		if err != nil {
			return err
		}
		s.fields = append(s.fields, csvField{start: start, end: len(s.text), quoted: true})
		if len(rest) == 0 {
			return nil
		}
		if rest[0] != ',' {
			return malformed(fmt.Sprintf("not CSV: something follows the closing quote of field %d", len(s.fields)))
		}
		line = rest[1:]
	}
}

// quoted reads a field up to its closing quote, over as many lines as it takes.
// It returns what follows on the last.
func (s *csvScanner) quoted(line []byte) (rest []byte, err error) {
	over := false
	for {
		quote := bytes.IndexByte(line, '"')
		switch {
		case quote >= 0 && quote+1 < len(line) && line[quote+1] == '"':
			s.text, line = append(s.text, line[:quote+1]...), line[quote+2:]
			continue
		case quote >= 0 && over:
			return nil, malformed(fmt.Sprintf("a row longer than %d MiB", maxRecord>>20))
		case quote >= 0:
			s.text = append(s.text, line[:quote]...)
			return line[quote+1:], nil
		}
		if over = over || len(s.text)+len(line) > maxRecord; over {
			s.text = s.text[:0]
		} else {
			s.text = append(append(s.text, line...), s.end...) // the line's end is part of the field
		}
		next, err := readLine(s.r, &s.long)
		if errors.Is(err, io.EOF) {
			return nil, malformed(fmt.Sprintf("not CSV: field %d has no closing quote", len(s.fields)+1))
		}
		var m malformed
		if errors.As(err, &m) {
			over, next = true, nil
		} else if err != nil {
			return nil, err
		}
		s.begin(next)
		line = s.line
	}
}

// csvHeader opens a CSV file and reads its header.
func csvHeader(f File, in io.Reader) (*csvScanner, []string, error) {
	s := newCSVScanner(in)
	if err := s.next(); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it has no header line")
		}
		return nil, nil, fmt.Errorf("%s: the header: %w", f.Name, err)
	}
	names := make([]string, len(s.fields))
	for i := range s.fields {
		names[i] = string(s.field(i))
		if !utf8.ValidString(names[i]) {
			return nil, nil, fmt.Errorf("%s: the header is not UTF-8 text; is it a CSV file?", f.Name)
		}
	}
	return s, names, duplicate(f, names)
}

// csvValue reads a field as a type. An empty one is null, but for a string in quotes.
// Text is not copied. Numbers are decimal; floats may be NaN, Inf and Infinity in any
// case, bools true and false in any case; lists and embeddings are JSON.
func csvValue(t feature.Type, format string, text []byte, quoted bool) (feature.Value, error) {
	if len(text) == 0 && (t.Kind != feature.String || !quoted) {
		return feature.Value{}, nil
	}
	s := unsafe.String(unsafe.SliceData(text), len(text))
	switch t.Kind {
	case feature.Bool:
		switch {
		case strings.EqualFold(s, "true"):
			return feature.OfBool(true), nil
		case strings.EqualFold(s, "false"):
			return feature.OfBool(false), nil
		}
	case feature.Int64:
		i, err := strconv.ParseInt(s, 10, 64)
		if err == nil {
			return feature.OfInt64(i), nil
		}
		if errors.Is(err, strconv.ErrRange) {
			return feature.Value{}, fmt.Errorf("%s is out of the range of int64", short(s))
		}
	case feature.Float64:
		if strings.ContainsAny(s, "xX_") { // Go's own, not CSV's
			break
		}
		f, err := strconv.ParseFloat(s, 64)
		if err == nil {
			return feature.OfFloat64(f), nil
		}
		if errors.Is(err, strconv.ErrRange) {
			return feature.Value{}, fmt.Errorf("%s is out of the range of float64", short(s))
		}
	case feature.String:
		if !utf8.Valid(text) {
			return feature.Value{}, errors.New("the string is not valid UTF-8")
		}
		return feature.OfString(s), nil
	case feature.Bytes:
		b, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
		if err == nil {
			return feature.OfBytes(b), nil
		}
		return feature.Value{}, fmt.Errorf("want bytes as padded base64, got %s", short(s))
	case feature.Timestamp:
		if format != "" && format != rowjson.RFC3339 && number(text) {
			micros, err := rowjson.ParseUnix(format, text)
			return feature.OfTimestamp(micros), err
		}
		micros, err := feature.ParseTimestamp(s)
		return feature.OfTimestamp(micros), err
	case feature.List, feature.Embedding:
		return rowjson.ParseValue(t, format, text)
	}
	return feature.Value{}, fmt.Errorf("want %s, got %s", t, short(s))
}

// number reports whether text begins as a number does and has no separators of a date.
func number(text []byte) bool {
	return bytes.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '-' && r != '.' }) < 0 &&
		bytes.LastIndexByte(text, '-') <= 0
}

// short quotes a text, cut so that a message stays readable.
func short(s string) string {
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:40], "") + "…"
	}
	return strconv.Quote(s)
}

// csvSource reads rows of a source from CSV.
type csvSource struct {
	s       *csvScanner
	names   []string
	columns []int // per column of the source, the field
	types   []feature.Type
	outside []string
	format  string
	values  []feature.Value
}

func openCSVSource(f File, in *os.File, c columns) (*csvSource, error) {
	s, names, err := csvHeader(f, in)
	if err != nil {
		return nil, err
	}
	r := &csvSource{s: s, names: names, format: c.format, values: make([]feature.Value, len(c.fields))}
	for i, field := range c.fields {
		at := -1
		for j, n := range names {
			if n == c.outside[i] {
				at = j
			}
		}
		if at < 0 {
			return nil, missing(f, c.outside[i], names)
		}
		r.columns, r.types, r.outside = append(r.columns, at), append(r.types, field.Type), append(r.outside, c.outside[i])
	}
	return r, nil
}

func (r *csvSource) next(_ context.Context, b *feature.Batch) (*BadRow, error) {
	err := r.s.next()
	var m malformed
	if errors.As(err, &m) {
		return &BadRow{Reason: m.Error(), JSON: feature.AppendStringJSON(nil, string(r.s.line))}, nil
	}
	if err != nil {
		return nil, err
	}
	if len(r.s.fields) != len(r.names) {
		return r.bad("", fmt.Sprintf("%d fields where the header has %d", len(r.s.fields), len(r.names))), nil
	}
	for i, at := range r.columns {
		if r.values[i], err = csvValue(r.types[i], r.format, r.s.field(at), r.s.fields[at].quoted); err != nil {
			return r.bad(r.outside[i], err.Error()), nil
		}
	}
	for i, c := range b.Columns {
		c.Append(r.values[i])
	}
	b.Rows++
	return nil, nil
}

func (r *csvSource) row() []byte {
	dst := []byte{'{'}
	for i := range r.s.fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		name := "field " + strconv.Itoa(i+1)
		if i < len(r.names) {
			name = r.names[i]
		}
		dst = append(feature.AppendStringJSON(dst, name), ':')
		if text := r.s.field(i); len(text) > 0 || r.s.fields[i].quoted {
			dst = feature.AppendStringJSON(dst, string(text))
		} else {
			dst = append(dst, "null"...)
		}
	}
	return append(dst, '}')
}

func (r *csvSource) bad(field, reason string) *BadRow {
	return &BadRow{Field: field, Reason: reason, JSON: r.row()}
}
