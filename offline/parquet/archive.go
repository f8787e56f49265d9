package parquet

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

var (
	_ offline.Archive    = (*Store)(nil)
	_ offline.FileTables = (*Store)(nil)
	_ offline.LogReader  = (*Store)(nil)
)

// content is what a source's log holds, without and with instants; "" if it is from before that was kept.
// The instants of files decide the order beside rows of a topic, unless a column says when rows became known.
func (t *tableState) content(src *registry.Source) (content, timed string, err error) {
	chain, chainTimed := t.summary[keyChain], t.summary[keyChainTimed]
	if chain == "" && t.number(keyFiles) > 0 {
		return "", "", nil
	}
	next, err := t.nextOffsets()
	if err != nil {
		return "", "", err
	}
	if len(next) > 0 && src.Created == "" {
		chain = chainTimed
	}
	topic := t.summary[keyTopic]
	return offline.LogContent(chain, topic, next), offline.LogContent(chainTimed, topic, next), nil
}

// loadDerivedAt reads a derived table at a snapshot; nil if there was none.
func (s *Store) loadDerivedAt(ctx context.Context, v registry.ViewGeneration, snapshot string) (*derived, error) {
	if snapshot == offline.NoRows {
		return nil, s.open()
	}
	d, err := s.loadDerived(ctx, v)
	if err != nil || snapshot == "" || d.snapshotOrNone() == snapshot {
		return d, err
	}
	gone := func(why string) error {
		return fmt.Errorf("%w: snapshot %s of %s (table %s): %s", offline.ErrSnapshotGone, snapshot, v, s.path(s.viewIdent(v)), why)
	}
	if d == nil {
		return nil, gone("there is no such table here")
	}
	id, err := strconv.ParseInt(snapshot, 10, 64)
	if err != nil {
		return nil, gone("that is no snapshot of an Iceberg table")
	}
	sn := d.SnapshotByID(id)
	if sn == nil {
		return nil, gone("it was expired, or the table was derived again since")
	}
	if sn.Summary == nil || sn.Summary.Properties[keyFormat] == "" {
		return nil, gone("it was not written by Forebay")
	}
	t := *d.tableState
	t.head, t.summary = sn, sn.Summary.Properties
	return &derived{tableState: &t, l: d.l, buckets: d.buckets}, nil
}

func (d *derived) snapshotOrNone() string {
	if d == nil {
		return offline.NoRows
	}
	return d.snapshot()
}

// TableAt implements offline.Archive.
func (s *Store) TableAt(ctx context.Context, v registry.ViewGeneration, snapshot string) (offline.TableState, error) {
	d, err := s.loadDerivedAt(ctx, v, snapshot)
	if err != nil || d == nil || d.head == nil {
		return offline.TableState{}, err
	}
	return d.tableInfo(), nil
}

// Pin implements offline.Archive: a pin is an Iceberg tag, which every engine's expiry respects.
func (s *Store) Pin(ctx context.Context, v registry.ViewGeneration, snapshot, name string) error {
	if snapshot == "" || snapshot == offline.NoRows {
		return nil
	}
	d, err := s.loadDerivedAt(ctx, v, snapshot)
	if err != nil {
		return err
	}
	for tag, ref := range d.Metadata().Refs() {
		if tag == name && ref.SnapshotID == d.head.SnapshotID {
			return nil
		}
	}
	return s.changeRefs(ctx, v, table.NewSetSnapshotRefUpdate(name, d.head.SnapshotID, table.TagRef, -1, -1, -1))
}

// Unpin implements offline.Archive.
func (s *Store) Unpin(ctx context.Context, v registry.ViewGeneration, name string) error {
	d, err := s.loadDerived(ctx, v)
	if err != nil || d == nil {
		return err
	}
	for tag := range d.Metadata().Refs() {
		if tag == name {
			return s.changeRefs(ctx, v, table.NewRemoveSnapshotRefUpdate(name))
		}
	}
	return nil
}

// changeRefs commits a change of tags, which makes no snapshot.
func (s *Store) changeRefs(ctx context.Context, v registry.ViewGeneration, update table.Update) error {
	ident := s.viewIdent(v)
	unlock, err := s.lock(ctx, s.path(ident)+" commit")
	if err != nil {
		return err
	}
	defer unlock()
	for attempt := 1; ; attempt++ {
		t, err := s.load(ctx, ident)
		if err != nil {
			return err
		}
		if t == nil {
			return fmt.Errorf("%w: table %s is gone", offline.ErrSnapshotGone, s.path(ident))
		}
		_, at, err := s.catalog.CommitTable(ctx, ident, []table.Requirement{table.AssertTableUUID(t.Metadata().TableUUID())}, []table.Update{update})
		if err == nil && s.durable {
			return syncCommit(at)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, table.ErrCommitFailed) || attempt == maxCommits {
			return fmt.Errorf("%w: table %s: changing its tags: %w", offline.ErrUnavailable, t.name, err)
		}
	}
}

// TableFiles implements offline.FileTables.
func (s *Store) TableFiles(ctx context.Context, v registry.ViewGeneration, snapshot string) (offline.TableFiles, error) {
	out := offline.TableFiles{Folder: s.path(s.viewIdent(v))}
	d, err := s.loadDerivedAt(ctx, v, snapshot)
	if err != nil || d == nil || d.head == nil {
		return out, err
	}
	files, err := s.files(d.tableState, d.head, -1)
	if err != nil {
		return out, err
	}
	out.Snapshot = d.snapshot()
	for _, f := range files {
		out.Files = append(out.Files, strings.TrimPrefix(f.FilePath(), "file://"))
	}
	return out, nil
}

// ReadLog implements offline.LogReader. Files whose event times all lie before o.From are left out.
func (s *Store) ReadLog(ctx context.Context, src *registry.Source, o offline.LogOptions) iter.Seq2[*offline.LogRows, error] {
	return func(yield func(*offline.LogRows, error) bool) {
		err := s.eachLogRun(ctx, src, o, func(r *offline.LogRows) error {
			if !yield(r, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("reading the log of source %s: %w", src.Name, err))
		}
	}
}

func (s *Store) eachLogRun(ctx context.Context, src *registry.Source, o offline.LogOptions, each func(*offline.LogRows) error) error {
	log, err := s.load(ctx, s.logIdent(src))
	if err != nil || log == nil || log.head == nil {
		return err
	}
	last := log.head.SequenceNumber
	if o.AsOf != "" {
		id, err := strconv.ParseInt(o.AsOf, 10, 64)
		if err != nil {
			return fmt.Errorf("%w: %q is no snapshot of %s", offline.ErrSnapshotGone, o.AsOf, log.name)
		}
		sn := log.SnapshotByID(id)
		if sn == nil {
			return fmt.Errorf("%w: snapshot %s of %s", offline.ErrSnapshotGone, o.AsOf, log.name)
		}
		last = sn.SequenceNumber
	}
	cs := logColumns(src)
	if _, err := bind(log.name, log.Schema(), cs); err != nil {
		return err
	}
	files, err := s.files(log, log.head, -1)
	if err != nil {
		return err
	}
	at := cs[src.Column(src.Timestamp)]
	for _, f := range files {
		if o.From != nil && newestEvent(f, at.id) < *o.From {
			continue
		}
		names, done, err := s.fileNames(f, cs[len(src.Columns)+3])
		if err != nil {
			return err
		}
		run := &offline.LogRows{Later: f.sequence > last}
		start := 0
		err = s.readLog(ctx, src, log, f, o.Columns, func(b *feature.Batch) error {
			run.Batch = b
			if run.Files, err = names(start, b.Rows); err != nil {
				return err
			}
			start += b.Rows
			return each(run)
		})
		if err := errors.Join(err, done()); err != nil {
			return err
		}
	}
	return nil
}

// newestEvent is the greatest event time in a data file by the manifest; the greatest of all if it does not say.
func newestEvent(f dataFile, column int) int64 {
	if raw, ok := f.UpperBoundValues()[column]; ok {
		if v, err := iceberg.LiteralFromBytes(iceberg.PrimitiveTypes.TimestampTz, raw); err == nil {
			if t, ok := v.(iceberg.TypedLiteral[iceberg.Timestamp]); ok {
				return int64(t.Value())
			}
		}
	}
	return feature.MaxTimestamp
}

// fileNames reads, run by run, the names of the files that a log's rows came from.
func (s *Store) fileNames(f dataFile, c column) (read func(start, n int) ([]string, error), done func() error, err error) {
	r, err := openFile(s.fs, f.FilePath(), f.FileSizeBytes(), f.Count())
	if err != nil {
		return nil, nil, err
	}
	cr, err := r.newColumnReader(c)
	if err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	col := feature.NewColumn(c.Name, c.Type, logBatch)
	var names []string
	read = func(start, n int) ([]string, error) {
		if err := fill(cr, col, int64(start), n); err != nil {
			return nil, err
		}
		names = names[:0]
		for i := range n {
			name := ""
			if !col.IsNull(i) {
				name = string(col.Bytes(i))
				if k := len(names); k > 0 && names[k-1] == name {
					name = names[k-1] // one string for a run of them
				}
			}
			names = append(names, name)
		}
		return names, nil
	}
	return read, func() error { cr.close(); return r.Close() }, nil
}
