package materialize_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/materializetest"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

func ptr[T any](v T) *T { return &v }

// history puts n random events into the log of the project's source.
func history(t testing.TB, s *materializetest.Store, p *registry.Project, rng *rand.Rand, from, n int) []materializetest.Event {
	t.Helper()
	src := &p.Sources[0]
	rows := feature.NewBatch(src.Fields(), n)
	var events []materializetest.Event
	for i := range n {
		e := materializetest.Event{Time: int64(rng.IntN(50)) * 1e6, Ingested: int64(from+i) * 1000, Offset: int64(from + i), User: ptr(fmt.Sprintf("u%d", rng.IntN(20))), Amount: ptr(int64(rng.IntN(40)))}
		if rng.IntN(5) > 0 {
			e.Shop = ptr(int64(rng.IntN(4)))
		}
		events = append(events, e)
		for _, c := range rows.Columns {
			switch {
			case c.Name == "time":
				c.Append(feature.OfTimestamp(e.Time))
			case c.Name == "user":
				c.Append(feature.OfString(*e.User))
			case c.Name == "amount":
				c.Append(feature.OfInt64(*e.Amount))
			case c.Name == "shop" && e.Shop != nil:
				c.Append(feature.OfInt64(*e.Shop))
			default:
				c.AppendNull()
			}
		}
		rows.Versions = append(rows.Versions, e.Version())
		rows.Rows++
	}
	if err := s.Append(context.Background(), src, []*feature.Batch{rows}, map[int32]materialize.OffsetRange{0: {From: int64(from), To: int64(from + n)}}); err != nil {
		t.Fatal(err)
	}
	return events
}

func diff(t testing.TB, s *materializetest.Store, p *registry.Project, events []materializetest.Event) {
	t.Helper()
	if d := s.Differences(p, events); len(d) > 0 {
		t.Fatalf("%d differences:\n%s", len(d), strings.Join(d[:min(len(d), 10)], "\n"))
	}
}

// TestBatchEqualsTheOracle brings views up to date in several runs, killed at random calls.
func TestBatchEqualsTheOracle(t *testing.T) {
	defer goleak.VerifyNone(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 60 {
		p, s := materializetest.Project("topic", "json"), materializetest.NewStore()
		var events []materializetest.Event
		for range 1 + rng.IntN(3) {
			events = append(events, history(t, s, p, rng, len(events), rng.IntN(200))...)
			kill := rng.Int64N(30)
			var calls atomic.Int64
			killed := errors.New("killed")
			s.Fault = func(context.Context, string, bool) error {
				if calls.Add(1) == kill {
					return killed
				}
				return nil
			}
			b := materialize.Batch{Tables: s, Online: s, Log: s, Rows: 1 + rng.IntN(20), Writes: 1}
			for _, v := range materializetest.Generations(p) {
				if _, err := b.Run(context.Background(), materialize.BatchRequest{View: v}); err != nil && !errors.Is(err, killed) {
					t.Fatal(err)
				}
			}
			s.Fault = nil
		}
		b := materialize.Batch{Tables: s, Online: s, Log: s, Rows: 1 + rng.IntN(20), Writes: 1 + rng.IntN(4)}
		for _, v := range materializetest.Generations(p) {
			if _, err := b.Run(context.Background(), materialize.BatchRequest{View: v}); err != nil {
				t.Fatal(err)
			}
			// All is applied, so once more changes nothing.
			r, err := b.Run(context.Background(), materialize.BatchRequest{View: v})
			if err != nil || r.Applied != 0 || r.Rows != 0 || r.WentLive {
				t.Fatalf("a second run: %+v, %v", r, err)
			}
			if live, _ := s.Live(context.Background()); live[v.View.Name] != 1 {
				t.Fatalf("%s is not live", v)
			}
			resumes, _ := s.Resumes(context.Background(), v)
			if len(events) > 0 && resumes["topic/0"] != fmt.Sprint(len(events)) {
				t.Fatalf("resume points %v, want the log's end, %d", resumes, len(events))
			}
		}
		diff(t, s, p, events)
	}
}

func TestBatchRangeMovesNothing(t *testing.T) {
	p, s := materializetest.Project("topic", "json"), materializetest.NewStore()
	events := history(t, s, p, rand.New(rand.NewPCG(1, 2)), 0, 300)
	v := materializetest.Generations(p)[1]
	b := materialize.Batch{Tables: s, Online: s, Log: s}
	r, err := b.Run(context.Background(), materialize.BatchRequest{View: v, From: ptr(int64(10e6)), To: ptr(int64(20e6))})
	if err != nil {
		t.Fatal(err)
	}
	var want int64
	for _, e := range events {
		if e.Time >= 10e6 && e.Time <= 20e6 {
			want++
		}
	}
	if r.Rows != want || r.WentLive {
		t.Errorf("%+v; want %d rows, and nothing live", r, want)
	}
	if resumes, _ := s.Resumes(context.Background(), v); len(resumes) != 0 {
		t.Errorf("resume points %v were stored", resumes)
	}
	for _, rec := range s.Records(v) {
		if rec.Version.EventTime < 10e6 || rec.Version.EventTime > 20e6 {
			t.Errorf("%s is of another time, %d", rec.Values, rec.Version.EventTime)
		}
	}
}

func TestBatchOverwriteReplacesNewerRecords(t *testing.T) {
	p, s := materializetest.Project("topic", "json"), materializetest.NewStore()
	events := history(t, s, p, rand.New(rand.NewPCG(3, 4)), 0, 300)
	v := materializetest.Generations(p)[1]
	wrong := feature.NewBatch(v.Fields(), 1)
	wrong.Columns[0].Append(feature.OfString("u1"))
	wrong.Columns[1].Append(feature.OfInt64(-1))
	wrong.Columns[2].AppendNull()
	wrong.Versions, wrong.Rows = []feature.Version{{EventTime: 1 << 60}}, 1
	if _, _, err := s.Write(context.Background(), v, wrong, false); err != nil {
		t.Fatal(err)
	}
	b := materialize.Batch{Tables: s, Online: s, Log: s, Rows: 3}
	for _, view := range materializetest.Generations(p) {
		if _, err := b.Run(context.Background(), materialize.BatchRequest{View: view}); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.Differences(p, events)) == 0 {
		t.Fatal("the wrong record went by itself")
	}
	if _, err := b.Run(context.Background(), materialize.BatchRequest{View: v, Overwrite: true}); err != nil {
		t.Fatal(err)
	}
	diff(t, s, p, events)
}

func TestBatchWaitsForAStoreButNotForEver(t *testing.T) {
	defer goleak.VerifyNone(t)
	p, s := materializetest.Project("topic", "json"), materializetest.NewStore()
	events := history(t, s, p, rand.New(rand.NewPCG(5, 6)), 0, 300)
	away := fmt.Errorf("redis at 127.0.0.1:6379: %w", materialize.ErrUnavailable)
	rng := rand.New(rand.NewPCG(9, 9))
	var mu sync.Mutex
	s.Fault = func(context.Context, string, bool) error {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(10) == 0 {
			return away
		}
		return nil
	}
	b := materialize.Batch{Tables: s, Online: s, Log: s, Rows: 50, Writes: 1, Retry: materialize.Backoff{Min: time.Microsecond, Max: time.Millisecond, Limit: 10 * time.Second}}
	for _, v := range materializetest.Generations(p) {
		if _, err := b.Run(context.Background(), materialize.BatchRequest{View: v}); err != nil {
			t.Fatal(err)
		}
	}
	diff(t, s, p, events)

	s.Fault = func(context.Context, string, bool) error { return away }
	b.Retry.Limit = 5 * time.Millisecond
	_, err := b.Run(context.Background(), materialize.BatchRequest{View: materializetest.Generations(p)[0]})
	if !errors.Is(err, materialize.ErrUnavailable) || !strings.Contains(err.Error(), "127.0.0.1:6379") || strings.Count(err.Error(), "gave up") != 1 {
		t.Fatalf("got %v", err)
	}
}

func TestBatchStopsAtAnErrorThatDoesNotPass(t *testing.T) {
	defer goleak.VerifyNone(t)
	p, s := materializetest.Project("topic", "json"), materializetest.NewStore()
	history(t, s, p, rand.New(rand.NewPCG(7, 8)), 0, 3000)
	full := errors.New("disk full")
	s.Fault = func(_ context.Context, call string, _ bool) error {
		if call == "Write" {
			return full
		}
		return nil
	}
	b := materialize.Batch{Tables: s, Online: s, Rows: 1}
	v := materializetest.Generations(p)[0]
	if _, err := b.Run(context.Background(), materialize.BatchRequest{View: v}); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.Fault = func(_ context.Context, call string, _ bool) error {
		if call == "Write" {
			cancel()
		}
		return nil
	}
	if _, err := b.Run(ctx, materialize.BatchRequest{View: v}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if resumes, _ := s.Resumes(context.Background(), v); len(resumes) != 0 {
		t.Fatalf("resume points %v of a run that broke off", resumes)
	}
}
