package httpapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// feastCase is one recorded request and answer.
type feastCase struct {
	Name    string
	Kind    string
	Method  string
	Path    string
	Headers map[string]string
	Body    json.RawMessage
	Raw     *string
	Answer  struct {
		Status int
		JSON   json.RawMessage
	}
}

func feastCases(t testing.TB) (cases []feastCase) {
	f, err := os.Open("testdata/feast/cases.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c feastCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return cases
}

// feastAnswerBody is a good answer, its numbers as they are written.
type feastAnswerBody struct {
	Results []struct {
		Values          []any    `json:"values"`
		Statuses        []string `json:"statuses"`
		EventTimestamps []string `json:"event_timestamps"`
	} `json:"results"`
	Metadata struct {
		FeatureNames []string `json:"feature_names"`
		Views        []struct {
			Name string `json:"name"`
		} `json:"feature_view_metadata"`
	} `json:"metadata"`
}

func TestFeastRecordedCases(t *testing.T) {
	t.Run("plain lookup", func(t *testing.T) { feastRecordedCases(t, newCompatEngine(t)) })
	t.Run("real lookup", func(t *testing.T) { feastRecordedCases(t, newStoreEngine(t)) })
}

func feastRecordedCases(t *testing.T, engine Engine) {
	s := newTestServer(t, Config{}, engine)
	cases := feastCases(t)
	if len(cases) < 50 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			body := string(c.Body)
			if c.Raw != nil {
				body = *c.Raw
			}
			req := httptest.NewRequest(c.Method, c.Path, strings.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			for name, value := range c.Headers {
				req.Header.Set(name, value)
			}
			res := httptest.NewRecorder()
			s.Handler().ServeHTTP(res, req)
			if got := res.Header().Get("Content-Type"); !strings.HasPrefix(got, "application/json") {
				t.Errorf("Content-Type is %q", got)
			}
			if want := c.Answer.Status; want >= 500 {
				if res.Code < 400 || res.Code >= 500 {
					t.Errorf("status %d, and not a 4xx: %s", res.Code, res.Body)
				}
			} else if res.Code != want {
				t.Fatalf("status %d, want %d: %s", res.Code, want, res.Body)
			}
			if res.Code != http.StatusOK {
				sameError(t, res.Body.Bytes(), c.Answer.JSON)
				return
			}
			sameAnswer(t, res.Body.Bytes(), c.Answer.JSON)
		})
	}
}

// sameError holds an error against Feast's: its JSON type, its members, and the
// class that Feast's client raises.
func sameError(t *testing.T, got, want []byte) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatal(err)
	}
	if reflect.TypeOf(g) != reflect.TypeOf(w) {
		t.Fatalf("the error is %s, Feast's %s", got, want)
	}
	switch w := w.(type) {
	case string:
		var gc, wc feastClass
		if json.Unmarshal([]byte(w), &wc) != nil || wc.Class == "" {
			return
		}
		if err := json.Unmarshal([]byte(g.(string)), &gc); err != nil || gc.Class != wc.Class || gc.Module != wc.Module {
			t.Errorf("the error is %s, Feast's %s", got, want)
		}
	case map[string]any:
		gd, wd := g.(map[string]any)["detail"], w["detail"]
		if reflect.TypeOf(gd) != reflect.TypeOf(wd) {
			t.Fatalf("the error is %s, Feast's %s", got, want)
		}
		details, ok := wd.([]any)
		if !ok {
			return
		}
		for i, d := range details {
			for _, member := range []string{"type", "loc"} {
				if a, b := gd.([]any)[i].(map[string]any)[member], d.(map[string]any)[member]; !reflect.DeepEqual(a, b) {
					t.Errorf("%s is %v, Feast's %v", member, a, b)
				}
			}
		}
	}
}

// sameAnswer holds an answer against Feast's, feature by feature.
func sameAnswer(t *testing.T, got, want []byte) {
	t.Helper()
	var g, w feastAnswerBody
	for _, x := range []struct {
		data []byte
		to   *feastAnswerBody
	}{{got, &g}, {want, &w}} {
		dec := json.NewDecoder(bytes.NewReader(x.data))
		dec.UseNumber()
		if err := dec.Decode(x.to); err != nil {
			t.Fatalf("%v: %s", err, x.data)
		}
	}
	names, wanted := slices.Clone(g.Metadata.FeatureNames), slices.Clone(w.Metadata.FeatureNames)
	if len(g.Results) != len(names) {
		t.Fatalf("%d names for %d results", len(names), len(g.Results))
	}
	names = slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, "trip_math__") }) // which Feast leaves out
	slices.Sort(names)
	slices.Sort(wanted)
	if !slices.Equal(names, wanted) {
		t.Fatalf("features %v, want %v", g.Metadata.FeatureNames, w.Metadata.FeatureNames)
	}
	if !reflect.DeepEqual(g.Metadata.Views, w.Metadata.Views) {
		t.Errorf("views %v, want %v", g.Metadata.Views, w.Metadata.Views)
	}
	for j, name := range w.Metadata.FeatureNames {
		at := slices.Index(g.Metadata.FeatureNames, name)
		if strings.HasSuffix(name, "_id") && at != j {
			t.Errorf("%s is column %d, want %d", name, at, j)
		}
		a, b := g.Results[at], w.Results[j]
		if len(a.Values) != len(b.Values) || len(a.Statuses) != len(b.Values) || len(a.EventTimestamps) != len(b.Values) {
			t.Fatalf("%s: %d values, %d statuses, %d times, want %d", name, len(a.Values), len(a.Statuses), len(a.EventTimestamps), len(b.Values))
		}
		for i := range b.Values {
			if a.EventTimestamps[i] != b.EventTimestamps[i] {
				t.Errorf("%s[%d] is of %s, want %s", name, i, a.EventTimestamps[i], b.EventTimestamps[i])
			}
			sameCell(t, fmt.Sprintf("%s[%d]", name, i), a.Values[i], b.Values[i], a.Statuses[i])
		}
	}
}

func sameCell(t *testing.T, where string, got, want any, status string) {
	t.Helper()
	if (got == nil) != (status != "PRESENT") {
		t.Errorf("%s is %v, but %s", where, got, status)
	}
	switch {
	case status == "OUTSIDE_MAX_AGE", status == "NULL_VALUE" && want == json.Number("-9223372036854775808"):
		if got != nil {
			t.Errorf("%s is %v, want null", where, got)
		}
	case !sameValue(got, want):
		t.Errorf("%s is %v, want %v", where, got, want)
	}
}

func sameValue(got, want any) bool {
	switch w := want.(type) {
	case json.Number:
		g, ok := got.(json.Number)
		if !ok {
			return false
		}
		if g == w {
			return true
		}
		a, aerr := g.Float64()
		b, berr := w.Float64()
		// An int64 that went through a float there, or a float32 with fewer digits here.
		return aerr == nil && berr == nil && (a == b || float32(a) == float32(b) && math.Abs(b) <= math.MaxFloat32 && strings.Contains(string(w), "."))
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			if !sameValue(g[i], w[i]) {
				return false
			}
		}
		return true
	}
	if want == nil && (got == "NaN") {
		return true // NaN comes back as null there
	}
	return reflect.DeepEqual(got, want)
}
