package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// consumer is a member of a source's consumer group.
type consumer struct {
	cluster *Cluster
	src     *registry.Source
	topic   string
	owner   materialize.Owner
	decode  decoder
	cl      *kgo.Client
	health  connections

	fetched kgo.Fetches             // polled and not decoded yet: a schema could not be had
	records map[int32][]*kgo.Record // of the last poll, ascending
	// internal: the topic is one of copies, whose origins are the rows' versions.
	internal bool
	unknown  time.Time // since when brokers say that the topic is not there
}

var _ materialize.Input = (*consumer)(nil)

// Open implements [materialize.Inputs].
func (c *Cluster) Open(ctx context.Context, src *registry.Source, group string, owner materialize.Owner) (materialize.Input, error) {
	return c.open(ctx, src, group, owner)
}

func (c *Cluster) open(ctx context.Context, src *registry.Source, group string, owner materialize.Owner) (*consumer, error) {
	k := &consumer{cluster: c, src: src, topic: src.Kafka.Topic, owner: owner}
	k.health.brokers = c.brokers
	var err error
	if k.decode, err = c.decoder(src); err != nil {
		return nil, err
	}
	k.cl, err = kgo.NewClient(append(slices.Clone(c.opts),
		kgo.WithContext(context.WithoutCancel(ctx)), // it ends with Close, after the drain
		kgo.WithHooks(&k.health),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(k.topic),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(c.cfg.SessionTimeout),
		kgo.HeartbeatInterval(min(3*time.Second, c.cfg.SessionTimeout/3)),
		kgo.RebalanceTimeout(c.cfg.RebalanceTimeout),
		// Where to start is the owner's to say; never jump.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // they have offsets too
		kgo.KeepRetryableFetchErrors(),
		kgo.FetchMaxBytes(c.cfg.FetchBytes),
		kgo.FetchMaxPartitionBytes(min(c.cfg.FetchBytes, 4<<20)),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.AdjustFetchOffsetsFn(k.assigned),
		kgo.OnPartitionsRevoked(func(ctx context.Context, _ *kgo.Client, ps map[string][]int32) { owner.Revoked(ctx, ps[k.topic]) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, ps map[string][]int32) { owner.Lost(ps[k.topic]) }),
		kgo.OnPartitionsCallbackBlocked(func(context.Context, *kgo.Client) { owner.Waiting() }),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return k, nil
}

// assigned asks the owner where to start. The group's committed offsets have no say.
func (k *consumer) assigned(ctx context.Context, committed map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	mine := committed[k.topic]
	if len(mine) == 0 {
		return committed, nil
	}
	id, err := k.cluster.topic(ctx, k.topic)
	if err != nil {
		return nil, err
	}
	all, err := k.cluster.offsets(ctx, k.topic, false)
	if err != nil {
		return nil, err
	}
	var partitions []materialize.Partition
	for _, p := range slices.Sorted(maps.Keys(mine)) {
		at, ok := all[p]
		if !ok {
			return nil, fmt.Errorf("%w: %s/%d has no offsets yet", materialize.ErrUnavailable, k.topic, p)
		}
		partitions = append(partitions, at)
	}
	topicID := ""
	if id != [16]byte{} {
		topicID = id.String()
	}
	starts, err := k.owner.Assigned(ctx, topicID, partitions)
	if err != nil {
		return nil, err
	}
	offsets := map[int32]kgo.Offset{}
	for p, at := range starts {
		offsets[p] = kgo.NewOffset().At(at)
	}
	return map[string]map[int32]kgo.Offset{k.topic: offsets}, nil
}

// Ends implements [materialize.Input].
func (k *consumer) Ends(ctx context.Context) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, k.cluster.cfg.Timeout)
	defer cancel()
	// Of a transaction that copies, Kafka may tell that the source's offsets are committed before it has marked the copies as
	// such: what is there and cannot be read yet counts too, and is read, or marked as given up, in a moment.
	return k.cluster.ends(ctx, k.topic, !k.internal)
}

// Poll implements [materialize.Input].
func (k *consumer) Poll(ctx context.Context, limit int) (*materialize.Chunk, error) {
	fetches := k.fetched
	if k.fetched = nil; fetches == nil {
		fetches = k.cl.PollRecords(ctx, limit)
		for _, e := range fetches.Errors() {
			if err := k.fetchError(e); err != nil {
				return nil, err
			}
		}
	}
	n := fetches.NumRecords()
	if n > 0 {
		k.unknown = time.Time{}
	}
	chunk := &materialize.Chunk{Rows: feature.NewBatch(k.src.Fields(), n)}
	chunk.Rows.Versions = make([]feature.Version, 0, n)
	k.records = map[int32][]*kgo.Record{}
	var err error
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if err != nil || len(p.Records) == 0 {
			return
		}
		last := p.Records[len(p.Records)-1]
		k.records[p.Partition] = append(k.records[p.Partition], p.Records...)
		at := materialize.ChunkPartition{ID: p.Partition, Next: last.Offset + 1, End: p.HighWatermark, Newest: last.Timestamp.UnixMicro(), Records: len(p.Records)}
		// A poll may bring one partition twice, from two leaders.
		if i := slices.IndexFunc(chunk.Partitions, func(c materialize.ChunkPartition) bool { return c.ID == p.Partition }); i >= 0 {
			at.Records += chunk.Partitions[i].Records
			chunk.Partitions[i] = at
		} else {
			chunk.Partitions = append(chunk.Partitions, at)
		}
		err = k.rows(p.Records, chunk)
	})
	if errors.Is(err, materialize.ErrUnavailable) {
		k.fetched = fetches
	}
	if err != nil {
		return nil, err
	}
	return chunk, nil
}

// rows decodes the records of one partition.
func (k *consumer) rows(records []*kgo.Record, chunk *materialize.Chunk) error {
	now := k.cluster.cfg.Now().UnixMicro()
	timestamp := k.src.Column(k.src.Timestamp)
	for _, r := range records {
		if r.Attrs.IsControl() {
			continue
		}
		bad := func(reason materialize.Reason, message string) {
			chunk.Bad = append(chunk.Bad, materialize.Bad{Partition: r.Partition, Offset: r.Offset, Reason: reason, Message: message})
		}
		if r.Value == nil {
			bad(materialize.ReasonTombstone, "the record has no value; rows of a source are never deleted")
			continue
		}
		refusal, err := k.decode(r.Value, chunk.Rows)
		if err != nil {
			return err
		}
		if refusal != nil {
			bad(refusal.reason, refusal.message)
			continue
		}
		i := chunk.Rows.Rows - 1
		column := chunk.Rows.Columns[timestamp]
		version := feature.Version{EventTime: column.Int64s()[i], IngestedAt: r.Timestamp.UnixMicro(), Major: int64(r.Partition), Minor: r.Offset}
		clock := now
		if r.Attrs.TimestampType() == 1 {
			clock = version.IngestedAt // the broker's clock: the same at every reading
		} else if r.Timestamp.UnixMilli() < 0 {
			version.IngestedAt = version.EventTime // a record without a timestamp
		}
		if k.internal {
			of, err := origin(r)
			if err != nil {
				return err
			}
			version.IngestedAt, version.Major, version.Minor = of.IngestedAt, of.Major, of.Minor
			chunk.Positions = append(chunk.Positions, materialize.Position{Partition: r.Partition, Offset: r.Offset})
			clock = version.EventTime // it was held against the clock before it was copied
		}
		if why := k.src.AheadOfClock(version.EventTime, clock); why != "" {
			dropLast(chunk.Rows)
			bad(materialize.ReasonAheadOfClock, fmt.Sprintf("field %q: %s", k.src.Columns[timestamp].Outside(), why))
			continue
		}
		chunk.Rows.Versions = append(chunk.Rows.Versions, version)
	}
	return nil
}

// fetchError is nil for errors that pass by themselves.
func (k *consumer) fetchError(e kgo.FetchError) error {
	var loss *kgo.ErrDataLoss
	switch {
	case errors.Is(e.Err, context.Canceled), errors.Is(e.Err, context.DeadlineExceeded):
		return nil
	case errors.Is(e.Err, kerr.OffsetOutOfRange):
		return fmt.Errorf("%w: %s/%d: Kafka has deleted or lost the records that come next: %w", materialize.ErrAgain, k.topic, e.Partition, e.Err)
	case errors.As(e.Err, &loss):
		return fmt.Errorf("%w: %s/%d: brokers lost records that were read already: %w", materialize.ErrAgain, k.topic, e.Partition, e.Err)
	case errors.Is(e.Err, kerr.UnknownTopicID), errors.Is(e.Err, kerr.UnknownTopicOrPartition):
		// A broker that has just started may say so for a moment.
		if k.unknown.IsZero() {
			k.unknown = time.Now()
		}
		if time.Since(k.unknown) < silence/2 {
			return nil
		}
		return fmt.Errorf("%w: topic %s was deleted: %w", materialize.ErrAgain, k.topic, e.Err)
	case errors.Is(e.Err, kerr.GroupAuthorizationFailed), errors.Is(e.Err, kerr.TopicAuthorizationFailed), errors.Is(e.Err, kerr.SaslAuthenticationFailed):
		return fmt.Errorf("kafka at %s: read %s: %w", k.cluster.brokers, k.topic, e.Err)
	case errors.Is(e.Err, kgo.ErrClientClosed):
		return fmt.Errorf("%w: %w", materialize.ErrAgain, e.Err)
	case kerr.IsRetriable(e.Err), kgo.IsRetryableBrokerErr(e.Err):
		k.health.note(e.Err)
		return nil
	}
	var session *kgo.ErrGroupSession
	if errors.As(e.Err, &session) {
		// The owner knows already if it was its own; else the client tries again.
		k.health.note(e.Err)
		return nil
	}
	return fmt.Errorf("kafka at %s: read %s/%d: %w", k.cluster.brokers, k.topic, e.Partition, e.Err)
}

// Done implements [materialize.Input].
func (k *consumer) Done() { k.cl.AllowRebalance() }

// Commit implements [materialize.Input].
func (k *consumer) Commit(ctx context.Context, next map[int32]int64) error {
	offsets := map[int32]kgo.EpochOffset{}
	for p, at := range next {
		offsets[p] = kgo.EpochOffset{Epoch: -1, Offset: at}
	}
	var failed error
	k.cl.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{k.topic: offsets}, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		failed = err
		if err != nil {
			return
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				failed = errors.Join(failed, kerr.ErrorForCode(p.ErrorCode))
			}
		}
	})
	return failed
}

// Health implements [materialize.Input].
func (k *consumer) Health() error { return k.health.err() }

// Close implements [materialize.Input].
func (k *consumer) Close() { k.cl.CloseAllowingRebalance() }

// connections notices that brokers do not answer: the client itself tries again for ever and says nothing.
type connections struct {
	brokers  string
	answered atomic.Int64 // unix nanoseconds
	failure  atomic.Pointer[error]
}

var (
	_ kgo.HookBrokerConnect = (*connections)(nil)
	_ kgo.HookBrokerE2E     = (*connections)(nil)
)

func (c *connections) note(err error) { c.failure.Store(&err) }

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (c *connections) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil {
		c.note(err)
	}
}

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (c *connections) OnBrokerE2E(_ kgo.BrokerMetadata, _ int16, e kgo.BrokerE2E) {
	if err := e.Err(); err != nil {
		c.note(err)
		return
	}
	c.answered.Store(time.Now().UnixNano())
	c.failure.Store(nil)
}

// silence is how long no broker may answer: fetches and heartbeats are answered far more often.
const silence = 10 * time.Second

func (c *connections) err() error {
	failure, answered := c.failure.Load(), c.answered.Load()
	if failure == nil || time.Since(time.Unix(0, answered)) < silence {
		return nil
	}
	return fmt.Errorf("kafka at %s: %w: no broker answers: %w", c.brokers, materialize.ErrUnavailable, *failure)
}
