// Package parquet keeps logs and derived tables as Apache Iceberg tables of
// Parquet files on the local disk, which any other engine can read.
//
//	<url>/<project>/logs/<source>/          the log of a source
//	<url>/<project>/views/<view>@<N>/       the derived table of a generation
//	    metadata/vK.metadata.json           versions of the table; the newest counts
//	    metadata/*.avro                     manifests
//	    data/*.parquet                      rows
//	<url>/<project>/tmp/                    sort runs of a refresh that is under way
//
// A log (docs/format/offline-log.md) has the source's columns and where each row
// came from, in the order of arrival. A derived table (docs/format/offline-table.md) has
// a generation's join keys and features, in files sorted by (entity key,
// version), each of one bucket of entities: a point-in-time join reads them
// front to back beside a spine that is sorted the same way.
//
// Iceberg's hadoop catalog commits by a rename that does not replace: of two
// commits one is tried again, on the state the other left. What a commit is
// based on (Kafka offsets, file hashes, the log's snapshot) lies in the
// snapshot's summary, so that it appears with the rows or not at all.
package parquet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/apache/iceberg-go/catalog/hadoop"
	"github.com/apache/iceberg-go/table"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
)

// Options says where a Store is and what it may use.
type Options struct {
	// URL is the folder of the tables: file:// and an absolute path.
	URL string
	// Project parts the tables of projects that share a folder.
	Project string
	// Memory is the budget in bytes of one Refresh; 0 for DefaultMemory. A
	// Join has one of its own (offline.JoinRequest).
	Memory int64
	// Workers is how many buckets are worked on at once; 0 for the number of CPUs.
	Workers int
	// FS replaces the local disk for data files, manifests and sort runs.
	FS FS
	// NoSync leaves it to the operating system when commits reach the disk: a crash of the
	// machine may break tables. It is for stores that are thrown away. FS is not used then.
	NoSync bool
	// Logger takes what happens in the background; nil for none.
	Logger *slog.Logger
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// DefaultMemory is the budget of a Refresh that has none: 512 MiB.
const DefaultMemory = 512 << 20

// deriver makes a view's rows of a source's, as expr.View does.
type deriver interface {
	Fields() []feature.Field
	Columns() []int
	Apply(in, out *feature.Batch) expr.Stats
}

// Store keeps a project's tables in a folder. It is safe for concurrent use,
// and so is the folder: other processes may have a Store there too.
type Store struct {
	catalog *hadoop.Catalog
	root    string // the folder of the project
	project string
	fs      FS
	durable bool // fs is the disk: commits are synced
	memory  int64
	workers int
	log     *slog.Logger
	now     func() time.Time
	compile func(*registry.Project, *registry.FeatureView) (deriver, error)
	spill   func() (spoolFile, error) // makes the file of a join's spool

	mu       sync.Mutex
	closed   bool
	locks    map[string]chan struct{}
	instants map[string]int64 // by source: the last IngestedAt given out
}

var _ offline.Store = (*Store)(nil)

// Open opens the store in a folder, which is made by the first append.
func Open(_ context.Context, o Options) (*Store, error) {
	dir, err := localFolder(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Project == "" {
		return nil, errors.New("offline store: no project is named")
	}
	cat, err := hadoop.NewCatalog("forebay", dir, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: offline store %s: %w", offline.ErrUnavailable, o.URL, err)
	}
	s := &Store{
		catalog: cat, project: o.Project, root: filepath.Join(dir, o.Project),
		fs: o.FS, memory: o.Memory, workers: o.Workers, log: o.Logger, now: o.Now,
		locks: map[string]chan struct{}{}, instants: map[string]int64{},
		compile: func(p *registry.Project, v *registry.FeatureView) (deriver, error) { return expr.CompileView(p, v) },
	}
	s.spill = s.createSpill
	switch {
	case o.NoSync:
		s.fs = unsyncedFS{}
	case s.fs == nil:
		s.fs, s.durable = localFS{}, true
	}
	if s.memory <= 0 {
		s.memory = DefaultMemory
	}
	if s.workers <= 0 {
		s.workers = runtime.GOMAXPROCS(0)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// localFolder is the folder that a URL means.
func localFolder(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("offline url %q: %w", raw, err)
	}
	switch u.Scheme {
	case "", "file":
	case "s3", "gs", "azblob":
		return "", fmt.Errorf("offline url %q: Iceberg tables on an object store need a catalog that commits atomically (a REST catalog), which Forebay has no client for yet; "+
			"use file:// on a disk, or the clickhouse store", raw)
	default:
		return "", fmt.Errorf("offline url %q: unknown scheme %q; want file:///absolute/path", raw, u.Scheme)
	}
	if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
		return "", fmt.Errorf("offline url %q: want an absolute path: file:///absolute/path", raw)
	}
	return filepath.Clean(u.Path), nil
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
		return nil, fmt.Errorf("waiting for %s: %w", name, context.Cause(ctx))
	}
}

func (s *Store) logIdent(src *registry.Source) table.Identifier {
	return table.Identifier{s.project, "logs", src.Name}
}

func (s *Store) viewIdent(v registry.ViewGeneration) table.Identifier {
	return table.Identifier{s.project, "views", v.String()}
}

// path is the folder of a table, by which it is called in errors: other engines open it there.
func (s *Store) path(ident table.Identifier) string {
	return filepath.Join(append([]string{s.root}, ident[1:]...)...)
}

// Ping implements offline.Store: the folder can be written to.
func (s *Store) Ping(context.Context) error {
	if err := s.open(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.root, 0o755); err != nil {
		return fmt.Errorf("%w: %w", offline.ErrUnavailable, err)
	}
	f, err := os.CreateTemp(s.root, ".ping-*")
	if err != nil {
		return fmt.Errorf("%w: %w", offline.ErrUnavailable, err)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("%w: %w", offline.ErrUnavailable, err)
	}
	return nil
}

// Close implements offline.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.catalog.Close()
}
