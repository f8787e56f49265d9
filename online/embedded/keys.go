package embedded

import (
	"encoding/binary"

	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry/feature"
)

// The first byte of a key says what is under it (docs/format/pebble-keys.md).
const (
	recordSpace = 0x01
	resumeSpace = 0x02
	liveSpace   = 0x03
	expirySpace = 0x04
)

// appendGeneration appends what the keys of a view's generation start with.
func appendGeneration(dst []byte, space byte, view string, generation int) []byte {
	dst = feature.AppendKeyBytes(append(dst, space), []byte(view), false)
	return binary.BigEndian.AppendUint32(dst, uint32(generation))
}

// appendRecordKey appends the key of a record.
func appendRecordKey(dst []byte, k online.Key) []byte {
	return append(appendGeneration(dst, recordSpace, k.View, k.Generation), k.Entity...)
}

func resumeKey(p online.Resume) []byte {
	return append(appendGeneration(nil, resumeSpace, p.View, p.Generation), p.Input...)
}

func liveKey(view string) []byte { return append([]byte{liveSpace}, view...) }

// after is the first key that does not start with a prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
