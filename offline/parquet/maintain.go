package parquet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
)

var _ offline.Maintainer = (*Store)(nil)

// Maintain implements offline.Maintainer.
//
// A table is looked after in steps, each of which leaves it valid: small files are merged
// and the merged ones committed in their place; states that were superseded are taken
// out of the metadata; and then files that no state names are removed, if they
// are old enough to be of no append that is under way.
func (s *Store) Maintain(ctx context.Context, r offline.MaintainRequest) ([]offline.Maintained, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	if r.Retain < offline.MinRetain || r.Orphans < offline.MinRetain {
		return nil, fmt.Errorf("%w: states for %s, unnamed files for %s; at least %s each", offline.ErrRetain, r.Retain, r.Orphans, offline.MinRetain)
	}
	m := newMaintenance(s, r, s.now().Add(-r.Retain), s.now().Add(-r.Orphans))
	err := m.run(ctx)
	if err != nil {
		err = fmt.Errorf("maintaining the tables in %s: %w", s.root, err)
	}
	return m.done, err
}

// maintenance is one run of Maintain.
type maintenance struct {
	s        *Store
	r        offline.MaintainRequest
	before   time.Time // what was superseded before is expired
	orphaned time.Time // unnamed files older than this are removed
	done     []offline.Maintained

	// Of logs, by the UUID of the table: what the states of derived tables that stay were made of.
	bounds map[string][]int64 // sequence numbers
	needed map[string][]int64 // snapshots

	expired map[int64]bool // snapshots of derived tables, which in a dry run are still there
}

func newMaintenance(s *Store, r offline.MaintainRequest, before, orphaned time.Time) *maintenance {
	return &maintenance{s: s, r: r, before: before, orphaned: orphaned, bounds: map[string][]int64{}, needed: map[string][]int64{}, expired: map[int64]bool{}}
}

func (m *maintenance) run(ctx context.Context) error {
	views, err := m.tables("views")
	if err != nil {
		return err
	}
	for _, name := range views {
		if err := m.view(ctx, name); err != nil {
			return err
		}
	}
	// Logs come last: what they keep depends on the derived tables that are left.
	if views, err = m.tables("views"); err != nil {
		return err
	}
	for _, name := range views {
		t, err := m.s.load(ctx, table.Identifier{m.s.project, "views", name})
		if err != nil {
			return err
		}
		if t != nil {
			m.derivedFrom(t)
		}
	}
	logs, err := m.tables("logs")
	if err != nil {
		return err
	}
	for _, name := range logs {
		if err := m.log(ctx, name); err != nil {
			return err
		}
	}
	return m.runs()
}

// tables are the names of the tables in a folder of the project, sorted.
func (m *maintenance) tables(folder string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(m.s.root, folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", offline.ErrUnavailable, err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// view looks after one derived table.
func (m *maintenance) view(ctx context.Context, name string) error {
	ident := table.Identifier{m.s.project, "views", name}
	t, err := m.s.load(ctx, ident)
	if err != nil || t == nil {
		return err
	}
	d := m.start("views/" + name)
	ref := refOf(name)
	keep, err := m.keep(t, ref)
	if err != nil {
		return err
	}
	if slices.Contains(m.r.Drop, ref) {
		if len(keep) == 0 {
			return m.drop(t, name, d)
		}
		d.KeptFor = "datasets"
	}
	if i := slices.IndexFunc(m.r.Views, func(v registry.ViewGeneration) bool { return v.String() == name }); i >= 0 && t.head != nil {
		if t, err = m.mergeView(ctx, m.r.Views[i], t, d); err != nil {
			return err
		}
	}
	return m.sweep(ctx, ident, t, keep, d)
}

// start begins the report of a table.
func (m *maintenance) start(name string) *offline.Maintained {
	if m.r.Progress != nil {
		m.r.Progress(name)
	}
	m.done = append(m.done, offline.Maintained{Table: name})
	return &m.done[len(m.done)-1]
}

// refOf reads the name of a derived table's folder: view@3. The zero Ref is of another folder.
func refOf(name string) registry.Ref {
	view, number, _ := strings.Cut(name, "@")
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		return registry.Ref{}
	}
	return registry.Ref{View: view, Generation: n}
}

// keep are the snapshots of a derived table that datasets need: those asked for, and those
// with a tag.
func (m *maintenance) keep(t *tableState, ref registry.Ref) (map[int64]bool, error) {
	keep := map[int64]bool{}
	for _, id := range m.r.Keep[ref] {
		if id == "" || id == offline.NoRows {
			continue
		}
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("table %s: the snapshot to keep is %q, which is none of an Iceberg table", t.name, id)
		}
		if t.SnapshotByID(n) != nil { // it may be of a table that was derived again since
			keep[n] = true
		}
	}
	for name, ref := range t.Metadata().Refs() {
		if name != table.MainBranch {
			keep[ref.SnapshotID] = true
		}
	}
	return keep, nil
}

// drop removes a table whole: first from sight, then its files.
func (m *maintenance) drop(t *tableState, name string, d *offline.Maintained) error {
	files, bytes, err := folderSize(t.name)
	if err != nil {
		return err
	}
	d.Dropped, d.Removed, d.Freed = true, files, bytes
	if m.r.DryRun {
		return nil
	}
	tmp := filepath.Join(m.s.root, "tmp")
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return fmt.Errorf("%w: %w", offline.ErrUnavailable, err)
	}
	gone := filepath.Join(tmp, "dropped-"+name+"-"+uuid.NewString())
	if err := os.Rename(t.name, gone); err != nil {
		return fmt.Errorf("%w: removing table %s: %w", offline.ErrUnavailable, t.name, err)
	}
	if err := m.s.fs.RemoveAll(gone); err != nil {
		return fmt.Errorf("%w: removing table %s: %w", offline.ErrUnavailable, t.name, err)
	}
	return nil
}

func folderSize(dir string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			files++
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("%w: %w", offline.ErrUnavailable, err)
	}
	return files, bytes, err
}

// derivedFrom notes which states of its log the states of a derived table were made of.
func (m *maintenance) derivedFrom(t *tableState) {
	for _, sn := range t.Metadata().Snapshots() {
		if sn.Summary == nil || m.expired[sn.SnapshotID] {
			continue
		}
		log := sn.Summary.Properties[keyLogTable]
		if n, err := strconv.ParseInt(sn.Summary.Properties[keyLogSequence], 10, 64); err == nil {
			m.bounds[log] = append(m.bounds[log], n)
		}
		if n, err := strconv.ParseInt(sn.Summary.Properties[keyLogSnapshot], 10, 64); err == nil {
			m.needed[log] = append(m.needed[log], n)
		}
	}
}

// log looks after the log of one source.
func (m *maintenance) log(ctx context.Context, name string) error {
	ident := table.Identifier{m.s.project, "logs", name}
	t, err := m.s.load(ctx, ident)
	if err != nil || t == nil {
		return err
	}
	d := m.start("logs/" + name)
	id := t.Metadata().TableUUID().String()
	keep, err := m.keep(t, registry.Ref{})
	if err != nil {
		return err
	}
	for _, n := range m.needed[id] {
		keep[n] = true
	}
	if i := slices.IndexFunc(m.r.Sources, func(s *registry.Source) bool { return s.Name == name }); i >= 0 && t.head != nil {
		if t, err = m.mergeLog(ctx, m.r.Sources[i], t, m.bounds[id], d); err != nil {
			return err
		}
	}
	return m.sweep(ctx, ident, t, keep, d)
}

// runs removes the sort runs of refreshes that were killed, and tables whose removal was.
func (m *maintenance) runs() error {
	dir := filepath.Join(m.s.root, "tmp")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", offline.ErrUnavailable, err)
	}
	var d *offline.Maintained
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		newest, err := writtenIn(path)
		if err != nil {
			return err
		}
		if !newest.Before(m.orphaned) {
			continue
		}
		if d == nil {
			d = m.start("tmp")
		}
		files, bytes, err := folderSize(path)
		if err != nil {
			return err
		}
		d.Removed += files
		d.Freed += bytes
		if m.r.DryRun {
			continue
		}
		if err := m.s.fs.RemoveAll(path); err != nil {
			return fmt.Errorf("%w: removing %s: %w", offline.ErrUnavailable, path, err)
		}
	}
	return nil
}

// writtenIn is when the newest file or folder below a path was written.
func writtenIn(path string) (newest time.Time, err error) {
	err = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // its refresh is removing it
		}
		if err != nil {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("%w: %w", offline.ErrUnavailable, err)
	}
	return newest, err
}
