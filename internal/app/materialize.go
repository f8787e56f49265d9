package app

import (
	"context"
	"slices"

	"github.com/forebay/forebay/materialize"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
)

// MaterializeOptions says what to bring up to date online.
type MaterializeOptions struct {
	Views []string // none are all
	// From and To bound the event time, both inclusive, in microseconds; nil for open.
	From, To  *int64
	Overwrite bool // replace what is online, whatever its version
	DryRun    bool // say how many rows there are, and write nothing
	// Progress, if set, hears the rows read of a view.
	Progress func(view string, done, total int64)
}

// Materialized says what became of one view.
type Materialized struct {
	View       string  `json:"view"`
	Generation int     `json:"generation"`
	Rows       int64   `json:"rows"`    // read; in a dry run, those of the derived table
	Applied    int64   `json:"applied"` // written
	Stale      int64   `json:"stale"`   // not newer than what was there
	BadRows    int64   `json:"bad_rows"`
	WentLive   bool    `json:"went_live"` // the generation was not live before
	Seconds    float64 `json:"seconds"`
}

// Materialize writes the newest rows of views from the offline to the online
// store, view after view. After an error it returns what became of the views before.
func (a *App) Materialize(ctx context.Context, o MaterializeOptions) ([]Materialized, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	list, err := views(head, o.Views)
	if err != nil {
		return nil, err
	}
	off, err := a.offlineStore(ctx)
	if err != nil {
		return nil, err
	}
	var done []Materialized
	if o.DryRun {
		for _, v := range list {
			log, err := off.Log(ctx, v.Source())
			if err != nil {
				return done, err
			}
			done = append(done, Materialized{View: v.View.Name, Generation: v.Number, Rows: log.Rows})
		}
		return done, nil
	}
	on, err := a.onlineStore(ctx)
	if err != nil {
		return nil, err
	}
	if list, err = a.withLive(ctx, on, head, list); err != nil {
		return nil, err
	}
	for _, v := range list {
		m, err := a.materializeView(ctx, v, o, &materialize.Batch{Tables: tables{off}, Online: a.sink(on, head), Log: logSink{off}})
		if err != nil {
			return done, err
		}
		table, err := off.Table(ctx, v)
		if err != nil {
			return done, err
		}
		m.BadRows = table.BadRows
		done = append(done, m)
	}
	return done, nil
}

// withLive adds to views of a revision their live generations, where those are others: somebody rolled
// back, or the revision's are not filled yet.
func (a *App) withLive(ctx context.Context, on online.Store, head *registry.Revision, list []registry.ViewGeneration) ([]registry.ViewGeneration, error) {
	live, err := on.Live(ctx)
	if err != nil {
		return nil, err
	}
	kept, err := a.currentAndLive(ctx, head)
	if err != nil {
		return nil, err
	}
	for _, v := range kept {
		wanted := slices.ContainsFunc(list, func(l registry.ViewGeneration) bool { return l.View.Name == v.View.Name && l.Number != v.Number })
		if wanted && v.Number == live[v.View.Name] {
			list = append(list, v)
		}
	}
	return list, nil
}

func (a *App) materializeView(ctx context.Context, v registry.ViewGeneration, o MaterializeOptions, b *materialize.Batch) (Materialized, error) {
	if o.Progress != nil {
		b.Progress = func(p materialize.BatchProgress) { o.Progress(v.View.Name, p.Done, p.Total) }
	}
	r, err := b.Run(ctx, materialize.BatchRequest{View: v, From: o.From, To: o.To, Overwrite: o.Overwrite})
	return Materialized{
		View: v.View.Name, Generation: v.Number, Rows: r.Rows, Applied: r.Applied, Stale: r.Stale,
		WentLive: r.WentLive, Seconds: r.Elapsed.Seconds(),
	}, err
}
