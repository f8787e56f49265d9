package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// What Python says of text that is not JSON, and at which character.
func TestFeastJSONMistakes(t *testing.T) {
	s := newTestServer(t, Config{}, newCompatEngine(t))
	for _, tc := range []struct {
		body string
		at   int
		want string
	}{
		{"  ", 2, "Expecting value"}, {"tru", 0, "Expecting value"}, {"-", 0, "Expecting value"}, {"-NaN", 0, "Expecting value"}, {`{"a":.5}`, 5, "Expecting value"},
		{"[1,]", 3, "Expecting value"}, {"]", 0, "Expecting value"}, {strings.Repeat("[", 500), 500, "Expecting value"},
		{"{", 1, "Expecting property name enclosed in double quotes"}, {"{a:1}", 1, "Expecting property name enclosed in double quotes"},
		{`{"a":1, }`, 8, "Expecting property name enclosed in double quotes"},
		{`{"a"`, 4, "Expecting ':' delimiter"}, {`{"a" 1}`, 5, "Expecting ':' delimiter"},
		{`{"a":1`, 6, "Expecting ',' delimiter"}, {"[1 2]", 3, "Expecting ',' delimiter"}, {`{"a":[1}}`, 7, "Expecting ',' delimiter"}, {"[1.]", 2, "Expecting ',' delimiter"}, {"[01]", 2, "Expecting ',' delimiter"},
		{"01", 1, "Extra data"}, {`{"a":1} {`, 8, "Extra data"}, {"nullx", 4, "Extra data"},
		{`"abc`, 0, "Unterminated string starting at"}, {`{"é🚚":"x`, 6, "Unterminated string starting at"}, {`"\`, 0, "Unterminated string starting at"}, {"\ufeff{\"é", 1, "Unterminated string starting at"},
		{"\"a\nb\"", 2, "Invalid control character at"}, {`"\x"`, 1, `Invalid \escape`}, {`"\u12`, 2, `Invalid \uXXXX escape`}, {`{"a":"\ud800\u12"}`, 13, `Invalid \uXXXX escape`},
	} {
		for _, path := range []string{"/get-online-features", "/push"} {
			res := ask(t, s.Handler(), http.MethodPost, path, tc.body)
			var got struct{ Detail feastDetails }
			if err := json.Unmarshal(res.Body.Bytes(), &got); err != nil || res.Code != http.StatusUnprocessableEntity || len(got.Detail) != 1 {
				t.Errorf("%.40q: %d %s", tc.body, res.Code, res.Body)
				continue
			}
			if d := got.Detail[0]; d.Type != "json_invalid" || d.Ctx == nil || d.Ctx.Error != tc.want || fmt.Sprint(d.Loc) != fmt.Sprint([]any{"body", tc.at}) {
				t.Errorf("%.40q: %s", tc.body, res.Body)
			}
		}
	}
}

// What Python takes for JSON is taken on Feast's routes, and nowhere else.
func TestFeastJSONOfPython(t *testing.T) {
	s := newTestServer(t, Config{}, newCompatEngine(t))
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	const asked = `{"features":["driver_stats:trips"],"entities":{"driver_id":[1001]`
	for _, tc := range []struct {
		body   string
		status int
		want   string // in the answer
	}{
		{asked + `}}`, 200, `[7]`}, {"\ufeff" + asked + `}}`, 200, `[7]`},
		{asked + `},"x":[NaN,-Infinity,1e400]}`, 200, `[7]`}, {asked + `,"x":[NaN]}}`, 200, `[7]`},
		{asked + `},"x":` + deep(500) + `}`, 200, `[7]`}, {asked + `},"x":` + strings.Repeat(`{"a":`, 500) + `"]"` + strings.Repeat(`}`, 500) + `}`, 200, `[7]`},
		{asked + `},"x":` + deep(2000) + `}`, 400, `{"detail":"There was an error parsing the body"}`}, {strings.Repeat("[", 3000), 400, `{"detail":"There was`},
		{asked + `},"x":"` + "\xff" + `"}`, 400, `{"detail":"There was an error parsing the body"}`},
		{asked + `],"x":"\ud800"}`, 422, `"loc":["body",`},
		{asked + `},"x":"\ud800"}`, 400, `surrogate`},
	} {
		res := ask(t, s.Handler(), http.MethodPost, "/get-online-features", tc.body)
		if res.Code != tc.status || !strings.Contains(res.Body.String(), tc.want) {
			t.Errorf("%.120q: %d %s", tc.body, res.Code, res.Body)
		}
	}
	for _, value := range []string{"NaN", "Infinity", deep(500)} {
		body := `{"features":["driver_stats:trips"],"entities":[{"driver_id":1001}],"omit":` + value + `}`
		if res := ask(t, s.Handler(), http.MethodPost, "/v1/features", body); res.Code != http.StatusBadRequest {
			t.Errorf("/v1 takes %.20s: %d %s", value, res.Code, res.Body)
		}
	}
}
