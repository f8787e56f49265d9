package rowcodec

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"unsafe"

	"github.com/forebay/forebay/registry/feature"
)

// Row is a record that was checked as a whole. It refers to the record's bytes,
// which must not change while it is used. The zero Row is that of no record: all its values are null.
type Row struct {
	c   *Codec
	rec []byte // without the checksum
	// Where the sections start. Each ends where the next one does; the texts are the last.
	nulls, invalid, bools, words, ends, texts uint32
	width                                     uint32 // of an end
	kind                                      rowKind
}

// rowKind says what the values of a row are to be taken from.
type rowKind uint8

const (
	noRow   rowKind = iota // nothing: they are null
	badRow                 // nothing: they are invalid
	plain                  // a record without nulls
	partial                // one with nulls
)

// InvalidRow stands for a record that cannot be read: all its values are invalid.
func InvalidRow() Row { return Row{kind: badRow} }

// Open checks a record: its kind (ErrKind), its checksum and its structure (ErrCorrupt).
func (c *Codec) Open(rec []byte) (r Row, err error) {
	err = c.open(rec, &r)
	return r, err
}

func (c *Codec) open(rec []byte, r *Row) error {
	if len(rec) > 0 && rec[0] != KindNewestRow {
		return fmt.Errorf("%w: %s: its first byte is %d, and a newest row's %d", ErrKind, c.scope, rec[0], KindNewestRow)
	}
	if len(rec) < headerLen+trailerLen || len(rec) > MaxRecord {
		return c.corrupt("%d bytes, want %d to %d", len(rec), headerLen+trailerLen, MaxRecord)
	}
	body := rec[:len(rec)-trailerLen]
	want := binary.LittleEndian.Uint32(rec[len(body):])
	if got := c.checksum(body); got != want {
		return c.corrupt("checksum %08x, want %08x: it is cut off, altered, or was written for another view", got, want)
	}
	*r = Row{c: c, rec: body, width: 2, kind: plain}
	return r.parse()
}

func (c *Codec) corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrCorrupt, c.scope, fmt.Sprintf(format, args...))
}

// parse finds the sections. The checksum holds, so that an error here means
// that somebody else has written the record; it is checked all the same.
func (r *Row) parse() error {
	c := r.c
	flags := r.rec[orderEnd]
	if flags&^knownFlags != 0 || flags&(flagNulls|flagInvalid) == flagInvalid {
		return c.corrupt("flags %#02x", flags)
	}
	if flags&flagWide != 0 {
		r.width = 4
	}
	at := headerLen
	next := func(n int) uint32 {
		start := at
		at = min(at+n, len(r.rec)+1) // 1 past the end is too far, for good
		return uint32(start)         //nolint:gosec // below MaxRecord
	}
	bitmap := bitmapLen(len(c.slots))
	if r.nulls = next(0); flags&flagNulls != 0 {
		r.kind = partial
		next(bitmap)
	}
	if r.invalid = next(0); flags&flagInvalid != 0 {
		next(bitmap)
	}
	r.bools = next(bitmapLen(c.bools - c.words))
	if at > len(r.rec) {
		return c.corrupt("cut off in its bitmaps")
	}
	if flags&flagInvalid != 0 {
		nulls := r.rec[r.nulls:r.invalid]
		for i, b := range r.rec[r.invalid:r.bools] {
			if b&^nulls[i] != 0 {
				return c.corrupt("an invalid value that is not null")
			}
		}
	}
	r.words = next(8 * (c.words - r.nullsIn(0, c.words)))
	ends := len(c.slots) - c.bools - r.nullsIn(c.bools, len(c.slots))
	r.ends = next(int(r.width) * ends)
	if r.texts = next(0); at > len(r.rec) {
		return c.corrupt("cut off in its values")
	}
	last, texts := 0, len(r.rec)-at
	for i := range ends {
		end := r.end(i)
		if end < last || end > texts {
			return c.corrupt("text %d ends at %d of %d", i, end, texts)
		}
		last = end
	}
	if last != texts {
		return c.corrupt("%d bytes too many", texts-last)
	}
	return nil
}

func (r *Row) end(i int) int {
	if r.width == 4 {
		return int(binary.LittleEndian.Uint32(r.rec[int(r.ends)+4*i:]))
	}
	return int(binary.LittleEndian.Uint16(r.rec[int(r.ends)+2*i:]))
}

func bit(bitmap []byte, i int) bool { return bitmap[i>>3]>>(i&7)&1 != 0 }

// isNull says whether the value in a slot is null, and isInvalid of one that is null whether it could not be computed.
func (r *Row) isNull(s int) bool    { return r.kind == partial && bit(r.rec[r.nulls:], s) }
func (r *Row) isInvalid(s int) bool { return r.invalid < r.bools && bit(r.rec[r.invalid:], s) }

// bool is the bool in a slot.
func (r *Row) bool(s int) bool { return bit(r.rec[r.bools:], s-r.c.words) }

// nullsIn counts the nulls in slots [from, to).
func (r *Row) nullsIn(from, to int) (n int) {
	if r.kind != partial {
		return 0
	}
	nulls := r.rec[r.nulls:r.invalid]
	for from < to && from&7 != 0 {
		if bit(nulls, from) {
			n++
		}
		from++
	}
	for ; from+8 <= to; from += 8 {
		n += bits.OnesCount8(nulls[from>>3])
	}
	for ; from < to; from++ {
		if bit(nulls, from) {
			n++
		}
	}
	return n
}

// Version is the version of the row.
func (r *Row) Version() feature.Version { return versionOf(r.rec) }

// EventTime is the event time of the row, in microseconds.
func (r *Row) EventTime() int64 { return int64(binary.BigEndian.Uint64(r.rec[1:]) ^ 1<<63) }

// Value is the value of a feature, by its place in Fields. A text refers to the
// record's bytes. The error is ErrCorrupt.
func (r *Row) Value(field int) (feature.Value, error) {
	s, t := r.c.slotOf[field], r.c.fields[field].Type
	if r.isNull(s) {
		if r.isInvalid(s) {
			return feature.Invalid(), nil
		}
		return feature.Value{}, nil
	}
	switch {
	case s < r.c.words:
		return ofWord(t.Kind, r.word(s)), nil
	case s < r.c.bools:
		return feature.OfBool(r.bool(s)), nil
	}
	return r.decodeText(t, r.text(s), field)
}

// word is the bits of the word in a slot that is not null.
func (r *Row) word(s int) uint64 {
	return binary.LittleEndian.Uint64(r.rec[int(r.words)+8*(s-r.nullsIn(0, s)):])
}

// text is the bytes of the text in a slot that is not null.
func (r *Row) text(s int) []byte {
	i := s - r.c.bools - r.nullsIn(r.c.bools, s)
	start := 0
	if i > 0 {
		start = r.end(i - 1)
	}
	texts := r.rec[r.texts:]
	return texts[start:r.end(i)]
}

func ofWord(k feature.Kind, bits uint64) feature.Value {
	switch k {
	case feature.Float64:
		return feature.OfFloat64(math.Float64frombits(bits))
	case feature.Timestamp:
		return feature.OfTimestamp(int64(bits))
	}
	return feature.OfInt64(int64(bits))
}

func (r *Row) decodeText(t feature.Type, b []byte, field int) (feature.Value, error) {
	switch t.Kind {
	case feature.String:
		return feature.OfString(unsafe.String(unsafe.SliceData(b), len(b))), nil
	case feature.Bytes:
		return feature.OfBytes(b), nil
	case feature.Embedding:
		if len(b) != 4*t.Dim {
			return feature.Value{}, r.c.corrupt("%s: %d bytes for an %s", r.c.fields[field].Name, len(b), t)
		}
		fs := make([]float32, t.Dim)
		for i := range fs {
			fs[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
		return feature.OfEmbedding(fs), nil
	}
	vs, ok := decodeList(t.Elem, b)
	if !ok {
		return feature.Value{}, r.c.corrupt("%s: not a %s", r.c.fields[field].Name, t)
	}
	return feature.OfList(t.Elem, vs), nil
}

func decodeList(elem feature.Kind, b []byte) ([]feature.Value, bool) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)) { // an element takes a byte at least
		return nil, false
	}
	b = b[used:]
	vs := make([]feature.Value, n)
	for i := range vs {
		switch elem {
		case feature.Bool:
			if len(b) < 1 || b[0] > 1 {
				return nil, false
			}
			vs[i], b = feature.OfBool(b[0] == 1), b[1:]
		case feature.String, feature.Bytes:
			l, used := binary.Uvarint(b)
			if used <= 0 || l > uint64(len(b)-used) {
				return nil, false
			}
			text := b[used : used+int(l) : used+int(l)]
			b = b[used+int(l):]
			if elem == feature.Bytes {
				vs[i] = feature.OfBytes(text)
			} else {
				vs[i] = feature.OfString(unsafe.String(unsafe.SliceData(text), len(text)))
			}
		default:
			if len(b) < 8 {
				return nil, false
			}
			vs[i], b = ofWord(elem, binary.LittleEndian.Uint64(b)), b[8:]
		}
	}
	return vs, len(b) == 0
}
