package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/dataset"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/offline/joinsql"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// Codes of datasets that cannot be built again.
const (
	codeSnapshotGone  = "snapshot_gone"
	codeSpineGone     = "spine_gone"
	codeNotReproduced = "not_reproduced"
	codeDiffers       = "content_differs"
)

// RebuildDataset builds a dataset again, by its ID or name, into a file in the format of its extension. With
// out "" nothing is written: then the rows are only compared with those of the first build.
func (a *App) RebuildDataset(ctx context.Context, id, out string, progress func(done, total int64)) (d api.Dataset, err error) {
	if out != "" {
		if _, err := files.FormatOf(out); err != nil {
			return d, fmt.Errorf("--out %w", err)
		}
	}
	m, b, r, remove, err := a.kept(ctx, id)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	r.Progress = joinProgress(progress)
	if err := b.Rebuild(ctx, m, r, out); err != nil {
		return d, againError(err)
	}
	return described(m)
}

// VerifyDataset compares a file with a dataset or, for file "", builds the dataset again and compares that.
func (a *App) VerifyDataset(ctx context.Context, id, file string, progress func(done, total int64)) (d api.Dataset, err error) {
	if file == "" {
		return a.RebuildDataset(ctx, id, "", progress)
	}
	m, err := a.manifest(ctx, id)
	if err != nil {
		return d, err
	}
	f, err := files.At(file)
	if err != nil {
		return d, err
	}
	if err := dataset.Compare(ctx, m, f); err != nil {
		return d, againError(err)
	}
	return described(m)
}

// ExplainDataset says where the values of a row of a dataset come from; rows count from 0.
func (a *App) ExplainDataset(ctx context.Context, id string, row int64) (e *dataset.Explanation, err error) {
	m, b, r, remove, err := a.kept(ctx, id)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	e, err = b.Explain(ctx, m, r, row)
	return e, againError(err)
}

// SQLOptions asks for a join as SQL: that of a dataset or, without one, of a service or features.
type SQLOptions struct {
	Dialect   string
	Dataset   string // ID or name
	Service   string
	Features  []string
	FullNames bool
	Timestamp string // the spine's column of the instant; "" for event_timestamp
	KnownAt   *int64 // microseconds
	Spine     string // the spine as the engine calls it; "" for "spine"
}

// DatasetSQL writes a join as SQL for another engine; missing are features that it cannot have.
func (a *App) DatasetSQL(ctx context.Context, o SQLOptions) (text string, missing []string, err error) {
	q := joinsql.Query{Spine: o.Spine, Timestamp: cmp.Or(o.Timestamp, dataset.DefaultTimestamp), KnownAt: o.KnownAt}
	state := func(registry.ViewGeneration) (string, error) { return "", nil }
	if o.Dataset != "" {
		m, b, r, remove, err := a.kept(ctx, o.Dataset)
		if err != nil {
			return "", nil, err
		}
		if err := remove(); err != nil {
			return "", nil, err
		}
		q.Selection, q.Timestamp, q.KnownAt, q.Project = r.Selection, r.Timestamp, r.KnownAt, r.Revision.Project.Name
		for _, c := range m.Columns[:len(m.Columns)-len(m.Inputs.Features)] {
			q.Columns = append(q.Columns, c.Name)
		}
		state = func(v registry.ViewGeneration) (string, error) { return b.StateOf(ctx, m, v, r.KnownAt) }
	} else {
		head, err := a.Head(ctx)
		if err != nil {
			return "", nil, err
		}
		r, err := a.datasetRequest(ctx, head, selection.Request{Service: o.Service, Features: o.Features, FullNames: o.FullNames})
		if err != nil {
			return "", nil, err
		}
		q.Selection, q.Project = r.Selection, head.Project.Name
		q.Columns = []string{q.Timestamp}
		for _, fs := range [][]feature.Field{r.Selection.Keys, r.Selection.Request} {
			for _, f := range fs {
				if !slices.Contains(q.Columns, f.Name) {
					q.Columns = append(q.Columns, f.Name)
				}
			}
		}
	}
	off, err := a.offlineStore(ctx)
	if err != nil {
		return "", nil, err
	}
	tables, ok := off.(offline.FileTables)
	if !ok {
		return "", nil, errors.New("this offline store does not tell where its tables are, so that other engines cannot join them")
	}
	for _, role := range q.Selection.Roles {
		snapshot, err := state(role.View)
		if err != nil {
			return "", nil, againError(err)
		}
		if o.Dataset == "" {
			if _, err := off.Refresh(ctx, role.View); err != nil {
				return "", nil, err
			}
		}
		t, err := tables.TableFiles(ctx, role.View, snapshot)
		if err != nil {
			return "", nil, againError(err)
		}
		q.Tables = append(q.Tables, t)
	}
	text, missing, err = joinsql.Write(joinsql.Dialect(o.Dialect), q)
	switch {
	case errors.Is(err, joinsql.ErrWindow):
		err = &Error{Code: "no_sql", Err: err, Hint: "`forebay dataset build` computes it."}
	case errors.Is(err, joinsql.ErrDialect):
		err = &Error{Code: "unknown_dialect", Err: err}
	}
	return text, missing, err
}

// kept is a dataset with all that is needed to build it again. remove removes the spine's temporary file.
func (a *App) kept(ctx context.Context, id string) (m dataset.Manifest, b *dataset.Builder, r dataset.Request, remove func() error, err error) {
	remove = func() error { return nil }
	if m, err = a.manifest(ctx, id); err != nil {
		return m, nil, r, remove, err
	}
	if m.Request == nil {
		return m, nil, r, remove, fmt.Errorf("dataset %s: %w", m.ID, dataset.ErrOldManifest)
	}
	rev, err := a.revisionOf(ctx, m)
	if err != nil {
		return m, nil, r, remove, err
	}
	if r, err = a.datasetRequest(ctx, rev, selection.Request{Service: m.Request.Service, Features: m.Request.Features, FullNames: m.Request.FullNames}); err != nil {
		return m, nil, r, remove, err
	}
	r.Timestamp = m.Inputs.Timestamp
	if m.Inputs.KnownAt != "" {
		at, err := feature.ParseTimestamp(m.Inputs.KnownAt)
		if err != nil {
			return m, nil, r, remove, fmt.Errorf("dataset %s: known_at: %w", m.ID, err)
		}
		r.KnownAt = &at
	}
	if b, err = a.builder(ctx); err != nil {
		return m, nil, r, remove, err
	}
	if r.Spine, remove, err = b.Manifests.Spine(ctx, m); err != nil {
		return m, nil, r, remove, againError(err)
	}
	return m, b, r, remove, nil
}

// revisionOf is the revision that a dataset was built with; where this registry does not have it, its newest
// may declare the same.
func (a *App) revisionOf(ctx context.Context, m dataset.Manifest) (*registry.Revision, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	rev, err := a.revision(ctx, m.Revision)
	if !errors.Is(err, registry.ErrNoRevision) {
		return rev, err
	}
	if same, derr := dataset.Definitions(head); derr == nil && same == m.Inputs.Definitions {
		return head, nil
	}
	return nil, err
}

// againError gives a failure of a rebuild its code, and its reader the next step.
func againError(err error) error {
	for _, known := range []struct {
		is         error
		code, hint string
	}{
		{offline.ErrSnapshotGone, codeSnapshotGone, "Build datasets that must last with --pin or --name: their snapshots are kept when tables are maintained."},
		{dataset.ErrSpineGone, codeSpineGone, "Build the dataset anew from its spine: the same rows give the same ID."},
		{dataset.ErrNotReproduced, codeNotReproduced, ""},
		{dataset.ErrDiffers, codeDiffers, "`forebay dataset rebuild` writes the dataset again."},
	} {
		if errors.Is(err, known.is) {
			return &Error{Code: known.code, Err: err, Hint: known.hint}
		}
	}
	if err == nil {
		return nil
	}
	return spineError(err)
}
