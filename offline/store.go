// Package offline keeps history and joins it to training data.
//
// [Store] is what the Iceberg tables of offline/parquet implement, and later
// ClickHouse: an append-only log of rows per source, and a derived table per
// generation of a view, brought up to date from the log.
package offline

import (
	"context"
	"errors"
	"iter"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Errors of a Store, to be tested with errors.Is.
var (
	ErrClosed = errors.New("offline store closed")
	// ErrUnavailable: the store cannot be reached or does not answer.
	ErrUnavailable = errors.New("offline store unavailable")
	// ErrConflict: somebody else appended the same input (offsets) meanwhile.
	ErrConflict = errors.New("the log has changed meanwhile")
)

// Origin says where appended rows come from; exactly one of File and Offsets is
// set: File if the append was started with one, else Offsets.
type Origin struct {
	// File is an ingested file or a push.
	File *FileOrigin
	// Offsets is, for each Kafka partition with rows in this append, the half-open range
	// of offsets that it brings the log up to: the rows and any dead letters between.
	Offsets map[int32]OffsetRange
	Topic   string // of Offsets
}

// FileOrigin identifies an ingested file.
type FileOrigin struct {
	Name string // as the user gave it, for people
	Hash string // SHA-256 of the content in hex; "" for a push, which is never skipped
}

// OffsetRange is [From, To) of one partition.
type OffsetRange struct{ From, To int64 }

// Appender takes the rows of one append and commits them together. It is used
// by one goroutine. Memory is bounded: rows are written out as they come.
type Appender interface {
	// IngestedAt is the instant of this append, in microseconds, later than
	// every earlier one of the source. It is the IngestedAt of rows from files
	// without a created column, and Version.Minor of every row from a file.
	IngestedAt() int64
	// Write adds rows of the source's columns with their Versions. The batch may be
	// reused after it returns.
	Write(ctx context.Context, rows *feature.Batch) error
	// Commit makes the rows visible, all at once, with their origin. It
	// returns ErrConflict, and nothing is visible, if the origin's file is
	// already there or its offsets do not follow those of the log.
	Commit(ctx context.Context, origin Origin) error
	// Abort drops what was written; after Commit it does nothing.
	Abort() error
}

// LogState is what a source's log holds.
type LogState struct {
	Rows     int64
	Bytes    int64
	Files    int             // ingested, pushes included
	Snapshot string          // the table's snapshot ID; "" before the first append
	Offsets  map[int32]int64 // per Kafka partition, the next offset the log does not hold
	Newest   int64           // greatest event time, microseconds; 0 with no rows
}

// TableState is what a derived table holds.
type TableState struct {
	Rows        int64
	Bytes       int64
	Snapshot    string // of the derived table
	LogSnapshot string // of the log it is up to date with
	Newest      int64  // greatest event time, microseconds; 0 with no rows
	// Content and ContentTimed say what the rows were made of (see LogContent): they are equal where
	// the same was appended, in whatever place and table; ContentTimed only if at the same instants.
	// "" where the store cannot tell.
	Content, ContentTimed string
	Appended              int64 // instant of the last append from a file that is in; 0 for none
	BadRows               int64 // rows with a null join key, all told, left out
	Invalid               int64 // values that could not be computed, all told
}

// Role is one use of a view in a training request: its features for the entity
// that certain spine columns identify.
type Role struct {
	View     registry.ViewGeneration
	Keys     []string         // spine columns, one per join key of the view, in order
	Features []int            // indexes of View.View.Features to return
	TTL      feature.Duration // 0: unbounded
	// Snapshot is the state of the derived table to read, as TableState.Snapshot names it:
	// "" for the newest, NoRows for the one before the first. The join fails with
	// ErrSnapshotGone where the table has it no more.
	Snapshot string
}

// JoinRequest asks for the point-in-time join of a spine with views.
type JoinRequest struct {
	// Spine yields the rows to enrich, in order: at least the key columns, in the join keys' types,
	// and the instant. A batch is used until the next is asked for.
	Spine iter.Seq2[*feature.Batch, error]
	// Timestamp names the spine's column of the instant.
	Timestamp string
	Roles     []Role
	// KnownAt hides rows with a later IngestedAt; nil hides none.
	KnownAt *int64
	// NoVersions says that nobody looks at the versions of the rows found, which then need not be read.
	NoVersions bool
	// Memory is the budget in bytes, 0 for DefaultMemory.
	Memory int64
	// Progress, if set, is called from time to time with the rows done; total is 0 while unknown.
	Progress func(done, total int64)
}

// DefaultMemory is the budget of a join that names none: 1 GiB.
const DefaultMemory = 1 << 30

// Joined is a run of spine rows, in the spine's order, with what was found.
type Joined struct {
	Spine *feature.Batch
	// Roles has one entry per role of the request.
	Roles []JoinedRole
}

// JoinedRole is what one role found for each row of Joined.Spine.
type JoinedRole struct {
	Features []*feature.Column // as asked for; null where there is no value
	Found    []feature.Status  // Present (a row young enough), NotFound or OutsideMaxAge
	Versions []feature.Version // of the row found, zero where NotFound and for windows; may be nil with NoVersions
}

// ScanOptions restricts a Scan.
type ScanOptions struct {
	// Since is a Snapshot of the derived table: only rows added after it. "" for all.
	Since string
	// From and To bound the event time, both inclusive, in microseconds; nil for open.
	From, To *int64
	// NewestOnly lets the store leave out rows that are not the newest of their key among those returned. It may return them all the same.
	NewestOnly bool
}

// Store keeps the logs and derived tables of one project. It is safe for
// concurrent use.
type Store interface {
	// Append starts an append to a source's log. file is what the rows come from, nil for
	// a stream; its Name is kept beside each row, its Hash may still be missing.
	Append(ctx context.Context, src *registry.Source, file *FileOrigin) (Appender, error)
	// Ingested reports whether a file of this content hash is in the log.
	Ingested(ctx context.Context, src *registry.Source, hash string) (bool, error)
	// Log describes a source's log; a zero LogState if there is none yet.
	Log(ctx context.Context, src *registry.Source) (LogState, error)
	// Refresh brings a view's derived table up to date with the log and
	// describes it. It is incremental, and idempotent.
	Refresh(ctx context.Context, v registry.ViewGeneration) (TableState, error)
	// Table describes a view's derived table as it is; a zero TableState if there is none.
	Table(ctx context.Context, v registry.ViewGeneration) (TableState, error)
	// Scan reads a view's derived table as of its snapshot at the call: batches
	// of the join keys then the features, with Versions, in order of (entity
	// key, version) within a bucket. A batch is valid until the next is asked for.
	Scan(ctx context.Context, v registry.ViewGeneration, o ScanOptions) iter.Seq2[*feature.Batch, error]
	// Join runs a point-in-time join against the derived tables as they are: one row for each row
	// of the spine, in its order. What it yields is valid until the next is asked for.
	// Statuses of single values are feature.StatusOf of the value where Found is Present.
	Join(ctx context.Context, r JoinRequest) iter.Seq2[*Joined, error]
	// Ping returns nil if the store can be reached.
	Ping(ctx context.Context) error
	// Close releases everything; it may be called more than once.
	Close() error
}
