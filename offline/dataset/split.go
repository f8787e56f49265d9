package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/forebay/forebay/registry/feature"
)

// Split says which part of a dataset a row belongs to. It depends on the row's values alone, so that it is the
// same wherever and however often it is made, and however the rows are cut into batches.
type Split struct {
	column string  // of the instant; "" to split by keys
	cuts   []int64 // microseconds
	keys   []string
	upTo   []uint64 // of the hash: the part's upper end, exclusive, but for the last
}

// ErrSplit is wrapped by errors about a split that cannot be made.
var ErrSplit = errors.New("cannot split")

// SplitByTime parts rows by an instant: before the first cut, from it to before the second, and so on. Cuts are
// microseconds since the Unix epoch.
func SplitByTime(column string, cuts ...int64) (Split, error) {
	if len(cuts) == 0 || !slices.IsSorted(cuts) {
		return Split{}, fmt.Errorf("%w by time: want one instant or more, in order", ErrSplit)
	}
	return Split{column: column, cuts: cuts}, nil
}

// SplitByEntity parts rows by a hash of their keys, so that all rows of an entity are in one part. The
// fractions, two or more that add up to 1, say how much of the entities each part gets. The hash is the first 8
// bytes, big-endian, of the SHA-256 of the canonical form of the keys (docs/format/dataset.md).
func SplitByEntity(keys []string, fractions ...float64) (Split, error) {
	s := Split{keys: keys}
	sum := 0.0
	for _, f := range fractions {
		if !(f > 0 && f < 1) {
			return s, fmt.Errorf("%w by entity: a fraction of %v: want more than 0 and less than 1", ErrSplit, f)
		}
		sum += f
		s.upTo = append(s.upTo, uint64(math.Min(sum, 1-0x1p-53)*0x1p64))
	}
	if len(keys) == 0 || len(fractions) < 2 || math.Abs(sum-1) > 1e-9 {
		return s, fmt.Errorf("%w by entity: want keys, and two fractions or more that add up to 1, not %v", ErrSplit, fractions)
	}
	s.upTo[len(s.upTo)-1] = math.MaxUint64
	return s, nil
}

// Parts is how many parts there are.
func (s Split) Parts() int { return max(len(s.cuts)+1, len(s.upTo)) }

// Apply parts a record: of each part the rows it has, nil for none, in their order. The caller releases them.
func (s Split) Apply(rec arrow.Record) ([]arrow.Record, error) {
	part, err := s.assign(rec)
	if err != nil {
		return nil, err
	}
	out := make([]arrow.Record, s.Parts())
	for p := range out {
		if out[p], err = take(rec, part, p); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s Split) assign(rec arrow.Record) ([]int, error) {
	at := func(name string) (arrow.Array, error) {
		is := rec.Schema().FieldIndices(name)
		if len(is) != 1 {
			return nil, fmt.Errorf("%w: there is no column %q", ErrSplit, name)
		}
		return rec.Column(is[0]), nil
	}
	part := make([]int, rec.NumRows())
	if s.column != "" {
		col, err := at(s.column)
		if err != nil {
			return nil, err
		}
		ts, ok := col.(*array.Timestamp)
		if !ok {
			return nil, fmt.Errorf("%w by time: column %q is %s", ErrSplit, s.column, col.DataType())
		}
		unit := int64(ts.DataType().(*arrow.TimestampType).Unit.Multiplier()) / 1000 // nanoseconds to microseconds; 0 for nanoseconds
		for i := range part {
			if ts.IsNull(i) {
				return nil, fmt.Errorf("%w by time: a row has no %q, so it belongs to no part: leave such rows out of the spine, or split by entity", ErrSplit, s.column)
			}
			t := int64(ts.Value(i))
			if unit == 0 {
				t = feature.FloorDiv(t, 1000)
			} else {
				t *= unit
			}
			for part[i] < len(s.cuts) && t >= s.cuts[part[i]] {
				part[i]++
			}
		}
		return part, nil
	}
	cols := make([]arrow.Array, len(s.keys))
	value := make([]func([]byte, int) []byte, len(s.keys))
	for k, name := range s.keys {
		var err error
		if cols[k], err = at(name); err != nil {
			return nil, err
		}
		value[k] = encoder(cols[k])
	}
	var buf []byte
	for i := range part {
		buf = buf[:0]
		for k, c := range cols {
			buf = appendOne(buf, c, i, value[k])
		}
		sum := sha256.Sum256(buf)
		h := binary.BigEndian.Uint64(sum[:])
		for part[i] < len(s.upTo)-1 && h >= s.upTo[part[i]] {
			part[i]++
		}
	}
	return part, nil
}

// take is the rows of a record that belong to a part; nil for none.
func take(rec arrow.Record, part []int, p int) (arrow.Record, error) {
	type run struct{ from, to int64 }
	var runs []run
	n := int64(0)
	for i := 0; i < len(part); i++ {
		if part[i] != p {
			continue
		}
		from := i
		for i < len(part) && part[i] == p {
			i++
		}
		runs = append(runs, run{int64(from), int64(i)})
		n += int64(i - from)
	}
	if n == 0 {
		return nil, nil
	}
	if n == rec.NumRows() {
		rec.Retain()
		return rec, nil
	}
	cols := make([]arrow.Array, rec.NumCols())
	for c := range cols {
		slices := make([]arrow.Array, len(runs))
		for r, x := range runs {
			slices[r] = array.NewSlice(rec.Column(c), x.from, x.to)
		}
		var err error
		if cols[c], err = array.Concatenate(slices, memory.DefaultAllocator); err != nil {
			return nil, fmt.Errorf("split: %w", err)
		}
		for _, s := range slices {
			s.Release()
		}
	}
	out := array.NewRecord(rec.Schema(), cols, n)
	for _, c := range cols {
		c.Release()
	}
	return out, nil
}
