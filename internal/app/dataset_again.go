package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/dataset"
	"github.com/forebay/forebay/offline/files"
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
