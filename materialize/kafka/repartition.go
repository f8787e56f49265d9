package kafka

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/registry/feature"
)

// The headers of a record of an internal topic (docs/format/repartition.md).
const (
	HeaderOrigin = "forebay.origin" // partition/offset@ingested_at in the source's topic: decimal, ingested_at in microseconds

	repartitionVersion = "1"
	// repartitionRetention is how long copies are kept: they are read within seconds, and again
	// only from a resume point on, or where a view is built anew from the log.
	repartitionRetention = 3 * 24 * time.Hour
	transactionTimeout   = 30 * time.Second
	repartitionRows      = 5000 // in one transaction
)

var _ materialize.Repartitioner = (*Cluster)(nil)

// Repartition implements [materialize.Repartitioner]. Each poll is one transaction: the
// copies, the dead letters, and the group's offsets are there together or not at all.
func (c *Cluster) Repartition(ctx context.Context, r *materialize.Repartition) error {
	if err := c.ensureInternal(ctx, r); err != nil {
		if ctx.Err() != nil {
			return nil // as where it ends later
		}
		return err
	}
	k := &repartitioner{Repartition: r, consumer: consumer{cluster: c, src: r.Source, topic: r.Source.Kafka.Topic}}
	k.health.brokers = c.brokers
	var err error
	if k.decode, err = c.decoder(r.Source); err != nil {
		return err
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx)) // a transaction that has begun is ended
	defer cancel()
	k.session, err = kgo.NewGroupTransactSession(append(slices.Clone(c.opts),
		kgo.WithContext(work),
		kgo.WithHooks(&k.health),
		kgo.ConsumerGroup(r.Group),
		kgo.ConsumeTopics(k.topic),
		// Of this member alone: a member that died is fenced by the group's generation.
		kgo.TransactionalID(r.Group+"-"+rand.Text()),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.SessionTimeout(c.cfg.SessionTimeout),
		kgo.HeartbeatInterval(min(3*time.Second, c.cfg.SessionTimeout/3)),
		kgo.RebalanceTimeout(c.cfg.RebalanceTimeout),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // they have offsets too
		kgo.KeepRetryableFetchErrors(),
		kgo.FetchMaxBytes(c.cfg.FetchBytes),
		kgo.FetchMaxPartitionBytes(min(c.cfg.FetchBytes, 4<<20)),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.AdjustFetchOffsetsFn(k.assigned),
		kgo.ProducerLinger(0),
		kgo.MaxBufferedBytes(64<<20),
	)...)
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	defer k.session.Close()
	k.cl = k.session.Client()
	for ctx.Err() == nil {
		if err := k.turn(ctx, work); err != nil {
			return fmt.Errorf("repartition %s to %s: %w", k.topic, r.Topic, err)
		}
	}
	return nil
}

// repartitioner is a member of the group that copies a topic.
type repartitioner struct {
	consumer
	*materialize.Repartition
	session *kgo.GroupTransactSession
	// refused says why no partition can be copied; the client would ask for ever.
	refused atomic.Pointer[error]
}

// assigned says where to start: after what is copied.
func (k *repartitioner) assigned(ctx context.Context, committed map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	mine := committed[k.topic]
	if len(mine) == 0 {
		return committed, nil
	}
	all, err := k.cluster.offsets(ctx, k.topic, false)
	if err != nil {
		return nil, err
	}
	// By the internal topic itself, of partitions of which the group has no offset: it may have lost it, also
	// while it has those of others. The first transaction with records of a partition commits one.
	var copied map[int32]int64
	starts := map[int32]kgo.Offset{}
	for p, o := range mine {
		at := o.EpochOffset().Offset
		if at < 0 {
			at = max(k.From[p], all[p].Start)
			read := at < all[p].End
			if !read { // an empty partition: only to see whether the topic is another one
				if read, err = k.forgotten(ctx); err != nil {
					return nil, err
				}
			}
			if copied == nil && read {
				if copied, err = k.copied(ctx); err != nil {
					return nil, err
				}
			}
			at = max(at, copied[p])
		}
		if at > all[p].End {
			err := fmt.Errorf("%w: %s/%d ends at offset %d, but everything up to offset %d was copied to %s: the topic was created again, or its brokers lost data; "+
				"give its events a source of their own, or a topic of another name", materialize.ErrOffsets, k.topic, p, all[p].End, at, k.Topic)
			k.refused.Store(&err)
			return nil, err
		}
		// Where Kafka has deleted what was not copied, the pipeline of the log finds that gap, and says so.
		starts[p] = kgo.NewOffset().At(max(at, all[p].Start))
	}
	return map[string]map[int32]kgo.Offset{k.topic: starts}, nil
}

// forgotten says whether the group has no offset of any partition.
func (k *repartitioner) forgotten(ctx context.Context) (bool, error) {
	committed, err := kadm.NewClient(k.cluster.cl).FetchOffsets(ctx, k.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return false, fmt.Errorf("read the offsets of group %s: %w", k.Group, k.cluster.wrap(err))
	}
	for _, at := range committed[k.topic] {
		if at.Err == nil && at.At >= 0 {
			return false, nil
		}
	}
	return true, nil
}

// copied is, per partition of the source's topic, the offset after the last record that the
// internal topic holds a copy of.
func (k *repartitioner) copied(ctx context.Context) (map[int32]int64, error) {
	held, err := k.cluster.offsets(ctx, k.Topic, true)
	if err != nil {
		return nil, err
	}
	copied := map[int32]int64{}
	starts, left := map[int32]kgo.Offset{}, map[int32]int64{}
	for p, at := range held {
		if at.End > at.Start {
			starts[p], left[p] = kgo.NewOffset().At(at.Start), at.End
		}
	}
	if len(left) == 0 {
		return copied, nil
	}
	k.cluster.log.Info("the group lacks offsets; what was copied is read from the internal topic itself", "group", k.Group, "topic", k.Topic)
	cl, err := kgo.NewClient(append(slices.Clone(k.cluster.opts),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{k.Topic: starts}), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	defer cl.Close()
	for len(left) > 0 {
		fetches := cl.PollRecords(ctx, repartitionRows)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, e := range fetches.Errors() {
			if !kerr.IsRetriable(e.Err) && !kgo.IsRetryableBrokerErr(e.Err) {
				return nil, fmt.Errorf("read %s/%d: %w", k.Topic, e.Partition, k.cluster.wrap(e.Err))
			}
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if v, err := origin(r); err == nil && !r.Attrs.IsControl() {
				copied[int32(v.Major)] = max(copied[int32(v.Major)], v.Minor+1)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return copied, nil
}

// turn polls once, and copies what came in one transaction.
func (k *repartitioner) turn(ctx, work context.Context) error {
	chunk, err := k.Poll(ctx, repartitionRows)
	if refused := k.refused.Load(); refused != nil {
		return *refused
	}
	if err != nil {
		if errors.Is(err, materialize.ErrUnavailable) { // of the schema registry: the same records are decoded again
			k.cluster.log.Warn("records cannot be decoded now; they are tried again", "error", err)
			timer := time.NewTimer(time.Second)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			return nil
		}
		return err
	}
	if len(chunk.Partitions) == 0 {
		return nil
	}
	records, err := k.copies(work, chunk)
	if err != nil {
		return err
	}
	if err := k.session.Begin(); err != nil {
		return fmt.Errorf("%w: begin a transaction: %w", materialize.ErrAgain, err)
	}
	var failed error
	for _, r := range records {
		k.session.Produce(work, r, func(_ *kgo.Record, err error) { // promises are called one after the other
			if err != nil && failed == nil {
				failed = err
			}
		})
	}
	ending, cancel := context.WithTimeout(work, transactionTimeout)
	defer cancel()
	if err := k.cl.Flush(ending); err != nil {
		return fmt.Errorf("%w: %w", materialize.ErrAgain, k.cluster.wrap(err))
	}
	committed, err := k.session.End(ending, kgo.TransactionEndTry(failed == nil))
	switch {
	case err != nil:
		return fmt.Errorf("%w: end a transaction: %w", materialize.ErrAgain, err)
	case failed != nil:
		return fmt.Errorf("%w: %w", materialize.ErrAgain, k.cluster.wrap(failed))
	case !committed:
		k.cluster.log.Debug("partitions moved: what was copied since the last commit is copied again", "topic", k.topic)
	}
	return nil
}

// copies makes the internal topic's records of a chunk, and dead letters of what the view
// refuses. What the source refuses is the business of the source's own pipeline.
func (k *repartitioner) copies(ctx context.Context, chunk *materialize.Chunk) ([]*kgo.Record, error) {
	keys, refused := k.Keys(chunk.Rows)
	records := make([]*kgo.Record, 0, len(keys)+len(refused))
	for i, key := range keys {
		if key == nil {
			continue
		}
		version := chunk.Rows.Versions[i]
		r, err := k.record(int32(version.Major), version.Minor) //nolint:gosec // a partition
		if err != nil {
			return nil, err
		}
		records = append(records, &kgo.Record{Topic: k.Topic, Key: slices.Clone(key), Value: r.Value, Headers: []kgo.RecordHeader{
			// The record's own timestamp is in the origin: Kafka would delete copies of old records at once.
			{Key: HeaderVersion, Value: []byte(repartitionVersion)},
			{Key: HeaderOrigin, Value: appendOrigin(nil, version)},
		}})
	}
	if len(refused) == 0 {
		return records, nil
	}
	to := DeadLetterTopic(k.topic)
	if err := k.cluster.ensureTopic(ctx, to); err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	for _, b := range refused {
		r, err := k.record(b.Partition, b.Offset)
		if err != nil {
			return nil, err
		}
		records = append(records, letter(to, k.src.Name, r, b, now))
	}
	k.cluster.log.Warn("records were refused", "count", len(refused), "dead_letters", to, "first_message", refused[0].Message, "first_partition", refused[0].Partition, "first_offset", refused[0].Offset)
	return records, nil
}

func appendOrigin(dst []byte, v feature.Version) []byte {
	dst = strconv.AppendInt(dst, v.Major, 10)
	dst = strconv.AppendInt(append(dst, '/'), v.Minor, 10)
	return strconv.AppendInt(append(dst, '@'), v.IngestedAt, 10)
}

// origin is what a record of an internal topic was in the source's topic: a version without the event time.
func origin(r *kgo.Record) (v feature.Version, err error) {
	at := fmt.Sprintf("%s/%d offset %d", r.Topic, r.Partition, r.Offset)
	for _, h := range r.Headers {
		switch h.Key {
		case HeaderVersion:
			if string(h.Value) != repartitionVersion {
				return v, fmt.Errorf("%s: the copy is of format version %q, and this version reads %s", at, h.Value, repartitionVersion)
			}
		case HeaderOrigin:
			place, ingested, _ := strings.Cut(string(h.Value), "@")
			partition, offset, _ := strings.Cut(place, "/")
			var errs [3]error
			v.Major, errs[0] = strconv.ParseInt(partition, 10, 32)
			v.Minor, errs[1] = strconv.ParseInt(offset, 10, 64)
			v.IngestedAt, errs[2] = strconv.ParseInt(ingested, 10, 64)
			if errors.Join(errs[:]...) != nil || v.Major < 0 || v.Minor < 0 {
				return v, fmt.Errorf("%s: header %s %q is not partition/offset@ingested_at", at, HeaderOrigin, h.Value)
			}
			return v, nil
		}
	}
	return v, fmt.Errorf("%s: the record has no header %s: something else than Forebay writes to its internal topic", at, HeaderOrigin)
}

// ensureInternal makes the internal topic if it is not there.
func (c *Cluster) ensureInternal(ctx context.Context, r *materialize.Repartition) error {
	switch _, err := c.topic(ctx, r.Topic); {
	case err == nil:
		return nil
	case !errors.Is(err, errNoTopic):
		return err
	}
	retention := strconv.FormatInt(repartitionRetention.Milliseconds(), 10)
	createTime, policy := "CreateTime", "delete"
	_, err := kadm.NewClient(c.cl).CreateTopic(ctx, r.Partitions, -1, map[string]*string{
		"retention.ms": &retention, "message.timestamp.type": &createTime, "cleanup.policy": &policy}, r.Topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create the internal topic %s: %w", r.Topic, c.wrap(err))
	}
	c.log.Info("created an internal topic", "topic", r.Topic, "partitions", r.Partitions)
	return nil
}

// SourceEnds implements [materialize.Repartitioner].
func (c *Cluster) SourceEnds(ctx context.Context, r *materialize.Repartition) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	return c.ends(ctx, r.Source.Kafka.Topic, true)
}

// Repartitioned implements [materialize.Repartitioner].
func (c *Cluster) Repartitioned(ctx context.Context, r *materialize.Repartition, ends map[int32]int64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	committed, err := kadm.NewClient(c.cl).FetchOffsets(ctx, r.Group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		committed, err = nil, nil // nobody has copied yet
	}
	if err != nil {
		return false, fmt.Errorf("read the offsets of group %s: %w", r.Group, c.wrap(err))
	}
	for p, end := range ends {
		if end <= r.From[p] {
			continue
		}
		at, ok := committed.Lookup(r.Source.Kafka.Topic, p)
		if !ok || at.Err != nil || at.At < end {
			return false, nil
		}
	}
	return true, nil
}

// OpenRepartitioned implements [materialize.Repartitioner].
func (c *Cluster) OpenRepartitioned(ctx context.Context, r *materialize.Repartition, group string, owner materialize.Owner) (materialize.Input, error) {
	if err := c.ensureInternal(ctx, r); err != nil {
		return nil, err
	}
	src, topic := *r.Source, *r.Source.Kafka
	topic.Topic = r.Topic
	src.Kafka = &topic
	k, err := c.open(ctx, &src, group, owner)
	if err != nil {
		return nil, err
	}
	k.internal = true
	return k, nil
}

// DropRepartitioned implements [materialize.Repartitioner].
func (c *Cluster) DropRepartitioned(ctx context.Context, topic, group string) error {
	adm := kadm.NewClient(c.cl)
	if _, err := adm.DeleteTopic(ctx, topic); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("delete the internal topic %s: %w", topic, c.wrap(err))
	}
	if _, err := adm.DeleteGroup(ctx, group); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("delete group %s: %w", group, c.wrap(err))
	}
	return nil
}

// ends are, per partition that has records, the offset after the last one, or after the last that can be read (committed).
func (c *Cluster) ends(ctx context.Context, topic string, committed bool) (map[int32]int64, error) {
	all, err := c.offsets(ctx, topic, committed)
	if err != nil {
		return nil, err
	}
	ends := map[int32]int64{}
	for _, p := range slices.Sorted(maps.Keys(all)) {
		if at := all[p]; at.End > at.Start {
			ends[p] = at.End
		}
	}
	return ends, nil
}
