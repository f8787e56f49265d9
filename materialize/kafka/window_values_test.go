package kafka_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/kafka"
	"github.com/forebay/forebay/materialize/materializetest"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/spec"
)

// measures are windows of numbers that may be NaN and infinite; both views have the same features, and the
// second is fed through an internal topic.
const measures = `
kind: Entity
name: user
join_keys: [{name: user, type: string}]
---
kind: Entity
name: place
join_keys: [{name: place, type: string}]
---
kind: Source
name: measures
timestamp: time
max_ahead: 10m
columns: {time: timestamp, user: string, place: string, x: float64}
kafka: {topic: measures, format: json, key: [user]}
---
kind: FeatureView
name: by_user
entities: [user]
source: measures
aggregations:
  - {function: count, windows: [1h]}
  - {function: count, column: x, windows: [1h], name: numbers}
  - {function: sum, column: x, windows: [1h]}
  - {function: min, column: x, windows: [1h]}
  - {function: max, column: x, windows: [1h]}
---
kind: FeatureView
name: by_place
entities: [place]
source: measures
aggregations:
  - {function: count, windows: [1h]}
  - {function: count, column: x, windows: [1h], name: numbers}
  - {function: sum, column: x, windows: [1h]}
  - {function: min, column: x, windows: [1h]}
  - {function: max, column: x, windows: [1h]}
`

// TestWindowsOfHardRecords: NaN and infinite values, events of the future, and poison between good ones. What is refused is
// dead-lettered once and leaves no trace in any window: an event of the future would push all others out.
func TestWindowsOfHardRecords(t *testing.T) {
	current := goleak.IgnoreCurrent()
	defer goleak.VerifyNone(t, current)
	repo, diagnostics := spec.LoadFS(fstest.MapFS{
		"forebay.yaml":  {Data: []byte("version: 1\nproject: test\n")},
		"features.yaml": {Data: []byte(measures)},
	})
	if len(diagnostics) > 0 {
		t.Fatal(diagnostics)
	}
	broker, err := kafka.Embedded(t.TempDir(), "127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = broker.Close() }()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	now := time.Now().UTC().Truncate(time.Second)
	send := func(user string, ahead time.Duration, x string) *kgo.Record {
		return &kgo.Record{Topic: "measures", Key: []byte(user), Timestamp: now,
			Value: fmt.Appendf(nil, `{"time":%q,"user":%q,"place":%q,"x":%s}`, now.Add(ahead).Format(time.RFC3339), user, user, x)}
	}
	raw := func(value []byte) *kgo.Record {
		return &kgo.Record{Topic: "measures", Key: []byte("a"), Value: value, Timestamp: now}
	}
	first := []*kgo.Record{
		send("numbers", -30*time.Minute, "1.5"), send("numbers", -20*time.Minute, `"NaN"`), send("numbers", 0, "2.5"), send("numbers", 0, "null"),
		send("infinite", 0, `"Infinity"`), raw([]byte("not json")), send("infinite", 0, "1"),
		send("both", 0, `"Infinity"`), send("both", 0, `"-Infinity"`), raw(nil),
		send("nans", 0, `"NaN"`), raw([]byte(`{"time":"yesterday","user":"numbers","x":1}`)),
		send("numbers", 24*365*time.Hour, "100"), send("ahead", 9*time.Minute, "7"), send("ahead", 11*time.Minute, "100"),
		send("numbers", 0, `"many"`),
	}
	second := []*kgo.Record{send("numbers", 0, "-4"), send("infinite", 0, `"NaN"`), raw([]byte(`{"time":`))}
	letters := map[materialize.Reason]int64{
		materialize.ReasonMalformed: 1, materialize.ReasonTombstone: 1, materialize.ReasonBadTimestamp: 1, materialize.ReasonAheadOfClock: 2, materialize.ReasonBadField: 1,
	}
	want := map[string]string{
		"numbers":  "found=true count_1h=5 numbers_1h=3 x_sum_1h=0.00000000000e+00 x_min_1h=-4.00000000000e+00 x_max_1h=2.50000000000e+00",
		"infinite": "found=true count_1h=3 numbers_1h=2 x_sum_1h=+Inf x_min_1h=1.00000000000e+00 x_max_1h=+Inf",
		"both":     "found=true count_1h=2 numbers_1h=2 x_sum_1h=INVALID x_min_1h=-Inf x_max_1h=+Inf",
		"nans":     "found=true count_1h=1 numbers_1h=0 x_sum_1h=null x_min_1h=null x_max_1h=null",
		"ahead":    "found=true count_1h=1 numbers_1h=1 x_sum_1h=7.00000000000e+00 x_min_1h=7.00000000000e+00 x_max_1h=7.00000000000e+00",
	}

	store := materializetest.NewStore()
	cluster, err := kafka.New(kafka.Config{Brokers: []string{broker.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	generations := materializetest.Generations(repo.Project)
	run := func(records ...*kgo.Record) materialize.SourceStats {
		t.Helper()
		if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		s, err := materialize.NewStream(materialize.StreamConfig{
			Sources: []*registry.Source{&repo.Project.Sources[0]}, Views: generations, Inputs: cluster, Repartitioner: cluster,
			Online: store, Log: store, Tables: store, Group: "g", UntilCaughtUp: true, PollRows: 3,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		return s.Stats()[0]
	}
	stats := run(first...)
	if !maps.Equal(stats.DeadLetters, letters) {
		t.Errorf("dead letters %v, want %v", stats.DeadLetters, letters)
	}
	for _, v := range stats.Views {
		if v.NaNs != 2 || v.Late != 0 {
			t.Errorf("%s counts %d NaNs and %d late events, want 2 and 0", v.View, v.NaNs, v.Late)
		}
	}
	if stats = run(second...); len(stats.DeadLetters) != 1 || stats.DeadLetters[materialize.ReasonMalformed] != 1 {
		t.Errorf("the next start's dead letters: %v", stats.DeadLetters)
	}

	at := now.Add(9 * time.Minute).UnixMicro()
	check := func(how string) {
		t.Helper()
		for _, v := range generations {
			states := store.WindowStates(v)
			if len(states) != len(want) {
				t.Errorf("%s: %s has %d entities, want %d", how, v, len(states), len(want))
			}
			for _, entity := range slices.Sorted(maps.Keys(want)) {
				got, err := materializetest.WindowValues(v, states[string(feature.AppendKey(nil, feature.OfString(entity), true))], at)
				if err != nil {
					got = err.Error()
				}
				if got != want[entity] {
					t.Errorf("%s: %s of %s:\n\tgot  %s\n\twant %s", how, v, entity, got, want[entity])
				}
			}
		}
	}
	check("streamed")
	for _, v := range generations {
		batch := materialize.Batch{Tables: store, Online: store, Log: store}
		if _, err := batch.Run(t.Context(), materialize.BatchRequest{View: v, Overwrite: true}); err != nil {
			t.Fatal(err)
		}
	}
	check("built")
}
