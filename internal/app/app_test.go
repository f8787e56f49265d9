package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/forebay/forebay/internal/httpapi"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(tortureEnv); dir != "" {
		tortured(dir)
	}
	goleak.VerifyTestMain(m,
		// Of libraries, for as long as the process lives.
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
		goleak.IgnoreAnyFunction("github.com/cockroachdb/pebble/v2/internal/cache.init.0.func1"),
	)
}

const settings = `version: 1
project: tiny
environments:
  local:
    registry: file://./.forebay/registry
    offline: {store: parquet, url: "file://./.forebay/offline"}
    online: {store: embedded, path: ./.forebay/online}
    stream: {brokers: [embedded], path: ./.forebay/stream}
`

const definitions = `kind: Entity
name: airport
join_keys: [{name: origin, type: string}]
---
kind: Source
name: departures
timestamp: date
columns: {date: timestamp, origin: string, delay: int64}
kafka: {topic: departures, format: json, key: [origin]}
files: {glob: "data/*.csv"}
---
kind: FeatureView
name: latest
entities: [airport]
source: departures
ttl: 7d
features:
  - {name: last_delay, type: int64, expr: delay}
---
kind: FeatureService
name: model
features: [latest]
`

const rows = `date,origin,delay
2001-01-01T00:00:00Z,SFO,10
2001-01-02T00:00:00Z,SFO,20
2001-01-02T00:00:00Z,JFK,
`

// repository makes a repository with some history.
func repository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"forebay.yaml": settings, "features.yaml": definitions, "data/a.csv": rows} {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// open opens a repository at a fixed clock, 2001-01-03.
func open(t *testing.T, dir string) *App {
	t.Helper()
	a, err := Open(t.Context(), Options{Dir: dir, Command: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	at, err := feature.ParseTimestamp("2001-01-03")
	if err != nil {
		t.Fatal(err)
	}
	a.SetClock(&at)
	return a
}

// apply applies the YAML of an App.
func apply(t *testing.T, a *App) *registry.Revision {
	t.Helper()
	p, err := a.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.Apply(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fill applies, ingests and materializes.
func fill(t *testing.T, a *App) {
	t.Helper()
	apply(t, a)
	if _, err := a.Ingest(t.Context(), IngestOptions{Source: "departures"}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Materialize(t.Context(), MaterializeOptions{}); err != nil {
		t.Fatal(err)
	}
}

// get looks up one feature and returns its value and status as text.
func get(t *testing.T, a *App, ref, origin string) string {
	t.Helper()
	got, err := a.Get(t.Context(), GetOptions{Features: []string{ref}, Entity: []Pair{{"origin", origin}}})
	if err != nil {
		t.Fatal(err)
	}
	return got.Features[0].Value.String() + " " + got.Features[0].Status.String()
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if err == nil || Code(err) != code {
		t.Errorf("got error %v of code %q, want code %q", err, Code(err), code)
	}
}

func TestCloseTwice(t *testing.T) {
	a := open(t, repository(t))
	fill(t, a)
	for range 2 {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Materialize(t.Context(), MaterializeOptions{}); err == nil {
		t.Error("a closed App materializes")
	}
}

func TestOfTwoAppliesOneFails(t *testing.T) {
	a := open(t, repository(t))
	p, err := a.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	_, err = a.Apply(t.Context(), p)
	wantCode(t, err, CodeConflict)
	if !errors.Is(err, registry.ErrConflict) {
		t.Errorf("%v is not registry.ErrConflict", err)
	}
}

func TestNothingApplied(t *testing.T) {
	a := open(t, repository(t))
	_, err := a.Ingest(t.Context(), IngestOptions{Source: "departures"})
	wantCode(t, err, CodeNothingApplied)
	_, err = a.Handler(t.Context())
	wantCode(t, err, CodeNothingApplied)
}

// TestGenerations follows a view through a change of meaning: lookups read the
// generation that is live until the new one is filled, either can be pinned, and
// what is pushed meanwhile goes to both.
func TestGenerations(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	fill(t, a)
	if got := get(t, a, "latest:last_delay", "SFO"); got != "20 PRESENT" {
		t.Fatalf("generation 1: %s", got)
	}
	write(t, filepath.Join(dir, "features.yaml"), strings.Replace(definitions, "expr: delay", `expr: "delay * 2"`, 1))
	r := apply(t, a)
	if n := r.Generation("latest"); n != 2 {
		t.Fatalf("generation %d, want 2", n)
	}
	steps := []struct{ when, ref, want string }{
		{"before the new one is filled", "latest:last_delay", "20 PRESENT"},
		{"before the new one is filled", "latest@1:last_delay", "20 PRESENT"},
		{"before the new one is filled", "latest@2:last_delay", "null NOT_FOUND"},
	}
	check := func() {
		t.Helper()
		for _, s := range steps {
			if got := get(t, a, s.ref, "SFO"); got != s.want {
				t.Errorf("%s, %s is %s, want %s", s.when, s.ref, got, s.want)
			}
		}
	}
	check()
	write(t, filepath.Join(dir, "push.ndjson"), `{"date":"2001-01-02T12:00:00Z","origin":"SFO","delay":30}`)
	if _, err := a.Push(t.Context(), PushOptions{Source: "departures", File: filepath.Join(dir, "push.ndjson")}); err != nil {
		t.Fatal(err)
	}
	steps = []struct{ when, ref, want string }{
		{"after a push", "latest:last_delay", "30 PRESENT"},
		{"after a push", "latest@2:last_delay", "60 PRESENT"},
	}
	check()
	if _, err := a.Materialize(t.Context(), MaterializeOptions{}); err != nil {
		t.Fatal(err)
	}
	steps = []struct{ when, ref, want string }{
		{"once the new one is filled", "latest:last_delay", "60 PRESENT"},
		{"once the new one is filled", "latest@1:last_delay", "30 PRESENT"},
	}
	check()
	_, err := a.Get(t.Context(), GetOptions{Features: []string{"latest@3:last_delay"}, Entity: []Pair{{"origin", "SFO"}}})
	wantCode(t, err, string(selection.UnknownView))
}

// TestTTLIsTheNewest pins that a change of ttl counts at once, for every generation.
func TestTTLIsTheNewest(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	fill(t, a)
	write(t, filepath.Join(dir, "features.yaml"), strings.Replace(strings.Replace(definitions, "expr: delay", `expr: "delay * 2"`, 1), "ttl: 7d", "ttl: 1h", 1))
	apply(t, a)
	for _, ref := range []string{"latest:last_delay", "latest@1:last_delay"} {
		if got := get(t, a, ref, "SFO"); got != "null OUTSIDE_MAX_AGE" {
			t.Errorf("%s is %s, want null OUTSIDE_MAX_AGE", ref, got)
		}
	}
}

// TestServingFollows checks that an engine takes up revisions and live
// generations, and keeps its plans while neither changes.
func TestServingFollows(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	fill(t, a)
	e, err := a.newEngine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	plan := func() httpapi.Plan {
		t.Helper()
		p, err := e.Plan(t.Context(), selection.Request{Service: "model"})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	refresh := func(want bool) {
		t.Helper()
		changed, err := e.refresh(t.Context())
		if err != nil || changed != want {
			t.Fatalf("refresh: changed %v, %v; want %v", changed, err, want)
		}
	}
	first := plan()
	refresh(false)
	if plan() != first {
		t.Error("an equal request got another plan")
	}
	write(t, filepath.Join(dir, "features.yaml"), strings.Replace(definitions, "expr: delay", `expr: "delay * 2"`, 1))
	r := apply(t, a)
	refresh(true)
	if got := plan(); got == first || got.Revision() != r.ID {
		t.Errorf("the plan is of revision %s, want %s", got.Revision(), r.ID)
	}
	if n := plan().Selection().Roles[0].View.Number; n != 1 {
		t.Errorf("generation %d is read before the new one is live, want 1", n)
	}
	if _, err := a.Materialize(t.Context(), MaterializeOptions{}); err != nil {
		t.Fatal(err)
	}
	refresh(true)
	if n := plan().Selection().Roles[0].View.Number; n != 2 {
		t.Errorf("generation %d is read once the new one is live, want 2", n)
	}
}

// TestOwner checks who may hold the embedded stores, and that others work through them.
func TestOwner(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	if err := a.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Hold(t.Context()); err != nil {
		t.Errorf("holding twice: %v", err)
	}
	fill(t, a)
	b := open(t, dir)
	eventually(t, func() bool { // the socket is opened beside
		c := open(t, dir)
		_, err := c.onlineStore(t.Context())
		return err == nil
	})
	if got := get(t, b, "latest:last_delay", "SFO"); got != "20 PRESENT" {
		t.Errorf("through the owner: %s", got)
	}
	c := open(t, dir)
	wantCode(t, c.Hold(t.Context()), CodeHeld)
	s, err := b.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Owner == nil || s.Owner.PID != os.Getpid() {
		t.Errorf("status names the owner %v, want process %d", s.Owner, os.Getpid())
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Hold(t.Context()); err != nil {
		t.Errorf("after the owner has ended: %v", err)
	}
}

// eventually tries until ok, at most half a minute.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not come to pass")
		}
	}
}

// TestPushRefusesRows pins that no row of a push is written if one has no key, or is of the future.
func TestPushRefusesRows(t *testing.T) {
	a := open(t, repository(t))
	fill(t, a)
	e, err := a.newEngine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := e.Push(t.Context(), "departures", [][]byte{
		[]byte(`{"date":"2001-01-02T12:00:00Z","origin":"SFO","delay":99}`),
		[]byte(`{"date":"2001-01-02T12:00:00Z","delay":99}`),
	})
	if err != nil || answer.Accepted != 0 || len(answer.Rejected) != 1 || answer.Rejected[0].Row != 1 || answer.Rejected[0].Field != "origin" {
		t.Errorf("answer %+v, %v; want row 1 rejected for origin", answer, err)
	}
	soon := func(d time.Duration) []byte {
		return fmt.Appendf(nil, `{"date":%q,"origin":"SFO","delay":99}`, time.Now().Add(d).UTC().Format(time.RFC3339))
	}
	answer, err = e.Push(t.Context(), "departures", [][]byte{soon(0), soon(time.Hour)})
	if err != nil || answer.Accepted != 0 || len(answer.Rejected) != 1 || answer.Rejected[0].Row != 1 || answer.Rejected[0].Field != "date" ||
		!strings.Contains(answer.Rejected[0].Message, "ahead of the clock") {
		t.Errorf("answer %+v, %v; want row 1 rejected for date", answer, err)
	}
	if got := get(t, a, "latest:last_delay", "SFO"); got != "20 PRESENT" {
		t.Errorf("after a refused push: %s", got)
	}
	var missing *httpapi.NotFoundError
	if _, err := e.Push(t.Context(), "departure", nil); !errors.As(err, &missing) {
		t.Errorf("pushing to an unknown source: %v", err)
	}
}

// TestStreamEndsInOrder checks that a stream ends with its context and has
// brought to both stores what it read.
// TestSpinesThatAreNone has spines whose content is wrong: that is the client's mistake, over HTTP too.
func TestSpinesThatAreNone(t *testing.T) {
	a := open(t, repository(t))
	head := apply(t, a)
	fill(t, a)
	const good = "origin,event_timestamp\nSFO,2001-01-02\n"
	for _, c := range []struct{ name, content, want string }{
		{"s.csv", good, ""},
		{"s.csv", "", "is empty"},
		{"s.csv", good + "JFK\n", "1 fields where the header has 2"},
		{"s.csv", good + "JFK,soon\n", `"soon" is not an instant`},
		{"s.csv", "airport,event_timestamp\n", "lacks origin"},
		{"s.parquet", good, "not a Parquet file"},
		{"s.parquet", "PAR1xxxxPAR", "cut off"},
		{"s.arrows", "\xff\xff\xff\xff\x10", "Arrow"},
		{"s.ndjson", "{\"origin\":\"SFO\",\"event_timestamp\":\"2001-01-02\"}\n{", "whole JSON object"},
	} {
		dir := t.TempDir()
		spine := filepath.Join(dir, c.name)
		write(t, spine, c.content)
		_, err := a.buildDataset(t.Context(), head, httpapi.DatasetRequest{
			Select: selection.Request{Features: []string{"latest"}},
			Spine:  httpapi.DatasetFile{Path: spine}, Out: httpapi.DatasetFile{Path: filepath.Join(dir, "out.csv")},
		})
		var input *httpapi.InputError
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s %q: %v", c.name, c.content, err)
		case c.want != "" && (!errors.As(err, &input) || input.Code != codeBadSpine || !strings.Contains(input.Message, c.want)):
			t.Errorf("%s %q: got %v, want %s of %q", c.name, c.content, err, codeBadSpine, c.want)
		}
		if c.want == "" {
			continue
		}
		_, err = a.BuildDataset(t.Context(), DatasetOptions{Features: []string{"latest"}, Spine: spine, Out: filepath.Join(dir, "out.csv")})
		wantCode(t, err, codeBadSpine)
	}
}

func TestStreamEndsInOrder(t *testing.T) {
	dir := repository(t)
	a := open(t, dir)
	apply(t, a)
	write(t, filepath.Join(dir, "events.ndjson"), `{"date":"2001-01-02T12:00:00Z","origin":"OAK","delay":5}`)
	if err := a.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Produce(t.Context(), ProduceOptions{Source: "departures", File: filepath.Join(dir, "events.ndjson")}); n != 1 || err != nil {
		t.Fatalf("produced %d, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done, err := a.Stream(ctx, StreamOptions{Progress: func(n, _ int64) {
		if n == 1 {
			cancel()
		}
	}})
	if err != nil || len(done.Sources) != 1 || done.Sources[0].Rows != 1 {
		t.Fatalf("streamed %+v, %v; want 1 row", done, err)
	}
	if got := get(t, a, "latest:last_delay", "OAK"); got != "5 PRESENT" {
		t.Errorf("after the stream: %s", got)
	}
	s, err := a.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if src := s.Sources[0]; src.Rows != 1 || src.Lag == nil || *src.Lag != 0 {
		t.Errorf("the log has %d rows and a lag of %v, want 1 and 0", src.Rows, src.Lag)
	}
}
