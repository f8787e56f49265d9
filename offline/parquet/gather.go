package parquet

import (
	"slices"

	"github.com/forebay/forebay/registry/feature"
)

// maxBatch bounds what is held in one batch, whatever the budget: a column
// addresses its text with 32 bits.
const maxBatch = 3 << 30

// gather appends rows of src, in the order given, to dst, a column of the same type.
func gather(dst, src *feature.Column, rows []uint32) {
	fixed := src.Type.Kind.Fixed()
	switch {
	case !fixed && (len(src.Nulls) > 0 || src.Type.Kind != feature.List && src.Type.Kind != feature.Embedding):
		for _, r := range rows {
			dst.AppendRow(src, int(r))
		}
		return
	case !fixed:
		for _, r := range rows {
			dst.Values = append(dst.Values, src.Values[r])
		}
		dst.Len += len(rows)
		return
	}
	to, from := extend(dst, len(rows)), src.Nums
	for i, r := range rows {
		to[i] = from[r]
	}
	if len(src.Nulls) > 0 {
		for i, r := range rows {
			if src.Nulls.Get(int(r)) {
				markNull(dst, dst.Len+i, src, int(r))
			}
		}
	}
	dst.Len += len(rows)
}

// extend makes room for n words more and returns it.
func extend(dst *feature.Column, n int) []uint64 {
	at := len(dst.Nums)
	dst.Nums = slices.Grow(dst.Nums, n)[:at+n]
	return dst.Nums[at:]
}

// markNull makes row i of dst a null as row r of src is one.
func markNull(dst *feature.Column, i int, src *feature.Column, r int) {
	dst.Nulls.Set(i)
	if src.Bad.Get(r) {
		dst.Bad.Set(i)
	}
}

// appendRange appends rows [from, to) of src to dst, a column of the same type.
func appendRange(dst, src *feature.Column, from, to int) {
	if !src.Type.Kind.Fixed() {
		for i := from; i < to; i++ {
			dst.AppendRow(src, i)
		}
		return
	}
	dst.Nums = append(dst.Nums, src.Nums[from:to]...)
	if len(src.Nulls) > 0 {
		for i := from; i < to; i++ {
			if src.Nulls.Get(i) {
				markNull(dst, dst.Len+i-from, src, i)
			}
		}
	}
	dst.Len += to - from
}

// memoryOf is about how many bytes rows [from, Len) of a column take.
func memoryOf(c *feature.Column, from int) int64 {
	n := int64(c.Len - from)
	switch {
	case c.Type.Kind.Fixed():
		return 8*n + n/8
	case c.Type.Kind == feature.String || c.Type.Kind == feature.Bytes:
		if n == 0 {
			return 0
		}
		return 4*n + n/8 + int64(c.Offsets[c.Len]-c.Offsets[from])
	}
	size := 24 * n
	for _, v := range c.Values[from:] {
		if v.Kind() == feature.Embedding {
			size += 4 * int64(len(v.Embedding()))
			continue
		}
		for _, e := range v.List() {
			size += 24
			if e.Kind() == feature.String || e.Kind() == feature.Bytes {
				size += int64(len(e.Bytes()))
			}
		}
	}
	return size
}
