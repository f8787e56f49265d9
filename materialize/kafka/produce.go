package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Record is an event to be written to a topic.
type Record struct {
	Key, Value []byte
	Time       time.Time // the record's own timestamp; the zero Time is now
}

// produceTimeouts is how many times Config.Timeout writing one slice of records may take.
const produceTimeouts = 4

// CreateTopic makes a topic with the brokers' own settings, if it is not there.
func (c *Cluster) CreateTopic(ctx context.Context, name string, partitions int32) error {
	_, err := kadm.NewClient(c.cl).CreateTopic(ctx, partitions, -1, nil, name)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", name, c.wrap(err))
	}
	return nil
}

// Produce writes records to a topic and returns when Kafka has them all. Records
// of one key keep their order. After an error some may have been written.
func (c *Cluster) Produce(ctx context.Context, topic string, records []Record) error {
	// Not kgo.RecordDeliveryTimeout: it counts from a record's own timestamp.
	ctx, cancel := context.WithTimeout(ctx, produceTimeouts*c.cfg.Timeout)
	defer cancel()
	rs := make([]*kgo.Record, len(records))
	for i, r := range records {
		rs[i] = &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Timestamp: r.Time}
	}
	if err := c.cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		return fmt.Errorf("write %d records to %s: %w", len(records), topic, c.wrap(err))
	}
	return nil
}

// Ends are, per partition of a topic, the offset after the last record that can be read.
func (c *Cluster) Ends(ctx context.Context, topic string) (map[int32]int64, error) {
	partitions, err := c.offsets(ctx, topic, true)
	if err != nil {
		return nil, err
	}
	ends := make(map[int32]int64, len(partitions))
	for p, at := range partitions {
		ends[p] = at.End
	}
	return ends, nil
}
