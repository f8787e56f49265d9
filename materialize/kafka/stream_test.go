package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/kafka"
	"github.com/forebay/forebay/materialize/materializetest"
	"github.com/forebay/forebay/registry"
)

func ptr[T any](v T) *T { return &v }

// world is a topic of a real Kafka, a project that reads it, and stores in memory.
type world struct {
	t       *testing.T
	brokers *testenv.Brokers
	topic   string
	group   string
	project *registry.Project
	store   *materializetest.Store
	rng     *rand.Rand
	parts   int
	addrs   []string // of the brokers, where they are not a testenv's

	mu     sync.Mutex
	events []materializetest.Event // acknowledged by Kafka, and good
	poison map[string]materialize.Reason
}

func newWorld(t *testing.T, parts int, configs ...string) *world {
	t.Helper()
	return worldOn(t, testenv.Kafka(t), parts, configs...)
}

func worldOn(t *testing.T, b *testenv.Brokers, parts int, configs ...string) *world {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &world{t: t, brokers: b, topic: b.Topic(t, parts, configs...), rng: rand.New(rand.NewPCG(seed, 0)), parts: parts, store: materializetest.NewStore(), poison: map[string]materialize.Reason{}}
	w.group = "forebay-test-" + w.topic
	w.project = materializetest.Project(w.topic, "json")
	return w
}

// event makes a random event: few users and times, so that orders and ties matter.
func (w *world) event() materializetest.Event {
	e := materializetest.Event{Time: 1_700_000_000_000_000 + int64(w.rng.IntN(100))*1_000_000 + int64(w.rng.IntN(2)), User: ptr(fmt.Sprintf("u%d", w.rng.IntN(50))), Amount: ptr(int64(w.rng.IntN(40)))}
	if w.rng.IntN(6) > 0 {
		e.Shop = ptr(int64(w.rng.IntN(5)))
	} else if *e.Amount >= 10 {
		e.Shop = ptr(int64(0)) // selected by pair_latest's filter: a null key there is a test of its own
	}
	if w.rng.IntN(3) > 0 {
		e.Note = ptr(fmt.Sprintf("note %d é", w.rng.IntN(1000)))
	}
	return e
}

// produce puts n random events on the topic, with a bad record here and there.
func (w *world) produce(n int) {
	w.t.Helper()
	var records []*kgo.Record
	var events []materializetest.Event
	for range n {
		p := int32(w.rng.IntN(w.parts))
		at := time.UnixMilli(1_700_000_100_000 + int64(w.rng.IntN(5)))
		if w.rng.IntN(20) == 0 {
			value, reason := w.badValue()
			w.poison[fmt.Sprintf("%s %d", reason, len(w.poison))] = reason
			records = append(records, &kgo.Record{Topic: w.topic, Partition: p, Value: value, Timestamp: at})
			continue
		}
		e := w.event()
		e.Partition, e.Ingested = p, at.UnixMicro()
		records = append(records, &kgo.Record{Topic: w.topic, Partition: p, Value: []byte(e.JSON()), Timestamp: at})
		e.Offset = int64(len(records) - 1) // of the record, until its offset is known
		events = append(events, e)
	}
	w.brokers.Produce(w.t, records...)
	for i := range events {
		events[i].Offset = records[events[i].Offset].Offset
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, events...)
}

func (w *world) badValue() ([]byte, materialize.Reason) {
	future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	switch w.rng.IntN(6) {
	case 0:
		return []byte("not json"), materialize.ReasonMalformed
	case 1:
		return []byte(`{"time":"2023-11-14T22:13:20Z","user":7}`), materialize.ReasonBadField
	case 2:
		return []byte(`{"user":"u1"}`), materialize.ReasonBadTimestamp
	case 3:
		return []byte(`{"time":null,"user":"u1"}`), materialize.ReasonBadTimestamp
	case 4:
		return []byte(fmt.Sprintf(`{"time":%q,"user":"u1"}`, future)), materialize.ReasonAheadOfClock
	}
	return nil, materialize.ReasonTombstone
}

func (w *world) cluster() *kafka.Cluster {
	w.t.Helper()
	addrs := w.addrs
	if w.brokers != nil {
		addrs = w.brokers.Addrs()
	}
	c, err := kafka.New(kafka.Config{Brokers: addrs, SessionTimeout: 6 * time.Second, RebalanceTimeout: 20 * time.Second, MetadataAge: 2 * time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) config(c *kafka.Cluster) materialize.StreamConfig {
	return materialize.StreamConfig{
		Sources: []*registry.Source{&w.project.Sources[0]}, Views: materializetest.Generations(w.project),
		Inputs: c, Repartitioner: c, Online: w.store, Log: w.store, Tables: w.store, Group: w.group,
		PollRows: 1 + w.rng.IntN(500), CheckpointEvery: 50 * time.Millisecond, LogRows: 1 + w.rng.IntN(400), LogEvery: 100 * time.Millisecond,
		StartTimeout: 20 * time.Second, HandoverTimeout: 10 * time.Second, Retry: materialize.Backoff{Min: time.Millisecond, Max: 20 * time.Millisecond},
		Logger: slog.New(slog.NewTextHandler(testWriter{w.t}, &slog.HandlerOptions{Level: slog.LevelError})),
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// run streams with change made to the configuration.
func (w *world) run(ctx context.Context, change func(*materialize.StreamConfig)) (*materialize.Stream, error) {
	w.t.Helper()
	c := w.cluster()
	defer c.Close()
	cfg := w.config(c)
	if change != nil {
		change(&cfg)
	}
	s, err := materialize.NewStream(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return s, s.Run(ctx)
}

func untilCaughtUp(cfg *materialize.StreamConfig) { cfg.UntilCaughtUp = true }

func (w *world) check() {
	w.t.Helper()
	if d := w.store.Differences(w.project, w.events); len(d) > 0 {
		w.t.Fatalf("%d differences after %d events:\n%s", len(d), len(w.events), strings.Join(d[:min(len(d), 10)], "\n"))
	}
}

// letters are the dead letters so far, by topic, partition and offset of the record, and view.
func (w *world) letters() map[string][]*kgo.Record {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	topic := kafka.DeadLetterTopic(w.topic)
	cl := w.brokers.Client(w.t, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords()) // of transactions
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil || ends.Error() != nil {
		w.t.Fatal(err, ends.Error())
	}
	end, _ := ends.Lookup(topic, 0)
	all := map[string][]*kgo.Record{}
	for next := int64(0); next < end.Offset; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			w.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if next = r.Offset + 1; r.Attrs.IsControl() {
				return
			}
			key := header(r, kafka.HeaderTopic) + "/" + header(r, kafka.HeaderPartition) + "@" + header(r, kafka.HeaderOffset) + " " + header(r, kafka.HeaderView)
			all[key] = append(all[key], r)
		})
	}
	return all
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

func ignoreKafka(t *testing.T) {
	testenv.Kafka(t)
	current := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, current) })
}

func TestStreamEqualsTheOracle(t *testing.T) {
	ignoreKafka(t)
	w := newWorld(t, 3)
	for range 3 {
		w.produce(700)
		s, err := w.run(context.Background(), untilCaughtUp)
		if err != nil {
			t.Fatal(err)
		}
		w.check()
		for _, p := range s.Stats()[0].Partitions {
			t.Errorf("partition %d is still owned", p.Partition)
		}
	}
	want := map[materialize.Reason]int{}
	for _, reason := range w.poison {
		want[reason]++
	}
	got := map[materialize.Reason]int{}
	for key, letters := range w.letters() {
		if len(letters) != 1 {
			t.Errorf("%s was dead-lettered %d times", key, len(letters))
		}
		got[materialize.Reason(header(letters[0], kafka.HeaderReason))]++
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("dead letters %v, want %v", got, want)
	}
	live, _ := w.store.Live(context.Background())
	if live["user_latest"] != 1 || live["pair_latest"] != 1 {
		t.Errorf("live generations %v", live)
	}
	// The group's offsets are committed for displays of lag.
	offsets, err := kadm.NewClient(w.brokers.Client(t)).FetchOffsets(context.Background(), w.group+"-events")
	if err != nil || len(offsets.Offsets()[w.topic]) != 3 {
		t.Errorf("committed offsets %v, %v", offsets, err)
	}
}

// TestStreamSurvivesFaultsAtEverySeam ends the stream at random calls, before
// they take effect and after, and starts it again, with outages besides.
func TestStreamSurvivesFaultsAtEverySeam(t *testing.T) {
	ignoreKafka(t)
	w := newWorld(t, 3)
	dead := errors.New("killed")
	for round := range 25 {
		w.produce(150)
		var calls atomic.Int64
		kill, outages := 1+w.rng.Int64N(40), rand.New(rand.NewPCG(w.rng.Uint64(), 1))
		var mu sync.Mutex
		w.store.Fault = func(_ context.Context, call string, after bool) error {
			if calls.Add(1) >= kill {
				return dead // and every later call: nothing of this process takes effect any more
			}
			mu.Lock()
			defer mu.Unlock()
			if outages.IntN(8) == 0 {
				return fmt.Errorf("memory at nowhere: %w", materialize.ErrUnavailable)
			}
			return nil
		}
		if _, err := w.run(context.Background(), untilCaughtUp); err != nil && !errors.Is(err, dead) {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	w.store.Fault = nil
	if _, err := w.run(context.Background(), untilCaughtUp); err != nil {
		t.Fatal(err)
	}
	w.check()
	for key, letters := range w.letters() {
		if header(letters[0], kafka.HeaderReason) == "" {
			t.Errorf("%s has no reason", key)
		}
	}
}

// TestStreamRebalances has members that come and go while records are written.
func TestStreamRebalances(t *testing.T) {
	ignoreKafka(t)
	w := newWorld(t, 6)
	w.produce(200)
	start := func() (stop func() error) {
		ctx, cancel := context.WithCancel(context.Background())
		c := w.cluster()
		s, err := materialize.NewStream(w.config(c))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		return func() error {
			cancel()
			defer c.Close()
			return <-done
		}
	}
	stops := []func() error{start()}
	for range 4 {
		w.produce(300)
		stops = append(stops, start())
		w.produce(300)
		i := w.rng.IntN(len(stops))
		if err := stops[i](); err != nil {
			t.Fatal(err)
		}
		stops = append(stops[:i], stops[i+1:]...)
	}
	w.produce(300)
	if _, err := w.run(context.Background(), untilCaughtUp); err != nil {
		t.Fatal(err)
	}
	for _, stop := range stops {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	w.check()
}

func TestStreamDeadLettersNullKeysOfAView(t *testing.T) {
	ignoreKafka(t)
	w := newWorld(t, 1)
	value := []byte(`{"time":"2023-11-14T22:13:20Z","user":"u1","shop":null,"amount":10}`)
	records := []*kgo.Record{
		{Topic: w.topic, Key: []byte("k"), Value: value, Headers: []kgo.RecordHeader{{Key: "mine", Value: []byte("x")}}},
		{Topic: w.topic, Value: []byte(`{"time":"2023-11-14T22:13:20Z","user":"u1","shop":null,"amount":9}`)}, // not selected: no key is needed
	}
	w.brokers.Produce(t, records...)
	s, err := w.run(context.Background(), untilCaughtUp)
	if err != nil {
		t.Fatal(err)
	}
	letters := w.letters()
	got := letters[w.topic+"/0@0 pair_latest@1"]
	if len(letters) != 1 || len(got) != 1 {
		t.Fatalf("dead letters %v", letters)
	}
	r := got[0]
	if header(r, kafka.HeaderReason) != "null_key" || !strings.Contains(header(r, kafka.HeaderMessage), "shop") || string(r.Key) != "k" || string(r.Value) != string(value) || header(r, "mine") != "x" {
		t.Errorf("dead letter %s %s %v", r.Key, r.Value, r.Headers)
	}
	if rows := w.store.Rows(&w.project.Sources[0]); rows.Rows != 2 {
		t.Errorf("the log has %d rows, want both", rows.Rows)
	}
	if st := s.Stats()[0]; st.DeadLetters[materialize.ReasonNullKey] != 1 || st.Views[0].NullKeys != 1 || st.Views[0].Filtered != 1 {
		t.Errorf("stats %+v", st)
	}
}

// TestStreamNoticesLostWrites has an online store that comes back empty while the stream runs.
func TestStreamNoticesLostWrites(t *testing.T) {
	ignoreKafka(t)
	w := newWorld(t, 2)
	w.produce(500)
	ctx, cancel := context.WithCancel(context.Background())
	lost := make(chan struct{})
	var once sync.Once
	var checkpoints atomic.Int64
	w.store.Fault = func(_ context.Context, call string, after bool) error {
		if call == "SetResumes" && after {
			if checkpoints.Add(1) == 6 {
				once.Do(func() { close(lost) })
			}
		}
		return nil
	}
	done := make(chan error, 1)
	var stream *materialize.Stream
	c := w.cluster()
	defer c.Close()
	cfg := w.config(c)
	stream, err := materialize.NewStream(cfg)
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- stream.Run(ctx) }()
	produced := 0
	for open := true; open; {
		w.produce(20)
		produced++
		select {
		case <-lost:
			open = false
		default:
		}
		if produced > 500 {
			t.Fatal("no checkpoints")
		}
	}
	w.store.LoseOnline()
	w.produce(100)
	eventually(t, func() bool { return len(w.store.Differences(w.project, w.events)) == 0 })
	if stream.Stats()[0].Restarts == 0 {
		t.Error("the stream did not start again")
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.check()
}

// eventually polls a condition that another goroutine brings about.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not happen within 30 s")
		}
	}
}

func TestStreamNoticesOffsetsThatGoBack(t *testing.T) {
	ignoreKafka(t)
	ctx := context.Background()
	t.Run("recreated", func(t *testing.T) {
		w := newWorld(t, 1)
		w.produce(100)
		if _, err := w.run(ctx, untilCaughtUp); err != nil {
			t.Fatal(err)
		}
		adm := kadm.NewClient(w.brokers.Client(t))
		if _, err := adm.DeleteTopic(ctx, w.topic); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { _, err := adm.CreateTopic(ctx, 1, 1, nil, w.topic); return err == nil })
		w.produce(200) // more than before: only the topic's ID gives it away
		before := w.store.Rows(&w.project.Sources[0]).Rows
		_, err := w.run(ctx, untilCaughtUp)
		if !errors.Is(err, materialize.ErrOffsets) || !strings.Contains(err.Error(), "created again") {
			t.Fatalf("got %v", err)
		}
		if rows := w.store.Rows(&w.project.Sources[0]).Rows; rows != before {
			t.Errorf("the log went from %d to %d rows", before, rows)
		}
	})
	t.Run("ends earlier", func(t *testing.T) {
		w := newWorld(t, 1)
		w.produce(10)
		if err := w.store.Append(ctx, &w.project.Sources[0], nil, map[int32]materialize.OffsetRange{0: {From: 0, To: 500}}); err != nil {
			t.Fatal(err)
		}
		_, err := w.run(ctx, untilCaughtUp)
		if !errors.Is(err, materialize.ErrOffsets) || !strings.Contains(err.Error(), w.topic+"/0 ends at offset 10") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("deleted by retention", func(t *testing.T) {
		w := newWorld(t, 1)
		w.produce(100)
		if _, err := w.run(ctx, untilCaughtUp); err != nil {
			t.Fatal(err)
		}
		w.produce(100)
		missed := w.events
		adm := kadm.NewClient(w.brokers.Client(t))
		if _, err := adm.DeleteRecords(ctx, kadm.Offsets{w.topic: {0: {Topic: w.topic, Partition: 0, At: 150}}}); err != nil {
			t.Fatal(err)
		}
		w.produce(100)
		_, err := w.run(ctx, untilCaughtUp)
		if !errors.Is(err, materialize.ErrOffsets) || !strings.Contains(err.Error(), "50 offsets were deleted") {
			t.Fatalf("got %v", err)
		}
		if _, err := w.run(ctx, func(cfg *materialize.StreamConfig) { cfg.UntilCaughtUp, cfg.AcceptGaps = true, true }); err != nil {
			t.Fatal(err)
		}
		var have []materializetest.Event
		for _, e := range w.events {
			if e.Offset < 100 || e.Offset >= 150 {
				have = append(have, e)
			}
		}
		if len(have) == len(missed) {
			t.Fatal("nothing was missed")
		}
		w.events = have
		w.check()
	})
	t.Run("the view lacks what the log has", func(t *testing.T) {
		w := newWorld(t, 1)
		w.produce(100)
		views := materializetest.Generations(w.project)
		one := func(v registry.ViewGeneration) func(*materialize.StreamConfig) {
			return func(cfg *materialize.StreamConfig) { cfg.UntilCaughtUp, cfg.Views = true, []registry.ViewGeneration{v} }
		}
		for _, v := range views {
			if _, err := w.run(ctx, one(v)); err != nil {
				t.Fatal(err)
			}
		}
		w.produce(100)
		if _, err := w.run(ctx, one(views[0])); err != nil {
			t.Fatal(err)
		}
		adm := kadm.NewClient(w.brokers.Client(t))
		if _, err := adm.DeleteRecords(ctx, kadm.Offsets{w.topic: {0: {Topic: w.topic, Partition: 0, At: 200}}}); err != nil {
			t.Fatal(err)
		}
		w.produce(50)
		if _, err := w.run(ctx, untilCaughtUp); err != nil {
			t.Fatal(err)
		}
		w.check()
	})
}

// TestStreamSurvivesAKilledBroker kills the brokers of a cluster in turn while a stream runs.
func TestStreamSurvivesAKilledBroker(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster of three brokers takes half a minute")
	}
	w := worldOn(t, testenv.KafkaCluster(t, 3), 3)
	w.produce(300)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := w.cluster()
	defer c.Close()
	s, err := materialize.NewStream(w.config(c))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for n := 1; n <= 2; n++ {
		w.brokers.Kill(t, n)
		w.produce(300)
		w.brokers.Revive(t, n)
		w.produce(300)
	}
	if _, err := w.run(context.Background(), untilCaughtUp); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.check()
}

func TestStreamNeedsItsTopicAndItsBrokers(t *testing.T) {
	ignoreKafka(t)
	w := newWorld(t, 1)
	w.project = materializetest.Project("no-such-topic", "json")
	_, err := w.run(context.Background(), untilCaughtUp)
	if err == nil || !strings.Contains(err.Error(), "no-such-topic") || !strings.Contains(err.Error(), w.brokers.Addrs()[0]) {
		t.Errorf("got %v", err)
	}
	w.project = materializetest.Project(w.topic, "protobuf")
	if _, err := w.run(context.Background(), untilCaughtUp); err == nil || !strings.Contains(err.Error(), "protobuf") {
		t.Errorf("got %v", err)
	}

	w.project = materializetest.Project(w.topic, "json")
	c, err := kafka.New(kafka.Config{Brokers: []string{"127.0.0.1:1"}, Timeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := materialize.NewStream(w.config(c))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
}
