package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebay/forebay/materialize"
)

// DeadLetterTopic is the topic on which refused records of a topic are put.
func DeadLetterTopic(topic string) string { return topic + ".forebay.dlq" }

// The headers of a dead letter (docs/format/dead-letter.md). Those of the record come before them.
const (
	HeaderVersion   = "forebay.version"   // of this format: 1
	HeaderReason    = "forebay.reason"    // a stable code, materialize.Reason
	HeaderMessage   = "forebay.message"   // for people
	HeaderSource    = "forebay.source"    // the source's name
	HeaderView      = "forebay.view"      // view@generation; only where a view refuses what its source takes
	HeaderTopic     = "forebay.topic"     // where the record was
	HeaderPartition = "forebay.partition" // decimal
	HeaderOffset    = "forebay.offset"    // decimal
	HeaderTime      = "forebay.time"      // of the refusal, RFC 3339
)

const deadLetterVersion = "1"

// DeadLetter implements [materialize.Input].
func (k *consumer) DeadLetter(ctx context.Context, bad []materialize.Bad) error {
	ctx, cancel := context.WithTimeout(ctx, k.cluster.cfg.Timeout)
	defer cancel()
	to := DeadLetterTopic(k.topic)
	if err := k.cluster.ensureTopic(ctx, to); err != nil {
		return err
	}
	now := time.Now().UTC()
	letters := make([]*kgo.Record, 0, len(bad))
	for _, b := range bad {
		r, err := k.record(b.Partition, b.Offset)
		if err != nil {
			return err
		}
		letters = append(letters, letter(to, k.src.Name, r, b, now))
	}
	if err := k.cluster.cl.ProduceSync(ctx, letters...).FirstErr(); err != nil {
		return fmt.Errorf("write %d dead letters to %s: %w", len(letters), to, k.cluster.wrap(err))
	}
	k.cluster.log.Warn("records were refused", "count", len(bad), "dead_letters", to, "first_reason", bad[0].Reason, "first_message", bad[0].Message,
		"first_partition", bad[0].Partition, "first_offset", bad[0].Offset)
	return nil
}

func letter(to, source string, r *kgo.Record, b materialize.Bad, now time.Time) *kgo.Record {
	headers := append(slices.Clone(r.Headers),
		kgo.RecordHeader{Key: HeaderVersion, Value: []byte(deadLetterVersion)},
		kgo.RecordHeader{Key: HeaderReason, Value: []byte(b.Reason)},
		kgo.RecordHeader{Key: HeaderMessage, Value: []byte(b.Message)},
		kgo.RecordHeader{Key: HeaderSource, Value: []byte(source)},
		kgo.RecordHeader{Key: HeaderTopic, Value: []byte(r.Topic)},
		kgo.RecordHeader{Key: HeaderPartition, Value: strconv.AppendInt(nil, int64(r.Partition), 10)},
		kgo.RecordHeader{Key: HeaderOffset, Value: strconv.AppendInt(nil, r.Offset, 10)},
		kgo.RecordHeader{Key: HeaderTime, Value: now.AppendFormat(nil, time.RFC3339Nano)},
	)
	if b.View != "" {
		headers = append(headers, kgo.RecordHeader{Key: HeaderView, Value: []byte(b.View)})
	}
	return &kgo.Record{Topic: to, Key: r.Key, Value: r.Value, Headers: headers}
}

// record finds a record of the last poll.
func (k *consumer) record(partition int32, offset int64) (*kgo.Record, error) {
	records := k.records[partition]
	i, ok := slices.BinarySearchFunc(records, offset, func(r *kgo.Record, at int64) int { return cmp.Compare(r.Offset, at) })
	if !ok {
		return nil, fmt.Errorf("no record at %s/%d offset %d in the last poll", k.topic, partition, offset)
	}
	return records[i], nil
}

// topicsMade remembers which topics are known to exist.
type topicsMade struct {
	mu    sync.Mutex
	names map[string]bool
}

// ensureTopic creates a topic of one partition, with the brokers' own settings, if it is not there.
func (c *Cluster) ensureTopic(ctx context.Context, name string) error {
	c.made.mu.Lock()
	defer c.made.mu.Unlock()
	if c.made.names[name] {
		return nil
	}
	if _, err := c.topic(ctx, name); errors.Is(err, errNoTopic) {
		_, err := kadm.NewClient(c.cl).CreateTopic(ctx, 1, -1, nil, name)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create the dead-letter topic %s: %w", name, c.wrap(err))
		}
		c.log.Info("created the dead-letter topic", "topic", name)
	} else if err != nil {
		return err
	}
	if c.made.names == nil {
		c.made.names = map[string]bool{}
	}
	c.made.names[name] = true
	return nil
}
