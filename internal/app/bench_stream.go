package app

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/kafka"
	"github.com/forebay/forebay/registry"
)

// StreamBench says how to measure a stream: a source whose columns are user_id, at and f0, with a topic.
type StreamBench struct {
	Source   string
	Events   int // for the rate; spread over Days of event time
	Entities int
	Days     int
	Rate     int           // events a second, for the delay
	Duration time.Duration // of that
}

// StreamFigures are what a StreamBench measured.
type StreamFigures struct {
	Events int `json:"events"`
	// Decoded is the rate, in events a second, at which the topic is read and decoded, and nothing done
	// with it; Streamed that at which it comes through windows into the online store, and into the log.
	Decoded  float64 `json:"decoded_per_second"`
	Streamed float64 `json:"streamed_per_second"`
	// Of the time from the instant at which an event was due to its being in the online store, at Rate events a
	// second, over every event that was sent.
	Rate int     `json:"rate"`
	Sent int     `json:"sent"`
	P50  float64 `json:"p50_seconds"`
	P99  float64 `json:"p99_seconds"`
	Max  float64 `json:"max_seconds"`
}

const benchPartitions = 4

// BenchStream measures the stream of a source: its events are made here.
func (a *App) BenchStream(ctx context.Context, o StreamBench) (f *StreamFigures, err error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	src, err := source(head, o.Source)
	if err != nil {
		return nil, err
	}
	if err := a.Hold(ctx); err != nil {
		return nil, err
	}
	c, err := a.kafkaCluster()
	if err != nil {
		return nil, err
	}
	topic := src.Kafka.Topic
	if err := c.CreateTopic(ctx, topic, benchPartitions); err != nil {
		return nil, a.kafkaError(err)
	}
	defer func() {
		err = errors.Join(err, c.DropRepartitioned(context.WithoutCancel(ctx), topic, topic+".decode"))
	}()
	g := benchEvents{o: o, random: rand.New(rand.NewPCG(7, 7)), start: time.Now().Add(-time.Duration(o.Days) * 24 * time.Hour)} //nolint:gosec // data for a benchmark
	for sent := 0; sent < o.Events; {
		n := min(10_000, o.Events-sent)
		if err := c.Produce(ctx, topic, g.make(n, time.Time{}, time.Duration(o.Days)*24*time.Hour/time.Duration(o.Events))); err != nil {
			return nil, a.kafkaError(err)
		}
		sent += n
	}
	f = &StreamFigures{Events: o.Events, Rate: o.Rate}
	began := time.Now()
	if err := decodeAll(ctx, c, src, topic+".decode"); err != nil {
		return nil, err
	}
	f.Decoded = float64(o.Events) / time.Since(began).Seconds()
	s, err := a.newStream(ctx, head, StreamOptions{UntilCaughtUp: true})
	if err != nil {
		return nil, err
	}
	began = time.Now()
	if err := a.runStream(ctx, s); err != nil {
		return nil, a.kafkaError(err)
	}
	f.Streamed = float64(o.Events) / time.Since(began).Seconds()
	if rows := s.Stats()[0].Rows; rows != int64(o.Events) {
		return nil, fmt.Errorf("bench: %d of %d events were streamed", rows, o.Events)
	}
	return f, a.delays(ctx, c, head, &g, f)
}

// delays streams events that come at a rate.
func (a *App) delays(ctx context.Context, c *kafka.Cluster, head *registry.Revision, g *benchEvents, f *StreamFigures) error {
	var served servedTimes
	s, err := a.newStream(ctx, head, StreamOptions{served: served.add})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.runStream(ctx, s) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(s.Stats()[0].Partitions) < benchPartitions {
		select {
		case err := <-done:
			return a.kafkaError(err)
		case <-tick.C:
		}
	}
	// An open loop: each event has the instant at which it was due, also where sending is late.
	topic, began := s.Stats()[0].Topic, time.Now()
	for due := 0; time.Since(began) < g.o.Duration; {
		select {
		case err := <-done:
			return a.kafkaError(err)
		case <-tick.C:
		}
		n := int(time.Since(began).Seconds()*float64(f.Rate)) - due
		if n <= 0 {
			continue
		}
		if err := c.Produce(ctx, topic, g.make(n, began.Add(time.Duration(float64(due)/float64(f.Rate)*float64(time.Second))), time.Second/time.Duration(f.Rate))); err != nil {
			return a.kafkaError(err)
		}
		due += n
		f.Sent = due
	}
	deadline := time.Now().Add(10 * time.Second)
	for s.Stats()[0].Rows < int64(f.Sent) && time.Now().Before(deadline) {
		<-tick.C
	}
	cancel()
	if err := <-done; err != nil {
		return a.kafkaError(err)
	}
	if len(served.micros) < f.Sent {
		return fmt.Errorf("bench: %d of %d events were streamed", len(served.micros), f.Sent)
	}
	f.P50, f.P99, f.Max = served.quantile(.5), served.quantile(.99), served.quantile(1)
	return nil
}

// servedTimes are lengths of time, in microseconds. It is safe for concurrent use until quantile is called.
type servedTimes struct {
	mu     sync.Mutex
	micros []int64
}

func (s *servedTimes) add(micros int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.micros = append(s.micros, micros)
}

// quantile is the least length, in seconds, that a part of all do not exceed.
func (s *servedTimes) quantile(part float64) float64 {
	slices.Sort(s.micros)
	i := int(math.Ceil(part*float64(len(s.micros)))) - 1
	return float64(s.micros[max(0, i)]) / 1e6
}

// benchEvents makes the events of a StreamBench.
type benchEvents struct {
	o      StreamBench
	random *rand.Rand
	start  time.Time
}

// make makes the next n events, a step apart. Their records' timestamps are from at on, or now if that is zero.
func (g *benchEvents) make(n int, at time.Time, step time.Duration) []kafka.Record {
	records := make([]kafka.Record, n)
	for i := range records {
		user := strconv.AppendInt(nil, int64(g.random.IntN(g.o.Entities)), 10)
		value := append([]byte(`{"user_id":`), user...)
		value = append(value, `,"at":"`...)
		value = g.start.UTC().AppendFormat(value, time.RFC3339Nano)
		value = append(value, `","f0":`...)
		value = strconv.AppendFloat(value, float64(g.random.IntN(100_000))/100, 'f', -1, 64)
		records[i] = kafka.Record{Key: user, Value: append(value, '}')}
		g.start = g.start.Add(step)
		if !at.IsZero() {
			records[i].Time = at
			at = at.Add(step)
		}
	}
	return records
}

// decodeAll reads a topic from its start to its end.
func decodeAll(ctx context.Context, c *kafka.Cluster, src *registry.Source, group string) error {
	in, err := c.Open(ctx, src, group, fromStart{})
	if err != nil {
		return err
	}
	defer in.Close()
	ends, err := in.Ends(ctx)
	if err != nil {
		return err
	}
	for len(ends) > 0 {
		chunk, err := in.Poll(ctx, 5000)
		if err != nil {
			return err
		}
		for _, p := range chunk.Partitions {
			if p.Next >= ends[p.ID] {
				delete(ends, p.ID)
			}
		}
		in.Done()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// fromStart starts every partition at its beginning.
type fromStart struct{}

var _ materialize.Owner = fromStart{}

// Assigned implements materialize.Owner.
func (fromStart) Assigned(_ context.Context, _ string, partitions []materialize.Partition) (map[int32]int64, error) {
	starts := map[int32]int64{}
	for _, p := range partitions {
		starts[p.ID] = p.Start
	}
	return starts, nil
}

// Revoked implements materialize.Owner.
func (fromStart) Revoked(context.Context, []int32) {}

// Lost implements materialize.Owner.
func (fromStart) Lost([]int32) {}

// Waiting implements materialize.Owner.
func (fromStart) Waiting() {}
