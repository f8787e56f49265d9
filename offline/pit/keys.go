package pit

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/forebay/forebay/registry/feature"
)

// Keys is a list of entity keys in the form that compares fastest. Keys of one
// number or bool are Words, whose unsigned order is the order of
// feature.AppendKey; all others are bytes, encoded by feature.AppendKeyRow.
// Lists that are compared must come from columns of the same types.
type Keys struct {
	Words   []uint64
	Data    []byte
	Offsets []uint32 // one more than there are keys; nil where Words is used
	width   int      // of a word in the encoded key: 8, or 1 for a bool
}

// wordWidth is the width of an encoded key that Words can hold; 0 if it cannot.
func wordWidth(types []feature.Type) int {
	if len(types) != 1 {
		return 0
	}
	switch types[0].Kind {
	case feature.Int64, feature.Timestamp:
		return 8
	case feature.Bool:
		return 1
	}
	return 0
}

// NewKeys makes an empty list for join keys of these types.
func NewKeys(types []feature.Type) *Keys {
	k := &Keys{width: wordWidth(types)}
	if k.width == 0 {
		k.Offsets = []uint32{0}
	}
	return k
}

// Len is the number of keys.
func (k *Keys) Len() int {
	if k.Offsets == nil {
		return len(k.Words)
	}
	return len(k.Offsets) - 1
}

// Reset empties the list and keeps its memory.
func (k *Keys) Reset() {
	k.Words, k.Data = k.Words[:0], k.Data[:0]
	if k.Offsets != nil {
		k.Offsets = k.Offsets[:1]
	}
}

// Cut leaves the first n keys.
func (k *Keys) Cut(n int) {
	if k.Offsets == nil {
		k.Words = k.Words[:n]
		return
	}
	k.Data, k.Offsets = k.Data[:k.Offsets[n]], k.Offsets[:n+1]
}

// AppendRow appends the key of row i of the join-key columns. It reports
// false, and appends nothing, if one of them is null.
func (k *Keys) AppendRow(cols []*feature.Column, i int) bool {
	if k.Offsets == nil {
		if cols[0].IsNull(i) {
			return false
		}
		k.Words = append(k.Words, k.word(cols[0].Nums[i]))
		return true
	}
	data, ok := feature.AppendKeyRow(k.Data, cols, i)
	if !ok {
		return false
	}
	k.Data = data
	k.Offsets = append(k.Offsets, uint32(len(data)))
	return true
}

// AppendRows appends the keys of rows [from, to), of which none may be null.
func (k *Keys) AppendRows(cols []*feature.Column, from, to int) {
	if k.Offsets != nil {
		for i := from; i < to; i++ {
			k.AppendRow(cols, i)
		}
		return
	}
	if k.width == 1 {
		k.Words = append(k.Words, cols[0].Nums[from:to]...)
		return
	}
	at := len(k.Words)
	k.Words = slices.Grow(k.Words, to-from)[:at+to-from]
	words := k.Words[at:]
	for i, w := range cols[0].Nums[from:to] {
		words[i] = w ^ 1<<63
	}
}

// AppendKey appends key i of another list of the same kind.
func (k *Keys) AppendKey(from *Keys, i int) {
	if k.Offsets == nil {
		k.Words = append(k.Words, from.Words[i])
		return
	}
	k.Data = append(k.Data, from.at(i)...)
	k.Offsets = append(k.Offsets, uint32(len(k.Data)))
}

func (k *Keys) word(bits uint64) uint64 {
	if k.width == 1 {
		return bits
	}
	return bits ^ 1<<63
}

func (k *Keys) at(i int) []byte { return k.Data[k.Offsets[i]:k.Offsets[i+1]] }

// Append appends key i to dst as feature.AppendKey encodes it.
func (k *Keys) Append(dst []byte, i int) []byte {
	switch {
	case k.Offsets != nil:
		return append(dst, k.at(i)...)
	case k.width == 1:
		return append(dst, byte(k.Words[i]))
	}
	return binary.BigEndian.AppendUint64(dst, k.Words[i])
}

// Hash is feature.HashKey of key i.
func (k *Keys) Hash(i int) uint64 {
	if k.Offsets != nil {
		return feature.HashKey(k.at(i))
	}
	var buf [8]byte
	return feature.HashKey(k.Append(buf[:0], i))
}

// Prefix is the first eight bytes of key i as a number: keys in order have
// prefixes in order, and for words it decides.
func (k *Keys) Prefix(i int) uint64 {
	if k.Offsets == nil {
		return k.Words[i]
	}
	var buf [8]byte
	copy(buf[:], k.at(i))
	return binary.BigEndian.Uint64(buf[:])
}

// Compare orders key i of k against key j of o.
func (k *Keys) Compare(i int, o *Keys, j int) int {
	if k.Offsets == nil {
		return cmp.Compare(k.Words[i], o.Words[j])
	}
	return bytes.Compare(k.at(i), o.at(j))
}
