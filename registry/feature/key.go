package feature

import (
	"encoding/binary"
	"fmt"
)

// An entity key is the join-key values of one entity, encoded so that two keys
// are equal byte for byte exactly if their values are, and sort as their values do,
// column by column. The encoding is persisted (docs/format/entity-key.md):
//
//	bool                 1 byte, 0 or 1
//	int64, timestamp     8 bytes, big-endian, the sign bit flipped
//	string, bytes        the bytes; in any column but the last, each 0x00 is
//	                     followed by 0xff and the end is marked 0x00 0x01
//
// The types are not part of it: they are the entity's, and fixed for a generation.

// AppendKey appends one join key's value to an entity key; last says whether it
// is the key's last column. The value must not be null and must be of a type
// for which [Type.Key] holds.
func AppendKey(dst []byte, v Value, last bool) []byte {
	switch v.Kind() {
	case Bool:
		return append(dst, byte(v.num))
	case Int64, Timestamp:
		return binary.BigEndian.AppendUint64(dst, v.num^1<<63)
	case String, Bytes:
		return AppendKeyBytes(dst, v.Bytes(), last)
	}
	panic("feature: a " + v.Kind().String() + " in an entity key")
}

// AppendKeyBytes is AppendKey for a string or bytes.
func AppendKeyBytes(dst, b []byte, last bool) []byte {
	if last {
		return append(dst, b...)
	}
	for _, c := range b {
		dst = append(dst, c)
		if c == 0 {
			dst = append(dst, 0xff)
		}
	}
	return append(dst, 0, 1)
}

// AppendKeyRow appends the entity key of row i; cols are the join keys in the
// entity's order. It reports false, and dst unchanged, if one of them is null.
func AppendKeyRow(dst []byte, cols []*Column, i int) ([]byte, bool) {
	start := len(dst)
	for j, c := range cols {
		if c.Nulls.Get(i) {
			return dst[:start], false
		}
		switch c.Type.Kind {
		case String, Bytes:
			dst = AppendKeyBytes(dst, c.Bytes(i), j == len(cols)-1)
		default:
			dst = AppendKey(dst, ofBits(c.Type.Kind, c.Nums[i]), j == len(cols)-1)
		}
	}
	return dst, true
}

// DecodeKey takes an entity key apart again.
func DecodeKey(key []byte, types []Type) ([]Value, error) {
	vs := make([]Value, len(types))
	for i, t := range types {
		switch t.Kind {
		case Bool:
			if len(key) < 1 || key[0] > 1 {
				return nil, fmt.Errorf("entity key: no bool in join key %d", i+1)
			}
			vs[i], key = OfBool(key[0] == 1), key[1:]
		case Int64, Timestamp:
			if len(key) < 8 {
				return nil, fmt.Errorf("entity key: cut off in join key %d", i+1)
			}
			vs[i], key = ofBits(t.Kind, binary.BigEndian.Uint64(key)^1<<63), key[8:]
		case String, Bytes:
			text, rest, err := decodeKeyBytes(key, i == len(types)-1)
			if err != nil {
				return nil, fmt.Errorf("entity key: join key %d: %w", i+1, err)
			}
			if key = rest; t.Kind == String {
				vs[i] = OfString(string(text))
			} else {
				vs[i] = OfBytes(text)
			}
		default:
			return nil, fmt.Errorf("entity key: join key %d is a %s", i+1, t)
		}
	}
	if len(key) > 0 {
		return nil, fmt.Errorf("entity key: %d bytes too many", len(key))
	}
	return vs, nil
}

func decodeKeyBytes(key []byte, last bool) (text, rest []byte, err error) {
	if last {
		return append([]byte(nil), key...), nil, nil
	}
	for i := 0; i < len(key); i++ {
		if key[i] != 0 {
			text = append(text, key[i])
			continue
		}
		if i+1 == len(key) {
			break
		}
		i++
		switch key[i] {
		case 0xff:
			text = append(text, 0)
		case 1:
			return text, key[i+1:], nil
		default:
			return nil, nil, fmt.Errorf("0x00 followed by %#02x", key[i])
		}
	}
	return nil, nil, fmt.Errorf("no end")
}

// HashKey is the 64-bit FNV-1a hash of an entity key with a final mix. It
// decides the bucket of a row in an offline table, and is persisted.
func HashKey(key []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range key {
		h = (h ^ uint64(b)) * 1099511628211
	}
	// The finaliser of MurmurHash3 (Appleby): FNV's low bits alone are weak.
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
