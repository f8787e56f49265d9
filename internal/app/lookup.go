package app

import (
	"context"
	"errors"

	"github.com/forebay/forebay/internal/httpapi"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// lookupPlan is a prepared lookup. It is immutable and safe for concurrent use.
type lookupPlan struct {
	sel      *selection.Selection
	revision string
}

var _ httpapi.Plan = (*lookupPlan)(nil)

func (e *engine) newPlan(revision string, sel *selection.Selection) (*lookupPlan, error) {
	return &lookupPlan{sel: sel, revision: revision}, nil
}

// Selection implements httpapi.Plan.
func (p *lookupPlan) Selection() *selection.Selection { return p.sel }

// Revision implements httpapi.Plan.
func (p *lookupPlan) Revision() string { return p.revision }

// Lookup implements httpapi.Plan.
func (p *lookupPlan) Lookup(ctx context.Context, keys, request []*feature.Column, rows int) (*httpapi.Found, error) {
	return nil, errors.New("lookup")
}
