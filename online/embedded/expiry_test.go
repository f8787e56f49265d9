package embedded

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/forebay/forebay/online"
)

// clock is a wall clock that a test moves.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(d.Milliseconds()) }
func expire(r online.Record, d time.Duration) online.Record {
	r.TTL = d
	return r
}

// rows counts what lies in the database, whether it has expired or not.
func rows(t *testing.T, s *Store) (n int) {
	t.Helper()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{recordSpace}, UpperBound: []byte{recordSpace + 1}})
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

func present(t *testing.T, s *Store, keys ...online.Key) (n int) {
	t.Helper()
	dst := make([][]byte, len(keys))
	if err := s.Get(t.Context(), keys, dst); err != nil {
		t.Fatal(err)
	}
	for _, rec := range dst {
		if rec != nil {
			n++
		}
	}
	return n
}

// TestExpiry: records go at their instant, across restarts, and sweeps remove
// them and nothing else.
func TestExpiry(t *testing.T) {
	c := &clock{}
	c.at.Store(1_700_000_000_000)
	dir := t.TempDir()
	reopen := func() *Store { return open(t, Options{Dir: dir, Project: "p", now: c.now}) }
	s := reopen()
	const each = 2*sweepStep + 10
	var records []online.Record
	var keys []online.Key
	for i := range each {
		lasting, leaving := rec(fmt.Sprintf("lasting %d", i), 1, "payload"), expire(rec(fmt.Sprintf("leaving %d", i), 1, "payload"), time.Hour)
		leaving.Key.View = "windows"
		records = append(records, lasting, leaving)
		keys = append(keys, lasting.Key, leaving.Key)
	}
	if res, err := s.Write(t.Context(), records, online.IfNewer); err != nil || res.Applied != 2*each {
		t.Fatalf("%+v, %v", res, err)
	}
	c.advance(time.Hour - time.Millisecond)
	if n := present(t, s, keys...); n != 2*each {
		t.Errorf("a millisecond before: %d records, want %d", n, 2*each)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.advance(time.Millisecond)
	s = reopen()
	if n := present(t, s, keys...); n != each {
		t.Errorf("at its instant, after a restart: %d records, want %d", n, each)
	}
	if n, _, err := s.Usage(t.Context(), "windows", 1); err != nil || n != 0 {
		t.Errorf("Usage: %d records, %v", n, err)
	}
	// One of them is written again before the sweep comes.
	again := expire(records[1], time.Hour)
	if res, err := s.Write(t.Context(), []online.Record{again}, online.IfNewer); err != nil || res.Applied != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if _, err := s.sweep(t.Context()); err != nil { // the one that starts with the store may have done it
		t.Fatal(err)
	}
	if n := rows(t, s); n != each+1 {
		t.Errorf("%d records in the database, want %d", n, each+1)
	}
	if n := present(t, s, again.Key); n != 1 {
		t.Error("the sweep removed a record that was written again")
	}
	if n, err := s.sweep(t.Context()); err != nil || n != 0 {
		t.Errorf("a sweep with nothing to do removed %d, %v", n, err)
	}
	// A generation that is dropped is swept no more; filled again, it is.
	if err := s.Drop(t.Context(), "windows", 1); err != nil {
		t.Fatal(err)
	}
	if res, err := s.Write(t.Context(), []online.Record{again}, online.IfNewer); err != nil || res.Applied != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	c.advance(2 * time.Hour)
	if n, err := s.sweep(t.Context()); err != nil || n != 1 {
		t.Errorf("a sweep of a generation that was dropped and filled again removed %d, %v", n, err)
	}
}

// TestSweepAmongWriters: records that expire and are written again all the time
// are never lost to a sweep.
func TestSweepAmongWriters(t *testing.T) {
	c := &clock{}
	c.at.Store(1_700_000_000_000)
	s := open(t, Options{Dir: t.TempDir(), Project: "p", NoSync: true, now: c.now})
	done := make(chan error, 1)
	go func() {
		for i := range 500 {
			c.advance(time.Minute) // everything that is there has expired
			r := expire(rec("e", byte(i%250+1), ""), time.Minute)
			res, err := s.Write(t.Context(), []online.Record{r}, online.IfNewer)
			if err == nil && res.Applied != 1 {
				err = fmt.Errorf("write %d: %+v", i, res)
			}
			dst := make([][]byte, 1)
			if err == nil {
				err = s.Get(t.Context(), []online.Key{r.Key}, dst)
			}
			if err == nil && dst[0] == nil {
				err = fmt.Errorf("write %d is gone at once", i)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			if _, err := s.sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}
