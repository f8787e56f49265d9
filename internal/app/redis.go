package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/redis"
)

// openRedis connects to Redis, which must answer.
func (a *App) openRedis(ctx context.Context) (online.Store, error) {
	o := a.env.Online
	secure, err := o.TLS.Config()
	if err != nil {
		return nil, &Error{Code: codeBadEnvironment, Err: fmt.Errorf("environment %s: online: %w", a.env.Name, err)}
	}
	s, err := redis.Open(redis.Options{
		Project: a.project, Addrs: o.Addrs, Mode: redis.Mode(o.Mode), MasterName: o.MasterName,
		Username: o.Username, Password: string(o.Password), DB: o.DB, TLS: secure,
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
