package embedded

import (
	"context"
	"sync"
	"testing"

	"github.com/forebay/forebay/online"
)

// heard keeps what it is told.
type heard struct {
	watching chan struct{}
	mu       sync.Mutex
	keys     map[string]bool
}

func (h *heard) Watching() { close(h.watching) }
func (*heard) Blind(error) {}
func (h *heard) Forget(k online.Key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys[string(k.Entity)] = true
}

// TestTrack: what was written is told by the time the Write returns; afterwards nobody is.
func TestTrack(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), Project: "p", NoSync: true})
	ctx, cancel := context.WithCancel(t.Context())
	var tracking sync.WaitGroup
	h := &heard{watching: make(chan struct{}), keys: map[string]bool{}}
	tracking.Go(func() { s.Track(ctx, h) })
	<-h.watching
	write := func(entity string) {
		t.Helper()
		if _, err := s.Write(t.Context(), []online.Record{rec(entity, 1, "")}, online.IfNewer); err != nil {
			t.Fatal(err)
		}
	}
	write("a")
	write("b")
	if !h.keys["a"] || !h.keys["b"] {
		t.Errorf("told of %v", h.keys)
	}
	cancel()
	tracking.Wait()
	write("c")
	if h.keys["c"] {
		t.Error("told of a change after the end")
	}
}
