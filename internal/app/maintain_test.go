package app

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/offline/parquet"
)

// TestMaintain: a week later the tables are compacted and their states expired, but for what a
// named dataset was built from, which gives the same content hash; lookups and new datasets stay.
func TestMaintain(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	fill(t, a)
	write(t, filepath.Join(dir, "spine.csv"), "origin,event_timestamp\nSFO,2001-01-02T06:00:00Z\nSFO,2001-01-01T06:00:00Z\nJFK,2001-01-05T00:00:00Z\nLAX,2001-01-05T00:00:00Z\n")
	build := func(name string) api.Dataset {
		t.Helper()
		d, err := a.BuildDataset(t.Context(), DatasetOptions{Service: "model", Spine: filepath.Join(dir, "spine.csv"), Out: filepath.Join(dir, "out.csv"), Name: name})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	named := build("first")
	for i, row := range []string{"2001-01-01T05:00:00Z,SFO,1", "2001-01-04T00:00:00Z,JFK,7", "2001-01-04T00:00:00Z,LAX,9"} {
		file := filepath.Join(dir, "data", "later", string(rune('a'+i))+".csv")
		write(t, file, "date,origin,delay\n"+row+"\n")
		if _, err := a.Ingest(t.Context(), IngestOptions{Source: "departures", Files: []string{file}}); err != nil {
			t.Fatal(err)
		}
		materialized(t, a)
	}
	before := build("")
	changed := build("second")

	now, err := a.offlineStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	later, err := parquet.Open(t.Context(), parquet.Options{URL: string(a.env.Offline.URL), Project: "tiny", Now: func() time.Time { return time.Now().Add(7 * 24 * time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	a.off = later
	report, err := a.Maintain(t.Context(), MaintainOptions{Retain: DefaultRetain})
	if err != nil {
		t.Fatal(err)
	}
	a.off = now
	if err := later.Close(); err != nil {
		t.Fatal(err)
	}
	merged, expired, removed := 0, 0, 0
	for _, d := range report.Tables {
		merged, expired, removed = merged+d.Merged, expired+d.Snapshots, removed+d.Removed
	}
	if merged == 0 || expired == 0 || removed == 0 {
		t.Fatalf("merged %d files, expired %d states, removed %d files: %+v", merged, expired, removed, report.Tables)
	}
	for _, d := range []api.Dataset{named, changed} {
		if _, err := a.VerifyDataset(t.Context(), d.ID, "", nil); err != nil {
			t.Errorf("dataset %s: %v", d.Name, err)
		}
		again, err := a.RebuildDataset(t.Context(), d.ID, filepath.Join(dir, "again.csv"), nil)
		if err != nil || again.ID != d.ID {
			t.Errorf("dataset %s again: %+v, %v", d.Name, again, err)
		}
	}
	if after := build(""); after.ID != before.ID {
		t.Errorf("the same request gives dataset %s, and gave %s", after.ID, before.ID)
	}
	if got := get(t, a, "latest:last_delay", "JFK"); got != "7 PRESENT" {
		t.Errorf("lookup: %s", got)
	}
	done, err := a.Materialize(t.Context(), MaterializeOptions{})
	if err != nil || done[0].Rows != 0 {
		t.Errorf("materialize does not go on where it was: %+v, %v", done, err)
	}
}
