package online_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forebay/forebay/online"
)

// slowStore answers each Get after a while, with the entity as the record.
type slowStore struct {
	online.Store
	mu    sync.Mutex
	trips [][]online.Key
	fail  error
}

func (s *slowStore) Get(ctx context.Context, keys []online.Key, dst [][]byte) error {
	s.mu.Lock()
	s.trips = append(s.trips, keys)
	fail := s.fail
	s.mu.Unlock()
	select {
	case <-time.After(time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	for i, k := range keys {
		if dst[i] = append([]byte("record of "), k.Entity...); string(k.Entity) == "none" {
			dst[i] = nil
		}
	}
	return fail
}

func key(entity string) online.Key {
	return online.Key{View: "v", Generation: 1, Entity: []byte(entity)}
}

func TestMergedGetsShareRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowStore{}
		m := online.Merge(slow)
		const callers = 50
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				own := []online.Key{key(fmt.Sprint(i)), key("none"), key(fmt.Sprint(-i))}
				dst := make([][]byte, 3)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := m.Get(ctx, own, dst); err != nil {
					t.Error(err)
				}
				for j := range own { // its memory is the caller's again
					own[j].Entity[0] = '?'
				}
				if got, want := fmt.Sprintf("%s", dst), fmt.Sprintf("[record of %d  record of %d]", i, -i); got != want || dst[1] != nil {
					t.Errorf("caller %d: %s, want %s", i, got, want)
				}
			})
		}
		wg.Wait()
		// The first goes at once; all others together, when they have waited long enough for it.
		if n := len(slow.trips); n != 2 {
			t.Errorf("%d round trips for %d callers", n, callers)
		}
		// Many keys go by themselves, and an empty Get nowhere wrong.
		many := make([]online.Key, 100)
		if err := m.Get(t.Context(), many, make([][]byte, 100)); err != nil || len(slow.trips) != 3 {
			t.Errorf("%v, %d round trips", err, len(slow.trips))
		}
	})
}

// TestMergedGetsGoBesideSlowOnes: a round trip that does not end holds up those only that are in it, until
// there are too many such.
func TestMergedGetsGoBesideSlowOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowStore{}
		m := online.Merge(slow)
		start := time.Now()
		var wg sync.WaitGroup
		var took [6]time.Duration
		for i := range took {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Microsecond)
				if i > 0 {
					time.Sleep(time.Duration(i-1) * 250 * time.Microsecond)
				}
				if err := m.Get(t.Context(), []online.Key{key("a")}, make([][]byte, 1)); err != nil {
					t.Error(err)
				}
				took[i] = time.Since(start)
			})
		}
		wg.Wait()
		// Each but the first waits 250us and goes then, in a lane of its own; the fifth for the first's to end.
		want := [6]time.Duration{1000, 1260, 1520, 1780, 2000, 2260}
		for i := range want {
			if want[i] *= time.Microsecond; took[i] != want[i] {
				t.Errorf("the %dth was answered after %v, not %v", i+1, took[i], want[i])
			}
		}
	})
}

func TestMergedGetsKeepTheirDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowStore{}
		m := online.Merge(slow)
		var wg sync.WaitGroup
		get := func(within time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			return m.Get(ctx, []online.Key{key("a")}, make([][]byte, 1))
		}
		for range 2 {
			wg.Go(func() { _ = get(time.Second) })
		}
		synctest.Wait()
		start := time.Now()
		wg.Go(func() {
			if err := get(100 * time.Microsecond); !errors.Is(err, online.ErrUnavailable) || time.Since(start) != 100*time.Microsecond {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
		})
		wg.Go(func() { // shares the round trip of one that gave up
			if err := get(time.Second); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		slow.fail = errors.New("away")
		for range 5 {
			wg.Go(func() {
				if err := get(time.Second); !errors.Is(err, slow.fail) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		slow.fail = nil // a failure leaves no lane taken
		if err := get(time.Second); err != nil {
			t.Error(err)
		}
	})
}
