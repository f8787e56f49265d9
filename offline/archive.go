package offline

import (
	"context"
	"iter"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Archive is a Store whose derived tables keep earlier states, so that a dataset can be built again.
// It is safe for concurrent use.
type Archive interface {
	// TableAt describes a derived table as it was at a snapshot; ErrSnapshotGone if it has it no more.
	TableAt(ctx context.Context, v registry.ViewGeneration, snapshot string) (TableState, error)
	// Pin keeps a snapshot from being expired, under a name of letters, digits and dashes, until
	// Unpin. To pin what is pinned by that name already changes nothing.
	Pin(ctx context.Context, v registry.ViewGeneration, snapshot, name string) error
	// Unpin ends a Pin. There need not be one.
	Unpin(ctx context.Context, v registry.ViewGeneration, name string) error
}

// TableFiles says where other engines find the rows of a derived table. Its columns are those of
// docs/format/offline-table.md.
type TableFiles struct {
	Folder   string   // of the Iceberg table
	Snapshot string   // "" where there is no table
	Files    []string // data files of the snapshot, Parquet
	Name     string   // of a table that is none of Iceberg's, as its engine calls it; else ""
}

// FileTables is a Store whose derived tables are files.
type FileTables interface {
	// TableFiles lists the files of a table at a snapshot, "" for the newest.
	TableFiles(ctx context.Context, v registry.ViewGeneration, snapshot string) (TableFiles, error)
}

// LogOptions restricts a ReadLog.
type LogOptions struct {
	// Columns are the indexes of the source's columns to read; the others are nil in the batches.
	Columns []int
	// From is the least event time wanted, in microseconds; nil for all. Rows before it may come all the same.
	From *int64
	// AsOf is a TableState.LogSnapshot: rows appended after it are marked as Later. "" marks none.
	AsOf string
}

// LogRows is a run of a log's rows, with their Versions.
type LogRows struct {
	*feature.Batch
	// Files names, for each row, the file it came from; "" for a row from Kafka, whose partition
	// and offset are its version's sequence, as the row's position in the file and the
	// instant of the append are for the others.
	Files []string
	// Later: the rows were appended after LogOptions.AsOf.
	Later bool
}

// LogReader is a Store that shows its logs row by row.
type LogReader interface {
	// ReadLog reads the log of a source as it is now. A run is valid until the next is asked for.
	ReadLog(ctx context.Context, src *registry.Source, o LogOptions) iter.Seq2[*LogRows, error]
}
