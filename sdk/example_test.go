package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/forebay/forebay/sdk"
)

// standIn answers as a server would, for the examples.
func standIn(body string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/v1/push/nobody" {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, body)
	}))
}

func ExampleClient_Lookup() {
	server := standIn(`{"revision":"sha256:1","instant":"2001-06-30T23:59:00Z","features":["last_delay","delay_mean_24h"],
		"rows":[{"values":[12,8.25],"statuses":["PRESENT","PRESENT"],"event_timestamps":["2001-06-30T23:51:00Z","2001-06-30T23:51:00Z"]},
		{"values":[null,null],"statuses":["OUTSIDE_MAX_AGE","NOT_FOUND"],"event_timestamps":["2001-05-01T10:00:00Z",null]}]}`)
	defer server.Close()

	c, err := sdk.New(server.URL, sdk.WithTimeout(time.Second))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	res, err := c.Lookup(context.Background(), sdk.LookupRequest{
		Service:  "delay_model",
		Entities: []sdk.Entity{{"origin": "SFO", "scheduled_distance": 2586}, {"origin": "JFK", "scheduled_distance": 187}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range res.Len() {
		row := res.Row(i)
		mean, ok := row.Float64("delay_mean_24h")
		fmt.Println(mean, ok, row.Status("last_delay"))
	}
	// Output:
	// 8.25 true PRESENT
	// 0 false OUTSIDE_MAX_AGE
}

func ExampleResult_Scan() {
	server := standIn(`{"revision":"sha256:1","instant":"2001-06-30T23:59:00Z","features":["delay_mean_24h"],
		"rows":[{"values":[8.25],"statuses":["PRESENT"],"event_timestamps":["2001-06-30T23:51:00Z"]}]}`)
	defer server.Close()

	c, err := sdk.New(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	res, err := c.Lookup(context.Background(), sdk.LookupRequest{Service: "delay_model", Entities: []sdk.Entity{{"origin": "SFO"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	var rows []struct {
		DelayMean24h *float64   `forebay:"delay_mean_24h"`
		Why          sdk.Status `forebay:"delay_mean_24h,status"`
	}
	if err := res.Scan(&rows); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(*rows[0].DelayMean24h, rows[0].Why)
	// Output: 8.25 PRESENT
}

func ExampleError() {
	server := standIn(`{"error":{"code":"unknown_source","message":"there is no source \"nobody\"","field":"source"}}`)
	defer server.Close()

	c, err := sdk.New(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	_, err = c.Push(context.Background(), "nobody", []sdk.Values{{"origin": "SFO", "delay": 12}})
	var e *sdk.Error
	if errors.As(err, &e) {
		fmt.Println(e.Status, e.Code, e.Message)
	}
	// Output: 404 unknown_source there is no source "nobody"
}
