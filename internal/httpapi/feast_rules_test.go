package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry"
)

// newRolesEngine has, beside the recorded repository, services with roles and aliases.
func newRolesEngine(t testing.TB) *memoryEngine {
	e := newCompatEngine(t)
	p := e.revision.Project
	ref := func(text, prefix string, keys ...registry.KeyRename) registry.ServiceFeature {
		r, err := registry.ParseRef(text)
		if err != nil {
			t.Fatal(err)
		}
		return registry.ServiceFeature{Ref: r, Prefix: prefix, Keys: keys}
	}
	p.OnDemand = append(p.OnDemand, registry.OnDemandView{
		Meta: meta("sums"), Request: fields("amount:float64 qty:int64"),
		Features: []registry.Feature{{Field: fields("total:float64")[0], Expr: "amount"}, {Field: fields("count:int64")[0], Expr: "qty"}},
	})
	p.Services = append(p.Services,
		registry.Service{Meta: meta("two_roles"), Features: []registry.ServiceFeature{
			ref("driver_stats:trips", "first__", registry.KeyRename{JoinKey: "driver_id", To: "first"}),
			ref("driver_stats:trips", "second__", registry.KeyRename{JoinKey: "driver_id", To: "second"}),
		}},
		registry.Service{Meta: meta("own_and_other"), Features: []registry.ServiceFeature{
			ref("driver_stats:trips", ""),
			ref("driver_stats:trips", "other_", registry.KeyRename{JoinKey: "driver_id", To: "other"}),
		}},
	)
	return e
}

// Each answer is Feast's to the same request, but for the statuses, which are ours.
func TestFeastLookups(t *testing.T) {
	s := newTestServer(t, Config{}, newRolesEngine(t))
	for _, tc := range []struct{ name, body, want string }{
		{"a bool for a float", `{"features":["sums"],"entities":{"amount":[true],"qty":[3]}}`, "400"},
		{"bools and whole floats for request fields", `{"features":["sums:total","sums:count"],"entities":{"amount":[true,1],"qty":[3.0,false]}}`, "total [1.0 1.0] count [3 0]"},
		{"NaN and infinities for a request field", `{"features":["sums:total"],"entities":{"amount":[NaN,Infinity,-1e400],"qty":[1,1,1]}}`, `total [null NULL_VALUE "Infinity" "-Infinity"]`},
		{"a fraction for a whole number", `{"features":["sums:count"],"entities":{"amount":[1],"qty":[3.5]}}`, "400"},
		{"a string for a float", `{"features":["sums:total"],"entities":{"amount":["2.0"],"qty":[3]}}`, "400"},

		{"NaN for a key", `{"features":["driver_stats:trips"],"entities":{"driver_id":[NaN]}}`, "400"},
		{"an infinite key", `{"features":["driver_stats:trips"],"entities":{"driver_id":[Infinity]}}`, "400"},
		{"a key past the end of floats", `{"features":["driver_stats:trips"],"entities":{"driver_id":[1e400]}}`, "400"},
		{"an infinite key of text", `{"features":["customer_profile:age"],"entities":{"customer_id":[-1e400,Infinity]}}`, `customer_id ["-inf" "inf"] age [null NOT_FOUND null NOT_FOUND]`},
		{"large floats that are whole", `{"features":["driver_stats:trips"],"entities":{"driver_id":[1e18,-9.2233720368547e18]}}`, "driver_id [1000000000000000000 -9223372036854700032] trips [null NOT_FOUND null NOT_FOUND]"},
		{"a float that is not what is written", `{"features":["driver_stats:trips"],"entities":{"driver_id":[9007199254740993.0]}}`, "400"},
		{"a float past int64", `{"features":["driver_stats:trips"],"entities":{"driver_id":[9223372036854775808.0]}}`, "400"},
		{"a fraction", `{"features":["driver_stats:trips"],"entities":{"driver_id":[1001.5]}}`, "400"},

		{"text under an entity's name", `{"features":["driver_stats:trips"],"entities":{"driver":["x"]}}`, `driver_id ["x"] trips [null NOT_FOUND]`},
		{"a number as text under an entity's name", `{"features":["driver_stats:trips"],"entities":{"driver":["1001",null]}}`, `driver_id ["1001" null NULL_VALUE] trips [null NOT_FOUND null NOT_FOUND]`},
		{"a number first under an entity's name", `{"features":["driver_stats:trips"],"entities":{"driver":[1001,"1006"]}}`, `driver_id [1001 1006] trips [7 2]`},
		{"a number under the name of an entity with text", `{"features":["customer_profile:age"],"entities":{"customer":[12]}}`, `customer_id [12] age [null NOT_FOUND]`},
		{"a float under an entity's name", `{"features":["driver_stats:trips"],"entities":{"driver":[1001.0]}}`, "400"},
		{"an entity's name, then its key", `{"features":["driver_stats:trips"],"entities":{"driver":["x"],"driver_id":[1006]}}`, `driver_id [1006] trips [2]`},
		{"a key that is not needed", `{"features":["driver_stats:trips"],"entities":{"driver_id":[1001,1006],"customer_id":[null,1e400]}}`, `driver_id [1001 1006] customer_id [null NULL_VALUE "Infinity"] trips [7 2]`},
		{"a key that is not needed, NaN", `{"features":["driver_stats:trips"],"entities":{"driver_id":[1001,1006],"customer_id":[NaN,["]",NaN]]}}`, `driver_id [1001 1006] customer_id [null NULL_VALUE ["]","NaN"]] trips [7 2]`},

		{"a renamed key, then the original", `{"feature_service":"courier_svc","entities":{"courier_id":[1001],"driver_id":[1006]}}`, `courier_id [1001] driver_id [1006] conv_rate [2.5] trips [2] vip [true] label ["new"]`},
		{"the original, then the renamed key", `{"feature_service":"courier_svc","entities":{"driver_id":[1006],"courier_id":[1001]}}`, `driver_id [1006] courier_id [1001] conv_rate [0.1] trips [7] vip [true] label ["gold"]`},
		{"the original as text", `{"feature_service":"courier_svc","entities":{"driver_id":["1001"]}}`, `driver_id ["1001"] conv_rate [null NOT_FOUND] trips [null NOT_FOUND] vip [null NOT_FOUND] label [null NOT_FOUND]`},
		{"one column for two roles", `{"feature_service":"two_roles","entities":{"driver_id":[1001]}}`, "driver_id [1001] first__trips [7] second__trips [7]"},
		{"an entity's name for two roles", `{"feature_service":"two_roles","entities":{"driver":[1001]}}`, "driver_id [1001] first__trips [7] second__trips [7]"},
		{"two roles, one of them given, then the original", `{"feature_service":"two_roles","entities":{"first":[1006],"driver_id":[1001]}}`, "first [1006] driver_id [1001] first__trips [7] second__trips [7]"},
		{"two roles, the original first", `{"feature_service":"two_roles","entities":{"driver_id":[1001],"first":[1006]}}`, "driver_id [1001] first [1006] first__trips [2] second__trips [7]"},
		{"two roles by their own names", `{"feature_service":"two_roles","full_feature_names":true,"entities":{"first":[1006],"second":[1001]}}`, "first [1006] second [1001] first__trips [2] second__trips [7]"},
		{"a role of its own stays apart", `{"feature_service":"own_and_other","entities":{"other":[1006],"driver_id":[1001]}}`, "other [1006] driver_id [1001] trips [7] other_trips [2]"},
		{"and is filled where it is not given", `{"feature_service":"own_and_other","full_feature_names":true,"entities":{"driver_id":[1001]}}`, "driver_id [1001] driver_stats__trips [7] other_driver_stats__trips [7]"},
		{"names of roles", `{"feature_service":"two_roles","include_feature_view_version_metadata":true,"entities":{"driver_id":[]}}`, "400"},

		{"the latest version", `{"features":["driver_stats@latest:trips","driver_stats@:vip"],"entities":{"driver_id":[1001]}}`, "driver_id [1001] trips [7] vip [true]"},
		{"a version and none are one column", `{"features":["driver_stats@latest:trips","driver_stats:trips"],"full_feature_names":true,"entities":{"driver_id":[1001]}}`, "driver_id [1001] driver_stats__trips [7]"},
		{"our own pin", `{"features":["driver_stats@1:trips"],"full_feature_names":true,"entities":{"driver_id":[1001]}}`, "driver_id [1001] driver_stats__trips [7]"},
		{"a version and none, without full names", `{"features":["driver_stats@latest:trips","driver_stats:trips"],"entities":{"driver_id":[1001]}}`, "400 FeatureNameCollisionError"},
		{"the same reference twice", `{"features":["driver_stats:trips","driver_stats:trips"],"full_feature_names":true,"entities":{"driver_id":[1001]}}`, "400 FeatureNameCollisionError"},
		{"our own pin twice", `{"features":["driver_stats@1:trips","driver_stats@1:trips"],"full_feature_names":true,"entities":{"driver_id":[1001]}}`, "400 FeatureNameCollisionError"},

		{"a request field before a wrong key", `{"features":["trip_math:boosted"],"entities":{"driver_id":[1.5]}}`, "404 RequestDataNotFoundInEntityRowsException"},
		{"a column twice: the first is not looked at", `{"features":["driver_stats:trips"],"entities":{"driver_id":1,"driver_id":[1001]}}`, "driver_id [1001] trips [7]"},
		{"columns of other lengths", `{"features":["driver_stats:trips"],"entities":{"driver_id":[1001],"x":[1,2]}}`, "400"},
		{"letters of HTML", `{"features":["<b>&:x"],"entities":{"driver_id":[1001]}}`, "404 <b>& does not exist"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res := ask(t, s.Handler(), http.MethodPost, "/get-online-features", tc.body)
			if res.Code != http.StatusOK {
				status, text, _ := strings.Cut(tc.want, " ")
				if fmt.Sprint(res.Code) != status || !strings.Contains(res.Body.String(), text) {
					t.Errorf("got %d %s, want %s", res.Code, res.Body, tc.want)
				}
				var message string
				if err := json.Unmarshal(res.Body.Bytes(), &message); err != nil {
					t.Errorf("the error is no string: %s", res.Body)
				}
				return
			}
			if got := feastText(t, res.Body.Bytes()); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
	for _, suffix := range []string{"x", "0", "-1", "vx", "1.0", "+1", "1@2", "01", "99999999999999999999", "7"} {
		for _, full := range []string{"false", "true"} {
			body := `{"features":["driver_stats@` + suffix + `:trips","driver_stats@` + suffix + `:trips"],"full_feature_names":` + full + `,"entities":{"driver_id":[1001]}}`
			if res := ask(t, s.Handler(), http.MethodPost, "/get-online-features", body); res.Code != 404 || !strings.Contains(res.Body.String(), "FeatureViewNotFoundException") {
				t.Errorf("@%s: %d %s", suffix, res.Code, res.Body)
			}
		}
	}
}

// feastText writes an answer as the tests have it: names with their values, and with the
// status of what is not present.
func feastText(t *testing.T, body []byte) string {
	t.Helper()
	var answer struct {
		Results []struct {
			Values   []json.RawMessage
			Statuses []string
		}
		Metadata struct {
			Names []string `json:"feature_names"`
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var parts []string
	for i, r := range answer.Results {
		var cells []string
		for j, v := range r.Values {
			cells = append(cells, string(v))
			if r.Statuses[j] != "PRESENT" {
				cells = append(cells, r.Statuses[j])
			}
		}
		parts = append(parts, answer.Metadata.Names[i]+" ["+strings.Join(cells, " ")+"]")
	}
	return strings.Join(parts, " ")
}

func TestFeastViewMetadata(t *testing.T) {
	s := newTestServer(t, Config{}, newRolesEngine(t))
	for body, want := range map[string]string{
		`{"feature_service":"two_roles","entities":{"driver_id":[1001]}`:               `,"feature_view_metadata":[{"name":"first"},{"name":"second"}]}}`,
		`{"features":["sums:total"],"entities":{"amount":[2],"qty":[3]}`:               `"metadata":{"feature_names":["total"]}}`,
		`{"features":["trip_math:boosted"],"entities":{"driver_id":[1],"bonus":[0.5]}`: `,"feature_view_metadata":[{"name":"driver_stats"}]}}`,
	} {
		res := ask(t, s.Handler(), http.MethodPost, "/get-online-features", body+`,"include_feature_view_version_metadata":true}`)
		if res.Code != http.StatusOK || !strings.HasSuffix(res.Body.String(), want) {
			t.Errorf("%s: %d %s", body, res.Code, res.Body)
		}
	}
}

// All mistakes in a body are told, in the order of the fields' declaration.
func TestFeastMistakes(t *testing.T) {
	e := newCompatEngine(t)
	e.push = func(string, [][]byte) (api.PushAnswer, error) {
		t.Error("something was written")
		return api.PushAnswer{}, nil
	}
	s := newTestServer(t, Config{}, e)
	const trips = `"features":["driver_stats:trips"],"entities":{"driver_id":[1001]}`
	const customer = `"push_source_name":"customers","df":{"customer_id":["a"],"event_timestamp":["2026-01-01"],"age":[1],"conv_rate":[1]}`
	for _, tc := range []struct{ path, body, want string }{
		{"/get-online-features", `{}`, "missing [body entities]"},
		{"/get-online-features", `{"include_feature_view_version_metadata":"q","full_feature_names":"z","feature_service":7,"features":[1,"x",null],"entities":{"b":1,"a":2,"c":[1]}}`,
			"list_type [body entities b]; list_type [body entities a]; string_type [body feature_service]; string_type [body features 0]; string_type [body features 2]; " +
				"bool_parsing [body full_feature_names]; bool_parsing [body include_feature_view_version_metadata]"},
		{"/get-online-features", `{"features":5,"entities":6}`, "dict_type [body entities]; list_type [body features]"},
		{"/get-online-features", `{` + trips + `,"full_feature_names":1.5}`, "bool_type [body full_feature_names]"},
		{"/get-online-features", `{` + trips + `,"full_feature_names":1000000000000000000000000000000}`, "bool_type [body full_feature_names]"},
		{"/get-online-features", `{` + trips + `,"full_feature_names":2.0}`, "bool_parsing [body full_feature_names]"},
		{"/get-online-features", `{` + trips + `,"full_feature_names":null}`, "bool_type [body full_feature_names]"},
		{"/get-online-features", `{` + trips + `,"full_feature_names":{}}`, "bool_type [body full_feature_names]"},
		{"/get-online-features", `[1]`, "model_attributes_type [body]"},
		{"/push", `{}`, "missing [body push_source_name]; missing [body df]"},
		{"/push", `{"push_source_name":1,"df":2,"to":3,"allow_registry_cache":"q","transform_on_write":null}`,
			"string_type [body push_source_name]; dict_type [body df]; bool_parsing [body allow_registry_cache]; string_type [body to]; bool_type [body transform_on_write]"},
		{"/push", `{` + customer + `,"allow_registry_cache":null}`, "bool_type [body allow_registry_cache]"},
		{"/push", `{` + customer + `,"allow_registry_cache":[]}`, "bool_type [body allow_registry_cache]"},
		{"/push", `{` + customer + `,"transform_on_write":2}`, "bool_parsing [body transform_on_write]"},
		{"/push", `{` + customer + `,"transform_on_write":"x"}`, "bool_parsing [body transform_on_write]"},
	} {
		res := ask(t, s.Handler(), http.MethodPost, tc.path, tc.body)
		var got struct{ Detail feastDetails }
		if err := json.Unmarshal(res.Body.Bytes(), &got); err != nil || res.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", tc.body, res.Code, res.Body)
			continue
		}
		var parts []string
		for _, d := range got.Detail {
			parts = append(parts, fmt.Sprint(d.Type, " ", d.Loc))
		}
		if text := strings.Join(parts, "; "); text != tc.want {
			t.Errorf("%s: got %s, want %s", tc.body, text, tc.want)
		}
	}
	res := ask(t, s.Handler(), http.MethodPost, "/get-online-features", `{"features":[`+strings.Repeat("1,", 5000)+`1],"entities":{}}`)
	var got struct{ Detail feastDetails }
	if err := json.Unmarshal(res.Body.Bytes(), &got); err != nil || len(got.Detail) != maxDetails {
		t.Errorf("%d mistakes are told, %v", len(got.Detail), err)
	}
}

// A data frame becomes rows as the source wants them.
func TestFeastFrames(t *testing.T) {
	e := newCompatEngine(t)
	var pushed []string
	e.push = func(_ string, rows [][]byte) (api.PushAnswer, error) {
		for _, r := range rows {
			if !json.Valid(r) {
				t.Errorf("not JSON: %s", r)
			}
			pushed = append(pushed, string(r))
		}
		return api.PushAnswer{Accepted: len(rows)}, nil
	}
	s := newTestServer(t, Config{MaxEntities: 3}, e)
	const rest = `"event_timestamp":"2026-03-01","conv_rate":1`
	for _, tc := range []struct {
		name, df string
		want     []string // the rows; or one text that is part of the error
		bad      bool
	}{
		{"lax whole numbers", `{"customer_id":["a","b","c"],"age":[1.0,"2",true],"conv_rate":[1,0.5,NaN]}`,
			[]string{`{"customer_id":"a","age":1,"conv_rate":1}`, `{"customer_id":"b","age":2,"conv_rate":0.5}`, `{"customer_id":"c","age":1,"conv_rate":null}`}, false},
		{"missing beside floats", `{"customer_id":["a","b"],"age":[9007199254740992.0,NaN],"conv_rate":[Infinity,null]}`,
			[]string{`{"customer_id":"a","age":9007199254740992,"conv_rate":"Infinity"}`, `{"customer_id":"b","age":null,"conv_rate":null}`}, false},
		{"text", `{"customer_id":[1,1.5,"\u0041\""],"age":1,"conv_rate":1}`,
			[]string{`{"customer_id":"1","age":1,"conv_rate":1}`, `{"customer_id":"1.5","age":1,"conv_rate":1}`, `{"customer_id":"A\"","age":1,"conv_rate":1}`}, false},
		{"a missing text is not the text NaN", `{"customer_id":["NaN",NaN],"age":1,"conv_rate":1}`,
			[]string{`{"customer_id":"NaN","age":1,"conv_rate":1}`, `{"customer_id":null,"age":1,"conv_rate":1}`}, false},
		{"what cannot be is left to the source", `{"customer_id":["a"],"age":[1.5],"conv_rate":["0.5"]}`, []string{`{"customer_id":"a","age":1.5,"conv_rate":"0.5"}`}, false},
		{"columns that nothing reads", `{"customer_id":["a"],"age":1,"conv_rate":1,"x":[[NaN,"NaN\\\"",-Infinity]]}`, []string{`{"customer_id":"a","age":1,"conv_rate":1,"x":["NaN","NaN\\\"","-Infinity"]}`}, false},
		{"by label", `{"customer_id":{"0":"a","1":"b"},"age":{"1":1},"conv_rate":2}`, []string{`{"customer_id":"a","age":null,"conv_rate":2}`, `{"customer_id":"b","age":1,"conv_rate":2}`}, false},
		{"no rows", `{}`, nil, false},
		{"no rows, with columns", `{"customer_id":[]}`, nil, false},
		{"labels and lists", `{"customer_id":{"0":"a"},"age":[1],` + rest + `}`, []string{"ambiguous ordering"}, true},
		{"single values alone", `{"customer_id":"a","age":1,` + rest + `}`, []string{"give lists"}, true},
		{"other lengths", `{"customer_id":["a"],"age":[1,2],` + rest + `}`, []string{"same length"}, true},
		{"a column that a view reads is missing", `{"customer_id":["a"],"AGE":[1],` + rest + `}`, []string{"'age'"}, true},
		{"a key is missing", `{"age":[1],` + rest + `}`, []string{"'customer_id'"}, true},
		{"too many rows", `{"customer_id":{"a":1,"b":1,"c":1,"d":1},"age":1,` + rest + `}`, []string{"more than 3"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pushed = nil
			res := ask(t, s.Handler(), http.MethodPost, "/push", `{"push_source_name":"customers","df":`+tc.df+`}`)
			switch {
			case tc.bad && (res.Code != http.StatusBadRequest || !strings.Contains(res.Body.String(), tc.want[0]) || pushed != nil):
				t.Errorf("%d %s, and %v was pushed", res.Code, res.Body, pushed)
			case !tc.bad && (res.Code != http.StatusOK || !slices.Equal(pushed, tc.want)):
				t.Errorf("%d %s, and pushed was\n%s", res.Code, res.Body, strings.Join(pushed, "\n"))
			}
		})
	}
}

// Other methods, paths and types of content are answered as FastAPI does.
func TestFeastRoutes(t *testing.T) {
	s := newTestServer(t, Config{}, newCompatEngine(t))
	const asked = `{"features":["driver_stats:trips"],"entities":{"driver_id":[1001]}}`
	for path, method := range map[string]string{"/get-online-features": http.MethodPost, "/push": http.MethodPost, "/health": http.MethodGet} {
		for _, other := range []string{http.MethodOptions, http.MethodHead, http.MethodPut} {
			res := ask(t, s.Handler(), other, path, "")
			if res.Code != http.StatusMethodNotAllowed || res.Header().Get("Allow") != method || !strings.Contains(res.Body.String(), `"detail":"Method Not Allowed"`) {
				t.Errorf("%s %s: %d %v %s", other, path, res.Code, res.Header(), res.Body)
			}
		}
		if res := ask(t, s.Handler(), method, path+"/?a=b", asked); res.Code != http.StatusTemporaryRedirect || res.Header().Get("Location") != path+"?a=b" {
			t.Errorf("%s/: %d %v", path, res.Code, res.Header())
		}
	}
	for header, want := range map[string]int{
		"application/json; charset=latin-1": 200, "application/json; charset=utf-16": 200, "application/json; foo": 200, "application/json;": 200, " APPLICATION/JSON ; a=b": 200,
		"application/ld+json; profile=x": 200, "text/json": 422, "application/jsonx": 422, "application/json , text/plain": 422, "": 422,
	} {
		if res := ask(t, s.Handler(), http.MethodPost, "/get-online-features", asked, "Content-Type", header); res.Code != want {
			t.Errorf("Content-Type %q: %d %s", header, res.Code, res.Body)
		}
	}
}
