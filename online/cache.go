package online

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Tracker is implemented by stores that tell when records change.
type Tracker interface {
	// Track tells which records change, whoever changes them, until ctx ends. Where it cannot it
	// goes on trying.
	Track(ctx context.Context, t Tracking)
}

// Tracking is told of changes. Its methods may be called by several goroutines.
type Tracking interface {
	// Forget says that the record under a key was written, removed or has expired. The
	// entity's memory is the caller's.
	Forget(k Key)
	// Watching says that every change from now on will be told.
	Watching()
	// Blind says that changes may go untold until Watching, and why.
	Blind(err error)
}

// StaleError is returned by a Get of a [Cache] that has filled in what it has, because the store
// cannot be reached: records that were read at Since or later, and may have changed. It is
// an ErrUnavailable, so that who does not ask for it takes it for one.
type StaleError struct {
	Since time.Time // when the oldest of them was read from the store
	Err   error     // of the store
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("records as they were at %s, because: %v", e.Since.UTC().Format(time.RFC3339), e.Err)
}

// Unwrap is the store's error.
func (e *StaleError) Unwrap() error { return e.Err }

// CacheOptions says how much and how long to keep. MaxBytes and MaxAge are required.
type CacheOptions struct {
	// MaxBytes bounds the memory of keys and records, with what it takes to find them.
	MaxBytes int64
	// MaxAge bounds the age of what is served, from before it was asked of the store. It is the
	// bound where changes are told late or not at all; else what has changed goes at once.
	MaxAge time.Duration
	// MaxStale, if set, lets records of up to this age be served, with a StaleError, where the
	// store is ErrUnavailable. Default 0: the error alone.
	MaxStale time.Duration
	// Log is told when the tracker goes blind and sees again. Required.
	Log *slog.Logger
	// Metrics takes
	//
	//	forebay_online_cache_records_total{result}  result: hit, miss, stale
	//	forebay_online_cache_bytes                  in use
	//	forebay_online_cache_watching               1 while changes are told
	Metrics prometheus.Registerer
}

// Validate reports what cannot be used.
func (o CacheOptions) Validate() error {
	switch {
	case o.MaxBytes <= 0:
		return fmt.Errorf("cache of the online store: max_bytes is %d: want more than 0", o.MaxBytes)
	case o.MaxAge <= 0:
		return fmt.Errorf("cache of the online store: max_age is %v: want more than 0", o.MaxAge)
	case o.MaxStale < 0 || o.MaxStale > 0 && o.MaxStale < o.MaxAge:
		return fmt.Errorf("cache of the online store: max_stale is %v: want at least max_age, %v", o.MaxStale, o.MaxAge)
	}
	return nil
}

// Cache is a store of which records that were read are kept in this process: absent ones
// too. What it serves is never older than MaxAge, and while the tracker
// watches as fresh as its news; while it is blind every Get goes to the store. What
// is written through the cache itself is seen at once.
//
// Of what was asked of the store while a change was told nobody knows which came first: it is
// not kept.
func Cache(s Store, t Tracker, o CacheOptions) (Store, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	c := &cached{Store: s, o: o, seed: maphash.MakeSeed(), start: time.Now()}
	c.epoch.Store(1)
	for i := range c.shards {
		c.shards[i].entries = map[string]*cacheEntry{}
		c.shards[i].ring.next, c.shards[i].ring.prev = &c.shards[i].ring, &c.shards[i].ring
	}
	if err := c.register(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	tracked := make(chan struct{})
	go func() {
		defer close(tracked)
		t.Track(ctx, c)
	}()
	c.stop = func() {
		cancel()
		<-tracked
	}
	return c, nil
}

const (
	cacheShards = 64
	// Changes are counted by stripes of keys.
	cacheStripes = 1 << 12
	// What an entry takes beside its key and record: itself, its place in the map and what the
	// allocator rounds up to.
	cacheOverhead = 192
)

type cached struct {
	Store
	o     CacheOptions
	seed  maphash.Seed
	start time.Time
	stop  func()

	// epoch is that of what is read now: odd while the tracker is blind. It rises with
	// every change of that, and so makes what was read before no longer fresh.
	epoch   atomic.Uint64
	changes [cacheStripes]atomic.Uint32 // told so far; written under the shard's lock
	shards  [cacheShards]cacheShard

	away atomic.Int64 // until when the store is taken to be away, nanoseconds since start

	hit, miss, stale prometheus.Counter
	reads            sync.Pool // of *cacheRead
}

var (
	_ Store    = (*cached)(nil)
	_ Tracking = (*cached)(nil)
)

type cacheShard struct {
	mu      sync.Mutex
	entries map[string]*cacheEntry
	ring    cacheEntry // of the entries by their last use: next of this one is the most recent
	bytes   int64
}

type cacheEntry struct {
	key        string
	record     []byte // nil for none
	read       time.Duration
	epoch      uint64 // 0: it has changed since
	next, prev *cacheEntry
}

func (e *cacheEntry) size() int64 { return int64(len(e.key)+cap(e.record)) + cacheOverhead }

// cacheRead is the memory of one Get.
type cacheRead struct {
	keys    []Key
	at      []int // of each key among those asked for
	hashes  []uint64
	changes []uint32
	records [][]byte
	name    []byte
}

func appendCacheKey(dst []byte, k *Key) []byte {
	dst = append(dst, k.View...)
	dst = append(dst, '@')
	dst = strconv.AppendInt(dst, int64(k.Generation), 10)
	dst = append(dst, 0) // which no name has
	return append(dst, k.Entity...)
}

func (c *cached) shard(hash uint64) *cacheShard     { return &c.shards[hash%cacheShards] }
func (c *cached) stripe(hash uint64) *atomic.Uint32 { return &c.changes[hash%cacheStripes] }
func (c *cached) fresh(e *cacheEntry, now time.Duration, epoch uint64) bool {
	return e.epoch == epoch && epoch&1 == 0 && now-e.read <= c.o.MaxAge
}

// Get implements Store.
func (c *cached) Get(ctx context.Context, keys []Key, dst [][]byte) error {
	r, _ := c.reads.Get().(*cacheRead)
	if r == nil {
		r = &cacheRead{}
	}
	defer func() {
		clear(r.keys)
		clear(r.records)
		c.reads.Put(r)
	}()
	r.keys, r.at, r.hashes, r.changes, r.records = r.keys[:0], r.at[:0], r.hashes[:0], r.changes[:0], r.records[:0]
	now, epoch := time.Since(c.start), c.epoch.Load()
	slab := Slab{Left: len(keys)}
	for i := range keys {
		r.name = appendCacheKey(r.name[:0], &keys[i])
		hash := maphash.Bytes(c.seed, r.name)
		sh := c.shard(hash)
		sh.mu.Lock()
		e := sh.entries[string(r.name)]
		if e == nil || !c.fresh(e, now, epoch) {
			r.keys, r.at, r.hashes = append(r.keys, keys[i]), append(r.at, i), append(r.hashes, hash)
			r.changes = append(r.changes, c.stripe(hash).Load())
			r.records = append(r.records, dst[i]) // its memory is the caller's
			sh.mu.Unlock()
			continue
		}
		sh.use(e)
		slab.set(&dst[i], e.record)
		sh.mu.Unlock()
	}
	c.hit.Add(float64(len(keys) - len(r.keys)))
	if len(r.keys) == 0 {
		return nil
	}
	c.miss.Add(float64(len(r.keys)))
	if err := c.ask(ctx, r, dst, now); err != nil {
		return err
	}
	for j, i := range r.at {
		dst[i] = r.records[j]
	}
	c.keep(r, now, epoch)
	return nil
}

// keep keeps what was read from the store. It was asked at now; what the caller gets is his own.
func (c *cached) keep(r *cacheRead, now time.Duration, epoch uint64) {
	for j := range r.keys {
		r.name = appendCacheKey(r.name[:0], &r.keys[j])
		sh := c.shard(r.hashes[j])
		sh.mu.Lock()
		as := epoch
		if c.stripe(r.hashes[j]).Load() != r.changes[j] || epoch&1 != 0 || c.epoch.Load() != epoch {
			as = 0
		}
		if as == 0 && c.o.MaxStale == 0 {
			sh.mu.Unlock()
			continue
		}
		e := sh.entries[string(r.name)]
		if size := int64(len(r.name)+len(r.records[j])) + cacheOverhead; size > c.o.MaxBytes/cacheShards {
			if e != nil { // what is kept instead of it would be older
				sh.remove(e)
			}
			sh.mu.Unlock()
			continue
		}
		switch {
		case e == nil:
			e = &cacheEntry{key: string(r.name)}
			sh.entries[e.key] = e
			e.next, e.prev = e, e
		case e.read > now: // somebody has asked later and was answered before
			sh.mu.Unlock()
			continue
		default:
			sh.bytes -= e.size()
		}
		e.read, e.epoch = now, as
		if r.records[j] == nil {
			e.record = nil
		} else {
			e.record = append(make([]byte, 0, len(r.records[j])), r.records[j]...)
		}
		sh.bytes += e.size()
		sh.use(e)
		for sh.bytes > c.o.MaxBytes/cacheShards && sh.ring.prev != &sh.ring {
			sh.remove(sh.ring.prev)
		}
		sh.mu.Unlock()
	}
}

// Where there is something to answer instead, the store has so long for an answer, and is not
// asked for so long after one that failed.
const (
	staleWait = 200 * time.Millisecond
	staleRest = time.Second
)

// ask reads from the store what the cache lacks, or fills in what it has of earlier where that is to be.
func (c *cached) ask(ctx context.Context, r *cacheRead, dst [][]byte, now time.Duration) error {
	if c.o.MaxStale == 0 {
		return c.Store.Get(ctx, r.keys, r.records)
	}
	since, instead := c.earlier(r, dst, now)
	if !instead {
		return c.Store.Get(ctx, r.keys, r.records)
	}
	clear(r.records) // a read that fails must not touch what is answered instead
	err := errAway
	if int64(now) >= c.away.Load() {
		within, cancel := context.WithTimeout(ctx, staleWait)
		err = c.Store.Get(within, r.keys, r.records)
		cancel()
		if err == nil || !errors.Is(err, ErrUnavailable) {
			return err
		}
		c.away.Store(int64(time.Since(c.start) + staleRest))
	}
	c.stale.Add(float64(len(r.at)))
	return &StaleError{Since: c.start.Add(since), Err: err}
}

var errAway = fmt.Errorf("%w: it did not answer a moment ago", ErrUnavailable)

// earlier fills in what was read before, if all of it is there, and says when the oldest was read.
func (c *cached) earlier(r *cacheRead, dst [][]byte, now time.Duration) (since time.Duration, all bool) {
	since = now
	slab := Slab{Left: len(r.at)}
	for j, i := range r.at {
		r.name = appendCacheKey(r.name[:0], &r.keys[j])
		sh := c.shard(r.hashes[j])
		sh.mu.Lock()
		e := sh.entries[string(r.name)]
		if e == nil || now-e.read > c.o.MaxStale {
			sh.mu.Unlock()
			return 0, false
		}
		since = min(since, e.read)
		slab.set(&dst[i], e.record)
		sh.mu.Unlock()
	}
	return since, true
}

// use makes an entry the one that was used last.
func (s *cacheShard) use(e *cacheEntry) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.next, e.prev = s.ring.next, &s.ring
	e.next.prev, e.prev.next = e, e
}

func (s *cacheShard) remove(e *cacheEntry) {
	e.prev.next, e.next.prev = e.next, e.prev
	s.bytes -= e.size()
	delete(s.entries, e.key)
}

// Forget implements Tracking.
func (c *cached) Forget(k Key) {
	var room [128]byte
	name := appendCacheKey(room[:0], &k)
	hash := maphash.Bytes(c.seed, name)
	sh := c.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c.stripe(hash).Add(1)
	if e := sh.entries[string(name)]; e != nil {
		if e.epoch = 0; c.o.MaxStale == 0 {
			sh.remove(e)
		}
	}
}

// Watching implements Tracking.
func (c *cached) Watching() {
	level := slog.LevelInfo
	if c.epoch.Load() == 1 {
		level = slog.LevelDebug // as was to be expected
	}
	if c.turn(0) {
		c.o.Log.Log(context.Background(), level, "the online store tells of changes: what was read is kept", "max_age", c.o.MaxAge)
	}
}

// Blind implements Tracking.
func (c *cached) Blind(err error) {
	if c.turn(1) {
		c.o.Log.Warn("the online store does not tell of changes: every lookup reads it", "error", err)
	}
}

// turn makes another epoch, watching (0) or blind (1), unless it is.
func (c *cached) turn(to uint64) bool {
	for {
		now := c.epoch.Load()
		if now&1 == to {
			return false
		}
		if c.epoch.CompareAndSwap(now, now+1) {
			return true
		}
	}
}

// Write implements Store.
func (c *cached) Write(ctx context.Context, records []Record, mode WriteMode) (WriteResult, error) {
	res, err := c.Store.Write(ctx, records, mode)
	for i := range records { // also after an error: some may have been written
		c.Forget(records[i].Key)
	}
	return res, err
}

// Drop implements Store.
func (c *cached) Drop(ctx context.Context, view string, generation int) error {
	err := c.Store.Drop(ctx, view, generation)
	c.epoch.Add(2) // nothing read before is fresh
	return err
}

// Server implements Server.
func (c *cached) Server(ctx context.Context) (string, error) { return ServerOf(ctx, c.Store) }

// Close implements Store.
func (c *cached) Close() error {
	c.stop()
	return c.Store.Close()
}

func (c *cached) register() error {
	records := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "forebay_online_cache_records_total", Help: "Records asked of the cache of the online store."}, []string{"result"})
	c.hit, c.miss, c.stale = records.WithLabelValues("hit"), records.WithLabelValues("miss"), records.WithLabelValues("stale")
	for _, m := range []prometheus.Collector{
		records,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "forebay_online_cache_bytes", Help: "Memory of the cache of the online store."}, func() float64 {
			sum := int64(0)
			for i := range c.shards {
				sh := &c.shards[i]
				sh.mu.Lock()
				sum += sh.bytes
				sh.mu.Unlock()
			}
			return float64(sum)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "forebay_online_cache_watching", Help: "1 while the online store tells of changes, 0 while the cache is of no use."}, func() float64 {
			return float64(1 - c.epoch.Load()&1)
		}),
	} {
		if err := c.o.Metrics.Register(m); err != nil {
			return fmt.Errorf("metrics of the online store's cache: %w", err)
		}
	}
	return nil
}
