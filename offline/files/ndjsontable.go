package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/forebay/forebay/internal/rowjson"
	"github.com/forebay/forebay/registry/feature"
)

// openNDJSONTable opens an NDJSON spine. It reads the whole file once to learn its
// columns, which are those of any row, in the order in which they first appear.
func openNDJSONTable(ctx context.Context, f File, want []Want) (table, error) {
	in, _, err := f.open()
	if err != nil {
		return nil, err
	}
	t := &textTable{file: f}
	names, shapes, err := inferNDJSON(ctx, f, in, &t.count)
	if err = errors.Join(err, in.Close()); err != nil {
		return nil, err
	}
	index := make(map[string]int, len(names))
	for i, n := range names {
		c := shapes[i].column(n)
		for _, w := range want {
			if w.Name == n {
				c = textColumn{Field: w.Field}
			}
		}
		t.columns = append(t.columns, c)
		index[n] = i
	}
	t.start = func(in io.Reader) (rowReader, error) {
		return &ndjsonRows{object: newObject(in), columns: t.columns, index: index, raw: make([][]byte, len(names))}, nil
	}
	return t, nil
}

// shape is what values a column of NDJSON was seen to have.
type shape struct {
	bools, texts, others bool
	ints                 bool // integers in the range of int64
	largeInts            bool // of them, such that a float64 cannot hold
	floats               bool // other numbers in the range of float64
}

func (s *shape) see(raw []byte) {
	switch jsontext.Value(raw).Kind() {
	case jsontext.KindNull:
	case jsontext.KindTrue, jsontext.KindFalse:
		s.bools = true
	case jsontext.KindString:
		s.texts = true
	case jsontext.KindNumber:
		if i, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
			f := float64(i)
			s.ints, s.largeInts = true, s.largeInts || f >= 1<<63 || int64(f) != i
		} else if f, err := strconv.ParseFloat(string(raw), 64); err == nil && !math.IsInf(f, 0) && bytes.ContainsAny(raw, ".eE") {
			s.floats = true
		} else {
			s.others = true
		}
	default:
		s.others = true
	}
}

// column is the column that holds all the values seen: of one type if they agree, else JSON.
func (s shape) column(name string) textColumn {
	c := textColumn{Field: feature.Field{Name: name, Type: feature.TypeString}}
	numbers := s.ints || s.floats
	switch {
	case s.others, s.texts && (s.bools || numbers), s.bools && numbers, s.floats && s.largeInts:
		c.json = true
	case s.bools:
		c.Type = feature.TypeBool
	case s.floats:
		c.Type = feature.TypeFloat64
	case s.ints:
		c.Type = feature.TypeInt64
	}
	return c
}

func inferNDJSON(ctx context.Context, f File, in io.Reader, rows *int64) (names []string, shapes []shape, err error) {
	index := map[string]int{}
	o := newObject(in)
	for {
		if *rows%runRows == 0 && ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		err := o.next(func(name, raw []byte) {
			i, ok := index[string(name)]
			if !ok {
				i = len(names)
				index[string(name)] = i
				names, shapes = append(names, string(name)), append(shapes, shape{})
			}
			shapes[i].see(raw)
		})
		if errors.Is(err, io.EOF) {
			return names, shapes, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: row %d: %w", f.Name, *rows, err)
		}
		*rows++
	}
}

// object reads the lines of an NDJSON file member by member.
type object struct {
	lines *lines
	in    bytes.Buffer
	dec   *jsontext.Decoder
	name  []byte
}

func newObject(r io.Reader) *object {
	o := &object{lines: newLines(r)}
	o.dec = jsontext.NewDecoder(&o.in)
	return o
}

// next reads a line and calls f with its members. Name and value are valid until the
// next line is read. io.EOF after the last line.
func (o *object) next(f func(name, raw []byte)) error {
	line, err := o.lines.next()
	if err != nil {
		return err
	}
	notObject := func(err error) error {
		if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("the line is not a whole JSON object")
		}
		return fmt.Errorf("the line is not a JSON object: %w", err)
	}
	o.in = *bytes.NewBuffer(line)
	o.dec.Reset(&o.in)
	if tok, err := o.dec.ReadToken(); err != nil || tok.Kind() != jsontext.KindBeginObject {
		return notObject(err)
	}
	for o.dec.PeekKind() != jsontext.KindEndObject {
		quoted, err := o.dec.ReadValue()
		if err != nil {
			return notObject(err)
		}
		if o.name, err = jsontext.AppendUnquote(o.name[:0], quoted); err != nil {
			return notObject(err)
		}
		read, err := o.dec.ReadValue()
		if err != nil {
			return notObject(err)
		}
		end := int(o.dec.InputOffset())
		f(o.name, line[end-len(read):end]) // a part of the line stays valid
	}
	if _, err := o.dec.ReadToken(); err != nil {
		return notObject(err)
	}
	if _, err := o.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object on its line")
	}
	return nil
}

type ndjsonRows struct {
	object  *object
	columns []textColumn
	index   map[string]int
	raw     [][]byte // per column, the value in the row; nil where it is missing
}

func (r *ndjsonRows) next() error {
	clear(r.raw)
	return r.object.next(func(name, raw []byte) { r.raw[r.index[string(name)]] = raw })
}

func (r *ndjsonRows) value(i int) (feature.Value, error) {
	raw := r.raw[i]
	switch {
	case raw == nil || raw[0] == 'n':
		return feature.Value{}, nil
	case r.columns[i].json:
		return feature.OfString(string(raw)), nil
	}
	return rowjson.ParseValue(r.columns[i].Type, "", raw)
}
