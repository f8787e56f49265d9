package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/twmb/avro"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// An avroProgram reads records of one writer's schema as rows of a source. The columns are
// the reader's schema: a column that the schema lacks is null, fields that are no
// column are skipped, and types are converted where nothing is lost:
//
//	bool        boolean
//	int64       int, long
//	float64     float, double, int, a long that a float64 holds exactly
//	string      string, enum, bytes in UTF-8
//	bytes       bytes, fixed, string
//	timestamp   timestamp-millis, -micros and -nanos, local or not; date; a string as
//	            feature.ParseTimestamp reads it; a plain int or long in the source's timestamp_format, if that is a number
//	list<T>     array of what T takes, without nulls
//	embedding   array of numbers, as many as it has dimensions
//
// and a union of these with null or with each other. It reads the binary encoding
// (Avro 1.12 specification, "Binary Encoding") straight into columns.
type avroProgram struct {
	src       *registry.Source
	root      *avroNode
	timestamp int
	values    []feature.Value
	refused   *refusal // of every record
}

// avroNode is a part of the writer's schema.
type avroNode struct {
	kind     avroKind
	logical  string
	size     int         // of a fixed
	symbols  []string    // of an enum
	children []*avroNode // of a record, in order; the branches of a union; what an array or a map holds
	columns  []int       // that take the value
}

type avroKind uint8

const (
	avroNull avroKind = iota
	avroBoolean
	avroInt
	avroLong
	avroFloat
	avroDouble
	avroBytes
	avroString
	avroFixed
	avroEnum
	avroArray
	avroMap
	avroRecord
	avroUnion
)

var avroKinds = map[string]avroKind{"null": avroNull, "boolean": avroBoolean, "int": avroInt, "long": avroLong, "float": avroFloat, "double": avroDouble,
	"bytes": avroBytes, "string": avroString, "fixed": avroFixed, "enum": avroEnum, "array": avroArray, "map": avroMap, "record": avroRecord, "error": avroRecord, "union": avroUnion}

// maxAvroDepth bounds how deep values may be nested.
const maxAvroDepth = 200

// avroCompiler knows the types whose values are skipped, by name: they may contain themselves.
type avroCompiler struct {
	src     *registry.Source
	skipped map[string]*avroNode
	found   []bool // by column
}

func compileAvro(src *registry.Source, root *avro.SchemaNode) (*avroProgram, error) {
	c := avroCompiler{src: src, skipped: map[string]*avroNode{}, found: make([]bool, len(src.Columns))}
	paths := map[string][]int{}
	for i, column := range src.Columns {
		paths[column.Outside()] = append(paths[column.Outside()], i)
	}
	if root.Type != "record" {
		return nil, fmt.Errorf("it is a %s, not a record", root.Type)
	}
	node, err := c.record(root, paths)
	if err != nil {
		return nil, err
	}
	p := &avroProgram{src: src, root: node, timestamp: src.Column(src.Timestamp), values: make([]feature.Value, len(src.Columns))}
	if !c.found[p.timestamp] {
		return nil, fmt.Errorf("it has no field %q, the timestamp", src.Columns[p.timestamp].Outside())
	}
	return p, nil
}

// record compiles a record; paths are the columns below it, by the dotted path from it.
func (c *avroCompiler) record(n *avro.SchemaNode, paths map[string][]int) (*avroNode, error) {
	node := &avroNode{kind: avroRecord}
	for i := range n.Fields {
		f := &n.Fields[i]
		below := map[string][]int{}
		for path, columns := range paths {
			if rest, ok := strings.CutPrefix(path, f.Name+"."); ok {
				below[rest] = columns
			}
		}
		child, err := c.value(&f.Type, paths[f.Name], below)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", f.Name, err)
		}
		node.children = append(node.children, child)
	}
	return node, nil
}

// value compiles a value that columns take, or columns below it.
func (c *avroCompiler) value(n *avro.SchemaNode, columns []int, below map[string][]int) (*avroNode, error) {
	if len(columns) == 0 && len(below) == 0 {
		return c.skip(n)
	}
	kind, ok := avroKinds[n.Type]
	if !ok {
		definition, err := resolveName(n)
		if err != nil {
			return nil, err
		}
		return c.value(definition, columns, below)
	}
	switch kind {
	case avroRecord:
		if len(columns) > 0 {
			return nil, c.mismatch(columns[0], n)
		}
		return c.record(n, below)
	case avroUnion:
		node := &avroNode{kind: avroUnion}
		for i := range n.Branches {
			child, err := c.value(&n.Branches[i], columns, below)
			if err != nil {
				return nil, err
			}
			node.children = append(node.children, child)
		}
		return node, nil
	}
	node, err := c.skip(n)
	if err != nil {
		return nil, err
	}
	// Not the one that is shared by those that are skipped.
	own := *node
	own.columns = columns
	for _, column := range columns {
		if !c.takes(c.src.Columns[column].Type, &own) {
			return nil, c.mismatch(column, n)
		}
		c.found[column] = true
	}
	return &own, nil
}

// skip compiles a value without columns.
func (c *avroCompiler) skip(n *avro.SchemaNode) (*avroNode, error) {
	kind, ok := avroKinds[n.Type]
	if !ok {
		name := n.Type
		if node := c.skipped[name]; node != nil {
			return node, nil
		}
		definition, err := resolveName(n)
		if err != nil {
			return nil, err
		}
		node := &avroNode{}
		c.skipped[name] = node // before its fields, which may refer to it
		made, err := c.skip(definition)
		if err != nil {
			return nil, err
		}
		*node = *made
		return node, nil
	}
	node := &avroNode{kind: kind, logical: n.LogicalType, size: n.Size, symbols: n.Symbols}
	var children []*avro.SchemaNode
	switch kind {
	case avroRecord:
		for i := range n.Fields {
			children = append(children, &n.Fields[i].Type)
		}
	case avroUnion:
		for i := range n.Branches {
			children = append(children, &n.Branches[i])
		}
	case avroArray:
		children = append(children, n.Items)
	case avroMap:
		children = append(children, n.Values)
	}
	for _, child := range children {
		made, err := c.skip(child)
		if err != nil {
			return nil, err
		}
		node.children = append(node.children, made)
	}
	return node, nil
}

// resolveName finds the definition of a named type that a node refers to.
func resolveName(n *avro.SchemaNode) (*avro.SchemaNode, error) {
	s, err := n.Schema()
	if err != nil {
		return nil, fmt.Errorf("type %s: %w", n.Type, err)
	}
	definition := s.Root()
	if _, ok := avroKinds[definition.Type]; !ok {
		return nil, fmt.Errorf("type %s is not defined", n.Type)
	}
	return definition, nil
}

func (c *avroCompiler) mismatch(column int, n *avro.SchemaNode) error {
	kind := n.Type
	if n.LogicalType != "" {
		kind += " (" + n.LogicalType + ")"
	}
	return fmt.Errorf("column %s of %s cannot be read from an avro %s", c.src.Columns[column].Name, c.src.Columns[column].Type, kind)
}

// takes reports whether a column of type t can be read from n.
func (c *avroCompiler) takes(t feature.Type, n *avroNode) bool {
	decimal := n.logical == "decimal"
	switch n.kind {
	case avroNull:
		return true
	case avroBoolean:
		return t.Kind == feature.Bool
	case avroInt, avroLong:
		switch t.Kind {
		case feature.Timestamp:
			_, ok := timestampScale(n, c.src.TimestampFormat)
			return ok
		case feature.Int64, feature.Float64:
			return true
		}
	case avroFloat, avroDouble:
		return t.Kind == feature.Float64
	case avroString:
		return t.Kind == feature.String || t.Kind == feature.Bytes || t.Kind == feature.Timestamp
	case avroEnum:
		return t.Kind == feature.String
	case avroBytes:
		return !decimal && (t.Kind == feature.Bytes || t.Kind == feature.String)
	case avroFixed:
		return !decimal && t.Kind == feature.Bytes
	case avroArray:
		item := n.children[0]
		switch t.Kind {
		case feature.List:
			return item.kind != avroUnion && item.kind != avroNull && c.takes(feature.Type{Kind: t.Elem}, item)
		case feature.Embedding:
			return item.kind == avroInt || item.kind == avroLong || item.kind == avroFloat || item.kind == avroDouble
		}
	}
	return false
}

// timestampScale is how an integer is made microseconds: times what, or, where negative, divided by what.
func timestampScale(n *avroNode, format string) (int64, bool) {
	switch {
	case strings.HasSuffix(n.logical, "timestamp-millis"):
		return 1000, true
	case strings.HasSuffix(n.logical, "timestamp-micros"):
		return 1, true
	case strings.HasSuffix(n.logical, "timestamp-nanos"):
		return -1000, true
	case n.logical == "date":
		return int64(feature.Day), true
	case n.logical != "":
		return 0, false
	}
	switch format {
	case "unix_s":
		return 1_000_000, true
	case "unix_ms":
		return 1000, true
	case "unix_us":
		return 1, true
	}
	return 0, false
}

// append reads a record's bytes as one more row of b.
func (p *avroProgram) append(data []byte, b *feature.Batch) *refusal {
	if p.refused != nil {
		return p.refused
	}
	clear(p.values)
	r := avroReader{data: data, program: p}
	err := r.read(p.root, 0)
	if err == nil && len(r.data) > 0 {
		err = fmt.Errorf("%d bytes are left over", len(r.data))
	}
	if err != nil {
		var field *fieldError
		if !errors.As(err, &field) {
			return &refusal{materialize.ReasonMalformed, "not a value of its schema: " + err.Error()}
		}
		reason := materialize.ReasonBadField
		if field.column == p.timestamp {
			reason = materialize.ReasonBadTimestamp
		}
		return &refusal{reason, fmt.Sprintf("field %q: %s", p.src.Columns[field.column].Outside(), field.message)}
	}
	if p.values[p.timestamp].IsNull() {
		return &refusal{materialize.ReasonBadTimestamp, fmt.Sprintf("field %q: the timestamp is missing or null", p.src.Columns[p.timestamp].Outside())}
	}
	for i, c := range b.Columns {
		c.Append(p.values[i])
	}
	b.Rows++
	return nil
}

// fieldError is a value that a column cannot take.
type fieldError struct {
	column  int
	message string
}

func (e *fieldError) Error() string { return e.message }

var (
	errAvroShort = errors.New("it is cut off")
	errAvroDeep  = errors.New("it is nested too deep")
)

// avroReader reads from the front of data.
type avroReader struct {
	data    []byte
	program *avroProgram
}

func (r *avroReader) long() (int64, error) {
	u, n := binary.Uvarint(r.data)
	if n <= 0 {
		return 0, errAvroShort
	}
	r.data = r.data[n:]
	return int64(u>>1) ^ -int64(u&1), nil
}

func (r *avroReader) take(n int64) ([]byte, error) {
	if n < 0 || n > int64(len(r.data)) {
		return nil, errAvroShort
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b, nil
}

func (r *avroReader) bytes() ([]byte, error) {
	n, err := r.long()
	if err != nil {
		return nil, err
	}
	return r.take(n)
}

// read reads a value, and gives it to the columns that take it.
func (r *avroReader) read(n *avroNode, depth int) error {
	if depth > maxAvroDepth {
		return errAvroDeep
	}
	switch n.kind {
	case avroRecord:
		for _, child := range n.children {
			if err := r.read(child, depth+1); err != nil {
				return err
			}
		}
		return nil
	case avroUnion:
		branch, err := r.long()
		if err != nil {
			return err
		}
		if branch < 0 || branch >= int64(len(n.children)) {
			return fmt.Errorf("branch %d of a union of %d", branch, len(n.children))
		}
		return r.read(n.children[branch], depth+1)
	case avroArray, avroMap:
		if len(n.columns) > 0 {
			return r.lists(n)
		}
		return r.blocks(n.kind == avroMap, func() error { return r.read(n.children[0], depth+1) })
	}
	v, err := r.scalar(n)
	if err != nil {
		return err
	}
	for _, column := range n.columns {
		converted, message := r.program.convert(r.program.src.Columns[column].Type, n, v)
		if message != "" {
			return &fieldError{column, message}
		}
		r.program.values[column] = converted
	}
	return nil
}

// blocks reads the blocks of an array or a map.
func (r *avroReader) blocks(isMap bool, item func() error) error {
	for {
		count, err := r.long()
		if err != nil {
			return err
		}
		if count == 0 {
			return nil
		}
		if count < 0 {
			if _, err := r.long(); err != nil { // the block's size in bytes
				return err
			}
			count = -count
		}
		// An item of no bytes (a null) is possible, and of no use: never loop for what is not there.
		if count < 0 || count > int64(len(r.data)) {
			return errAvroShort
		}
		for range count {
			if isMap {
				if _, err := r.bytes(); err != nil {
					return err
				}
			}
			if err := item(); err != nil {
				return err
			}
		}
	}
}

// lists reads an array for a list or an embedding.
func (r *avroReader) lists(n *avroNode) error {
	item := n.children[0]
	var raw []feature.Value
	err := r.blocks(false, func() error {
		v, err := r.scalar(item)
		raw = append(raw, v)
		return err
	})
	if err != nil {
		return err
	}
	for _, column := range n.columns {
		t := r.program.src.Columns[column].Type
		if t.Kind == feature.Embedding {
			if len(raw) != t.Dim {
				return &fieldError{column, fmt.Sprintf("%d numbers, want %d", len(raw), t.Dim)}
			}
			floats := make([]float32, len(raw))
			for i, v := range raw {
				if v.Kind() == feature.Int64 {
					floats[i] = float32(v.Int64())
				} else {
					floats[i] = float32(v.Float64())
				}
			}
			r.program.values[column] = feature.OfEmbedding(floats)
			continue
		}
		list := make([]feature.Value, len(raw))
		for i, v := range raw {
			converted, message := r.program.convert(feature.Type{Kind: t.Elem}, item, v)
			if message != "" {
				return &fieldError{column, fmt.Sprintf("element %d: %s", i, message)}
			}
			list[i] = converted.Clone() // a column keeps lists by reference
		}
		r.program.values[column] = feature.OfList(t.Elem, list)
	}
	return nil
}

// scalar reads a value as it is encoded: Int64, Float64, Bool, String or Bytes. Text refers to data.
func (r *avroReader) scalar(n *avroNode) (feature.Value, error) {
	switch n.kind {
	case avroNull:
		return feature.Value{}, nil
	case avroBoolean:
		b, err := r.take(1)
		if err != nil {
			return feature.Value{}, err
		}
		return feature.OfBool(b[0] != 0), nil
	case avroInt, avroLong:
		v, err := r.long()
		if err == nil && n.kind == avroInt && v != int64(int32(v)) {
			err = fmt.Errorf("%d is not an int", v)
		}
		return feature.OfInt64(v), err
	case avroFloat:
		b, err := r.take(4)
		if err != nil {
			return feature.Value{}, err
		}
		return feature.OfFloat64(float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))), nil
	case avroDouble:
		b, err := r.take(8)
		if err != nil {
			return feature.Value{}, err
		}
		return feature.OfFloat64(math.Float64frombits(binary.LittleEndian.Uint64(b))), nil
	case avroBytes, avroString:
		b, err := r.bytes()
		return feature.OfBytes(b), err
	case avroFixed:
		b, err := r.take(int64(n.size))
		return feature.OfBytes(b), err
	case avroEnum:
		i, err := r.long()
		if err == nil && (i < 0 || i >= int64(len(n.symbols))) {
			err = fmt.Errorf("symbol %d of an enum of %d", i, len(n.symbols))
		}
		if err != nil {
			return feature.Value{}, err
		}
		return feature.OfString(n.symbols[i]), nil
	}
	return feature.Value{}, errors.New("a list in a list")
}

// convert makes a scalar a value of a column's type, or says why not.
func (p *avroProgram) convert(t feature.Type, n *avroNode, v feature.Value) (_ feature.Value, message string) {
	if v.IsNull() {
		return v, ""
	}
	switch t.Kind {
	case feature.Float64:
		if v.Kind() == feature.Int64 {
			f := float64(v.Int64())
			if f >= math.MaxInt64 || int64(f) != v.Int64() {
				return v, fmt.Sprintf("%d has no exact float64", v.Int64())
			}
			return feature.OfFloat64(f), ""
		}
	case feature.String:
		if !utf8.Valid(v.Bytes()) {
			return v, "the text is not UTF-8"
		}
		return feature.OfString(v.Str()), ""
	case feature.Timestamp:
		if n.kind == avroString {
			micros, err := feature.ParseTimestamp(v.Str())
			if err != nil {
				return v, err.Error()
			}
			return feature.OfTimestamp(micros), ""
		}
		scale, _ := timestampScale(n, p.src.TimestampFormat)
		micros := v.Int64()
		if scale < 0 {
			micros = feature.FloorDiv(micros, -scale)
		} else if micros > math.MaxInt64/scale || micros < math.MinInt64/scale {
			return v, fmt.Sprintf("%d is not between the years 1 and 9999", micros)
		} else {
			micros *= scale
		}
		if micros < feature.MinTimestamp || micros > feature.MaxTimestamp {
			return v, fmt.Sprintf("%d is not between the years 1 and 9999", v.Int64())
		}
		return feature.OfTimestamp(micros), ""
	}
	return v, ""
}
