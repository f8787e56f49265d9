package rowcodec

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The kinds of the record of a windowed view.
const (
	// KindWindow is the first byte of the record of an entity of a windowed view.
	KindWindow = 2
	// KindShortWindow is that of one whose state has fewer than 12 bytes: it is filled
	// up to the 33 bytes that every record has.
	KindShortWindow = 3
)

// WindowOverhead is how many bytes a windowed record has beside its state, where that
// has 12 bytes or more.
const WindowOverhead = windowState + trailerLen

const (
	windowState = 17                                  // kind, epoch and offset come before the state
	shortState  = orderEnd - windowState - trailerLen // a state of fewer bytes is filled up
	shortRecord = orderEnd
)

// AppendWindow appends the record of one entity of a windowed view: its state, in
// the encoding of package materialize/window, under the epoch it belongs to and the
// next offset that it has not applied, both not negative. The order that stores
// compare begins with (epoch, offset): two records that are equal in these hold the
// same state, so that what follows never matters.
func AppendWindow(dst []byte, epoch, offset int64, state []byte) []byte {
	if epoch < 0 || offset < 0 {
		panic(fmt.Sprintf("rowcodec: a windowed record of epoch %d and offset %d: neither is negative", epoch, offset))
	}
	start := len(dst)
	dst = append(dst, KindWindow)
	dst = binary.BigEndian.AppendUint64(dst, uint64(epoch))
	dst = binary.BigEndian.AppendUint64(dst, uint64(offset))
	dst = append(dst, state...)
	if n := len(state); n < shortState {
		dst[start] = KindShortWindow
		dst = append(append(dst, make([]byte, shortState-1-n)...), byte(n))
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// DecodeWindow reads what AppendWindow wrote. The state refers to rec's memory. The
// error is ErrKind for a record of another kind, and ErrCorrupt for one that is cut
// off or altered.
func DecodeWindow(rec []byte) (epoch, offset int64, state []byte, err error) {
	corrupt := func(format string, args ...any) (int64, int64, []byte, error) {
		return 0, 0, nil, fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	if len(rec) == 0 {
		return corrupt("0 bytes, want at least %d", shortRecord)
	}
	kind := rec[0]
	if kind != KindWindow && kind != KindShortWindow {
		return 0, 0, nil, fmt.Errorf("%w: its first byte is %d, and a windowed view's %d or %d", ErrKind, kind, KindWindow, KindShortWindow)
	}
	if len(rec) < shortRecord {
		return corrupt("%d bytes, want at least %d", len(rec), shortRecord)
	}
	end := len(rec) - trailerLen
	want := binary.LittleEndian.Uint32(rec[end:])
	if got := crc32.Checksum(rec[:end], castagnoli); got != want {
		return corrupt("checksum %08x, want %08x: it is cut off or altered", got, want)
	}
	e, o := binary.BigEndian.Uint64(rec[1:]), binary.BigEndian.Uint64(rec[9:])
	if e>>63 != 0 || o>>63 != 0 {
		return corrupt("epoch %d and offset %d, which are never negative", int64(e), int64(o))
	}
	if kind == KindShortWindow {
		n := int(rec[end-1])
		if len(rec) != shortRecord || n >= shortState {
			return corrupt("%d bytes with a state of %d, which is no short one", len(rec), n)
		}
		end = windowState + n
	}
	return int64(e), int64(o), rec[windowState:end:end], nil
}
