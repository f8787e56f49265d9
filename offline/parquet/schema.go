package parquet

import (
	"fmt"
	"strings"

	"github.com/apache/iceberg-go"
	pq "github.com/parquet-go/parquet-go"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// The columns that Forebay adds to those of a source or a view.
const (
	colIngestedAt = "_ingested_at"
	// Of a log.
	colPartition  = "_partition"
	colOffset     = "_offset"
	colFile       = "_file"
	colRow        = "_row"
	colAppendedAt = "_appended_at"
	// Of a derived table.
	colEventTime = "event_timestamp"
	colMajor     = "_sequence_major"
	colMinor     = "_sequence_minor"
	colInvalid   = "_invalid"
	colBucket    = "_bucket"
)

// column is one column of a table: how it is held in memory and in a file.
type column struct {
	feature.Field
	required bool
	narrow   bool // a 32-bit integer in the table, an Int64 in memory
	id       int  // the Iceberg field ID; 0 before the table exists
	elem     int  // of a list: the field ID of its element
}

func nullable(name string, t feature.Type) column {
	return column{Field: feature.Field{Name: name, Type: t}}
}

func required(name string, t feature.Type) column {
	return column{Field: feature.Field{Name: name, Type: t}, required: true}
}

// logColumns are the columns of a source's log: the source's, then ours.
func logColumns(src *registry.Source) []column {
	var cs []column
	for _, f := range src.Fields() {
		cs = append(cs, nullable(f.Name, f.Type))
	}
	partition := nullable(colPartition, feature.TypeInt64)
	partition.narrow = true
	return append(cs,
		required(colIngestedAt, feature.TypeTimestamp),
		partition,
		nullable(colOffset, feature.TypeInt64),
		nullable(colFile, feature.TypeString),
		nullable(colRow, feature.TypeInt64),
		nullable(colAppendedAt, feature.TypeTimestamp))
}

// tableColumns are the columns of a derived table, in the order in which
// sorted rows are held (see derivedLayout).
func tableColumns(v registry.ViewGeneration) []column {
	var cs []column
	for _, f := range v.JoinKeys() {
		cs = append(cs, required(f.Name, f.Type))
	}
	cs = append(cs,
		required(colEventTime, feature.TypeTimestamp),
		required(colIngestedAt, feature.TypeTimestamp),
		required(colMajor, feature.TypeInt64),
		required(colMinor, feature.TypeInt64))
	for _, f := range v.View.Stored() {
		cs = append(cs, nullable(f.Name, f.Type))
	}
	bucket := required(colBucket, feature.TypeInt64)
	bucket.narrow = true
	return append(cs, nullable(colInvalid, feature.TypeBytes), bucket)
}

// checkNames refuses a table in which two columns have one name.
func checkNames(table string, cs []column) error {
	seen := make(map[string]bool, len(cs))
	for _, c := range cs {
		if name := strings.ToLower(c.Name); seen[name] {
			return fmt.Errorf("%s: two columns called %q (letter case aside); rename yours, since the table needs its own", table, c.Name)
		} else {
			seen[name] = true
		}
	}
	return nil
}

func icebergType(c column) iceberg.Type {
	scalar := func(k feature.Kind) iceberg.Type {
		switch k {
		case feature.Bool:
			return iceberg.PrimitiveTypes.Bool
		case feature.Int64:
			return iceberg.PrimitiveTypes.Int64
		case feature.Float64:
			return iceberg.PrimitiveTypes.Float64
		case feature.String:
			return iceberg.PrimitiveTypes.String
		case feature.Bytes:
			return iceberg.PrimitiveTypes.Binary
		}
		return iceberg.PrimitiveTypes.TimestampTz
	}
	switch {
	case c.narrow:
		return iceberg.PrimitiveTypes.Int32
	case c.Type.Kind == feature.List:
		return &iceberg.ListType{ElementID: c.elem, Element: scalar(c.Type.Elem), ElementRequired: true}
	case c.Type.Kind == feature.Embedding:
		return &iceberg.ListType{ElementID: c.elem, Element: iceberg.PrimitiveTypes.Float32, ElementRequired: true}
	}
	return scalar(c.Type.Kind)
}

// icebergSchema is the schema a table is created with; Iceberg gives out the field IDs.
func icebergSchema(cs []column) *iceberg.Schema {
	fields := make([]iceberg.NestedField, len(cs))
	for i, c := range cs {
		c.elem = len(cs) + i + 1
		fields[i] = iceberg.NestedField{ID: i + 1, Name: c.Name, Type: icebergType(c), Required: c.required}
	}
	return iceberg.NewSchema(0, fields...)
}

// bind fills in the field IDs that the table gave the columns. It returns the
// columns the table lacks, and an error for one that it has with another type.
func bind(table string, sc *iceberg.Schema, cs []column) (missing []column, err error) {
	for i := range cs {
		f, ok := sc.FindFieldByName(cs[i].Name)
		if !ok {
			missing = append(missing, cs[i])
			continue
		}
		cs[i].id = f.ID
		if l, ok := f.Type.(*iceberg.ListType); ok {
			cs[i].elem = l.ElementID
		}
		if want := icebergType(cs[i]); !f.Type.Equals(want) {
			return nil, fmt.Errorf("table %s: column %q is %s there and %s (%s) here; a column keeps its type", table, cs[i].Name, f.Type, want, cs[i].Type)
		}
	}
	return missing, nil
}

// orderedGroup is a group whose fields keep the order of the table's columns,
// for the people who look at a file.
type orderedGroup struct {
	pq.Group
	names []string
}

func (g orderedGroup) Fields() []pq.Field {
	byName := make(map[string]pq.Field, len(g.names))
	for _, f := range g.Group.Fields() {
		byName[f.Name()] = f
	}
	fs := make([]pq.Field, len(g.names))
	for i, n := range g.names {
		fs[i] = byName[n]
	}
	return fs
}

func parquetNode(c column) pq.Node {
	scalar := func(k feature.Kind) pq.Node {
		switch k {
		case feature.Bool:
			return pq.Leaf(pq.BooleanType)
		case feature.Int64:
			return pq.Leaf(pq.Int64Type)
		case feature.Float64:
			return pq.Leaf(pq.DoubleType)
		case feature.String:
			return pq.String()
		case feature.Bytes:
			return pq.Leaf(pq.ByteArrayType)
		}
		return pq.Timestamp(pq.Microsecond)
	}
	with := pq.Encoded
	var n pq.Node
	switch {
	case c.narrow:
		n = with(pq.Leaf(pq.Int32Type), &pq.Plain)
	case c.Type.Kind == feature.String:
		n = with(pq.String(), &pq.RLEDictionary)
	case c.Type.Kind == feature.List:
		n = pq.List(pq.FieldID(with(scalar(c.Type.Elem), &pq.Plain), c.elem))
	case c.Type.Kind == feature.Embedding:
		n = pq.List(pq.FieldID(with(pq.Leaf(pq.FloatType), &pq.Plain), c.elem))
	default:
		n = with(scalar(c.Type.Kind), &pq.Plain)
	}
	if !c.required {
		n = pq.Optional(n)
	}
	return pq.FieldID(n, c.id)
}

func parquetSchema(table string, cs []column) *pq.Schema {
	g := orderedGroup{Group: pq.Group{}}
	for _, c := range cs {
		g.Group[c.Name] = parquetNode(c)
		g.names = append(g.names, c.Name)
	}
	return pq.NewSchema(table, g)
}
