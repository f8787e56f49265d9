// Package onlinetest is the conformance suite that every online.Store passes.
package onlinetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forebay/forebay/online"
)

// Backend is one implementation under test.
type Backend struct {
	// Open opens a store for a project; the test closes it.
	Open func(t testing.TB, project string) online.Store
	// Shared says that a project opened twice gives two stores over the same data.
	Shared bool
	// Break makes every store of the backend unreachable until mend is called; nil
	// where that cannot be.
	Break func(t testing.TB) (mend func())
	// Address is what the message of an unreachable store names.
	Address string
	// Slow is the time after which a broken store must have answered. Default 10s.
	Slow time.Duration
}

// Run runs the suite.
func Run(t *testing.T, b Backend) {
	if b.Slow == 0 {
		b.Slow = 10 * time.Second
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Empty", testEmpty},
		{"GetKeepsOrder", testGetKeepsOrder},
		{"IfNewer", testIfNewer},
		{"ShortOrder", testShortOrder},
		{"Always", testAlways},
		{"SameKeyTwice", testSameKeyTwice},
		{"BinaryKeys", testBinaryKeys},
		{"BigBatch", testBigBatch},
		{"BigRecord", testBigRecord},
		{"Buffers", testBuffers},
		{"NotARecord", testNotARecord},
		{"ConcurrentWriters", testConcurrentWriters},
		{"Expiry", testExpiry},
		{"ExpiryOfStale", testExpiryOfStale},
		{"ExpiryRefused", testExpiryRefused},
		{"Resumes", testResumes},
		{"Live", testLive},
		{"Drop", testDrop},
		{"Usage", testUsage},
		{"Projects", testProjects},
		{"Random", testRandom},
		{"Context", testContext},
		{"Closed", testClosed},
		{"Unavailable", testUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			test.run(t, &suite{Backend: b, ctx: ctx, project: fmt.Sprintf("t%x", rand.Uint64())})
		})
	}
}

type suite struct {
	Backend
	ctx     context.Context
	project string
}

func (s *suite) open(t *testing.T) online.Store {
	t.Helper()
	store := s.Open(t, s.project)
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return store
}

func key(view string, generation int, entity string) online.Key {
	return online.Key{View: view, Generation: generation, Entity: []byte(entity)}
}

// record makes a record of an order: the bytes of order are the last of its 32.
func record(k online.Key, order uint64, payload string) online.Record {
	v := make([]byte, online.OrderStart+online.OrderLen, online.OrderStart+online.OrderLen+len(payload))
	v[0] = 1
	binary.BigEndian.PutUint64(v[len(v)-8:], order)
	return online.Record{Key: k, Value: append(v, payload...)}
}

func write(t *testing.T, s *suite, store online.Store, mode online.WriteMode, records ...online.Record) online.WriteResult {
	t.Helper()
	res, err := store.Write(s.ctx, records, mode)
	if err != nil {
		t.Fatalf("Write: %v", err)
	}
	if res.Applied+res.Stale != len(records) || res.Applied < 0 || res.Stale < 0 {
		t.Fatalf("Write of %d records: %+v", len(records), res)
	}
	return res
}

func get(t *testing.T, s *suite, store online.Store, keys ...online.Key) [][]byte {
	t.Helper()
	dst := make([][]byte, len(keys))
	for i := range dst {
		dst[i] = []byte("stale")
	}
	if err := store.Get(s.ctx, keys, dst); err != nil {
		t.Fatalf("Get: %v", err)
	}
	return dst
}

func check(t *testing.T, s *suite, store online.Store, k online.Key, want []byte) {
	t.Helper()
	got := get(t, s, store, k)[0]
	if !bytes.Equal(got, want) || (got == nil) != (want == nil) {
		t.Fatalf("record of %s@%d %.40q: %.80q, want %.80q", k.View, k.Generation, k.Entity, got, want)
	}
}

// testRandom compares a store with a map, over random operations.
func testRandom(t *testing.T, s *suite) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	store := s.open(t)
	model := map[string][]byte{}
	name := func(k online.Key) string { return fmt.Sprintf("%s@%d/%s", k.View, k.Generation, k.Entity) }
	randomKey := func() online.Key {
		return key([]string{"v", "w"}[rnd.IntN(2)], 1+rnd.IntN(2), []string{"", "}", "a", "b\x00", "c"}[rnd.IntN(5)])
	}
	for range 400 {
		switch op := rnd.IntN(20); {
		case op == 0:
			k := randomKey()
			if err := store.Drop(s.ctx, k.View, k.Generation); err != nil {
				t.Fatal(err)
			}
			for n := range model {
				if strings.HasPrefix(n, fmt.Sprintf("%s@%d/", k.View, k.Generation)) {
					delete(model, n)
				}
			}
		case op < 12:
			mode := online.IfNewer
			if rnd.IntN(4) == 0 {
				mode = online.Always
			}
			batch := map[string]online.Record{} // of each key the newest
			var records []online.Record
			for range rnd.IntN(8) {
				order := uint64(rnd.IntN(50))
				r := record(randomKey(), order, fmt.Sprint("order ", order))
				records = append(records, r)
				if old, ok := batch[name(r.Key)]; !ok || online.Newer(r.Value, old.Value) {
					batch[name(r.Key)] = r
				}
			}
			write(t, s, store, mode, records...)
			for n, r := range batch {
				if mode == online.Always || online.Newer(r.Value, model[n]) {
					model[n] = r.Value
				}
			}
		default:
			var keys []online.Key
			for range rnd.IntN(10) {
				keys = append(keys, randomKey())
			}
			for i, got := range get(t, s, store, keys...) {
				if want := model[name(keys[i])]; !bytes.Equal(got, want) || (got == nil) != (want == nil) {
					t.Fatalf("%s: %q, want %q", name(keys[i]), got, want)
				}
			}
		}
	}
}

// calls are all operations of a store that reach for its data.
func calls(store online.Store) map[string]func(context.Context) error {
	k := key("v", 1, "e")
	return map[string]func(context.Context) error{
		"Get": func(ctx context.Context) error { return store.Get(ctx, []online.Key{k}, make([][]byte, 1)) },
		"Write": func(ctx context.Context) error {
			_, err := store.Write(ctx, []online.Record{record(k, 1, "")}, online.IfNewer)
			return err
		},
		"Overwrite": func(ctx context.Context) error {
			_, err := store.Write(ctx, []online.Record{record(k, 1, "")}, online.Always)
			return err
		},
		"Resumes": func(ctx context.Context) error { _, err := store.Resumes(ctx, "v", 1); return err },
		"SetResumes": func(ctx context.Context) error {
			return store.SetResumes(ctx, []online.Resume{{View: "v", Generation: 1, Input: "i", Position: "p"}})
		},
		"Live":    func(ctx context.Context) error { _, err := store.Live(ctx); return err },
		"SetLive": func(ctx context.Context) error { return store.SetLive(ctx, "v", 1) },
		"Drop":    func(ctx context.Context) error { return store.Drop(ctx, "v", 1) },
		"Usage":   func(ctx context.Context) error { _, _, err := store.Usage(ctx, "v", 1); return err },
		"Ping":    store.Ping,
	}
}

func testContext(t *testing.T, s *suite) {
	store := s.open(t)
	cancelled, cancel := context.WithCancel(s.ctx)
	cancel()
	late, cancel := context.WithDeadline(s.ctx, time.Now().Add(-time.Second))
	defer cancel()
	for name, call := range calls(store) {
		if err := call(cancelled); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", name, err)
		}
		if err := call(late); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, online.ErrUnavailable) {
			t.Errorf("%s after its deadline: %v", name, err)
		}
		if err := call(s.ctx); err != nil {
			t.Errorf("%s after these: %v", name, err)
		}
	}
}

func testClosed(t *testing.T, s *suite) {
	store := s.open(t)
	k := key("v", 1, "e")
	write(t, s, store, online.IfNewer, record(k, 1, ""))
	// Close in the middle of everything: each call succeeds or says that the store is closed.
	var wg sync.WaitGroup
	started := make(chan struct{}, 100)
	for range 4 {
		for name, call := range calls(store) {
			wg.Go(func() {
				started <- struct{}{}
				for range 1000 {
					err := call(s.ctx)
					if errors.Is(err, online.ErrClosed) {
						return
					}
					if err != nil {
						t.Errorf("%s while the store is closed: %v", name, err)
						return
					}
				}
			})
		}
	}
	for range 10 {
		<-started
	}
	for range 2 {
		if err := store.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	wg.Wait()
	for name, call := range calls(store) {
		if err := call(s.ctx); !errors.Is(err, online.ErrClosed) {
			t.Errorf("%s of a closed store: %v", name, err)
		}
	}
}

func testUnavailable(t *testing.T, s *suite) {
	if s.Break == nil {
		t.Skip("this store cannot be out of reach")
	}
	store := s.open(t)
	write(t, s, store, online.IfNewer, record(key("v", 1, "e"), 1, ""))
	mend := s.Break(t)
	for name, call := range calls(store) {
		ctx, cancel := context.WithTimeout(s.ctx, 300*time.Millisecond)
		start := time.Now()
		err := call(ctx)
		if !errors.Is(err, online.ErrUnavailable) {
			t.Errorf("%s of a store out of reach: %v", name, err)
		} else if !strings.Contains(err.Error(), s.Address) {
			t.Errorf("%s: %q does not name %s", name, err, s.Address)
		}
		if took := time.Since(start); took > s.Slow {
			t.Errorf("%s of a store out of reach took %v with 300ms to go", name, took)
		}
		cancel()
	}
	mend()
	for ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second); ; {
		err := store.Ping(ctx)
		if err == nil {
			cancel()
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("Ping, after the store is back: %v", err)
		}
	}
	for name, call := range calls(store) {
		if err := call(s.ctx); err != nil {
			t.Errorf("%s, after the store is back: %v", name, err)
		}
	}
}
