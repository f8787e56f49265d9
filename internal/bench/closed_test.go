package bench

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestClosed(t *testing.T) {
	const long = 600 << 10 // more than is read at once
	asked := map[string]*atomic.Int64{"/": {}, "/long": {}, "/bad": {}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked[r.URL.Path].Add(1)
		switch r.URL.Path {
		case "/bad":
			http.Error(w, "oops", http.StatusTeapot)
		case "/long":
			w.Header().Set("Content-Length", "614400")
			_, _ = w.Write([]byte(strings.Repeat("x", long)))
		default:
			_, _ = w.Write([]byte("hello"))
		}
	}))
	defer server.Close()
	addr := server.Listener.Addr().String()
	for path, want := range map[string]float64{"/": 5, "/long": long, "/bad": -1} {
		c, err := DialClosed(t.Context(), addr, []Request{NewRequest(addr, path, []byte("{}"))}, 3)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Run(t.Context(), 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		rate, err := c.Run(t.Context(), 10*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		f := c.Figures()
		if f.Requests != asked[path].Load() || f.Seconds < 0.02 {
			t.Errorf("%s: %d requests in %v s, and the server saw %d", path, f.Requests, f.Seconds, asked[path].Load())
		}
		switch {
		case want < 0:
			if f.Errors != f.Requests || !strings.Contains(f.FirstError, "418") || !strings.Contains(f.FirstError, "oops") || rate != 0 {
				t.Errorf("%s: %+v", path, f)
			}
		case f.Errors != 0 || f.AnswerBytes != want || rate <= 0 || f.Latency.P50 <= 0:
			t.Errorf("%s: %+v", path, f)
		}
		if c.Reset(); c.Figures().Requests != 0 {
			t.Errorf("%s: after Reset: %+v", path, c.Figures())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Run(ctx, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a run whose context is over: %v", path, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestShares(t *testing.T) {
	if got := SharesOf(nil); got != (Shares{}) {
		t.Errorf("of nothing: %+v", got)
	}
	rounds := []Round{{10, 100}, {60, 200}, {20, 100}}
	if got, want := SharesOf(rounds), (Shares{Median: 0.2, Least: 0.1, Most: 0.3, Raw: 100}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := SharesOf(append(rounds, Round{80, 200})); got.Median != 0.25 || got.Raw != 150 {
		t.Errorf("of an even number: %+v", got)
	}
}
