package parquet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// later is a Store on the same folder whose clock is a week ahead.
func later(t *testing.T, s *Store, change func(*Options)) *Store {
	t.Helper()
	return open(t, func(o *Options) {
		o.URL, o.Now = "file://"+filepath.Dir(s.root), func() time.Time { return time.Now().Add(7 * 24 * time.Hour) }
		if change != nil {
			change(o)
		}
	})
}

func everything(v registry.ViewGeneration) offline.MaintainRequest {
	return offline.MaintainRequest{Sources: []*registry.Source{v.Source()}, Views: []registry.ViewGeneration{v}, Retain: 24 * time.Hour, Orphans: 24 * time.Hour}
}

func maintain(t *testing.T, s *Store, r offline.MaintainRequest) map[string]offline.Maintained {
	t.Helper()
	done, err := s.Maintain(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]offline.Maintained{}
	for _, d := range done {
		by[d.Table] = d
	}
	return by
}

// joined is the join of ids 0 to 9 at some instants, as text.
func joined(t *testing.T, s *Store, v registry.ViewGeneration, snapshot string) string {
	t.Helper()
	spine := feature.NewBatch([]feature.Field{{Name: "id", Type: feature.TypeInt64}, {Name: "at", Type: feature.TypeTimestamp}}, 40)
	for i := range 40 {
		spine.Columns[0].AppendBits(uint64(i % 10))
		spine.Columns[1].AppendBits(uint64(i * 37))
		spine.Rows++
	}
	var b strings.Builder
	features := []int{0, 1}
	if len(v.View.Features) > 2 {
		features = append(features, 2)
	}
	for j, err := range s.Join(t.Context(), offline.JoinRequest{Timestamp: "at", Spine: func(yield func(*feature.Batch, error) bool) { yield(spine, nil) },
		Roles: []offline.Role{{View: v, Keys: []string{"id"}, Features: features, Snapshot: snapshot}}}) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range j.Spine.Rows {
			r := j.Roles[0]
			fmt.Fprintln(&b, r.Found[i], r.Versions[i], r.Features[0].Value(i), r.Features[1].Value(i))
			if len(features) > 2 {
				fmt.Fprintln(&b, r.Features[2].Value(i))
			}
		}
	}
	return b.String()
}

// scanned is the whole derived table as text.
func scanned(t *testing.T, s *Store, v registry.ViewGeneration) string {
	t.Helper()
	var lines []string
	for rows, err := range s.Scan(t.Context(), v, offline.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range rows.Rows {
			line := fmt.Sprint(rows.Versions[i])
			for _, c := range rows.Columns {
				line += " " + c.Value(i).String()
			}
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func refresh(t *testing.T, s *Store, v registry.ViewGeneration) offline.TableState {
	t.Helper()
	st, err := s.Refresh(t.Context(), v)
	must(t, err)
	return st
}

// TestMaintain: many small commits become few files and states; every answer stays, also at the
// snapshots that were asked to be kept or are pinned, and refreshes go on from where they were.
func TestMaintain(t *testing.T) {
	v := smallView()
	other := v // a generation that was derived up to the middle of the log
	other.Number = 2
	s := open(t, nil)
	var kept, pinned, unneeded string
	var states []string
	for i := range 20 {
		must(t, smallAppend(t.Context(), s, v, fmt.Sprint("h", i), i*50, 50, 10))
		st := refresh(t, s, v)
		switch i {
		case 4:
			unneeded = st.Snapshot
		case 6:
			kept = st.Snapshot
			states = append(states, joined(t, s, v, ""))
		case 9:
			pinned = st.Snapshot
			states = append(states, joined(t, s, v, ""))
			must(t, s.Pin(t.Context(), v, pinned, "dataset-x"))
			refresh(t, s, other)
		}
	}
	states = append(states, joined(t, s, v, ""))
	rows := scanned(t, s, v)
	log, err := s.Log(t.Context(), v.Source())
	must(t, err)
	orphan := filepath.Join(s.root, "logs", "events", "data", "orphan.parquet")
	must(t, os.WriteFile(orphan, []byte("of a process that was killed"), 0o600))
	must(t, os.MkdirAll(filepath.Join(s.root, "tmp", "run"), 0o755))
	must(t, os.WriteFile(filepath.Join(s.root, "tmp", "run", "0.parquet"), []byte("x"), 0o600))

	// Everything is young: nothing of the log is touched, nothing is removed.
	for table, d := range maintain(t, s, everything(v)) {
		if d.Snapshots+d.Removed > 0 || table == "logs/events" && d.Merged > 0 {
			t.Errorf("young: %+v", d)
		}
	}
	l := later(t, s, nil)
	r := everything(v)
	r.Keep = map[registry.Ref][]string{{View: "v", Generation: 1}: {kept}}
	dry := r
	dry.DryRun = true
	before := len(dataFiles(t, s, "logs/events"))
	said := maintain(t, l, dry)
	if d := said["logs/events"]; d.Merged != 20 || d.Into != 3 || d.Removed < 1 || len(dataFiles(t, s, "logs/events")) != before {
		t.Errorf("dry run: %+v; %d files before, %d after", d, before, len(dataFiles(t, s, "logs/events")))
	}
	done := maintain(t, l, r)
	// Three files: what is kept, and the other generation, end between them.
	if d := done["logs/events"]; d.Merged != 20 || d.Into != 3 || d.Snapshots == 0 {
		t.Errorf("log: %+v", d)
	}
	if d := done["views/v@1"]; d.Snapshots == 0 || d.Removed == 0 || d.Freed == 0 {
		t.Errorf("view: %+v", d)
	}
	if _, err := os.Stat(orphan); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the orphan is there: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.root, "tmp")); len(left) > 0 {
		t.Errorf("sort runs are left: %v", left)
	}
	check := func(s *Store) {
		t.Helper()
		for i, at := range []string{kept, pinned, ""} {
			if got := joined(t, s, v, at); got != states[i] {
				t.Errorf("the join at %q differs:\n%s\nwant\n%s", at, got, states[i])
			}
		}
		if got := scanned(t, s, v); got != rows {
			t.Errorf("the table differs:\n%s\nwant\n%s", got, rows)
		}
	}
	check(s)
	if _, err := s.TableAt(t.Context(), v, unneeded); !errors.Is(err, offline.ErrSnapshotGone) {
		t.Errorf("a state that nothing needs: %v; want that it is gone", err)
	}
	if now, err := s.Log(t.Context(), v.Source()); err != nil || now.Rows != log.Rows || now.Files != log.Files || now.Newest != log.Newest {
		t.Errorf("log %+v, %v; want %+v", now, err, log)
	}
	if in, err := s.Ingested(t.Context(), v.Source(), "h3"); err != nil || !in {
		t.Errorf("it was forgotten that h3 was ingested: %v", err)
	}
	// Both generations go on, and a new one starts from the merged log.
	third := v
	third.Number = 3
	for _, g := range []registry.ViewGeneration{v, other, third} {
		refresh(t, s, g)
		if got := scanned(t, s, g); got != rows {
			t.Errorf("%s has other rows after a refresh", g)
		}
	}
	must(t, smallAppend(t.Context(), s, v, "more", 2000, 50, 10))
	for _, g := range []registry.ViewGeneration{v, other, third} {
		refresh(t, s, g)
		if n := countRows(t, s, g); n != 1050 {
			t.Errorf("%s has %d rows, want 1050", g, n)
		}
	}
	rows = scanned(t, s, v)
	states[2] = joined(t, s, v, "")
	for range 2 {
		maintain(t, later(t, s, nil), r)
		check(s)
	}
	if n := len(dataFiles(t, s, "views/v@1")); n > 40 {
		t.Errorf("%d data files are left of the view", n)
	}
	must(t, s.Unpin(t.Context(), v, "dataset-x"))
	r.Keep = nil
	maintain(t, later(t, s, nil), r)
	for _, gone := range []string{kept, pinned} {
		if _, err := s.TableAt(t.Context(), v, gone); !errors.Is(err, offline.ErrSnapshotGone) {
			t.Errorf("a state that nothing needs any more: %v", err)
		}
	}
}

// TestMaintainDrops: tables of dropped generations go, but not those that a dataset needs.
func TestMaintainDrops(t *testing.T) {
	v := smallView()
	second, third := v, v
	second.Number, third.Number = 2, 3
	s := open(t, nil)
	must(t, smallAppend(t.Context(), s, v, "h", 0, 100, 10))
	kept := refresh(t, s, v).Snapshot
	pinned := refresh(t, s, second).Snapshot
	refresh(t, s, third)
	must(t, s.Pin(t.Context(), second, pinned, "dataset-y"))
	r := everything(v)
	r.Keep = map[registry.Ref][]string{{View: "v", Generation: 1}: {kept}}
	r.Drop = []registry.Ref{{View: "v", Generation: 1}, {View: "v", Generation: 2}, {View: "v", Generation: 3}}
	done := maintain(t, s, r)
	for n, want := range map[int]bool{1: false, 2: false, 3: true} {
		d := done[fmt.Sprintf("views/v@%d", n)]
		if d.Dropped != want || (d.KeptFor == "") != want {
			t.Errorf("%+v; want dropped %v", d, want)
		}
	}
	if st, err := s.Table(t.Context(), third); err != nil || st.Rows != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if st := refresh(t, s, third); st.Rows != 100 {
		t.Errorf("derived again: %+v", st)
	}
}

// TestMaintainRetain: too short a time is refused.
func TestMaintainRetain(t *testing.T) {
	s := open(t, nil)
	r := everything(smallView())
	r.Orphans = offline.MinRetain - 1
	if _, err := s.Maintain(t.Context(), r); !errors.Is(err, offline.ErrRetain) {
		t.Errorf("%v", err)
	}
	r.Orphans = offline.MinRetain
	if done, err := s.Maintain(t.Context(), r); err != nil || len(done) > 0 {
		t.Errorf("an empty store: %+v, %v", done, err)
	}
}

// TestMaintainDiskFull: at whichever operation the disk becomes full, every answer stays, and
// another run completes what was begun.
func TestMaintainDiskFull(t *testing.T) {
	v := smallView()
	step := int64(4)
	if os.Getenv("FOREBAY_TEST_LONG") != "" {
		step = 1
	}
	for budget := int64(0); ; budget += step {
		s := open(t, nil)
		for i := range 4 {
			must(t, smallAppend(t.Context(), s, v, fmt.Sprint("h", i), i*50, 50, 10))
			refresh(t, s, v)
		}
		rows := scanned(t, s, v)
		f := &failingFS{}
		l := later(t, s, func(o *Options) { o.FS, o.Workers = f, 1 })
		f.left.Store(budget)
		_, err := l.Maintain(t.Context(), everything(v))
		f.left.Store(1 << 40)
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("budget %d: %v; want no space left", budget, err)
		}
		check := func(when string) {
			t.Helper()
			if got := scanned(t, s, v); got != rows {
				t.Fatalf("budget %d, %s: the table differs", budget, when)
			}
			again := v
			again.Number = 2
			if st, err := s.Refresh(t.Context(), again); err != nil || st.Rows != 200 {
				t.Fatalf("budget %d, %s: derived again: %+v, %v", budget, when, st, err)
			}
		}
		check("after the failure")
		if err == nil {
			if budget < 10 {
				t.Fatalf("only %d operations: the fault was not where it should be", budget)
			}
			t.Logf("%d operations were failed, every %d", budget, step)
			return
		}
		if done := maintain(t, l, everything(v)); done["logs/events"].Files > 2 {
			t.Fatalf("budget %d: not completed: %+v", budget, done)
		}
		check("in the end")
	}
}

// TestMaintainBeside: appends, refreshes and joins go on while the tables are maintained again and again.
func TestMaintainBeside(t *testing.T) {
	v := smallView()
	s := open(t, nil)
	other := later(t, s, nil) // another process
	must(t, smallAppend(t.Context(), s, v, "first", 0, 50, 10))
	refresh(t, s, v)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		for i := 1; i <= 25; i++ {
			if err := smallAppend(t.Context(), s, v, fmt.Sprint("h", i), i*50, 50, 10); err != nil {
				t.Error(err)
				return
			}
		}
	})
	merged := 0
	for run := 0; ctx.Err() == nil || run < 3; run++ {
		m := newMaintenance(other, everything(v), time.Now().Add(time.Hour), time.Now().Add(-time.Hour))
		if err := m.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, d := range m.done {
			merged += d.Merged
		}
		// Not beside it: nothing is kept for refreshes that are under way, as it is for a day in earnest.
		refresh(t, s, v)
		joined(t, s, v, "")
	}
	wg.Wait()
	refresh(t, s, v)
	if n := countRows(t, s, v); n != 26*50 {
		t.Errorf("%d rows, want %d", n, 26*50)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(scanned(t, s, v)) {
		if line = strings.TrimSpace(line); seen[line] {
			t.Errorf("a row twice: %s", line)
		}
		seen[line] = true
	}
	if merged == 0 {
		t.Error("nothing was merged")
	}
}

// TestSchemaEvolution: a source gains a column. Rows from before give null, in tables derived
// before and after, and in merged logs.
func TestSchemaEvolution(t *testing.T) {
	v := smallView()
	s := open(t, nil)
	must(t, smallAppend(t.Context(), s, v, "a", 0, 50, 10))
	must(t, smallAppend(t.Context(), s, v, "b", 50, 50, 10))
	refresh(t, s, v)

	wide := smallView()
	src := wide.Source()
	src.Columns = append(src.Columns, registry.SourceColumn{Field: feature.Field{Name: "extra", Type: feature.TypeInt64}},
		registry.SourceColumn{Field: feature.Field{Name: "tags", Type: feature.Type{Kind: feature.List, Elem: feature.String}}})
	next := wide
	project := *wide.Project
	project.Views = slices.Clone(project.Views)
	view := project.Views[0]
	view.Features = append(slices.Clone(view.Features), registry.Feature{Field: feature.Field{Name: "e", Type: feature.TypeInt64}, Expr: "extra"})
	project.Views[0] = view
	next.Project, next.View, next.Number = &project, &project.Views[0], 2
	must(t, wideAppend(t.Context(), s, wide, "c", 100, 50, 10))
	check := func(when string) {
		t.Helper()
		if st := refresh(t, s, wide); st.Rows != 150 {
			t.Errorf("%s: generation 1, which does not read the column: %+v", when, st)
		}
		refresh(t, s, next)
		nulls, values := 0, 0
		for rows, err := range s.Scan(t.Context(), next, offline.ScanOptions{}) {
			must(t, err)
			e := rows.Columns[3]
			for i := range rows.Rows {
				switch old := rows.Versions[i].EventTime < 100; {
				case e.IsNull(i) && old:
					nulls++
				case !e.IsNull(i) && !old && int64(e.Nums[i]) == -rows.Versions[i].EventTime:
					values++
				}
			}
		}
		if nulls != 100 || values != 50 {
			t.Errorf("%s: generation 2 has %d nulls and %d values; want 100 and 50", when, nulls, values)
		}
	}
	check("at first")
	r := everything(wide)
	if d := maintain(t, later(t, s, nil), r)["logs/events"]; d.Merged != 3 || d.Into != 1 {
		t.Errorf("%+v", d)
	}
	check("merged")
	must(t, os.RemoveAll(filepath.Join(s.root, "views")))
	check("derived again from the merged log")
	// Somebody who still has the definition of before appends and merges too; no column is lost.
	must(t, smallAppend(t.Context(), s, v, "d", 90, 10, 10))
	must(t, os.RemoveAll(filepath.Join(s.root, "views")))
	if d := maintain(t, later(t, s, nil), everything(v))["logs/events"]; d.Merged != 2 || d.Into != 1 {
		t.Errorf("%+v", d)
	}
	if st := refresh(t, s, next); st.Rows != 160 {
		t.Errorf("%+v", st)
	}
}

// wideAppend is smallAppend with the columns that TestSchemaEvolution adds: extra is minus the event time.
func wideAppend(ctx context.Context, s *Store, v registry.ViewGeneration, hash string, base, n, ids int) error {
	a, err := s.Append(ctx, v.Source(), &offline.FileOrigin{Name: hash})
	if err != nil {
		return err
	}
	b := feature.NewBatch(v.Source().Fields(), n)
	for i := range n {
		b.Columns[0].AppendBits(uint64(base + i))
		b.Columns[1].AppendBits(uint64(i % ids))
		b.Columns[2].AppendNull()
		b.Columns[3].AppendNull()
		b.Columns[4].AppendBits(uint64(-int64(base + i)))
		b.Columns[5].Append(feature.OfList(feature.String, []feature.Value{feature.OfString("x"), feature.OfString("y")}))
		b.Versions = append(b.Versions, feature.Version{EventTime: int64(base + i), IngestedAt: a.IngestedAt(), Major: int64(i), Minor: a.IngestedAt()})
		b.Rows++
	}
	err = a.Write(ctx, b)
	if err == nil {
		err = a.Commit(ctx, offline.Origin{File: &offline.FileOrigin{Name: hash, Hash: hash}})
	}
	return errors.Join(err, a.Abort())
}
