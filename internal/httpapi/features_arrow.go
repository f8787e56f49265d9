package httpapi

import (
	"fmt"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry/feature"
)

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

// appendArrow appends the answer to a lookup as an Arrow IPC stream of one record:
// a column per feature, and the statuses (feature.Status) and event times as lists
// with one entry per feature. The columns' memory is that of the answer to the
// lookup; only what Arrow packs in another way is copied.
func appendArrow(dst []byte, plan Plan, f *Found, rows int, r *featuresRequest) ([]byte, error) {
	outputs := plan.Selection().Outputs
	fields := make([]arrow.Field, 0, len(outputs)+2)
	columns := make([]arrow.Array, 0, len(outputs)+2)
	for j, c := range f.Columns {
		fields = append(fields, files.ArrowField(feature.Field{Name: outputs[j].Name, Type: c.Type}))
		columns = append(columns, arrowColumn(c))
	}
	n := len(outputs)
	if !r.omitStatuses && n > 0 {
		flat := make([]byte, 0, rows*n)
		for i := range rows {
			for _, statuses := range f.Statuses {
				flat = append(flat, byte(statuses[i]))
			}
		}
		fields = append(fields, arrow.Field{Name: arrowStatuses, Type: arrow.FixedSizeListOfField(int32(n), arrowStatusType)}) //nolint:gosec // a number of features
		columns = append(columns, arrowLists(fields[len(fields)-1].Type, rows, nil, flat, 0))
	}
	if !r.omitTimestamps && n > 0 {
		flat := make([]int64, 0, rows*n)
		var nulls feature.Bitmap
		for i := range rows {
			for j, times := range f.EventTimes {
				t := times[i]
				if t == NoTime || f.Statuses[j][i] == feature.NotFound {
					nulls.Set(len(flat))
					t = 0
				}
				flat = append(flat, t)
			}
		}
		fields = append(fields, arrow.Field{Name: arrowEventTimes, Type: arrow.FixedSizeListOfField(int32(n), arrowTimeType)}) //nolint:gosec // a number of features
		columns = append(columns, arrowLists(fields[len(fields)-1].Type, rows, nulls, arrow.Int64Traits.CastToBytes(flat), len(flat)))
	}
	schema := arrow.NewSchema(fields, nil)
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

// arrowColumn is a column as an Arrow array. One of words without nulls shares the
// column's memory, as it is written out before that is used again.
func arrowColumn(c *feature.Column) arrow.Array {
	if k := c.Type.Kind; (k == feature.Int64 || k == feature.Float64 || k == feature.Timestamp) && len(c.Nulls) == 0 {
		bytes := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(c.Nums))), 8*c.Len)
		return array.MakeFromData(array.NewData(files.ArrowField(feature.Field{Type: c.Type}).Type, c.Len, []*memory.Buffer{nil, memory.NewBufferBytes(bytes)}, nil, 0, 0))
	}
	return files.Array(c)
}

// arrowLists makes lists of a fixed length of flat values, of which those in nulls are null.
func arrowLists(t arrow.DataType, rows int, nulls feature.Bitmap, flat []byte, values int) arrow.Array {
	list := t.(*arrow.FixedSizeListType) //nolint:forcetypeassert // as it is made above
	var valid *memory.Buffer
	if len(nulls) > 0 {
		words := make([]uint64, (values+63)/64)
		for i := range words {
			words[i] = ^uint64(0)
			if i < len(nulls) {
				words[i] = ^nulls[i]
			}
		}
		valid = memory.NewBufferBytes(arrow.Uint64Traits.CastToBytes(words))
	}
	elems := array.NewData(list.Elem(), rows*int(list.Len()), []*memory.Buffer{valid, memory.NewBufferBytes(flat)}, nil, nulls.Count(), 0)
	return array.MakeFromData(array.NewData(t, rows, []*memory.Buffer{nil}, []arrow.ArrayData{elems}, 0, 0))
}
