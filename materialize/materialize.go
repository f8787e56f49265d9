// Package materialize moves rows to where they are served: from the offline
// store to the online one (batch), and from Kafka to both (stream).
//
// It is written against the interfaces below, which internal/app implements with
// the stores, so that neither store knows of the other.
package materialize

import (
	"context"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Online is where the newest rows go. It is safe for concurrent use.
type Online interface {
	// Write writes rows (join keys, then features, with Versions); of each entity
	// key the newest wins, also against what is there. With overwrite it
	// replaces what is there, whatever its version.
	Write(ctx context.Context, v registry.ViewGeneration, rows *feature.Batch, overwrite bool) (applied, stale int, err error)
	// Resumes are the positions up to which inputs have been applied to a generation.
	Resumes(ctx context.Context, v registry.ViewGeneration) (map[string]string, error)
	// SetResumes stores such positions beside the data; inputs not named keep theirs.
	SetResumes(ctx context.Context, v registry.ViewGeneration, positions map[string]string) error
	// Live is the live generation of each view that has one.
	Live(ctx context.Context) (map[string]int, error)
	// SetLive makes a generation the live one.
	SetLive(ctx context.Context, v registry.ViewGeneration) error
}

// Log is the log of one source in the offline store. It is safe for concurrent use.
type Log interface {
	// Offsets are, per Kafka partition, the next offset that the log does not hold.
	Offsets(ctx context.Context, src *registry.Source) (map[int32]int64, error)
	// Append adds decoded rows in one commit, with the ranges of offsets that they
	// (and the dead letters between them) come from. A range must start where the
	// log ends for that partition, else nothing is added and ErrConflict returned.
	Append(ctx context.Context, src *registry.Source, rows []*feature.Batch, offsets map[int32]OffsetRange) error
}

// OffsetRange is [From, To) of one Kafka partition.
type OffsetRange struct{ From, To int64 }
