// Package rowjson reads rows written as JSON objects into the columns of a
// source: pushes, NDJSON files, Kafka records.
//
// It is strict, so that a mistake is a bad row and never a wrong value: one
// whole object and nothing after it, valid UTF-8, no name twice, and every field
// of the declared type. What the types take (docs/semantics.md):
//
//	bool        true, false
//	int64       a number without fraction or exponent; never read as a float
//	float64     a number, "NaN", "Infinity" or "-Infinity"
//	string      a string
//	bytes       a string of padded base64, standard alphabet
//	timestamp   a string as feature.ParseTimestamp reads it, or a number of
//	            seconds, milliseconds or microseconds where the source says so
//	list<T>     an array of T without nulls
//	embedding   an array of as many numbers as it has dimensions
//
// null and a missing field are the same; fields that are not declared are ignored.
package rowjson

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// RowError says what is wrong with one row.
type RowError struct {
	Field string // the outside name of the field; "" where the whole row is meant
	Msg   string // what was expected, and what there is
}

func (e *RowError) Error() string {
	if e.Field == "" {
		return e.Msg
	}
	return fmt.Sprintf("field %q: %s", e.Field, e.Msg)
}

// node is a member of an object: a value that columns are read from, an object
// that holds such values, or both.
type node struct {
	columns []int // that are read from the value itself
	members map[string]*node
}

func (n *node) member(name string) *node {
	m := n.members[name]
	if m == nil {
		m = &node{}
		if n.members == nil {
			n.members = map[string]*node{}
		}
		n.members[name] = m
	}
	return m
}

// first is a column below n, to name in an error.
func (n *node) first() int {
	best := -1
	for _, c := range n.columns {
		if best < 0 || c < best {
			best = c
		}
	}
	for _, m := range n.members {
		if c := m.first(); best < 0 || c < best {
			best = c
		}
	}
	return best
}

// Decoder reads the rows of one source. It is not safe for concurrent use.
type Decoder struct {
	src       *registry.Source
	timestamp int // the column of the event time
	root      node
	parser    parser
	in        bytes.Buffer
	dec       *jsontext.Decoder
	object    []byte
	values    []feature.Value // of the row being read; text refers to object or unquoted
	seen      []bool
	unquoted  []byte
}

// NewDecoder makes a decoder of rows of src. A column is read from the member
// that has its outside name, and where that name is a dotted path and no member
// is called so, from the member of nested objects that the path leads to.
func NewDecoder(src *registry.Source) *Decoder {
	d := &Decoder{
		src:       src,
		timestamp: src.Column(src.Timestamp),
		values:    make([]feature.Value, len(src.Columns)),
		seen:      make([]bool, len(src.Columns)),
	}
	d.dec = jsontext.NewDecoder(&d.in)
	d.parser = parser{format: src.TimestampFormat, text: d.text}
	for i, c := range src.Columns {
		name := c.Outside()
		flat := d.root.member(name)
		flat.columns = append(flat.columns, i)
		if path := strings.Split(name, "."); len(path) > 1 {
			n := &d.root
			for _, step := range path {
				n = n.member(step)
			}
			n.columns = append(n.columns, i)
		}
	}
	return d
}

// Append appends one row to the columns of b, which are the source's in the
// source's order (feature.NewBatch(src.Fields(), n)), and counts it in b.Rows; the
// versions are the caller's. If the row is bad it returns a *RowError and leaves b as
// it was. object is not kept.
func (d *Decoder) Append(object []byte, b *feature.Batch) error {
	if err := d.read(object); err != nil {
		return err
	}
	if d.timestamp >= 0 && d.values[d.timestamp].IsNull() {
		return &RowError{Field: d.src.Columns[d.timestamp].Outside(), Msg: "the timestamp is missing or null"}
	}
	for i, c := range b.Columns {
		c.Append(d.values[i])
	}
	b.Rows++
	return nil
}

// read parses object into d.values.
func (d *Decoder) read(object []byte) error {
	clear(d.values)
	clear(d.seen)
	d.unquoted, d.object = d.unquoted[:0], object
	d.in = *bytes.NewBuffer(object)
	d.dec.Reset(&d.in)
	if d.dec.PeekKind() != jsontext.KindBeginObject {
		raw, err := d.dec.ReadValue()
		if err != nil {
			return syntaxError(err)
		}
		return &RowError{Msg: "want a JSON object, got " + describe(raw)}
	}
	if err := d.members(&d.root); err != nil {
		return err
	}
	if _, err := d.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return &RowError{Msg: fmt.Sprintf("something follows the JSON object at byte %d", d.dec.InputOffset())}
	}
	return nil
}

// members reads an object whose members n describes.
func (d *Decoder) members(n *node) error {
	if _, err := d.dec.ReadToken(); err != nil {
		return syntaxError(err)
	}
	for d.dec.PeekKind() != jsontext.KindEndObject {
		raw, err := d.dec.ReadValue()
		if err != nil {
			return syntaxError(err)
		}
		name, err := d.text(raw)
		if err != nil {
			return syntaxError(err)
		}
		m := n.members[string(name)]
		if m == nil {
			err = syntaxError(d.dec.SkipValue())
		} else {
			err = d.member(m)
		}
		if err != nil {
			return err
		}
	}
	_, err := d.dec.ReadToken()
	return syntaxError(err)
}

func (d *Decoder) member(m *node) error {
	if m.members != nil && d.dec.PeekKind() == jsontext.KindBeginObject && len(m.columns) == 0 {
		return d.members(m)
	}
	read, err := d.dec.ReadValue()
	if err != nil {
		return syntaxError(err)
	}
	end := int(d.dec.InputOffset())
	raw := d.object[end-len(read) : end] // read is valid until the next call, this as long as object
	if m.members != nil && raw[0] != 'n' && len(m.columns) == 0 {
		c := d.src.Columns[m.first()]
		return &RowError{Field: c.Outside(), Msg: "its path leads through " + describe(raw) + ", want an object"}
	}
	for _, i := range m.columns {
		c := &d.src.Columns[i]
		if d.seen[i] {
			return &RowError{Field: c.Outside(), Msg: "it is given twice: by its dotted name and by its path"}
		}
		d.seen[i] = true
		v, err := d.parser.value(c.Type, raw)
		if err != nil {
			return &RowError{Field: c.Outside(), Msg: err.Error()}
		}
		d.values[i] = v
	}
	return nil
}

// text is the content of a JSON string: a part of it where nothing is escaped.
func (d *Decoder) text(raw []byte) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	start := len(d.unquoted)
	var err error
	// Growing leaves earlier parts where they are, so text handed out stays valid.
	d.unquoted, err = jsontext.AppendUnquote(d.unquoted, raw)
	return d.unquoted[start:len(d.unquoted):len(d.unquoted)], err
}

func syntaxError(err error) error {
	if err == nil {
		return nil
	}
	var row *RowError
	if errors.As(err, &row) {
		return err
	}
	if errors.Is(err, io.EOF) {
		return &RowError{Msg: "not a JSON object: it is empty"}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return &RowError{Msg: "not a JSON object: it is cut off"}
	}
	return &RowError{Msg: "not a JSON object: " + strings.TrimPrefix(err.Error(), "jsontext: ")}
}
