// Package materialize moves rows to where they are served: from the offline
// store to the online one ([Batch]), and from Kafka to both ([Stream]).
//
// It is written against the interfaces below, which internal/app implements with
// the stores, and materialize/kafka with Kafka, so that none of them knows of another.
//
// It persists nothing itself but resume points, which the online store keeps
// beside a generation's data: texts under a name (docs/streaming.md).
//
//	"offline"      the snapshot of the derived table whose rows are all applied; "-" for an empty table
//	"topic/3"      the next offset of partition 3 of topic that is not applied, in decimal
//	"topic/3/a"    a mark: the same, the epoch it is of (0 without windows) and the server
//	"topic/3/b"    that took it, with spaces between; two of them, written in turn
//	"topic/id"     the ID of the topic that the offsets belong to
//
// and of a windowed view besides:
//
//	"epoch"        the epoch of its states: the instant, in microseconds, at which they were built anew
//	"server"       the server that took them ([Online.Server])
//	"building"     epoch/n while states of that epoch are being built, n growing with time; "-" afterwards
//	"partitions"   the number of partitions that the topic had when it was streamed last
//
// "-" stands for none everywhere. What the marks are for: docs/streaming.md, "Lost writes".
package materialize

import (
	"context"
	"errors"
	"iter"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Errors that the implementations of the interfaces below return, wrapped, to be tested with errors.Is.
var (
	// ErrUnavailable: a store or Kafka cannot be reached or does not answer. The
	// message names its address. It is retried with backoff; any other error is not.
	ErrUnavailable = errors.New("unavailable")
	// ErrConflict: somebody else appended to the log meanwhile.
	ErrConflict = errors.New("the log has changed meanwhile")
	// ErrAgain, from an Input: it is of no more use. The stream opens another and starts from what the stores hold.
	ErrAgain = errors.New("the stream has to start again")
)

// Online is where the newest rows go. It is safe for concurrent use.
type Online interface {
	// Write writes rows (join keys, then features, with Versions); of each entity
	// key the newest wins, also against what is there. With overwrite it
	// replaces what is there, whatever its version; then no key comes twice. The rows are not kept.
	Write(ctx context.Context, v registry.ViewGeneration, rows *feature.Batch, overwrite bool) (applied, stale int, err error)
	// States reads the states of entities of a windowed view: dst[i] is set to what is under keys[i],
	// its State nil where there is nothing. The states belong to the caller.
	States(ctx context.Context, v registry.ViewGeneration, keys [][]byte, dst []WindowRecord) error
	// WriteStates writes states of a windowed view; each wins only if its (Epoch, Offset) is greater
	// than what is there. No key comes twice. The records are not kept.
	WriteStates(ctx context.Context, v registry.ViewGeneration, records []WindowRecord) (applied, stale int, err error)
	// Server names who takes the writes now. While the name stays the same nothing is lost that
	// was acknowledged; where it is another one, the last of it may be (a failover, a restart). "" for
	// a store that never loses anything so.
	Server(ctx context.Context) (string, error)
	// Resumes are the positions up to which inputs have been applied to a generation.
	Resumes(ctx context.Context, v registry.ViewGeneration) (map[string]string, error)
	// SetResumes stores such positions beside the data; inputs not named keep theirs.
	SetResumes(ctx context.Context, v registry.ViewGeneration, positions map[string]string) error
	// Live is the live generation of each view that has one.
	Live(ctx context.Context) (map[string]int, error)
	// SetLive makes a generation that is filled the live one, unless somebody has chosen
	// otherwise: then it does nothing.
	SetLive(ctx context.Context, v registry.ViewGeneration) error
}

// WindowRecord is the stored state of one entity of a windowed view.
type WindowRecord struct {
	Key []byte // feature.AppendKey
	// Epoch is when the generation's states were built anew, in microseconds; Offset is
	// the next offset of the entity's partition that the state has not applied, 0 as built.
	Epoch, Offset int64
	State         []byte // window.Plan.Append; nil: there is none
}

// Log is the log of one source in the offline store. It is safe for concurrent use.
type Log interface {
	// Offsets are, per Kafka partition of the topic that src names, the next offset
	// that the log does not hold.
	Offsets(ctx context.Context, src *registry.Source) (map[int32]int64, error)
	// Append adds decoded rows in one commit, with the ranges of offsets that they
	// (and the dead letters between them) come from; there may be no rows. A range must start where the
	// log ends for that partition (anywhere, for a partition that the log does not
	// know), else nothing is added and ErrConflict returned. The rows are not kept.
	Append(ctx context.Context, src *registry.Source, rows []*feature.Batch, offsets map[int32]OffsetRange) error
}

// OffsetRange is [From, To) of one Kafka partition.
type OffsetRange struct{ From, To int64 }

// Tables are the derived tables in the offline store. It is safe for concurrent use.
type Tables interface {
	// Refresh brings a view generation's derived table up to date with the log.
	Refresh(ctx context.Context, v registry.ViewGeneration) (TableState, error)
	// Scan reads the derived table: batches of the join keys then the features, with Versions;
	// the rows of one entity key follow each other, the newest last, and older ones
	// may be left out unless the view is windowed. A batch is valid until the next is asked for.
	Scan(ctx context.Context, v registry.ViewGeneration, o ScanOptions) iter.Seq2[*feature.Batch, error]
}

// TableState describes a derived table.
type TableState struct {
	Rows     int64
	Snapshot string // "" while it is empty
	// Offsets are, of a windowed view whose source has a topic: per partition the next offset
	// that the log did not hold when the table was brought up to date. What is below is in the table.
	Offsets map[int32]int64
}

// ScanOptions restricts a Scan.
type ScanOptions struct {
	// Since is a TableState.Snapshot: only rows added after it. "" for all.
	Since string
	// Snapshot is a TableState.Snapshot, "" for the newest: the Scan ends with ErrConflict, before the
	// first batch, where the table is of another one by now.
	Snapshot string
	// From and To bound the event time, both inclusive, in microseconds; nil for open.
	From, To *int64
}

// Resume point names and values.
const (
	resumeOffline    = "offline"
	resumeEpoch      = "epoch"
	resumeServer     = "server"
	resumeBuilding   = "building"
	resumePartitions = "partitions"
	resumeNone       = "-"
)
