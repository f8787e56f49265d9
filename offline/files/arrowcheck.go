package files

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
)

// sound checks that an array lies within its buffers: the Arrow library believes a
// file, and would fail later, at the value that is looked at.
func sound(d arrow.ArrayData) error {
	n, buffers, children := d.Offset()+d.Len(), d.Buffers(), d.Children()
	has := func(i, bytes int) bool {
		return i < len(buffers) && (bytes == 0 || buffers[i] != nil && buffers[i].Len() >= bytes)
	}
	unsound := fmt.Errorf("the %s column is longer than its buffers: the file is damaged", d.DataType())
	if d.DataType().ID() == arrow.NULL {
		return nil
	}
	if len(buffers) == 0 || (buffers[0] != nil && buffers[0].Len() > 0 && !has(0, (n+7)/8)) || (d.NullN() > 0 && !has(0, (n+7)/8)) {
		return unsound
	}
	limit := 0 // of offsets
	switch t := d.DataType().(type) {
	case *arrow.StructType:
		if len(children) != t.NumFields() {
			return unsound
		}
		for _, c := range children {
			if c.Len() < n {
				return unsound
			}
		}
	case *arrow.FixedSizeListType:
		if len(children) != 1 || children[0].Len() < n*int(t.Len()) {
			return unsound
		}
	case *arrow.ListType, *arrow.LargeListType, *arrow.MapType:
		if len(children) != 1 {
			return unsound
		}
		limit = children[0].Len()
	case *arrow.StringType, *arrow.BinaryType, *arrow.LargeStringType, *arrow.LargeBinaryType:
		if len(buffers) < 3 {
			return unsound
		}
		if buffers[2] != nil {
			limit = buffers[2].Len()
		}
	case arrow.FixedWidthDataType:
		if !has(1, (n*t.BitWidth()+7)/8) {
			return unsound
		}
		return nil
	}
	for _, c := range children {
		if err := sound(c); err != nil {
			return err
		}
	}
	if n == 0 {
		return nil
	}
	switch d.DataType().(type) {
	case *arrow.ListType, *arrow.MapType, *arrow.StringType, *arrow.BinaryType:
		if !has(1, 4*(n+1)) || !ascending(arrow.Int32Traits.CastFromBytes(buffers[1].Bytes())[:n+1], limit) {
			return unsound
		}
	case *arrow.LargeListType, *arrow.LargeStringType, *arrow.LargeBinaryType:
		if !has(1, 8*(n+1)) || !ascending(arrow.Int64Traits.CastFromBytes(buffers[1].Bytes())[:n+1], limit) {
			return unsound
		}
	}
	return nil
}

// ascending reports whether offsets never fall and stay within 0 and limit.
func ascending[T int32 | int64](offsets []T, limit int) bool {
	last := T(0)
	for _, o := range offsets {
		if o < last {
			return false
		}
		last = o
	}
	return int64(last) <= int64(limit)
}
