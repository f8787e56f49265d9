package materialize

import (
	"context"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Inputs opens the topics of sources; materialize/kafka implements it. It is safe for concurrent use.
type Inputs interface {
	// Check reports whether the source's topic can be consumed: that it is
	// there, and its format supported. ErrUnavailable if Kafka is not reached in a bounded time.
	Check(ctx context.Context, src *registry.Source) error
	// Partitions is the number of partitions of a topic; 0 if it is not there.
	Partitions(ctx context.Context, topic string) (int, error)
	// Ends are, per partition of a topic that has records, the offset after the last that can be read now.
	Ends(ctx context.Context, topic string) (map[int32]int64, error)
	// Open joins a consumer group of the source's topic. Owner hears of partitions
	// that come and go; its calls do not overlap each other nor the time from a Poll to Done.
	Open(ctx context.Context, src *registry.Source, group string, owner Owner) (Input, error)
}

// Input is one member of a consumer group of one topic. It is used by one goroutine.
type Input interface {
	// Ends are, per partition of the topic that has records, the offset after the last that can be read now.
	Ends(ctx context.Context) (map[int32]int64, error)
	// Poll waits for records until ctx ends (then it returns an empty chunk), and decodes up to
	// limit of them. Until Done no partition comes or goes. After ErrUnavailable (the records'
	// schema cannot be had) the next Poll decodes the same records.
	Poll(ctx context.Context, limit int) (*Chunk, error)
	// Done says that the chunk of the last Poll has been dealt with.
	Done()
	// DeadLetter puts records of the last chunk on the dead-letter topic, and returns when Kafka has them.
	DeadLetter(ctx context.Context, bad []Bad) error
	// Commit commits the group's offsets, which are for displays of lag alone.
	Commit(ctx context.Context, next map[int32]int64) error
	// Health is nil while Kafka answers.
	Health() error
	// Close leaves the group, if it can be reached at once.
	Close()
}

// Owner is told which partitions an Input has.
type Owner interface {
	// Assigned gives the partitions that came; the answer is the offset to start each of them at.
	Assigned(ctx context.Context, topicID string, partitions []Partition) (map[int32]int64, error)
	// Revoked takes partitions away; what was read from them may be completed until it returns.
	Revoked(ctx context.Context, partitions []int32)
	// Lost says that partitions belong to somebody else already.
	Lost(partitions []int32)
	// Waiting says that partitions are to be taken away as soon as Done is called. It may be called at any time.
	Waiting()
}

// Partition is what Kafka has of a partition: records of offsets [Start, End).
type Partition struct {
	ID         int32
	Start, End int64
}

// Chunk is what one Poll brought, decoded.
type Chunk struct {
	// Rows are the source's columns; of their Versions, Major is the partition and
	// Minor the offset. They belong to the caller.
	Rows *feature.Batch
	// Positions are, for each row, where it was in the topic that was read; nil where the
	// Versions say it, as they do but for internal topics.
	Positions []Position
	// Bad are the records that are not rows.
	Bad []Bad
	// Partitions are those with records in the chunk.
	Partitions []ChunkPartition
}

// Position is a place in a topic.
type Position struct {
	Partition int32
	Offset    int64
}

// position is where row i was in the topic that was read.
func (c *Chunk) position(i int) (partition int32, offset int64) {
	if c.Positions != nil {
		return c.Positions[i].Partition, c.Positions[i].Offset
	}
	v := c.Rows.Versions[i]
	return int32(v.Major), v.Minor
}

// ChunkPartition is how far a chunk goes in one partition.
type ChunkPartition struct {
	ID      int32
	Next    int64 // the offset after the chunk's last record
	End     int64 // of the partition: the next offset to be written, as of the poll
	Newest  int64 // the last record's own timestamp, microseconds
	Records int
}

// Reason is the stable code of why a record is a dead letter (docs/format/dead-letter.md).
type Reason string

// The reasons.
const (
	ReasonMalformed     Reason = "malformed"      // not the declared format
	ReasonBadField      Reason = "bad_field"      // a field of a wrong type
	ReasonBadTimestamp  Reason = "bad_timestamp"  // the event time is missing, null or not one
	ReasonAheadOfClock  Reason = "ahead_of_clock" // the event time is later than the clock by more than max_ahead
	ReasonTombstone     Reason = "tombstone"      // the record has no value
	ReasonUnknownSchema Reason = "unknown_schema" // the schema registry does not know the record's schema
	ReasonBadSchema     Reason = "bad_schema"     // the record's schema cannot be read as the source's columns
	ReasonNullKey       Reason = "null_key"       // a view's join key is null
)

// Bad is a record that is refused, by a source or by one view of it.
type Bad struct {
	Partition int32
	Offset    int64
	Reason    Reason
	Message   string
	View      string // "" where the source refuses it
}
