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
// which must not change while it is used.
type Row struct {
	c       *Codec
	rec     []byte
	nulls   []byte // empty if nothing is null
	invalid []byte // empty if nothing is invalid
	bools   []byte
	words   []byte
	ends    []byte
	texts   []byte
	width   int // of an end
}

// Open checks a record: its kind (ErrKind), its checksum and its structure (ErrCorrupt).
func (c *Codec) Open(rec []byte) (Row, error) {
	if len(rec) > 0 && rec[0] != KindNewestRow {
		return Row{}, fmt.Errorf("%w: %s: its first byte is %d, and a newest row's %d", ErrKind, c.scope, rec[0], KindNewestRow)
	}
	if len(rec) < headerLen+trailerLen {
		return Row{}, c.corrupt("%d bytes, want at least %d", len(rec), headerLen+trailerLen)
	}
	body := rec[:len(rec)-trailerLen]
	want := binary.LittleEndian.Uint32(rec[len(body):])
	if got := c.checksum(body); got != want {
		return Row{}, c.corrupt("checksum %08x, want %08x: it is cut off, altered, or was written for another view", got, want)
	}
	r := Row{c: c, rec: rec, width: 2}
	return r, r.parse(body)
}

func (c *Codec) corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrCorrupt, c.scope, fmt.Sprintf(format, args...))
}

// parse finds the sections. The checksum holds, so that an error here means
// that somebody else has written the record; it is checked all the same.
func (r *Row) parse(body []byte) error {
	c := r.c
	flags, rest := body[orderEnd], body[headerLen:]
	if flags&^knownFlags != 0 || flags&(flagNulls|flagInvalid) == flagInvalid {
		return c.corrupt("flags %#02x", flags)
	}
	if flags&flagWide != 0 {
		r.width = 4
	}
	ok := true
	take := func(n int) (part []byte) {
		if ok = ok && n <= len(rest); ok {
			part, rest = rest[:n:n], rest[n:]
		}
		return part
	}
	if flags&flagNulls != 0 {
		r.nulls = take(bitmapLen(len(c.slots)))
	}
	if flags&flagInvalid != 0 {
		r.invalid = take(bitmapLen(len(c.slots)))
	}
	r.bools = take(bitmapLen(c.bools - c.words))
	if !ok {
		return c.corrupt("cut off in its bitmaps")
	}
	for i, b := range r.invalid {
		if b&^r.nulls[i] != 0 {
			return c.corrupt("an invalid value that is not null")
		}
	}
	r.words = take(8 * (c.words - r.nullsIn(0, c.words)))
	r.ends = take(r.width * (len(c.slots) - c.bools - r.nullsIn(c.bools, len(c.slots))))
	if !ok {
		return c.corrupt("cut off in its values")
	}
	r.texts = rest
	last := 0
	for i := 0; i < len(r.ends)/r.width; i++ {
		end := r.end(i)
		if end < last || end > len(rest) {
			return c.corrupt("text %d ends at %d of %d", i, end, len(rest))
		}
		last = end
	}
	if last != len(rest) {
		return c.corrupt("%d bytes too many", len(rest)-last)
	}
	return nil
}

func (r *Row) end(i int) int {
	if r.width == 4 {
		return int(binary.LittleEndian.Uint32(r.ends[4*i:]))
	}
	return int(binary.LittleEndian.Uint16(r.ends[2*i:]))
}

func bit(bitmap []byte, i int) bool { return bitmap[i>>3]>>(i&7)&1 != 0 }

// nullsIn counts the nulls in slots [from, to).
func (r *Row) nullsIn(from, to int) (n int) {
	if len(r.nulls) == 0 {
		return 0
	}
	for from < to && from&7 != 0 {
		if bit(r.nulls, from) {
			n++
		}
		from++
	}
	for ; from+8 <= to; from += 8 {
		n += bits.OnesCount8(r.nulls[from>>3])
	}
	for ; from < to; from++ {
		if bit(r.nulls, from) {
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
	if len(r.nulls) > 0 && bit(r.nulls, s) {
		if len(r.invalid) > 0 && bit(r.invalid, s) {
			return feature.Invalid(), nil
		}
		return feature.Value{}, nil
	}
	switch {
	case s < r.c.words:
		return ofWord(t.Kind, r.word(s)), nil
	case s < r.c.bools:
		return feature.OfBool(bit(r.bools, s-r.c.words)), nil
	}
	return r.decodeText(t, r.text(s), field)
}

// word is the bits of the word in a slot that is not null.
func (r *Row) word(s int) uint64 {
	return binary.LittleEndian.Uint64(r.words[8*(s-r.nullsIn(0, s)):])
}

// text is the bytes of the text in a slot that is not null.
func (r *Row) text(s int) []byte {
	i := s - r.c.bools - r.nullsIn(r.c.bools, s)
	start := 0
	if i > 0 {
		start = r.end(i - 1)
	}
	return r.texts[start:r.end(i)]
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

// Decoder decodes chosen features. It is immutable, and safe for concurrent use.
type Decoder struct {
	c       *Codec
	fields  []int // as chosen
	lists   []int // of fields, those whose bytes may be wrong although the record is whole
	inOrder []pick
	words   int // of inOrder, those that are words: the first ones
}

// pick is one chosen feature, in the order of slots.
type pick struct {
	slot int
	col  int // its place among the chosen
}

// Decoder compiles the decoding of chosen features, by their place in Fields.
func (c *Codec) Decoder(fields []int) *Decoder {
	d := &Decoder{c: c, fields: append([]int(nil), fields...)}
	at := make([][]int, len(c.slots))
	for i, f := range fields {
		s := c.slotOf[f]
		at[s] = append(at[s], i)
		if k := c.fields[f].Type.Kind; k == feature.List || k == feature.Embedding {
			d.lists = append(d.lists, f)
		}
	}
	for s, cols := range at {
		for _, col := range cols {
			if d.inOrder = append(d.inOrder, pick{slot: s, col: col}); s < c.words {
				d.words++
			}
		}
	}
	return d
}

// Columns makes the columns that Append fills, with room for n rows.
func (d *Decoder) Columns(n int) []*feature.Column {
	cols := make([]*feature.Column, len(d.fields))
	for i, f := range d.fields {
		cols[i] = feature.NewColumn(d.c.fields[f].Name, d.c.fields[f].Type, n)
	}
	return cols
}

// Open is Codec.Open; it also checks the chosen lists, so that Append cannot fail.
func (d *Decoder) Open(rec []byte) (Row, error) {
	r, err := d.c.Open(rec)
	if err != nil {
		return Row{}, err
	}
	for _, f := range d.lists {
		if _, err := r.Value(f); err != nil {
			return Row{}, err
		}
	}
	return r, nil
}

// Append appends the chosen features of a row to cols, one column for each in
// the order chosen. The row is one that this decoder has opened. Strings and
// bytes are copied; lists refer to the record's bytes.
func (d *Decoder) Append(r *Row, cols []*feature.Column) {
	c := d.c
	if len(r.nulls) == 0 {
		words := r.words
		for _, p := range d.inOrder[:d.words] {
			cols[p.col].AppendBits(binary.LittleEndian.Uint64(words[8*p.slot:]))
		}
		for _, p := range d.inOrder[d.words:] {
			switch col := cols[p.col]; {
			case p.slot < c.bools:
				col.AppendBits(uint64(r.bools[(p.slot-c.words)>>3] >> ((p.slot - c.words) & 7) & 1))
			default:
				d.appendText(r, p, col)
			}
		}
		return
	}
	word, next := 0, 0 // the words before slot next
	for _, p := range d.inOrder {
		col := cols[p.col]
		if bit(r.nulls, p.slot) {
			if len(r.invalid) > 0 && bit(r.invalid, p.slot) {
				col.AppendInvalid()
			} else {
				col.AppendNull()
			}
			continue
		}
		switch {
		case p.slot < c.words:
			word += p.slot - next - r.nullsIn(next, p.slot)
			next = p.slot
			col.AppendBits(binary.LittleEndian.Uint64(r.words[8*word:]))
		case p.slot < c.bools:
			col.AppendBits(uint64(r.bools[(p.slot-c.words)>>3] >> ((p.slot - c.words) & 7) & 1))
		default:
			d.appendText(r, p, col)
		}
	}
}

func (d *Decoder) appendText(r *Row, p pick, col *feature.Column) {
	b := r.text(p.slot)
	if k := col.Type.Kind; k == feature.String || k == feature.Bytes {
		col.AppendBytes(b)
		return
	}
	v, err := r.decodeText(col.Type, b, d.c.slots[p.slot])
	if err != nil {
		panic("rowcodec: a row that this decoder has not opened: " + err.Error())
	}
	col.Append(v)
}
