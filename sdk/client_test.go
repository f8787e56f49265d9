package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"go.uber.org/goleak"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/httpapi"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry/selection"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLookup(t *testing.T) {
	both(t, httpapi.Config{}, func(t *testing.T, e *fakeEngine, c *Client) {
		res, err := c.Lookup(t.Context(), LookupRequest{Features: []string{"v:a", "w"}, FullNames: true, Entities: []Entity{
			{"id": bigID, "x": 0.5}, {"id": json.Number("9007199254740992"), "x": nil}, {"x": float32(1), "id": new(int64)},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if want := (selection.Request{Features: []string{"v:a", "w"}, FullNames: true}); !reflect.DeepEqual(e.asked, want) {
			t.Errorf("asked for %+v", e.asked)
		}
		if res.Len() != 3 || res.Revision != "sha256:1" || !res.Instant.Equal(time.Unix(1767323046, 0)) || len(res.Features()) != len(outputs) {
			t.Errorf("%+v", res)
		}
		row := res.Row(0)
		for _, check := range []struct{ got, ok, want any }{
			two(row.Int64("i")).want(int64(-bigID)), two(row.Float64("f")).want(3.0), two(row.Bool("b")).want(true), two(row.String("s")).want("zoë \"🚚\"\n"),
			two(row.Bytes("y")).want([]byte{0, 1, 255}), two(row.Timestamp("t")).want(time.UnixMicro(1767323045678901).UTC()),
			two(row.Int64s("li")).want([]int64{1, bigID}), two(row.Strings("ls")).want([]string{`a"b`, ""}), two(row.Float64s("e")).want([]float64{0.5, -1}),
			two(row.Value("i")).want(int64(-bigID)), two(row.Value("f")).want(3.0), two(row.Value("b")).want(true), two(row.Value("li")).want([]any{int64(1), int64(bigID)}),
			two(row.EventTime("i")).want(time.UnixMicro(1767323045500000).UTC()), two(row.Float64("i")).want(float64(-bigID)),
		} {
			if check.ok != true || !reflect.DeepEqual(check.got, check.want) {
				t.Errorf("got %#v, %v; want %#v", check.got, check.ok, check.want)
			}
		}
		if v, ok := row.Float64("nan"); !ok || !math.IsNaN(v) {
			t.Errorf("nan is %v, %t", v, ok)
		}
		for _, name := range []string{"null", "invalid", "no such feature", "s", "f"} {
			if v, ok := row.Int64(name); ok {
				t.Errorf("%s is the int64 %d", name, v)
			}
		}
		for name, want := range map[string]Status{"i": Present, "null": NullValue, "invalid": Invalid, "no such feature": ""} {
			if got := row.Status(name); got != want {
				t.Errorf("%s is %s, want %s", name, got, want)
			}
		}
		for i := 1; i < 3; i++ {
			if _, ok := res.Row(i).EventTime("i"); ok || res.Row(i).Status("i") != NotFound {
				t.Errorf("row %d: %s", i, res.Row(i).Status("i"))
			}
		}
		res, err = c.Lookup(t.Context(), LookupRequest{Service: "all", OmitStatuses: true, OmitEventTimes: true, Entities: []Entity{{"id": bigID, "x": 1}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := res.Row(0).EventTime("i"); ok || res.Row(0).Status("i") != "" {
			t.Error("what was omitted is there")
		}
		if v, ok := res.Row(0).Int64("i"); !ok || v != -bigID {
			t.Errorf("%d %t", v, ok)
		}
		if res, err := c.Lookup(t.Context(), LookupRequest{Service: "all"}); err != nil || res.Len() != 0 {
			t.Errorf("no entities: %v %v", res, err)
		}
	})
}

type pair struct{ got, ok any }

func two[T any](v T, ok bool) pair { return pair{v, ok} }

func (p pair) want(v any) struct{ got, ok, want any } {
	return struct{ got, ok, want any }{p.got, p.ok, v}
}

func TestScan(t *testing.T) {
	both(t, httpapi.Config{}, func(t *testing.T, _ *fakeEngine, c *Client) {
		res, err := c.Lookup(t.Context(), LookupRequest{Service: "all", Entities: []Entity{{"id": bigID, "x": 1}, {"id": 1, "x": 1}}})
		if err != nil {
			t.Fatal(err)
		}
		type inner struct {
			F *float64 `forebay:"f"`
		}
		type row struct {
			inner
			I      int64      `forebay:"i"`
			IP     *int64     `forebay:"i"`
			B      bool       `forebay:"b"`
			S      string     `forebay:"s"`
			Y      []byte     `forebay:"y"`
			T      time.Time  `forebay:"t"`
			LI     []int64    `forebay:"li"`
			E      []float32  `forebay:"e"`
			N      *int32     `forebay:"null"`
			Any    any        `forebay:"s"`
			Why    Status     `forebay:"null,status"`
			At     time.Time  `forebay:"i,event_timestamp"`
			AtP    *time.Time `forebay:"i,event_timestamp"`
			Other  string
			unseen int
		}
		rows := []row{{Other: "before"}}
		if err := res.Scan(&rows); err != nil {
			t.Fatal(err)
		}
		at := time.UnixMicro(1767323045500000).UTC()
		i, f := int64(-bigID), 3.0
		want := []row{
			{inner{&f}, i, &i, true, "zoë \"🚚\"\n", []byte{0, 1, 255}, time.UnixMicro(1767323045678901).UTC(), []int64{1, bigID}, []float32{0.5, -1}, nil, "zoë \"🚚\"\n", NullValue, at, &at, "", 0},
			{Why: NotFound},
		}
		if !reflect.DeepEqual(rows, want) {
			t.Errorf("got %+v\nwant %+v", rows, want)
		}
		var pointers []*struct {
			I int64 `forebay:"i"`
		}
		if err := res.Scan(&pointers); err != nil || len(pointers) != 2 || pointers[0].I != -bigID {
			t.Errorf("%v %v", pointers, err)
		}
		for want, dest := range map[string]any{
			"want a pointer to a slice": rows, "want a pointer to a slice of structs": &[]int{},
			`no feature "nul"; did you mean "null"?`: &[]struct {
				I int64 `forebay:"nul"`
			}{},
			"does not go into a int64": &[]struct {
				F int64 `forebay:"s"`
			}{},
			"it does not fit": &[]struct {
				I int8 `forebay:"i"`
			}{},
			"want status or event_timestamp": &[]struct {
				I int8 `forebay:"i,omitempty"`
			}{},
			"not exported": &[]struct {
				i int64 `forebay:"i"`
			}{},
		} {
			if err := res.Scan(dest); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Scan into %T: %v; want %s", dest, err, want)
			}
		}
	})
}

func TestErrors(t *testing.T) {
	both(t, httpapi.Config{}, func(t *testing.T, _ *fakeEngine, c *Client) {
		for _, tc := range []struct {
			req  LookupRequest
			want Error
		}{
			{LookupRequest{Service: "none", Entities: []Entity{{}}}, Error{Code: "unknown_service", Message: `no service "none"`, Field: "service", Status: 404}},
			{LookupRequest{Service: "all", Entities: []Entity{{"id": 1}}}, Error{Code: "missing_field", Field: "entities[0].x", Status: 400}},
			{LookupRequest{Service: "all", Entities: []Entity{{"id": "1", "x": 1}}}, Error{Code: "wrong_type", Field: "entities[0].id", Status: 400}},
			{LookupRequest{Service: "all", Entities: []Entity{{"id": 1.5, "x": 1}}}, Error{Code: "wrong_type", Field: "entities[0].id", Status: 400}},
		} {
			_, err := c.Lookup(t.Context(), tc.req)
			var got *Error
			if !errors.As(err, &got) {
				t.Errorf("%v is no *Error", err)
				continue
			}
			if got.Code != tc.want.Code || got.Field != tc.want.Field || got.Status != tc.want.Status || got.RequestID == "" || !strings.Contains(got.Message, tc.want.Message) {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		}
		for _, req := range []LookupRequest{
			{}, {Service: "a", Features: []string{"b"}}, {Service: "all", Entities: []Entity{{"id": struct{}{}}}}, {Service: "all", Entities: []Entity{{"id": uint64(math.MaxUint64)}}},
			{Service: "all", Entities: []Entity{{"id": []any{make(chan int)}}}}, {Service: "all", Entities: []Entity{{"id": json.Number("1e")}}}, {Service: "all", Entities: []Entity{{"id": time.Time{}.AddDate(20000, 0, 0)}}},
		} {
			if _, err := c.Lookup(t.Context(), req); err == nil || errors.As(err, new(*Error)) {
				t.Errorf("%+v: %v", req, err)
			}
		}
	})
}

func TestRetries(t *testing.T) {
	both(t, httpapi.Config{}, func(t *testing.T, e *fakeEngine, c *Client) {
		c.timeout, c.retries = 20*time.Second, 1
		e.away.Store(1)
		req := LookupRequest{Service: "all", Entities: []Entity{{"id": 1, "x": 1}}}
		if _, err := c.Lookup(t.Context(), req); err != nil {
			t.Errorf("a store that was away for a moment: %v", err)
		}
		e.away.Store(100)
		c.timeout = 100 * time.Millisecond // the server asks to wait a second: there is no time for that
		start, before := time.Now(), e.lookups.Load()
		_, err := c.Lookup(t.Context(), req)
		var got *Error
		if !errors.As(err, &got) || got.Code != "unavailable" || got.Status != 503 {
			t.Errorf("%v", err)
		}
		if took := time.Since(start); took > 5*time.Second || e.lookups.Load() != before+1 {
			t.Errorf("gave up after %s and %d attempts", took, e.lookups.Load()-before)
		}
	})
}

// A connection that breaks is no reason to push twice, but to look up again.
func TestConnectionErrors(t *testing.T) {
	calls := 0
	broken := roundTripper(func(req *http.Request) (*http.Response, error) {
		calls++
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, err
		}
		return nil, errors.New("connection reset")
	})
	c, err := New("http://x", WithTransport(broken), WithRetries(3), WithTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lookup(t.Context(), LookupRequest{Service: "all"}); err == nil || !strings.Contains(err.Error(), "connection reset") || calls != 4 {
		t.Errorf("%v after %d calls", err, calls)
	}
	calls = 0
	if _, err := c.Push(t.Context(), "s", nil); err == nil || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls = 0
	if _, err := c.Lookup(ctx, LookupRequest{Service: "all"}); err == nil || calls > 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Something that is no Forebay answers.
func TestStrangers(t *testing.T) {
	for _, tc := range []struct {
		status     int
		body, want string
	}{
		{502, "<html>bad gateway</html>", "http_502"}, {200, "hello", "cannot be read"}, {200, `{"features":["a"],"rows":[]}`, "0 rows for 1"},
		{200, `{"rows":[]}`, "rows before features"}, {200, `{"features":["a"],"rows":[{"values":[]}]}`, "0 values for 1 features"}, {200, `{"features":["a"],"rows":[{"values":[1,2]}]}`, "more values"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		}))
		c, err := New(server.URL, WithRetries(0))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Lookup(t.Context(), LookupRequest{Service: "all", Entities: []Entity{{}}}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%d %s: %v", tc.status, tc.body, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		server.Close()
	}
	for _, bad := range []string{"", "localhost:6566", "ftp://x", "http://", "http://x/?a=b", "http://x\x00"} {
		if _, err := New(bad); err == nil {
			t.Errorf("New(%q) worked", bad)
		}
	}
	if _, err := New("http://x", Environment("local")); err == nil {
		t.Error("New took an Environment")
	}
	if _, err := Open(".", WithAPIKey("k")); err == nil {
		t.Error("Open took an API key")
	}
}

func TestAPIKey(t *testing.T) {
	server := httptest.NewServer(fakeHandler(t, &fakeEngine{}, httpapi.Config{APIKeys: []string{"k"}}))
	defer server.Close()
	for key, want := range map[string]bool{"k": true, "": false, "wrong": false} {
		c, err := New(server.URL, WithAPIKey(key))
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Lookup(t.Context(), LookupRequest{Service: "all"})
		var e *Error
		if (err == nil) != want || err != nil && (!errors.As(err, &e) || e.Code != "unauthorized") {
			t.Errorf("key %q: %v", key, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPush(t *testing.T) {
	both(t, httpapi.Config{}, func(t *testing.T, e *fakeEngine, c *Client) {
		type named string
		s := "x"
		done, err := c.Push(t.Context(), "events/a b", []Values{
			{"i": bigID, "f": 1.0, "nan": math.Inf(1), "t": time.Unix(0, 1500000000), "b": []byte{1}, "p": &s, "n": (*int)(nil), "name": named("y")},
			{"u": uint8(7), "l": []string{"a", "b"}, "e": []float32{0.1}, "none": []int(nil), "ts": []time.Time{time.Unix(0, 0)}, "mixed": []any{1, nil, "z"}},
		})
		if err != nil || done.Accepted != 2 {
			t.Fatalf("%+v %v", done, err)
		}
		want := []string{
			`{"b":"AQ==","f":1.0,"i":9007199254740993,"n":null,"name":"y","nan":"Infinity","p":"x","t":"1970-01-01T00:00:01.5Z"}`,
			`{"e":[0.1],"l":["a","b"],"mixed":[1,null,"z"],"none":null,"ts":["1970-01-01T00:00:00Z"],"u":7}`,
		}
		if !slices.Equal(e.pushed, want) {
			t.Errorf("pushed\n%v\nwant\n%v", e.pushed, want)
		}
		_, err = c.Push(t.Context(), "events/a b", []Values{{}, {"bad": 1}})
		var rejected *Error
		if !errors.As(err, &rejected) || rejected.Code != "rejected_rows" || !reflect.DeepEqual(rejected.Rejected, []RejectedRow{{1, "bad", "want something else"}}) {
			t.Errorf("%+v", err)
		}
		if _, err = c.Push(t.Context(), "other", nil); !errors.As(err, &rejected) || rejected.Code != "unknown_source" {
			t.Errorf("%v", err)
		}
	})
}

func TestBuildDataset(t *testing.T) {
	both(t, httpapi.Config{}, func(t *testing.T, e *fakeEngine, c *Client) {
		var asked httpapi.DatasetRequest
		var spine []byte
		e.build = func(req httpapi.DatasetRequest) (api.Dataset, error) {
			asked = req
			var err error
			if spine, err = os.ReadFile(req.Spine.Path); err != nil {
				return api.Dataset{}, err
			}
			if len(spine) == 0 {
				return api.Dataset{}, &httpapi.InputError{Code: api.CodeBadSpine, Message: "the spine is empty"}
			}
			return api.Dataset{ID: "sha256:da7a", Rows: 3, Revision: "sha256:1"}, writeRecords(req.Out.Path)
		}
		dir := t.TempDir()
		t.Setenv("TMPDIR", dir)
		path := filepath.Join(dir, "spine.csv")
		if err := os.WriteFile(path, []byte("id,event_timestamp\n1,2026-01-01\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		knownAt := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
		d, err := c.BuildDataset(t.Context(), DatasetRequest{Features: []string{"v:a", "w"}, Spine: CSVFile(path), KnownAt: knownAt, Timestamp: "at", Name: "n", FullNames: true})
		if err != nil {
			t.Fatal(err)
		}
		if d.ID() != "sha256:da7a" || d.Rows() != 3 || d.Revision() != "sha256:1" {
			t.Errorf("%+v", d)
		}
		if !slices.Equal(asked.Select.Features, []string{"v:a", "w"}) || !asked.Select.FullNames || asked.Timestamp != "at" || asked.Name != "n" ||
			*asked.KnownAt != knownAt.UnixMicro() || asked.Spine.Format != files.CSV || !strings.HasPrefix(string(spine), "id,") {
			t.Errorf("asked for %+v with %q", asked, spine)
		}
		var ids []int64
		for rec, err := range d.Records() {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, rec.Column(0).(*array.Int64).Int64Values()...)
		}
		if !slices.Equal(ids, []int64{1, bigID, 3}) {
			t.Errorf("records have %v", ids)
		}
		for range d.Records() { // stopping early leaves nothing open
			break
		}
		for name, write := range map[string]func(string) error{"out.csv": d.WriteCSV, "out.parquet": d.WriteParquet, "out.arrow": d.WriteArrow} {
			out := filepath.Join(dir, name)
			if err := os.WriteFile(out, []byte("what was there before"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := write(out); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"out.csv": "id,mean,emb\n1,0.5,\"[1.0,2.0]\"\n9007199254740993,,\n3,-1.0,\"[0.25,0.0]\"\n", "out.parquet": "PAR1", "out.arrow": "\xff\xff\xff\xff"}[name]
			if !bytes.HasPrefix(got, []byte(want)) || name == "out.csv" && string(got) != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if err := d.WriteCSV(filepath.Join(dir, "no", "such", "folder.csv")); err == nil {
			t.Error("wrote into a folder that is not there")
		}
		for range 2 {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
		for _, err := range d.Records() {
			if err == nil {
				t.Error("read after Close")
			}
		}
		if d, err := c.BuildDataset(t.Context(), DatasetRequest{Service: "all", Spine: ArrowStream(strings.NewReader("stream"))}); err != nil || asked.Spine.Format != files.ArrowStream || string(spine) != "stream" {
			t.Errorf("%v: %+v %q", err, asked, spine)
		} else if err := d.Close(); err != nil {
			t.Error(err)
		}
		empty := filepath.Join(dir, "empty.ndjson")
		if err := os.WriteFile(empty, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var refused *Error
		if _, err := c.BuildDataset(t.Context(), DatasetRequest{Service: "all", Spine: NDJSONFile(empty)}); !errors.As(err, &refused) || refused.Code != "bad_spine" {
			t.Errorf("%v", err)
		}
		for _, bad := range []DatasetRequest{{Service: "all"}, {Spine: CSVFile(path)}, {Service: "a", Features: []string{"b"}, Spine: CSVFile(path)}, {Service: "a", Spine: ParquetFile("/no/such/file")}} {
			if _, err := c.BuildDataset(t.Context(), bad); err == nil {
				t.Errorf("%+v was built", bad)
			}
		}
		left, err := filepath.Glob(filepath.Join(dir, "forebay-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("temporary files were left: %v %v", left, err)
		}
	})
}

// writeRecords writes what the fake engine joins.
func writeRecords(path string) error {
	emb := arrow.FixedSizeListOfField(2, arrow.Field{Name: "element", Type: arrow.PrimitiveTypes.Float32})
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "mean", Type: arrow.PrimitiveTypes.Float64, Nullable: true}, {Name: "emb", Type: emb, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).AppendValues([]int64{1, bigID, 3}, nil)
	b.Field(1).(*array.Float64Builder).AppendValues([]float64{0.5, 0, -1}, []bool{true, false, true})
	lists := b.Field(2).(*array.FixedSizeListBuilder)
	for _, v := range [][]float32{{1, 2}, nil, {0.25, 0}} {
		if v == nil {
			lists.AppendNull()
			continue
		}
		lists.Append(true)
		lists.ValueBuilder().(*array.Float32Builder).AppendValues(v, nil)
	}
	rec := b.NewRecord()
	defer rec.Release()
	out, err := files.Create(path, schema)
	if err != nil {
		return err
	}
	if err := out.Write(rec); err != nil {
		return errors.Join(err, out.Abort())
	}
	return out.Commit()
}

// The in-process transport is an http.RoundTripper like others.
func TestHandlerTransport(t *testing.T) {
	half := handlerTransport{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		panic(http.ErrAbortHandler)
	})}
	client := &http.Client{Transport: half}
	res, err := client.Get("http://x/")
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); string(body) != "half" || err == nil {
		t.Errorf("%q, %v", body, err)
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}

	began := make(chan struct{})
	endless := handlerTransport{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
	})}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://x/", nil)
		if err != nil {
			t.Error(err)
			return
		}
		if res, err := endless.RoundTrip(req); !errors.Is(err, context.Canceled) {
			t.Errorf("%v %v", res, err)
		}
	})
	<-began
	cancel()
	wg.Wait()

	unread := handlerTransport{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 1000 {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
		t.Error("all of it was written to somebody who does not read")
	})}
	res, err = (&http.Client{Transport: unread}).Get("http://x/")
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
}
