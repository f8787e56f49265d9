package materialize

import (
	"context"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Repartition describes the copy of a source's topic that one view generation
// reads: an internal topic, keyed by the view's entity, so that all events of an
// entity are in one partition. Every member of Group copies a share of the source's partitions.
type Repartition struct {
	Source     *registry.Source
	Topic      string // the internal topic
	Partitions int32  // of the internal topic, when it is made
	Group      string // the consumer group of those who copy; its committed offsets say what is copied
	// From are the offsets of the source's topic before which nothing needs to be copied,
	// per partition; where there is none, everything is.
	From map[int32]int64
	// Keys are, for each row, the entity key (feature.AppendKey), nil for rows that the
	// view does not take, and those that it refuses. Rows are as in a Chunk. The keys are
	// used until the next call.
	Keys func(rows *feature.Batch) (keys [][]byte, refused []Bad)
}

// Repartitioner copies topics, exactly once; materialize/kafka implements it.
type Repartitioner interface {
	// Repartition copies until ctx ends, which is no error. Copies keep the order of their
	// partition, the record's timestamp, and where it was in the source's topic.
	Repartition(ctx context.Context, r *Repartition) error
	// Repartitioned reports whether everything is copied that the source's topic held when
	// ends (Input.Ends of it) was read.
	Repartitioned(ctx context.Context, r *Repartition, ends map[int32]int64) (bool, error)
	// SourceEnds are, per partition of the source's topic that has records, the offset
	// after the last that can be read now.
	SourceEnds(ctx context.Context, r *Repartition) (map[int32]int64, error)
	// OpenRepartitioned is Inputs.Open for the internal topic: the rows' Versions are
	// those of the source's topic, and Chunk.Positions are those in the internal one.
	OpenRepartitioned(ctx context.Context, r *Repartition, group string, owner Owner) (Input, error)
	// DropRepartitioned removes the internal topic and what Kafka knows of its group.
	DropRepartitioned(ctx context.Context, topic, group string) error
}
