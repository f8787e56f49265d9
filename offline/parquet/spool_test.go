package parquet

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	iceio "github.com/apache/iceberg-go/io"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry/feature"
)

// What goes into a spool comes out of it, from memory and from the file, also concurrently; the file has no name.
func TestSpool(t *testing.T) {
	s := &Store{root: t.TempDir()}
	sp := &spool{create: s.createSpill, room: 1000}
	defer sp.close()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			var blocks []block
			want := func(i int) []byte { return bytes.Repeat([]byte{byte(16*w + i)}, 100+i) }
			buf := make([]byte, 0, 200)
			for i := range 10 {
				buf = append(buf[:0], want(i)...) // what was put may be written over
				b, err := sp.put(buf)
				if err != nil {
					t.Error(err)
					return
				}
				blocks = append(blocks, b)
			}
			var scratch []byte
			for i := range blocks {
				got, err := sp.take(&blocks[i], &scratch)
				if err != nil || !bytes.Equal(got, want(i)) {
					t.Errorf("block %d of %d: %x, %v", i, w, got, err)
				}
			}
		})
	}
	wg.Wait()
	if sp.file == nil || sp.room != 1000 {
		t.Errorf("file %v, room for %d bytes of 1000", sp.file, sp.room)
	}
	if left, err := os.ReadDir(filepath.Join(s.root, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Columns of every type come back as they were, nulls and invalid values too.
func TestSpoolColumns(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var value func(feature.Type) feature.Value
	value = func(typ feature.Type) feature.Value {
		text := make([]byte, rng.IntN(12))
		for i := range text {
			text[i] = byte('a' + rng.IntN(26))
		}
		switch typ.Kind {
		case feature.Bool:
			return feature.OfBool(rng.IntN(2) == 0)
		case feature.Int64:
			return feature.OfInt64(int64(rng.Uint64()))
		case feature.Float64:
			return feature.OfFloat64(rng.NormFloat64())
		case feature.Timestamp:
			return feature.OfTimestamp(rng.Int64())
		case feature.String:
			return feature.OfString(string(text))
		case feature.Bytes:
			return feature.OfBytes(text)
		case feature.Embedding:
			fs := make([]float32, typ.Dim)
			for i := range fs {
				fs[i] = rng.Float32()
			}
			return feature.OfEmbedding(fs)
		}
		vs := make([]feature.Value, rng.IntN(4))
		for i := range vs {
			vs[i] = value(feature.Type{Kind: typ.Elem})
		}
		return feature.OfList(typ.Elem, vs)
	}
	types := []feature.Type{{Kind: feature.Embedding, Dim: 3}}
	for _, k := range []feature.Kind{feature.Bool, feature.Int64, feature.Float64, feature.Timestamp, feature.String, feature.Bytes} {
		types = append(types, feature.Type{Kind: k}, feature.Type{Kind: feature.List, Elem: k})
	}
	for _, typ := range types {
		got := feature.NewColumn("got", typ, 0)
		for _, n := range []int{0, 1, 300, 7} { // the column is used again
			want := feature.NewColumn("want", typ, 0)
			for range n {
				switch rng.IntN(5) {
				case 0:
					want.AppendNull()
				case 1:
					want.AppendInvalid()
				default:
					want.Append(value(typ))
				}
			}
			// Another column follows in the block, and the block is written over after it was read.
			src := spoolColumn(append(spoolColumn(nil, want), 1, 2, 3), want)
			if rest := unspoolColumn(src, got); !slices.Equal(rest[:3], []byte{1, 2, 3}) {
				t.Fatalf("%s: %d bytes left over", typ, len(rest))
			}
			clear(src)
			if got.Len != n {
				t.Fatalf("%s: %d rows of %d", typ, got.Len, n)
			}
			for i := range n {
				if w, g := want.Value(i), got.Value(i); !g.Equal(w) || g.IsInvalid() != w.IsInvalid() {
					t.Fatalf("%s, row %d: %s, want %s", typ, i, g, w)
				}
			}
		}
	}
}

// fullFile is a file on a disk that is full.
type fullFile struct{ closed *bool }

func (fullFile) ReadAt([]byte, int64) (int, error)  { return 0, errors.New("nothing was written") }
func (fullFile) WriteAt([]byte, int64) (int, error) { return 0, syscall.ENOSPC }
func (f fullFile) Close() error                     { *f.closed = true; return nil }

// A join whose intermediate data fills the disk says so, and lets go of the file.
func TestJoinDiskFull(t *testing.T) {
	s, v := open(t, nil), benchView()
	benchAppend(t, s, v, 20_000)
	if _, err := s.Refresh(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	closed := false
	s.spill = func() (spoolFile, error) { return fullFile{&closed}, nil }
	var last error
	for _, err := range s.Join(t.Context(), offline.JoinRequest{Spine: benchSpine(20000), Timestamp: "event_timestamp", Memory: 1 << 20,
		Roles: []offline.Role{{View: v, Keys: []string{"user_id"}, Features: []int{0}}}}) {
		last = err
	}
	if !errors.Is(last, syscall.ENOSPC) || !closed {
		t.Errorf("error %v, file closed: %t", last, closed)
	}
}

// A spine larger than the budget reads each table once: files are opened as often as with room for all.
func TestJoinReadsTablesOnce(t *testing.T) {
	files := &countingFS{FS: localFS{}}
	s, v := open(t, func(o *Options) { o.FS = files }), benchView()
	benchAppend(t, s, v, 20_000)
	if _, err := s.Refresh(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	opened := func(memory int64) int64 {
		before := files.opened.Load()
		for _, err := range s.Join(t.Context(), offline.JoinRequest{Spine: benchSpine(20000), Timestamp: "event_timestamp", Memory: memory, NoVersions: true,
			Roles: []offline.Role{{View: v, Keys: []string{"user_id"}, Features: []int{0, 1, 2, 3, 4, 5, 6, 7}}}}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		return files.opened.Load() - before
	}
	// 20,000 rows with what is found for them take 3 MB.
	if few, many := opened(4<<20), opened(1<<30); few != many {
		t.Errorf("%d files opened, with much memory %d", few, many)
	}
}

type countingFS struct {
	FS
	opened atomic.Int64
}

func (f *countingFS) Open(name string) (iceio.File, error) {
	if strings.HasSuffix(name, ".parquet") {
		f.opened.Add(1)
	}
	return f.FS.Open(name)
}
