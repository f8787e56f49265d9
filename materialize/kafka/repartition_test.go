package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/kafka"
	"github.com/forebay/forebay/materialize/materializetest"
	"github.com/forebay/forebay/registry/feature"
)

// byUser copies the events that have a user, and refuses the others.
func byUser(user int) func(rows *feature.Batch) ([][]byte, []materialize.Bad) {
	return func(rows *feature.Batch) (keys [][]byte, refused []materialize.Bad) {
		for i := range rows.Rows {
			key, ok := feature.AppendKeyRow(nil, rows.Columns[user:user+1], i)
			if !ok {
				key = nil
				refused = append(refused, materialize.Bad{Partition: int32(rows.Versions[i].Major), Offset: rows.Versions[i].Minor,
					Reason: materialize.ReasonNullKey, Message: "join key user is null", View: "v@1"})
			}
			keys = append(keys, key)
		}
		return keys, refused
	}
}

func (w *world) repartition() *materialize.Repartition {
	src := &w.project.Sources[0]
	return &materialize.Repartition{Source: src, Topic: w.topic + ".by-user", Partitions: 2, Group: w.group + ".by-user", Keys: byUser(src.Column("user"))}
}

// copyTo copies with n members until everything there is has been copied; each of the
// first rounds is broken off in the middle.
func (w *world) copyTo(c *kafka.Cluster, r *materialize.Repartition, members int) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, members)
	for i := range members {
		wg.Go(func() {
			for ctx.Err() == nil {
				if errs[i] = c.Repartition(ctx, r); !errors.Is(errs[i], materialize.ErrAgain) {
					return
				}
			}
		})
	}
	ends, err := c.SourceEnds(ctx, r)
	if err != nil {
		w.t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for done := false; !done; {
		if done, err = c.Repartitioned(ctx, r, ends); err != nil && !errors.Is(err, materialize.ErrUnavailable) {
			w.t.Fatal(err)
		}
		if time.Now().After(deadline) {
			cancel()
			wg.Wait()
			w.t.Fatalf("not copied within a minute: %v", errs)
		}
		<-time.After(20 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		w.t.Fatal(err)
	}
}

// internal reads the whole internal topic.
func (w *world) internal(topic string) []*kgo.Record {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cl := w.brokers.Client(w.t, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil || ends.Error() != nil {
		w.t.Fatal(err, ends.Error())
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	var records []*kgo.Record
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			w.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return records
}

// checkCopies compares what was produced with what was copied: each once, under its key, in order.
func (w *world) checkCopies(r *materialize.Repartition) {
	w.t.Helper()
	want := map[string]materializetest.Event{}
	for _, e := range w.events {
		if e.User != nil {
			want[fmt.Sprintf("%d/%d", e.Partition, e.Offset)] = e
		}
	}
	last := map[string]int64{}
	partitions := map[string]int32{}
	for _, rec := range w.internal(r.Topic) {
		at, ingested, _ := strings.Cut(header(rec, kafka.HeaderOrigin), "@")
		e, ok := want[at]
		if !ok {
			w.t.Fatalf("%s was copied twice, or is not to be", at)
		}
		delete(want, at)
		key := feature.AppendKey(nil, feature.OfString(*e.User), true)
		if string(rec.Key) != string(key) || string(rec.Value) != e.JSON() || ingested != fmt.Sprint(e.Ingested) {
			w.t.Fatalf("%s: key %q, value %s, at %s", at, rec.Key, rec.Value, rec.Timestamp)
		}
		if p, seen := partitions[*e.User]; seen && p != rec.Partition {
			w.t.Fatalf("the events of %s are in two partitions", *e.User)
		}
		partitions[*e.User] = rec.Partition
		order := fmt.Sprintf("%d to %d", e.Partition, rec.Partition)
		if before, seen := last[order]; seen && before >= e.Offset {
			w.t.Fatalf("%s comes after %d", at, before)
		}
		last[order] = e.Offset
	}
	if len(want) > 0 {
		w.t.Fatalf("%d of %d events were not copied", len(want), len(w.events))
	}
}

func TestRepartition(t *testing.T) {
	w := newWorld(t, 3)
	r := w.repartition()
	c := w.cluster()
	defer c.Close()
	w.produce(500)
	w.copyTo(c, r, 1)
	w.checkCopies(r)

	// Two members at once, then others, broken off while they copy.
	stop, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 2 {
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), uint64(i)))
		wg.Go(func() {
			for stop.Err() == nil {
				ctx, cancel := context.WithTimeout(stop, time.Duration(500+rng.IntN(3000))*time.Millisecond)
				if err := c.Repartition(ctx, r); err != nil && !errors.Is(err, materialize.ErrAgain) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	for range 20 {
		w.produce(100)
	}
	w.copyTo(c, r, 1)
	cancel()
	wg.Wait()
	w.checkCopies(r)
	if err := c.Repartition(stop, r); err != nil {
		t.Errorf("ended before it has begun: %v", err)
	}

	// The group's offsets are gone, as after a week without members.
	if _, err := kadm.NewClient(w.brokers.Client(t)).DeleteGroup(t.Context(), r.Group); err != nil {
		t.Fatal(err)
	}
	w.produce(100)
	w.copyTo(c, r, 2)
	w.checkCopies(r)

	// Some of them are gone, as where a member had committed one partition when another joined.
	admin := kadm.NewClient(w.brokers.Client(t))
	if _, err := admin.DeleteGroup(t.Context(), r.Group); err != nil {
		t.Fatal(err)
	}
	ends, err := admin.ListEndOffsets(t.Context(), w.topic)
	if err != nil {
		t.Fatal(err)
	}
	some := kadm.Offsets{}
	some.AddOffset(w.topic, 0, ends[w.topic][0].Offset, -1)
	if err := admin.CommitAllOffsets(t.Context(), r.Group, some); err != nil {
		t.Fatal(err)
	}
	w.produce(100)
	w.copyTo(c, r, 2)
	w.checkCopies(r)

	if err := c.DropRepartitioned(t.Context(), r.Topic, r.Group); err != nil {
		t.Fatal(err)
	}
}

// TestRepartitionRefuses: what the view refuses is dead-lettered, once; what the source
// refuses is not, since the source's own pipeline does that.
func TestRepartitionRefuses(t *testing.T) {
	w := newWorld(t, 1)
	r := w.repartition()
	c := w.cluster()
	defer c.Close()
	w.brokers.Produce(t, &kgo.Record{Topic: w.topic, Value: []byte("not json")}, &kgo.Record{Topic: w.topic, Value: []byte(`{"time":"2023-11-14T22:13:20Z"}`)})
	w.copyTo(c, r, 1)
	if got := w.internal(r.Topic); len(got) != 0 {
		t.Fatalf("%d records were copied", len(got))
	}
	letters := w.letters()
	if len(letters) != 1 || len(letters[w.topic+"/0@1 v@1"]) != 1 {
		t.Fatalf("dead letters: %v", letters)
	}
}

// ownerAtStart starts every partition at its beginning.
type ownerAtStart struct{}

func (ownerAtStart) Assigned(_ context.Context, _ string, ps []materialize.Partition) (map[int32]int64, error) {
	starts := map[int32]int64{}
	for _, p := range ps {
		starts[p.ID] = p.Start
	}
	return starts, nil
}
func (ownerAtStart) Revoked(context.Context, []int32) {}
func (ownerAtStart) Lost([]int32)                     {}
func (ownerAtStart) Waiting()                         {}

// TestOpenRepartitioned: rows keep the versions of the source's topic.
func TestOpenRepartitioned(t *testing.T) {
	for _, broker := range []string{"kafka", "embedded"} {
		t.Run(broker, func(t *testing.T) {
			var w *world
			if broker == "kafka" {
				w = newWorld(t, 2)
				w.produce(200)
			} else {
				w = embeddedWorld(t)
			}
			r := w.repartition()
			c := w.cluster()
			defer c.Close()
			w.copyTo(c, r, 1)
			in, err := c.OpenRepartitioned(t.Context(), r, r.Group+".read", ownerAtStart{})
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			want := map[string]bool{}
			for _, e := range w.events {
				if e.User != nil {
					want[fmt.Sprint(e.Version())] = true
				}
			}
			for len(want) > 0 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				chunk, err := in.Poll(ctx, 1000)
				if err == nil && ctx.Err() != nil {
					err = ctx.Err()
				}
				cancel()
				if err != nil {
					t.Fatal(err)
				}
				if len(chunk.Positions) != chunk.Rows.Rows {
					t.Fatalf("%d positions of %d rows", len(chunk.Positions), chunk.Rows.Rows)
				}
				for _, v := range chunk.Rows.Versions {
					if !want[fmt.Sprint(v)] {
						t.Fatalf("%v is unknown, or came twice", v)
					}
					delete(want, fmt.Sprint(v))
				}
				in.Done()
			}
		})
	}
}

// embeddedWorld is a world on the broker in process.
func embeddedWorld(t *testing.T) *world {
	t.Helper()
	b, err := kafka.Embedded(t.TempDir(), "127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	w := &world{t: t, topic: "events", group: "g", rng: rand.New(rand.NewPCG(1, 2)), parts: 1, addrs: []string{b.Addr()}}
	w.project = materializetest.Project(w.topic, "json")
	c := w.cluster()
	defer c.Close()
	if err := c.CreateTopic(t.Context(), w.topic, 1); err != nil {
		t.Fatal(err)
	}
	var records []kafka.Record
	for i := range 200 {
		e := w.event()
		e.Offset, e.Ingested = int64(i), time.UnixMilli(1_700_000_100_000).UnixMicro()
		records = append(records, kafka.Record{Value: []byte(e.JSON()), Time: time.UnixMilli(1_700_000_100_000)})
		w.events = append(w.events, e)
	}
	if err := c.Produce(t.Context(), w.topic, records); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestRepartitionOfAnotherTopic: a topic that was created again is not copied as if it were the same.
func TestRepartitionOfAnotherTopic(t *testing.T) {
	w := newWorld(t, 1)
	r := w.repartition()
	c := w.cluster()
	defer c.Close()
	w.produce(50)
	w.copyTo(c, r, 1)
	adm := kadm.NewClient(w.brokers.Client(t))
	if _, err := adm.DeleteTopic(t.Context(), w.topic); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, w.topic); err == nil {
			break
		}
		<-time.After(50 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := c.Repartition(ctx, r)
	if !errors.Is(err, materialize.ErrOffsets) || !strings.Contains(err.Error(), w.topic) || !strings.Contains(err.Error(), r.Topic) {
		t.Fatalf("got %v", err)
	}
}

// TestEndsOfCopies: copies whose transaction is not marked as committed yet count, since the offsets of what was copied may be told as
// committed before.
func TestEndsOfCopies(t *testing.T) {
	ignoreKafka(t)
	w := newWorld(t, 2)
	w.produce(50)
	r := w.repartition()
	c := w.cluster()
	defer c.Close()
	w.copyTo(c, r, 1)
	in, err := c.OpenRepartitioned(t.Context(), r, r.Group+".read", ownerAtStart{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	before, err := in.Ends(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	copier := w.brokers.Client(t, kgo.TransactionalID(r.Group+".open"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := copier.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := copier.ProduceSync(t.Context(), &kgo.Record{Topic: r.Topic, Partition: 1, Value: []byte("open")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	during, err := in.Ends(t.Context())
	if err != nil || during[1] != before[1]+1 || during[0] != before[0] {
		t.Errorf("%v and then %v, %v", before, during, err)
	}
	if err := copier.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
}
