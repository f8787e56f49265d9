package httpapi

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry/feature"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// ask sends a JSON body.
func ask(t testing.TB, h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res := httptest.NewRecorder()
	h.ServeHTTP(res, req)
	return res
}

// golden compares an answer with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, got, "", " "); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	path := filepath.Join("testdata", "golden", name+".json")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pretty.Bytes(), want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, pretty.Bytes(), want)
	}
}

func TestFeatures(t *testing.T) {
	s := newTestServer(t, Config{}, newStoreEngine(t))
	for _, tc := range []struct{ name, body string }{
		{"service", `{"service":"driver_svc","entities":[{"driver_id":1001},{"driver_id":1003}]}`},
		{"entities before the service", `{"entities":[{"driver_id":1001}], "full_names":true, "service":"driver_svc"}`},
		{"all types", `{"features":["driver_stats","driver_types"],"entities":[{"driver_id":1001},{"driver_id":1002},{"driver_id":1003},{"driver_id":1004},{"driver_id":1005},{"driver_id":1007}]}`},
		{"statuses", `{"features":["driver_recent","driver_stats:label"],"entities":[{"driver_id":1001},{"driver_id":1002},{"driver_id":424242},{"driver_id":null}]}`},
		{"omitted", `{"service":"driver_svc","omit":["statuses","event_timestamps"],"entities":[{"driver_id":1001}]}`},
		{"omitted timestamps", `{"service":"driver_svc","omit":["event_timestamps"],"entities":[{"driver_id":1001}]}`},
		{"no entities", `{"service":"driver_svc","entities":[]}`},
		{"composite key and on demand", `{"features":["pair_stats","trip_math","customer_profile:age"],"entities":[{"driver_id":1001,"customer_id":"c-1","bonus":0.5},{"bonus":null,"customer_id":"12","driver_id":1}]}`},
		{"renamed key", `{"service":"courier_svc","entities":[{"courier_id":1006},{"courier_id":1001},{"courier_id":1006}]}`},
		{"escapes in the request", "{\"ser\\u0076ice\":\"driver\\u005fsvc\",\"entities\":[\n{\"dri\\u0076er_id\":1001 }\t]}\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, tc.body)
			if res.Code != http.StatusOK {
				t.Fatalf("%d: %s", res.Code, res.Body)
			}
			if got := res.Header().Get("Content-Type"); got != api.TypeJSON {
				t.Errorf("Content-Type %q", got)
			}
			golden(t, strings.ReplaceAll(tc.name, " ", "-"), res.Body.Bytes())
		})
	}
}

// An int64 is never a float on its way: not as a key, not as a value.
func TestInt64StaysWhole(t *testing.T) {
	const big = 9007199254740993 // 2^53 + 1
	e := newCompatEngine(t)
	key := feature.AppendKey(nil, feature.OfInt64(big), true)
	e.tables["driver_stats"][string(key)] = memoryRow{values: []feature.Value{{}, feature.OfInt64(-big), {}, {}}}
	s := newTestServer(t, Config{}, e)
	for path, body := range map[string]string{
		"/v1/features":         `{"features":["driver_stats:trips"],"entities":[{"driver_id":9007199254740993},{"driver_id":9007199254740992}]}`,
		"/get-online-features": `{"features":["driver_stats:trips"],"entities":{"driver_id":[9007199254740993,"9007199254740993",9007199254740992]}}`,
	} {
		res := ask(t, s.Handler(), http.MethodPost, path, body)
		if res.Code != http.StatusOK || !strings.Contains(res.Body.String(), "-9007199254740993") || strings.Count(res.Body.String(), "NOT_FOUND") != 1 {
			t.Errorf("%s: %d %s", path, res.Code, res.Body)
		}
	}
}

// TestMembersInAnyOrder: what a lookup answers does not depend on how its body is ordered and escaped.
func TestMembersInAnyOrder(t *testing.T) {
	s := newTestServer(t, Config{}, newStoreEngine(t))
	members := []string{`"service":"driver_svc"`, `"entities":[{"driver_id":1001},{"driver_id":1003}]`, `"full_names":true`, `"omit":["event_timestamps"]`}
	var want string
	for _, escaped := range []bool{false, true} {
		for _, order := range [][]int{{0, 1, 2, 3}, {0, 1, 3, 2}, {1, 0, 2, 3}, {2, 3, 0, 1}, {3, 2, 1, 0}, {0, 2, 1, 3}, {1, 2, 3, 0}} {
			var parts []string
			for _, i := range order {
				parts = append(parts, members[i])
			}
			body := "{" + strings.Join(parts, ",") + "}"
			if escaped {
				body = strings.ReplaceAll(body, "driver_id", `driver\u005fid`)
			}
			res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, body)
			if want == "" {
				want = res.Body.String()
			}
			if res.Code != http.StatusOK || !strings.Contains(want, "driver_stats__") || res.Body.String() != want {
				t.Errorf("%s: %d %s\nwant %s", body, res.Code, res.Body, want)
			}
		}
	}
}

func TestFeaturesMistakes(t *testing.T) {
	s := newTestServer(t, Config{MaxEntities: 3, MaxBody: 2000}, newCompatEngine(t))
	const ok = `"entities":[{"driver_id":1001}]`
	for _, tc := range []struct {
		name, body  string
		status      int
		code, field string
		message     string // part of it
	}{
		{"not JSON", `hello`, 400, "bad_request", "", `'h' where a value should begin at byte 0`},
		{"nothing", ``, 400, "bad_request", "", "ends too early"},
		{"cut off", `{"service":"driver_svc","entities":[{"driver_id":10`, 400, "bad_request", "", "ends too early"},
		{"an array", `[]`, 400, "wrong_type", "", "the body: want an object, got an array"},
		{"something after it", `{"service":"driver_svc",` + ok + `} {}`, 400, "bad_request", "", "after the end"},
		{"invalid UTF-8", "{\"service\":\"driver\xff_svc\"," + ok + "}", 400, "bad_request", "", "invalid UTF-8 at byte 18"},
		{"deep", `{"entities":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `,"service":"driver_svc"}`, 400, "bad_request", "", "nested more than 63 deep"},
		{"deep where the type is known", `{"service":"driver_svc","entities":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`, 400, "wrong_type", "entities[0]", "want an object, got an array"},
		{"cut off where the type is known", `{"service":"driver_svc","entities":[{"driver_id":1},{"driver_id":`, 400, "bad_request", "", "ends too early"},
		{"bad JSON in an entity", `{"service":"driver_svc","entities":[{"driver_id":01}]}`, 400, "bad_request", "", "at byte 50"},
		{"unknown field", `{"servcie":"driver_svc",` + ok + `}`, 400, "unknown_field", "servcie", `did you mean "service"?`},
		{"unknown field, nothing near", `{"x":1,` + ok + `}`, 400, "unknown_field", "x", `known are "service", "features"`},
		{"a field twice", `{"service":"driver_svc","service":"wide_svc",` + ok + `}`, 400, "duplicate_field", "service", "twice"},
		{"no entities", `{"service":"driver_svc"}`, 400, "missing_field", "entities", `lacks "entities"`},
		{"neither service nor features", `{` + ok + `}`, 400, "missing_field", "service", "neither"},
		{"no features", `{"features":[],` + ok + `}`, 400, "missing_field", "service", "neither"},
		{"service and features", `{"service":"driver_svc","features":["driver_stats"],` + ok + `}`, 400, "bad_request", "features", "one of them"},
		{"empty service", `{"service":"",` + ok + `}`, 400, "bad_request", "service", "empty"},
		{"service of a wrong type", `{"service":7,` + ok + `}`, 400, "wrong_type", "service", "service: want a string, got a number"},
		{"features of a wrong type", `{"features":"driver_stats",` + ok + `}`, 400, "wrong_type", "features", "want an array, got a string"},
		{"a feature of a wrong type", `{"features":["driver_stats",null],` + ok + `}`, 400, "wrong_type", "features[1]", "want a string, got null"},
		{"full_names of a wrong type", `{"service":"driver_svc","full_names":"yes",` + ok + `}`, 400, "wrong_type", "full_names", "want true"},
		{"omit of what cannot be", `{"service":"driver_svc","omit":["status"],` + ok + `}`, 400, "bad_request", "omit", `did you mean "statuses"?`},
		{"entities of a wrong type", `{"service":"driver_svc","entities":{"driver_id":1001}}`, 400, "wrong_type", "entities", "want an array of objects, got an object"},
		{"an entity of a wrong type", `{"service":"driver_svc","entities":[{"driver_id":1},[]]}`, 400, "wrong_type", "entities[1]", "want an object, got an array"},
		{"unknown service", `{"service":"driver_scv",` + ok + `}`, 404, "unknown_service", "service", `did you mean "driver_svc"?`},
		{"unknown view", `{"features":["driver_stat:trips"],` + ok + `}`, 404, "unknown_view", "features", `did you mean "driver_stats"?`},
		{"unknown feature", `{"features":["driver_stats:trip"],` + ok + `}`, 404, "unknown_feature", "features", `did you mean "trips"?`},
		{"bad reference", `{"features":["driver_stats:trips:x"],` + ok + `}`, 400, "bad_reference", "features", "want view"},
		{"pinned generation that is not", `{"features":["driver_stats@9:trips"],` + ok + `}`, 404, "unknown_view", "features", "generation 9"},
		{"name clash", `{"features":["driver_stats:conv_rate","customer_profile:conv_rate"],"entities":[]}`, 400, "name_clash", "features", "full names"},
		{"missing key", `{"service":"driver_svc","entities":[{"driver_id":1},{}]}`, 400, "missing_key", "entities[1].driver_id", `entities[1] lacks the key "driver_id" (int64)`},
		{"missing request field", `{"service":"math_svc","entities":[{"driver_id":1}]}`, 400, "missing_field", "entities[0].bonus", `request field "bonus"`},
		{"unknown entity field", `{"service":"driver_svc","entities":[{"driver_idd":1}]}`, 400, "unknown_field", "entities[0].driver_idd", `did you mean "driver_id"?`},
		{"entity field twice", `{"service":"driver_svc","entities":[{"driver_id":1,"driver_id":1}]}`, 400, "duplicate_field", "entities[0].driver_id", "twice"},
		{"int64 as a string", `{"service":"driver_svc","entities":[{"driver_id":"1001"}]}`, 400, "wrong_type", "entities[0].driver_id", "want an int64, got a string"},
		{"int64 with a fraction", `{"service":"driver_svc","entities":[{"driver_id":1001.0}]}`, 400, "wrong_type", "entities[0].driver_id", "got 1001.0, which is not a whole number"},
		{"int64 too large", `{"service":"driver_svc","entities":[{"driver_id":9223372036854775808}]}`, 400, "wrong_type", "entities[0].driver_id", "out of range"},
		{"huge number", `{"service":"driver_svc","entities":[{"driver_id":` + strings.Repeat("9", 900) + `}]}`, 400, "wrong_type", "entities[0].driver_id", "out of range"},
		{"float64 too large", `{"service":"math_svc","entities":[{"driver_id":1,"bonus":1e999}]}`, 400, "wrong_type", "entities[0].bonus", "out of range"},
		{"string as a number", `{"features":["customer_profile:age"],"entities":[{"customer_id":12}]}`, 400, "wrong_type", "entities[0].customer_id", "want a string, got a number"},
		{"too many entities", `{"service":"driver_svc","entities":[{"driver_id":1},{"driver_id":1},{"driver_id":1},{"driver_id":1}]}`, 413, "too_many_entities", "", "more than 3 entities"},
		{"too large", `{"service":"driver_svc","entities":[]` + strings.Repeat(" ", 2000) + `}`, 413, "too_large", "", "more than 2000 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, tc.body)
			var got api.ErrorBody
			if err := json.Unmarshal(res.Body.Bytes(), &got); err != nil {
				t.Fatalf("%v: %s", err, res.Body)
			}
			if res.Code != tc.status || got.Error.Code != tc.code || got.Error.Field != tc.field || !strings.Contains(got.Error.Message, tc.message) {
				t.Errorf("got %d %+v\nwant %d %s %q …%s…", res.Code, got.Error, tc.status, tc.code, tc.field, tc.message)
			}
		})
	}
	res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, `{}`, "Content-Type", "text/plain")
	if res.Code != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain: %d", res.Code)
	}
	res = ask(t, s.Handler(), http.MethodPost, api.PathFeatures, `{"service":"driver_svc",`+ok+`}`, "Content-Type", "application/json; charset=UTF-8")
	if res.Code != http.StatusOK {
		t.Errorf("with a charset: %d %s", res.Code, res.Body)
	}
}

// A key of the request's fields that is a join key as well fills both.
func TestSharedKeyAndRequestField(t *testing.T) {
	e := newCompatEngine(t)
	od := &e.revision.Project.OnDemand[0]
	od.Request = fields("driver_id:int64")
	od.Features = od.Features[:1]
	od.Features[0].Field, od.Features[0].Expr = fields("sum:int64")[0], "driver_stats.trips + driver_id"
	s := newTestServer(t, Config{}, e)
	for path, body := range map[string]string{
		"/v1/features":         `{"features":["trip_math:sum"],"entities":[{"driver_id":1001}]}`,
		"/get-online-features": `{"features":["trip_math:sum"],"entities":{"driver_id":[1001]}}`,
	} {
		if res := ask(t, s.Handler(), http.MethodPost, path, body); res.Code != 200 || !strings.Contains(res.Body.String(), "[1008]") {
			t.Errorf("%s: %d %s", path, res.Code, res.Body)
		}
	}
}

// The memory of one request must not show up in the next.
func TestStateIsNotShared(t *testing.T) {
	s := newTestServer(t, Config{}, newCompatEngine(t))
	bodies := []struct{ path, body string }{
		{"/v1/features", `{"service":"wide_svc","entities":[{"driver_id":1001,"customer_id":"c-1"},{"driver_id":1,"customer_id":"12"}]}`},
		{"/v1/features", `{"service":"driver_svc","entities":[{"driver_id":null}]}`},
		{"/v1/features", `{"features":["customer_profile"],"entities":[{"customer_id":"zoë 🚚"}]}`},
		{"/get-online-features", `{"feature_service":"wide_svc","entities":{"driver_id":[1001],"customer_id":["c-1"]}}`},
		{"/get-online-features", `{"feature_service":"courier_svc","entities":{"driver_id":[1001],"courier_id":[1006]}}`},
		{"/v1/features", `{"service":"driver_svc","entities":[{"driver_id":"broken"}]}`},
		{"/v1/features", `{"service":"math_svc","entities":[{"driver_id":1001,"bonus":2}]}`},
	}
	want := map[string]string{}
	for round := range 3 {
		for i := range bodies {
			b := bodies[(i*(round+1)+round)%len(bodies)]
			res := ask(t, s.Handler(), http.MethodPost, b.path, b.body)
			if first, ok := want[b.body]; !ok {
				want[b.body] = res.Body.String()
			} else if first != res.Body.String() {
				t.Errorf("%s: %s, and then %s", b.body, first, res.Body)
			}
		}
	}
}

// What is as large as the limits let it be is answered; what is larger is refused.
func TestLargeRequests(t *testing.T) {
	s := newTestServer(t, Config{MaxBody: 2 << 20}, newStoreEngine(t))
	key := strings.Repeat("k", 1<<20)
	many := func(n int) string { return strings.TrimSuffix(strings.Repeat(`{"driver_id":1001},`, n), ",") }
	for _, tc := range []struct {
		name, body string
		status     int
	}{
		{"a key of 1 MB", `{"features":["pair_stats"],"entities":[{"driver_id":1,"customer_id":"` + key + `"}]}`, 200},
		{"a field's name of 1 MB", `{"service":"driver_svc","entities":[{"` + key + `":1}]}`, 400},
		{"a number of 1 MB", `{"service":"driver_svc","entities":[{"driver_id":` + strings.Repeat("7", 1<<20) + `}]}`, 400},
		{"10,000 entities", `{"service":"driver_svc","entities":[` + many(10000) + `]}`, 200},
		{"one more", `{"service":"driver_svc","entities":[` + many(10001) + `]}`, 413},
		{"more bytes than the limit", `{"service":"` + key + key + `"}`, 413},
	} {
		res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, tc.body)
		if res.Code != tc.status || !json.Valid(res.Body.Bytes()) {
			t.Errorf("%s: %d, want %d: %.200s", tc.name, res.Code, tc.status, res.Body)
		}
		if tc.status != 200 && res.Body.Len() > 4096 {
			t.Errorf("%s: the error has %d bytes", tc.name, res.Body.Len())
		}
	}
}

func FuzzFeatures(f *testing.F) {
	for _, seed := range []string{
		`{"service":"wide_svc","entities":[{"driver_id":1001,"customer_id":"c-1"}]}`,
		`{"features":["driver_stats:trips","trip_math"],"entities":[{"driver_id":9007199254740993,"bonus":-1.5e3}],"omit":["statuses"],"full_names":true}`,
		`{"features":["pair_stats@1"],"entities":[{"customer_id":"\ud83d\ude9a","driver_id":null}]}`, `{"entities":[{}],"service":"types_svc"}`, `[`, `{"service":"driver_svc","entities":[[[]]]}`,
	} {
		f.Add([]byte(seed))
	}
	s := newTestServer(f, Config{MaxEntities: 100}, newCompatEngine(f))
	f.Fuzz(func(t *testing.T, body []byte) {
		res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, string(body))
		if res.Code >= 500 || !json.Valid(res.Body.Bytes()) {
			t.Fatalf("%q: %d %s", body, res.Code, res.Body)
		}
		if res.Code == http.StatusOK && !json.Valid(body) {
			t.Fatalf("%q was taken", body)
		}
		for _, accept := range []string{api.TypeArrow, api.TypeMessagePack} {
			if other := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, string(body), "Accept", accept); other.Code != res.Code {
				t.Fatalf("%q: %d as %s, %d as JSON", body, other.Code, accept, res.Code)
			}
		}
	})
}

func FuzzFeast(f *testing.F) {
	for _, c := range feastCases(f) {
		f.Add([]byte(c.Body))
	}
	s := newTestServer(f, Config{MaxEntities: 200}, newCompatEngine(f))
	f.Fuzz(func(t *testing.T, body []byte) {
		res := ask(t, s.Handler(), http.MethodPost, "/get-online-features", string(body))
		if res.Code >= 500 || !json.Valid(res.Body.Bytes()) {
			t.Fatalf("%q: %d %s", body, res.Code, res.Body)
		}
		if res.Code != http.StatusOK {
			return
		}
		var answer feastAnswerBody
		if err := json.Unmarshal(res.Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		for _, r := range answer.Results {
			if len(r.Values) != len(answer.Results[0].Values) || len(r.Statuses) != len(r.Values) || len(r.EventTimestamps) != len(r.Values) {
				t.Fatalf("%q: uneven columns: %s", body, res.Body)
			}
		}
	})
}
