package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry/feature"
)

// A record that expires lies behind a byte that no record starts with, and the
// instant from which it is absent, in milliseconds since the Unix epoch, 8 bytes
// big-endian. One that does not expire lies there as it is.
const (
	expiryMark = 0x00
	expiryLen  = 9
)

// appendStored appends what is stored for a record.
func appendStored(dst []byte, r *online.Record, now time.Time) []byte {
	if r.TTL > 0 {
		dst = binary.BigEndian.AppendUint64(append(dst, expiryMark), uint64(now.UnixMilli()+r.Millis()))
	}
	return append(dst, r.Value...)
}

// stored is the record in what is stored; absent if it has expired.
func stored(value []byte, now time.Time) (record []byte, present bool) {
	if len(value) < expiryLen || value[0] != expiryMark {
		return value, true
	}
	return value[expiryLen:], int64(binary.BigEndian.Uint64(value[1:])) > now.UnixMilli()
}

// A sweep removes records that have expired, so that their room is free: a whole
// pass every sweepEvery, in steps that look at so many records. Get does not depend on it.
const (
	sweepEvery = time.Hour
	sweepStep  = 4096
	sweepPause = 20 * time.Millisecond
)

// sweepKey says that a generation has records that expire.
func sweepKey(view string, generation int) []byte {
	return appendGeneration(nil, expirySpace, view, generation)
}

// expiring is the generations whose sweepKey is written.
type expiring struct {
	mu    sync.Mutex
	known map[string]bool
}

// note writes, into the batch of a step, the sweepKeys of its generations that are missing.
func (e *expiring) note(batch *pebble.Batch, records []online.Record) error {
	var last *online.Key
	for i := range records {
		k := &records[i].Key
		if records[i].TTL == 0 || last != nil && last.Generation == k.Generation && last.View == k.View {
			continue
		}
		last = k
		key := sweepKey(k.View, k.Generation)
		e.mu.Lock()
		known := e.known[string(key)]
		e.mu.Unlock()
		if known {
			continue
		}
		if err := batch.Set(key, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// noted remembers the generations of a step that was applied.
func (e *expiring) noted(records []online.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range records {
		if k := &records[i].Key; records[i].TTL > 0 && (i == 0 || records[i-1].Key.Generation != k.Generation || records[i-1].Key.View != k.View) {
			if e.known == nil {
				e.known = map[string]bool{}
			}
			e.known[string(sweepKey(k.View, k.Generation))] = true
		}
	}
}

func (e *expiring) forget(view string, generation int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.known, string(sweepKey(view, generation)))
}

// sweeping removes expired records until ctx ends.
func (s *Store) sweeping(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if _, err := s.sweep(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, online.ErrClosed) {
			s.o.Log.Warn("cannot remove expired records; trying again", "store", s.o.Dir, "again_in", sweepEvery, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sweep removes every record that has expired, and counts them.
func (s *Store) sweep(ctx context.Context) (removed int, err error) {
	const doing = "remove expired records"
	var generations [][]byte
	err = s.scan(ctx, doing, []byte{expirySpace}, func(rest, _ []byte) error {
		generations = append(generations, append([]byte{recordSpace}, rest...))
		return nil
	})
	for _, prefix := range generations {
		for from := prefix; from != nil && err == nil; {
			var n int
			if n, from, err = s.sweepFrom(ctx, doing, from, after(prefix)); n > 0 {
				removed += n
			}
			if from != nil && err == nil {
				err = pause(ctx, sweepPause)
			}
		}
	}
	return removed, err
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// sweepFrom looks at some records from a key on; next is where to go on, nil at the end.
func (s *Store) sweepFrom(ctx context.Context, doing string, from, to []byte) (removed int, next []byte, err error) {
	if err := s.use(ctx, doing); err != nil {
		return 0, nil, err
	}
	defer s.open.RUnlock()
	now := s.o.now()
	expired, next, err := s.expired(ctx, from, to, now)
	if err != nil || len(expired) == 0 {
		return 0, next, s.ifFailed(doing, err)
	}
	var locks [stripes / 64]uint64
	for _, key := range expired {
		stripe := feature.HashKey(key) % stripes
		locks[stripe/64] |= 1 << (stripe % 64)
	}
	s.lock(&locks, (*sync.Mutex).Lock)
	defer s.lock(&locks, (*sync.Mutex).Unlock)
	batch := s.db.NewBatch()
	defer func() { err = errors.Join(err, batch.Close()) }()
	for _, key := range expired {
		value, closer, err := s.db.Get(key)
		if errors.Is(err, pebble.ErrNotFound) {
			continue
		}
		if err != nil {
			return 0, nil, s.failed(doing, err)
		}
		if _, present := stored(value, now); !present { // else it was written meanwhile
			removed++
			err = batch.Delete(key, nil)
		}
		if err = errors.Join(err, closer.Close()); err != nil {
			return 0, nil, s.failed(doing, err)
		}
	}
	// Without waiting for the disk: what a crash brings back is absent all the same.
	return removed, next, s.ifFailed(doing, s.db.Apply(batch, pebble.NoSync))
}

func (s *Store) ifFailed(doing string, err error) error {
	if err == nil {
		return nil
	}
	return s.failed(doing, err)
}

// expired is the keys of expired records among the next sweepStep ones.
func (s *Store) expired(ctx context.Context, from, to []byte, now time.Time) (keys [][]byte, next []byte, err error) {
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	seen := 0
	for ok := it.First(); ok; ok = it.Next() {
		if seen++; seen > sweepStep {
			return keys, bytes.Clone(it.Key()), nil
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, nil, fmt.Errorf("key %x: %w", it.Key(), err)
		}
		if _, present := stored(value, now); !present {
			keys = append(keys, slices.Clone(it.Key()))
		}
	}
	return keys, nil, it.Error()
}
