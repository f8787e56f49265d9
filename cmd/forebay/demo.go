package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay/forebay/examples/flights"
	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/sdk"
)

// What the demo looks up: so many flights, so many in a request.
const (
	demoService = "delay_model"
	demoLookups = 5000
	demoUnknown = 100 // beside them, of routes that nobody flies
	demoBatch   = 100
)

func (c *cli) demoCommand() *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole path on real flights, with nothing installed",
		Long: `Takes real flights through everything: apply, ingest, materialize, events through an in-process
Kafka, lookups over HTTP, a training dataset. Then it compares the values served online with
the point-in-time ones, runs verify, and fails on any difference. All of it happens in a temporary folder,
unless --keep names one to play with afterwards. The flights are of 2001, and so is the
demo's clock: it stands at the last flight.`,
		Args: args(0, 0),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		dir := keep
		if keep == "" {
			if dir, err = os.MkdirTemp("", "forebay-demo-"); err != nil {
				return fmt.Errorf("demo: %w", err)
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		}
		if err := unpack(dir); err != nil {
			return err
		}
		d := &demo{c: c, dir: dir, kept: keep != "", statuses: map[sdk.Status]int64{}}
		if err := d.run(cmd.Context()); err != nil {
			return err
		}
		return d.finish()
	}
	cmd.Flags().StringVar(&keep, "keep", "", "folder to leave the example in, with its stores; it must be new or empty")
	return cmd
}

// unpack writes the example's files into an empty folder.
func unpack(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("demo: %w", err)
	}
	if len(entries) > 0 {
		return &app.Error{Code: "exists", Err: fmt.Errorf("%s is not empty", dir), Hint: "Give --keep a new folder."}
	}
	if err := os.CopyFS(dir, flights.Files); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// demo is a run of the demo.
type demo struct {
	c    *cli
	dir  string
	kept bool

	at          time.Time // the demo's clock
	dataset     string    // its ID
	steps       []demoStep
	compared    int64
	verified    int64 // by forebay verify
	statuses    map[sdk.Status]int64
	differences []string
}

// demoStep is one line of the closing table.
type demoStep struct {
	Step    string  `json:"step"`
	Count   int64   `json:"count"`
	Unit    string  `json:"unit"`
	Seconds float64 `json:"seconds"`
}

// step runs one step with its progress, and notes how much it did in which time.
func (d *demo) step(name, unit string, run func(progress func(done, total int64)) (int64, error)) error {
	p := d.c.startProgress(name, unit)
	n, err := run(p.set)
	p.stop()
	if err != nil {
		return err
	}
	took := p.elapsed()
	d.steps = append(d.steps, demoStep{name, n, unit, took.Seconds()})
	_, _ = fmt.Fprintf(d.c.stderr, "%s %-36s %9s %-9s %7s\n", d.c.paint(d.c.stderr, green, "ok"), name, count(n), unit, span(took))
	return nil
}

func (d *demo) run(ctx context.Context) (err error) {
	a, err := app.Open(ctx, app.Options{Dir: d.dir, Environment: "local", Command: "demo", Log: d.c.logger(slog.LevelError)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if err := a.Hold(ctx); err != nil {
		return err
	}
	if err := d.fill(ctx, a); err != nil {
		return err
	}
	status, err := a.Status(ctx)
	if err != nil {
		return err
	}
	for _, s := range status.Sources {
		if s.Newest != nil && s.Newest.After(d.at) {
			d.at = *s.Newest
		}
	}
	at := d.at.UnixMicro()
	a.SetClock(&at)

	serving, stop := context.WithCancel(ctx)
	ready, served := make(chan string, 1), make(chan error, 1)
	go func() {
		served <- a.Serve(serving, app.ServeOptions{Listen: "127.0.0.1:0", Ready: func(url string) { ready <- url }})
	}()
	select {
	case url := <-ready:
		err = d.use(ctx, a, url)
		stop()
		return errors.Join(err, <-served)
	case err := <-served:
		stop()
		return err
	}
}

// fill takes the flights into both stores: the history from a file, the last two
// days as events.
func (d *demo) fill(ctx context.Context, a *app.App) error {
	if err := d.step("apply the definitions", "changes", func(func(int64, int64)) (int64, error) {
		p, err := a.Plan(ctx)
		if err != nil {
			return 0, err
		}
		_, err = a.Apply(ctx, p)
		return int64(len(p.Changes)), err
	}); err != nil {
		return err
	}
	if err := d.step("ingest the history", "rows", func(progress func(int64, int64)) (n int64, err error) {
		done, err := a.Ingest(ctx, app.IngestOptions{Source: "departures", Progress: func(_ string, n, total int64) { progress(n, total) }})
		for _, f := range done {
			n += f.Rows
		}
		return n, err
	}); err != nil {
		return err
	}
	if err := d.step("materialize it", "rows", func(progress func(int64, int64)) (n int64, err error) {
		done, err := a.Materialize(ctx, app.MaterializeOptions{Progress: func(_ string, n, total int64) { progress(n, total) }})
		for _, v := range done {
			n += v.Rows
		}
		return n, err
	}); err != nil {
		return err
	}
	if err := d.step("send the last two days as events", "events", func(progress func(int64, int64)) (int64, error) {
		return a.Produce(ctx, app.ProduceOptions{Source: "departures", File: filepath.Join(d.dir, "data", "events.parquet"), Progress: progress})
	}); err != nil {
		return err
	}
	return d.step("stream them from Kafka", "events", func(progress func(int64, int64)) (n int64, err error) {
		done, err := a.Stream(ctx, app.StreamOptions{UntilCaughtUp: true, Progress: progress})
		if err != nil {
			return 0, err
		}
		for _, s := range done.Sources {
			n += s.Rows
		}
		return n, nil
	})
}

// use looks flights up over HTTP, builds a dataset and compares the two.
func (d *demo) use(ctx context.Context, a *app.App, url string) (err error) {
	client, err := sdk.New(url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	asked, err := d.flights(ctx)
	if err != nil {
		return err
	}
	var found []*sdk.Result
	if err := d.step("look flights up over HTTP", "lookups", func(progress func(int64, int64)) (int64, error) {
		for at := 0; at < len(asked); at += demoBatch {
			res, err := client.Lookup(ctx, sdk.LookupRequest{Service: demoService, Entities: asked[at:min(at+demoBatch, len(asked))]})
			if err != nil {
				return 0, err
			}
			found = append(found, res)
			progress(int64(at), int64(len(asked)))
		}
		return int64(len(asked)), nil
	}); err != nil {
		return err
	}
	if err := d.step("build a training dataset", "rows", func(progress func(int64, int64)) (int64, error) {
		ds, err := a.BuildDataset(ctx, app.DatasetOptions{
			Service: demoService, Spine: filepath.Join(d.dir, "data", "spine.parquet"), Out: filepath.Join(d.dir, "train.parquet"),
			Name: "demo", Progress: progress,
		})
		d.dataset = ds.ID
		return ds.Rows, err
	}); err != nil {
		return err
	}
	if err := d.step("compare online with point-in-time", "values", func(func(int64, int64)) (int64, error) {
		err := d.compare(ctx, a, asked, found)
		return d.compared, err
	}); err != nil {
		return err
	}
	return d.step("verify what is served", "values", func(progress func(int64, int64)) (int64, error) {
		v, err := a.Verify(ctx, app.VerifyOptions{Service: demoService, Progress: progress})
		if err != nil {
			return 0, err
		}
		d.verified = int64(v.Values())
		for _, m := range v.Mismatches {
			d.differences = append(d.differences, fmt.Sprintf("%s of %s: %s: %s", m.View, m.Entity, m.Reason, m.Message))
		}
		return d.verified, nil
	})
}

// flights are different routes of the spine, to be looked up, and some that there are not.
func (d *demo) flights(ctx context.Context) ([]sdk.Entity, error) {
	file, err := files.At(filepath.Join(d.dir, "data", "spine.parquet"))
	if err != nil {
		return nil, err
	}
	columns := []feature.Field{{Name: "origin", Type: feature.TypeString}, {Name: "destination", Type: feature.TypeString}, {Name: "scheduled_distance", Type: feature.TypeInt64}}
	want := make([]files.Want, len(columns))
	for i, f := range columns {
		want[i] = files.Want{Field: f, Use: "lookup"}
	}
	spine, err := files.OpenSpine(ctx, file, want)
	if err != nil {
		return nil, err
	}
	defer func() { _ = spine.Close() }() // it was read only
	var asked []sdk.Entity
	seen := map[[2]string]bool{}
	for rows, err := range spine.Wanted(ctx) {
		if err != nil {
			return nil, err
		}
		for i := range rows.Rows {
			route := [2]string{rows.Columns[0].Value(i).Clone().Str(), rows.Columns[1].Value(i).Clone().Str()}
			if seen[route] || len(asked) == demoLookups {
				continue
			}
			seen[route] = true
			asked = append(asked, sdk.Entity{columns[0].Name: route[0], columns[1].Name: route[1], columns[2].Name: rows.Columns[2].Value(i).Int64()})
		}
	}
	for _, e := range asked[:min(demoUnknown, len(asked))] {
		asked = append(asked, sdk.Entity{columns[0].Name: e[columns[0].Name], columns[1].Name: "nowhere", columns[2].Name: int64(1)})
	}
	return asked, nil
}

// compare builds a dataset of the flights that were looked up, at the instants of
// their lookups, and holds each value against the one that was served.
func (d *demo) compare(ctx context.Context, a *app.App, asked []sdk.Entity, found []*sdk.Result) (err error) {
	spine, joined := filepath.Join(d.dir, "lookups.ndjson"), filepath.Join(d.dir, "lookups-joined.ndjson")
	defer func() { err = errors.Join(err, os.RemoveAll(spine), os.RemoveAll(joined)) }()
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	for i, e := range asked {
		row := map[string]any{"event_timestamp": found[i/demoBatch].Instant.UTC().Format(time.RFC3339Nano)}
		for name, v := range e {
			row[name] = v
		}
		if err := lines.Encode(row); err != nil {
			return err
		}
	}
	if err := os.WriteFile(spine, text.Bytes(), 0o600); err != nil {
		return err
	}
	if _, err := a.BuildDataset(ctx, app.DatasetOptions{Service: demoService, Spine: spine, Out: joined}); err != nil {
		return err
	}
	out, err := os.Open(joined)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // it was read only
	rows := json.NewDecoder(out)
	rows.UseNumber()
	for i := range asked {
		var row map[string]json.RawMessage
		if err := rows.Decode(&row); err != nil {
			return fmt.Errorf("row %d of the joined lookups: %w", i, err)
		}
		d.compareRow(asked[i], found[i/demoBatch].Row(i%demoBatch), found[i/demoBatch].Features(), row)
	}
	if err := rows.Decode(new(json.RawMessage)); !errors.Is(err, io.EOF) {
		return errors.New("there are more joined rows than lookups")
	}
	return nil
}

func (d *demo) compareRow(e sdk.Entity, online sdk.Row, features []string, offline map[string]json.RawMessage) {
	for _, name := range features {
		d.compared++
		d.statuses[online.Status(name)]++
		served, was := "null", "null"
		if v, ok := online.Value(name); ok {
			served, was = written(v), rewritten(offline[name], v)
		} else if raw := offline[name]; raw != nil {
			was = string(raw)
		}
		if served != was {
			d.differences = append(d.differences, fmt.Sprintf("%v to %v: %s is %s online (%s) and %s offline", e["origin"], e["destination"], name, served, online.Status(name), was))
		}
	}
}

// written is a value as JSON.
func written(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// rewritten is a value in JSON as written writes it, as a value of like's type: both 4 and 4.0
// are a float64 of 4.
func rewritten(raw json.RawMessage, like any) string {
	v := reflect.New(reflect.TypeOf(like))
	if err := json.Unmarshal(raw, v.Interface()); err != nil {
		return string(raw)
	}
	return written(v.Elem().Interface())
}

// finish prints the closing table and what to try next. Differences are a failure.
func (d *demo) finish() error {
	c := d.c
	if c.json {
		if err := c.document(struct {
			Steps       []demoStep `json:"steps"`
			Dataset     string     `json:"dataset"`
			Compared    int64      `json:"compared"`
			Verified    int64      `json:"verified"`
			Differences []string   `json:"differences"`
			Dir         string     `json:"dir,omitempty"`
		}{d.steps, d.dataset, d.compared, d.verified, append([]string{}, d.differences...), d.keptDir()}); err != nil {
			return err
		}
	}
	t := newTable("STEP", ">COUNT", "", ">TIME", ">RATE")
	var total float64
	for _, s := range d.steps {
		total += s.Seconds
		t.add(s.Step, s.Count, s.Unit, span(seconds(s.Seconds)), rate(s.Count, seconds(s.Seconds)))
	}
	t.add("all of it", "", "", span(seconds(total)), "")
	c.printf("\n")
	c.print(t)
	const shown = 20
	if n := len(d.differences); n > 0 {
		for i, diff := range d.differences[:min(n, shown)] {
			_, _ = fmt.Fprintf(c.stderr, "%3d  %s\n", i+1, diff)
		}
		return &app.Error{Code: "differences", Err: fmt.Errorf("%d of %d values served online differ from the point-in-time ones", n, d.compared+d.verified)}
	}
	c.printf("\n%s values served online and joined point-in-time: no difference.\n", count(d.compared))
	for i, status := range slices.Sorted(maps.Keys(d.statuses)) {
		if i > 0 {
			c.printf(", ")
		}
		c.printf("%s %s", count(d.statuses[status]), status)
	}
	c.printf(".\nTraining dataset %s\n\nTry next:\n", short(d.dataset))
	command := commandName()
	dir := d.dir
	if !d.kept {
		dir = "flights"
		c.printf("  %s demo --keep %s\n", command, dir)
	}
	c.printf("  %s -C %s get --service %s --at %s origin=SFO destination=JFK scheduled_distance=2586\n", command, dir, demoService, d.at.Format(time.RFC3339))
	c.printf("  %s -C %s verify --service %s --at %s\n", command, dir, demoService, d.at.Format(time.RFC3339))
	c.printf("  %s -C %s test\n", command, dir)
	c.printf("  %s -C %s dev\n", command, dir)
	if d.kept {
		c.printf("  %s -C %s status\n", command, dir)
	}
	return nil
}

func (d *demo) keptDir() string {
	if d.kept {
		return d.dir
	}
	return ""
}

// commandName is how this program was called, for commands to copy.
func commandName() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/forebay"
	}
	return "forebay"
}
