package rowcodec

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// KindWindow is the first byte of the record of an entity of a windowed view.
const KindWindow = 3

// kindUnscoped is that of the records that were written before their checksum said of what view they are.
const kindUnscoped = 2

// WindowOverhead is how many bytes a windowed record has beside its state.
const WindowOverhead = windowState + trailerLen

const windowState = 17 // kind, epoch and offset come before the state

// WindowCodec encodes and decodes the records of one generation of a windowed view. It is immutable, and safe for
// concurrent use.
type WindowCodec struct {
	scope string
	seed  uint32
}

// ForWindows makes the codec of a generation's records.
func ForWindows(v registry.ViewGeneration) *WindowCodec {
	return NewWindows(scopeOf(v), fieldsOf(v))
}

// NewWindows makes a codec for the features of a scope, as New does: in whatever order.
func NewWindows(scope string, fields []feature.Field) *WindowCodec {
	schema := append([]byte(scope), 0)
	byName := func(a, b feature.Field) int { return strings.Compare(a.Name, b.Name) }
	for _, f := range slices.SortedFunc(slices.Values(fields), byName) {
		schema = appendField(schema, f)
	}
	return &WindowCodec{scope: scope, seed: crc32.Checksum(schema, castagnoli)}
}

// Append appends the record of one entity: its state, in
// the encoding of package materialize/window, under the epoch it belongs to and the
// next offset that it has not applied, both not negative. The order that stores
// compare is (epoch, offset), and no more: of two writers that have gone on from the
// same record the second is refused.
func (c *WindowCodec) Append(dst []byte, epoch, offset int64, state []byte) []byte {
	if epoch < 0 || offset < 0 {
		panic(fmt.Sprintf("rowcodec: a windowed record of epoch %d and offset %d: neither is negative", epoch, offset))
	}
	start := len(dst)
	dst = append(dst, KindWindow)
	dst = binary.BigEndian.AppendUint64(dst, uint64(epoch))
	dst = binary.BigEndian.AppendUint64(dst, uint64(offset))
	dst = append(dst, state...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Update(c.seed, castagnoli, dst[start:]))
}

// Decode reads what Append wrote, and records of kind 2. The state refers to rec's memory. The
// error is ErrKind for a record of another kind, and ErrCorrupt for one that is cut
// off, altered, or, unless it is of kind 2, of another view, generation or project.
func (c *WindowCodec) Decode(rec []byte) (epoch, offset int64, state []byte, err error) {
	corrupt := func(format string, args ...any) (int64, int64, []byte, error) {
		return 0, 0, nil, fmt.Errorf("%w: %s: %s", ErrCorrupt, c.scope, fmt.Sprintf(format, args...))
	}
	if len(rec) > 0 && rec[0] != KindWindow && rec[0] != kindUnscoped {
		return 0, 0, nil, fmt.Errorf("%w: %s: its first byte is %d, and a windowed view's %d or %d", ErrKind, c.scope, rec[0], KindWindow, kindUnscoped)
	}
	if len(rec) < WindowOverhead {
		return corrupt("%d bytes, want at least %d", len(rec), WindowOverhead)
	}
	end, seed := len(rec)-trailerLen, c.seed
	if rec[0] == kindUnscoped {
		seed = 0
	}
	want := binary.LittleEndian.Uint32(rec[end:])
	if got := crc32.Update(seed, castagnoli, rec[:end]); got != want {
		return corrupt("checksum %08x, want %08x: it is cut off, altered, or was written for another view", got, want)
	}
	e, o := binary.BigEndian.Uint64(rec[1:]), binary.BigEndian.Uint64(rec[9:])
	if e>>63 != 0 || o>>63 != 0 {
		return corrupt("epoch %d and offset %d, which are never negative", int64(e), int64(o))
	}
	return int64(e), int64(o), rec[windowState:end:end], nil
}
