package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/forebay/forebay/internal/api"
)

// slowBody is a body of which nothing comes until it is released.
type slowBody struct {
	reading chan<- struct{}
	release <-chan struct{}
	body    io.Reader
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.reading != nil {
		b.reading <- struct{}{}
		b.reading = nil
		<-b.release
	}
	return b.body.Read(p)
}

// slowReader takes nothing of an answer until it is released.
type slowReader struct {
	*httptest.ResponseRecorder
	writing chan<- struct{}
	release <-chan struct{}
}

func (w *slowReader) Write(p []byte) (int, error) {
	w.writing <- struct{}{}
	<-w.release
	return w.ResponseRecorder.Write(p)
}

// TestSlowClientsKeepNoSlots: those who are slow to send or to read, more of them than may be answered at a time, do not keep others from being answered.
func TestSlowClientsKeepNoSlots(t *testing.T) {
	const limit = 2
	e := newFixedEngine(t, 1, 5)
	large := newFixedEngine(t, 200, 50) // some 500 KB of JSON
	for name, engine := range map[string]*fixedEngine{"small": e, "large": large} {
		t.Run(name, func(t *testing.T) {
			rows := 1
			if engine == large {
				rows = 200
			}
			body := lookupBodies(rows)["/v1/features"]
			s := newTestServer(t, Config{MaxConcurrent: limit}, engine)
			ask := func(w http.ResponseWriter, body io.Reader, length int64) {
				req := httptest.NewRequest(http.MethodPost, api.PathFeatures, body)
				req.ContentLength = length
				req.Header.Set("Content-Type", "application/json")
				s.Handler().ServeHTTP(w, req)
			}
			status := func() int {
				w := httptest.NewRecorder()
				ask(w, strings.NewReader(body), int64(len(body)))
				return w.Code
			}
			waits, release := make(chan struct{}), make(chan struct{})
			var slow sync.WaitGroup
			for range 3 * limit {
				slow.Go(func() {
					w := httptest.NewRecorder()
					ask(w, &slowBody{waits, release, strings.NewReader(body)}, int64(len(body)))
					if w.Code != http.StatusOK && w.Code != http.StatusServiceUnavailable { // all at once may be too many
						t.Errorf("a slow sender: %d %s", w.Code, w.Body)
					}
				})
				<-waits
			}
			if got := status(); got != http.StatusOK {
				t.Errorf("beside slow senders: %d", got)
			}
			close(release)
			slow.Wait()

			release = make(chan struct{})
			var readers sync.WaitGroup
			for range limit {
				w := &slowReader{httptest.NewRecorder(), waits, release}
				readers.Go(func() {
					ask(w, strings.NewReader(body), int64(len(body)))
					if w.Code != http.StatusOK {
						t.Errorf("a slow reader: %d", w.Code)
					}
				})
				<-waits
			}
			// Large answers that wait take memory, which is bounded; small ones do not count.
			if got, want := status(), map[string]int{"small": http.StatusOK, "large": http.StatusServiceUnavailable}[name]; got != want {
				t.Errorf("beside slow readers: %d, want %d", got, want)
			}
			if got := fmt.Sprint(len(s.slots)); got != "0" {
				t.Errorf("slow readers have %s slots", got)
			}
			close(release)
			readers.Wait()
			if got := status(); got != http.StatusOK || len(s.large) != 0 {
				t.Errorf("after them: %d, room for %d large ones is taken", got, len(s.large))
			}
		})
	}
}

// TestLargeBodies: bodies that are large, or of no known length, are bounded while they are sent.
func TestLargeBodies(t *testing.T) {
	s := newTestServer(t, Config{MaxConcurrent: 1}, newFixedEngine(t, 1, 5))
	body := lookupBodies(1)["/v1/features"]
	waits, release := make(chan struct{}), make(chan struct{})
	ask := func(body io.Reader, length int64) *httptest.ResponseRecorder {
		req := httptest.NewRequest(http.MethodPost, api.PathFeatures, body)
		req.ContentLength = length
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, req)
		return w
	}
	var slow sync.WaitGroup
	slow.Go(func() {
		if w := ask(&slowBody{waits, release, strings.NewReader(body)}, -1); w.Code != http.StatusOK {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
	<-waits
	if w := ask(strings.NewReader(body), -1); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("a second one: %d %s", w.Code, w.Body)
	}
	if w := ask(strings.NewReader(body), int64(len(body))); w.Code != http.StatusOK {
		t.Errorf("a small one: %d %s", w.Code, w.Body)
	}
	close(release)
	slow.Wait()
}
