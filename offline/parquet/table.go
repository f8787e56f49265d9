package parquet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/forebay/forebay/offline"
)

// Keys of snapshot summaries and table properties (docs/format/offline-log.md
// and offline-table.md). What is cumulative is carried from snapshot to snapshot.
const (
	keyFormat = "forebay.format-version"
	keyCommit = "forebay.commit" // a random ID: tells whether a commit took effect

	// Of a log.
	keyIngestedAt  = "forebay.ingested-at"  // the greatest instant of an append; cumulative
	keyNewest      = "forebay.newest"       // the greatest event time; cumulative
	keyFiles       = "forebay.files"        // appends of files; cumulative
	keyFileName    = "forebay.file.name"    // of this append
	keyFileHash    = "forebay.file.hash"    // of this append
	keyFileInstant = "forebay.file.instant" // of this append
	keyTopic       = "forebay.topic"        // cumulative
	keyOffsets     = "forebay.offsets"      // {"partition":[from,to)} of this append
	keyNextOffsets = "forebay.next-offsets" // {"partition":next}; cumulative
	keyIngested    = "forebay.ingested."    // a table property for each content hash: its instant
	keyChain       = "forebay.chain"        // what was appended from files (offline.ChainFile); cumulative
	keyChainTimed  = "forebay.chain-timed"  // the same with instants; cumulative

	// Of a derived table.
	keyBuckets     = "forebay.buckets"       // a table property
	keyLogSnapshot = "forebay.log-snapshot"  // the log's snapshot it is up to date with; cumulative
	keyLogSequence = "forebay.log-sequence"  // its sequence number; cumulative
	keyLogTable    = "forebay.log-uuid"      // the log table's UUID; cumulative
	keyBadRows     = "forebay.bad-rows"      // cumulative
	keyInvalid     = "forebay.invalid"       // cumulative
	keyContent     = "forebay.content"       // what the log held (offline.LogContent); cumulative
	keyTimed       = "forebay.content-timed" // the same with instants; cumulative
	keyCompaction  = "forebay.compaction"    // "true": the snapshot only merged files
)

// formatVersion is the version of both tables' layout.
const formatVersion = "1"

// maxCommits bounds how often a commit is tried again after a conflict.
const maxCommits = 50

// pause waits before what others were faster with is tried again, longer each time: 5 to 10 ms after
// the first attempt, one to two seconds in the end.
func pause(ctx context.Context, attempt int) error {
	wait := min(5*time.Millisecond<<min(attempt-1, 8), time.Second)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(wait + rand.N(wait)):
		return nil
	}
}

// tableState is one version of a table.
type tableState struct {
	*table.Table
	name string
	head *table.Snapshot // nil before the first
	// summary is that of the newest snapshot that Forebay wrote; another
	// engine's, if there are any after it, carry none of its keys.
	summary iceberg.Properties
}

// load reads the newest version of a table; nil if there is none.
func (s *Store) load(ctx context.Context, ident table.Identifier) (*tableState, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	t, err := s.catalog.LoadTable(ctx, ident)
	if errors.Is(err, catalog.ErrNoSuchTable) {
		return nil, nil
	}
	name := s.path(ident)
	if err != nil {
		return nil, fmt.Errorf("%w: reading the newest metadata of table %s (%s): %w", offline.ErrUnavailable, name, newestMetadata(name), err)
	}
	return s.state(ident, t)
}

// newestMetadata names the metadata file that the catalog takes for a table's newest, for an error.
func newestMetadata(dir string) string {
	files, _ := filepath.Glob(filepath.Join(dir, "metadata", "v*.metadata.json")) // the pattern is fine
	newest, best := "none found", -1
	for _, f := range files {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(f), "v"), ".")
		if n, err := strconv.Atoi(number); err == nil && n > best {
			newest, best = f, n
		}
	}
	return newest
}

func (s *Store) state(ident table.Identifier, t *table.Table) (*tableState, error) {
	t = table.New(ident, t.Metadata(), t.MetadataLocation(), func(context.Context) (iceio.IO, error) { return s.fs, nil }, s.catalog)
	st := &tableState{Table: t, name: s.path(ident), head: t.CurrentSnapshot()}
	if v := t.Properties()[keyFormat]; v != formatVersion {
		return nil, fmt.Errorf("table %s has format version %q, this Forebay knows %q", st.name, v, formatVersion)
	}
	for sn := st.head; sn != nil; {
		if sn.Summary != nil && sn.Summary.Properties[keyFormat] != "" {
			st.summary = sn.Summary.Properties
			break
		}
		if sn.ParentSnapshotID == nil {
			return nil, fmt.Errorf("table %s: none of its snapshots was written by Forebay", st.name)
		}
		sn = t.SnapshotByID(*sn.ParentSnapshotID)
	}
	if st.head != nil && st.summary == nil {
		return nil, fmt.Errorf("table %s: the newest snapshot that Forebay wrote has been expired; roll the table back to it", st.name)
	}
	return st, nil
}

// number is an integer of the summary; 0 where it is missing.
func (t *tableState) number(key string) int64 {
	n, _ := strconv.ParseInt(t.summary[key], 10, 64) // written by us; missing in the first
	return n
}

func (t *tableState) total(key string) int64 {
	if t.head == nil || t.head.Summary == nil {
		return 0
	}
	n, _ := strconv.ParseInt(t.head.Summary.Properties[key], 10, 64) // Iceberg's own count
	return n
}

func (t *tableState) snapshot() string {
	if t == nil || t.head == nil {
		return ""
	}
	return strconv.FormatInt(t.head.SnapshotID, 10)
}

// create makes a table if there is none, and returns it either way.
func (s *Store) create(ctx context.Context, ident table.Identifier, cs []column, partition *iceberg.PartitionSpec, props iceberg.Properties) (*tableState, error) {
	name := s.path(ident)
	if err := checkNames(name, cs); err != nil {
		return nil, err
	}
	for i := 1; i < len(ident); i++ {
		err := s.catalog.CreateNamespace(ctx, ident[:i], nil)
		if err != nil && !errors.Is(err, catalog.ErrNamespaceAlreadyExists) {
			return nil, fmt.Errorf("%w: creating the folder of table %s: %w", offline.ErrUnavailable, name, err)
		}
	}
	all := iceberg.Properties{
		keyFormat:                                 formatVersion,
		"write.parquet.compression-codec":         "snappy",
		table.ManifestMergeEnabledKey:             "true",
		table.MetadataDeleteAfterCommitEnabledKey: "true",
		table.MetadataPreviousVersionsMaxKey:      "100",
		table.DefaultWriteMetricsModeKey:          "truncate(16)",
		table.WriteTargetFileSizeBytesKey:         strconv.Itoa(maxFileBytes),
		table.CommitNumRetriesKey:                 "0", // a retry must look at the new state first: commit does
	}
	for k, v := range props {
		all[k] = v
	}
	opts := []catalog.CreateTableOpt{catalog.WithProperties(all)}
	if partition != nil {
		opts = append(opts, catalog.WithPartitionSpec(partition))
	}
	for attempt := 1; ; attempt++ {
		_, err := s.catalog.CreateTable(ctx, ident, icebergSchema(cs), opts...)
		if err != nil && !errors.Is(err, catalog.ErrTableAlreadyExists) {
			return nil, fmt.Errorf("%w: creating table %s: %w", offline.ErrUnavailable, name, err)
		}
		// Who creates a table claims that first: until then it exists, and is not to be read yet. The claim of a
		// process that has ended lapses after a minute.
		if t, loaded := s.load(ctx, ident); loaded != nil || t != nil {
			return t, loaded
		}
		if attempt == maxCommits {
			return nil, fmt.Errorf("%w: table %s: another process creates it and does not get done: %w", offline.ErrUnavailable, name, err)
		}
		if err := pause(ctx, attempt); err != nil {
			return nil, fmt.Errorf("creating table %s: %w", name, err)
		}
	}
}

// errUnsure: a commit may have taken effect or not, so its files must stay.
var errUnsure = errors.New("it is not known whether the commit took effect")

// commit makes a change to the newest version of a table. change puts it into
// the transaction, with the summary's keys in props, or returns an error, which
// ends it; it is called again, on the newer version, if another commit came first.
func (s *Store) commit(ctx context.Context, ident table.Identifier, change func(t *tableState, tx *table.Transaction, props iceberg.Properties) error) (*tableState, error) {
	unlock, err := s.lock(ctx, s.path(ident)+" commit")
	if err != nil {
		return nil, err
	}
	defer unlock()
	id := uuid.NewString()
	for attempt := 1; ; attempt++ {
		t, err := s.load(ctx, ident)
		if err != nil {
			return nil, err
		}
		if t == nil {
			return nil, fmt.Errorf("table %s is gone", s.path(ident))
		}
		tx := t.NewTransaction()
		if err := change(t, tx, iceberg.Properties{keyFormat: formatVersion, keyCommit: id}); err != nil {
			return nil, err
		}
		_, failed := tx.Commit(ctx)
		// Whatever Commit says, the table itself tells whether it took effect:
		// a version that others had passed meanwhile is not on the way to the
		// newest one, and one that was written although an error came is.
		now, err := s.load(context.WithoutCancel(ctx), ident)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUnsure, errors.Join(failed, err))
		}
		if now != nil && now.has(id) {
			if s.durable {
				if err := syncCommit(now.MetadataLocation()); err != nil {
					return nil, fmt.Errorf("%w: table %s: syncing it: %w", errUnsure, t.name, err)
				}
			}
			return now, nil
		}
		if now == nil || now.MetadataLocation() == t.MetadataLocation() && !errors.Is(failed, table.ErrCommitFailed) {
			return nil, fmt.Errorf("%w: committing to table %s: %w", offline.ErrUnavailable, t.name, failed)
		}
		if attempt == maxCommits {
			return nil, fmt.Errorf("%w: table %s: %d commits in a row were overtaken by others: %w", offline.ErrUnavailable, t.name, attempt, failed)
		}
		if err := pause(ctx, attempt); err != nil {
			return nil, fmt.Errorf("committing to table %s: %w", t.name, err)
		}
	}
}

// has reports whether a commit is among the snapshots that lead to the head.
func (t *tableState) has(commit string) bool {
	for sn := t.head; sn != nil; {
		if sn.Summary != nil && sn.Summary.Properties[keyCommit] == commit {
			return true
		}
		if sn.ParentSnapshotID == nil {
			return false
		}
		sn = t.SnapshotByID(*sn.ParentSnapshotID)
	}
	return false
}

// evolve adds columns, all nullable, to a table.
func (s *Store) evolve(ctx context.Context, ident table.Identifier, cs []column) error {
	for attempt := 1; ; attempt++ {
		t, err := s.load(ctx, ident)
		if err != nil {
			return err
		}
		missing, err := bind(t.name, t.Schema(), cs)
		if err != nil || len(missing) == 0 {
			return err
		}
		tx := t.NewTransaction()
		u := tx.UpdateSchema(true, false)
		for _, c := range missing {
			u.AddColumn([]string{c.Name}, icebergType(c), "", false, nil)
		}
		if err = u.Commit(); err == nil {
			_, err = tx.Commit(ctx)
		}
		if err == nil {
			return nil
		}
		if attempt == maxCommits {
			return fmt.Errorf("table %s: adding column %q: %w", t.name, missing[0].Name, err)
		}
	}
}

// addFiles puts an append of files, or of none, into a transaction.
func addFiles(ctx context.Context, tx *table.Transaction, files []iceberg.DataFile, props iceberg.Properties) error {
	if len(files) == 0 {
		return tx.AddFiles(ctx, nil, props, false) // a snapshot with a summary and nothing else
	}
	return tx.AddDataFiles(ctx, files, props, table.WithoutDuplicateCheck())
}

// dataFile is one live data file of a snapshot.
type dataFile struct {
	iceberg.DataFile
	sequence int64 // of the snapshot that added its rows
	bucket   int   // -1 in a log
}

// files lists the data files of a snapshot with rows added after a sequence number, oldest first.
func (s *Store) files(t *tableState, sn *table.Snapshot, after int64) ([]dataFile, error) {
	if sn == nil {
		return nil, nil
	}
	manifests, err := sn.Manifests(s.fs)
	if err != nil {
		return nil, fmt.Errorf("%w: table %s: reading the manifest list %s: %w", offline.ErrUnavailable, t.name, sn.ManifestList, err)
	}
	var files []dataFile
	for _, m := range manifests {
		if m.ManifestContent() != iceberg.ManifestContentData {
			return nil, fmt.Errorf("table %s: snapshot %d has delete files of another engine, which Forebay does not apply", t.name, sn.SnapshotID)
		}
		if m.SequenceNum() <= after {
			continue
		}
		for e, err := range m.Entries(s.fs, true) {
			if err != nil {
				return nil, fmt.Errorf("%w: table %s: reading manifest %s: %w", offline.ErrUnavailable, t.name, m.FilePath(), err)
			}
			if e.SequenceNum() <= after {
				continue
			}
			f := dataFile{DataFile: e.DataFile(), sequence: e.SequenceNum(), bucket: -1}
			for _, v := range f.Partition() {
				b, ok := v.(int32)
				if !ok {
					return nil, fmt.Errorf("table %s: data file %s has bucket %v", t.name, f.FilePath(), v)
				}
				f.bucket = int(b)
			}
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b dataFile) int {
		if a.sequence != b.sequence {
			return int(a.sequence - b.sequence)
		}
		return strings.Compare(a.FilePath(), b.FilePath())
	})
	return files, nil
}
