package parquet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	iceio "github.com/apache/iceberg-go/io"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// failingFS is the disk until its budget of operations is used up; from then on it is full.
type failingFS struct {
	localFS
	left atomic.Int64
}

func (f *failingFS) spend(op, name string) error {
	if f.left.Add(-1) < 0 {
		return &fs.PathError{Op: op, Path: name, Err: syscall.ENOSPC}
	}
	return nil
}

type failingFile struct {
	iceio.FileWriter
	fs   *failingFS
	name string
}

func (w failingFile) Write(p []byte) (int, error) {
	if err := w.fs.spend("write", w.name); err != nil {
		return 0, err
	}
	return w.FileWriter.Write(p)
}

func (w failingFile) Close() error {
	return errors.Join(w.fs.spend("sync", w.name), w.FileWriter.Close())
}

func (f *failingFS) Create(name string) (iceio.FileWriter, error) {
	if err := f.spend("create", name); err != nil {
		return nil, err
	}
	w, err := f.LocalFS.Create(name)
	return failingFile{w, f, name}, err
}

func (f *failingFS) CreateTemporary(name string) (iceio.FileWriter, error) { return f.Create(name) }

func (f *failingFS) WriteFile(name string, p []byte) error {
	if err := f.spend("write", name); err != nil {
		return err
	}
	return f.LocalFS.WriteFile(name, p)
}

func smallView() registry.ViewGeneration {
	p := &registry.Project{Name: "small"}
	cols := []feature.Field{{Name: "at", Type: feature.TypeTimestamp}, {Name: "id", Type: feature.TypeInt64}, {Name: "x", Type: feature.TypeFloat64}, {Name: "s", Type: feature.TypeString}}
	src := registry.Source{Meta: registry.Meta{Name: "events"}, Timestamp: "at"}
	for _, c := range cols {
		src.Columns = append(src.Columns, registry.SourceColumn{Field: c})
	}
	p.Sources = []registry.Source{src}
	p.Entities = []registry.Entity{{Meta: registry.Meta{Name: "id"}, JoinKeys: []feature.Field{cols[1]}}}
	p.Views = []registry.FeatureView{{Meta: registry.Meta{Name: "v"}, Source: "events", Entities: []string{"id"}, Features: []registry.Feature{
		{Field: feature.Field{Name: "vx", Type: feature.TypeFloat64}, Expr: "x"}, {Field: feature.Field{Name: "vs", Type: feature.TypeString}, Expr: "s"}}}}
	return registry.ViewGeneration{Project: p, View: &p.Views[0], Number: 1}
}

// smallAppend appends n rows: id i%ids, at time base+i, x = base+i.
func smallAppend(ctx context.Context, s *Store, v registry.ViewGeneration, hash string, base, n, ids int) error {
	a, err := s.Append(ctx, v.Source(), &offline.FileOrigin{Name: hash})
	if err != nil {
		return err
	}
	b := feature.NewBatch(v.Source().Fields(), n)
	for i := range n {
		b.Columns[0].AppendBits(uint64(base + i))
		b.Columns[1].AppendBits(uint64(i % ids))
		b.Columns[2].Append(feature.OfFloat64(float64(base + i)))
		b.Columns[3].Append(feature.OfString(fmt.Sprint("row ", base+i)))
		b.Versions = append(b.Versions, feature.Version{EventTime: int64(base + i), IngestedAt: a.IngestedAt(), Major: int64(i), Minor: a.IngestedAt()})
		b.Rows++
	}
	err = a.Write(ctx, b)
	if err == nil {
		err = a.Commit(ctx, offline.Origin{File: &offline.FileOrigin{Name: hash, Hash: hash}})
	}
	return errors.Join(err, a.Abort())
}

func countRows(t *testing.T, s *Store, v registry.ViewGeneration) (n int) {
	t.Helper()
	for b, err := range s.Scan(t.Context(), v, offline.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		n += b.Rows
	}
	return n
}

// TestDiskFull: at whichever operation the disk becomes full, the error names the
// file, nothing half-done is visible, and once there is room again all is done.
func TestDiskFull(t *testing.T) {
	v := smallView()
	for budget := int64(0); ; budget++ {
		f := &failingFS{}
		s := open(t, func(o *Options) { o.FS, o.Memory, o.Workers = f, 16<<10, 1 })
		f.left.Store(1 << 40)
		if err := smallAppend(t.Context(), s, v, "first", 0, 100, 10); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Refresh(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		f.left.Store(budget)
		err := smallAppend(t.Context(), s, v, "second", 1000, 500, 10)
		if err == nil {
			_, err = s.Refresh(t.Context(), v)
		}
		f.left.Store(1 << 40)
		if err == nil {
			if budget < 20 {
				t.Fatalf("only %d operations: the fault was not where it should be", budget)
			}
			t.Logf("%d operations were failed, one by one", budget)
			return
		}
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), s.root) {
			t.Fatalf("budget %d: %v; want no space left, and the file", budget, err)
		}
		log, e := s.Log(t.Context(), v.Source())
		if e != nil || log.Rows != 100 && log.Rows != 600 {
			t.Fatalf("budget %d: log %+v, %v", budget, log, e)
		}
		if n := countRows(t, s, v); n != 100 {
			t.Fatalf("budget %d: %d rows after a failed refresh", budget, n)
		}
		if log.Rows == 100 {
			if err := smallAppend(t.Context(), s, v, "second", 1000, 500, 10); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Refresh(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		if n := countRows(t, s, v); n != 600 {
			t.Fatalf("budget %d: %d rows in the end", budget, n)
		}
		if runs, _ := os.ReadDir(filepath.Join(s.root, "tmp")); len(runs) > 0 {
			t.Fatalf("budget %d: sort runs are left: %v", budget, runs)
		}
	}
}

// dataFiles are the paths of the files of a table.
func dataFiles(t *testing.T, s *Store, table string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.root, table, "data", "*.parquet"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("data files of %s: %v, %v", table, paths, err)
	}
	return paths
}

// TestDamagedFiles: a data file that is missing, cut off or altered gives an error that names it, from whatever reads it.
func TestDamagedFiles(t *testing.T) {
	v := smallView()
	rng := rand.New(rand.NewPCG(3, 4))
	damage := map[string]func(t *testing.T, path string){
		"missing": func(t *testing.T, path string) { must(t, os.Remove(path)) },
		"cut off": func(t *testing.T, path string) {
			st, err := os.Stat(path)
			must(t, err)
			must(t, os.Truncate(path, st.Size()-10))
		},
		"empty": func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) },
		"altered": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			must(t, err)
			for i := range b[:200] { // page headers and pages of the first columns
				b[i+4] ^= byte(1 + rng.IntN(255))
			}
			must(t, os.WriteFile(path, b, 0o644))
		},
		"another's footer": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			must(t, err)
			for i := len(b) - 200; i < len(b)-8; i++ {
				b[i] ^= byte(1 + rng.IntN(255))
			}
			must(t, os.WriteFile(path, b, 0o644))
		},
	}
	for name, do := range damage {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			must(t, smallAppend(t.Context(), s, v, "h", 0, 10_000, 50))
			if _, err := s.Refresh(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			views := dataFiles(t, s, "views/v@1")
			do(t, views[0])
			named := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), views[0]) {
					t.Errorf("%s: %v; want an error that names %s", what, err, views[0])
				}
			}
			var last error
			for _, err := range s.Scan(t.Context(), v, offline.ScanOptions{}) {
				last = err
			}
			named("scan", last)
			spine := feature.NewBatch([]feature.Field{{Name: "id", Type: feature.TypeInt64}, {Name: "at", Type: feature.TypeTimestamp}}, 50)
			for i := range 50 {
				spine.Columns[0].AppendBits(uint64(i))
				spine.Columns[1].AppendBits(20_000)
				spine.Rows++
			}
			last = nil
			for _, err := range s.Join(t.Context(), offline.JoinRequest{Timestamp: "at", Spine: func(yield func(*feature.Batch, error) bool) { yield(spine, nil) },
				Roles: []offline.Role{{View: v, Keys: []string{"id"}, Features: []int{0, 1}}}}) {
				last = err
			}
			named("join", last)
			logs := dataFiles(t, s, "logs/events")
			do(t, logs[0])
			v := v
			v.Number = 2
			_, err := s.Refresh(t.Context(), v)
			views = logs
			named("refresh", err)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTwoProcesses: two stores on one folder, as two processes have them, neither lose nor double anything.
func TestTwoProcesses(t *testing.T) {
	v := smallView()
	dir := t.TempDir()
	var stores []*Store
	for range 3 {
		stores = append(stores, open(t, func(o *Options) { o.URL = "file://" + dir }))
	}
	const files, rows = 8, 30
	var wg sync.WaitGroup
	var conflicts atomic.Int64
	for w, s := range stores {
		wg.Go(func() {
			for i := range files {
				// Each file is tried by every store: one wins.
				err := smallAppend(t.Context(), s, v, fmt.Sprint("file", i), 1000*i, rows, 7)
				switch {
				case errors.Is(err, offline.ErrConflict):
					conflicts.Add(1)
				case err != nil:
					t.Error(w, err)
				}
				if _, err := s.Refresh(t.Context(), v); err != nil {
					t.Error(w, err)
				}
			}
		})
	}
	wg.Wait()
	if n := conflicts.Load(); n != files*int64(len(stores)-1) {
		t.Errorf("%d conflicts, want %d", n, files*(len(stores)-1))
	}
	st, err := stores[0].Refresh(t.Context(), v)
	if err != nil || st.Rows != files*rows {
		t.Fatalf("%+v, %v; want %d rows", st, err, files*rows)
	}
	if n := countRows(t, stores[1], v); n != files*rows {
		t.Fatalf("%d rows, want %d", n, files*rows)
	}
}

// TestBlocks: keys whose rows fill many blocks, pages that are left out, hot keys, late and unknown rows.
func TestBlocks(t *testing.T) {
	v := smallView()
	s := open(t, func(o *Options) { o.Memory = 1 << 20 })
	type version struct{ at, known int64 }
	history := map[int64][]version{}
	rng := rand.New(rand.NewPCG(5, 6))
	for f := range 3 {
		a, err := s.Append(t.Context(), v.Source(), nil)
		must(t, err)
		const n = 30_000
		b := feature.NewBatch(v.Source().Fields(), n)
		for i := range n {
			id := int64(0) // hot
			if rng.IntN(2) == 0 {
				id = rng.Int64N(5000)
			}
			r := version{rng.Int64N(1e6), rng.Int64N(100)}
			history[id] = append(history[id], r)
			b.Columns[0].AppendBits(uint64(r.at))
			b.Columns[1].AppendBits(uint64(id))
			b.Columns[2].Append(feature.OfFloat64(float64(r.at) + float64(r.known)/1000))
			b.Columns[3].AppendNull()
			b.Versions = append(b.Versions, feature.Version{EventTime: r.at, IngestedAt: r.known, Major: int64(f), Minor: int64(i)})
			b.Rows++
		}
		must(t, a.Write(t.Context(), b))
		must(t, a.Commit(t.Context(), offline.Origin{Topic: "events", Offsets: map[int32]offline.OffsetRange{int32(f): {To: n}}}))
		_, err = s.Refresh(t.Context(), v)
		must(t, err)
	}
	for _, knownAt := range []*int64{nil, new(int64(50)), new(int64(0))} {
		for _, n := range []int{20, 3000} {
			spine := feature.NewBatch([]feature.Field{{Name: "id", Type: feature.TypeInt64}, {Name: "at", Type: feature.TypeTimestamp}}, n)
			for range n {
				spine.Columns[0].AppendBits(uint64(rng.Int64N(5100) * int64(rng.IntN(3)) % 5100))
				spine.Columns[1].AppendBits(uint64(rng.Int64N(1.1e6)))
				spine.Rows++
			}
			row := 0
			for j, err := range s.Join(t.Context(), offline.JoinRequest{Timestamp: "at", KnownAt: knownAt, Spine: func(yield func(*feature.Batch, error) bool) { yield(spine, nil) },
				Roles: []offline.Role{{View: v, Keys: []string{"id"}, Features: []int{0}, TTL: 400_000}}}) {
				must(t, err)
				for i := range j.Spine.Rows {
					at := int64(spine.Columns[1].Nums[row])
					best, ok := version{}, false
					for _, r := range history[int64(spine.Columns[0].Nums[row])] {
						if r.at <= at && (knownAt == nil || r.known <= *knownAt) && (!ok || r.at > best.at || r.at == best.at && r.known > best.known) {
							best, ok = r, true
						}
					}
					want := feature.NotFound
					if ok {
						if want = feature.Present; at-400_000 > best.at {
							want = feature.OutsideMaxAge
						}
					}
					got := j.Roles[0].Features[0].Value(i)
					if j.Roles[0].Found[i] != want || want == feature.Present && got.Float64() != float64(best.at)+float64(best.known)/1000 || want != feature.Present && !got.IsNull() {
						t.Fatalf("spine row %d of %d: %v %v, want %v %+v", row, n, j.Roles[0].Found[i], got, want, best)
					}
					row++
				}
			}
			if row != n {
				t.Fatalf("%d rows of %d", row, n)
			}
		}
	}
}

func TestURLs(t *testing.T) {
	for url, want := range map[string]string{
		"s3://bucket/x":     "REST catalog",
		"gs://bucket/x":     "REST catalog",
		"azblob://bucket/x": "REST catalog",
		"file://relative":   "absolute",
		"relative/path":     "absolute",
		"ftp://host/x":      "unknown scheme",
	} {
		if _, err := Open(t.Context(), Options{URL: url, Project: "p"}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), url) {
			t.Errorf("%s: %v; want %q", url, err, want)
		}
	}
	if _, err := Open(t.Context(), Options{URL: "file:///x"}); err == nil {
		t.Error("no project: no error")
	}
}

// TestWideRows: texts and embeddings far larger than a page, and more rows than a row group.
func TestWideRows(t *testing.T) {
	v := smallView()
	v.Project.Sources[0].Columns = append(v.Project.Sources[0].Columns, registry.SourceColumn{Field: feature.Field{Name: "e", Type: feature.EmbeddingOf(3000)}})
	v.View.Features = append(v.View.Features, registry.Feature{Field: feature.Field{Name: "ve", Type: feature.EmbeddingOf(3000)}, Expr: "e"})
	s := open(t, func(o *Options) { o.Memory = 8 << 20 })
	a, err := s.Append(t.Context(), v.Source(), nil)
	must(t, err)
	const n = 300
	b := feature.NewBatch(v.Source().Fields(), n)
	for i := range n {
		b.Columns[0].AppendBits(uint64(i))
		b.Columns[1].AppendBits(uint64(i % 2))
		b.Columns[2].AppendNull()
		b.Columns[3].Append(feature.OfString(strings.Repeat(string(rune('a'+i%26)), 20_000*(i%3))))
		fs := make([]float32, 3000)
		fs[i] = float32(i)
		b.Columns[4].Append(feature.OfEmbedding(fs))
		b.Versions = append(b.Versions, feature.Version{EventTime: int64(i), Minor: int64(i)})
		b.Rows++
	}
	must(t, a.Write(t.Context(), b))
	must(t, a.Commit(t.Context(), offline.Origin{Topic: "events", Offsets: map[int32]offline.OffsetRange{0: {To: n}}}))
	_, err = s.Refresh(t.Context(), v)
	must(t, err)
	rows := 0
	for got, err := range s.Scan(t.Context(), v, offline.ScanOptions{}) {
		must(t, err)
		for r := range got.Rows {
			i := int(got.Versions[r].EventTime)
			if !got.Columns[2].Value(r).Equal(b.Columns[3].Value(i)) || !got.Columns[3].Value(r).Equal(b.Columns[4].Value(i)) {
				t.Fatalf("row %d came back different", i)
			}
			rows++
		}
	}
	if rows != n {
		t.Fatalf("%d rows of %d", rows, n)
	}
}

// TestDamagedMetadata: the error names the file, and taking it away brings the state before back.
func TestDamagedMetadata(t *testing.T) {
	v := smallView()
	s := open(t, nil)
	must(t, smallAppend(t.Context(), s, v, "a", 0, 10, 3))
	must(t, smallAppend(t.Context(), s, v, "b", 100, 10, 3))
	path := metadata(t, s, s.logIdent(v.Source()))
	must(t, os.Truncate(path, 100))
	if _, err := s.Log(t.Context(), v.Source()); !errors.Is(err, offline.ErrUnavailable) || !strings.Contains(err.Error(), path) {
		t.Fatalf("%v; want an error that names %s", err, path)
	}
	must(t, os.Remove(path))
	must(t, smallAppend(t.Context(), s, v, "b", 100, 10, 3))
	if log, err := s.Log(t.Context(), v.Source()); err != nil || log.Rows != 20 {
		t.Fatalf("%+v, %v", log, err)
	}
}

// TestCreationClaimed: a table that another process has begun to create is waited for, and created
// where that process has ended.
func TestCreationClaimed(t *testing.T) {
	s := open(t, nil)
	v := smallView()
	src := v.Project.Source("events")
	dir := filepath.Join(s.path(s.logIdent(src)), "metadata")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	claim := filepath.Join(dir, "v1.metadata.json.claim") // as the catalog names it
	if err := os.WriteFile(claim, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Append(short, src, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a table that is being created: %v", err)
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(claim, long, long); err != nil {
		t.Fatal(err)
	}
	a, err := s.Append(t.Context(), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Abort(); err != nil {
		t.Error(err)
	}
}
