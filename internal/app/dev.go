package app

import (
	"context"

	"github.com/forebay/forebay/registry/plan"
)

// DevOptions says how dev runs.
type DevOptions struct {
	Listen string // host:port; port 0 picks a free one
	// Ready, if set, is called once requests are answered.
	Ready func(url string, brokers []string)
	// Applied, if set, hears what became of the YAML, at the start and whenever it
	// changes: the plan that was applied, or why it was not.
	Applied func(p *plan.Plan, err error)
}

// Dev runs everything in one process until ctx ends.
func (a *App) Dev(ctx context.Context, o DevOptions) error { return nil }
