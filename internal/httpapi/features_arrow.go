package httpapi

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry/feature"
)

// An answer as Arrow is an IPC stream of one record: a column per feature, and the statuses
// (feature.Status) and event times as lists with one entry per feature. What can be said before
// there are values is written by Arrow's library and kept (answerShape); the record, unless it has
// lists, by arrowBatch: the library takes 2 us a column for it, and allocates.

// The columns of an Arrow answer after its features'. No feature has a dot in its name.
const (
	arrowStatuses   = "forebay.statuses"
	arrowEventTimes = "forebay.event_timestamps"
)

// Types of these columns: a list with one entry per feature.
var (
	arrowStatusType = arrow.Field{Name: "element", Type: arrow.PrimitiveTypes.Uint8}
	arrowTimeType   = arrow.Field{Name: "element", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true}
)

// arrowSchema is a schema, and the message that begins a stream of it.
type arrowSchema struct {
	schema  *arrow.Schema
	message []byte
}

// newArrowSchema makes the schema of the answers of a plan.
func newArrowSchema(plan Plan, omitStatuses, omitTimestamps bool) (*arrowSchema, error) {
	outputs := plan.Selection().Outputs
	fields := make([]arrow.Field, 0, len(outputs)+2)
	for _, o := range outputs {
		fields = append(fields, files.ArrowField(feature.Field{Name: o.Name, Type: o.Type}))
	}
	list := func(name string, of arrow.Field) {
		fields = append(fields, arrow.Field{Name: name, Type: arrow.FixedSizeListOfField(int32(len(outputs)), of)}) //nolint:gosec // a number of features
	}
	if !omitStatuses && len(outputs) > 0 {
		list(arrowStatuses, arrowStatusType)
	}
	if !omitTimestamps && len(outputs) > 0 {
		list(arrowEventTimes, arrowTimeType)
	}
	s := &arrowSchema{schema: arrow.NewSchema(fields, nil)}
	var out answerWriter
	if err := ipc.NewWriter(&out, ipc.WithSchema(s.schema)).Close(); err != nil { // writes the schema, and that nothing follows
		return nil, fmt.Errorf("write the schema of a lookup's answer as %s: %w", api.TypeArrow, err)
	}
	s.message = slices.Clip(out.buf[:len(out.buf)-len(arrowEnd)])
	return s, nil
}

// appendArrow appends the answer to a lookup as Arrow.
func (a *answerBuffer) appendArrow(dst []byte, shape *answerShape, f *Found, rows int, r *featuresRequest) ([]byte, error) {
	s, err := shape.arrow(r)
	if err != nil {
		return dst, err
	}
	if slices.ContainsFunc(f.Columns, func(c *feature.Column) bool { return len(c.Values) > 0 }) {
		return appendArrowLists(dst, s.schema, f, rows, r)
	}
	b := &a.arrow
	b.begin(rows)
	for _, c := range f.Columns {
		b.column(c)
	}
	if n := len(f.Columns); n > 0 {
		var memory [fewStretches]stretch
		same := stretches(memory[:0], f)
		if !r.omitStatuses {
			b.statuses(same, n)
		}
		if !r.omitTimestamps {
			b.eventTimes(same, n)
		}
	}
	return b.append(append(dst, s.message...)), nil
}

// appendArrowLists is appendArrow by way of the library, for columns of any type.
func appendArrowLists(dst []byte, schema *arrow.Schema, f *Found, rows int, r *featuresRequest) ([]byte, error) {
	columns := make([]arrow.Array, 0, schema.NumFields())
	for _, c := range f.Columns {
		columns = append(columns, files.Array(c))
	}
	n, same := len(f.Columns), stretches(nil, f)
	lists := func(valid *memory.Buffer, nulls int, elements []byte) {
		t := schema.Field(len(columns)).Type.(*arrow.FixedSizeListType) //nolint:forcetypeassert // as schema makes it
		elems := array.NewData(t.Elem(), rows*n, []*memory.Buffer{valid, memory.NewBufferBytes(elements)}, nil, nulls, 0)
		columns = append(columns, array.MakeFromData(array.NewData(t, rows, []*memory.Buffer{nil}, []arrow.ArrayData{elems}, 0, 0)))
	}
	if !r.omitStatuses && n > 0 {
		lists(nil, 0, appendStatuses(nil, same, rows))
	}
	if !r.omitTimestamps && n > 0 {
		var valid *memory.Buffer
		bitmap, nulls := appendTimesValid(nil, same, rows, n)
		if nulls > 0 {
			valid = memory.NewBufferBytes(append8(nil, bitmap))
		}
		lists(valid, nulls, appendTimeWords(nil, same, rows))
	}
	out := answerWriter{dst}
	w := ipc.NewWriter(&out, ipc.WithSchema(schema))
	if err := w.Write(array.NewRecord(schema, columns, int64(rows))); err != nil {
		return out.buf, fmt.Errorf("write a lookup's answer as %s: %w", api.TypeArrow, err)
	}
	if err := w.Close(); err != nil {
		return out.buf, fmt.Errorf("write a lookup's answer as %s: %w", api.TypeArrow, err)
	}
	return out.buf, nil
}

// answerWriter appends what is written to it.
type answerWriter struct{ buf []byte }

func (w *answerWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	return len(p), nil
}

// appendStatuses appends the statuses row by row, a byte each.
func appendStatuses(dst []byte, same []stretch, rows int) []byte {
	for i := range rows {
		for _, s := range same {
			dst = repeatTail(append(dst, byte(s.statuses[i])), 1, s.n)
		}
	}
	return dst
}

// hasTime says whether the outputs of a stretch have an event time in row i.
func (s *stretch) hasTime(i int) bool {
	return s.times[i] != NoTime && s.statuses[i] != feature.NotFound
}

// appendTimesValid appends a bitmap of the event times that are there, row by row, and says how many are not.
func appendTimesValid(dst []byte, same []stretch, rows, outputs int) (bitmap []byte, nulls int) {
	from, at := len(dst), 0
	dst = append(dst, make([]byte, (outputs*rows+7)/8)...)
	for i := range rows {
		for j := range same {
			s := &same[j]
			if s.hasTime(i) {
				for k := at; k < at+s.n; k++ {
					dst[from+k>>3] |= 1 << (k & 7)
				}
			} else {
				nulls += s.n
			}
			at += s.n
		}
	}
	return dst, nulls
}

// allTimes says whether there are no nulls among the event times.
func allTimes(same []stretch, rows int) bool {
	for j := range same {
		for i := range rows {
			if !same[j].hasTime(i) {
				return false
			}
		}
	}
	return true
}

// appendTimeWords appends the event times row by row, 8 bytes each, 0 where there is none.
func appendTimeWords(dst []byte, same []stretch, rows int) []byte {
	for i := range rows {
		for j := range same {
			var t uint64
			if s := &same[j]; s.hasTime(i) {
				t = uint64(s.times[i]) //nolint:gosec // the bits
			}
			dst = repeatTail(binary.LittleEndian.AppendUint64(dst, t), 8, same[j].n)
		}
	}
	return dst
}

// wordBytes is the memory of words.
func wordBytes[T uint32 | uint64](words []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(words)*int(unsafe.Sizeof(*new(T))))
}
