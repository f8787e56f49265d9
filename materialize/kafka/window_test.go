package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/materializetest"
	"github.com/forebay/forebay/registry"
)

// windowWorld is a world with windows: user_windows reads the topic itself, which is keyed by
// user; shop_windows reads an internal one.
type windowWorld struct {
	*world
	generator materializetest.Generator
	users     int // of the events; 0 for the generator's few
}

func newWindowWorld(t *testing.T, parts int) *windowWorld {
	t.Helper()
	w := &windowWorld{world: newWorld(t, parts)}
	w.generator = materializetest.Generator{Rand: w.rng, Clock: 1_700_000_000_000_000}
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

// produceWindows puts n events on the topic under their keys, some of them twice.
func (w *windowWorld) produceWindows(n int) {
	w.t.Helper()
	var records []*kgo.Record
	var events []materializetest.Event
	for range n {
		e := w.generator.Event()
		if w.users > 0 && e.User != nil {
			e.User = ptr(fmt.Sprintf("u%d", w.rng.IntN(w.users)))
		}
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
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(w.store.Differences(w.project, w.events), w.store.WindowDifferences(w.project, w.events)...)
}

func (w *windowWorld) checkWindows() {
	w.t.Helper()
	if d := w.differences(); len(d) > 0 {
		w.t.Fatalf("%d differences after %d events:\n%s", len(d), len(w.events), strings.Join(d[:min(len(d), 6)], "\n"))
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
		kill, outages := 1+w.rng.Int64N(600), rand.New(rand.NewPCG(w.rng.Uint64(), 1))
		failover := w.rng.Int64N(800)
		var mu sync.Mutex
		w.store.Fault = func(_ context.Context, call string, after bool) error {
			n := calls.Add(1)
			if n >= kill {
				return dead // and every later call: nothing of this process takes effect any more
			}
			mu.Lock()
			defer mu.Unlock()
			if n == failover {
				w.store.Failover(outages.IntN(12))
			}
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
}

// TestWindowsOfManyEntities has polls with several shares of entities, that are read, computed and written at a time; calls
// fail before and after they take effect, and the process ends between them.
func TestWindowsOfManyEntities(t *testing.T) {
	ignoreKafka(t)
	w := newWindowWorld(t, 2)
	w.users = 1500
	dead := errors.New("killed")
	for range 2 {
		w.produceWindows(1300)
		for _, kill := range []int64{w.rng.Int64N(80), w.rng.Int64N(160), math.MaxInt64} {
			var calls atomic.Int64
			w.store.Fault = func(_ context.Context, call string, after bool) error {
				switch n := calls.Add(1); {
				case n >= kill:
					return dead
				case n%7 == 0 && strings.HasSuffix(call, "States"):
					return fmt.Errorf("memory at nowhere: %w", materialize.ErrUnavailable)
				}
				return nil
			}
			if _, err := w.run(context.Background(), func(cfg *materialize.StreamConfig) {
				untilCaughtUp(cfg)
				only("user_windows")(cfg)
				cfg.PollRows, cfg.States = 1250, 1<<uint(14+w.rng.IntN(8))
			}); err != nil && !errors.Is(err, dead) {
				t.Fatal(err)
			}
		}
		if d := slices.DeleteFunc(w.differences(), func(s string) bool { return !strings.HasPrefix(s, "user_windows") }); len(d) > 0 {
			t.Fatalf("%d differences:\n%s", len(d), strings.Join(d[:min(len(d), 6)], "\n"))
		}
	}
}

// TestCaughtUpWhereAViewIsBehindTheLog: a store that has lost writes is behind the log, and a stream that is to catch up
// does not end before it has them again.
func TestCaughtUpWhereAViewIsBehindTheLog(t *testing.T) {
	ignoreKafka(t)
	w := newWindowWorld(t, 1)
	for range 3 {
		w.produceWindows(150)
		if _, err := w.run(context.Background(), untilCaughtUp); err != nil {
			t.Fatal(err)
		}
	}
	w.store.Failover(60)
	if len(w.differences()) == 0 {
		t.Fatal("nothing was lost")
	}
	if _, err := w.run(context.Background(), func(cfg *materialize.StreamConfig) {
		untilCaughtUp(cfg)
		only("user_windows", "user_latest", "pair_latest")(cfg)
		cfg.PollRows = 5
	}); err != nil {
		t.Fatal(err)
	}
	if d := w.differences(); len(slices.DeleteFunc(d, func(s string) bool { return strings.HasPrefix(s, "shop_windows") })) > 0 {
		t.Fatalf("it ended behind the log: %s", d[0])
	}
	if _, err := w.run(context.Background(), untilCaughtUp); err != nil {
		t.Fatal(err)
	}
	w.checkWindows()
}

// start runs a stream until stop is called.
func (w *windowWorld) start(change func(*materialize.StreamConfig)) (s *materialize.Stream, stop func() error) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := w.cluster()
	cfg := w.config(c)
	if change != nil {
		change(&cfg)
	}
	s, err := materialize.NewStream(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, sync.OnceValue(func() error {
		cancel()
		defer c.Close()
		return <-done
	})
}

// caughtUp waits until everything equals the oracle.
func (w *windowWorld) caughtUp() {
	w.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		d := w.differences()
		if len(d) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("%d differences after a minute:\n%s", len(d), strings.Join(d[:min(len(d), 6)], "\n"))
		}
	}
}

// only keeps the views of some names.
func only(names ...string) func(*materialize.StreamConfig) {
	return func(cfg *materialize.StreamConfig) {
		cfg.Views = slices.DeleteFunc(cfg.Views, func(v registry.ViewGeneration) bool { return !slices.Contains(names, v.View.Name) })
	}
}

func TestWindowsRebalance(t *testing.T) {
	ignoreKafka(t)
	w := newWindowWorld(t, 4)
	w.produceWindows(200)
	var stops []func() error
	join := func() {
		_, stop := w.start(nil)
		stops = append(stops, stop)
	}
	join()
	join()
	for range 3 {
		w.produceWindows(150)
		join() // a third one
		w.produceWindows(150)
		i := w.rng.IntN(len(stops))
		if err := stops[i](); err != nil {
			t.Fatal(err)
		}
		stops = slices.Delete(stops, i, i+1)
	}
	w.produceWindows(100)
	w.caughtUp()
	for _, stop := range stops {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	w.checkWindows()
}

// TestViewsAreStreamedWhileOneIsFilled holds up the filling of one view: the others go on.
func TestViewsAreStreamedWhileOneIsFilled(t *testing.T) {
	ignoreKafka(t)
	w := newWindowWorld(t, 2)
	w.produceWindows(200)
	if _, err := w.run(context.Background(), func(cfg *materialize.StreamConfig) {
		untilCaughtUp(cfg)
		only("pair_latest", "user_latest", "shop_windows")(cfg)
	}); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	w.store.Fault = func(ctx context.Context, call string, _ bool) error {
		if call == "Batch" {
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return nil
	}
	_, stop := w.start(func(cfg *materialize.StreamConfig) { cfg.FillWait = time.Millisecond })
	w.produceWindows(200)
	eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.store.Differences(w.project, w.events)) == 0
	})
	user := materializetest.Generations(w.project)[3]
	if states := w.store.WindowStates(user); len(states) > 0 {
		t.Errorf("%s has %d states before it is filled", user, len(states))
	}
	close(release)
	w.caughtUp()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestGenerationGoesLiveWhenItHasCaughtUp: not before it equals the oracle, though it was filled from a log that
// lacks the newest events; the generation before is kept up to date.
func TestGenerationGoesLiveWhenItHasCaughtUp(t *testing.T) {
	ignoreKafka(t)
	for _, view := range []int{1, 3} { // by an internal topic; by the source's own
		w := newWindowWorld(t, 3)
		w.produceWindows(300)
		if _, err := w.run(context.Background(), untilCaughtUp); err != nil {
			t.Fatal(err)
		}
		w.produceWindows(300) // the log lacks these
		next := materializetest.Generations(w.project)[view]
		next.Number = 2
		var wrong atomic.Pointer[string]
		w.store.Fault = func(_ context.Context, call string, after bool) error {
			if call != "SetLive" || after {
				return nil
			}
			d := materializetest.WindowDifferences(w.project, w.events, func(v registry.ViewGeneration) map[string]materialize.WindowRecord {
				if v.View.Name == next.View.Name {
					v = next
				}
				return w.store.WindowStates(v)
			})
			d = slices.DeleteFunc(d, func(s string) bool { return !strings.HasPrefix(s, next.View.Name) })
			if len(d) > 0 {
				wrong.Store(&d[0])
			}
			return nil
		}
		_, stop := w.start(func(cfg *materialize.StreamConfig) { cfg.Views = append(cfg.Views, next) })
		eventually(t, func() bool {
			live, _ := w.store.Live(context.Background())
			return live[next.View.Name] == 2
		})
		if d := wrong.Load(); d != nil {
			t.Errorf("%s went live too early: %s", next, *d)
		}
		w.caughtUp() // generation 1
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWindowsOfATopicThatGrows: its entities move to other partitions.
func TestWindowsOfATopicThatGrows(t *testing.T) {
	ignoreKafka(t)
	w := newWindowWorld(t, 2)
	w.produceWindows(300)
	_, stop := w.start(nil)
	w.caughtUp()
	if _, err := kadm.NewClient(w.brokers.Client(t)).UpdatePartitions(t.Context(), 5, w.topic); err != nil {
		t.Fatal(err)
	}
	w.parts = 5
	w.produceWindows(300)
	w.caughtUp()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestInternalTopicIsDeleted: the view is built anew, and a new topic made.
func TestInternalTopicIsDeleted(t *testing.T) {
	ignoreKafka(t)
	w := newWindowWorld(t, 2)
	for range 2 {
		w.produceWindows(200)
		if _, err := w.run(context.Background(), untilCaughtUp); err != nil {
			t.Fatal(err)
		}
		w.checkWindows()
		topic := w.group + "-events.shop_windows.1"
		if _, err := kadm.NewClient(w.brokers.Client(t)).DeleteTopic(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
	}
	w.produceWindows(200)
	if _, err := w.run(context.Background(), untilCaughtUp); err != nil {
		t.Fatal(err)
	}
	w.checkWindows()
}

// TestNullKeysOfWindows: each is a dead letter once, of a view that reads the topic and of one that reads copies.
func TestNullKeysOfWindows(t *testing.T) {
	ignoreKafka(t)
	w := newWindowWorld(t, 1)
	value := `{"time":"2023-11-14T22:13:20Z","user":null,"shop":null,"amount":9}`
	w.brokers.Produce(t, &kgo.Record{Topic: w.topic, Value: []byte(value)}, &kgo.Record{Topic: w.topic, Value: []byte(strings.Replace(value, "9", "7", 1))})
	for range 2 {
		if _, err := w.run(context.Background(), func(cfg *materialize.StreamConfig) {
			untilCaughtUp(cfg)
			only("user_windows", "shop_windows")(cfg)
		}); err != nil {
			t.Fatal(err)
		}
	}
	letters := w.letters()
	for _, want := range []string{"/0@0 user_windows@1", "/0@1 user_windows@1", "/0@0 shop_windows@1"} {
		if len(letters[w.topic+want]) != 1 {
			t.Errorf("%s: %d letters", want, len(letters[w.topic+want]))
		}
	}
	if len(letters) != 3 {
		t.Errorf("dead letters %v", letters)
	}
}
