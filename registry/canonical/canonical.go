// Package canonical writes JSON in one way only, so that what is equal is equal
// byte for byte, and hashes of it mean something. It is the form of revisions
// (docs/format/revision.md) and of whatever else is known by its content.
//
// In canonical form there is no white space outside strings; the members of an
// object are sorted by the bytes of their names, and none of them is null; numbers
// are integers of 64 bits in plain decimal; and strings are as
// [feature.AppendStringJSON] writes them, with nothing escaped that need not be.
package canonical

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/forebay/forebay/registry/feature"
)

// Marshal is the canonical form of what encoding/json makes of a value. It fails
// where that fails, and for numbers that are not integers of 64 bits.
func Marshal(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return Append(nil, raw)
}

// Append appends the canonical form of a JSON value.
func Append(dst []byte, raw []byte) ([]byte, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil, errors.New("canonical form: no value")
	}
	var err error
	switch raw[0] {
	case '{':
		var members map[string]json.RawMessage
		if err := json.Unmarshal(raw, &members); err != nil {
			return nil, err
		}
		dst = append(dst, '{')
		first := true
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if string(members[name]) == "null" {
				continue
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(feature.AppendStringJSON(dst, name), ':')
			if dst, err = Append(dst, members[name]); err != nil {
				return nil, err
			}
		}
		return append(dst, '}'), nil
	case '[':
		var elements []json.RawMessage
		if err := json.Unmarshal(raw, &elements); err != nil {
			return nil, err
		}
		dst = append(dst, '[')
		for i, e := range elements {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = Append(dst, e); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	case '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, err
		}
		return feature.AppendStringJSON(dst, s), nil
	case 't', 'f', 'n':
		return append(dst, raw...), nil
	}
	i, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("canonical form: %s is not an integer of 64 bits", raw)
	}
	return strconv.AppendInt(dst, i, 10), nil
}
