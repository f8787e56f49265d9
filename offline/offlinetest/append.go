package offlinetest

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry/feature"
)

func testAppendFiles(t *testing.T, s offline.Store) {
	p := project()
	src := p.Source("events")
	rng := rand.New(rand.NewPCG(seed(t), 0))
	rows := make([]row, 100)
	newest := int64(-1 << 62)
	for i := range rows {
		rows[i] = randomRow(rng, 1000)
		newest = max(newest, rows[i].version.EventTime)
	}
	appendFile(t, s, src, "a.parquet", "aa", rows)
	appendFile(t, s, src, "b.parquet", "bb", rows[:10])
	log, err := s.Log(t.Context(), src)
	if err != nil || log.Rows != 110 || log.Files != 2 || log.Snapshot == "" || log.Newest != newest || log.Bytes == 0 {
		t.Fatalf("log: %+v, %v; want 110 rows of 2 files up to %d", log, err, newest)
	}
	for hash, want := range map[string]bool{"aa": true, "bb": true, "cc": false, "": false} {
		if ok, err := s.Ingested(t.Context(), src, hash); ok != want || err != nil {
			t.Errorf("Ingested(%q): %v, %v", hash, ok, err)
		}
	}
	// The same content again, under another name: refused whole.
	file := &offline.FileOrigin{Name: "c.parquet", Hash: "aa"}
	a, err := s.Append(t.Context(), src, file)
	if err != nil {
		t.Fatal(err)
	}
	rows[0].version.IngestedAt, rows[0].version.Major, rows[0].version.Minor = a.IngestedAt(), 0, a.IngestedAt()
	write(t, a, rows[:1])
	if err := a.Commit(t.Context(), offline.Origin{File: file}); !errors.Is(err, offline.ErrConflict) {
		t.Fatalf("a file twice: %v, want ErrConflict", err)
	}
	if err := a.Abort(); err != nil {
		t.Fatal(err)
	}
	if now, err := s.Log(t.Context(), src); err != nil || now.Rows != 110 || now.Snapshot != log.Snapshot {
		t.Fatalf("after a conflict: %+v, %v", now, err)
	}
	// Pushes have no hash, and are never the same.
	appendFile(t, s, src, "push", "", rows[:3])
	appendFile(t, s, src, "push", "", rows[:3])
	if now, err := s.Log(t.Context(), src); err != nil || now.Rows != 116 || now.Files != 4 {
		t.Fatalf("after two pushes: %+v, %v", now, err)
	}
	// Each append has a later instant than the one before.
	last := int64(0)
	for range 50 {
		a, err := s.Append(t.Context(), src, &offline.FileOrigin{Name: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if a.IngestedAt() <= last {
			t.Fatalf("instant %d after %d", a.IngestedAt(), last)
		}
		last = a.IngestedAt()
		if err := a.Abort(); err != nil {
			t.Fatal(err)
		}
	}
}

func testAppendAbort(t *testing.T, s offline.Store) {
	p := project()
	src := p.Source("events")
	rng := rand.New(rand.NewPCG(seed(t), 0))
	a, err := s.Append(t.Context(), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	write(t, a, []row{randomRow(rng, 10)})
	for range 2 {
		if err := a.Abort(); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Commit(t.Context(), offline.Origin{Topic: "events", Offsets: map[int32]offline.OffsetRange{0: {From: 0, To: 1}}}); err == nil {
		t.Fatal("commit after abort")
	}
	if err := a.Write(t.Context(), batchOf([]row{randomRow(rng, 10)})); err == nil {
		t.Fatal("write after abort")
	}
	if log, err := s.Log(t.Context(), src); err != nil || log.Rows != 0 || log.Snapshot != "" {
		t.Fatalf("after abort: %+v, %v", log, err)
	}
	// Abort after commit does nothing.
	if a, err = s.Append(t.Context(), src, nil); err != nil {
		t.Fatal(err)
	}
	write(t, a, []row{randomRow(rng, 10)})
	if err := a.Commit(t.Context(), offline.Origin{Topic: "events", Offsets: map[int32]offline.OffsetRange{0: {From: 0, To: 1}}}); err != nil {
		t.Fatal(err)
	}
	if err := a.Abort(); err != nil {
		t.Fatal(err)
	}
	v := view(p, "all", 1)
	if refresh(t, s, v); len(scan(t, s, v, offline.ScanOptions{})) != 1 {
		t.Fatal("abort after commit took the row away")
	}
}

// testAppendRefusals: what could not be read back as it was is refused when it is written.
func testAppendRefusals(t *testing.T, s offline.Store) {
	p := project()
	src := p.Source("events")
	rng := rand.New(rand.NewPCG(seed(t), 0))
	for what, change := range map[string]func(b *feature.Batch){
		"another event time":  func(b *feature.Batch) { b.Versions[0].EventTime++ },
		"no event time":       func(b *feature.Batch) { b.Columns[0].Nulls.Set(0) },
		"another's sequence":  func(b *feature.Batch) { b.Versions[0].Minor = 12 },
		"no versions":         func(b *feature.Batch) { b.Versions = nil },
		"a column too few":    func(b *feature.Batch) { b.Columns = b.Columns[:3] },
		"a column of another": func(b *feature.Batch) { b.Columns[4] = b.Columns[5] },
	} {
		a, err := s.Append(t.Context(), src, &offline.FileOrigin{Name: "f"})
		if err != nil {
			t.Fatal(err)
		}
		r := randomRow(rng, 10)
		r.version.IngestedAt, r.version.Minor = a.IngestedAt(), a.IngestedAt()
		b := batchOf([]row{r})
		change(b)
		if err := a.Write(t.Context(), b); err == nil {
			t.Errorf("%s: no error", what)
		}
		if err := a.Abort(); err != nil {
			t.Error(err)
		}
	}
	a, err := s.Append(t.Context(), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(t.Context(), offline.Origin{File: &offline.FileOrigin{Name: "f"}}); err == nil {
		t.Error("a stream's append committed as a file")
	}
	if err := a.Abort(); err != nil {
		t.Error(err)
	}
}

func testAppendOffsets(t *testing.T, s offline.Store) {
	p := project()
	src := p.Source("events")
	rng := rand.New(rand.NewPCG(seed(t), 0))
	some := func(n int) []row {
		rows := make([]row, n)
		for i := range rows {
			rows[i] = randomRow(rng, 100)
		}
		return rows
	}
	for _, c := range []struct {
		partition int32
		from      int64
		rows      int
		conflict  bool
	}{
		{0, 100, 5, false}, // a topic need not begin at zero
		{0, 105, 3, false},
		{0, 105, 3, true}, // again
		{0, 107, 3, true}, // overlapping
		{0, 109, 3, true}, // a gap
		{0, 0, 3, true},
		{3, 0, 4, false},
		{0, 108, 0, false},
		{0, 108, 1, false},
	} {
		before, err := s.Log(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		err = appendStream(t, s, src, c.partition, c.from, some(c.rows))
		if c.conflict != errors.Is(err, offline.ErrConflict) || !c.conflict && err != nil {
			t.Fatalf("partition %d from %d: %v; want a conflict: %v", c.partition, c.from, err, c.conflict)
		}
		after, err := s.Log(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		want := before.Rows + int64(c.rows)
		if c.conflict {
			want = before.Rows
		} else if after.Offsets[c.partition] != c.from+int64(c.rows) {
			t.Fatalf("partition %d from %d: the log goes on at %v", c.partition, c.from, after.Offsets)
		}
		if after.Rows != want {
			t.Fatalf("partition %d from %d: %d rows, want %d", c.partition, c.from, after.Rows, want)
		}
	}
	// A range of several partitions is taken whole or not at all, dead letters and all.
	commit := func(o map[int32]offline.OffsetRange) error {
		a, err := s.Append(t.Context(), src, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := a.Abort(); err != nil {
				t.Error(err)
			}
		}()
		return a.Commit(t.Context(), offline.Origin{Topic: "events", Offsets: o})
	}
	if err := commit(map[int32]offline.OffsetRange{0: {From: 109, To: 120}, 3: {From: 7, To: 9}}); !errors.Is(err, offline.ErrConflict) {
		t.Fatalf("one of two partitions with a gap: %v", err)
	}
	if err := commit(map[int32]offline.OffsetRange{0: {From: 109, To: 120}, 3: {From: 4, To: 9}}); err != nil {
		t.Fatal(err)
	}
	log, err := s.Log(t.Context(), src)
	if err != nil || log.Offsets[0] != 120 || log.Offsets[3] != 9 || log.Files != 0 {
		t.Fatalf("log: %+v, %v", log, err)
	}
}

// testAppendConcurrently: appends of many goroutines all arrive, each once; of two with the same offsets one does.
func testAppendConcurrently(t *testing.T, s offline.Store) {
	p := project()
	src := p.Source("events")
	rng := rand.New(rand.NewPCG(seed(t), 0))
	const writers, each = 4, 4
	rows := make([][]row, writers)
	for w := range rows {
		for range each {
			rows[w] = append(rows[w], randomRow(rng, 100))
		}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				a, err := s.Append(t.Context(), src, nil)
				if err != nil {
					t.Error(err)
					return
				}
				r := rows[w][i]
				r.version.Major, r.version.Minor = int64(w/2), int64(i) // two writers per partition
				if err := a.Write(t.Context(), batchOf([]row{r})); err != nil {
					t.Error(err)
				}
				err = a.Commit(t.Context(), offline.Origin{Topic: "events", Offsets: map[int32]offline.OffsetRange{int32(w / 2): {From: int64(i), To: int64(i) + 1}}})
				switch {
				case err == nil:
					mu.Lock()
					done++
					mu.Unlock()
				case !errors.Is(err, offline.ErrConflict):
					t.Error(err)
				}
				if err := a.Abort(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	log, err := s.Log(t.Context(), src)
	if err != nil || log.Rows != int64(done) || log.Offsets[0]+log.Offsets[1] != int64(done) {
		t.Fatalf("log: %+v, %v; %d commits succeeded", log, err, done)
	}
	v := view(p, "all", 1)
	refresh(t, s, v)
	if got := scan(t, s, v, offline.ScanOptions{}); len(got) != done {
		t.Fatalf("%d rows, %d commits", len(got), done)
	}
}
