package online_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/embedded"
	"github.com/forebay/forebay/online/onlinetest"
)

// told is a store whose records change behind a cache's back, and its tracker.
type told struct {
	online.Store
	mu      sync.Mutex
	records map[string]string
	gets    int
	keys    int
	err     error
	takes   time.Duration
	before  func() // called when a Get has found its records, before they are returned

	cache   online.Tracking
	started chan struct{}
}

func newTold() *told { return &told{records: map[string]string{}, started: make(chan struct{})} }

func (s *told) Track(ctx context.Context, t online.Tracking) {
	s.cache = t
	close(s.started)
	<-ctx.Done()
}

func (s *told) Get(ctx context.Context, keys []online.Key, dst [][]byte) error {
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return online.Unavailable("somewhere", "get", ctx.Err())
	}
	s.mu.Lock()
	s.gets, s.keys = s.gets+1, s.keys+len(keys)
	err, before := s.err, s.before
	for i, k := range keys {
		if dst[i] = nil; s.records[string(k.Entity)] != "" {
			dst[i] = []byte(s.records[string(k.Entity)])
		}
	}
	s.mu.Unlock()
	if before != nil {
		before()
	}
	return err
}

func (s *told) Write(_ context.Context, records []online.Record, _ online.WriteMode) (online.WriteResult, error) {
	for _, r := range records {
		s.set(string(r.Key.Entity), string(r.Value))
	}
	return online.WriteResult{Applied: len(records)}, nil
}

func (*told) Close() error { return nil }

func (s *told) set(entity, record string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[entity] = record
}

func cache(t *testing.T, s *told, o online.CacheOptions) online.Store {
	t.Helper()
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 20
	}
	if o.MaxAge == 0 {
		o.MaxAge = time.Minute
	}
	o.Log = slog.New(slog.DiscardHandler)
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	c, err := online.Cache(s, s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	<-s.started
	return c
}

// get reads records as one line: "a=1 b=- ".
func get(t *testing.T, c online.Store, entities string) (string, error) {
	t.Helper()
	names := strings.Fields(entities)
	keys, dst := make([]online.Key, len(names)), make([][]byte, len(names))
	for i, n := range names {
		keys[i] = key(n)
	}
	err := c.Get(t.Context(), keys, dst)
	var b strings.Builder
	for i, n := range names {
		text := "-"
		if dst[i] != nil {
			text = string(dst[i])
			dst[i][0] = '?' // the bytes are the caller's
		}
		fmt.Fprintf(&b, "%s=%s ", n, text)
	}
	return b.String(), err
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTold()
		metrics := prometheus.NewRegistry()
		c := cache(t, s, online.CacheOptions{MaxAge: 10 * time.Second, Metrics: metrics})
		want := func(what, entities, records string, keys int) {
			t.Helper()
			before := s.keys
			got, err := get(t, c, entities)
			if err != nil || got != records || s.keys-before != keys {
				t.Errorf("%s: %s (%v) with %d keys asked of the store, want %s with %d", what, got, err, s.keys-before, records, keys)
			}
		}
		s.set("a", "1")
		want("blind", "a b", "a=1 b=- ", 2)
		want("still blind", "a b", "a=1 b=- ", 2)
		s.cache.Watching()
		want("what was read blind is not trusted", "a b", "a=1 b=- ", 2)
		want("kept, absent ones too", "b a a", "b=- a=1 a=1 ", 0)
		want("one of three", "b c a", "b=- c=- a=1 ", 1)
		s.set("a", "2")
		want("not told yet", "a", "a=1 ", 0)
		s.cache.Forget(key("a"))
		want("told", "a b", "a=2 b=- ", 1)
		s.set("b", "1")
		time.Sleep(10*time.Second + 1)
		want("too old", "a b", "a=2 b=1 ", 2)
		want("and kept again", "a b", "a=2 b=1 ", 0)
		s.set("a", "3")
		s.cache.Blind(errors.New("away"))
		want("blind again", "a", "a=3 ", 1)
		s.set("a", "4")
		s.cache.Watching()
		want("seeing again", "a", "a=4 ", 1)
		if _, err := c.Write(t.Context(), []online.Record{{Key: key("a"), Value: []byte("5")}}, online.IfNewer); err != nil {
			t.Fatal(err)
		}
		want("written through the cache", "a", "a=5 ", 1)
		// A change that is told while the store answers: nobody knows which was first.
		s.cache.Forget(key("a"))
		s.before = func() {
			s.set("a", "6")
			s.cache.Forget(key("a"))
		}
		want("read before a change", "a", "a=5 ", 1)
		s.before = nil
		want("is not kept", "a", "a=6 ", 1)
		want("but this is", "a", "a=6 ", 0)
		s.err = fmt.Errorf("%w: away", online.ErrUnavailable)
		want("the store is away", "a", "a=6 ", 0)
		if _, err := get(t, c, "a z"); !errors.Is(err, s.err) {
			t.Errorf("%v", err)
		}
		if n, err := testutil.GatherAndCount(metrics); err != nil || n != 5 {
			t.Errorf("%d metrics, %v", n, err)
		}
	})
}

func TestCacheServesStaleRecordsMarkedSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTold()
		c := cache(t, s, online.CacheOptions{MaxAge: 10 * time.Second, MaxStale: time.Minute})
		s.cache.Watching()
		s.set("a", "1")
		read := time.Now()
		if got, err := get(t, c, "a b"); err != nil || got != "a=1 b=- " {
			t.Fatal(got, err)
		}
		stale := func(entities, records string, after time.Duration) {
			t.Helper()
			start := time.Now()
			got, err := get(t, c, entities)
			var e *online.StaleError
			if !errors.As(err, &e) || !errors.Is(err, online.ErrUnavailable) || got != records || !e.Since.Equal(read) || time.Since(start) != after {
				t.Errorf("%s after %v: %v, want %s after %v", got, time.Since(start), err, records, after)
			}
		}
		s.err = fmt.Errorf("%w: away", online.ErrUnavailable)
		s.cache.Blind(s.err)
		s.cache.Forget(key("a")) // what is known to have changed is stale, too
		time.Sleep(20 * time.Second)
		stale("a b", "a=1 b=- ", 0)
		if got, err := get(t, c, "a z"); !errors.Is(err, s.err) || errors.As(err, new(*online.StaleError)) {
			t.Errorf("with one that was never read: %s %v", got, err)
		}
		time.Sleep(2 * time.Second)
		s.takes = time.Hour // it does not even refuse
		stale("a", "a=1 ", 200*time.Millisecond)
		stale("a", "a=1 ", 0) // and is not asked again for a while
		time.Sleep(2 * time.Second)
		s.takes, s.err = 0, nil
		if got, err := get(t, c, "a b"); err != nil || got != "a=1 b=- " {
			t.Errorf("it is back: %s %v", got, err)
		}
		s.err = fmt.Errorf("%w: away", online.ErrUnavailable)
		time.Sleep(time.Minute + 1)
		if _, err := get(t, c, "a"); !errors.Is(err, s.err) || errors.As(err, new(*online.StaleError)) {
			t.Errorf("too old to be served: %v", err)
		}
		s.err = errors.New("a fault of another kind")
		time.Sleep(2 * time.Second)
		if _, err := get(t, c, "a"); !errors.Is(err, s.err) {
			t.Errorf("%v", err)
		}
	})
}

func TestCacheKeepsToItsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTold()
		metrics := prometheus.NewRegistry()
		const most = 256 << 10
		c := cache(t, s, online.CacheOptions{MaxBytes: most, Metrics: metrics})
		s.cache.Watching()
		for i := range 5000 {
			s.set(fmt.Sprint(i), strings.Repeat("x", 100+i%200))
			if _, err := get(t, c, fmt.Sprint(i, " hot")); err != nil {
				t.Fatal(err)
			}
		}
		s.set("huge", strings.Repeat("x", most))
		if _, err := get(t, c, "huge"); err != nil {
			t.Fatal(err)
		}
		got, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range got {
			if m.GetName() == "forebay_online_cache_bytes" {
				if b := m.Metric[0].Gauge.GetValue(); b > most || b < most/4 {
					t.Errorf("%v bytes of %d", b, most)
				}
			}
		}
		before := s.keys // one that is too large takes nobody's place
		if _, err := get(t, c, "4999 4998"); err != nil || s.keys != before {
			t.Error("what was read last is gone")
		}
		if _, err := get(t, c, "0 huge"); err != nil || s.keys != before+2 {
			t.Error("what was read first is there")
		}
	})
}

// TestCacheNeverGoesBack: with changes told at once, no reader sees a record older than one
// that had been told before it asked.
func TestCacheNeverGoesBack(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := newTold()
	c := cache(t, s, online.CacheOptions{MaxBytes: 16 << 10})
	s.cache.Watching()
	const entities = 50
	var told [entities]struct {
		sync.Mutex
		n int
	}
	stop := make(chan struct{})
	var writers, readers sync.WaitGroup
	writers.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 0))
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			e := rng.IntN(entities)
			name := fmt.Sprint("e", e)
			s.set(name, fmt.Sprint(n))
			s.cache.Forget(key(name))
			told[e].Lock()
			told[e].n = n
			told[e].Unlock()
			if n%1000 == 0 {
				s.cache.Blind(errors.New("for a moment"))
				s.cache.Watching()
			}
		}
	})
	for r := range 4 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(r)+1))
			for range 5000 {
				e := rng.IntN(entities)
				told[e].Lock()
				least := told[e].n
				told[e].Unlock()
				dst := make([][]byte, 1)
				if err := c.Get(context.Background(), []online.Key{key(fmt.Sprint("e", e))}, dst); err != nil {
					t.Error(err)
					return
				}
				var got int
				_, _ = fmt.Sscan(string(dst[0]), &got)
				if got < least {
					t.Errorf("e%d: %d after %d was told", e, got, least)
					return
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	writers.Wait()
}

func TestCacheOptions(t *testing.T) {
	for _, o := range []online.CacheOptions{{MaxAge: 1}, {MaxBytes: 1}, {MaxBytes: 1, MaxAge: 2, MaxStale: 1}} {
		if _, err := online.Cache(newTold(), newTold(), o); err == nil {
			t.Errorf("%+v", o)
		}
	}
}

func TestCacheConformance(t *testing.T) {
	onlinetest.Run(t, onlinetest.Backend{Open: func(t testing.TB, project string) online.Store {
		s, err := embedded.Open(embedded.Options{Dir: t.TempDir(), Project: project, NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		c, err := online.Cache(s, s, online.CacheOptions{MaxBytes: 1 << 20, MaxAge: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}})
}
