package sdk

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forebay/forebay/internal/app"
)

// openRepository makes a repository with its definitions applied.
func openRepository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"forebay.yaml": `version: 1
project: flights
environments:
  local:
    registry: file://./.forebay/registry
    offline: {store: parquet, url: "file://./.forebay/offline"}
    online: {store: embedded, path: ./.forebay/online}
    stream: {brokers: [embedded], path: ./.forebay/stream}
`,
		"features.yaml": `kind: Entity
name: airport
join_keys: [{name: origin, type: string}]
---
kind: Source
name: departures
timestamp: date
columns: {date: timestamp, origin: string, delay: int64}
files: {glob: "data/*.parquet"}
---
kind: FeatureView
name: airport_latest
entities: [airport]
source: departures
features:
  - {name: last_delay, type: int64, expr: delay}
---
kind: FeatureService
name: delay_model
features: [airport_latest]
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, err := app.Open(t.Context(), app.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The whole path in process: push, look up, build a dataset.
func TestOpen(t *testing.T) {
	dir := openRepository(t)
	store, err := Open(dir, Environment("local"), WithTimeout(time.Minute), WithLogger(slog.New(slog.NewTextHandler(t.Output(), nil))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for range 2 {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	landed := time.Date(2001, 6, 30, 23, 51, 0, 0, time.UTC)
	done, err := store.Push(t.Context(), "departures", []Values{{"date": landed, "origin": "SFO", "delay": bigID}, {"date": landed, "origin": "JFK", "delay": nil}})
	if err != nil || done.Accepted != 2 {
		t.Fatalf("%+v %v", done, err)
	}
	res, err := store.Lookup(t.Context(), LookupRequest{Service: "delay_model", Entities: []Entity{{"origin": "SFO"}, {"origin": "JFK"}, {"origin": "OAK"}}})
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := res.Row(0).Int64("last_delay"); !ok || v != bigID {
		t.Errorf("last_delay is %d, %t", v, ok)
	}
	if at, ok := res.Row(0).EventTime("last_delay"); !ok || !at.Equal(landed) {
		t.Errorf("of %s, %t", at, ok)
	}
	if a, b := res.Row(1).Status("last_delay"), res.Row(2).Status("last_delay"); a != NullValue || b != NotFound {
		t.Errorf("statuses are %s and %s", a, b)
	}
	spine := filepath.Join(dir, "spine.csv")
	if err := os.WriteFile(spine, []byte("origin,event_timestamp,label\nSFO,2001-07-01T00:00:00Z,a\nSFO,2001-06-01T00:00:00Z,b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ds, err := store.BuildDataset(t.Context(), DatasetRequest{Service: "delay_model", Spine: CSVFile(spine)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ds.Close(); err != nil {
			t.Error(err)
		}
	}()
	out := filepath.Join(dir, "train.csv")
	if err := ds.WriteCSV(out); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(got)), "\n")
	if len(lines) != 3 || lines[0] != "origin,event_timestamp,label,last_delay" || !strings.HasSuffix(lines[1], ",a,9007199254740993") || !strings.HasSuffix(lines[2], ",b,") || ds.Rows() != 2 || !strings.HasPrefix(ds.ID(), "sha256:") {
		t.Errorf("%s %d:\n%s", ds.ID(), ds.Rows(), got)
	}
	var unknown *Error
	if _, err := store.Lookup(t.Context(), LookupRequest{Service: "other"}); !errors.As(err, &unknown) || unknown.Code != "unknown_service" {
		t.Errorf("%v", err)
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("opened a folder without a repository")
	}
	if _, err := Open(dir, Environment("moon")); err == nil || !strings.Contains(err.Error(), "moon") {
		t.Errorf("opened an environment that is not there: %v", err)
	}
}
