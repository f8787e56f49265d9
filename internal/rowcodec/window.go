package rowcodec

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// KindWindow is the first byte of the record of an entity of a windowed view.
const KindWindow = 2

// WindowOverhead is how many bytes a windowed record has beside its state.
const WindowOverhead = windowState + trailerLen

const windowState = 17 // kind, epoch and offset come before the state

// AppendWindow appends the record of one entity of a windowed view: its state, in
// the encoding of package materialize/window, under the epoch it belongs to and the
// next offset that it has not applied, both not negative. The order that stores
// compare is (epoch, offset), and no more: of two writers that have gone on from the
// same record the second is refused.
func AppendWindow(dst []byte, epoch, offset int64, state []byte) []byte {
	if epoch < 0 || offset < 0 {
		panic(fmt.Sprintf("rowcodec: a windowed record of epoch %d and offset %d: neither is negative", epoch, offset))
	}
	start := len(dst)
	dst = append(dst, KindWindow)
	dst = binary.BigEndian.AppendUint64(dst, uint64(epoch))
	dst = binary.BigEndian.AppendUint64(dst, uint64(offset))
	dst = append(dst, state...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// DecodeWindow reads what AppendWindow wrote. The state refers to rec's memory. The
// error is ErrKind for a record of another kind, and ErrCorrupt for one that is cut
// off or altered.
func DecodeWindow(rec []byte) (epoch, offset int64, state []byte, err error) {
	corrupt := func(format string, args ...any) (int64, int64, []byte, error) {
		return 0, 0, nil, fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	if len(rec) > 0 && rec[0] != KindWindow {
		return 0, 0, nil, fmt.Errorf("%w: its first byte is %d, and a windowed view's %d", ErrKind, rec[0], KindWindow)
	}
	if len(rec) < WindowOverhead {
		return corrupt("%d bytes, want at least %d", len(rec), WindowOverhead)
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
	return int64(e), int64(o), rec[windowState:end:end], nil
}
