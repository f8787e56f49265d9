// Package clickhouse keeps logs and derived tables in a ClickHouse database,
// which runs the point-in-time join.
//
//	`<project>/appends`             one row per append to a log: who has won, and what a log holds
//	`<project>/refreshes`           one row per refresh: up to which append a derived table is
//	`<project>/logs/<source>`       rows of a source, each with the append that brought it
//	`<project>/views/<view>@<N>`    the derived table of a generation, ordered by (entity key, version)
//	`<project>/tmp/<id>`            a spine that is being joined, in memory
//
// A server without Keeper has no transactions. What it has: one row is inserted
// whole or not at all, and of two inserts with one deduplication token the second does
// nothing. So rows of an append are invisible until its row is in appends, under the
// next number of its log, which is the token: one of two appends gets it, the
// other looks again. Rows of a derived table carry the number of the append
// they come from, and a reader takes those up to the number of the last refresh; a refresh
// that is tried again writes the same rows again, which ReplacingMergeTree makes one.
//
// The columns are described in docs/format/clickhouse.md.
package clickhouse

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
)

// Options says where a Store is and what it may use.
type Options struct {
	// URL is the server and the database: clickhouse://user:password@host:9000/database (native
	// protocol), http:// or https://. Parameters are those of clickhouse-go's DSN; unknown ones are
	// settings of the server. Without a database it is "default".
	URL string
	// Project parts the tables of projects that share a database.
	Project string
	// Memory is the budget in bytes of one Refresh; 0 for DefaultMemory. A
	// Join has one of its own (offline.JoinRequest).
	Memory int64
	// Logger takes what happens in the background; nil for none.
	Logger *slog.Logger
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// DefaultMemory is the budget of a Refresh that has none: 256 MiB.
const DefaultMemory = 256 << 20

// formatVersion is written beside every append and refresh. Rows of a later version are refused.
const formatVersion = 1

// Store keeps a project's tables in a database. It is safe for concurrent use,
// and so is the database: other processes may have a Store there too.
type Store struct {
	client  *client
	project string
	memory  int64
	log     *slog.Logger
	now     func() time.Time

	mu       sync.Mutex
	closed   bool
	locks    map[string]chan struct{}
	instants map[string]int64 // by source: the last IngestedAt given out
}

var _ offline.Store = (*Store)(nil)

// Open makes a store. It connects when it is first used; tables are made by the first append.
func Open(_ context.Context, o Options) (*Store, error) {
	if o.Project == "" {
		return nil, errors.New("offline store: no project is named")
	}
	c, err := connect(o.URL)
	if err != nil {
		return nil, err
	}
	s := &Store{client: c, project: o.Project, memory: o.Memory, log: o.Logger, now: o.Now,
		locks: map[string]chan struct{}{}, instants: map[string]int64{}}
	if s.memory <= 0 {
		s.memory = DefaultMemory
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

func (s *Store) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return offline.ErrClosed
	}
	return nil
}

// lock takes one of the store's named locks.
func (s *Store) lock(ctx context.Context, name string) (unlock func(), err error) {
	s.mu.Lock()
	l, ok := s.locks[name]
	if !ok {
		l = make(chan struct{}, 1)
		s.locks[name] = l
	}
	s.mu.Unlock()
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *Store) appendsTable() string   { return s.client.table(s.project + "/appends") }
func (s *Store) refreshesTable() string { return s.client.table(s.project + "/refreshes") }
func (s *Store) logTable(src *registry.Source) string {
	return s.client.table(s.project + "/logs/" + src.Name)
}
func (s *Store) viewTable(v registry.ViewGeneration) string {
	return s.client.table(s.project + "/views/" + v.String())
}

// Ping implements offline.Store.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.open(); err != nil {
		return err
	}
	return s.client.exec(ctx, "SELECT 1")
}

// Close implements offline.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.client.conn.Close()
}
