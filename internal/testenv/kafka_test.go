//go:build unix

package testenv

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestKafkaIsShared(t *testing.T) {
	b := Kafka(t)
	if b != Kafka(t) {
		t.Fatal("a second cluster was started")
	}
	topic := b.Topic(t, 2)
	b.Produce(t, &kgo.Record{Topic: topic, Partition: 1, Value: []byte("one")}, &kgo.Record{Topic: topic, Partition: 1, Value: []byte("two")})
	ends, err := kadm.NewClient(b.Client(t)).ListEndOffsets(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := ends.Lookup(topic, 1); o.Offset != 2 {
		t.Fatalf("partition 1 ends at %d, want 2", o.Offset)
	}
}

func TestKafkaClusterSurvivesAKilledBroker(t *testing.T) {
	b := KafkaCluster(t, 3)
	topic := b.Topic(t, 1)
	for n := 1; n <= 2; n++ {
		b.Kill(t, n)
		b.Produce(t, &kgo.Record{Topic: topic, Value: []byte("while one is away")})
		b.Revive(t, n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ends, err := kadm.NewClient(b.Client(t)).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := ends.Lookup(topic, 0); o.Offset != 2 {
		t.Fatalf("the topic ends at %d, want 2", o.Offset)
	}
	b.Stop()
	for _, n := range b.nodes {
		if err := syscall.Kill(n.cmd.Process.Pid, 0); err == nil {
			t.Errorf("broker %d runs after Stop", n.id)
		}
	}
	if _, err := os.Stat(b.dir); !os.IsNotExist(err) {
		t.Errorf("%s is left behind: %v", b.dir, err)
	}
	if !strings.HasPrefix(topic, "TestKafkaClusterSurvivesAKilledBroker-") {
		t.Errorf("topic %q does not say whose it is", topic)
	}
}
