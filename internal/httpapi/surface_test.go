package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/offline/files"
)

// openapi.json describes the routes that there are, and no others.
func TestOpenAPIMatchesRoutes(t *testing.T) {
	s := newTestServer(t, Config{}, newCompatEngine(t))
	res := ask(t, s.Handler(), http.MethodGet, "/openapi.json", "")
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string                     `json:"operationId"`
			Responses   map[string]json.RawMessage `json:"responses"`
		} `json:"paths"`
		Components map[string]map[string]json.RawMessage `json:"components"`
	}
	if err := json.Unmarshal(res.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("openapi %q", doc.OpenAPI)
	}
	var described, routed, ids []string
	for path, operations := range doc.Paths {
		for method, op := range operations {
			described = append(described, strings.ToUpper(method)+" "+path)
			ids = append(ids, op.OperationID)
			if _, ok := op.Responses["200"]; !ok {
				t.Errorf("%s %s has no 200", method, path)
			}
		}
	}
	for _, r := range s.table(nil) {
		routed = append(routed, r.method+" "+r.path)
	}
	slices.Sort(described)
	slices.Sort(routed)
	if !slices.Equal(described, routed) {
		t.Errorf("openapi.json has\n%v\nand the router\n%v", described, routed)
	}
	slices.Sort(ids)
	if len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Errorf("an operationId is there twice: %v", ids)
	}
	for _, ref := range strings.Split(res.Body.String(), `"$ref": "#/components/`)[1:] {
		ref, _, _ = strings.Cut(ref, `"`)
		kind, name, _ := strings.Cut(ref, "/")
		if _, ok := doc.Components[kind][name]; !ok {
			t.Errorf("#/components/%s does not exist", ref)
		}
	}
}

func TestPush(t *testing.T) {
	e := newCompatEngine(t)
	var source string
	var pushed []string
	e.push = func(name string, rows [][]byte) (api.PushAnswer, error) {
		source, pushed = name, nil
		answer := api.PushAnswer{Accepted: len(rows)}
		for i, r := range rows {
			pushed = append(pushed, string(r))
			if strings.Contains(string(r), "broken") {
				answer.Rejected = append(answer.Rejected, api.RejectedRow{Row: i, Field: "age", Message: "want an int64"})
			}
		}
		return answer, nil
	}
	s := newTestServer(t, Config{MaxEntities: 3}, e)
	res := ask(t, s.Handler(), http.MethodPost, "/v1/push/customers", `{"rows":[{"customer_id":"a","age":9007199254740993}, {"customer_id":"b\u00e9"}]}`)
	if res.Code != 200 || strings.TrimSpace(res.Body.String()) != `{"accepted":2,"rejected":[]}` {
		t.Errorf("%d %s", res.Code, res.Body)
	}
	if want := []string{`{"customer_id":"a","age":9007199254740993}`, `{"customer_id":"b\u00e9"}`}; source != "customers" || !slices.Equal(pushed, want) {
		t.Errorf("the engine was given %s %v", source, pushed)
	}
	res = ask(t, s.Handler(), http.MethodPost, "/v1/push/customers", `{"rows":[{},{"broken":1},{"broken":2}]}`)
	var rejected struct {
		api.ErrorBody
		api.PushAnswer
	}
	if err := json.Unmarshal(res.Body.Bytes(), &rejected); err != nil {
		t.Fatal(err)
	}
	if res.Code != 400 || rejected.Accepted != 0 || len(rejected.Rejected) != 2 || rejected.Rejected[0].Row != 1 || rejected.Error.Code != "rejected_rows" || rejected.Error.Field != "rows[1].age" {
		t.Errorf("%d %s", res.Code, res.Body)
	}
	for _, tc := range []struct {
		path, body string
		status     int
		code       string
	}{
		{"/v1/push/nobody", `{"rows":[{}]}`, 404, "unknown_source"},
		{"/v1/push/customers", `{"rows":[{},{},{},{}]}`, 413, "too_large"},
		{"/v1/push/customers", `{"rows":[{},[]]}`, 400, "wrong_type"},
		{"/v1/push/customers", `{"rows":{}}`, 400, "wrong_type"},
		{"/v1/push/customers", `[]`, 400, "wrong_type"},
		{"/v1/push/customers", `{}`, 400, "missing_field"},
		{"/v1/push/customers", `{"row":[]}`, 400, "unknown_field"},
		{"/v1/push/customers", `{"rows":[],"rows":[]}`, 400, "duplicate_field"},
		{"/v1/push/customers", `{"rows":[{}]`, 400, "bad_request"},
		{"/v1/push/customers", `{"rows":[{}]}x`, 400, "bad_request"},
	} {
		res := ask(t, s.Handler(), http.MethodPost, tc.path, tc.body)
		if res.Code != tc.status || !strings.Contains(res.Body.String(), `"code":"`+tc.code+`"`) {
			t.Errorf("%s %s: %d %s", tc.path, tc.body, res.Code, res.Body)
		}
	}

	res = ask(t, s.Handler(), http.MethodPost, "/push", `{"push_source_name":"customers","df":{"customer_id":["a","b"],"age":[1,null],"conv_rate":[0.5,2]},"to":"online_and_offline","allow_registry_cache":true}`)
	if want := []string{`{"customer_id":"a","age":1,"conv_rate":0.5}`, `{"customer_id":"b","age":null,"conv_rate":2}`}; res.Code != 200 || res.Body.Len() != 0 || !slices.Equal(pushed, want) {
		t.Errorf("%d %s: the engine was given %v", res.Code, res.Body, pushed)
	}
	for _, tc := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"push_source_name":"nobody","df":{"a":[1]}}`, 422, "PushSourceNotFoundException"},
		{`{"df":{"a":[1]}}`, 422, `"missing"`}, {`{"push_source_name":"customers"}`, 422, `"missing"`}, {`[]`, 422, "model_attributes_type"}, {`{`, 422, "json_invalid"},
		{`{"push_source_name":"customers","df":[]}`, 422, "dict_type"}, {`{"push_source_name":"customers","df":{"a":[1],"b":[]}}`, 400, "same length"},
		{`{"push_source_name":"customers","df":{"a":1}}`, 400, "give lists of values"}, {`{"push_source_name":"customers","df":{"a":[1]},"to":"moon"}`, 400, "moon is not"},
		{`{"push_source_name":"customers","df":{"customer_id":["broken"],"age":[1],"conv_rate":[1]}}`, 400, "want an int64"}, {`{"push_source_name":"customers","df":{"a":[1,2,3,4]}}`, 400, "more than 3"},
	} {
		if res := ask(t, s.Handler(), http.MethodPost, "/push", tc.body); res.Code != tc.status || !strings.Contains(res.Body.String(), tc.want) {
			t.Errorf("%s: %d %s", tc.body, res.Code, res.Body)
		}
	}
}

func TestDatasets(t *testing.T) {
	e := newCompatEngine(t)
	var asked DatasetRequest
	e.build = func(req DatasetRequest) (api.Dataset, error) {
		asked = req
		spine, err := os.ReadFile(req.Spine.Path)
		if err != nil {
			t.Error(err)
		}
		if string(spine) == "bad" {
			return api.Dataset{}, &InputError{Code: api.CodeBadSpine, Field: "driver_id", Message: "the spine lacks driver_id"}
		}
		if err := os.WriteFile(req.Out.Path, append([]byte(req.Out.Format.String()+":"), spine...), 0o600); err != nil {
			t.Error(err)
		}
		return api.Dataset{ID: "sha256:da7a", Rows: 1, Revision: "sha256:c0ffee"}, nil
	}
	dir := t.TempDir()
	s := newTestServer(t, Config{TempDir: dir, MaxSpine: 100}, e)
	res := ask(t, s.Handler(), http.MethodPost, "/v1/datasets?features=driver_stats,%20customer_profile:age&known_at=2026-01-02T00:00:00Z&timestamp=at&name=mine&full_names=true", "a,b\n",
		"Content-Type", "text/csv; charset=utf-8", "Accept", "application/vnd.apache.arrow.stream")
	if res.Code != 200 || res.Body.String() != "Arrow stream:a,b\n" || res.Header().Get("X-Forebay-Dataset") != "sha256:da7a" || res.Header().Get("X-Forebay-Rows") != "1" ||
		res.Header().Get("Content-Type") != api.TypeArrow || res.Header().Get("X-Forebay-Revision") != "sha256:c0ffee" {
		t.Errorf("%d %v %s", res.Code, res.Header(), res.Body)
	}
	if !slices.Equal(asked.Select.Features, []string{"driver_stats", "customer_profile:age"}) || asked.KnownAt == nil || *asked.KnownAt != 1767312000000000 ||
		asked.Timestamp != "at" || asked.Name != "mine" || !asked.Select.FullNames || asked.Spine.Format != files.CSV {
		t.Errorf("the engine was asked for %+v", asked)
	}
	for accept, want := range map[string]string{
		"": "Parquet", "*/*": "Parquet", "text/csv": "CSV", "application/x-ndjson, */*": "NDJSON", "text/csv;q=0.5, application/vnd.apache.parquet;q=0.9": "Parquet",
		"text/html, text/*": "CSV", "application/vnd.apache.arrow.file": "Arrow file", "application/json": "", "text/csv;q=0": "",
	} {
		res := ask(t, s.Handler(), http.MethodPost, "/v1/datasets?service=driver_svc", "x", "Content-Type", api.TypeParquet, "Accept", accept)
		if want == "" {
			if res.Code != http.StatusNotAcceptable {
				t.Errorf("Accept %q: %d", accept, res.Code)
			}
		} else if res.Body.String() != want+":x" {
			t.Errorf("Accept %q: %d %s, want %s", accept, res.Code, res.Body, want)
		}
	}
	for _, tc := range []struct {
		query, media, body string
		status             int
		code               string
	}{
		{"service=driver_svc", "text/html", "x", 415, "unsupported_media_type"},
		{"service=driver_svc", "text/csv", "bad", 400, "bad_spine"},
		{"service=driver_svc", "text/csv", strings.Repeat("x", 101), 413, "too_large"},
		{"", "text/csv", "x", 400, "missing_field"},
		{"service=a&features=b", "text/csv", "x", 400, "bad_request"},
		{"service=a&service=b", "text/csv", "x", 400, "duplicate_field"},
		{"service=a&knownat=now", "text/csv", "x", 400, "unknown_field"},
		{"service=a&known_at=now", "text/csv", "x", 400, "wrong_type"},
		{"service=a&full_names=perhaps", "text/csv", "x", 400, "wrong_type"},
		{"service=%zz", "text/csv", "x", 400, "bad_request"},
	} {
		res := ask(t, s.Handler(), http.MethodPost, "/v1/datasets?"+tc.query, tc.body, "Content-Type", tc.media)
		if res.Code != tc.status || !strings.Contains(res.Body.String(), `"code":"`+tc.code+`"`) {
			t.Errorf("%s: %d %s", tc.query, res.Code, res.Body)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("temporary files were left: %v %v", left, err)
	}

	e.datasets = []api.Dataset{{ID: "sha256:da7a", Name: "mine", Rows: 1, Manifest: json.RawMessage(`{"a":9007199254740993}`)}}
	golden(t, "datasets", ask(t, s.Handler(), http.MethodGet, "/v1/datasets", "").Body.Bytes())
	for _, id := range []string{"sha256:da7a", "sha256%3Ada7a", "mine"} {
		golden(t, "dataset", ask(t, s.Handler(), http.MethodGet, "/v1/datasets/"+id, "").Body.Bytes())
	}
	if res := ask(t, s.Handler(), http.MethodGet, "/v1/datasets/other", ""); res.Code != 404 || !strings.Contains(res.Body.String(), "unknown_dataset") {
		t.Errorf("%d %s", res.Code, res.Body)
	}
	e.datasets = nil
	if res := ask(t, s.Handler(), http.MethodGet, "/v1/datasets", ""); strings.TrimSpace(res.Body.String()) != `{"datasets":[]}` {
		t.Errorf("no datasets: %s", res.Body)
	}
}

func TestRegistry(t *testing.T) {
	s := newTestServer(t, Config{}, newCompatEngine(t))
	golden(t, "registry-services", ask(t, s.Handler(), http.MethodGet, "/v1/registry/feature-services", "").Body.Bytes())
	golden(t, "registry-view", ask(t, s.Handler(), http.MethodGet, "/v1/registry/feature_view/driver_recent", "").Body.Bytes())
	for _, kind := range []string{"entity", "Entity", "source", "FeatureView", "views", "OnDemandFeatureView", "on-demand", "FeatureService", "service"} {
		if res := ask(t, s.Handler(), http.MethodGet, "/v1/registry/"+kind, ""); res.Code != 200 {
			t.Errorf("%s: %d %s", kind, res.Code, res.Body)
		}
	}
	for path, want := range map[string]string{
		"/v1/registry/feature-veiws": `did you mean \"feature-views\"?`, "/v1/registry/views/driver_stat": `did you mean \"driver_stats\"?`, "/v1/registry/sources/none": `no Source`,
	} {
		if res := ask(t, s.Handler(), http.MethodGet, path, ""); res.Code != 404 || !strings.Contains(res.Body.String(), want) {
			t.Errorf("%s: %d %s", path, res.Code, res.Body)
		}
	}
}

func TestReady(t *testing.T) {
	e := newCompatEngine(t)
	s := newTestServer(t, Config{}, e)
	golden(t, "ready", ask(t, s.Handler(), http.MethodGet, "/readyz", "").Body.Bytes())
	e.checks[1] = api.Check{Name: "online", Error: errors.New("redis at 10.0.0.1:6379: connection refused").Error()}
	res := ask(t, s.Handler(), http.MethodGet, "/readyz", "")
	if res.Code != http.StatusServiceUnavailable || res.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v", res.Code, res.Header())
	}
	golden(t, "not-ready", res.Body.Bytes())
}

// An answer that breaks off must not look like a whole one.
func TestHalfAnAnswerIsAborted(t *testing.T) {
	e := newCompatEngine(t)
	e.build = func(req DatasetRequest) (api.Dataset, error) {
		return api.Dataset{}, os.WriteFile(req.Out.Path, []byte("rows"), 0o600)
	}
	s := newTestServer(t, Config{}, e)
	defer func() {
		if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
			t.Errorf("the handler ended with %v", p)
		}
	}()
	req := httptest.NewRequest(http.MethodPost, "/v1/datasets?service=driver_svc", strings.NewReader("x"))
	req.Header.Set("Content-Type", "text/csv")
	s.Handler().ServeHTTP(&brokenWriter{header: http.Header{}}, req)
}

// brokenWriter is a client that goes away after the headers.
type brokenWriter struct{ header http.Header }

func (w *brokenWriter) Header() http.Header       { return w.header }
func (w *brokenWriter) WriteHeader(int)           {}
func (w *brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }
