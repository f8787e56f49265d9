package pages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"unsafe"

	"github.com/klauspost/compress/s2"
	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// leaf gathers the pages of one leaf's chunk.
type leaf struct {
	path   []string
	kind   pq.Kind
	width  int // bytes of a fixed-length array
	order  order
	maxDef int
	maxRep int

	buf    []byte // the chunk's data pages
	rows   int64
	values int64
	raw    int64 // bytes of the chunk before compression
	index  format.ColumnIndex
	places []format.PageLocation // relative to the chunk's first data page
	span   span                  // bounds of the chunk
	spans  []span                // of its pages
	nulls  int64
	plain  bool // a page of it is PLAIN

	temporary bool // see Options

	dict      map[string]int32 // nil: none, or it has grown too large in this chunk
	useDict   bool
	dictMax   int
	dictBytes int
	dictData  []byte // PLAIN values, in order
	dictCount int
	indexes   []int32
	inDict    bool // a page of the chunk refers to the dictionary

	scratch    []byte
	compressed []byte
	pass       int // pages not to try to compress, after one that did not get smaller
	header     format.PageHeader
	head       bytes.Buffer
	enc        *thrift.Encoder
}

func newLeaf(n pq.Node, path []string, def, rep int) *leaf {
	l := &leaf{path: path, kind: n.Type().Kind(), maxDef: def, maxRep: rep, order: orderOf(n.Type())}
	if l.kind == pq.FixedLenByteArray {
		l.width = n.Type().Length()
	}
	if e := n.Encoding(); e != nil && e.Encoding() == format.RLEDictionary && l.kind == pq.ByteArray {
		l.useDict, l.dict = true, map[string]int32{}
	}
	l.enc = thrift.NewEncoder(new(thrift.CompactProtocol).NewWriter(&l.head))
	return l
}

func (l *leaf) known() bool {
	switch l.kind {
	case pq.Boolean, pq.Int32, pq.Int64, pq.Float, pq.Double, pq.ByteArray, pq.FixedLenByteArray:
		return true
	}
	return false
}

// size is the width of a dense value in Values.Fixed; 0 for byte arrays.
func (l *leaf) size() int {
	switch l.kind {
	case pq.Boolean:
		return 1
	case pq.Int32, pq.Float:
		return 4
	case pq.Int64, pq.Double:
		return 8
	}
	return l.width
}

// dense is the number of values.
func (l *leaf) dense(v *Values) int {
	if s := l.size(); s > 0 {
		return len(v.Fixed) / s
	}
	return max(0, len(v.Offsets)-1)
}

// maxPage bounds what a page holds: its sizes are 32-bit numbers.
const maxPage = 1 << 30

// page appends a data page.
func (l *leaf) page(rows int, v *Values) error {
	dense := l.dense(v)
	if err := l.check(v, dense); err != nil {
		return err
	}
	start := len(l.buf)
	body, encoding := l.encode(v)
	if len(body) > maxPage {
		return fmt.Errorf("%d bytes in one page of %d rows", len(body), rows)
	}
	levels := l.levels(v)
	repLen := len(levels)
	levels = l.defLevels(levels, v)
	packed, isPacked := l.compress(body)
	var crc uint32 // 0 is none
	if !l.temporary {
		crc = crc32.Update(crc32.ChecksumIEEE(levels), crc32.IEEETable, packed)
	}
	l.header = format.PageHeader{
		Type:                 format.DataPageV2,
		UncompressedPageSize: int32(len(levels) + len(body)),   //nolint:gosec // at most maxPage
		CompressedPageSize:   int32(len(levels) + len(packed)), //nolint:gosec // as above
		CRC:                  int32(crc),                       //nolint:gosec // the bits
		DataPageHeaderV2: thrift.New(format.DataPageHeaderV2{
			NumValues: int32(v.Entries), NumNulls: int32(v.Entries - dense), NumRows: int32(rows), Encoding: encoding, //nolint:gosec // as above
			DefinitionLevelsByteLength: int32(len(levels) - repLen), RepetitionLevelsByteLength: int32(repLen), //nolint:gosec // as above
			IsCompressed: thrift.New(isPacked),
		}),
	}
	if err := l.appendHeader(); err != nil {
		return err
	}
	l.raw += int64(len(l.buf) - start + len(levels) + len(body))
	l.buf = append(append(l.buf, levels...), packed...)
	l.places = append(l.places, format.PageLocation{
		Offset: int64(start), CompressedPageSize: int32(len(l.buf) - start), FirstRowIndex: l.rows, //nolint:gosec // as above
	})
	var s span
	if !l.temporary {
		s = l.order.span(l, v, dense)
	}
	l.spans = append(l.spans, s)
	l.span = l.order.join(l.span, s)
	l.index.NullCounts = append(l.index.NullCounts, int64(v.Entries-dense))
	l.nulls += int64(v.Entries - dense)
	l.rows += int64(rows)
	l.values += int64(v.Entries)
	return nil
}

func (l *leaf) check(v *Values, dense int) error {
	switch {
	case l.size() > 0 && len(v.Fixed)%l.size() != 0:
		return errors.New("a value that is cut off")
	case v.Def == nil && dense != v.Entries, dense > v.Entries:
		return fmt.Errorf("%d values for %d entries", dense, v.Entries)
	case v.Def != nil && len(v.Def) != v.Entries, l.maxRep > 0 && len(v.Rep) != v.Entries:
		return fmt.Errorf("%d and %d levels for %d entries", len(v.Def), len(v.Rep), v.Entries)
	case l.maxDef == 0 && dense != v.Entries:
		return errors.New("null in a column without nulls")
	}
	return nil
}

func (l *leaf) appendHeader() error {
	l.head.Reset()
	if err := l.enc.Encode(&l.header); err != nil {
		return err
	}
	l.buf = append(l.buf, l.head.Bytes()...)
	return nil
}

// levels are the repetition levels, in scratch.
func (l *leaf) levels(v *Values) []byte {
	if l.maxRep == 0 {
		return nil
	}
	b, _ := (&rle.Encoding{BitWidth: bits.Len(uint(l.maxRep))}).EncodeLevels(nil, v.Rep) // every width of levels is supported
	return b
}

func (l *leaf) defLevels(dst []byte, v *Values) []byte {
	if l.maxDef == 0 {
		return dst
	}
	if v.Def == nil { // one run
		return append(binary.AppendUvarint(dst, uint64(v.Entries)<<1), byte(l.maxDef))
	}
	b, _ := (&rle.Encoding{BitWidth: bits.Len(uint(l.maxDef))}).EncodeLevels(nil, v.Def) // as above
	return append(dst, b...)
}

// encode is the page's values, valid until the next call.
func (l *leaf) encode(v *Values) ([]byte, format.Encoding) {
	if l.dict != nil && l.lookUp(v) {
		l.inDict = true
		width := max(1, bits.Len(uint(max(0, l.dictCount-1))))
		b, err := (&rle.Encoding{BitWidth: width}).EncodeInt32(l.scratch[:0], l.indexes)
		if err == nil {
			l.scratch = append([]byte{byte(width)}, b...)
			return l.scratch, format.RLEDictionary
		}
	}
	l.plain = true
	switch {
	case l.kind == pq.Boolean:
		l.scratch = append(l.scratch[:0], make([]byte, (len(v.Fixed)+7)/8)...)
		for i, b := range v.Fixed {
			l.scratch[i>>3] |= (b & 1) << (uint(i) & 7)
		}
		return l.scratch, format.Plain
	case l.kind != pq.ByteArray:
		return v.Fixed, format.Plain
	}
	l.scratch = l.scratch[:0]
	for i := range max(0, len(v.Offsets)-1) {
		b := v.Data[v.Offsets[i]:v.Offsets[i+1]]
		l.scratch = append(binary.LittleEndian.AppendUint32(l.scratch, uint32(len(b))), b...) //nolint:gosec // offsets have 32 bits
	}
	return l.scratch, format.Plain
}

// lookUp fills in the dictionary's indexes of the values. It reports false, and there is no
// dictionary for the rest of the chunk, when that would grow too large.
func (l *leaf) lookUp(v *Values) bool {
	l.indexes = l.indexes[:0]
	var last []byte
	at := int32(-1)
	for i := range max(0, len(v.Offsets)-1) {
		b := v.Data[v.Offsets[i]:v.Offsets[i+1]]
		if at < 0 || !bytes.Equal(b, last) {
			var ok bool
			if at, ok = l.dict[string(b)]; !ok {
				if len(l.dictData)+len(b)+4 > l.dictMax {
					l.dict = nil
					return false
				}
				at = int32(l.dictCount) //nolint:gosec // fewer than dictMax
				l.dict[string(b)] = at
				l.dictCount++
				l.dictBytes += len(b) + 64
				l.dictData = append(binary.LittleEndian.AppendUint32(l.dictData, uint32(len(b))), b...) //nolint:gosec // as above
			}
			last = b
		}
		l.indexes = append(l.indexes, at)
	}
	return true
}

// passPages is how many pages are left as they are after one that did not get smaller.
const passPages = 15

// compress reports whether it did: values that hardly get smaller are faster to read as they are.
func (l *leaf) compress(b []byte) ([]byte, bool) {
	if l.temporary {
		return b, false
	}
	if l.pass > 0 {
		l.pass--
		return b, false
	}
	if n := s2.MaxEncodedLen(len(b)); cap(l.compressed) < n {
		l.compressed = make([]byte, n)
	}
	c := s2.EncodeSnappy(l.compressed[:cap(l.compressed)], b)
	if len(c) > len(b)-len(b)/8 {
		l.pass = passPages
		return b, false
	}
	return c, true
}

// end writes the chunk and makes the leaf ready for the next.
func (l *leaf) end(p *Writer) (format.ColumnChunk, chunkIndex, error) {
	start := p.offset
	m := format.ColumnMetaData{
		Type: format.Type(l.kind), PathInSchema: l.path, Codec: format.Snappy, NumValues: l.values, //nolint:gosec // parquet-go's kinds are the format's types
		Encoding: []format.Encoding{format.RLE},
	}
	if l.plain || l.inDict {
		m.Encoding = append(m.Encoding, format.Plain) // of the values, or of the dictionary
	}
	if l.inDict {
		m.Encoding = append(m.Encoding, format.RLEDictionary)
		m.DictionaryPageOffset = start
		data := l.buf
		l.buf = nil
		l.pass = 0
		body := l.dictPage()
		l.header = format.PageHeader{
			Type: format.DictionaryPage, UncompressedPageSize: int32(len(l.dictData)), CompressedPageSize: int32(len(body)), //nolint:gosec // at most dictMax
			CRC:                  int32(crc32.ChecksumIEEE(body)),                                                                //nolint:gosec // the bits
			DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{NumValues: int32(l.dictCount), Encoding: format.Plain}), //nolint:gosec // as above
		}
		if err := l.appendHeader(); err != nil {
			return format.ColumnChunk{}, chunkIndex{}, err
		}
		l.raw += int64(len(l.buf) + len(l.dictData))
		err := errors.Join(p.write(l.buf), p.write(body))
		l.buf = data
		if err != nil {
			return format.ColumnChunk{}, chunkIndex{}, err
		}
	}
	m.DataPageOffset = p.offset
	for i := range l.places {
		l.places[i].Offset += p.offset
	}
	if err := p.write(l.buf); err != nil {
		return format.ColumnChunk{}, chunkIndex{}, err
	}
	m.TotalUncompressedSize, m.TotalCompressedSize = l.raw, p.offset-start
	m.Statistics = format.Statistics{NullCount: l.nulls, MinValue: l.span.lo, MaxValue: l.span.hi}
	if l.maxRep > 0 {
		m.Statistics = format.Statistics{}
	}
	x := chunkIndex{offsets: format.OffsetIndex{PageLocations: l.places}, columns: l.index}
	l.order.index(&x.columns, l.spans)
	l.buf, l.places, l.index, l.spans, l.span = l.buf[:0], nil, format.ColumnIndex{}, nil, span{}
	l.rows, l.values, l.raw, l.nulls, l.plain, l.inDict = 0, 0, 0, 0, false, false
	if l.useDict {
		l.dict, l.dictBytes, l.dictData, l.dictCount = map[string]int32{}, 0, l.dictData[:0], 0
	}
	return format.ColumnChunk{FileOffset: start, MetaData: m}, x, nil
}

// dictPage is the dictionary's values, compressed in any case: a dictionary page cannot say that it is not.
func (l *leaf) dictPage() []byte { return s2.EncodeSnappy(nil, l.dictData) }

func floats(b []byte) []float64 {
	return unsafe.Slice((*float64)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/8)
}

func words[T int32 | int64 | uint32 | uint64 | float32](b []byte) []T {
	var t T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(t)))
}

var negativeZero = math.Copysign(0, -1)
