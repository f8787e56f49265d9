package kafka_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebay/forebay/internal/rowjson"
	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/kafka"
	"github.com/forebay/forebay/materialize/materializetest"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// discard takes everything and keeps nothing, so that what is measured is the stream itself.
type discard struct{}

func (discard) Write(_ context.Context, _ registry.ViewGeneration, rows *feature.Batch, _ bool) (applied, stale int, err error) {
	return rows.Rows, 0, nil
}
func (discard) States(context.Context, registry.ViewGeneration, [][]byte, []materialize.WindowRecord) error {
	return nil
}
func (discard) WriteStates(_ context.Context, _ registry.ViewGeneration, records []materialize.WindowRecord) (applied, stale int, err error) {
	return len(records), 0, nil
}
func (discard) Server(context.Context) (string, error) { return "", nil }
func (discard) Resumes(context.Context, registry.ViewGeneration) (map[string]string, error) {
	return map[string]string{"offline": "-"}, nil
}
func (discard) SetResumes(context.Context, registry.ViewGeneration, map[string]string) error {
	return nil
}
func (discard) Live(context.Context) (map[string]int, error)                       { return nil, nil }
func (discard) SetLive(context.Context, registry.ViewGeneration) error             { return nil }
func (discard) Offsets(context.Context, *registry.Source) (map[int32]int64, error) { return nil, nil }
func (discard) Append(context.Context, *registry.Source, []*feature.Batch, map[int32]materialize.OffsetRange) error {
	return nil
}
func (discard) Refresh(context.Context, registry.ViewGeneration) (materialize.TableState, error) {
	return materialize.TableState{}, nil
}
func (discard) Scan(context.Context, registry.ViewGeneration, materialize.ScanOptions) iter.Seq2[*feature.Batch, error] {
	return func(func(*feature.Batch, error) bool) {}
}

func benchValues(n int) [][]byte {
	rng := rand.New(rand.NewPCG(1, 1))
	values := make([][]byte, n)
	for i := range values {
		user, shop, amount, note := fmt.Sprintf("user-%d", rng.IntN(20000)), int64(rng.IntN(100)), int64(rng.IntN(100)), "a note of some words"
		values[i] = []byte(materializetest.Event{Time: 1_700_000_000_000_000 + int64(i)*1000, User: &user, Shop: &shop, Amount: &amount, Note: &note}.JSON())
	}
	return values
}

// BenchmarkDecode is the floor: the records' values in memory, decoded.
func BenchmarkDecode(b *testing.B) {
	values := benchValues(5000)
	src := &materializetest.Project("t", "json").Sources[0]
	d := rowjson.NewDecoder(src)
	rows := feature.NewBatch(src.Fields(), len(values))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		rows.Reset()
		for _, v := range values {
			if err := d.Append(v, rows); err != nil {
				b.Fatal(err)
			}
		}
		n += len(values)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkStream is the whole of it from a real Kafka beside it, for two views, with sinks that
// discard; BenchmarkFetchAndDecode the same without views.
func BenchmarkStream(b *testing.B)         { benchmarkStream(b, true) }
func BenchmarkFetchAndDecode(b *testing.B) { benchmarkStream(b, false) }

func benchmarkStream(b *testing.B, views bool) {
	const n = 300_000
	brokers := testenv.Kafka(b)
	topic := brokers.Topic(b, 4)
	values := benchValues(n)
	records := make([]*kgo.Record, n)
	for i, v := range values {
		records[i] = &kgo.Record{Topic: topic, Partition: int32(i & 3), Value: v}
	}
	brokers.Produce(b, records...)
	project := materializetest.Project(topic, "json")
	total, elapsed := 0, time.Duration(0)
	for b.Loop() {
		c, err := kafka.New(kafka.Config{Brokers: brokers.Addrs()})
		if err != nil {
			b.Fatal(err)
		}
		cfg := materialize.StreamConfig{Sources: []*registry.Source{&project.Sources[0]}, Inputs: c, Online: discard{}, Log: discard{}, Tables: discard{}, Group: brokers.Name(b), UntilCaughtUp: true}
		if views {
			cfg.Views = materializetest.Generations(project)
		}
		s, err := materialize.NewStream(cfg)
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if err := s.Run(context.Background()); err != nil {
			b.Fatal(err)
		}
		elapsed += time.Since(start)
		total += int(s.Stats()[0].Rows)
		c.Close()
	}
	if total == 0 || total%n != 0 {
		b.Fatalf("%d rows", total)
	}
	b.ReportMetric(float64(total)/elapsed.Seconds(), "events/s")
}
