package app

import "github.com/forebay/forebay/internal/httpapi"

// newServer makes the HTTP server of an environment, as its section server says.
func (a *App) newServer(e *engine) (*httpapi.Server, error) {
	o := a.env.Server
	cfg := httpapi.Config{RateLimit: o.RateLimit, MaxConcurrent: o.MaxConcurrent, RequestTimeout: o.Timeout}
	for _, key := range o.APIKeys {
		cfg.APIKeys = append(cfg.APIKeys, string(key))
	}
	return httpapi.New(httpapi.Options{Config: cfg, Engine: e, Log: a.log, Metrics: a.metrics})
}
