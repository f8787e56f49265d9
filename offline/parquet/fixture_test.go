package parquet

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	iceio "github.com/apache/iceberg-go/io"
	"go.uber.org/goleak"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry/feature"
)

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m)
}

// fixtureRoot is where the tables of testdata/v1 were written: Iceberg's
// metadata holds absolute paths. Nothing need be there to read them.
const fixtureRoot = "/forebay-fixture"

var writeFixture = flag.Bool("write-fixture", false, "write testdata/v1 anew, by way of "+fixtureRoot+"; only for a new format version")

// movedFS finds files under fixtureRoot in another folder.
type movedFS struct {
	localFS
	dir string
}

func (m movedFS) Open(name string) (iceio.File, error) {
	if rest, ok := strings.CutPrefix(name, fixtureRoot); ok {
		name = m.dir + rest
	}
	return m.localFS.Open(name)
}

// TestFixture: tables that format version 1 wrote are read, now and ever after.
func TestFixture(t *testing.T) {
	v := smallView()
	dir, err := filepath.Abs("testdata/v1")
	must(t, err)
	if *writeFixture {
		must(t, os.RemoveAll(fixtureRoot))
		must(t, os.RemoveAll(dir))
		s := open(t, func(o *Options) { o.URL = "file://" + fixtureRoot })
		must(t, smallAppend(t.Context(), s, v, "hash", 1000, 20, 3))
		a, err := s.Append(t.Context(), v.Source(), nil)
		must(t, err)
		b := feature.NewBatch(v.Source().Fields(), 1)
		b.Columns[0].AppendBits(5)
		b.Columns[1].AppendBits(1)
		b.Columns[2].AppendNull()
		b.Columns[3].Append(feature.OfString("streamed"))
		b.Versions, b.Rows = []feature.Version{{EventTime: 5, IngestedAt: 6, Major: 2, Minor: 7}}, 1
		must(t, a.Write(t.Context(), b))
		must(t, a.Commit(t.Context(), offline.Origin{Topic: "events", Offsets: map[int32]offline.OffsetRange{2: {From: 7, To: 9}}}))
		_, err = s.Refresh(t.Context(), v)
		must(t, err)
		must(t, os.CopyFS(dir, os.DirFS(fixtureRoot)))
		must(t, os.RemoveAll(fixtureRoot))
	}
	s := open(t, func(o *Options) { o.URL, o.FS = "file://"+dir, movedFS{dir: dir} })
	log, err := s.Log(t.Context(), v.Source())
	if err != nil || log.Rows != 21 || log.Files != 1 || log.Newest != 1019 || len(log.Offsets) != 1 || log.Offsets[2] != 9 {
		t.Errorf("log: %+v, %v", log, err)
	}
	if ok, err := s.Ingested(t.Context(), v.Source(), "hash"); !ok || err != nil {
		t.Errorf("ingested: %v, %v", ok, err)
	}
	st, err := s.Table(t.Context(), v)
	if err != nil || st.Rows != 21 || st.LogSnapshot != log.Snapshot || st.Newest != 1019 {
		t.Errorf("table: %+v, %v", st, err)
	}
	rows := 0
	for b, err := range s.Scan(t.Context(), v, offline.ScanOptions{}) {
		must(t, err)
		for i := range b.Rows {
			rows++
			at := b.Versions[i].EventTime
			switch {
			case at == 5:
				if b.Versions[i] != (feature.Version{EventTime: 5, IngestedAt: 6, Major: 2, Minor: 7}) || !b.Columns[1].IsNull(i) || b.Columns[2].Value(i).Str() != "streamed" {
					t.Errorf("streamed row: %+v %v %v", b.Versions[i], b.Columns[1].Value(i), b.Columns[2].Value(i))
				}
			case b.Columns[1].Value(i).Float64() != float64(at) || b.Columns[0].Value(i).Int64() != (at-1000)%3 || b.Versions[i].Major != at-1000:
				t.Errorf("row of %d: %+v, id %v, %v", at, b.Versions[i], b.Columns[0].Value(i), b.Columns[1].Value(i))
			}
		}
	}
	if rows != 21 {
		t.Errorf("%d rows", rows)
	}
	// The log is read too.
	files, err := s.load(t.Context(), s.logIdent(v.Source()))
	must(t, err)
	list, err := s.files(files, files.head, -1)
	must(t, err)
	logged := 0
	for _, f := range list {
		must(t, s.readLog(t.Context(), v.Source(), files, f, []int{1, 2, 3}, func(b *feature.Batch) error { logged += b.Rows; return nil }))
	}
	if logged != 21 {
		t.Errorf("%d rows of the log", logged)
	}
}
