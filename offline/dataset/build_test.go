package dataset

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"gocloud.dev/blob/memblob"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

func field(name string, t feature.Type) feature.Field { return feature.Field{Name: name, Type: t} }

func project() *registry.Project {
	meta := func(n string) registry.Meta { return registry.Meta{Name: n} }
	return &registry.Project{
		Name: "flights",
		Entities: []registry.Entity{
			{Meta: meta("airport"), JoinKeys: []feature.Field{field("origin", feature.TypeString)}},
			{Meta: meta("carrier"), JoinKeys: []feature.Field{field("carrier", feature.TypeInt64)}},
		},
		Sources: []registry.Source{{Meta: meta("departures"), Timestamp: "date", Columns: []registry.SourceColumn{
			{Field: field("date", feature.TypeTimestamp)}, {Field: field("origin", feature.TypeString)}, {Field: field("carrier", feature.TypeInt64)},
			{Field: field("delay", feature.TypeInt64)}, {Field: field("score", feature.TypeFloat64)}}}},
		Views: []registry.FeatureView{
			{Meta: meta("latest"), Entities: []string{"airport"}, Source: "departures", TTL: 30 * feature.Second, Features: []registry.Feature{
				{Field: field("delay", feature.TypeInt64), Expr: "delay"}, {Field: field("where", feature.TypeString), Expr: "origin"}}},
			{Meta: meta("route"), Entities: []string{"airport", "carrier"}, Source: "departures", Features: []registry.Feature{
				{Field: field("score", feature.TypeFloat64), Expr: "score"}}},
		},
		OnDemand: []registry.OnDemandView{
			{Meta: meta("trend"), Inputs: []string{"latest"}, Request: []feature.Field{field("planned", feature.TypeInt64)}, Features: []registry.Feature{
				{Field: field("over", feature.TypeInt64), Expr: "latest.delay - planned"}}},
			{Meta: meta("pure"), Request: []feature.Field{field("planned", feature.TypeInt64)}, Features: []registry.Feature{
				{Field: field("twice", feature.TypeInt64), Expr: "planned * 2"}}},
		},
	}
}

func revision(p *registry.Project) *registry.Revision {
	return &registry.Revision{ID: "sha256:r", Project: p, Generations: []registry.Generation{{View: "latest", Number: 1}, {View: "route", Number: 1}}}
}

func resolve(t *testing.T, full bool, refs ...string) *selection.Selection {
	t.Helper()
	p := project()
	sel, err := selection.Resolve(t.Context(), p, selection.Request{Features: refs, FullNames: full}, func(_ context.Context, view string, n int) (registry.ViewGeneration, error) {
		return registry.ViewGeneration{Project: p, View: p.View(view), Number: max(n, 1)}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

// world is random events, and a random spine of the same.
type world struct {
	store *fake
	rows  []spineRow
}

type spineRow struct {
	origin  string // "" for null
	carrier int64  // 0 for null
	at      int64  // seconds; 0 for null
	planned int64  // 0 for null
}

func newWorld(t *testing.T, rows int) *world {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any seed
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // of a test
	w := &world{store: &fake{tables: map[string][]event{}, snapshot: "s1", runs: r}}
	for i := range int64(60) {
		v := feature.Version{EventTime: (1 + r.Int64N(100)) * 1e6, IngestedAt: r.Int64N(100), Minor: i}
		origin, carrier := feature.OfString(string(rune('A'+r.IntN(3)))), feature.OfInt64(1+r.Int64N(2))
		delay := feature.OfInt64(r.Int64N(50))
		if r.IntN(5) == 0 {
			delay = feature.Value{}
		}
		w.store.tables["latest"] = append(w.store.tables["latest"], event{key: []feature.Value{origin}, values: []feature.Value{delay, origin}, version: v})
		w.store.tables["route"] = append(w.store.tables["route"], event{key: []feature.Value{origin, carrier}, values: []feature.Value{feature.OfFloat64(r.Float64())}, version: v})
	}
	for range rows {
		row := spineRow{origin: string(rune('A' + r.IntN(4))), carrier: 1 + r.Int64N(2), at: 1 + r.Int64N(120), planned: 1 + r.Int64N(9)}
		switch r.IntN(12) {
		case 0:
			row.origin = ""
		case 1:
			row.carrier = 0
		case 2:
			row.at = 0
		case 3:
			row.planned = 0
		}
		w.rows = append(w.rows, row)
	}
	return w
}

func null[T comparable](v T, format string) string {
	var zero T
	if v == zero {
		return "null"
	}
	return fmt.Sprintf(format, v)
}

func instant(seconds int64) string { return feature.FormatTimestamp(seconds * 1e6) }

// spine writes the world's spine, with columns of its own before and after, as NDJSON,
// and turns it into the format of the extension.
func (w *world) spine(t *testing.T, ext string) files.File {
	t.Helper()
	var b bytes.Buffer
	for i, r := range w.rows {
		at := "null"
		if r.at != 0 {
			at = `"` + instant(r.at) + `"`
		}
		fmt.Fprintf(&b, `{"label":%d,"origin":%s,"event_timestamp":%s,"carrier":%s,"planned":%s,"note":%q}`+"\n",
			i, null(r.origin, "%q"), at, null(r.carrier, "%d"), null(r.planned, "%d"), strings.Repeat("x", i%3))
	}
	path := filepath.Join(t.TempDir(), "spine.ndjson")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	f := must(files.At(path))
	if ext == ".ndjson" {
		return f
	}
	want := []files.Want{{Field: field("event_timestamp", feature.TypeTimestamp)}}
	s := must(files.OpenSpine(t.Context(), f, want))
	path = filepath.Join(t.TempDir(), "spine"+ext)
	out := must(files.Create(path, s.Schema()))
	for rec, err := range s.Records(t.Context()) {
		if err := errors.Join(err, out.Write(rec)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(out.Commit(), s.Close()); err != nil {
		t.Fatal(err)
	}
	return must(files.At(path))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// want is the dataset as NDJSON, by the definition of the join.
func (w *world) want(knownAt *int64, csv bool) string {
	var b strings.Builder
	value := func(v feature.Value) string { return string(v.AppendJSON(nil)) }
	for i, r := range w.rows {
		origin, carrier, at := feature.Value{}, feature.Value{}, feature.Value{}
		atText := "null"
		if r.origin != "" {
			origin = feature.OfString(r.origin)
		}
		if r.carrier != 0 {
			carrier = feature.OfInt64(r.carrier)
		}
		if r.at != 0 {
			at, atText = feature.OfTimestamp(r.at*1e6), `"`+instant(r.at)+`"`
		}
		label := fmt.Sprint(i)
		if csv {
			label = `"` + label + `"`
		}
		delay, where, score, over := feature.Value{}, feature.Value{}, feature.Value{}, feature.Value{}
		if vs, st := newest(w.store.tables["latest"], []feature.Value{origin}, at, 30*feature.Second, knownAt); st == feature.Present {
			delay, where = vs[0], vs[1]
		}
		if vs, st := newest(w.store.tables["route"], []feature.Value{origin, carrier}, at, 0, knownAt); st == feature.Present {
			score = vs[0]
		}
		if !delay.IsNull() && r.planned != 0 {
			over = feature.OfInt64(delay.Int64() - r.planned)
		}
		fmt.Fprintf(&b, `{"label":%s,"origin":%s,"event_timestamp":%s,"carrier":%s,"planned":%s,"note":%q,"over":%s,"score":%s,"delay":%s,"where":%s}`+"\n",
			label, null(r.origin, "%q"), atText, null(r.carrier, "%d"), null(r.planned, "%d"), strings.Repeat("x", i%3),
			value(over), value(score), value(delay), value(where))
	}
	return b.String()
}

var refs = []string{"trend:over", "route:score", "latest:delay", "latest:where"}

func TestBuild(t *testing.T) {
	w := newWorld(t, 500)
	sel := resolve(t, false, refs...)
	for _, ext := range []string{".ndjson", ".csv", ".parquet", ".arrow"} {
		var hash string
		for _, knownAt := range []*int64{nil, new(int64)} {
			if knownAt != nil {
				*knownAt = 50
			}
			t.Run(fmt.Sprintf("%s known at %v", ext, knownAt != nil), func(t *testing.T) {
				b := &Builder{Store: w.store}
				out := filepath.Join(t.TempDir(), "out.ndjson")
				m, err := b.Build(t.Context(), Request{Selection: sel, Revision: revision(project()), Spine: w.spine(t, ext), KnownAt: knownAt}, out)
				if err != nil {
					t.Fatal(err)
				}
				got, want := string(must(os.ReadFile(out))), w.want(knownAt, ext == ".csv")
				if got != want {
					compare(t, got, want)
				}
				if m.Rows != 500 || m.Inputs.Spine.Rows != 500 || len(m.Columns) != 10 || m.ContentHash == hash {
					t.Errorf("got %+v", m)
				}
				hash = m.ContentHash
			})
		}
	}
}

func compare(t *testing.T, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	if len(g) != len(w) {
		t.Errorf("%d rows, want %d", len(g)-1, len(w)-1)
		return
	}
	for i := range g {
		if g[i] != w[i] {
			t.Errorf("row %d\n got %s\nwant %s", i, g[i], w[i])
			return
		}
	}
}

// TestManyRuns builds a dataset of more rows than one run, in whatever runs the join returns.
func TestManyRuns(t *testing.T) {
	w := newWorld(t, 50_000)
	spine, sel := w.spine(t, ".parquet"), resolve(t, false, refs...)
	b := &Builder{Store: w.store}
	dir := t.TempDir()
	var first Manifest
	for i, ext := range []string{".parquet", ".ndjson", ".arrow"} {
		out := filepath.Join(dir, "out"+ext)
		m, err := b.Build(t.Context(), Request{Selection: sel, Revision: revision(project()), Spine: spine}, out)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = m
		}
		if m.ID != first.ID || m.ContentHash != first.ContentHash {
			t.Errorf("%s: the same rows have another hash: %s %s, was %s %s", ext, m.ID, m.ContentHash, first.ID, first.ContentHash)
		}
		if ext == ".ndjson" {
			compare(t, string(must(os.ReadFile(out))), w.want(nil, false))
			continue
		}
		if h := rehash(t, must(files.At(out))); h != m.ContentHash {
			t.Errorf("%s, read again, has the content hash %s, want %s", ext, h, m.ContentHash)
		}
	}
}

// rehash is the content hash of a file as it is read.
func rehash(t *testing.T, f files.File) string {
	t.Helper()
	s := must(files.OpenSpine(t.Context(), f, nil))
	defer func() { _ = s.Close() }()
	h := newRowHash(s.Schema().Fields())
	for rec, err := range s.Records(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		h.add(rec)
	}
	return h.sum(len(s.Schema().Fields()))
}

func TestManifest(t *testing.T) {
	w := newWorld(t, 20)
	spine := w.spine(t, ".parquet")
	bucket := memblob.OpenBucket(nil)
	defer func() { _ = bucket.Close() }()
	now := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	b := &Builder{Store: w.store, Manifests: NewManifests(bucket), Now: func() time.Time { return now }}
	req := Request{Selection: resolve(t, false, refs...), Revision: revision(project()), Spine: spine, Name: "one"}
	build := func(r Request) Manifest {
		t.Helper()
		return must(b.Build(t.Context(), r, filepath.Join(t.TempDir(), "o.parquet")))
	}
	one := build(req)
	if one.Name != "one" || !one.Created.Equal(now) || one.Inputs.Timestamp != "event_timestamp" || len(one.Inputs.Tables) != 2 ||
		one.Inputs.Tables[0].View != "latest" || one.Inputs.Tables[0].Generation != 1 || one.Inputs.Tables[0].Content != "snapshot:s1" || one.States[0].Snapshot != "s1" {
		t.Errorf("got %+v", one)
	}
	wantFeatures := []Feature{
		{Name: "over", Ref: "trend:over", Reads: []Read{{Ref: "latest@1:delay", Keys: []string{"origin"}}}}, {Name: "score", Ref: "route@1:score", Keys: []string{"origin", "carrier"}},
		{Name: "delay", Ref: "latest@1:delay", Keys: []string{"origin"}}, {Name: "where", Ref: "latest@1:where", Keys: []string{"origin"}},
	}
	if fmt.Sprint(one.Inputs.Features) != fmt.Sprint(wantFeatures) {
		t.Errorf("got %v", one.Inputs.Features)
	}
	if got := must(b.Manifests.Get(t.Context(), one.ID[:len("sha256:")+8])); !reflect.DeepEqual(got, one) {
		t.Errorf("kept %+v, built %+v", got, one)
	}

	// The name and the instant are no part of the ID; the first instant stays.
	now = now.Add(time.Hour)
	req.Name = "two"
	two := build(req)
	if two.ID != one.ID || two.Name != "two" || !two.Created.Equal(one.Created) {
		t.Errorf("got %+v, was %+v", two, one)
	}
	// Everything else is.
	known := int64(5)
	others := map[string]Request{}
	for name, change := range map[string]func(*Request){
		"known_at": func(r *Request) { r.KnownAt = &known },
		"revision": func(r *Request) {
			p := project()
			p.Views[1].TTL = feature.Minute
			r.Revision = revision(p)
		},
		"features": func(r *Request) { r.Selection = resolve(t, false, refs[:3]...) },
		"names":    func(r *Request) { r.Selection = resolve(t, true, refs...) },
		"spine":    func(r *Request) { r.Spine = (&world{rows: w.rows[1:]}).spine(t, ".parquet") },
	} {
		r := req
		change(&r)
		others[name] = r
	}
	seen := map[string]string{one.ID: "the first"}
	for name, r := range others {
		m := build(r)
		if was := seen[m.ID]; was != "" {
			t.Errorf("another %s gave the ID of %s", name, was)
		}
		seen[m.ID] = name
	}
	w.store.snapshot = "s2"
	if m := build(req); seen[m.ID] != "" {
		t.Error("another snapshot gave the same ID")
	}
	list := must(b.Manifests.List(t.Context()))
	if len(list) != 7 || list[6].ID != one.ID {
		t.Errorf("%d datasets, the oldest %s", len(list), list[len(list)-1].ID)
	}
	for _, id := range []string{"", "sha256:", "xyz", "ffffffffffffffff", "../../etc"} {
		if _, err := b.Manifests.Get(t.Context(), id); !errors.Is(err, ErrNoDataset) {
			t.Errorf("%q: got %v", id, err)
		}
	}

	// The same inputs with other rows: the store is not what it says.
	w.store.snapshot = "s1"
	w.store.tables["latest"] = nil
	out := filepath.Join(t.TempDir(), "o.parquet")
	if _, err := b.Build(t.Context(), req, out); !errors.Is(err, ErrNotReproduced) {
		t.Errorf("got %v", err)
	}
}

func TestAmbiguousPrefix(t *testing.T) {
	bucket := memblob.OpenBucket(nil)
	defer func() { _ = bucket.Close() }()
	for _, k := range []string{"datasets/abcd1.json", "datasets/abcd2.json"} {
		if err := bucket.WriteAll(t.Context(), k, []byte("{}"), nil); err != nil {
			t.Fatal(err)
		}
	}
	ms := NewManifests(bucket)
	if _, err := ms.Get(t.Context(), "abcd"); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("got %v", err)
	}
	if _, err := ms.Get(t.Context(), "abcd1"); err == nil {
		t.Error("a manifest of no format was read")
	}
}

// TestManifestFixtures reads manifests of every format that there was.
func TestManifestFixtures(t *testing.T) {
	two := must(os.ReadFile("testdata/manifest-v2.json"))
	if m, err := Unmarshal(two); err != nil || !bytes.Equal(must(m.Marshal()), two) || m.Kept == nil || len(m.States) != 1 || m.Request.Service != "delay" || m.Inputs.Definitions == "" {
		t.Errorf("got %+v, %v", m, err)
	}
	raw := must(os.ReadFile("testdata/manifest-v1.json"))
	m, err := Unmarshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	again := must(m.Marshal())
	if !bytes.Equal(again, raw) {
		t.Errorf("written again it is\n%s\nwas\n%s", again, raw)
	}
	for _, damage := range []string{`"rows":3`, `"revision":"sha256:`, `"format":1`} {
		if _, err := Unmarshal(bytes.Replace(raw, []byte(damage), []byte(strings.ToUpper(damage)+"x"), 1)); err == nil {
			t.Errorf("%s was damaged, and it was read", damage)
		}
	}
	if _, err := Unmarshal(bytes.Replace(raw, []byte(`["origin"]`), []byte(`["Origin"]`), 1)); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if _, err := Unmarshal(bytes.Replace(raw, []byte(`{"format":1`), []byte(`{"format":3`), 1)); err == nil || !strings.Contains(err.Error(), "format 3") {
		t.Errorf("got %v", err)
	}
	if !json.Valid(raw) {
		t.Error("not JSON")
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t, 5)
	spine := w.spine(t, ".parquet")
	write := func(content string) files.File {
		path := filepath.Join(t.TempDir(), "s.csv")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return must(files.At(path))
	}
	for _, tc := range []struct {
		name string
		req  Request
		want []string
	}{
		{"missing columns", Request{Selection: resolve(t, false, refs...), Revision: revision(project()), Spine: write("origin,label\nA,1\n")},
			[]string{"the spine lacks event_timestamp (instant, timestamp), ", "carrier (entity key, int64)", "planned (request field, int64)", "; it has origin, label"}},
		{"another instant", Request{Selection: resolve(t, false, refs...), Revision: revision(project()), Spine: spine, Timestamp: "when"}, []string{"the spine lacks when (instant, timestamp)"}},
		{"a clash", Request{Selection: resolve(t, false, refs...), Revision: revision(project()), Spine: write("origin,carrier,planned,event_timestamp,delay\n")},
			[]string{"name clash", `"delay" (of latest)`, "full names"}},
		{"a value", Request{Selection: resolve(t, false, refs...), Revision: revision(project()), Spine: write("origin,carrier,planned,event_timestamp\nA,1,2,2001-01-01\nA,x,2,2001-01-01\n")},
			[]string{"row 1", `column "carrier"`, `want int64, got "x"`}},
		{"two types", Request{Selection: resolve(t, false, refs...), Revision: revision(project()), Spine: spine, Timestamp: "carrier"}, []string{`column "carrier" is wanted as timestamp (instant) and as int64 (entity key)`}},
	} {
		dir := t.TempDir()
		_, err := (&Builder{Store: w.store}).Build(t.Context(), tc.req, filepath.Join(dir, "out.parquet"))
		for _, want := range tc.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v\nwant %s", tc.name, err, want)
			}
		}
		if left := must(os.ReadDir(dir)); len(left) > 0 {
			t.Errorf("%s: left %v", tc.name, left)
		}
	}
	if _, err := (&Builder{Store: w.store}).Build(t.Context(), Request{Selection: resolve(t, false, refs...), Revision: revision(project()), Spine: spine}, "out.xlsx"); !errors.Is(err, files.ErrFormat) {
		t.Errorf("got %v", err)
	}
}

func TestNothingIsLeft(t *testing.T) {
	w := newWorld(t, 100)
	req := Request{Selection: resolve(t, false, refs...), Revision: revision(project()), Spine: w.spine(t, ".parquet")}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx  context.Context
		set  func()
		want error
	}{
		"canceled": {ctx, func() {}, context.Canceled},
		"moved":    {t.Context(), func() { w.store.moves = true }, offline.ErrSnapshotGone},
		"short":    {t.Context(), func() { w.store.moves, w.store.short = false, true }, errRows},
	} {
		if name == "short" {
			w.store.moves = false
		}
		tc.set()
		dir := t.TempDir()
		_, err := (&Builder{Store: w.store}).Build(tc.ctx, req, filepath.Join(dir, "out.parquet"))
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if left := must(os.ReadDir(dir)); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
		w.store.moves, w.store.short = false, false
	}
}

// full is a disk with room for some records.
type full struct{ records int }

var errFull = errors.New("no space left on device")

func (f *full) Write(arrow.Record) error {
	if f.records--; f.records < 0 {
		return errFull
	}
	return nil
}

func (f *full) Close() error { return nil }

// TestDiskFull: what stops the writer stops the build, and is what is told.
func TestDiskFull(t *testing.T) {
	w := newWorld(t, 50_000)
	req := Request{Selection: resolve(t, false, refs...), Revision: revision(project()), Spine: w.spine(t, ".parquet")}
	for records := range 4 {
		run, err := (&Builder{Store: w.store}).Start(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if err := run.writeTo(t.Context(), &full{records}); !errors.Is(err, errFull) {
			t.Errorf("after %d records: %v", records, err)
		}
		if err := run.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestWithoutRoles computes on-demand features of the request alone, and an empty spine.
func TestWithoutRoles(t *testing.T) {
	w := newWorld(t, 10)
	sel := resolve(t, true, "pure")
	run := must((&Builder{Store: &refusing{}}).Start(t.Context(), Request{Selection: sel, Revision: revision(project()), Spine: w.spine(t, ".arrow")}))
	defer func() { _ = run.Close() }()
	if _, err := run.Manifest(); err == nil {
		t.Error("a manifest before the rows were read")
	}
	var n int64
	for rec, err := range run.Records(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !rec.Schema().Equal(run.Schema()) || rec.ColumnName(6) != "pure__twice" {
			t.Errorf("got %s", rec.Schema())
		}
		n += rec.NumRows()
	}
	if m := must(run.Finish(t.Context())); n != 10 || m.Rows != 10 || len(m.Inputs.Tables) != 0 {
		t.Errorf("%d rows, %+v", n, m)
	}
	path := filepath.Join(t.TempDir(), "empty.csv")
	if err := os.WriteFile(path, []byte("planned,event_timestamp\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.parquet")
	if m, err := (&Builder{}).Build(t.Context(), Request{Selection: sel, Revision: revision(project()), Spine: must(files.At(path))}, out); err != nil || m.Rows != 0 {
		t.Errorf("got %+v, %v", m, err)
	}
	s := must(files.OpenSpine(t.Context(), must(files.At(out)), nil))
	if got := s.Schema().Field(2); got.Name != "pure__twice" || got.Type.ID() != arrow.INT64 {
		t.Errorf("got %s", s.Schema())
	}
	_ = s.Close()
}

// refusing is a store that must not be asked.
type refusing struct{ offline.Store }

func (refusing) Refresh(context.Context, registry.ViewGeneration) (offline.TableState, error) {
	return offline.TableState{}, errStore
}
