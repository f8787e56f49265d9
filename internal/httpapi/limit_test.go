package httpapi

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forebay/forebay/internal/api"
)

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(10)
		let := func(n int) (through int) {
			for range n {
				if l.allow() == 0 {
					through++
				}
			}
			return through
		}
		if got := let(100); got != 10 {
			t.Errorf("%d at once, want 10", got)
		}
		if wait := l.allow(); wait != 100*time.Millisecond {
			t.Errorf("wait %v", wait)
		}
		time.Sleep(250 * time.Millisecond)
		if got := let(100); got != 2 {
			t.Errorf("%d after a quarter of a second, want 2", got)
		}
		time.Sleep(time.Hour) // rest does not add up
		var wg sync.WaitGroup
		var through atomic.Int64
		for range 50 {
			wg.Go(func() {
				if l.allow() == 0 {
					through.Add(1)
				}
			})
		}
		wg.Wait()
		if through.Load() != 10 {
			t.Errorf("%d of 50 at the same time, want 10", through.Load())
		}
	})
}

func TestRateLimitOfEachKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, Config{APIKeys: []string{"alice-key", "bob-key"}, RateLimit: 2}, newCompatEngine(t))
		lookup := func(key string) (int, string) {
			res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, `{"service":"driver_svc","entities":[{"driver_id":1001}]}`, "X-Api-Key", key)
			return res.Code, res.Header().Get("Retry-After")
		}
		for i, want := range []int{200, 200, 429} {
			if got, after := lookup("alice-key"); got != want || (want == 429) != (after == "1") {
				t.Errorf("request %d: %d, Retry-After %q, want %d", i, got, after, want)
			}
		}
		if got, _ := lookup("bob-key"); got != 200 {
			t.Errorf("the other key: %d", got)
		}
		if got, _ := lookup("nobody's"); got != 401 {
			t.Errorf("no key: %d", got)
		}
		// What is no lookup is not limited.
		if res := ask(t, s.Handler(), http.MethodGet, "/v1/registry/entities", "", "X-Api-Key", "alice-key"); res.Code != 200 {
			t.Errorf("the registry: %d", res.Code)
		}
		time.Sleep(time.Second)
		if got, _ := lookup("alice-key"); got != 200 {
			t.Errorf("a second later: %d", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, Config{RateLimit: 1}, newCompatEngine(t))
		for i, want := range []int{200, 429} {
			if res := ask(t, s.Handler(), http.MethodPost, "/get-online-features", `{"features":["driver_stats:trips"],"entities":{"driver_id":[1001]}}`); res.Code != want {
				t.Errorf("request %d: %d, want %d: %s", i, res.Code, want, res.Body)
			}
		}
	})
}
