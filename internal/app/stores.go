package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/forebay/forebay/internal/config"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/clickhouse"
	"github.com/forebay/forebay/offline/parquet"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/embedded"
)

// shown is the root as it is shown to the user: relative to the current folder
// where it is below it.
func (a *App) shown() string {
	here, err := os.Getwd()
	if err != nil {
		return a.root
	}
	if rel, err := filepath.Rel(here, a.root); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return a.root
}

func (a *App) offlineStore(ctx context.Context) (offline.Store, error) {
	return opening(a, &a.off, func() (offline.Store, error) {
		if a.env.Offline.Store == config.ClickHouse {
			return clickhouse.Open(ctx, clickhouse.Options{URL: string(a.env.Offline.URL), Project: a.project, Logger: a.log})
		}
		return parquet.Open(ctx, parquet.Options{URL: string(a.env.Offline.URL), Project: a.project, Logger: a.log})
	})
}

// onlineStore opens the online store. An embedded one that a serve, stream or dev
// process holds is worked through that process; one that another command holds
// for a moment is waited for.
func (a *App) onlineStore(ctx context.Context) (online.Store, error) {
	return opening(a, &a.on, func() (online.Store, error) {
		if a.env.Online.Store == config.Redis {
			return a.redisStore(ctx)
		}
		s, err := a.openEmbedded(ctx, false)
		if err != nil {
			return nil, err
		}
		return a.instrumented(s)
	})
}

// instrumented counts what is done with an online store.
func (a *App) instrumented(s online.Store) (online.Store, error) {
	i, err := online.Instrument(s, a.metrics)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return i, nil
}

// unavailable adds to the failure of something that cannot be reached what to look at.
func unavailable(err error, hint string) error {
	if Code(err) == CodeUnavailable {
		return &Error{Err: err, Hint: hint}
	}
	return err
}

// heldWait is how long a command waits for another one that holds the embedded
// store for a moment.
const heldWait = 10 * time.Second

// openEmbedded opens the embedded online store. As owner it does not work
// through another process: it is refused if one holds the store for good.
func (a *App) openEmbedded(ctx context.Context, asOwner bool) (online.Store, error) {
	o := embedded.Options{Dir: a.env.Online.Path, Project: a.project, Command: "forebay " + a.command, Log: a.log}
	deadline := time.Now().Add(heldWait)
	for {
		s, err := embedded.Open(o)
		if err == nil {
			return s, nil
		}
		var held *embedded.HeldError
		if !errors.As(err, &held) {
			return nil, err
		}
		if held.Socket != "" {
			if asOwner {
				return nil, refused(held)
			}
			c, err := embedded.Dial(ctx, o.Dir, o.Project)
			if err == nil {
				a.owner = &Owner{held.PID, held.Command}
				return c, nil
			}
			if !errors.As(err, &held) && !errors.Is(err, online.ErrUnavailable) {
				return nil, err
			}
			// It is just ending: look again.
		}
		if time.Now().After(deadline) {
			return nil, refused(held)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// refused says who holds the embedded store.
func refused(held *embedded.HeldError) error {
	hint := "It ends soon by itself; try again."
	if held.Socket != "" {
		hint = fmt.Sprintf("One process at a time may hold them: end it first (kill %d), or use `forebay dev`, which streams and serves in one process.", held.PID)
	}
	return &Error{
		Code: CodeHeld,
		Err:  fmt.Errorf("the embedded stores in %s are held by process %d (%s)", held.Dir, held.PID, held.Command),
		Hint: hint,
	}
}

// Hold holds the embedded online store until Close, and lets other processes work
// through this one. With another kind of store there is nothing to hold.
func (a *App) Hold(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errClosed
	}
	if a.holds || a.env.Online.Store != config.Embedded {
		return nil
	}
	if a.on != nil {
		return errors.New("the online store was opened before it was to be held")
	}
	s, err := a.openEmbedded(ctx, true)
	if err != nil {
		return err
	}
	on, err := a.instrumented(s)
	if err != nil {
		return err
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- s.(*embedded.Store).Serve(serving) }() // as owner it is never another
	a.on, a.holds = on, true
	a.tracker = s.(*embedded.Store)
	a.opened = append(a.opened, on, closer(func() error {
		cancel()
		return <-served
	}))
	return nil
}
