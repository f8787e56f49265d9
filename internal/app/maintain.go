package app

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// MaintainOptions says what Maintain may remove.
type MaintainOptions struct {
	// Retain is how long a state of a table is kept after it was superseded, and how old a file is
	// before it is removed because nothing names it; at least offline.MinRetain.
	Retain time.Duration
	DryRun bool
	// Progress, if set, hears of each table before it is looked at.
	Progress func(table string)
}

// DefaultRetain is MaintainOptions.Retain unless somebody says otherwise.
const DefaultRetain = 24 * time.Hour

// MaintainReport says what Maintain did, or would do.
type MaintainReport struct {
	DryRun bool                 `json:"dry_run,omitempty"`
	Tables []offline.Maintained `json:"tables"`
}

// Maintain keeps the offline tables in shape: it puts small files together, expires states that
// neither a named or pinned dataset nor the online store's resume points need, removes files
// that nothing names, and the derived tables of generations that were dropped. No answer changes.
func (a *App) Maintain(ctx context.Context, o MaintainOptions) (*MaintainReport, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	off, err := a.offlineStore(ctx)
	if err != nil {
		return nil, err
	}
	store, ok := off.(offline.Maintainer)
	if !ok {
		return nil, &Error{Err: errors.New("this offline store looks after its tables itself")}
	}
	r := offline.MaintainRequest{Keep: map[registry.Ref][]string{}, Retain: o.Retain, Orphans: o.Retain, DryRun: o.DryRun, Progress: o.Progress}
	for i := range head.Project.Sources {
		r.Sources = append(r.Sources, &head.Project.Sources[i])
	}
	if err := a.neededByDatasets(ctx, r.Keep); err != nil {
		return nil, err
	}
	if err := a.neededByGenerations(ctx, head, &r); err != nil {
		return nil, err
	}
	done, err := store.Maintain(ctx, r)
	if errors.Is(err, offline.ErrRetain) {
		return nil, &Error{Err: err, Hint: "Others may be reading a state, or writing files, for as long."}
	}
	return &MaintainReport{DryRun: o.DryRun, Tables: append([]offline.Maintained{}, done...)}, err
}

// neededByDatasets adds the states that datasets with a name, or with a pin, were built from.
func (a *App) neededByDatasets(ctx context.Context, keep map[registry.Ref][]string) error {
	kept, err := a.manifests(ctx)
	if err != nil {
		return err
	}
	all, err := kept.List(ctx)
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.Name == "" && len(m.Pins) == 0 {
			continue
		}
		for i, t := range m.Inputs.Tables {
			snapshot := t.Snapshot // of manifests of version 1
			if i < len(m.States) {
				snapshot = m.States[i].Snapshot
			}
			ref := registry.Ref{View: t.View, Generation: t.Generation}
			keep[ref] = append(keep[ref], snapshot)
		}
	}
	return nil
}

// neededByGenerations adds the views whose tables are compacted, the states that the online store goes
// on from, and the generations whose tables go.
func (a *App) neededByGenerations(ctx context.Context, head *registry.Revision, r *offline.MaintainRequest) error {
	p, err := a.pointers(ctx)
	if err != nil {
		return err
	}
	surplus, err := a.surplus(ctx, head, p, r.DryRun)
	if err != nil {
		return err
	}
	overdue := map[registry.Ref]bool{}
	for _, s := range surplus {
		keep := a.env.Generations.Keep
		overdue[s.Ref] = keep != feature.Lifetime && !p.now().Before(s.ended.Add(keepTime(keep)))
	}
	byView, _, err := a.knownGenerations(ctx, head)
	if err != nil {
		return err
	}
	live, err := p.store.Live(ctx)
	if err != nil {
		return err
	}
	gens, pinned := newGenerations(a.repo, head, nil), pinnedByServices(head)
	sink := &onlineSink{store: p.store}
	for view, numbers := range byView {
		d, err := p.read(ctx, view)
		if err != nil {
			return err
		}
		for _, n := range numbers {
			ref := registry.Ref{View: view, Generation: n}
			needed := head.Project.View(view) != nil && (n == head.Generation(view) || n == live[view] || n == d.pin || pinned[ref])
			if !needed && (d.gone(n) || overdue[ref]) {
				r.Drop = append(r.Drop, ref)
				continue
			}
			v, err := gens.find(ctx, view, n)
			if err != nil {
				return err
			}
			r.Views = append(r.Views, v)
			points, err := sink.Resumes(ctx, v)
			if err != nil {
				return err
			}
			// Without the state that was materialized last, the next materialize reads everything again.
			if at := points["offline"]; at != "" && at != "-" {
				r.Keep[ref] = append(r.Keep[ref], at)
			}
		}
	}
	slices.SortFunc(r.Views, func(a, b registry.ViewGeneration) int { return a.Number - b.Number })
	return nil
}
