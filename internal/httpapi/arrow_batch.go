package httpapi

import (
	"encoding/binary"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/forebay/forebay/registry/feature"
)

// arrowBatch writes record batches in Arrow's IPC format
// (https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc):
//
//	+------------+--------------------+-------------------------------+------+-----+
//	| 0xFFFFFFFF | length of metadata | metadata, a flatbuffer Message | body | end |
//	+------------+--------------------+-------------------------------+------+-----+
//
// The metadata says of each array (a column, or the elements of a list) how long it is and how many nulls it
// has, and of each buffer of an array where it lies in the body; they come in the order of the
// schema, each buffer at a multiple of 8. It is for machines whose words are little-endian, as the format's are.
//
// It is used for one record after the other: begin, then the columns, then append.
type arrowBatch struct {
	fb      *flatbuffers.Builder
	rows    int
	nodes   []arrowNode
	buffers []arrowBuffer
	size    int    // of the body so far
	scratch []byte // of buffers that are in no column's memory
}

// arrowNode is a FieldNode of Message.fbs.
type arrowNode struct{ length, nulls int }

// arrowBuffer is a Buffer of Message.fbs, and its bytes: those of a column, which must stay until append, or the
// scratch's from some place on.
type arrowBuffer struct {
	at, length int
	bytes      []byte
	scratch    int
}

// Of Schema.fbs and Message.fbs.
const (
	arrowV5          = 4 // MetadataVersion
	arrowRecordBatch = 3 // MessageHeader
)

// arrowEnd ends a stream.
var arrowEnd = [8]byte{0xff, 0xff, 0xff, 0xff}

const arrowContinues = 0xffffffff

func (b *arrowBatch) begin(rows int) {
	if b.fb == nil {
		b.fb = flatbuffers.NewBuilder(4 << 10)
	}
	b.rows, b.nodes, b.buffers, b.size, b.scratch = rows, b.nodes[:0], b.buffers[:0], 0, b.scratch[:0]
}

func (b *arrowBatch) node(length, nulls int) { b.nodes = append(b.nodes, arrowNode{length, nulls}) }

func (b *arrowBatch) buffer(buf arrowBuffer) {
	buf.at = b.size
	b.buffers = append(b.buffers, buf)
	b.size += pad8(buf.length)
}

func (b *arrowBatch) bytes(p []byte) { b.buffer(arrowBuffer{length: len(p), bytes: p}) }

// made is a buffer of what was appended to scratch since from.
func (b *arrowBatch) made(from int) {
	b.buffer(arrowBuffer{length: len(b.scratch) - from, scratch: from})
}

func pad8(n int) int { return (n + 7) &^ 7 }

// column adds a column of any type but lists and embeddings.
func (b *arrowBatch) column(c *feature.Column) {
	nulls := 0
	if len(c.Nulls) > 0 {
		nulls = c.Nulls.Count()
	}
	b.node(b.rows, nulls)
	b.valid(c.Nulls, nulls)
	switch c.Type.Kind {
	case feature.Bool:
		from := len(b.scratch)
		b.scratch = append(b.scratch, make([]byte, (b.rows+7)/8)...)
		for i, w := range c.Nums[:b.rows] {
			b.scratch[from+i>>3] |= byte(w&1) << (i & 7)
		}
		b.made(from)
	case feature.String, feature.Bytes:
		if b.rows == 0 {
			b.bytes(nil)
		} else {
			b.bytes(wordBytes(c.Offsets[:b.rows+1]))
		}
		b.bytes(c.Data)
	default:
		b.bytes(wordBytes(c.Nums[:b.rows]))
	}
}

// valid adds the bitmap of the rows that are not null; an empty one where none is.
func (b *arrowBatch) valid(null feature.Bitmap, nulls int) {
	if nulls == 0 {
		b.bytes(nil)
		return
	}
	from := len(b.scratch)
	for i := range (b.rows + 63) / 64 {
		w := ^uint64(0)
		if i < len(null) {
			w = ^null[i]
		}
		b.scratch = binary.LittleEndian.AppendUint64(b.scratch, w)
	}
	b.scratch = b.scratch[:from+(b.rows+7)/8]
	if rest := b.rows & 7; rest != 0 {
		b.scratch[len(b.scratch)-1] &= 1<<rest - 1
	}
	b.made(from)
}

// list adds the array of lists of n elements, and the node of their elements.
func (b *arrowBatch) list(n, nulls int) {
	b.node(b.rows, 0)
	b.bytes(nil)
	b.node(b.rows*n, nulls)
}

// statuses adds the lists of the statuses of n outputs.
func (b *arrowBatch) statuses(same []stretch, n int) {
	b.list(n, 0)
	b.bytes(nil)
	from := len(b.scratch)
	b.scratch = appendStatuses(b.scratch, same, b.rows)
	b.made(from)
}

// eventTimes adds the lists of the event times of n outputs.
func (b *arrowBatch) eventTimes(same []stretch, n int) {
	if from := len(b.scratch); allTimes(same, b.rows) {
		b.list(n, 0)
		b.bytes(nil)
	} else {
		var nulls int
		b.scratch, nulls = appendTimesValid(b.scratch, same, b.rows, n)
		b.list(n, nulls)
		b.made(from)
	}
	from := len(b.scratch)
	b.scratch = appendTimeWords(b.scratch, same, b.rows)
	b.made(from)
}

// append appends the message of the record and the end of the stream.
func (b *arrowBatch) append(dst []byte) []byte {
	meta := b.metadata()
	dst = binary.LittleEndian.AppendUint32(dst, arrowContinues)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(pad8(len(meta)))) //nolint:gosec // some KB
	dst = append8(dst, meta)
	for i := range b.buffers {
		p := b.buffers[i].bytes
		if p == nil {
			p = b.scratch[b.buffers[i].scratch:][:b.buffers[i].length]
		}
		dst = append8(dst, p)
		b.buffers[i].bytes = nil
	}
	return append(dst, arrowEnd[:]...)
}

// append8 appends bytes up to a multiple of 8.
func append8(dst, p []byte) []byte {
	var zeros [7]byte
	dst = append(dst, p...)
	return append(dst, zeros[:pad8(len(p))-len(p)]...)
}

// metadata is the Message; it is valid until the next begin. Flatbuffers are built from their end.
func (b *arrowBatch) metadata() []byte {
	fb := b.fb
	fb.Reset()
	fb.StartVector(16, len(b.buffers), 8)
	for i := len(b.buffers) - 1; i >= 0; i-- {
		pair(fb, b.buffers[i].at, b.buffers[i].length)
	}
	buffers := fb.EndVector(len(b.buffers))
	fb.StartVector(16, len(b.nodes), 8)
	for i := len(b.nodes) - 1; i >= 0; i-- {
		pair(fb, b.nodes[i].length, b.nodes[i].nulls)
	}
	nodes := fb.EndVector(len(b.nodes))
	fb.StartObject(5) // RecordBatch: length, nodes, buffers, compression, variadicBufferCounts
	fb.PrependInt64Slot(0, int64(b.rows), 0)
	fb.PrependUOffsetTSlot(1, nodes, 0)
	fb.PrependUOffsetTSlot(2, buffers, 0)
	batch := fb.EndObject()
	fb.StartObject(5) // Message: version, header_type, header, bodyLength, custom_metadata
	fb.PrependInt16Slot(0, arrowV5, 0)
	fb.PrependByteSlot(1, arrowRecordBatch, 0)
	fb.PrependUOffsetTSlot(2, batch, 0)
	fb.PrependInt64Slot(3, int64(b.size), 0)
	fb.Finish(fb.EndObject())
	return fb.FinishedBytes()
}

// pair is a struct of two longs.
func pair(fb *flatbuffers.Builder, first, second int) {
	fb.Prep(8, 16)
	fb.PrependInt64(int64(second))
	fb.PrependInt64(int64(first))
}
