package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/forebay/forebay/internal/app"
	"github.com/forebay/forebay/sdk"
)

// TestDemoFailsOnADifference checks that the demo can fail: a value that is served
// otherwise than it is joined is found, and is an error.
func TestDemoFailsOnADifference(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"revision":"sha256:00","features":["a","b","c"],"rows":[{"values":[1,null,"x"],"statuses":["PRESENT","NOT_FOUND","PRESENT"]}]}`)
	}))
	defer server.Close()
	client, err := sdk.New(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	res, err := client.Lookup(t.Context(), sdk.LookupRequest{Service: "s", Entities: []sdk.Entity{{"origin": "SFO"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		offline string
		differ  int
	}{
		{`{"a":1,"b":null,"c":"x"}`, 0},
		{`{"a":1,"c":"x"}`, 0},
		{`{"a":2,"b":null,"c":"x"}`, 1},
		{`{"a":1,"b":0,"c":""}`, 2},
	} {
		var row map[string]json.RawMessage
		if err := json.Unmarshal([]byte(c.offline), &row); err != nil {
			t.Fatal(err)
		}
		d := &demo{c: &cli{stdout: io.Discard, stderr: io.Discard, env: func(string) string { return "" }}, statuses: map[sdk.Status]int64{}}
		d.compareRow(sdk.Entity{"origin": "SFO"}, res.Row(0), res.Features(), row)
		if len(d.differences) != c.differ || d.compared != 3 {
			t.Errorf("%s: %d compared, differences %q, want %d of 3", c.offline, d.compared, d.differences, c.differ)
		}
		if err := d.finish(); (err == nil) != (c.differ == 0) || err != nil && app.Code(err) != "differences" {
			t.Errorf("%s: finish says %v", c.offline, err)
		}
	}
}

func TestFormats(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{count(0), "0"}, {count(999), "999"}, {count(1234567), "1,234,567"}, {count(-1000), "-1,000"},
		{plural(1, "row"), "1 row"}, {plural(2000, "row"), "2,000 rows"}, {plural(0, "entity"), "0 entities"}, {plural(2, "key"), "2 keys"},
		{size(999), "999 B"}, {size(1000), "1.0 kB"}, {size(1_234_567), "1.2 MB"},
		{span(850e6), "850ms"}, {span(3200e6), "3.2s"}, {span(250e9), "4m10s"}, {span(5*3600e9 + 47*60e9 + 20e9), "5h47m"}, {span(72 * 3600e9), "3d"},
		{rate(10, 0), "-"}, {rate(1000, 500e6), "2,000/s"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	var out strings.Builder
	c := &cli{stdout: &out, env: func(string) string { return "" }}
	table := newTable("NAME", ">N", "")
	table.add("é", 1234, "")
	table.add("longer", 5, "note")
	c.print(table)
	if want := "NAME        N\né       1,234\nlonger      5  note\n"; out.String() != want {
		t.Errorf("got\n%s, want\n%s", out.String(), want)
	}
}
