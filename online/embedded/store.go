package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry/feature"
)

var _ online.Store = (*Store)(nil)

// Store is an open folder.
type Store struct {
	o     Options
	addr  string // for messages
	owner *owner
	db    *pebble.DB
	locks [stripes]sync.Mutex
	room  room

	trackers trackers

	expiring  expiring
	stopSweep func() // and waits for it

	// open is held for reading by everything that uses db, which would panic once closed.
	open   sync.RWMutex
	closed bool
	once   sync.Once
	err    error // of Close

	serveMu sync.Mutex
	closing chan struct{} // closed when Close begins
	serving chan struct{} // closed when a Serve has ended; nil while there is none
}

// stripes is the number of locks that records are spread over.
const stripes = 256

// Open opens a folder, or makes it. A folder that another process has open
// gives a *HeldError.
func Open(o Options) (*Store, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	fail := func(err error) (*Store, error) {
		return nil, fmt.Errorf("open online store %s: %w", o.Dir, err)
	}
	if err := makeDir(vfs.Default, o.Dir); err != nil {
		return fail(err)
	}
	owner, err := acquire(o.Dir, o.Command)
	if err != nil {
		var held *HeldError
		if errors.As(err, &held) {
			return nil, held
		}
		return fail(err)
	}
	s := &Store{o: o, addr: o.Dir, owner: owner, closing: make(chan struct{})}
	if err = checkFormat(o.Dir, o.Project); err == nil {
		err = s.openDB()
	}
	if err != nil {
		return fail(errors.Join(err, owner.release()))
	}
	sweeping, cancel := context.WithCancel(context.Background())
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		s.sweeping(sweeping)
	}()
	s.stopSweep = func() {
		cancel()
		<-swept
	}
	return s, nil
}

func (s *Store) openDB() error {
	dir := filepath.Join(s.o.Dir, "pebble")
	if err := makeDir(s.o.fs, dir); err != nil {
		return err
	}
	cache := pebble.NewCache(s.o.CacheBytes)
	defer cache.Unref()
	po := &pebble.Options{
		Cache:        cache,
		FS:           s.o.fs,
		MemTableSize: s.o.MemTableBytes,
		// Not FormatNewest: a new version of the library must not make folders
		// that the last release of Forebay cannot read.
		FormatMajorVersion: pebble.FormatWALSyncChunks,
		Logger:             logger{s.o.Log.With("store", s.o.Dir), s.o.Fatal},
	}
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	var err error
	if s.db, err = pebble.Open(dir, po); err != nil {
		return fmt.Errorf("pebble: %w", err)
	}
	s.room = room{fs: s.o.fs, dir: dir, min: s.o.MinFreeBytes}
	return nil
}

// use begins an operation; the caller calls s.open.RUnlock after it, unless
// there was an error.
func (s *Store) use(ctx context.Context, doing string) error {
	if err := ctx.Err(); err != nil {
		return online.Unavailable(s.addr, doing, err)
	}
	s.open.RLock()
	if s.closed {
		s.open.RUnlock()
		return fmt.Errorf("%w: %s: %s", online.ErrClosed, s.addr, doing)
	}
	return nil
}

func (s *Store) failed(doing string, err error) error {
	return online.Unavailable(s.addr, doing, err)
}

// Get implements online.Store.
func (s *Store) Get(ctx context.Context, keys []online.Key, dst [][]byte) error {
	const doing = "get records"
	if len(dst) != len(keys) {
		panic(fmt.Sprintf("embedded: Get of %d keys into %d records", len(keys), len(dst)))
	}
	if err := s.use(ctx, doing); err != nil {
		return err
	}
	defer s.open.RUnlock()
	var key []byte
	now, slab := s.o.now(), online.Slab{Left: len(keys)}
	for i, k := range keys {
		if i&63 == 63 && ctx.Err() != nil {
			return s.failed(doing, ctx.Err())
		}
		key = appendRecordKey(key[:0], k)
		value, closer, err := s.db.Get(key)
		if errors.Is(err, pebble.ErrNotFound) {
			slab.None(&dst[i])
			continue
		}
		if err != nil {
			return s.failed(doing, err)
		}
		if record, present := stored(value, now); present {
			slab.Copy(&dst[i], record)
		} else {
			slab.None(&dst[i])
		}
		if err := closer.Close(); err != nil {
			return s.failed(doing, err)
		}
	}
	return nil
}

// A Write is done in steps of so many records and bytes, which bound the memory
// and the time that locks are held.
const (
	stepRecords = 1024
	stepBytes   = 4 << 20
)

// Write implements online.Store.
func (s *Store) Write(ctx context.Context, records []online.Record, mode online.WriteMode) (online.WriteResult, error) {
	const doing = "write records"
	var res online.WriteResult
	if err := online.CheckRecords(records); err != nil {
		return res, err
	}
	if err := s.use(ctx, doing); err != nil {
		return res, err
	}
	defer s.open.RUnlock()
	if mode == online.Always {
		// A record must not overwrite a newer one of the same key that an earlier step has written.
		newest := online.NewestOfEach(records)
		res.Stale, records = len(records)-len(newest), newest
	}
	var st step
	for len(records) > 0 {
		if ctx.Err() != nil {
			return res, s.failed(doing, ctx.Err())
		}
		n, size := 0, 0
		for n < len(records) && n < stepRecords && size < stepBytes {
			size += len(records[n].Value)
			n++
		}
		if err := s.room.take(size); err != nil {
			return res, fmt.Errorf("%w: %s: %s: %w", online.ErrFull, s.addr, doing, err)
		}
		applied, err := s.step(&st, records[:n], mode, n == len(records))
		if err != nil {
			return res, s.failed(doing, err)
		}
		res.Applied += applied
		res.Stale += n - applied
		records = records[n:]
	}
	return res, nil
}

// step is the memory of one step of a Write.
type step struct {
	keys  []byte
	order []int // records sorted by key, then the newest first
	ends  []int // of each record's key in keys
	locks [stripes / 64]uint64
	value []byte // what is stored for a record
}

func (st *step) key(i int) []byte {
	if i == 0 {
		return st.keys[:st.ends[0]]
	}
	return st.keys[st.ends[i-1]:st.ends[i]]
}

// step writes some records in one batch, and waits for the disk after the last.
func (s *Store) step(st *step, records []online.Record, mode online.WriteMode, last bool) (applied int, err error) {
	st.keys, st.order, st.ends, st.locks = st.keys[:0], st.order[:0], st.ends[:0], [stripes / 64]uint64{}
	for i := range records {
		start := len(st.keys)
		st.keys = appendRecordKey(st.keys, records[i].Key)
		st.ends, st.order = append(st.ends, len(st.keys)), append(st.order, i)
		stripe := feature.HashKey(st.keys[start:]) % stripes
		st.locks[stripe/64] |= 1 << (stripe % 64)
	}
	slices.SortFunc(st.order, func(a, b int) int {
		if c := bytes.Compare(st.key(a), st.key(b)); c != 0 {
			return c
		}
		return bytes.Compare(online.Order(records[b].Value), online.Order(records[a].Value))
	})
	batch := s.db.NewBatch()
	defer func() { err = errors.Join(err, batch.Close()) }()

	// Every writer takes its locks in the same order, so that none waits for
	// one that waits for it.
	s.lock(&st.locks, (*sync.Mutex).Lock)
	wait, now := last && !s.o.NoSync, s.o.now()
	err = func() error {
		defer s.lock(&st.locks, (*sync.Mutex).Unlock)
		for n, i := range st.order {
			if n > 0 && bytes.Equal(st.key(i), st.key(st.order[n-1])) {
				continue // an older one of the same key
			}
			replace, err := true, error(nil)
			if mode == online.IfNewer {
				replace, err = s.newer(st.key(i), records[i].Value, now)
			}
			if err == nil && replace {
				applied++
				st.value = appendStored(st.value[:0], &records[i], now)
				err = batch.Set(st.key(i), st.value, nil)
			}
			if err != nil {
				return err
			}
		}
		if err := s.expiring.note(batch, records); err != nil {
			return err
		}
		if wait {
			return s.db.ApplyNoSyncWait(batch, pebble.Sync)
		}
		return s.db.Apply(batch, pebble.NoSync)
	}()
	s.trackers.changed(records) // after an error too: they may be there
	if err == nil && wait {
		// Without the locks: others may see the records before they are on disk, as
		// they may in any case, and their own writes come later in the log.
		err = batch.SyncWait()
	}
	if err == nil {
		s.expiring.noted(records)
	}
	return applied, err
}

func (s *Store) lock(set *[stripes / 64]uint64, do func(*sync.Mutex)) {
	for i := range s.locks {
		if set[i/64]>>(i%64)&1 != 0 {
			do(&s.locks[i])
		}
	}
}

// newer reports whether a record replaces the one under its key.
func (s *Store) newer(key, value []byte, now time.Time) (bool, error) {
	old, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	record, present := stored(old, now)
	return !present || online.Newer(value, record), closer.Close()
}

// Resumes implements online.Store.
func (s *Store) Resumes(ctx context.Context, view string, generation int) (points []online.Resume, err error) {
	const doing = "read resume points"
	prefix := appendGeneration(nil, resumeSpace, view, generation)
	err = s.scan(ctx, doing, prefix, func(input, position []byte) error {
		points = append(points, online.Resume{View: view, Generation: generation, Input: string(input), Position: string(position)})
		return nil
	})
	return points, err
}

// scan calls row with the rest of each key that starts with prefix, and its value.
func (s *Store) scan(ctx context.Context, doing string, prefix []byte, row func(rest, value []byte) error) (err error) {
	if err := s.use(ctx, doing); err != nil {
		return err
	}
	defer s.open.RUnlock()
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return s.failed(doing, err)
	}
	defer func() {
		if e := it.Close(); e != nil && err == nil {
			err = s.failed(doing, e)
		}
	}()
	for n, ok := 0, it.First(); ok; n, ok = n+1, it.Next() {
		if n&1023 == 1023 && ctx.Err() != nil {
			return s.failed(doing, ctx.Err())
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return s.failed(doing, err)
		}
		if err := row(it.Key()[len(prefix):], value); err != nil {
			return err
		}
	}
	return nil
}

// commit applies a small batch and waits for the disk.
func (s *Store) commit(ctx context.Context, doing string, fill func(*pebble.Batch) error) (err error) {
	if err := s.use(ctx, doing); err != nil {
		return err
	}
	defer s.open.RUnlock()
	batch := s.db.NewBatch()
	defer func() {
		if err = errors.Join(err, batch.Close()); err != nil {
			err = s.failed(doing, err)
		}
	}()
	if err := fill(batch); err != nil {
		return err
	}
	return s.db.Apply(batch, pebble.Sync)
}

// SetResumes implements online.Store. It waits for the disk, and so for
// everything written before it.
func (s *Store) SetResumes(ctx context.Context, points []online.Resume) error {
	return s.commit(ctx, "store resume points", func(b *pebble.Batch) error {
		for _, p := range points {
			if err := b.Set(resumeKey(p), []byte(p.Position), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Live implements online.Store.
func (s *Store) Live(ctx context.Context) (map[string]int, error) {
	const doing = "read live generations"
	live := map[string]int{}
	err := s.scan(ctx, doing, []byte{liveSpace}, func(view, value []byte) error {
		n, used := binary.Uvarint(value)
		if used != len(value) || n == 0 || n > math.MaxInt32 {
			return s.failed(doing, fmt.Errorf("view %s: %x is not a generation", view, value))
		}
		live[string(view)] = int(n)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return live, nil
}

// SetLive implements online.Store.
func (s *Store) SetLive(ctx context.Context, view string, generation int) error {
	return s.commit(ctx, "store a live generation", func(b *pebble.Batch) error {
		return b.Set(liveKey(view), binary.AppendUvarint(nil, uint64(generation)), nil)
	})
}

// Drop implements online.Store. It is a few range deletions, however many records there are.
func (s *Store) Drop(ctx context.Context, view string, generation int) error {
	defer s.expiring.forget(view, generation)
	return s.commit(ctx, "drop a generation", func(b *pebble.Batch) error {
		for _, space := range []byte{resumeSpace, recordSpace, expirySpace} {
			prefix := appendGeneration(nil, space, view, generation)
			if err := b.DeleteRange(prefix, after(prefix), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Usage implements online.Store. The bytes are those of keys and records, before
// compression.
func (s *Store) Usage(ctx context.Context, view string, generation int) (records, size int64, err error) {
	prefix, now := appendGeneration(nil, recordSpace, view, generation), s.o.now()
	err = s.scan(ctx, "count records", prefix, func(rest, value []byte) error {
		if _, present := stored(value, now); !present {
			return nil
		}
		records++
		size += int64(len(prefix) + len(rest) + len(value))
		return nil
	})
	return records, size, err
}

// Ping implements online.Store.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.use(ctx, "ping"); err != nil {
		return err
	}
	s.open.RUnlock()
	return nil
}

// Close implements online.Store. It waits for what is under way, and stops Serve.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.stopServe()
		s.stopSweep()
		s.open.Lock()
		defer s.open.Unlock()
		s.closed = true
		err := s.db.Close()
		if err = errors.Join(err, s.owner.release()); err != nil {
			s.err = fmt.Errorf("close online store %s: %w", s.o.Dir, err)
		}
	})
	return s.err
}

// logger hands on what Pebble has to say. Its chatter is of use to people who
// look for a fault, so it is logged at the debug level.
type logger struct {
	log   *slog.Logger
	fatal func(error)
}

func (l logger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf is called where Pebble cannot go on; it does not return.
func (l logger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("online store cannot go on: "+format, args...)
	l.log.Error(err.Error())
	l.fatal(err)
	panic(err)
}
