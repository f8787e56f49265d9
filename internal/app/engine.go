package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/httpapi"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/selection"
)

// engine is what the HTTP server serves: the newest revision with the live
// generations, as of the last look. It is safe for concurrent use.
type engine struct {
	app     *App
	store   online.Store
	lookups online.Store // store, or a cache of it
	serving atomic.Pointer[serving]
	reached atomic.Pointer[time.Time] // when the online store answered last
}

var _ httpapi.Engine = (*engine)(nil)

// serving is one revision with one set of live generations, and the plans made
// for it. It is replaced as a whole.
type serving struct {
	head *registry.Revision
	live map[string]int
	gens *generations

	mu      sync.Mutex
	plans   map[string]*lookupPlan
	dropped map[registry.Ref]bool // of generations that are not live, and that requests named: whether they were dropped
}

// maxPlans bounds the plans kept; requests that name their features one by one
// could make any number. Past it all are dropped and made again.
const maxPlans = 1000

// newEngine opens what lookups need and takes a first look.
func (a *App) newEngine(ctx context.Context) (*engine, error) {
	store, err := a.onlineStore(ctx)
	if err != nil {
		return nil, err
	}
	e := &engine{app: a, store: store, lookups: store}
	_, err = e.refresh(ctx)
	return e, err
}

// refresh looks at the registry, at the live generations and at those that requests named, and
// reports whether they have changed.
func (e *engine) refresh(ctx context.Context) (changed bool, err error) {
	head, err := e.app.Head(ctx)
	if err != nil {
		return false, err
	}
	if s := e.serving.Load(); s != nil {
		same, err := e.sameDropped(ctx, s)
		if err != nil {
			return false, err
		}
		if !same {
			e.serving.Store(e.newServing(head, s.live))
			changed = true
		}
	}
	newer, err := e.refreshLive(ctx, head)
	return changed || newer, err
}

func (e *engine) newServing(head *registry.Revision, live map[string]int) *serving {
	return &serving{head: head, live: live, gens: newGenerations(e.app.repo, head, live), plans: map[string]*lookupPlan{}, dropped: map[registry.Ref]bool{}}
}

// refreshLive looks at the live generations alone.
func (e *engine) refreshLive(ctx context.Context, head *registry.Revision) (changed bool, err error) {
	live, err := e.store.Live(ctx)
	if err != nil {
		return false, err
	}
	now := e.app.wall()
	e.reached.Store(&now)
	if s := e.serving.Load(); s != nil && s.head.ID == head.ID && maps.Equal(s.live, live) {
		return false, nil
	}
	e.serving.Store(e.newServing(head, live))
	return true, nil
}

// follow refreshes until ctx ends, so that a new revision or live generation is
// taken up: live generations at each tick, a new revision at every few. A failure is logged when
// it begins; what was served last stays.
func (e *engine) follow(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	failing := false
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var changed bool
		var err error
		if n%ticksPerHead == 0 {
			changed, err = e.refresh(ctx)
		} else {
			changed, err = e.refreshLive(ctx, e.serving.Load().head)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			e.app.log.Warn("cannot look for new revisions; the last one is served on", "error", err)
		case err == nil && failing:
			e.app.log.Info("looking for new revisions works again")
		}
		failing = err != nil
		if changed {
			s := e.serving.Load()
			e.app.log.Info("serving", "revision", s.head.Number, "id", s.head.ID, "live", s.live)
		}
	}
}

// Revision implements httpapi.Engine.
func (e *engine) Revision(context.Context) (*registry.Revision, error) {
	return e.serving.Load().head, nil
}

// Plan implements httpapi.Engine.
func (e *engine) Plan(ctx context.Context, req selection.Request) (httpapi.Plan, error) {
	p, err := e.plan(ctx, req)
	if err != nil {
		return nil, notFound(err)
	}
	return p, nil
}

// plan is Plan with the errors of this package.
func (e *engine) plan(ctx context.Context, req selection.Request) (*lookupPlan, error) {
	s := e.serving.Load()
	key := planKey(req)
	s.mu.Lock()
	p := s.plans[key]
	s.mu.Unlock()
	if p != nil {
		return p, nil
	}
	sel, err := selection.Resolve(ctx, s.head.Project, req, s.gens.find)
	if err != nil {
		return nil, err
	}
	if err := e.refuseDropped(ctx, s, sel); err != nil {
		return nil, err
	}
	p, err = e.newPlan(s.head.ID, sel)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.plans) >= maxPlans {
		clear(s.plans)
	}
	s.plans[key] = p
	return p, nil
}

// planKey tells requests apart; no name has a zero byte.
func planKey(req selection.Request) string {
	names := "short\x00"
	if req.FullNames {
		names = "full\x00"
	}
	return names + req.Service + "\x00" + strings.Join(req.Features, "\x00")
}

// Push implements httpapi.Engine.
func (e *engine) Push(ctx context.Context, name string, rows [][]byte) (api.PushAnswer, error) {
	head := e.serving.Load().head
	src, err := source(head, name)
	if err != nil {
		return api.PushAnswer{}, notFound(err)
	}
	answer, err := e.app.pushJSON(ctx, head, src, rows)
	return answer, err
}

// BuildDataset implements httpapi.Engine.
func (e *engine) BuildDataset(ctx context.Context, req httpapi.DatasetRequest) (api.Dataset, error) {
	return e.app.buildDataset(ctx, e.serving.Load().head, req)
}

// Datasets implements httpapi.Engine.
func (e *engine) Datasets(ctx context.Context) ([]api.Dataset, error) { return e.app.Datasets(ctx) }

// Dataset implements httpapi.Engine.
func (e *engine) Dataset(ctx context.Context, id string) (api.Dataset, error) {
	d, err := e.app.Dataset(ctx, id)
	return d, notFound(err)
}

// RebuildDataset implements httpapi.Engine.
func (e *engine) RebuildDataset(ctx context.Context, id string, out httpapi.DatasetFile) (api.Dataset, error) {
	d, err := e.app.RebuildDataset(ctx, id, out.Path, nil)
	return d, notFound(err)
}

// Ready implements httpapi.Engine.
func (e *engine) Ready(ctx context.Context) []api.Check {
	_, headErr := e.app.Head(ctx)
	off, offErr := e.app.offlineStore(ctx)
	if offErr == nil {
		offErr = off.Ping(ctx)
	}
	return []api.Check{e.readyOnline(ctx), check("offline", offErr), check("registry", headErr)}
}

func check(name string, err error) api.Check {
	c := api.Check{Name: name, OK: err == nil}
	if err != nil {
		c.Error = err.Error()
	}
	return c
}

// staleProbe bounds the wait for a store whose absence would not matter: load balancers mostly wait a second.
const staleProbe = 500 * time.Millisecond

// readyOnline says whether lookups are answered. A server that may answer with values of earlier stays in rotation as
// long as it can have some: the store is away from its fellows too, mostly, and without any of them nothing is answered.
func (e *engine) readyOnline(ctx context.Context) api.Check {
	bound, reached := e.app.env.Online.Cache.MaxStale, e.reached.Load()
	stale := bound > 0 && reached != nil && e.app.wall().Sub(*reached) < bound
	if stale {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, staleProbe)
		defer cancel()
	}
	c := check("online", e.store.Ping(ctx))
	if !c.OK && stale {
		c.OK, c.Stale = true, true
	}
	return c
}

// notFound says in the server's words that something named does not exist.
func notFound(err error) error {
	var known *Error
	if !errors.As(err, &known) {
		return err
	}
	switch known.Code {
	case CodeUnknownSource, codeUnknownDataset, codeAmbiguousDataset, codeSnapshotGone, codeSpineGone, codeDropped:
		return &httpapi.NotFoundError{Code: known.Code, Message: strings.TrimSpace(fmt.Sprintf("%s. %s", known.Error(), known.Hint))}
	}
	return err
}
