package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// memory is a log in memory; it counts what is left open.
type memory struct {
	offline.Store
	rows   []string // committed: "values @ version"
	hashes map[string]bool
	clock  int64
	open   int
	before func() error // called by Commit before it does anything
}

type appender struct {
	m    *memory
	at   int64
	rows []string
	done bool
}

func (m *memory) Append(context.Context, *registry.Source, *offline.FileOrigin) (offline.Appender, error) {
	m.clock++
	m.open++
	return &appender{m: m, at: m.clock}, nil
}

func (m *memory) Ingested(_ context.Context, _ *registry.Source, hash string) (bool, error) {
	return m.hashes[hash], nil
}

func (a *appender) IngestedAt() int64 { return a.at }

func (a *appender) Write(_ context.Context, b *feature.Batch) error {
	if len(b.Versions) != b.Rows {
		return errors.New("rows without versions")
	}
	for i := range b.Rows {
		var vs []string
		for _, c := range b.Columns {
			vs = append(vs, c.Value(i).String())
		}
		a.rows = append(a.rows, fmt.Sprintf("%s @ %v", strings.Join(vs, " "), b.Versions[i]))
	}
	return nil
}

func (a *appender) Commit(_ context.Context, o offline.Origin) error {
	if a.m.before != nil {
		if err := a.m.before(); err != nil {
			return err
		}
	}
	if o.File.Hash != "" {
		if a.m.hashes[o.File.Hash] {
			return offline.ErrConflict
		}
		if a.m.hashes == nil {
			a.m.hashes = map[string]bool{}
		}
		a.m.hashes[o.File.Hash] = true
	}
	a.m.rows = append(a.m.rows, a.rows...)
	return nil
}

func (a *appender) Abort() error {
	if !a.done {
		a.done = true
		a.m.open--
	}
	return nil
}

func source(columns ...string) *registry.Source {
	src := &registry.Source{Meta: registry.Meta{Name: "departures"}, Timestamp: "t"}
	for _, c := range columns {
		name, typ, _ := strings.Cut(c, " ")
		t, err := feature.ParseType(typ)
		if err != nil {
			panic(err)
		}
		src.Columns = append(src.Columns, registry.SourceColumn{Field: feature.Field{Name: name, Type: t}})
	}
	return src
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func micros(t *testing.T, s string) int64 {
	t.Helper()
	m, err := feature.ParseTimestamp(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const content = "t,delay\n2001-01-01,1\nyesterday,2\n2001-01-03,\n,4\n2001-01-05,x\n2001-01-06,6\n"

func TestIngest(t *testing.T) {
	m, src, path, q := &memory{}, source("t timestamp", "delay int64"), file(t, "d.csv", content), t.TempDir()
	var done, total int64
	res, err := Ingest(t.Context(), m, src, path, Options{Quarantine: q, Progress: func(d, n int64) { done, total = d, n }})
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(q, "departures", res.Hash+".ndjson")
	if res.Rows != 3 || res.Bad != 3 || res.Skipped || res.Quarantine != kept || done != 6 || total != -1 || m.open != 0 {
		t.Errorf("got %+v, progress %d of %d, %d open", res, done, total, m.open)
	}
	want := []string{
		fmt.Sprintf("%s 1 @ %v", "\"2001-01-01T00:00:00Z\"", feature.Version{EventTime: micros(t, "2001-01-01"), IngestedAt: 1, Major: 0, Minor: 1}),
		fmt.Sprintf("%s null @ %v", "\"2001-01-03T00:00:00Z\"", feature.Version{EventTime: micros(t, "2001-01-03"), IngestedAt: 1, Major: 2, Minor: 1}),
		fmt.Sprintf("%s 6 @ %v", "\"2001-01-06T00:00:00Z\"", feature.Version{EventTime: micros(t, "2001-01-06"), IngestedAt: 1, Major: 5, Minor: 1}),
	}
	if strings.Join(m.rows, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %s\nwant %s", strings.Join(m.rows, "\n"), strings.Join(want, "\n"))
	}
	raw, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	wantQ := strings.ReplaceAll(`{"v":1,"file":FILE,"row":1,"field":"t","reason":"\"yesterday\" is not an instant such as 2006-01-02T15:04:05Z","data":{"t":"yesterday","delay":"2"}}
{"v":1,"file":FILE,"row":3,"field":"t","reason":"the timestamp is missing or null","data":{"t":null,"delay":"4"}}
{"v":1,"file":FILE,"row":4,"field":"delay","reason":"want int64, got \"x\"","data":{"t":"2001-01-05","delay":"x"}}
`, "FILE", fmt.Sprintf("%q", path))
	if string(raw) != wantQ {
		t.Errorf("quarantined\n%s\nwant\n%s", raw, wantQ)
	}

	// The same content under another name is skipped; other content is not.
	again, err := Ingest(t.Context(), m, src, file(t, "other.csv", content), Options{Quarantine: q})
	if err != nil || !again.Skipped || again.Hash != res.Hash || len(m.rows) != 3 {
		t.Errorf("got %+v, %v", again, err)
	}
	more, err := Ingest(t.Context(), m, src, file(t, "more.csv", "t,delay\n2001-02-01,9\n"), Options{Quarantine: q})
	if err != nil || more.Rows != 1 || len(m.rows) != 4 || !strings.HasSuffix(m.rows[3], "2 0 2}") || more.Quarantine != "" {
		t.Errorf("got %+v, %v, %s", more, err, m.rows)
	}
}

// TestBadRowsAfterGoodRuns has a run of rows that are good before one that is not: the reader uses its batches again.
func TestBadRowsAfterGoodRuns(t *testing.T) {
	type row struct {
		T     *int64 `parquet:"t,optional,timestamp(microsecond)"`
		Delay int64  `parquet:"delay"`
	}
	var b bytes.Buffer
	w := parquet.NewGenericWriter[row](&b)
	first, second := int64(1), int64(2)
	for _, group := range [][]row{{{T: &first, Delay: 1}}, {{Delay: 2}, {T: &second, Delay: 3}}, {{T: &second, Delay: 4}}} {
		if _, err := w.Write(group); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil { // a row group
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	m, src := &memory{}, source("t timestamp", "delay int64")
	res, err := Ingest(t.Context(), m, src, file(t, "d.parquet", b.String()), Options{Quarantine: t.TempDir()})
	if err != nil || res.Rows != 3 || res.Bad != 1 {
		t.Fatalf("got %+v, %v", res, err)
	}
	for i, delay := range []int64{1, 3, 4} {
		want := feature.Version{EventTime: min(delay, 2), IngestedAt: 1, Major: []int64{0, 2, 3}[i], Minor: 1}
		if !strings.HasSuffix(m.rows[i], fmt.Sprintf(" %d @ %v", delay, want)) {
			t.Errorf("row %d: got %s, want delay %d, version %v", i, m.rows[i], delay, want)
		}
	}
}

func TestNullKeys(t *testing.T) {
	const content = "t,a,b\n2001-01-01,1,\n2001-01-01,,\n2001-01-01,,2\n2001-01-01,1,2\n"
	a, b := feature.Field{Name: "a", Type: feature.TypeInt64}, feature.Field{Name: "b", Type: feature.TypeInt64}
	for _, c := range []struct {
		what string
		keys [][]feature.Field
		bad  string // rows and their columns
	}{
		{"no view", nil, ""},
		{"one view", [][]feature.Field{{a}}, "1 a 2 a"},
		{"a composite key", [][]feature.Field{{a, b}}, "0 b 1 a 2 a"},
		{"two views: a row that one of them takes stays", [][]feature.Field{{a}, {b}}, "1 b"},
		{"a view without entities takes every row", [][]feature.Field{{a}, {}}, ""},
	} {
		m, q := &memory{}, t.TempDir()
		res, err := Ingest(t.Context(), m, source("t timestamp", "a int64", "b int64"), file(t, "d.csv", content), Options{Quarantine: q, Keys: c.keys})
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		var got []string
		if res.Quarantine != "" {
			raw, err := os.ReadFile(res.Quarantine)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(raw)) {
				var bad struct {
					Row    int
					Field  string
					Reason string
				}
				if err := json.Unmarshal([]byte(line), &bad); err != nil || bad.Reason != "the join key is missing or null" {
					t.Fatalf("%s: %s, %v", c.what, line, err)
				}
				got = append(got, fmt.Sprint(bad.Row, " ", bad.Field))
			}
		}
		if strings.Join(got, " ") != c.bad || int(res.Bad) != len(got) || len(m.rows)+len(got) != 4 {
			t.Errorf("%s: got bad rows %q of %+v, want %q", c.what, got, res, c.bad)
		}
	}
}

// TestQuarantineFixture reads a quarantine file of an earlier release.
func TestQuarantineFixture(t *testing.T) {
	raw, err := os.ReadFile("testdata/quarantine-v1.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(raw) {
		if !bytes.HasPrefix(line, []byte(`{"v":1,`)) {
			t.Errorf("no version at the start of %s", line)
		}
		var row struct {
			File   string          `json:"file"`
			Row    *int64          `json:"row"`
			Reason string          `json:"reason"`
			Data   json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(line, &row); err != nil || row.File == "" || row.Row == nil || row.Reason == "" || row.Data == nil {
			t.Errorf("%v: %s", err, line)
		}
	}
}

func TestStrict(t *testing.T) {
	m, q := &memory{}, t.TempDir()
	res, err := Ingest(t.Context(), m, source("t timestamp", "delay int64"), file(t, "d.csv", content), Options{Quarantine: q, Strict: true})
	var strict *StrictError
	if !errors.As(err, &strict) || strict.Bad != 3 || !strings.Contains(err.Error(), `3 bad rows, so nothing of it was ingested (strict); the first is row 1, column "t": "yesterday"`) {
		t.Fatalf("got %v", err)
	}
	if len(m.rows) != 0 || len(m.hashes) != 0 || m.open != 0 || res.Quarantine == "" {
		t.Errorf("%d rows, %+v", len(m.rows), res)
	}
	if _, err := os.Stat(res.Quarantine); err != nil {
		t.Error(err)
	}
}

func TestDryRun(t *testing.T) {
	m, q := &memory{}, t.TempDir()
	res, err := Ingest(t.Context(), m, source("t timestamp", "delay int64"), file(t, "d.csv", content), Options{Quarantine: q, DryRun: true})
	if err != nil || res.Rows != 3 || res.Bad != 3 || len(m.rows) != 0 || len(m.hashes) != 0 {
		t.Errorf("got %+v, %v, %s", res, err, m.rows)
	}
	if entries, _ := os.ReadDir(q); len(entries) > 0 {
		t.Errorf("a dry run wrote %v", entries)
	}
}

func TestCreated(t *testing.T) {
	m, src := &memory{}, source("t timestamp", "loaded timestamp")
	src.Created = "loaded"
	res, err := Ingest(t.Context(), m, src, file(t, "d.ndjson", `{"t":"2001-01-01","loaded":"2001-01-02"}`+"\n"+`{"t":"2001-01-01"}`), Options{Quarantine: t.TempDir()})
	want := fmt.Sprint(feature.Version{EventTime: micros(t, "2001-01-01"), IngestedAt: micros(t, "2001-01-02"), Major: 0, Minor: 1})
	if err != nil || res.Rows != 1 || res.Bad != 1 || !strings.HasSuffix(m.rows[0], want) {
		t.Errorf("got %+v, %v, %s", res, err, m.rows)
	}
}

func TestNothingIsCommitted(t *testing.T) {
	src := source("t timestamp", "delay int64")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name, file, content string
		ctx                 context.Context
		want                string
	}{
		{"schema", "d.csv", "t,other\n2001-01-01,2\n", t.Context(), `column "delay": it is not in the file`},
		{"empty", "d.csv", "", t.Context(), "is empty (0 bytes)"},
		{"cut off", "d.parquet", "PAR1", t.Context(), "cut off"},
		{"unknown format", "d.xlsx", "x", t.Context(), "d.xlsx"},
		{"canceled", "d.csv", content, ctx, "context canceled"},
	} {
		m, q := &memory{}, t.TempDir()
		_, err := Ingest(tc.ctx, m, src, file(t, tc.file, tc.content), Options{Quarantine: q})
		if err == nil || !strings.Contains(err.Error(), tc.want) || len(m.rows) > 0 || m.open > 0 {
			t.Errorf("%s: got %v, %d rows, %d open; want %s", tc.name, err, len(m.rows), m.open, tc.want)
		}
	}
	var schema *files.SchemaError
	if _, err := Ingest(t.Context(), &memory{}, src, file(t, "d.csv", "t\n"), Options{}); !errors.As(err, &schema) {
		t.Errorf("got %v", err)
	}
}

func TestCommitFails(t *testing.T) {
	src := source("t timestamp", "delay int64")
	boom := errors.New("the disk is full")
	m := &memory{before: func() error { return boom }}
	if _, err := Ingest(t.Context(), m, src, file(t, "d.csv", content), Options{Quarantine: t.TempDir()}); !errors.Is(err, boom) || m.open != 0 {
		t.Errorf("got %v", err)
	}
	// Somebody else commits the same file first.
	m = &memory{hashes: map[string]bool{}}
	path := file(t, "d.csv", content)
	sum, err := hash(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	m.before = func() error { m.hashes[sum] = true; return nil }
	res, err := Ingest(t.Context(), m, src, path, Options{Quarantine: t.TempDir()})
	if err != nil || !res.Skipped || res.Rows != 0 || len(m.rows) != 0 {
		t.Errorf("got %+v, %v", res, err)
	}
}

func TestFileChangesWhileRead(t *testing.T) {
	path := file(t, "d.csv", content)
	m := &memory{}
	_, err := Ingest(t.Context(), m, source("t timestamp", "delay int64"), path, Options{Quarantine: t.TempDir(), Progress: func(int64, int64) {
		if err := os.WriteFile(path, []byte(content+"2001-01-07,7\n"), 0o600); err != nil {
			t.Error(err)
		}
	}})
	if !errors.Is(err, ErrChanged) || len(m.rows) != 0 {
		t.Errorf("got %v, %s", err, m.rows)
	}
}

func TestPush(t *testing.T) {
	m, src := &memory{}, source("t timestamp", "delay int64")
	b := feature.NewBatch(src.Fields(), 2)
	for i := range 2 {
		b.Columns[0].Append(feature.OfTimestamp(int64(100 + i)))
		b.Columns[1].Append(feature.OfInt64(int64(i)))
		b.Rows++
	}
	for n := range 2 { // the same rows again are rows again
		if err := Push(t.Context(), m, src, b); err != nil {
			t.Fatal(err)
		}
		at := int64(n + 1)
		if v := b.Versions[1]; v != (feature.Version{EventTime: 101, IngestedAt: at, Major: 1, Minor: at}) || len(b.Versions) != 2 {
			t.Errorf("got %v", b.Versions)
		}
	}
	if len(m.rows) != 4 || m.open != 0 {
		t.Errorf("%d rows, %d open", len(m.rows), m.open)
	}
	b.Columns[0].AppendNull()
	b.Columns[1].AppendNull()
	b.Rows++
	if err := Push(t.Context(), m, src, b); err == nil || len(m.rows) != 4 {
		t.Errorf("a null timestamp was pushed: %v", err)
	}
}
