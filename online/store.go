// Package online keeps the newest values of features and looks them up.
//
// [Store] is what Redis (online/redis) and Pebble (online/embedded) implement:
// records under keys, each written only if it is newer than what is there. The
// store does not know what a record means: package internal/rowcodec encodes
// it, and lookup.go decides ttl and status, in one place for every store.
package online

import (
	"context"
	"errors"
	"time"
)

// Key names one record: an entity of a generation of a view of a project. How a
// store spells it is its own business (docs/format), made in one function there.
type Key struct {
	View       string
	Generation int
	Entity     []byte // the entity key, feature.AppendKey
}

// A record starts with one byte that says its kind, never 0; the bytes after it, compared
// as unsigned ones, order it against others under the same key: OrderLen bytes of
// kind NewestRow, ShortOrderLen of any other. Two records of one order are the same to a store.
const (
	NewestRow     = 1
	OrderStart    = 1
	OrderLen      = 32
	ShortOrderLen = 16
)

// Record is an encoded record to be written, as internal/rowcodec makes it.
type Record struct {
	Key   Key
	Value []byte // its first byte is not 0
	// TTL is how long the store keeps the record after the write that put it there, by
	// the wall clock; then it is absent for readers and writers alike, and its room is
	// free some time later. A write that is stale leaves the time as it is. 0 is for ever;
	// a part of a millisecond counts as a whole one.
	TTL time.Duration
}

// Millis is the TTL in milliseconds, rounded up; 0 for none.
func (r *Record) Millis() int64 { return int64((r.TTL + time.Millisecond - 1) / time.Millisecond) }

// WriteMode says what to do with a record that is there already.
type WriteMode uint8

const (
	// IfNewer replaces a record whose order is lower, atomically. An equal or
	// greater one stays and the write counts as stale: replays change nothing.
	IfNewer WriteMode = iota
	// Always replaces whatever is there (materialize --overwrite).
	Always
)

// WriteResult counts what a Write did. Applied + Stale is the number of records.
type WriteResult struct {
	Applied int
	Stale   int
}

// Resume is a point up to which an input has been applied to a view's
// generation, kept beside the data so that both are lost together or not at all.
type Resume struct {
	View       string
	Generation int
	Input      string // "topic/3" for a Kafka partition, "offline" for the derived table
	Position   string // opaque to the store: an offset, a snapshot
}

// Errors of a Store, to be tested with errors.Is.
var (
	// ErrUnavailable: the store cannot be reached or does not answer in time.
	// The message names the address. Trying again later may help.
	ErrUnavailable = errors.New("online store unavailable")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("online store closed")
)

// Store keeps records. It is opened for one project and is safe for concurrent use.
type Store interface {
	// Get reads records: dst[i] is set to the record under keys[i], or to nil if
	// there is none. len(dst) must be len(keys). It takes one round trip per
	// shard. The bytes belong to the caller, who may bring them again: a store may put a record
	// into memory that dst[i] has. A deadline on ctx is kept to.
	Get(ctx context.Context, keys []Key, dst [][]byte) error
	// Write writes records in as few round trips as the store can, each
	// atomically by its mode; they may be applied in any order, also where two
	// have the same key (the newer wins). On an error some may have been
	// written; writing all of them again is right. The store does not keep
	// the records' memory after it returns.
	Write(ctx context.Context, records []Record, mode WriteMode) (WriteResult, error)

	// Resumes lists the resume points of a view's generation, in no order.
	Resumes(ctx context.Context, view string, generation int) ([]Resume, error)
	// SetResumes stores resume points; each replaces the one of the same
	// (view, generation, input). A record written before it is never newer
	// than it after a crash: the store orders them so.
	SetResumes(ctx context.Context, points []Resume) error

	// Live is the live generation of each view that has one set.
	Live(ctx context.Context) (map[string]int, error)
	// SetLive makes a generation of a view the live one, at once for all readers of Live.
	SetLive(ctx context.Context, view string, generation int) error

	// Drop removes every record and resume point of a view's generation, in
	// bounded steps that do not block other users of the store.
	Drop(ctx context.Context, view string, generation int) error
	// Usage counts the records of a view's generation and the bytes they take
	// (0 where the store cannot say), approximately.
	Usage(ctx context.Context, view string, generation int) (records, bytes int64, err error)
	// Ping returns nil if the store answers.
	Ping(ctx context.Context) error
	// Close releases everything; it may be called more than once.
	Close() error
}
