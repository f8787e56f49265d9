package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/history"
	"github.com/forebay/forebay/registry/lineage"
	"github.com/forebay/forebay/registry/nearest"
	"github.com/forebay/forebay/registry/plan"
)

// Head is the newest revision: what every command but validate, plan and apply
// works by. Before the first apply the error says to run it.
func (a *App) Head(ctx context.Context) (*registry.Revision, error) {
	repo, err := a.repository(ctx)
	if err != nil {
		return nil, err
	}
	head, err := repo.Head(ctx)
	if errors.Is(err, registry.ErrNoRevision) {
		return nil, &Error{
			Code: CodeNothingApplied,
			Err:  fmt.Errorf("nothing has been applied to environment %s yet: %w", a.env.Name, err),
			Hint: "Run `forebay apply` first.",
		}
	}
	return head, err
}

// Plan compares the YAML with the newest revision. Mistakes in the YAML are as
// Definitions returns them.
func (a *App) Plan(ctx context.Context) (*plan.Plan, error) {
	next, err := a.Definitions(ctx)
	if err != nil {
		return nil, err
	}
	repo, err := a.repository(ctx)
	if err != nil {
		return nil, err
	}
	return plan.Against(ctx, repo, next)
}

// Apply appends the revision that a plan makes, by Git's user and commit. If
// somebody else has applied since the plan was made it fails with
// registry.ErrConflict.
func (a *App) Apply(ctx context.Context, p *plan.Plan) (*registry.Revision, error) {
	repo, err := a.repository(ctx)
	if err != nil {
		return nil, err
	}
	r := p.Revision(author(ctx, a.root), gitCommit(ctx, a.root), time.Now())
	if err := repo.Append(ctx, r); err != nil {
		return nil, conflict(err)
	}
	return r, nil
}

// conflict adds to a lost race what to do about it.
func conflict(err error) error {
	if errors.Is(err, registry.ErrConflict) {
		return &Error{Err: err, Hint: "Nothing was applied. Run the command again: it plans against the newest revision."}
	}
	return err
}

// Drifted reports whether the YAML differs from a revision; not if the YAML has mistakes.
func (a *App) Drifted(ctx context.Context, head *registry.Revision) bool {
	next, err := a.Definitions(ctx)
	if err != nil {
		return true
	}
	p, err := plan.Compute(head, head.Generations, next)
	return err == nil && !p.Empty()
}

// History lists the revisions, newest first; limit 0 is all.
func (a *App) History(ctx context.Context, limit int) ([]*registry.Revision, error) {
	if _, err := a.Head(ctx); err != nil {
		return nil, err
	}
	return a.repo.History(ctx, limit)
}

// Diff is the plan that would bring one revision to another.
func (a *App) Diff(ctx context.Context, from, to string) (*plan.Plan, error) {
	if _, err := a.Head(ctx); err != nil {
		return nil, err
	}
	before, err := a.revision(ctx, from)
	if err != nil {
		return nil, err
	}
	after, err := a.revision(ctx, to)
	if err != nil {
		return nil, err
	}
	return a.difference(ctx, before, after)
}

// difference compares two revisions, with the generations of the whole history.
func (a *App) difference(ctx context.Context, before, after *registry.Revision) (*plan.Plan, error) {
	all, err := a.repo.History(ctx, 0)
	if err != nil {
		return nil, err
	}
	return plan.Compute(before, plan.Known(all), after.Project)
}

func (a *App) revision(ctx context.Context, id string) (*registry.Revision, error) {
	r, err := a.repo.Revision(ctx, id)
	if errors.Is(err, registry.ErrNoRevision) {
		return nil, &Error{Err: err, Hint: "`forebay registry history` lists them."}
	}
	return r, err
}

// Rollback appends a revision that declares what an earlier one did, unless dryRun.
func (a *App) Rollback(ctx context.Context, to string, dryRun bool) (*plan.Plan, *registry.Revision, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, nil, err
	}
	target, err := a.revision(ctx, to)
	if err != nil {
		return nil, nil, err
	}
	next, err := history.Rollback(head, target, author(ctx, a.root), time.Now())
	if err != nil {
		return nil, nil, err
	}
	p, err := a.difference(ctx, head, target)
	if err != nil || dryRun {
		return p, next, err
	}
	if err := a.repo.Append(ctx, next); err != nil {
		return nil, nil, conflict(err)
	}
	return p, next, nil
}

// Definition is one definition of a revision, without its body.
type Definition struct {
	Kind        lineage.Kind `json:"kind"`
	Name        string       `json:"name"`
	Generation  int          `json:"generation,omitempty"` // of a feature view
	Owner       string       `json:"owner,omitempty"`
	Description string       `json:"description,omitempty"`
}

// List is the definitions of a revision.
type List struct {
	Revision    string       `json:"revision"`
	Number      int          `json:"number"`
	Definitions []Definition `json:"definitions"`
}

// List lists the definitions of the newest revision by kind, as values flow, and name.
func (a *App) List(ctx context.Context) (*List, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	list := &List{Revision: head.ID, Number: head.Number}
	p := head.Project
	add := func(kind lineage.Kind, m registry.Meta, generation int) {
		list.Definitions = append(list.Definitions, Definition{kind, m.Name, generation, m.Owner, m.Description})
	}
	for _, e := range p.Entities {
		add(lineage.Entity, e.Meta, 0)
	}
	for _, s := range p.Sources {
		add(lineage.Source, s.Meta, 0)
	}
	for _, v := range p.Views {
		add(lineage.View, v.Meta, head.Generation(v.Name))
	}
	for _, v := range p.OnDemand {
		add(lineage.OnDemandView, v.Meta, 0)
	}
	for _, s := range p.Services {
		add(lineage.Service, s.Meta, 0)
	}
	return list, nil
}

// views finds views of a revision by name, all of them for no names.
func views(head *registry.Revision, names []string) ([]registry.ViewGeneration, error) {
	var found []registry.ViewGeneration
	if len(names) == 0 {
		for i := range head.Project.Views {
			found = append(found, viewGeneration(head, &head.Project.Views[i]))
		}
		return found, nil
	}
	for _, name := range names {
		v := head.Project.View(name)
		switch {
		case v == nil && head.Project.OnDemandView(name) != nil:
			return nil, &Error{Code: CodeUnknownView, Err: fmt.Errorf("%s is an on-demand view: it is computed at each lookup and stores nothing", name)}
		case v == nil:
			var all []string
			for _, v := range head.Project.Views {
				all = append(all, v.Name)
			}
			return nil, unknown(CodeUnknownView, "feature view", name, all)
		}
		found = append(found, viewGeneration(head, v))
	}
	return found, nil
}

// source finds a source of a revision by name.
func source(head *registry.Revision, name string) (*registry.Source, error) {
	if s := head.Project.Source(name); s != nil {
		return s, nil
	}
	var all []string
	for _, s := range head.Project.Sources {
		all = append(all, s.Name)
	}
	return nil, unknown(CodeUnknownSource, "source", name, all)
}

// unknown says that a name is not there, and which are.
func unknown(code, what, name string, have []string) error {
	msg := fmt.Sprintf("there is no %s %q", what, name)
	if hint := nearest.Hint(name, have); hint != "" {
		msg += "; " + hint
	}
	e := &Error{Code: code, Err: errors.New(msg)}
	if len(have) > 0 {
		e.Hint = "There is: " + strings.Join(have, ", ") + "."
	}
	return e
}
