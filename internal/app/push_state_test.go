package app

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/forebay/forebay/internal/testenv"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry/expr"
	"github.com/forebay/forebay/registry/feature"
)

const windowDefinitions = `kind: Entity
name: airport
join_keys: [{name: origin, type: string}]
---
kind: Source
name: departures
timestamp: date
columns: {date: timestamp, origin: string, delay: int64}
files: {glob: "data/*.csv"}
---
kind: FeatureView
name: delays
entities: [airport]
source: departures
filter: "delay != null"
aggregations:
  - {function: count, windows: [1h, 24h]}
  - {function: sum, column: delay, windows: [24h]}
`

// windowRepository is a repository of windows whose generation counts as built.
func windowRepository(t *testing.T, definitions string) *App {
	t.Helper()
	dir := repository(t)
	write(t, filepath.Join(dir, "features.yaml"), definitions)
	a := open(t, dir)
	apply(t, a)
	return a
}

func setEpoch(t *testing.T, a *App, epoch int64) {
	t.Helper()
	on, err := a.onlineStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := on.SetResumes(t.Context(), []online.Resume{{View: "delays", Generation: 1, Input: resumeEpoch, Position: strconv.FormatInt(epoch, 10)}}); err != nil {
		t.Fatal(err)
	}
}

// TestPushToWindows: pushed rows are in the windows at once, and leave them
// without another write.
func TestPushToWindows(t *testing.T) {
	a := windowRepository(t, windowDefinitions)
	e, err := a.newEngine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	push := func(rows ...string) {
		t.Helper()
		var objects [][]byte
		for _, r := range rows {
			objects = append(objects, []byte(r))
		}
		if answer, err := e.Push(t.Context(), "departures", objects); err != nil || answer.Accepted != len(rows) {
			t.Fatalf("%+v, %v", answer, err)
		}
	}
	want := func(when string, values ...string) {
		t.Helper()
		for i, ref := range []string{"delays:count_1h", "delays:count_24h", "delays:delay_sum_24h"} {
			if got := get(t, a, ref, "SFO"); got != values[i] {
				t.Errorf("%s, %s is %s, want %s", when, ref, got, values[i])
			}
		}
	}
	push(`{"date":"2001-01-02T23:30:00Z","origin":"SFO","delay":1}`)
	want("before the view is built", "0 NOT_FOUND", "0 NOT_FOUND", "null NOT_FOUND")
	setEpoch(t, a, 5)
	push(`{"date":"2001-01-02T23:30:00Z","origin":"SFO","delay":10}`, `{"date":"2001-01-02T12:00:00Z","origin":"SFO","delay":3}`, `{"date":"2001-01-02T12:00:00Z","origin":"SFO"}`, `{"date":"2001-01-02T12:00:00Z","origin":"JFK","delay":4}`)
	want("after a push", "1 PRESENT", "2 PRESENT", "13 PRESENT")
	push(`{"date":"2001-01-02T23:30:00Z","origin":"SFO","delay":10}`)
	want("after the same row again", "2 PRESENT", "3 PRESENT", "23 PRESENT")
	for at, values := range map[string][]string{
		"2001-01-03T01:00": {"0 PRESENT", "3 PRESENT", "23 PRESENT"},
		"2001-01-03T20:00": {"0 PRESENT", "2 PRESENT", "20 PRESENT"},
		"2001-01-05":       {"0 NOT_FOUND", "0 NOT_FOUND", "null NOT_FOUND"},
	} {
		instant, err := feature.ParseTimestamp(at)
		if err != nil {
			t.Fatal(err)
		}
		a.SetClock(&instant)
		want("at "+at, values...)
	}
	// Records of an epoch that is gone count for nothing.
	setEpoch(t, a, 6)
	push(`{"date":"2001-01-05T00:00:00Z","origin":"SFO","delay":1}`)
	want("in a new epoch", "1 PRESENT", "1 PRESENT", "1 PRESENT")
}

// TestConcurrentPushesToWindows: of rows that are pushed at the same time to the same
// entities none is lost and none counts twice.
func TestConcurrentPushesToWindows(t *testing.T) {
	a := windowRepository(t, windowDefinitions)
	head, err := a.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	on, err := a.onlineStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	setEpoch(t, a, 5)
	written, err := a.writtenViews(t.Context(), head, head.Project.Source("departures"))
	if err != nil {
		t.Fatal(err)
	}
	const pushers, pushes, entities = 4, 25, 3
	var wg sync.WaitGroup
	failed := make(chan error, pushers)
	for range pushers {
		wg.Go(func() {
			for i := range pushes {
				w, err := newWindowPush(t.Context(), on, written[0])
				if err == nil {
					_, err = w.run(t.Context(), pushedRows(written[0].program, entities, int64(i)))
				}
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	for i := range entities {
		if got, want := get(t, a, "delays:count_24h", fmt.Sprint("A", i)), fmt.Sprintf("%d PRESENT", pushers*pushes); got != want {
			t.Errorf("entity %d: %s, want %s", i, got, want)
		}
	}
	// A view that is built anew in the middle of a push: the push says so.
	w, err := newWindowPush(t.Context(), on, written[0])
	if err != nil {
		t.Fatal(err)
	}
	setEpoch(t, a, 6)
	if _, err := w.run(t.Context(), pushedRows(written[0].program, 1, 0)); !errors.Is(err, errEpoch) {
		t.Errorf("%v, want that it was built anew", err)
	}
}

// pushedRows is a row for each of some entities, as the view makes them.
func pushedRows(program *expr.View, entities int, minute int64) *feature.Batch {
	b := feature.NewBatch(program.Fields(), entities)
	start, _ := feature.ParseTimestamp("2001-01-02T12:00")
	for i := range entities {
		for _, c := range b.Columns {
			if c.Type == feature.TypeString {
				c.Append(feature.OfString(fmt.Sprint("A", i)))
			} else {
				c.Append(feature.OfInt64(minute))
			}
		}
		b.Versions = append(b.Versions, feature.Version{EventTime: start + minute*60_000_000})
		b.Rows++
	}
	return b
}

// TestPushBesideATopic: pushed rows have no place in the order of a topic that feeds windows. They
// are in the log and in newest rows at once, and in the windows once those are built again.
func TestPushBesideATopic(t *testing.T) {
	a := windowRepository(t, strings.Replace(windowDefinitions, "files:", "kafka: {topic: departures, format: json, key: [origin]}\nfiles:", 1)+`---
kind: FeatureView
name: newest
entities: [airport]
source: departures
features: [{name: delay, type: int64, expr: delay}]
`)
	e, err := a.newEngine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	push := func(row string) {
		t.Helper()
		answer, err := e.Push(t.Context(), "departures", [][]byte{[]byte(row)})
		if err != nil || answer.Accepted != 1 || !slices.Equal(answer.Later, []string{"delays"}) {
			t.Fatalf("%+v, %v; want the windows later", answer, err)
		}
	}
	want := func(when string, values ...string) {
		t.Helper()
		for i, ref := range []string{"newest:delay", "delays:count_24h", "delays:delay_sum_24h"} {
			if got := get(t, a, ref, "SFO"); got != values[i] {
				t.Errorf("%s, %s is %s, want %s", when, ref, got, values[i])
			}
		}
	}
	materialize := func() {
		t.Helper()
		if _, err := a.Materialize(t.Context(), MaterializeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	push(`{"date":"2001-01-02T23:30:00Z","origin":"SFO","delay":1}`)
	want("before the windows are built", "1 PRESENT", "0 NOT_FOUND", "null NOT_FOUND")
	materialize()
	want("built", "1 PRESENT", "1 PRESENT", "1 PRESENT")
	push(`{"date":"2001-01-02T23:40:00Z","origin":"SFO","delay":5}`)
	want("after another", "5 PRESENT", "1 PRESENT", "1 PRESENT")
	materialize()
	want("built again", "5 PRESENT", "2 PRESENT", "6 PRESENT")
}

// TestWindowsOverHTTP: a lookup over HTTP shows windows as the command does.
func TestWindowsOverHTTP(t *testing.T) {
	a := windowRepository(t, windowDefinitions)
	setEpoch(t, a, 5)
	h, err := a.Handler(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(path, body string) string {
		t.Helper()
		req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		res := httptest.NewRecorder()
		h.ServeHTTP(res, req)
		if res.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", path, res.Code, res.Body)
		}
		return res.Body.String()
	}
	ask("/v1/push/departures", `{"rows":[{"date":"2001-01-02T23:30:00Z","origin":"SFO","delay":10},{"date":"2001-01-02T12:00:00Z","origin":"SFO","delay":3}]}`)
	got := ask("/v1/features", `{"features":["delays:count_1h","delays:delay_sum_24h"],"entities":[{"origin":"SFO"},{"origin":"JFK"}]}`)
	for _, want := range []string{
		`"values":[1,13],"statuses":["PRESENT","PRESENT"],"event_timestamps":["2001-01-02T23:30:00Z","2001-01-02T23:30:00Z"]`,
		`"values":[0,null],"statuses":["NOT_FOUND","NOT_FOUND"],"event_timestamps":[null,null]`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s, want %s in it", got, want)
		}
	}
}

// TestRedisThatEvicts: a server that drops records when memory is short is said at start.
func TestRedisThatEvicts(t *testing.T) {
	for policy, want := range map[string]bool{"volatile-ttl": true, "noeviction": false} {
		n := testenv.RedisServer(t, "--maxmemory-policy", policy)
		dir := repository(t)
		write(t, filepath.Join(dir, "forebay.yaml"), strings.Replace(settings, "{store: embedded, path: ./.forebay/online}", fmt.Sprintf("{store: redis, addrs: [%q]}", n.Addr), 1))
		var log bytes.Buffer
		a, err := Open(t.Context(), Options{Dir: dir, Command: "test", Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.onlineStore(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "maxmemory_policy is "+policy); got != want {
			t.Errorf("%s: warned %v: %s", policy, got, log.String())
		}
	}
}
