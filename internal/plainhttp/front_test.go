package plainhttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// echoing answers with what it was asked: the oracle is net/http with the same handler.
func echoing() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/plain")
		w.Header()["X-Many"] = []string{"a", "b\r\nX-Evil: c"}
		text := fmt.Sprintf("%s %s %s %q %d %q %v %v", r.Method, r.RequestURI, r.Host, r.Header["X-Own"], r.ContentLength, body, err, r.Header["Accept"])
		if r.Header.Get("X-Long") != "" {
			text += strings.Repeat("long", 20_000)
		}
		if r.Header.Get("X-Declared") != "" {
			w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		}
		if r.Header.Get("X-Status") != "" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, text)
	})
}

type stack struct {
	front  *Front
	server *http.Server
	addr   string
	done   sync.WaitGroup
}

func start(t testing.TB, h http.Handler, targets ...string) *stack {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stack{
		front:  New(Options{Handler: h, Targets: targets, HeaderTimeout: time.Second, IdleTimeout: time.Minute, DrainGrace: 50 * time.Millisecond}),
		server: &http.Server{Handler: h, ReadHeaderTimeout: time.Second},
		addr:   l.Addr().String(),
	}
	s.front.Attach(s.server)
	for _, serve := range []func() error{func() error { return s.front.Serve(l) }, func() error { return s.server.Serve(s.front.Rest()) }} {
		s.done.Go(func() {
			if err := serve(); !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		if err := errors.Join(s.server.Close(), s.front.Close()); err != nil {
			t.Error(err)
		}
		s.done.Wait()
	})
	return s
}

const post = "POST /p HTTP/1.1\r\n"

// streams are what clients send over one connection.
var streams = []string{
	post + "Host: h\r\nContent-Length: 3\r\n\r\nabc",
	post + "Host: h\r\nContent-Length: 3\r\n\r\nabc" + post + "Host: h\r\nContent-Length: 3\r\n\r\ndef" + post + "Host: h\r\nx-own: 1\r\nX-OWN:  2 \r\nContent-Length: 0\r\n\r\n",
	post + "host: h:80\r\nX-Long: 1\r\nX-Declared: 1\r\nContent-Length: 1\r\n\r\nx" + post + "Host: h\r\nX-Status: 1\r\ncontent-length: 2\r\n\r\nxy",
	post + "Host: h\r\nContent-Length: 3\r\n\r\nabcGET /other HTTP/1.1\r\nHost: h\r\n\r\n" + post + "Host: h\r\nContent-Length: 1\r\n\r\nz",
	post + "Host: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	post + "Host: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	post + "Host: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
	post + "Host: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
	post + "Host: h\r\nContent-Length: -1\r\n\r\n",
	post + "Host: h\r\nContent-Length: +3\r\n\r\nabc",
	post + "Host: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
	post + "Host: h\r\nContent-Length: 3\r\nConnection: Keep-Alive\r\n\r\nabc",
	post + "Host: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
	post + "Content-Length: 3\r\n\r\nabc",
	post + "Host: h\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
	post + "Host: h h\r\nContent-Length: 3\r\n\r\nabc",
	post + "Host: h\r\nX-Own: a\r\n b\r\nContent-Length: 3\r\n\r\nabc",
	post + "Host: h\r\nX-Own : a\r\nContent-Length: 3\r\n\r\nabc",
	post + "Host: h\nContent-Length: 3\n\nabc",
	post + "Host: h\r\nX-Own: a\x00b\r\nContent-Length: 3\r\n\r\nabc",
	post + "Host: h\r\nX-Own: \xff\xe9\r\nContent-Length: 3\r\n\r\nabc",
	post + "Host: h\r\nnonsense\r\n\r\n",
	post + "Host: h\r\nX-Own: " + strings.Repeat("x", 6000) + "\r\nContent-Length: 3\r\n\r\nabc",
	"POST /p HTTP/1.0\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
	"POST /p?q=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
	"POST http://h/p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
	"GET /p HTTP/1.1\r\nHost: h\r\n\r\n",
	"HEAD /p HTTP/1.1\r\nHost: h\r\n\r\n",
	"POST /p  HTTP/1.1\r\nHost: h\r\n\r\n",
	"\r\n" + post + "Host: h\r\nContent-Length: 3\r\n\r\nabc",
	"nonsense\r\n\r\n",
	"\x16\x03\x01 hello over TLS",
	post + "Host: h\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000),
}

// answers are all answers to a stream, as text. A server that refuses a stream of which more is to come
// closes, and what still comes resets the connection: what the client then has of the answer is
// chance, so such streams are sent again.
func answers(t *testing.T, addr, stream string, rng *rand.Rand) []string {
	t.Helper()
	for range 100 {
		if all, reset := answered(t, addr, stream, rng); !reset {
			return all
		}
	}
	t.Fatalf("%.300q: the connection is always reset", stream)
	return nil
}

func answered(t *testing.T, addr, stream string, rng *rand.Rand) (all []string, reset bool) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var sent sync.WaitGroup
	defer sent.Wait()
	sent.Go(func() {
		for left := stream; len(left) > 0; { // in pieces, as networks deliver
			n := len(left)
			if rng != nil {
				n = 1 + rng.IntN(min(n, 1+len(stream)/4))
			}
			if _, err := io.WriteString(conn, left[:n]); err != nil {
				return // it was refused
			}
			left = left[n:]
		}
		_ = conn.(*net.TCPConn).CloseWrite()
	})
	in := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(in, &http.Request{Method: method(stream)})
		if err != nil {
			return all, errors.Is(err, syscall.ECONNRESET)
		}
		body, err := io.ReadAll(res.Body)
		if errors.Is(err, syscall.ECONNRESET) {
			return all, true
		}
		if _, err := http.ParseTime(res.Header.Get("Date")); err != nil && (res.StatusCode == http.StatusOK || res.StatusCode == http.StatusServiceUnavailable) {
			t.Errorf("Date: %v", err)
		}
		res.Header.Del("Date")
		res.Header.Del("Content-Length") // net/http sends what is long in chunks
		all = append(all, fmt.Sprint(res.StatusCode, res.Header, string(body), err))
	}
}

func method(stream string) string {
	m, _, _ := strings.Cut(stream, " ")
	return m
}

// TestAnswersAreNetHTTPs: whatever is sent, and in whatever pieces, the answers are those of
// net/http alone.
func TestAnswersAreNetHTTPs(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	front, alone := start(t, echoing(), "POST /p"), start(t, echoing())
	for _, stream := range streams {
		want := answers(t, alone.addr, stream, nil)
		for try := range 8 {
			var rng *rand.Rand
			if try > 0 {
				rng = rand.New(rand.NewPCG(seed, uint64(try)))
			}
			if got := answers(t, front.addr, stream, rng); !reflect.DeepEqual(got, want) {
				t.Errorf("%.300q:\n%.600q, want\n%.600q", stream, got, want)
				break
			}
		}
	}
}

// TestPlainIsTaken: the streams that are plain are really read here.
func TestPlainIsTaken(t *testing.T) {
	for _, stream := range streams[:3] {
		headEnd := strings.Index(stream, "\r\n\r\n") + 4
		if _, plain := parse([]byte(stream[:headEnd]), []target{newTarget("POST /p")}); !plain {
			t.Errorf("%q is left to net/http", stream)
		}
	}
}

// FuzzHead: what is taken for plain is to net/http the same request.
func FuzzHead(f *testing.F) {
	for _, s := range streams {
		f.Add([]byte(s))
	}
	targets := []target{newTarget("POST /p")}
	f.Fuzz(func(t *testing.T, b []byte) {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			return
		}
		b = b[:end+4]
		h, plain := parse(b, targets)
		if !plain {
			return
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if req.Method != http.MethodPost || req.URL.Path != "/p" || req.Host != h.host || req.ContentLength != h.length || len(req.TransferEncoding) > 0 || req.Close {
			t.Fatalf("%q: %+v, here %+v", b, req, h)
		}
		if len(req.Header) != len(h.header) {
			t.Fatalf("%q: %v, here %v", b, req.Header, h.header)
		}
		for name, values := range h.header {
			if !reflect.DeepEqual(values, req.Header[name]) {
				t.Fatalf("%q: %v, here %v", b, req.Header, h.header)
			}
		}
	})
}

// TestShutdown: on the connections of net/http too, a request that was on its way is answered, and the client told
// that it is the last.
func TestShutdown(t *testing.T) {
	for name, request := range map[string]string{
		"Plain":   post + "Host: h\r\nContent-Length: 0\r\n\r\n",
		"NetHTTP": post + "Host: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) { shutdown(t, request) })
	}
}

func shutdown(t *testing.T, request string) {
	leaks := goleak.IgnoreCurrent()
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-leave
		_, _ = io.WriteString(w, "done")
	}), "POST /p")
	dial := func() net.Conn {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	busy, idle, never := dial(), dial(), dial()
	defer busy.Close()
	defer idle.Close()
	defer never.Close()
	ask := func(c net.Conn) {
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
	}
	answered := func(c net.Conn, last bool) {
		t.Helper()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || string(body) != "done" || res.Close != last {
			t.Errorf("%+v %s", res, body)
		}
	}
	ask(idle)
	<-entered
	leave <- struct{}{}
	answered(idle, false)
	ask(busy)
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- s.front.Shutdown(t.Context()) }()
	for { // until nobody is let in
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			break
		}
		_ = c.Close()
	}
	for !s.front.draining.Load() {
		runtime.Gosched()
	}
	ask(idle) // it was on its way
	<-entered
	close(leave)
	answered(idle, true)
	if res, err := http.ReadResponse(bufio.NewReader(busy), nil); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("what was being answered: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if n, err := never.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("an idle connection is open: %d, %v", n, err)
	}
	if err := errors.Join(s.server.Close(), s.front.Close()); err != nil {
		t.Error(err)
	}
	s.done.Wait()
	goleak.VerifyNone(t, leaks)
}

// TestShutdownCutsOff: who takes too long is not waited for for ever.
func TestShutdownCutsOff(t *testing.T) {
	entered := make(chan struct{})
	s := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}), "POST /p")
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, post+"Host: h\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.front.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := s.front.Close(); err != nil {
		t.Error(err)
	}
}

// TestHalfAnAnswer: a handler that fails in the middle ends the connection.
func TestHalfAnAnswer(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "half")
		if r.Header.Get("X-Own") != "" {
			panic(http.ErrAbortHandler)
		}
	}), "POST /p")
	for _, more := range []string{"", "X-Own: 1\r\n"} {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, post+"Host: h\r\n"+more+"Content-Length: 0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q, %v", body, err)
		}
		_ = c.Close()
	}
}

func BenchmarkFront(b *testing.B) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Length"] = []string{"2"}
		_, _ = io.WriteString(w, "ok")
	})
	for name, targets := range map[string][]string{"Plain": {"POST /p"}, "NetHTTP": nil} {
		b.Run(name, func(b *testing.B) {
			s := start(b, h, targets...)
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				c, err := net.Dial("tcp", s.addr)
				if err != nil {
					b.Error(err)
					return
				}
				defer c.Close()
				in := bufio.NewReader(c)
				for pb.Next() {
					if _, err := io.WriteString(c, post+"Host: h\r\nContent-Length: 3\r\n\r\nabc"); err != nil {
						b.Error(err)
						return
					}
					for line := ""; line != "\r\n"; {
						if line, err = in.ReadString('\n'); err != nil {
							b.Error(err)
							return
						}
					}
					_, _ = in.Discard(2)
				}
			})
		})
	}
}
