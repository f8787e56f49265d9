package app

import (
	"context"
	"errors"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/flight"
	"github.com/forebay/forebay/internal/httpapi"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/selection"
)

// flights serves datasets over Arrow Flight as the engine serves them over HTTP.
type flights struct{ e *engine }

var _ flight.Engine = flights{}

// flightOptions asks for the same API keys as the HTTP server does.
func (a *App) flightOptions(e *engine, listen string) flight.Options {
	o := flight.Options{Listen: listen, Engine: flights{e}, Log: a.log}
	for _, key := range a.env.Server.APIKeys {
		o.APIKeys = append(o.APIKeys, string(key))
	}
	return o
}

// Build implements flight.Engine.
func (f flights) Build(ctx context.Context, c flight.Command, spine, out string) (api.Dataset, error) {
	known, err := c.Known()
	if err != nil {
		return api.Dataset{}, &httpapi.InputError{Field: "known_at", Message: err.Error()}
	}
	return f.e.BuildDataset(ctx, httpapi.DatasetRequest{
		Select:    selection.Request{Service: c.Service, Features: c.Features, FullNames: c.FullNames},
		Timestamp: c.Timestamp, KnownAt: known, Name: c.Name, Pin: c.Pin,
		Spine: httpapi.DatasetFile{Path: spine, Format: files.ArrowStream}, Out: httpapi.DatasetFile{Path: out, Format: files.ArrowStream},
	})
}

// Rebuild implements flight.Engine.
func (f flights) Rebuild(ctx context.Context, id, out string) (api.Dataset, error) {
	return f.e.RebuildDataset(ctx, id, httpapi.DatasetFile{Path: out, Format: files.ArrowStream})
}

// Datasets implements flight.Engine.
func (f flights) Datasets(ctx context.Context) ([]api.Dataset, error) { return f.e.Datasets(ctx) }

// Dataset implements flight.Engine.
func (f flights) Dataset(ctx context.Context, id string) (api.Dataset, error) {
	return f.e.Dataset(ctx, id)
}

// Blame implements flight.Engine.
func (flights) Blame(err error) (flight.Fault, string) {
	var input *httpapi.InputError
	var missing *httpapi.NotFoundError
	var selected *selection.Error
	var known *Error
	switch {
	case errors.As(err, &input), errors.As(err, &selected):
		return flight.BadRequest, err.Error()
	case errors.As(err, &missing):
		return flight.NotFound, missing.Message
	case errors.Is(err, offline.ErrUnavailable), errors.Is(err, registry.ErrNoRevision):
		return flight.Unavailable, err.Error()
	case errors.As(err, &known):
		return flight.BadRequest, known.Error()
	}
	return flight.Internal, ""
}
