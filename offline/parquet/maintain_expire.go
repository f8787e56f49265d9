package parquet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/forebay/forebay/offline"
)

// sweep expires the states of a table that were superseded long enough ago, and removes files
// that none of the others names.
func (m *maintenance) sweep(ctx context.Context, ident table.Identifier, t *tableState, keep map[int64]bool, d *offline.Maintained) error {
	// What is there now is looked at before the states: files of a commit that comes
	// between the two are named by a state then.
	files, err := m.unnamedSince(t.name)
	if err != nil {
		return err
	}
	expired, t, err := m.expire(ctx, ident, keep)
	if err != nil || t == nil {
		return err
	}
	d.Snapshots = len(expired)
	maps.Copy(m.expired, expired)
	named, err := m.named(t, expired)
	if err != nil {
		return err
	}
	d.Bytes, d.Files = t.total("total-files-size"), int(t.total("total-data-files"))
	for _, f := range files {
		if named[filepath.Base(f.path)] {
			continue
		}
		d.Removed++
		d.Freed += f.size
		if m.r.DryRun {
			continue
		}
		if err := m.s.fs.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: removing %s, which no state of its table names: %w", offline.ErrUnavailable, f.path, err)
		}
	}
	return nil
}

// oldFile is a data file or a manifest that is old enough to be removed.
type oldFile struct {
	path string
	size int64
}

func (m *maintenance) unnamedSince(dir string) ([]oldFile, error) {
	var files []oldFile
	for _, pattern := range []string{filepath.Join(dir, "data", "*.parquet"), filepath.Join(dir, "metadata", "*.avro")} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %w", offline.ErrUnavailable, err)
			}
			if info.ModTime().Before(m.orphaned) {
				files = append(files, oldFile{path, info.Size()})
			}
		}
	}
	return files, nil
}

// named are the names of the files that the states of a table name, without those of some
// states. The names have random parts, so the folder does not matter.
func (m *maintenance) named(t *tableState, without map[int64]bool) (map[string]bool, error) {
	names, seen := map[string]bool{}, map[string]bool{}
	for _, sn := range t.Metadata().Snapshots() {
		if without[sn.SnapshotID] {
			continue
		}
		names[filepath.Base(sn.ManifestList)] = true
		manifests, err := sn.Manifests(m.s.fs)
		if err != nil {
			return nil, fmt.Errorf("%w: table %s: reading the manifest list %s: %w", offline.ErrUnavailable, t.name, sn.ManifestList, err)
		}
		for _, manifest := range manifests {
			if seen[manifest.FilePath()] {
				continue
			}
			seen[manifest.FilePath()] = true
			names[filepath.Base(manifest.FilePath())] = true
			for e, err := range manifest.Entries(m.s.fs, true) {
				if err != nil {
					return nil, fmt.Errorf("%w: table %s: reading manifest %s: %w", offline.ErrUnavailable, t.name, manifest.FilePath(), err)
				}
				names[filepath.Base(e.DataFile().FilePath())] = true
			}
		}
	}
	return names, nil
}

// expire takes states out of a table's metadata: those that were superseded before the time, and
// that nothing needs. It returns them, and the table afterwards, nil if it has gone.
func (m *maintenance) expire(ctx context.Context, ident table.Identifier, keep map[int64]bool) (map[int64]bool, *tableState, error) {
	unlock, err := m.s.lock(ctx, m.s.path(ident)+" commit")
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	expired := map[int64]bool{}
	for attempt := 1; ; attempt++ {
		t, err := m.s.load(ctx, ident)
		if err != nil || t == nil {
			return nil, nil, err
		}
		ids := superseded(t, keep, m.before)
		if m.r.DryRun || len(ids) == 0 {
			for _, id := range ids {
				expired[id] = true
			}
			if attempt > 1 && m.s.durable {
				// What is removed next must not be named by the metadata that a crash leaves.
				if err := syncCommit(t.MetadataLocation()); err != nil {
					return nil, nil, fmt.Errorf("%w: table %s: syncing it: %w", offline.ErrUnavailable, t.name, err)
				}
			}
			return expired, t, nil
		}
		if attempt > maxCommits {
			return nil, nil, fmt.Errorf("%w: table %s: %d commits in a row were overtaken by others", offline.ErrUnavailable, t.name, maxCommits)
		}
		for _, id := range ids {
			expired[id] = true
		}
		head := t.head.SnapshotID
		_, _, err = m.s.catalog.CommitTable(ctx, ident,
			[]table.Requirement{table.AssertTableUUID(t.Metadata().TableUUID()), table.AssertRefSnapshotID(table.MainBranch, &head), untagged{ids}},
			[]table.Update{table.NewRemoveSnapshotsUpdate(ids, false)})
		if err == nil {
			continue // and see that it is so
		}
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		// Another commit came first, or a tag: the next look starts from that. Anything
		// else fails until the attempts are used up.
		clear(expired)
		if attempt == maxCommits {
			return nil, nil, fmt.Errorf("%w: table %s: expiring snapshots: %w", offline.ErrUnavailable, t.name, err)
		}
		select {
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// superseded are the snapshots of a table whose successor was made before a time, without
// the newest, those to keep, those with a tag, and those between the newest and the newest
// of Forebay's, whose summary counts.
func superseded(t *tableState, keep map[int64]bool, before time.Time) []int64 {
	if t.head == nil {
		return nil
	}
	needed := map[int64]bool{}
	for _, ref := range t.Metadata().Refs() {
		needed[ref.SnapshotID] = true
	}
	for sn := t.head; sn != nil; {
		needed[sn.SnapshotID] = true
		if sn.Summary != nil && sn.Summary.Properties[keyFormat] != "" || sn.ParentSnapshotID == nil {
			break
		}
		sn = t.SnapshotByID(*sn.ParentSnapshotID)
	}
	until := map[int64]int64{} // when it was superseded, milliseconds
	for _, sn := range t.Metadata().Snapshots() {
		if sn.ParentSnapshotID != nil {
			until[*sn.ParentSnapshotID] = sn.TimestampMs
		}
	}
	var ids []int64
	for _, sn := range t.Metadata().Snapshots() {
		end, ok := until[sn.SnapshotID]
		if !ok {
			end = sn.TimestampMs
		}
		if !needed[sn.SnapshotID] && !keep[sn.SnapshotID] && end < before.UnixMilli() {
			ids = append(ids, sn.SnapshotID)
		}
	}
	return ids
}

// untagged requires that no branch or tag names some snapshots: somebody may have pinned
// one since they were chosen.
type untagged struct{ ids []int64 }

var _ table.Requirement = untagged{}

// Validate implements table.Requirement.
func (u untagged) Validate(meta table.Metadata) error {
	for name, ref := range meta.Refs() {
		for _, id := range u.ids {
			if ref.SnapshotID == id {
				return fmt.Errorf("%w: snapshot %d has the tag %s now", table.ErrCommitFailed, id, name)
			}
		}
	}
	return nil
}

// GetType implements table.Requirement.
func (u untagged) GetType() string { return "forebay-untagged" }
