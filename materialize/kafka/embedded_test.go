package kafka_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/materialize/kafka"
	"github.com/forebay/forebay/materialize/materializetest"
	"github.com/forebay/forebay/registry"
)

// TestEmbedded streams from the embedded Kafka, starts it again on its folder, and streams the rest.
func TestEmbedded(t *testing.T) {
	current := goleak.IgnoreCurrent()
	defer goleak.VerifyNone(t, current)
	dir := t.TempDir()
	store, project := materializetest.NewStore(), materializetest.Project("events", "json")
	rng := rand.New(rand.NewPCG(1, 1))
	var events []materializetest.Event
	addr := ""
	for round := range 3 {
		if at, ok := kafka.FindEmbedded(dir); ok {
			t.Fatalf("found %s before it runs", at)
		}
		b, err := kafka.Embedded(dir, "127.0.0.1:0", nil)
		if err != nil {
			t.Fatal(err)
		}
		if addr != "" && b.Addr() != addr {
			t.Errorf("it listened at %s, and now at %s", addr, b.Addr())
		}
		addr = b.Addr()
		if at, ok := kafka.FindEmbedded(dir); !ok || at != addr {
			t.Errorf("found %q, %t; want %s", at, ok, addr)
		}
		if _, err := kafka.Embedded(dir, "127.0.0.1:0", nil); !errors.Is(err, kafka.ErrEmbeddedHeld) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) || !strings.Contains(err.Error(), addr) {
			t.Errorf("a second owner: %v", err)
		}

		cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			user := "u" + strconv.Itoa(rng.IntN(9))
			amount := int64(rng.IntN(9))
			e := materializetest.Event{Time: int64(rng.IntN(1000)) * 1e6, Ingested: time.UnixMilli(int64(1000 + 100*round + i)).UnixMicro(), User: &user, Amount: &amount}
			r := &kgo.Record{Topic: "events", Key: []byte(user), Value: []byte(e.JSON()), Timestamp: time.UnixMicro(e.Ingested)}
			if err := cl.ProduceSync(context.Background(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
			e.Partition, e.Offset = r.Partition, r.Offset
			events = append(events, e)
		}
		cl.Close()

		c, err := kafka.New(kafka.Config{Brokers: []string{addr}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := materialize.NewStream(materialize.StreamConfig{
			Sources: []*registry.Source{&project.Sources[0]}, Views: materializetest.Generations(project), Inputs: c, Online: store, Log: store, Tables: store, Group: "g", UntilCaughtUp: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if d := store.Differences(project, events); len(d) > 0 {
			t.Fatalf("round %d: %d differences, first %s", round, len(d), d[0])
		}
		for range 2 {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
