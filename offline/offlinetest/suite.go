// Package offlinetest is the conformance suite of offline.Store: every
// implementation passes the same tests, and its joins are compared with an
// oracle that looks at every row for every row of the spine.
package offlinetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Run tests a store. open makes a new, empty one and closes it at the end of the test.
func Run(t *testing.T, open func(t *testing.T) offline.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, offline.Store)
	}{
		{"Empty", testEmpty},
		{"AppendFiles", testAppendFiles},
		{"AppendAbort", testAppendAbort},
		{"AppendRefusals", testAppendRefusals},
		{"AppendOffsets", testAppendOffsets},
		{"AppendConcurrently", testAppendConcurrently},
		{"Types", testTypes},
		{"RefreshIncremental", testRefreshIncremental},
		{"RefreshConcurrently", testRefreshConcurrently},
		{"RefreshComputed", testRefreshComputed},
		{"ColumnAdded", testColumnAdded},
		{"ScanOptions", testScanOptions},
		{"JoinAgainstOracle", testJoinAgainstOracle},
		{"JoinSpines", testJoinSpines},
		{"Windows", testWindows},
		{"WindowsOfNothing", testWindowsOfNothing},
		{"Cancelled", testCancelled},
		{"Closed", testClosed},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func testEmpty(t *testing.T, s offline.Store) {
	p := project()
	src, v := p.Source("events"), view(p, "by_id", 1)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	log, err := s.Log(t.Context(), src)
	if err != nil || log.Rows != 0 || log.Snapshot != "" || len(log.Offsets) != 0 {
		t.Fatalf("log of nothing: %+v, %v", log, err)
	}
	if ok, err := s.Ingested(t.Context(), src, "ab"); ok || err != nil {
		t.Fatalf("ingested: %v, %v", ok, err)
	}
	if st := refresh(t, s, v); st != (offline.TableState{}) {
		t.Fatalf("refresh of nothing: %+v", st)
	}
	if st, err := s.Table(t.Context(), v); err != nil || st != (offline.TableState{}) {
		t.Fatalf("table of nothing: %+v, %v", st, err)
	}
	if got := scan(t, s, v, offline.ScanOptions{}); len(got) != 0 {
		t.Fatalf("scan of nothing: %v", got)
	}
	spine := feature.NewBatch([]feature.Field{columns[1], {Name: "ts", Type: feature.TypeTimestamp}}, 1)
	spine.Columns[0].Append(feature.OfInt64(1))
	spine.Columns[1].Append(feature.OfTimestamp(5))
	spine.Rows = 1
	req := offline.JoinRequest{Spine: batches(spine, 10), Timestamp: "ts", Roles: []offline.Role{{View: v, Keys: []string{"id"}, Features: []int{0}}}}
	if _, got := join(t.Context(), t, s, req); len(got[0]) != 1 || got[0][0].status != feature.NotFound || !got[0][0].values[0].IsNull() {
		t.Fatalf("join with nothing: %+v", got)
	}
	// An append without rows: a file of none, and offsets that were all dead letters.
	appendFile(t, s, src, "empty", "e0", nil)
	if err := appendStream(t, s, src, 0, 0, nil); err != nil {
		t.Fatal(err)
	}
	refresh(t, s, v)
	if got := scan(t, s, v, offline.ScanOptions{}); len(got) != 0 {
		t.Fatalf("scan of no rows: %v", got)
	}
	if _, got := join(t.Context(), t, s, req); got[0][0].status != feature.NotFound {
		t.Fatalf("join with no rows: %+v", got)
	}
	if log, err := s.Log(t.Context(), src); err != nil || log.Files != 1 || log.Rows != 0 || log.Snapshot == "" {
		t.Fatalf("log: %+v, %v", log, err)
	}
}

// testTypes: every value of every type comes back as it was, from files and streams, by every kind of key.
func testTypes(t *testing.T, s offline.Store) {
	p := project()
	src := p.Source("events")
	rng := rand.New(rand.NewPCG(seed(t), 0))
	var all []row
	for range 3 {
		rows := make([]row, 150)
		for i := range rows {
			rows[i] = randomRow(rng, 50)
		}
		appendFile(t, s, src, "f", "", rows)
		all = append(all, rows...)
	}
	rows := make([]row, 150)
	for i := range rows {
		rows[i] = randomRow(rng, 50)
	}
	if err := appendStream(t, s, src, 2, 0, rows); err != nil {
		t.Fatal(err)
	}
	all = append(all, rows...)
	for name := range viewKeys {
		v := view(p, name, 1)
		st := refresh(t, s, v)
		want, bad := viewRows(v, all)
		if st.Rows != int64(len(want)) || st.BadRows != int64(bad) || st.Bytes == 0 || st.Snapshot == "" {
			t.Errorf("%s: %+v; want %d rows, %d bad", v, st, len(want), bad)
		}
		log, err := s.Log(t.Context(), src)
		if err != nil || st.LogSnapshot != log.Snapshot {
			t.Errorf("%s: up to date with %s, the log is at %s (%v)", v, st.LogSnapshot, log.Snapshot, err)
		}
		sameRows(t, v.String(), scan(t, s, v, offline.ScanOptions{}), want)
	}
}

// testRefreshIncremental: refreshed after every append or once at the end, a table holds the same.
func testRefreshIncremental(t *testing.T, s offline.Store) {
	p := project()
	src := p.Source("events")
	rng := rand.New(rand.NewPCG(seed(t), 0))
	often, once := view(p, "by_both", 1), view(p, "by_both", 2)
	var all []row
	next := int64(0)
	for i := range 24 { // enough for every implementation to compact
		rows := make([]row, rng.IntN(30))
		for k := range rows {
			rows[k] = randomRow(rng, 100)
		}
		if i%2 == 0 {
			appendFile(t, s, src, fmt.Sprint("f", i), fmt.Sprint("h", i), rows)
		} else {
			if err := appendStream(t, s, src, 0, next, rows); err != nil {
				t.Fatal(err)
			}
			next += int64(len(rows))
		}
		all = append(all, rows...)
		st := refresh(t, s, often)
		want, bad := viewRows(often, all)
		if st.Rows != int64(len(want)) || st.BadRows != int64(bad) {
			t.Fatalf("after append %d: %+v; want %d rows, %d bad", i, st, len(want), bad)
		}
		// Again, with nothing new: nothing happens.
		if again := refresh(t, s, often); again != st {
			t.Fatalf("refresh of an up-to-date table: %+v, then %+v", st, again)
		}
		if table, err := s.Table(t.Context(), often); err != nil || table != st {
			t.Fatalf("Table: %+v, %v; Refresh said %+v", table, err, st)
		}
	}
	a, b := refresh(t, s, often), refresh(t, s, once)
	if a.Rows != b.Rows || a.BadRows != b.BadRows || a.Newest != b.Newest || a.LogSnapshot != b.LogSnapshot {
		t.Fatalf("often %+v, once %+v", a, b)
	}
	want, _ := viewRows(often, all)
	sameRows(t, "refreshed often", scan(t, s, often, offline.ScanOptions{}), want)
	sameRows(t, "refreshed once", scan(t, s, once, offline.ScanOptions{}), want)
}

func testRefreshConcurrently(t *testing.T, s offline.Store) {
	p := project()
	src := p.Source("events")
	rng := rand.New(rand.NewPCG(seed(t), 0))
	v := view(p, "by_id", 1)
	var all []row
	for i := range 6 {
		rows := make([]row, 40)
		for k := range rows {
			rows[k] = randomRow(rng, 100)
		}
		appendFile(t, s, src, "f", fmt.Sprint("h", i), rows)
		all = append(all, rows...)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := s.Refresh(t.Context(), v); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	want, _ := viewRows(v, all)
	sameRows(t, "refreshed by three at once", scan(t, s, v, offline.ScanOptions{}), want)
}

// testRefreshComputed: the filter, expressions, and values that cannot be computed.
func testRefreshComputed(t *testing.T, s offline.Store) {
	p := project()
	src := p.Source("events")
	v := view(p, "computed", 1)
	var rows []row
	for i, x := range []int64{0, 1, 7, 3, 0, -5} {
		r := row{values: make([]feature.Value, len(columns)), version: feature.Version{EventTime: int64(i)}}
		r.values[0], r.values[1], r.values[4] = feature.OfTimestamp(int64(i)), feature.OfInt64(1), feature.OfInt64(x)
		rows = append(rows, r)
	}
	rows = append(rows, rows[1]) // and one without i
	rows[6].values = append([]feature.Value(nil), rows[6].values...)
	rows[6].values[4] = feature.Value{}
	rows[6].values[0], rows[6].version.EventTime = feature.OfTimestamp(6), 6
	appendFile(t, s, src, "f", "h", rows)
	st := refresh(t, s, v)
	// i == null is not selected by "i != 7": an operator that meets null gives null.
	if st.Invalid != 2 {
		t.Fatalf("%+v; want 2 invalid values", st)
	}
	got := scan(t, s, v, offline.ScanOptions{})
	by := map[int64]viewRow{}
	for _, r := range got {
		by[r.version.EventTime] = r
	}
	for i, want := range map[int64]string{0: "null 0", 1: "100 2", 3: "33 6", 4: "null 0", 5: "-20 -10"} {
		r, ok := by[i]
		if !ok {
			t.Fatalf("no row at %d", i)
		}
		if text := fmt.Sprint(r.values[1], r.values[2]); text != want {
			t.Errorf("row at %d: %s, want %s", i, text, want)
		}
		if r.values[1].IsInvalid() != (i == 0 || i == 4) {
			t.Errorf("row at %d: invalid: %v", i, r.values[1].IsInvalid())
		}
	}
	if _, ok := by[2]; ok {
		t.Error("the filter let i == 7 through")
	}
	spine := feature.NewBatch([]feature.Field{columns[1], columns[0]}, 1)
	for _, at := range []int64{0, 2, 4} {
		spine.Columns[0].Append(feature.OfInt64(1))
		spine.Columns[1].Append(feature.OfTimestamp(at))
		spine.Rows++
	}
	_, res := join(t.Context(), t, s, offline.JoinRequest{Spine: batches(spine, 9), Timestamp: "at", Roles: []offline.Role{{View: v, Keys: []string{"id"}, Features: []int{1, 0}}}})
	for i, want := range []feature.Status{feature.StatusInvalid, feature.Present, feature.StatusInvalid} {
		if got := feature.StatusOf(res[0][i].values[1]); got != want || res[0][i].status != feature.Present {
			t.Errorf("joined row %d: %v (row %v), want %v", i, got, res[0][i].status, want)
		}
	}
}

// testColumnAdded: a source gains a column; old rows have it null.
func testColumnAdded(t *testing.T, s offline.Store) {
	p := project()
	rng := rand.New(rand.NewPCG(seed(t), 0))
	before := []row{randomRow(rng, 10)}
	appendFile(t, s, p.Source("events"), "old", "old", before)
	q := project()
	q.Sources[0].Columns = append(q.Sources[0].Columns, registry.SourceColumn{Field: feature.Field{Name: "extra", Type: feature.TypeInt64}})
	q.Views = []registry.FeatureView{{Meta: registry.Meta{Name: "with_extra"}, Source: "events",
		Features: []registry.Feature{{Field: feature.Field{Name: "x", Type: feature.TypeInt64}, Expr: "extra"}}}}
	src := q.Source("events")
	v := registry.ViewGeneration{Project: q, View: &q.Views[0], Number: 1}
	refresh(t, s, v)
	a, err := s.Append(t.Context(), src, &offline.FileOrigin{Name: "new"})
	if err != nil {
		t.Fatal(err)
	}
	r := randomRow(rng, 10)
	r.version.IngestedAt, r.version.Major, r.version.Minor = a.IngestedAt(), 0, a.IngestedAt()
	b := batchOf([]row{r})
	extra := feature.NewColumn("extra", feature.TypeInt64, 1)
	extra.Append(feature.OfInt64(42))
	b.Columns = append(b.Columns, extra)
	if err := a.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(t.Context(), offline.Origin{File: &offline.FileOrigin{Name: "new", Hash: "new"}}); err != nil {
		t.Fatal(err)
	}
	refresh(t, s, v)
	got := byVersion(scan(t, s, v, offline.ScanOptions{}))
	if len(got) != 2 || !got[before[0].version].values[0].IsNull() || got[r.version].values[0].Int64() != 42 {
		t.Fatalf("%v", got)
	}
}

func testScanOptions(t *testing.T, s offline.Store) {
	p := project()
	src := p.Source("events")
	rng := rand.New(rand.NewPCG(seed(t), 0))
	v := view(p, "by_name", 1)
	var all []row
	var marks []int // rows at each snapshot
	var snapshots []string
	for i := range 20 {
		rows := make([]row, 20)
		for k := range rows {
			rows[k] = randomRow(rng, 100)
		}
		appendFile(t, s, src, "f", fmt.Sprint("h", i), rows)
		all = append(all, rows...)
		st := refresh(t, s, v)
		marks, snapshots = append(marks, len(all)), append(snapshots, st.Snapshot)
	}
	for i, since := range snapshots {
		want, _ := viewRows(v, all[marks[i]:])
		got := scan(t, s, v, offline.ScanOptions{Since: since})
		// A store that no longer knows a snapshot may return everything; more
		// than that, or less than what is new, it may not.
		have := byVersion(got)
		for _, r := range want {
			if o, ok := have[r.version]; !ok || !o.equal(r) {
				t.Fatalf("since snapshot %d: %v is missing", i, r)
			}
		}
		whole, _ := viewRows(v, all)
		if len(got) != len(want) && len(got) != len(whole) {
			t.Fatalf("since snapshot %d: %d rows; %d are new of %d", i, len(got), len(want), len(whole))
		}
		if i == len(snapshots)-1 && len(got) != 0 {
			t.Fatalf("since the newest snapshot: %d rows", len(got))
		}
	}
	if got := scan(t, s, v, offline.ScanOptions{Since: "12345"}); len(got) == 0 {
		t.Fatal("since an unknown snapshot: nothing")
	}
	whole, _ := viewRows(v, all)
	for range 20 {
		from, to := rng.Int64N(120)-60, rng.Int64N(120)-60
		var o offline.ScanOptions
		if rng.IntN(3) > 0 {
			o.From = &from
		}
		if rng.IntN(3) > 0 {
			o.To = &to
		}
		var want []viewRow
		newest := map[string]viewRow{}
		for _, r := range whole {
			if o.From != nil && r.version.EventTime < from || o.To != nil && r.version.EventTime > to {
				continue
			}
			want = append(want, r)
			if n, ok := newest[r.values[0].Str()]; !ok || r.version.Compare(n.version) > 0 {
				newest[r.values[0].Str()] = r
			}
		}
		sameRows(t, "between", scan(t, s, v, o), want)
		o.NewestOnly = true
		have := byVersion(scan(t, s, v, o))
		for _, r := range newest {
			if o, ok := have[r.version]; !ok || !o.equal(r) {
				t.Fatalf("newest only: %v is missing", r)
			}
		}
		for _, r := range want {
			delete(have, r.version)
		}
		if len(have) > 0 {
			t.Fatalf("newest only: rows that were not asked for: %v", have)
		}
	}
	// Stopping early is fine.
	for _, err := range s.Scan(t.Context(), v, offline.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
}

func testCancelled(t *testing.T, s offline.Store) {
	p := project()
	rng := rand.New(rand.NewPCG(seed(t), 0))
	v := view(p, "by_id", 1)
	appendFile(t, s, p.Source("events"), "f", "h", []row{randomRow(rng, 9), randomRow(rng, 9)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Refresh(ctx, v); !errors.Is(err, context.Canceled) {
		t.Errorf("refresh, cancelled: %v", err)
	}
	refresh(t, s, v)
	for _, err := range s.Scan(ctx, v, offline.ScanOptions{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("scan, cancelled: %v", err)
		}
		break
	}
}

func testClosed(t *testing.T, s offline.Store) {
	p := project()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Log(t.Context(), p.Source("events")); !errors.Is(err, offline.ErrClosed) {
		t.Errorf("log of a closed store: %v", err)
	}
	if _, err := s.Append(t.Context(), p.Source("events"), nil); !errors.Is(err, offline.ErrClosed) {
		t.Errorf("append to a closed store: %v", err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, offline.ErrClosed) {
		t.Errorf("ping of a closed store: %v", err)
	}
}
