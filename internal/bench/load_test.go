package bench

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forebay/forebay/internal/testenv"
)

// clientFunc is a Client that a function answers for.
type clientFunc func(n int64) (int, error)

func (f clientFunc) Do(n int64) (int, error) { return f(n) }
func (clientFunc) Close() error              { return nil }

func near(a, b float64) bool { return math.Abs(a-b) <= 0.002*b+0.01 }

// A server that answers in 1 ms, but for one pause of a second. Under an open
// loop the requests that fell due in the pause have waited for it.
func TestOpenLoopCountsFromWhenARequestWasDue(t *testing.T) {
	stall := func(n int64) (int, error) {
		if n == 100 {
			time.Sleep(time.Second)
		} else {
			time.Sleep(time.Millisecond)
		}
		return 10, nil
	}
	synctest.Test(t, func(t *testing.T) {
		closed, err := Run(t.Context(), Load{Clients: []Client{clientFunc(stall)}, Duration: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if closed.Requests != 4001 || !near(closed.Latency.P99, 1) || !near(closed.Latency.Max, 1000) {
			t.Errorf("closed: %+v", closed)
		}
		open, err := Run(t.Context(), Load{Clients: []Client{clientFunc(stall)}, Rate: 100, Duration: 5 * time.Second, sleep: time.Sleep})
		if err != nil {
			t.Fatal(err)
		}
		// Due from 1.00 s to 2.11 s: late by a second, the next by 10 ms less and 1 ms more, and so on.
		if open.Requests != 500 || open.Latency.P50 > 1.1 || !near(open.Latency.Max, 1000) {
			t.Errorf("open: %+v", open)
		}
		if open.Latency.P90 < 500 || open.Latency.P90 > 600 {
			t.Errorf("open: p90 %v ms: every tenth request waited half a second or more", open.Latency.P90)
		}
		if open.AnswerBytes != 10 || open.Rate != 100 {
			t.Errorf("open: %+v", open)
		}
	})
}

func TestRunCountsErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		odd := clientFunc(func(n int64) (int, error) {
			time.Sleep(time.Millisecond)
			if n%2 == 1 {
				return 0, errors.New("odd")
			}
			return 0, nil
		})
		f, err := Run(t.Context(), Load{Clients: []Client{odd, odd}, Rate: 10, Duration: time.Second, sleep: time.Sleep})
		if err != nil || f.Requests != 10 || f.Errors != 5 || f.FirstError != "odd" || !near(f.PerSecond, 5/f.Seconds) {
			t.Errorf("%+v, %v", f, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Run(ctx, Load{Clients: []Client{odd}, Duration: time.Hour}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a run whose context ends: %v", err)
		}
		if _, err := Run(t.Context(), Load{Duration: time.Second}); err == nil {
			t.Error("a run without clients")
		}
	})
}

func TestHTTPClient(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/bad":
			w.Header().Set("Content-Length", "4")
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write([]byte("oops"))
		case "/chunks":
			w.(http.Flusher).Flush()
		default:
			if r.Header.Get("Accept") != "text/x" || r.ContentLength != 2 {
				http.Error(w, "header", http.StatusBadRequest)
				return
			}
			_, _ = w.Write([]byte(strings.Repeat("x", 2000)))
		}
	}))
	defer server.Close()
	addr := server.Listener.Addr().String()
	requests := []Request{NewRequest(addr, "/", []byte("{}"), "Accept: text/x"), NewRequest(addr, "/bad", nil)}
	c, err := DialHTTP(t.Context(), addr, requests)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for n := range int64(4) {
		got, err := c.Do(n)
		if bad := n%2 == 1; bad != (err != nil) || !bad && got != 2000 || bad && !strings.Contains(err.Error(), "418") {
			t.Errorf("request %d: %d bytes, %v", n, got, err)
		}
	}
	chunks, err := DialHTTP(t.Context(), addr, []Request{NewRequest(addr, "/chunks", nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = chunks.Close() }()
	if _, err := chunks.Do(0); err == nil {
		t.Error("an answer whose end is not known was taken")
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if _, err := DialHTTP(t.Context(), l.Addr().String(), nil); err == nil {
		t.Error("connected to nobody")
	}
	if _, err := (Redis{Addr: l.Addr().String()}).Keys(t.Context(), "*", 1); err == nil {
		t.Error("connected to nobody")
	}
}

func TestRedisClient(t *testing.T) {
	node := testenv.RedisServer(t, "--requirepass", "secret")
	r := Redis{Addr: node.Addr, Password: "secret", DB: 3}
	set, err := DialRedis(t.Context(), r, [][]byte{append(Command("SET", "a", "12345"), Command("SET", "b", "678")...)}, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = set.Close() }()
	if _, err := set.Do(0); err != nil {
		t.Fatal(err)
	}
	get, err := DialRedis(t.Context(), r, [][]byte{Command("MGET", "a", "b", "none"), Command("GET", "b"), Command("NONSENSE")}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = get.Close() }()
	for n, want := range []int{8, 3, -1, 8} {
		if got, err := get.Do(int64(n)); want >= 0 && (got != want || err != nil) || want < 0 && err == nil {
			t.Errorf("command %d: %d bytes, %v", n, got, err)
		}
	}
	keys, err := r.Keys(t.Context(), "*", 10)
	if err != nil || len(keys) != 2 {
		t.Errorf("keys %q, %v", keys, err)
	}
	r.Password = "wrong"
	if _, err := DialRedis(t.Context(), r, nil, 1); err == nil {
		t.Error("a wrong password was taken")
	}
}
