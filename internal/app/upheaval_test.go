package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/testenv"
)

// served is a server of a repository, until stop.
type served struct {
	url  string
	stop func()
}

func serveRepository(t *testing.T, dir string) served {
	t.Helper()
	a := open(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- a.Serve(ctx, ServeOptions{Listen: "127.0.0.1:0", Ready: func(url string) { ready <- url }})
	}()
	select {
	case url := <-ready:
		return served{url, sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})}
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	return served{}
}

// asking asks for SFO's delay without a pause, over connections that are kept; any answer that is
// not one of the wanted fails the test.
type asking struct {
	t     *testing.T
	url   atomic.Pointer[string]
	seen  sync.Map // answers: the value as text
	stale atomic.Int64
	count atomic.Int64
	stop  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
}

func ask(t *testing.T, url string) *asking {
	q := &asking{t: t, stop: make(chan struct{})}
	q.url.Store(&url)
	for range 4 {
		q.wg.Go(func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
			for {
				select {
				case <-q.stop:
					return
				default:
				}
				res, err := client.Post(*q.url.Load()+api.PathFeatures, api.TypeJSON, strings.NewReader(`{"service":"model","entities":[{"origin":"SFO"}],"omit":["statuses","event_timestamps"]}`))
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				_, value, found := strings.Cut(string(body), `"values":[`)
				if err != nil || res.StatusCode != http.StatusOK || !found {
					t.Errorf("%d %s %v", res.StatusCode, body, err)
					return
				}
				if res.Header.Get(api.HeaderStaleSince) != "" {
					q.stale.Add(1)
				}
				value, _, _ = strings.Cut(value, "]")
				q.seen.Store(value, true)
				q.count.Add(1)
			}
		})
	}
	return q
}

// more waits for more answers, until ok.
func (q *asking) more(ok func() bool) {
	q.t.Helper()
	from := q.count.Load()
	eventually(q.t, func() bool {
		if q.t.Failed() {
			q.t.FailNow()
		}
		return q.count.Load() >= from+40 && ok()
	})
}

func (q *asking) end() {
	q.once.Do(func() { close(q.stop) })
	q.wg.Wait()
}

func (q *asking) saw(value string) func() bool {
	return func() bool {
		_, ok := q.seen.Load(value)
		return ok
	}
}

func always() bool { return true }

// TestNoLookupFails: while a revision is applied and filled, while a server is replaced by another, and, with
// max_stale, while Redis is away, every lookup is answered.
func TestNoLookupFails(t *testing.T) {
	redis := testenv.RedisServer(t)
	dir := repository(t)
	online := fmt.Sprintf(`{store: redis, addrs: [%q], cache: {max_bytes: 1MiB, max_age: 50ms, max_stale: 10m}}`, redis.Addr)
	write(t, filepath.Join(dir, "forebay.yaml"), strings.Replace(settings, "{store: embedded, path: ./.forebay/online}", online, 1))
	a := open(t, dir)
	fill(t, a)
	first := serveRepository(t, dir)
	defer first.stop()
	q := ask(t, first.url)
	defer q.end()
	q.more(q.saw("20"))

	// A revision that makes another generation, and what goes with it.
	write(t, filepath.Join(dir, "features.yaml"), strings.Replace(definitions, "expr: delay", `expr: "delay * 2"`, 1))
	apply(t, a)
	q.more(always)
	if _, err := a.Materialize(t.Context(), MaterializeOptions{}); err != nil {
		t.Fatal(err)
	}
	q.more(q.saw("40"))

	// A restart behind a load balancer: the next is there before the first is told to stop.
	second := serveRepository(t, dir)
	defer second.stop()
	q.more(always)
	q.url.Store(&second.url)
	first.stop()
	q.more(always)
	if q.stale.Load() > 0 {
		t.Errorf("%d answers are stale though Redis was there", q.stale.Load())
	}

	// Redis goes away and comes back, without its data.
	redis.Kill(t)
	q.more(func() bool { return q.stale.Load() > 100 })
	redis.Restart(t)
	for stale := int64(-1); stale != q.stale.Load(); { // until they are of now again
		stale = q.stale.Load()
		q.more(always)
	}
	q.end()
	q.seen.Range(func(value, _ any) bool {
		if v := value.(string); v != "20" && v != "40" && v != "null" {
			t.Errorf("answered %s", v)
		}
		return true
	})
}
