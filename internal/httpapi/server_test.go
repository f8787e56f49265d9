package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/telemetry"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry/selection"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newTestServer(t testing.TB, cfg Config, engine Engine) *Server {
	t.Helper()
	return newLoggedServer(t, cfg, engine, slog.New(slog.DiscardHandler))
}

func newLoggedServer(t testing.TB, cfg Config, engine Engine, log *slog.Logger) *Server {
	t.Helper()
	s, err := New(Options{Config: cfg, Engine: engine, Log: log, Metrics: telemetry.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start serves on a free port until the test ends.
func start(t *testing.T, s *Server) string {
	t.Helper()
	addr, err := s.Start(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return addr.String()
}

const lookup1001 = `{"service":"driver_svc","entities":[{"driver_id":1001}]}`

func TestStartStop(t *testing.T) {
	s := newTestServer(t, Config{}, newCompatEngine(t))
	addr := start(t, s)
	if _, err := s.Start(t.Context(), "127.0.0.1:0"); err == nil {
		t.Error("started twice")
	}
	for _, h2 := range []bool{false, true} {
		var protocols http.Protocols
		protocols.SetHTTP1(!h2)
		protocols.SetUnencryptedHTTP2(h2)
		transport := &http.Transport{Protocols: &protocols}
		client := &http.Client{Transport: transport}
		res, err := client.Post("http://"+addr+"/v1/features", "application/json", strings.NewReader(lookup1001))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"values":[7,0.1]`)) {
			t.Errorf("%s: %d %s %v", res.Proto, res.StatusCode, body, err)
		}
		if want := map[bool]int{false: 1, true: 2}[h2]; res.ProtoMajor != want {
			t.Errorf("HTTP/%d, want %d", res.ProtoMajor, want)
		}
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
		transport.CloseIdleConnections()
	}
	for range 2 {
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Start(t.Context(), "127.0.0.1:0"); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("started after Stop: %v", err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("still listening")
	}
	if err := newTestServer(t, Config{}, newCompatEngine(t)).Stop(t.Context()); err != nil {
		t.Errorf("stop without a start: %v", err)
	}
}

func TestAddressInUse(t *testing.T) {
	addr := start(t, newTestServer(t, Config{}, newCompatEngine(t)))
	if _, err := newTestServer(t, Config{}, newCompatEngine(t)).Start(t.Context(), addr); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("started on an address in use: %v", err)
	}
}

// A request being answered when Stop is called is answered; one that takes too
// long is cut off, and Stop says so.
func TestStopDrains(t *testing.T) {
	e := newCompatEngine(t)
	began, release := make(chan struct{}), make(chan struct{})
	e.find = func(ctx context.Context) error {
		began <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s := newTestServer(t, Config{}, e)
	addr := start(t, s)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	var wg sync.WaitGroup
	wg.Go(func() {
		res, err := (&http.Client{Transport: transport}).Post("http://"+addr+"/v1/features", "application/json", strings.NewReader(lookup1001))
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("the drained request was answered %d", res.StatusCode)
		}
	})
	<-began
	stopped := make(chan error)
	go func() { stopped <- s.Stop(context.Background()) }()
	for { // until nobody is let in any more
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// A server that is stopped breaks no request that is on its way over a connection that net/http serves: those of
// chunked bodies, which no client sends a second time, go on through any number of restarts.
func TestRestartsBreakNothing(t *testing.T) {
	for name, h2 := range map[string]bool{"http1": false, "h2c": true} {
		t.Run(name, func(t *testing.T) { restarts(t, h2) })
	}
}

func restarts(t *testing.T, h2 bool) {
	const clients, times, each = 32, 6, 200
	engine := newCompatEngine(t)
	serve := func(addr string) (*Server, string) {
		s := newTestServer(t, Config{}, engine)
		s.grace = 5 * time.Second // no client is that slow; a connection ends with its next answer
		a, err := s.Start(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		return s, a.String()
	}
	s, addr := serve("127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan struct{})
	var down sync.Mutex // held while nobody may be listening
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		for {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				return c, err
			}
			down.Lock()
			down.Unlock() //nolint:staticcheck // to wait is all
		}
	}
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			transport := &http.Transport{DialContext: dial}
			if h2 {
				transport.Protocols = new(http.Protocols)
				transport.Protocols.SetUnencryptedHTTP2(true)
			}
			defer transport.CloseIdleConnections()
			for ctx.Err() == nil {
				// Over HTTP/2 a GOAWAY says what was not begun, and clients send that again if they can.
				var body io.Reader = strings.NewReader(lookup1001)
				if !h2 {
					body = struct{ io.Reader }{body} // of a length that the client does not know
				}
				res, err := (&http.Client{Transport: transport}).Post("http://"+addr+"/v1/features", "application/json", body)
				if err != nil {
					t.Error(err)
					continue
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
					t.Errorf("%d, %v", res.StatusCode, err)
				}
				_ = res.Body.Close()
				select {
				case answered <- struct{}{}:
				case <-ctx.Done():
				}
			}
		})
	}
	for range times {
		for range each {
			<-answered
		}
		stopped := make(chan error)
		down.Lock()
		go func() { stopped <- s.Stop(context.Background()) }()
		for waiting := true; waiting; {
			select {
			case <-answered:
			case err := <-stopped:
				if waiting = false; err != nil {
					t.Error(err)
				}
			}
		}
		s, _ = serve(addr)
		down.Unlock()
	}
	cancel()
	wg.Wait()
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestStopCutsOff(t *testing.T) {
	e := newCompatEngine(t)
	began := make(chan struct{})
	e.find = func(ctx context.Context) error {
		began <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	s := newTestServer(t, Config{DrainTimeout: time.Millisecond}, e)
	addr, err := s.Start(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	failed := make(chan error)
	go func() {
		res, err := (&http.Client{Transport: transport}).Post("http://"+addr.String()+"/v1/features", "application/json", strings.NewReader(lookup1001))
		if err == nil {
			err = res.Body.Close()
		}
		failed <- err
	}()
	<-began
	if err := s.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("Stop said %v", err)
	}
	if err := <-failed; err == nil {
		t.Error("the request that was cut off did not fail")
	}
}

// Clients that send slowly are given up: in the headers, and in the body.
func TestSlowClients(t *testing.T) {
	addr := start(t, newTestServer(t, Config{HeaderTimeout: 50 * time.Millisecond, BodyTimeout: 50 * time.Millisecond}, newCompatEngine(t)))
	for _, tc := range []struct{ sent, want string }{
		{"POST /v1/features HTTP/1.1\r\nHost: x\r\n", ""}, // closed, or 408 by net/http
		{"POST /v1/features HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", "HTTP/1.1 408 "},
		{"POST /v1/datasets?service=driver_svc HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 100\r\n\r\na", "HTTP/1.1 408 "},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, tc.sent); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil && len(answer) == 0 && tc.want != "" {
			t.Errorf("%q: %v", tc.sent, err)
		}
		if !strings.HasPrefix(string(answer), tc.want) {
			t.Errorf("%q was answered %q", tc.sent, answer)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A connection that was asked slowly once is fine for the next request.
func TestDeadlinesAreOfOneRequest(t *testing.T) {
	e := newCompatEngine(t)
	wait := make(chan time.Time, 1)
	e.find = func(ctx context.Context) error {
		select {
		case <-wait: // longer than BodyTimeout: the connection's deadline must be lifted by now
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	addr := start(t, newTestServer(t, Config{BodyTimeout: 20 * time.Millisecond}, e))
	time.AfterFunc(100*time.Millisecond, func() { wait <- time.Now() })
	transport := &http.Transport{MaxConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	for range 3 {
		res, err := (&http.Client{Transport: transport}).Post("http://"+addr+"/v1/features", "application/json", strings.NewReader(lookup1001))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("%d, %v", res.StatusCode, err)
		}
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
		e.find = nil
	}
}

func TestErrorsOfTheEngine(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error
		status int
		code   string
	}{
		{"store away", fmt.Errorf("looking up: %w", online.Unavailable("10.0.0.1:6379", "get", errors.New("connection refused"))), 503, "unavailable"},
		{"store hangs", online.Unavailable("10.0.0.1:6379", "get", context.DeadlineExceeded), 503, "unavailable"},
		{"store closed", online.ErrClosed, 503, "unavailable"},
		{"offline store away", offline.ErrUnavailable, 503, "unavailable"},
		{"conflict", offline.ErrConflict, 409, "conflict"},
		{"deadline", context.DeadlineExceeded, 504, "deadline_exceeded"},
		{"not found", &NotFoundError{Code: "unknown_dataset", Message: "no"}, 404, "unknown_dataset"},
		{"input", &InputError{Field: "x", Message: "no"}, 400, "bad_request"},
		{"anything else", errors.New("secret: password is hunter2"), 500, "internal"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newCompatEngine(t)
			e.find = func(context.Context) error { return tc.err }
			var log bytes.Buffer
			logger, err := telemetry.NewLogger(&log, telemetry.JSON, slog.LevelInfo)
			if err != nil {
				t.Fatal(err)
			}
			s := newLoggedServer(t, Config{}, e, logger)
			res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, lookup1001)
			var got api.ErrorBody
			if err := json.Unmarshal(res.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if res.Code != tc.status || got.Error.Code != tc.code {
				t.Errorf("%d %+v", res.Code, got.Error)
			}
			if (res.Code == http.StatusServiceUnavailable) != (res.Header().Get("Retry-After") != "") {
				t.Errorf("%d with Retry-After %q", res.Code, res.Header().Get("Retry-After"))
			}
			if strings.Contains(res.Body.String(), "hunter2") || strings.Contains(res.Body.String(), "10.0.0.1") {
				t.Errorf("the client was told %s", res.Body)
			}
			if !strings.Contains(log.String(), tc.err.Error()) {
				t.Errorf("the log does not say why: %s", log.String())
			}
			feast := ask(t, s.Handler(), http.MethodPost, "/get-online-features", `{"feature_service":"driver_svc","entities":{"driver_id":[1001]}}`)
			var text string
			if err := json.Unmarshal(feast.Body.Bytes(), &text); err != nil || feast.Code != tc.status {
				t.Errorf("Feast's clients get %d %s", feast.Code, feast.Body)
			}
		})
	}
}

// The request's own deadline is a 504, whatever the store makes of it.
func TestRequestTimeout(t *testing.T) {
	e := newCompatEngine(t)
	e.find = func(ctx context.Context) error {
		<-ctx.Done()
		return online.Unavailable("10.0.0.1:6379", "get", ctx.Err())
	}
	s := newTestServer(t, Config{RequestTimeout: time.Millisecond}, e)
	if res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, lookup1001); res.Code != http.StatusGatewayTimeout {
		t.Errorf("%d %s", res.Code, res.Body)
	}
}

func TestNothingApplied(t *testing.T) {
	s := newTestServer(t, Config{}, &memoryEngine{checks: []api.Check{{Name: "registry", Error: "nothing applied"}}})
	for _, tc := range []struct{ method, path, body string }{
		{http.MethodPost, "/v1/features", lookup1001},
		{http.MethodPost, "/get-online-features", `{"feature_service":"driver_svc","entities":{"driver_id":[1001]}}`},
		{http.MethodGet, "/v1/registry/sources", ""},
		{http.MethodGet, "/readyz", ""}, {http.MethodGet, "/health", ""},
	} {
		if res := ask(t, s.Handler(), tc.method, tc.path, tc.body); res.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", tc.path, res.Code, res.Body)
		}
	}
	if res := ask(t, s.Handler(), http.MethodGet, "/healthz", ""); res.Code != http.StatusOK {
		t.Errorf("/healthz: %d", res.Code)
	}
}

func TestPanic(t *testing.T) {
	e := newCompatEngine(t)
	e.plan = func(selection.Request) error { panic("boom") }
	var log bytes.Buffer
	s := newLoggedServer(t, Config{}, e, slog.New(slog.NewJSONHandler(&log, nil)))
	res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, lookup1001)
	if res.Code != http.StatusInternalServerError || !strings.Contains(res.Body.String(), `"internal"`) || strings.Contains(res.Body.String(), "boom") {
		t.Errorf("%d %s", res.Code, res.Body)
	}
	if !strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "server_test.go") {
		t.Errorf("the log lacks the panic or its stack: %s", log.String())
	}
	e.plan = nil
	if res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, lookup1001); res.Code != http.StatusOK {
		t.Errorf("after a panic: %d", res.Code)
	}
}

func TestRequestIDAndTrace(t *testing.T) {
	var log bytes.Buffer
	logger, err := telemetry.NewLogger(&log, telemetry.JSON, slog.LevelDebug)
	if err != nil {
		t.Fatal(err)
	}
	s := newLoggedServer(t, Config{}, newCompatEngine(t), logger)
	res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, lookup1001,
		"X-Request-Id", "my-id", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if got := res.Header().Get("X-Request-Id"); got != "my-id" {
		t.Errorf("X-Request-Id %q", got)
	}
	var line struct {
		RequestID string `json:"request_id"`
		TraceID   string `json:"trace_id"`
		Route     string `json:"route"`
		Status    int    `json:"status"`
	}
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, log.String())
	}
	if line.RequestID != "my-id" || line.TraceID != "0af7651916cd43dd8448eb211c80319c" || line.Route != "/v1/features" || line.Status != 200 {
		t.Errorf("logged %s", log.String())
	}
	for _, bad := range []string{"", "with space", strings.Repeat("x", 200), "ctrl\x7f"} {
		res := ask(t, s.Handler(), http.MethodGet, "/healthz", "", "X-Request-Id", bad)
		if got := res.Header().Get("X-Request-Id"); got == bad || len(got) < 20 {
			t.Errorf("for the id %q came %q", bad, got)
		}
	}
}

func TestAPIKeys(t *testing.T) {
	s := newTestServer(t, Config{APIKeys: []string{"one", "two"}}, newCompatEngine(t))
	for _, tc := range []struct {
		header, value string
		want          int
	}{
		{"X-API-Key", "one", 200}, {"X-API-Key", "two", 200}, {"Authorization", "Bearer two", 200}, {"Authorization", "bearer one", 200},
		{"X-API-Key", "", 401}, {"X-API-Key", "three", 401}, {"X-API-Key", "on", 401}, {"Authorization", "Basic one", 401}, {"Authorization", "one", 401},
	} {
		res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, lookup1001, tc.header, tc.value)
		if res.Code != tc.want {
			t.Errorf("%s: %s: %d, want %d", tc.header, tc.value, res.Code, tc.want)
		}
		if tc.want == 401 && (res.Header().Get("WWW-Authenticate") != "Bearer" || !strings.Contains(res.Body.String(), "unauthorized")) {
			t.Errorf("%v %s", res.Header(), res.Body)
		}
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/health": 200, "/openapi.json": 200, "/metrics": 401, "/v1/datasets": 401, "/v1/registry/sources": 401} {
		if res := ask(t, s.Handler(), http.MethodGet, path, ""); res.Code != want {
			t.Errorf("%s without a key: %d, want %d", path, res.Code, want)
		}
	}
}

func TestMaxConcurrent(t *testing.T) {
	e := newCompatEngine(t)
	began, release := make(chan struct{}), make(chan struct{})
	e.find = func(context.Context) error {
		began <- struct{}{}
		<-release
		return nil
	}
	s := newTestServer(t, Config{MaxConcurrent: 1}, e)
	var wg sync.WaitGroup
	wg.Go(func() {
		if res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, lookup1001); res.Code != http.StatusOK {
			t.Errorf("the first: %d", res.Code)
		}
	})
	<-began
	res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, lookup1001)
	if res.Code != http.StatusServiceUnavailable || res.Header().Get("Retry-After") == "" || !strings.Contains(res.Body.String(), "overloaded") {
		t.Errorf("the second: %d %s", res.Code, res.Body)
	}
	close(release)
	wg.Wait()
	e.find = nil
	if res := ask(t, s.Handler(), http.MethodPost, api.PathFeatures, lookup1001); res.Code != http.StatusOK {
		t.Errorf("the third: %d", res.Code)
	}
}

func TestUnrouted(t *testing.T) {
	s := newTestServer(t, Config{}, newCompatEngine(t))
	for _, tc := range []struct {
		method, path string
		want         int
		body         string
	}{
		{"GET", "/v1/nothing", 404, `"error"`}, {"GET", "/v1/features", 405, `"error"`}, {"GET", "/nothing", 404, `"detail":"Not Found"`},
		{"GET", "/get-online-features", 405, `"detail":"Method Not Allowed"`}, {"DELETE", "/healthz", 405, `"error"`}, {"POST", "/get-online-feature", 404, `"detail":"Not Found"`},
	} {
		res := ask(t, s.Handler(), tc.method, tc.path, "{}")
		if res.Code != tc.want || !strings.Contains(res.Body.String(), tc.body) || res.Header().Get("X-Request-Id") == "" {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, res.Code, res.Body)
		}
		if tc.want == 405 && res.Header().Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", tc.method, tc.path)
		}
	}
}

// HEAD is GET without the body.
func TestHead(t *testing.T) {
	e := newCompatEngine(t)
	addr := start(t, newTestServer(t, Config{}, e))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/registry/sources", "/v1/datasets", "/nothing", "/v1/features"} {
		var got [2]*http.Response
		for i, ask := range []func(string) (*http.Response, error){client.Get, client.Head} {
			res, err := ask("http://" + addr + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || i == 1 && len(body) > 0 {
				t.Errorf("%s: %q, %v", path, body, err)
			}
			_ = res.Body.Close()
			got[i] = res
		}
		if got[0].StatusCode != got[1].StatusCode || got[0].Header.Get("Content-Type") != got[1].Header.Get("Content-Type") {
			t.Errorf("%s: GET %d %v, HEAD %d %v", path, got[0].StatusCode, got[0].Header, got[1].StatusCode, got[1].Header)
		}
	}
}

func TestMetricsOfRoutes(t *testing.T) {
	s := newTestServer(t, Config{}, newCompatEngine(t))
	ask(t, s.Handler(), http.MethodPost, "/v1/features", lookup1001)
	ask(t, s.Handler(), http.MethodPost, "/v1/features", `{`)
	ask(t, s.Handler(), http.MethodPost, "/v1/push/nobody", `{"rows":[]}`)
	ask(t, s.Handler(), http.MethodGet, "/nowhere/at/all", "")
	body := ask(t, s.Handler(), http.MethodGet, "/metrics", "").Body.String()
	for _, want := range []string{
		`forebay_http_requests_total{code="200",route="/v1/features"} 1`, `forebay_http_requests_total{code="400",route="/v1/features"} 1`,
		`forebay_http_requests_total{code="404",route="/v1/push/{source}"} 1`, `forebay_http_requests_total{code="404",route="unknown"} 1`,
		`forebay_http_requests_in_flight 1`, `go_goroutines`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, bad := range []Config{{MaxBody: -1}, {MaxEntities: -1}, {BodyTimeout: -1}, {APIKeys: []string{"a", ""}}} {
		if _, err := New(Options{Config: bad, Log: slog.New(slog.DiscardHandler), Metrics: telemetry.NewRegistry()}); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}
