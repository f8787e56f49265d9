package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// fixedEngine answers every lookup with the same columns: what is measured is
// the HTTP layer.
type fixedEngine struct {
	*memoryEngine
	fixed fixedPlan
}

func (e *fixedEngine) Plan(context.Context, selection.Request) (Plan, error) { return &e.fixed, nil }

type fixedPlan struct {
	sel   selection.Selection
	found Found
}

func (p *fixedPlan) Selection() *selection.Selection { return &p.sel }
func (p *fixedPlan) Revision() string                { return "sha256:0000000000000000" }

func (p *fixedPlan) Lookup(context.Context, []*feature.Column, []*feature.Column, int) (*Found, error) {
	return &p.found, nil
}

func newFixedEngine(t testing.TB, rows, features int) *fixedEngine {
	e := &fixedEngine{memoryEngine: newCompatEngine(t)}
	e.fixed.sel = selection.Selection{Keys: fields("driver_id:int64"), Roles: []selection.Role{{View: viewOf(e.revision), Keys: []int{0}}}}
	statuses, times := make([]feature.Status, rows), make([]int64, rows) // of one view's records, as its features share them
	for i := range rows {
		statuses[i], times[i] = feature.Present, 1767323045678901+int64(i)
	}
	for j := range features {
		e.fixed.sel.Outputs = append(e.fixed.sel.Outputs, selection.Output{Name: fmt.Sprintf("feature_%03d", j), View: "driver_stats", Type: feature.TypeFloat64, From: selection.Column{Feature: j, Step: -1, Request: -1}})
		c := feature.NewColumn("", feature.TypeFloat64, rows)
		for i := range rows {
			c.Append(feature.OfFloat64(float64(i*features+j) / 7))
		}
		e.fixed.found.Columns = append(e.fixed.found.Columns, c)
		e.fixed.found.Statuses, e.fixed.found.EventTimes = append(e.fixed.found.Statuses, statuses), append(e.fixed.found.EventTimes, times)
	}
	return e
}

func viewOf(r *registry.Revision) registry.ViewGeneration {
	return registry.ViewGeneration{Project: r.Project, View: r.Project.View("driver_stats"), Number: 1}
}

// nullWriter takes an answer without keeping it.
type nullWriter struct {
	header http.Header
	status int
	bytes  int
}

func (w *nullWriter) Header() http.Header    { return w.header }
func (w *nullWriter) WriteHeader(status int) { w.status = status }
func (w *nullWriter) Write(b []byte) (int, error) {
	w.bytes += len(b)
	return len(b), nil
}

// run asks again and again on one request, as a kept-alive connection does.
func run(t testing.TB, h http.Handler, path, body string) func() {
	reader := strings.NewReader(body)
	req, err := http.NewRequest(http.MethodPost, path, io.NopCloser(reader))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = int64(len(body))
	req.Header.Set("Content-Type", "application/json")
	w := &nullWriter{header: http.Header{}}
	return func() {
		reader.Reset(body)
		clear(w.header)
		if h.ServeHTTP(w, req); w.status != http.StatusOK {
			t.Fatalf("status %d", w.status)
		}
	}
}

func lookupBodies(rows int) map[string]string {
	var ours, feasts bytes.Buffer
	for i := range rows {
		fmt.Fprintf(&ours, `,{"driver_id":%d}`, 1001+i)
		fmt.Fprintf(&feasts, `,%d`, 1001+i)
	}
	return map[string]string{
		"/v1/features":         `{"service":"driver_svc","entities":[` + ours.String()[1:] + `]}`,
		"/get-online-features": `{"feature_service":"driver_svc","entities":{"driver_id":[` + feasts.String()[1:] + `]}}`,
	}
}

// BenchmarkAnswer is the answer's writing alone.
func BenchmarkAnswer(b *testing.B) {
	e := newFixedEngine(b, 100, 50)
	for name, format := range map[string]lookupFormat{"json": asJSON, "msgpack": asMessagePack, "arrow": asArrow} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var a answerBuffer
			shape := newAnswerShape(&e.fixed)
			for b.Loop() {
				a.bytes = a.bytes[:0]
				if err := a.append(shape, format, &e.fixed.found, 100, &featuresRequest{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, size := range []struct{ rows, features int }{{1, 50}, {1, 250}, {100, 50}, {100, 250}} {
		s := newTestServer(b, Config{}, newFixedEngine(b, size.rows, size.features))
		for path, body := range lookupBodies(size.rows) {
			b.Run(fmt.Sprintf("%s/%dx%d", path[1:], size.rows, size.features), func(b *testing.B) {
				ask := run(b, s.Handler(), path, body)
				b.ReportAllocs()
				for b.Loop() {
					ask()
				}
			})
		}
	}
}

// Allocations are per request: none per entity, none per value.
func TestAllocationsAreConstant(t *testing.T) {
	if raceDetector {
		t.Skip("pools forget at random under the race detector")
	}
	counts := map[string][]float64{}
	for _, size := range []struct{ rows, features int }{{1, 5}, {1, 200}, {200, 50}} {
		s := newTestServer(t, Config{}, newFixedEngine(t, size.rows, size.features))
		for path, body := range lookupBodies(size.rows) {
			ask := run(t, s.Handler(), path, body)
			ask() // grows the buffers
			counts[path] = append(counts[path], testing.AllocsPerRun(50, ask))
		}
	}
	for path, n := range counts {
		// A collection may empty the pool of buffers now and then, which averages out below one.
		if n[1] > n[0]+2 || n[2] > n[0]+2 || n[0] > 60 {
			t.Errorf("%s allocates %v times for 1x5, 1x200 and 200x50", path, n)
		}
		t.Logf("%s: %v allocations", path, n)
	}
}
