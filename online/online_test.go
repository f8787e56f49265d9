package online_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/embedded"
	"github.com/forebay/forebay/online/onlinetest"
)

// TestConformance: the decorators keep the contract.
func TestConformance(t *testing.T) {
	onlinetest.Run(t, onlinetest.Backend{Open: func(t testing.TB, project string) online.Store {
		s, err := embedded.Open(embedded.Options{Dir: t.TempDir(), Project: project, NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		i, err := online.Instrument(online.WithDeadline(s, time.Minute), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		return i
	}})
}

func record(entity string, order byte) online.Record {
	v := make([]byte, online.OrderStart+online.OrderLen)
	v[0], v[online.OrderLen] = 1, order
	return online.Record{Key: online.Key{View: "v", Generation: 1, Entity: []byte(entity)}, Value: v}
}

// broken is a store that fails, or that takes its time.
type broken struct {
	online.Store
	err   error
	delay time.Duration
}

func (b broken) Get(ctx context.Context, _ []online.Key, _ [][]byte) error {
	select {
	case <-time.After(b.delay):
		return b.err
	case <-ctx.Done():
		return online.Unavailable("somewhere", "get", ctx.Err())
	}
}

func TestInstrument(t *testing.T) {
	s, err := embedded.Open(embedded.Options{Dir: t.TempDir(), Project: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := prometheus.NewRegistry()
	i, err := online.Instrument(s, r)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := i.Write(t.Context(), []online.Record{record("a", 1), record("b", 1)}, online.IfNewer); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.Get(t.Context(), []online.Key{record("a", 1).Key, record("c", 1).Key}, make([][]byte, 2)); err != nil {
		t.Fatal(err)
	}
	const want = `# HELP forebay_online_store_records_total Records read and written in the online store.
# TYPE forebay_online_store_records_total counter
forebay_online_store_records_total{op="absent"} 1
forebay_online_store_records_total{op="applied"} 2
forebay_online_store_records_total{op="found"} 1
forebay_online_store_records_total{op="stale"} 2
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "forebay_online_store_records_total"); err != nil {
		t.Error(err)
	}
	if _, err := online.Instrument(s, r); err == nil {
		t.Error("registered twice")
	}
	for why, err := range map[string]error{"full": online.ErrFull, "unavailable": online.ErrUnavailable, "closed": online.ErrClosed, "canceled": context.Canceled, "other": errors.New("x"),
		"deadline": online.Unavailable("a", "b", context.DeadlineExceeded)} {
		r := prometheus.NewRegistry()
		i, _ := online.Instrument(broken{err: err}, r)
		_ = i.Get(t.Context(), nil, nil)
		want := fmt.Sprintf("# HELP forebay_online_store_errors_total Calls of the online store that failed.\n# TYPE forebay_online_store_errors_total counter\nforebay_online_store_errors_total{op=\"get\",why=%q} 1\n", why)
		if err := testutil.GatherAndCompare(r, strings.NewReader(want), "forebay_online_store_errors_total"); err != nil {
			t.Error(err)
		}
	}
}

func TestWithDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			takes, limit, caller, want time.Duration
			late                       bool
		}{
			{takes: time.Second, limit: 50 * time.Millisecond, want: 50 * time.Millisecond, late: true},
			{takes: time.Second, limit: 50 * time.Millisecond, caller: 10 * time.Millisecond, want: 10 * time.Millisecond, late: true},
			{takes: time.Millisecond, limit: 50 * time.Millisecond, caller: time.Hour, want: time.Millisecond},
		} {
			ctx := t.Context()
			if test.caller > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, test.caller)
				defer cancel()
			}
			start := time.Now()
			err := online.WithDeadline(broken{delay: test.takes}, test.limit).Get(ctx, nil, nil)
			if took := time.Since(start); took != test.want || errors.Is(err, context.DeadlineExceeded) != test.late || errors.Is(err, online.ErrUnavailable) != test.late {
				t.Errorf("%+v: took %v: %v", test, took, err)
			}
		}
	})
}

func TestRecords(t *testing.T) {
	if online.Order([]byte("short")) != nil || len(online.Order(record("a", 1).Value)) != online.OrderLen {
		t.Error("Order")
	}
	if !online.Newer(record("a", 200).Value, record("a", 100).Value) || online.Newer(record("a", 1).Value, record("a", 1).Value) || !online.Newer(record("a", 0).Value, nil) {
		t.Error("Newer")
	}
	some := []online.Record{record("b", 1), record("a", 1), record("b", 3), record("b", 2)}
	got := online.NewestOfEach(some)
	if len(got) != 2 || string(got[0].Key.Entity) != "a" || !bytes.Equal(got[1].Value, some[2].Value) {
		t.Errorf("NewestOfEach: %v", got)
	}
	if got := online.NewestOfEach(some[:2]); &got[0] != &some[0] {
		t.Error("NewestOfEach of different keys makes others of them")
	}
}

func TestUnavailable(t *testing.T) {
	cause := errors.New("cause")
	for _, test := range []struct {
		err  error
		is   []error
		isnt error
	}{
		{cause, []error{online.ErrUnavailable, cause}, context.DeadlineExceeded},
		{context.DeadlineExceeded, []error{online.ErrUnavailable, context.DeadlineExceeded}, context.Canceled},
		{context.Canceled, []error{context.Canceled}, online.ErrUnavailable},
	} {
		err := online.Unavailable("10.0.0.1:6379", "get records", test.err)
		for _, target := range test.is {
			if !errors.Is(err, target) {
				t.Errorf("%v is not %v", err, target)
			}
		}
		if errors.Is(err, test.isnt) || !strings.Contains(err.Error(), "10.0.0.1:6379: get records") {
			t.Errorf("%v", err)
		}
	}
}
