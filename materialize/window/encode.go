package window

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"

	"github.com/apache/datasketches-go/common"
	"github.com/apache/datasketches-go/frequencies"
	"github.com/apache/datasketches-go/hll"
	"github.com/apache/datasketches-go/kll"

	"github.com/forebay/forebay/registry/feature"
)

// stateVersion is the first byte of an encoded state.
const stateVersion = 2

// Append encodes a state. What the plan knows is not written: the grains, which
// statistics a group keeps, the types. docs/format/window-state.md has the bytes:
//
//	1 byte    format version, 2
//	varint    newest event time, microseconds
//	a level at a time:
//	  uvarint   number of tiles; a tile at a time, by start:
//	    varint    start/grain of the first, uvarint the distance to it from the one before (none where grain is 0)
//	    a group at a time: its accumulator, see appendAcc
//
// A state that has seen nothing is the version byte alone.
func (p *Plan) Append(dst []byte, s *State) []byte {
	dst = append(dst, stateVersion)
	if !s.any {
		return dst
	}
	dst = binary.AppendVarint(dst, s.newest)
	for i, l := range p.levels {
		tiles := s.levels[i]
		dst = binary.AppendUvarint(dst, uint64(len(tiles)))
		for j := range tiles {
			if l.grain > 0 {
				index := tiles[j].start / l.grain
				if j == 0 {
					dst = binary.AppendVarint(dst, index)
				} else {
					dst = binary.AppendUvarint(dst, uint64(index-tiles[j-1].start/l.grain))
				}
			}
			for k := range p.groups {
				dst = p.groups[k].appendAcc(dst, &tiles[j].accs[k])
			}
		}
	}
	return dst
}

// numeric reports whether one value stands for the sums, the minimum and the
// maximum of a group that holds only it.
func (g *group) numeric() bool {
	return g.input >= 0 && g.typ.Kind.Fixed() && (g.sum || g.square || g.min || g.max)
}

// appendAcc encodes one accumulator:
//
//	uvarint   2n, or 2n+1 where infinities are among the n values; nothing follows 0
//	uvarint   ×2, the infinite ones: positive, negative (only after 2n+1)
//	value     the one value, where n is 1 and the group keeps sums, minimum or maximum of numbers; else
//	sum, sum of squares (as Exact), minimum, maximum: those the group keeps
//	items     min(n, N) of first_n, then of last_n: the version as four varints, the value
//	set       distinct_count: uvarint 0 where full, else 1 + the number of cells, and the cells in order
//	sketch    HLL, KLL, frequencies: uvarint length (0 for one that failed), CRC-32C of a letter for the kind (h, k, f) and the rest, big-endian, the serial form of DataSketches
//	keyed     uvarint 0 where full, else 1 + the number of keys; of each, in order: the cell, uvarint n, infinities ×2, sum
func (g *group) appendAcc(dst []byte, a *acc) []byte {
	inf := a.posInf+a.negInf > 0
	head := uint64(a.n) << 1
	if inf {
		head |= 1
	}
	dst = binary.AppendUvarint(dst, head)
	if a.n == 0 {
		return dst
	}
	if inf {
		dst = binary.AppendUvarint(dst, uint64(a.posInf))
		dst = binary.AppendUvarint(dst, uint64(a.negInf))
	}
	if a.n == 1 && g.numeric() && !inf {
		dst = appendValue(dst, a.single(g))
	} else {
		if g.sum {
			dst = a.sum.Append(dst)
		}
		if g.square {
			dst = a.square.Append(dst)
		}
		if g.min {
			dst = appendValue(dst, a.min)
		}
		if g.max {
			dst = appendValue(dst, a.max)
		}
	}
	for _, items := range [][]item{a.firsts, a.lasts} {
		for _, it := range items {
			dst = binary.AppendVarint(dst, it.version.EventTime)
			dst = binary.AppendVarint(dst, it.version.IngestedAt-it.version.EventTime)
			dst = binary.AppendVarint(dst, it.version.Major)
			dst = binary.AppendVarint(dst, it.version.Minor)
			dst = appendValue(dst, it.value)
		}
	}
	if g.distinct > 0 {
		dst = appendSet(dst, a.distinct)
	}
	if g.hll {
		a.sketch.settle()
		dst = appendSketch(dst, 'h', a.sketch.fail, func() ([]byte, error) { return a.sketch.hll.ToCompactSlice() })
	}
	if g.quantiles {
		dst = appendSketch(dst, 'k', a.sketch.fail, func() ([]byte, error) { return a.sketch.kll.ToSlice() })
	}
	if g.top > 0 {
		dst = appendSketch(dst, 'f', a.top.fail, func() ([]byte, error) { return a.top.sketch.ToSlice() })
	}
	if g.keys > 0 {
		dst = appendKeyed(dst, a.keys)
	}
	return dst
}

// single is the one finite value of a numeric group.
func (a *acc) single(g *group) feature.Value {
	switch {
	case g.min:
		return a.min
	case g.max:
		return a.max
	case g.typ.Kind == feature.Int64 && g.sum:
		i, _ := a.sum.Int64()
		return feature.OfInt64(i)
	case g.sum:
		return feature.OfFloat64(a.sum.Float64())
	}
	return feature.Value{} // squares are never kept without the sum
}

// appendSketch writes a sketch; length 0 stands for one that failed.
func appendSketch(dst []byte, kind byte, fail error, serial func() ([]byte, error)) []byte {
	if fail != nil {
		return append(dst, 0)
	}
	b, err := serial()
	if err != nil {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	dst = binary.BigEndian.AppendUint32(dst, sketchSum(kind, b))
	return append(dst, b...)
}

// castagnoli guards sketches: their library panics on bytes that it did not write.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sketchSum is the checksum of a sketch's kind ('h', 'k' or 'f') and bytes.
func sketchSum(kind byte, b []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte{kind}, castagnoli), castagnoli, b)
}

func appendSet(dst []byte, s *set) []byte {
	if s.full {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.values))+1)
	for _, c := range slices.Sorted(maps.Keys(s.values)) {
		dst = appendText(dst, c)
	}
	return dst
}

func appendKeyed(dst []byte, k *keyed) []byte {
	switch {
	case k == nil:
		return append(dst, 1)
	case k.full:
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(k.keys))+1)
	for _, id := range slices.Sorted(maps.Keys(k.keys)) {
		a := k.keys[id]
		dst = appendText(dst, id)
		dst = binary.AppendUvarint(dst, uint64(a.n))
		dst = binary.AppendUvarint(dst, uint64(a.posInf))
		dst = binary.AppendUvarint(dst, uint64(a.negInf))
		dst = a.sum.Append(dst)
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// appendValue encodes a value whose type is known: bool one byte, int64 and timestamp
// varints, float64 as appendFloat, text its length and bytes.
func appendValue(dst []byte, v feature.Value) []byte {
	switch v.Kind() {
	case feature.Bool:
		return append(dst, byte(v.Bits()))
	case feature.Int64, feature.Timestamp:
		return binary.AppendVarint(dst, v.Int64())
	case feature.Float64:
		return appendFloat(dst, v.Float64())
	}
	return appendText(dst, v.Str())
}

// ErrCorrupt means: an encoded state that cannot be read.
var ErrCorrupt = errors.New("corrupt window state")

// Decode reads what Append wrote, for the same plan. It keeps no reference to src.
func (p *Plan) Decode(src []byte) (*State, error) {
	d := decoder{src: src}
	s := &State{}
	if v := d.byte(); d.err == nil && v != stateVersion {
		return nil, fmt.Errorf("%w: format version %d, want %d", ErrCorrupt, v, stateVersion)
	}
	if d.err == nil && len(d.src) == 0 {
		return s, nil
	}
	s.any, s.newest = true, d.varint()
	s.levels = make([][]tile, len(p.levels))
	for i, l := range p.levels {
		n := d.count(len(p.groups))
		if l.grain == 0 && n > 1 {
			d.fail("an endless tile more than once")
		}
		s.levels[i] = make([]tile, 0, n)
		index := int64(0)
		for j := 0; j < n && d.err == nil; j++ {
			t := tile{start: minInstant, accs: make([]acc, len(p.groups))}
			if l.grain > 0 {
				if j == 0 {
					index = d.varint()
				} else {
					step := d.uvarint()
					if step == 0 || step > math.MaxInt64 {
						d.fail("tiles out of order")
					}
					index += int64(step)
				}
				if index > math.MaxInt64/l.grain || index < minInstant/l.grain {
					d.fail("a tile out of range")
				}
				t.start = index * l.grain
			}
			for k := range p.groups {
				d.acc(&p.groups[k], &t.accs[k])
			}
			s.levels[i] = append(s.levels[i], t)
		}
	}
	if d.err == nil && len(d.src) > 0 {
		d.fail("bytes left over")
	}
	if d.err != nil {
		return nil, d.err
	}
	return s, nil
}

// decoder reads from the front of src; after the first error it reads zeros.
type decoder struct {
	src []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s, %d bytes from its end", ErrCorrupt, what, len(d.src))
	}
	d.src = nil
}

func (d *decoder) byte() byte {
	if len(d.src) == 0 {
		d.fail("cut off")
		return 0
	}
	b := d.src[0]
	d.src = d.src[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	if len(d.src) > 0 && d.src[0] < 0x80 { // most are this short
		b := d.src[0]
		d.src = d.src[1:]
		return uint64(b)
	}
	v, n := binary.Uvarint(d.src)
	if n <= 0 {
		d.fail("cut off")
		return 0
	}
	d.src = d.src[n:]
	return v
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// members reads the number of members of a set, plus one; 0 for a full one.
func (d *decoder) members() int {
	n := d.uvarint()
	if n > uint64(len(d.src))+1 {
		d.fail("a count past the end")
		return 0
	}
	return int(n)
}

// count reads a number of things of at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.src)/max(size, 1)) {
		d.fail("a count past the end")
		return 0
	}
	return int(n)
}

func (d *decoder) nat() int64 {
	n := d.uvarint()
	if n > math.MaxInt64 {
		d.fail("a count out of range")
		return 0
	}
	return int64(n)
}

func (d *decoder) text() string {
	n := d.count(1)
	s := string(d.src[:n])
	d.src = d.src[n:]
	return s
}

func (d *decoder) exact() Exact {
	e, rest, err := DecodeExact(d.src)
	if err != nil {
		d.fail("a sum: " + err.Error())
		return Exact{}
	}
	d.src = rest
	return e
}

func (d *decoder) value(k feature.Kind) feature.Value {
	switch k {
	case feature.Bool:
		return feature.OfBool(d.byte() != 0)
	case feature.Int64:
		return feature.OfInt64(d.varint())
	case feature.Timestamp:
		return feature.OfTimestamp(d.varint())
	case feature.Float64:
		return feature.OfFloat64(d.float())
	case feature.String:
		return feature.OfString(d.text())
	}
	return feature.OfBytes([]byte(d.text()))
}

func (d *decoder) acc(g *group, a *acc) {
	head := d.uvarint()
	a.n = int64(head >> 1)
	if a.n == 0 {
		return
	}
	inf := head&1 != 0
	if inf {
		a.posInf, a.negInf = d.nat(), d.nat()
	}
	if a.n == 1 && g.numeric() && !inf {
		v := d.value(g.typ.Kind)
		only := group{typ: g.typ, sum: g.sum, square: g.square, min: g.min, max: g.max}
		a.n = 0
		a.add(&only, feature.Version{}, v, feature.Value{})
	} else {
		if g.sum {
			a.sum = d.exact()
		}
		if g.square {
			a.square = d.exact()
		}
		if g.min {
			a.min = d.value(g.typ.Kind)
		}
		if g.max {
			a.max = d.value(g.typ.Kind)
		}
	}
	a.firsts = d.items(g, a.n, g.firsts)
	a.lasts = d.items(g, a.n, g.lasts)
	if g.distinct > 0 {
		a.distinct = d.set()
	}
	if g.hll || g.quantiles {
		a.sketch = d.sketches(g)
	}
	if g.top > 0 {
		a.top = d.frequent()
	}
	if g.keys > 0 {
		a.keys = d.keyed()
	}
}

func (d *decoder) frequent() *frequent {
	b, fail := d.sketch('f')
	f := &frequent{fail: fail}
	if fail == nil && d.err == nil {
		sk, err := frequencies.NewFrequencyItemsSketchFromSlice[string](b, common.ItemSketchStringHasher{}, common.ItemSketchStringSerDe{})
		if err = decoded("frequency", err); err != nil {
			d.fail(err.Error())
		}
		f.sketch = sk
	}
	return f
}

func (d *decoder) items(g *group, n int64, limit int) []item {
	if limit == 0 {
		return nil
	}
	items := make([]item, 0, min(n, int64(limit), int64(len(d.src)/5)+1))
	for i := int64(0); i < min(n, int64(limit)) && d.err == nil; i++ {
		var it item
		it.version.EventTime = d.varint()
		it.version.IngestedAt = it.version.EventTime + d.varint()
		it.version.Major, it.version.Minor = d.varint(), d.varint()
		it.value = d.value(g.typ.Kind)
		items = append(items, it)
	}
	return items
}

func (d *decoder) set() *set {
	n := d.members()
	if n == 0 {
		return &set{full: true}
	}
	s := &set{values: make(map[string]struct{}, n-1)}
	for range n - 1 {
		s.values[d.text()] = struct{}{}
	}
	return s
}

func (d *decoder) keyed() *keyed {
	n := d.members()
	if n == 0 {
		return &keyed{full: true}
	}
	k := &keyed{keys: make(map[string]*keyAcc, n-1)}
	for range n - 1 {
		id := d.text()
		a := &keyAcc{n: d.nat(), posInf: d.nat(), negInf: d.nat()}
		a.sum = d.exact()
		k.keys[id] = a
	}
	return k
}

var errSketch = errors.New("the sketch could not be kept")

// sketch reads the bytes of a sketch, or the error of one that had failed.
func (d *decoder) sketch(kind byte) ([]byte, error) {
	n := d.count(1)
	if n == 0 {
		return nil, errSketch
	}
	if len(d.src) < 4+n {
		d.fail("a sketch cut off")
		return nil, nil
	}
	sum, b := binary.BigEndian.Uint32(d.src), slices.Clone(d.src[4:4+n])
	if d.src = d.src[4+n:]; sketchSum(kind, b) != sum {
		d.fail("a sketch with a wrong checksum")
	}
	return b, nil
}

func (d *decoder) sketches(g *group) *sketches {
	s := &sketches{}
	if g.hll {
		b, fail := d.sketch('h')
		if s.fail = fail; fail == nil && d.err == nil {
			h, err := hll.NewHllSketchFromSlice(b, true)
			if err = decoded("HLL", err); err != nil {
				d.fail(err.Error())
			}
			s.hll = h
		}
	}
	if g.quantiles {
		b, fail := d.sketch('k')
		if fail != nil {
			s.fail = fail
		} else if d.err == nil {
			k, err := kll.NewKllItemsSketchFromSlice(b, common.ItemSketchDoubleComparator(false), common.ItemSketchDoubleSerDe{})
			if err = decoded("KLL", err); err != nil {
				d.fail(err.Error())
			}
			s.kll = k
		}
	}
	return s
}
