package app

import (
	"context"

	"github.com/forebay/forebay/internal/httpapi"
	"github.com/forebay/forebay/online/lookup"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// lookupPlan is a compiled lookup of one revision. It is immutable and safe for
// concurrent use.
type lookupPlan struct {
	engine   *engine
	compiled *lookup.Plan
	revision string
}

var _ httpapi.Plan = (*lookupPlan)(nil)

func (e *engine) newPlan(revision string, sel *selection.Selection) (*lookupPlan, error) {
	compiled, err := lookup.NewPlan(sel)
	return &lookupPlan{engine: e, compiled: compiled, revision: revision}, err
}

// Selection implements httpapi.Plan.
func (p *lookupPlan) Selection() *selection.Selection { return p.compiled.Selection() }

// Revision implements httpapi.Plan.
func (p *lookupPlan) Revision() string { return p.revision }

// Lookup implements httpapi.Plan.
func (p *lookupPlan) Lookup(ctx context.Context, keys, request []*feature.Column, rows int) (*httpapi.Found, error) {
	return p.lookup(ctx, p.engine.app.clock().UnixMicro(), keys, request, rows)
}

// lookup is Lookup at an instant of the clock.
func (p *lookupPlan) lookup(ctx context.Context, now int64, keys, request []*feature.Column, rows int) (*httpapi.Found, error) {
	r, err := lookup.Lookup(ctx, p.engine.lookups, p.compiled, lookup.Request{Keys: keys, Request: request, Rows: rows, Now: now})
	if err != nil {
		return nil, err
	}
	if r.Corrupt > 0 {
		p.engine.app.corrupt.Add(float64(r.Corrupt))
		p.engine.app.log.ErrorContext(ctx, "records cannot be read; their values are INVALID until they are written again",
			"records", r.Corrupt, "first", r.CorruptErr)
	}
	return &httpapi.Found{Columns: r.Columns, Statuses: r.Statuses, EventTimes: r.EventTimes, Instant: r.Instant, StaleSince: r.StaleSince, Free: r.Release}, nil
}
