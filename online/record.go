package online

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrRecord means: a record given to Write is too short to carry its order, or has a
// kind or TTL that cannot be. It is a mistake of the caller; nothing was written.
var ErrRecord = errors.New("not a record")

// MaxTTL is the greatest TTL of a record: 100 years.
const MaxTTL = 100 * 365 * 24 * time.Hour

// Order is the part of an encoded record that orders it against others under
// its key: shared bytes, compared as unsigned ones. It is empty for what is too
// short to be a record.
func Order(value []byte) []byte {
	n := orderEnd(value)
	if len(value) < n {
		return nil
	}
	return value[OrderStart:n]
}

// orderEnd is where the order of a record ends, and so the least length of one of its kind.
func orderEnd(value []byte) int {
	if len(value) == 0 || value[0] == NewestRow {
		return OrderStart + OrderLen
	}
	return OrderStart + ShortOrderLen
}

// Newer reports whether a record replaces another under IfNewer; one that is
// absent or too short is replaced by any.
func Newer(value, than []byte) bool { return bytes.Compare(Order(value), Order(than)) > 0 }

// CheckRecords returns ErrRecord if one of the records cannot be written. Every Store calls it first.
func CheckRecords(records []Record) error {
	for i := range records {
		r := &records[i]
		switch {
		case len(r.Value) < orderEnd(r.Value):
			return fmt.Errorf("%w: record %d, of %s@%d, has %d bytes, want at least %d", ErrRecord, i, r.Key.View, r.Key.Generation, len(r.Value), orderEnd(r.Value))
		case r.Value[0] == 0:
			return fmt.Errorf("%w: record %d, of %s@%d, starts with the byte 0, which is no kind of record", ErrRecord, i, r.Key.View, r.Key.Generation)
		case r.TTL < 0 || r.TTL > MaxTTL:
			return fmt.Errorf("%w: record %d, of %s@%d, is to be kept for %v: want 0, for ever, to %v", ErrRecord, i, r.Key.View, r.Key.Generation, r.TTL, MaxTTL)
		}
	}
	return nil
}

// NewestOfEach is records without those of which another, newer one has the same key;
// records itself if there are none. Stores that write one batch in several steps use it
// where a step would not compare with what is there.
func NewestOfEach(records []Record) []Record {
	order := make([]int, len(records))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		if c := records[i].Key.compare(&records[j].Key); c != 0 {
			return c
		}
		return bytes.Compare(Order(records[j].Value), Order(records[i].Value))
	})
	var newest []Record
	for n, i := range order {
		if n > 0 && records[i].Key.compare(&records[order[n-1]].Key) == 0 {
			continue
		}
		newest = append(newest, records[i])
	}
	if len(newest) == len(records) {
		return records
	}
	return newest
}

func (k *Key) compare(o *Key) int {
	if c := cmp.Compare(k.Generation, o.Generation); c != 0 {
		return c
	}
	if c := bytes.Compare(k.Entity, o.Entity); c != 0 {
		return c
	}
	return strings.Compare(k.View, o.View)
}
