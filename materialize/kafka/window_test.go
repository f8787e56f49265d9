package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/kafka"
	"github.com/forebay/forebay/materialize/materializetest"
)

// windowWorld is a world with windows: user_windows reads the topic itself, which is keyed by
// user; shop_windows reads an internal one.
type windowWorld struct {
	*world
	clock int64 // event time, which goes on
}

func newWindowWorld(t *testing.T, parts int) *windowWorld {
	t.Helper()
	w := &windowWorld{world: newWorld(t, parts), clock: 1_700_000_000_000_000}
	p, err := materializetest.WithWindows(w.topic, "json", "user")
	if err != nil {
		t.Fatal(err)
	}
	w.project = p
	t.Cleanup(w.dropInternal)
	return w
}

func (w *windowWorld) dropInternal() {
	c := w.cluster()
	defer c.Close()
	for _, v := range materializetest.Generations(w.project) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_ = c.DropRepartitioned(ctx, w.group+"-events."+v.View.Name+".1", w.group+"-events."+v.View.Name+".1.repartition") // there may be none
		cancel()
	}
}

// windowEvent is a random event: mostly of now, also late, also of the very same time as another.
func (w *windowWorld) windowEvent() materializetest.Event {
	r := w.rng
	w.clock += int64(r.IntN(20)) * 1_000_000
	e := materializetest.Event{Time: w.clock}
	switch r.IntN(8) {
	case 0:
		e.Time -= r.Int64N(2 * 3600e6)
	case 1:
		e.Time -= r.Int64N(10 * 24 * 3600e6) // some older than every window
	case 2:
		w.clock += r.Int64N(3600e6)
	case 3:
		e.Time -= e.Time % 60e6 // at the edge of a hop
	}
	if r.IntN(30) > 0 {
		e.User = ptr(fmt.Sprintf("u%d", r.IntN(12)))
	}
	if r.IntN(30) > 0 {
		e.Shop = ptr(int64(r.IntN(6)))
	}
	if r.IntN(5) > 0 {
		e.Amount = ptr(int64(r.IntN(40)))
		if r.IntN(40) == 0 {
			e.Amount = ptr([]int64{math.MaxInt64, math.MinInt64, math.MaxInt64 - 1, -1}[r.IntN(4)])
		}
	}
	if r.IntN(3) > 0 {
		e.Note = ptr(fmt.Sprintf("n%d", r.IntN(1000)))
	}
	return e
}

// produceWindows puts n events on the topic under their keys, some of them twice.
func (w *windowWorld) produceWindows(n int) {
	w.t.Helper()
	var records []*kgo.Record
	var events []materializetest.Event
	for range n {
		e := w.windowEvent()
		for range 1 + w.rng.IntN(20)/19 {
			at := time.UnixMilli(1_700_000_100_000 + int64(w.rng.IntN(5)))
			user := ""
			if e.User != nil {
				user = *e.User
			}
			h := fnv.New32a()
			_, _ = h.Write([]byte(user))
			e.Partition, e.Ingested = int32(h.Sum32()%uint32(w.parts)), at.UnixMicro()
			records = append(records, &kgo.Record{Topic: w.topic, Partition: e.Partition, Value: []byte(e.JSON()), Timestamp: at})
			events = append(events, e)
		}
	}
	w.brokers.Produce(w.t, records...)
	for i := range events {
		events[i].Offset = records[i].Offset
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, events...)
}

func (w *windowWorld) differences() []string {
	return append(w.store.Differences(w.project, w.events), w.store.WindowDifferences(w.project, w.events)...)
}

func (w *windowWorld) checkWindows() {
	w.t.Helper()
	if d := w.differences(); len(d) > 0 {
		w.t.Fatalf("%d differences after %d events:\n%s", len(d), len(w.events), strings.Join(d[:min(len(d), 6)], "\n"))
	}
}

func logged(t *testing.T, level slog.Level) func(*materialize.StreamConfig) {
	return func(cfg *materialize.StreamConfig) {
		cfg.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: level}))
	}
}

func TestWindowsEqualTheOracle(t *testing.T) {
	ignoreKafka(t)
	w := newWindowWorld(t, 3)
	for round := range 3 {
		w.produceWindows(500)
		s, err := w.run(context.Background(), func(cfg *materialize.StreamConfig) {
			untilCaughtUp(cfg)
			if round > 0 {
				cfg.States = 1 << uint(10+w.rng.IntN(10)) // states go and come back
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		w.checkWindows()
		for _, v := range s.Stats()[0].Views {
			if strings.HasSuffix(v.View, "_windows") && (v.Epoch == 0 || v.Applied == 0) {
				t.Errorf("stats of %s: %+v", v.View, v)
			}
		}
	}
	live, _ := w.store.Live(context.Background())
	if live["user_windows"] != 1 || live["shop_windows"] != 1 {
		t.Errorf("live generations %v", live)
	}
}

// TestWindowsSurviveFaultsAtEverySeam is TestStreamSurvivesFaultsAtEverySeam with windows, whose
// states are built anew now and then, and with failovers that lose writes.
func TestWindowsSurviveFaultsAtEverySeam(t *testing.T) {
	ignoreKafka(t)
	w := newWindowWorld(t, 3)
	dead := errors.New("killed")
	rounds := 12
	if testing.Short() {
		rounds = 5
	}
	for round := range rounds {
		w.produceWindows(120)
		var calls atomic.Int64
		kill, outages := 1+w.rng.Int64N(90), rand.New(rand.NewPCG(w.rng.Uint64(), 1))
		failover := w.rng.Int64N(150)
		var mu sync.Mutex
		w.store.Fault = func(_ context.Context, call string, after bool) error {
			n := calls.Add(1)
			if n >= kill {
				return dead // and every later call: nothing of this process takes effect any more
			}
			if n == failover {
				w.store.Failover(outages.IntN(12))
			}
			mu.Lock()
			defer mu.Unlock()
			if outages.IntN(10) == 0 {
				return fmt.Errorf("memory at nowhere: %w", materialize.ErrUnavailable)
			}
			return nil
		}
		if _, err := w.run(context.Background(), func(cfg *materialize.StreamConfig) {
			untilCaughtUp(cfg)
			cfg.States = 1 << uint(10+w.rng.IntN(10))
		}); err != nil && !errors.Is(err, dead) {
			t.Fatalf("round %d: %v", round, err)
		}
		if w.rng.IntN(4) == 0 {
			w.store.Fault = nil
			w.store.Failover(w.rng.IntN(20))
		}
	}
	w.store.Fault = nil
	if _, err := w.run(context.Background(), untilCaughtUp); err != nil {
		t.Fatal(err)
	}
	w.checkWindows()
	_ = kafka.HeaderReason
}
