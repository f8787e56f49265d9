package rowcodec

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// KindNewestRow is the first byte of the record of a newest row.
const KindNewestRow = 1

// MaxRecord is the greatest length of a record, 64 MiB.
const MaxRecord = 64 << 20

const (
	orderEnd   = 33           // kind and order
	headerLen  = orderEnd + 1 // and flags
	trailerLen = 4            // the checksum

	flagNulls   = 1 << 0 // a bitmap of nulls follows
	flagInvalid = 1 << 1 // and one of those that could not be computed
	flagWide    = 1 << 2 // ends have 4 bytes instead of 2
	knownFlags  = flagNulls | flagInvalid | flagWide
)

// Errors of decoding, to be tested with errors.Is.
var (
	// ErrKind means: the record is of a kind or format version that this program does not read.
	ErrKind = errors.New("record of an unknown format version")
	// ErrCorrupt means: the record is cut off, altered, or of another view, generation or project.
	ErrCorrupt = errors.New("record corrupt")
)

// ErrTooLarge means: the values of a row do not fit into one record.
var ErrTooLarge = errors.New("record too large")

// class groups the features that are stored alike.
type class uint8

const (
	words class = iota // 8 bytes
	bools              // 1 bit
	texts              // any length
)

func classOf(t feature.Type) class {
	switch t.Kind {
	case feature.Bool:
		return bools
	case feature.Int64, feature.Float64, feature.Timestamp:
		return words
	}
	return texts
}

// Codec encodes and decodes the records of one generation of a view. It is
// immutable, and safe for concurrent use.
type Codec struct {
	scope  string
	fields []feature.Field // as given
	slots  []int           // the field in each slot
	slotOf []int           // the slot of each field
	words  int             // slots before this are words
	bools  int             // slots from words to this are bools, the rest texts
	seed   uint32
}

// For compiles the codec of a generation's records: of its features, in the
// order of its definition.
func For(v registry.ViewGeneration) *Codec {
	return New(scopeOf(v), fieldsOf(v))
}

// fieldsOf are a generation's features, in the order of its definition.
func fieldsOf(v registry.ViewGeneration) []feature.Field {
	fields := make([]feature.Field, len(v.View.Features))
	for i, f := range v.View.Features {
		fields[i] = f.Field
	}
	return fields
}

// scopeOf tells the records of a generation from those of another: "project/view@1".
func scopeOf(v registry.ViewGeneration) string { return fmt.Sprintf("%s/%s", v.Project.Name, v) }

// appendField appends a feature to what checksums start from.
func appendField(schema []byte, f feature.Field) []byte {
	schema = append(append(schema, f.Name...), 0)
	return append(append(schema, f.Type.String()...), 0)
}

// New compiles a codec for features of a scope (scopeOf). Two
// codecs of one scope and the same set of fields read each other's records,
// whatever the order of the fields.
func New(scope string, fields []feature.Field) *Codec {
	c := &Codec{scope: scope, fields: slices.Clone(fields), slots: make([]int, len(fields)), slotOf: make([]int, len(fields))}
	for i := range c.slots {
		c.slots[i] = i
	}
	slices.SortStableFunc(c.slots, func(a, b int) int {
		if n := cmp.Compare(classOf(fields[a].Type), classOf(fields[b].Type)); n != 0 {
			return n
		}
		return strings.Compare(fields[a].Name, fields[b].Name)
	})
	schema := append([]byte(scope), 0)
	for s, f := range c.slots {
		c.slotOf[f] = s
		switch classOf(fields[f].Type) {
		case words:
			c.words++
			c.bools++
		case bools:
			c.bools++
		}
		schema = appendField(schema, fields[f])
	}
	c.seed = crc32.Checksum(schema, castagnoli)
	return c
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Fields are the codec's features, in the order in which it was given them.
// They are shared: never write to them.
func (c *Codec) Fields() []feature.Field { return c.fields }

// bitmapLen is the length of a bitmap of n bits.
func bitmapLen(n int) int { return (n + 7) / 8 }

// appendOrder appends a version such that versions sort as their bytes do.
func appendOrder(dst []byte, v feature.Version) []byte {
	for _, n := range [4]int64{v.EventTime, v.IngestedAt, v.Major, v.Minor} {
		dst = binary.BigEndian.AppendUint64(dst, uint64(n)^1<<63)
	}
	return dst
}

// Version reads the version of a record of any kind, without checking the rest of it.
func Version(rec []byte) (feature.Version, error) {
	if len(rec) < orderEnd {
		return feature.Version{}, fmt.Errorf("%w: %d bytes, want at least %d", ErrCorrupt, len(rec), orderEnd)
	}
	return versionOf(rec), nil
}

func versionOf(rec []byte) feature.Version {
	part := func(i int) int64 { return int64(binary.BigEndian.Uint64(rec[1+8*i:]) ^ 1<<63) }
	return feature.Version{EventTime: part(0), IngestedAt: part(1), Major: part(2), Minor: part(3)}
}
