package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/forebay/forebay/internal/config"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/redis"
)

// openRedis connects to Redis, which must answer.
func (a *App) openRedis(ctx context.Context) (*redis.Store, error) {
	o := a.env.Online
	secure, err := o.TLS.Config()
	if err != nil {
		return nil, &Error{Code: codeBadEnvironment, Err: fmt.Errorf("environment %s: online: %w", a.env.Name, err)}
	}
	redis.LogTo(a.log)
	s, err := redis.Open(redis.Options{
		Project: a.project, Addrs: o.Addrs, Mode: redis.Mode(o.Mode), MasterName: o.MasterName,
		Username: o.Username, Password: string(o.Password), DB: o.DB, TLS: secure, Hedge: o.Hedge, PoolSize: o.PoolSize,
	})
	if err != nil {
		return nil, &Error{Code: codeBadEnvironment, Err: fmt.Errorf("environment %s: %w", a.env.Name, err)}
	}
	if err := s.Ping(ctx); err != nil {
		return nil, errors.Join(unavailable(err, fmt.Sprintf("Is Redis running there? Its address is online.addrs of environment %s in forebay.yaml.", a.env.Name)), s.Close())
	}
	// What the servers are set up to do with records when memory is short, somebody must know.
	warnings, err := s.Check(ctx)
	if err != nil {
		a.log.WarnContext(ctx, "cannot see whether Redis is set up to keep records", "error", err)
	}
	for _, w := range warnings {
		a.log.WarnContext(ctx, w)
	}
	return s, nil
}

// redisStore is Redis as everything here uses it: counted and, on one server, with round trips that are shared.
func (a *App) redisStore(ctx context.Context) (online.Store, error) {
	r, err := a.openRedis(ctx)
	if err != nil {
		return nil, err
	}
	s, err := a.instrumented(r)
	if err != nil {
		return nil, err
	}
	a.tracker = r
	if a.env.Online.Mode != config.Cluster {
		s = online.Merge(s)
	}
	return s, nil
}

// embeddedCache is what the owner of an embedded store keeps of it: all writes go through this process, so
// that only what expires or is dropped is served late, by MaxAge at most.
var embeddedCache = config.Cache{MaxBytes: 64 << 20, MaxAge: time.Second}

// cached is the online store for the lookups of a server: with a cache where the environment has one. Everything
// else, and above all what reads to write again, asks the store itself.
func (a *App) cached(s online.Store) (online.Store, error) {
	c := a.env.Online.Cache
	if a.env.Online.Store == config.Embedded && a.tracker != nil {
		c = embeddedCache
	}
	if c.MaxBytes == 0 {
		return s, nil
	}
	return opening(a, &a.cache, func() (online.Store, error) {
		return online.Cache(s, a.tracker, online.CacheOptions{MaxBytes: c.MaxBytes, MaxAge: c.MaxAge, MaxStale: c.MaxStale, Log: a.log, Metrics: a.metrics})
	})
}
