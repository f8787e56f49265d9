package onlinetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/forebay/forebay/online"
)

// soon is a TTL that has passed before a test gives up; long is one that has not.
const (
	soon = 30 * time.Millisecond
	long = time.Hour
)

func expiring(r online.Record, ttl time.Duration) online.Record {
	r.TTL = ttl
	return r
}

// gone reads a record until it is absent.
func gone(t *testing.T, s *suite, store online.Store, k online.Key) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for get(t, s, store, k)[0] != nil {
		select {
		case <-s.ctx.Done():
			t.Fatalf("the record of %q is still there", k.Entity)
		case <-tick.C:
		}
	}
}

func testExpiry(t *testing.T, s *suite) {
	for name, mode := range map[string]online.WriteMode{"if-newer": online.IfNewer, "always": online.Always} {
		store := s.open(t)
		k := func(entity string) online.Key { return key("v", 1, name+entity) }
		// In one write: some that go soon, some later, one never.
		lasting, late := record(k("never"), 1, "never"), expiring(record(k("late"), 1, "late"), long)
		write(t, s, store, mode, expiring(record(k("soon"), 5, "soon"), soon), lasting, late, expiring(record(k("nanosecond"), 5, ""), 1))
		gone(t, s, store, k("soon"))
		gone(t, s, store, k("nanosecond"))
		check(t, s, store, lasting.Key, lasting.Value)
		check(t, s, store, late.Key, late.Value)

		// One that is gone is absent for writers too, also for an older record.
		older := record(k("soon"), 1, "older")
		if res := write(t, s, store, online.IfNewer, older); res.Applied != 1 {
			t.Errorf("%s: a record after one that expired: %+v", name, res)
		}
		check(t, s, store, older.Key, older.Value)
		if n, _, err := store.Usage(s.ctx, "v", 1); err != nil || n < 3 {
			t.Errorf("%s: Usage: %d records, %v", name, n, err)
		}
		// A newer record brings its own TTL: none, or another.
		write(t, s, store, mode, expiring(record(k("renewed"), 1, "a"), soon), expiring(record(k("shortened"), 1, "a"), long), expiring(record(k("marker"), 1, ""), soon))
		renewed := record(k("renewed"), 2, "b")
		write(t, s, store, mode, renewed, expiring(record(k("shortened"), 2, "b"), soon))
		gone(t, s, store, k("shortened"))
		gone(t, s, store, k("marker"))
		check(t, s, store, renewed.Key, renewed.Value)
	}
}

// testExpiryOfStale: a write that is refused leaves the time as it is.
func testExpiryOfStale(t *testing.T, s *suite) {
	store := s.open(t)
	lasting := record(key("v", 1, "lasting"), 2, "lasting")
	write(t, s, store, online.IfNewer, lasting, expiring(record(key("v", 1, "leaving"), 2, "leaving"), 500*time.Millisecond))
	res := write(t, s, store, online.IfNewer, expiring(record(lasting.Key, 1, ""), soon), expiring(record(lasting.Key, 2, ""), soon),
		expiring(record(key("v", 1, "marker"), 1, ""), soon))
	if res.Applied != 1 || res.Stale != 2 {
		t.Errorf("%+v, want 1 applied and 2 stale", res)
	}
	gone(t, s, store, key("v", 1, "marker"))
	if res := write(t, s, store, online.IfNewer, record(key("v", 1, "leaving"), 1, "")); res.Applied == 0 { // else it had gone already, on a slow machine
		gone(t, s, store, key("v", 1, "leaving"))
	}
	check(t, s, store, lasting.Key, lasting.Value)
}

// testExpiryRefused: a TTL that cannot be is the caller's mistake.
func testExpiryRefused(t *testing.T, s *suite) {
	store := s.open(t)
	for _, ttl := range []time.Duration{-1, -time.Hour, online.MaxTTL + 1} {
		for _, mode := range []online.WriteMode{online.IfNewer, online.Always} {
			if _, err := store.Write(context.WithoutCancel(s.ctx), []online.Record{expiring(record(key("v", 1, "e"), 1, ""), ttl)}, mode); !errors.Is(err, online.ErrRecord) {
				t.Errorf("%v: %v, want ErrRecord", ttl, err)
			}
		}
	}
	check(t, s, store, key("v", 1, "e"), nil)
	longest := expiring(record(key("v", 1, "e"), 1, ""), online.MaxTTL)
	write(t, s, store, online.IfNewer, longest)
	check(t, s, store, longest.Key, longest.Value)
}
