package app

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/config"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
)

// awayStore answers, or not, or hangs.
type awayStore struct {
	online.Store
	err   error
	hangs bool
}

func (s *awayStore) Live(context.Context) (map[string]int, error) { return nil, s.err }

func (s *awayStore) Ping(ctx context.Context) error {
	if s.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.err
}

// A server that may answer with values of earlier is ready for as long as it can have some.
func TestReadyWhileStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &awayStore{}
		e := &engine{app: &App{env: &config.Environment{}, wall: time.Now}, store: store}
		ready := func(want api.Check) {
			t.Helper()
			if got := e.readyOnline(t.Context()); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
		if _, err := e.refreshLive(t.Context(), &registry.Revision{}); err != nil {
			t.Fatal(err)
		}
		ready(api.Check{Name: "online", OK: true})
		store.err = errors.New("refused")
		ready(api.Check{Name: "online", Error: "refused"})
		e.app.env.Online.Cache.MaxStale = time.Minute
		ready(api.Check{Name: "online", OK: true, Stale: true, Error: "refused"})
		store.hangs = true
		before := time.Now()
		ready(api.Check{Name: "online", OK: true, Stale: true, Error: "context deadline exceeded"})
		if waited := time.Since(before); waited != staleProbe {
			t.Errorf("waited %s for a store that hangs", waited)
		}
		store.hangs = false
		if _, err := e.refreshLive(t.Context(), &registry.Revision{}); err == nil {
			t.Fatal("no error")
		}
		<-time.After(time.Minute - staleProbe)
		ready(api.Check{Name: "online", Error: "refused"})
		store.err = nil
		ready(api.Check{Name: "online", OK: true})
	})
}
