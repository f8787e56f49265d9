package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/httpapi"
	"github.com/forebay/forebay/offline/dataset"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// DatasetOptions asks for a training dataset.
type DatasetOptions struct {
	Service   string
	Features  []string // feature references, instead of a service
	FullNames bool
	Spine     string    // file of the rows to enrich; "-" is an Arrow stream on Stdin
	Stdin     io.Reader // for Spine "-"
	Out       string    // file to write, in the format of its extension
	Timestamp string    // the spine's column of the instant; "" for event_timestamp
	KnownAt   *int64    // hides rows learned later, in microseconds; nil hides none
	Memory    int64     // budget of the join in bytes; 0 for 1 GiB
	Name      string
	Pin       bool // keep the snapshots that were read, as a name does
	DryRun    bool // check the request and the spine's columns, and write nothing
	// Progress, if set, hears the rows done; total is 0 while unknown.
	Progress func(done, total int64)
}

// Codes of a dataset's failures, beside those of package selection.
const (
	codeUnknownDataset   = api.CodeUnknownDataset
	codeAmbiguousDataset = "ambiguous_dataset"
	codeBadSpine         = api.CodeBadSpine
)

// BuildDataset joins a spine with features as they were, and keeps the manifest.
func (a *App) BuildDataset(ctx context.Context, o DatasetOptions) (d api.Dataset, err error) {
	head, err := a.Head(ctx)
	if err != nil {
		return d, err
	}
	if _, err := files.FormatOf(o.Out); err != nil {
		return d, fmt.Errorf("--out %w", err)
	}
	spine, remove, err := a.spine(ctx, o)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	r, err := a.datasetRequest(ctx, head, selection.Request{Service: o.Service, Features: o.Features, FullNames: o.FullNames})
	if err != nil {
		return d, err
	}
	r.Spine, r.Timestamp, r.KnownAt, r.Name, r.Pin, r.Memory = spine, o.Timestamp, o.KnownAt, o.Name, o.Pin, o.Memory
	r.Progress = joinProgress(o.Progress)
	b, err := a.builder(ctx)
	if err != nil {
		return d, err
	}
	if o.DryRun {
		run, err := b.Start(ctx, r)
		if err != nil {
			return d, spineError(err)
		}
		d = api.Dataset{Name: o.Name, Rows: max(run.Total(), 0), Revision: head.ID, Service: o.Service}
		for _, out := range r.Selection.Outputs {
			d.Features = append(d.Features, out.Name)
		}
		return d, run.Close()
	}
	m, err := b.Build(ctx, r, o.Out)
	if err != nil {
		return d, spineError(err)
	}
	return described(m)
}

// joinProgress passes on how far the join is.
func joinProgress(f func(done, total int64)) func(string, int64, int64) {
	if f == nil {
		return nil
	}
	return func(stage string, done, total int64) {
		if stage == "join" {
			f(done, total)
		}
	}
}

// spine is the file of a request's spine; remove drops what was made for it.
func (a *App) spine(ctx context.Context, o DatasetOptions) (file files.File, remove func() error, err error) {
	if o.Spine == "-" {
		file, remove, err = files.Spool(ctx, o.Stdin, "standard input", files.ArrowStream, "")
	} else {
		remove = func() error { return nil }
		file, err = files.At(o.Spine)
	}
	if err != nil {
		err = fmt.Errorf("spine: %w", err)
	}
	return file, remove, err
}

// datasetRequest resolves what is asked for with the generations of a revision.
func (a *App) datasetRequest(ctx context.Context, head *registry.Revision, req selection.Request) (dataset.Request, error) {
	sel, err := selection.Resolve(ctx, head.Project, req, newGenerations(a.repo, head, nil).find)
	return dataset.Request{Selection: sel, Revision: head, Asked: dataset.Asked{Service: req.Service, Features: req.Features, FullNames: req.FullNames}}, err
}

func (a *App) builder(ctx context.Context) (*dataset.Builder, error) {
	off, err := a.offlineStore(ctx)
	if err != nil {
		return nil, err
	}
	manifests, err := a.manifests(ctx)
	if err != nil {
		return nil, err
	}
	return &dataset.Builder{Store: off, Manifests: manifests}, nil
}

// manifests are kept in the registry's object store, beside the revisions that they name.
func (a *App) manifests(ctx context.Context) (*dataset.Manifests, error) {
	b, err := opening(a, &a.bucket, func() (*blob.Bucket, error) { return openBucket(ctx, string(a.env.Registry)) })
	if err != nil {
		return nil, fmt.Errorf("datasets in %s: %w", a.env.Registry, err)
	}
	return dataset.NewManifests(b), nil
}

// openBucket opens the object store at a URL, as history.Open does.
func openBucket(ctx context.Context, rawURL string) (*blob.Bucket, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "file" {
		return fileblob.OpenBucket(filepath.FromSlash(u.Path), &fileblob.Options{CreateDir: true, NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
	}
	below := strings.Trim(u.Path, "/")
	u.Path, u.RawPath = "", ""
	b, err := blob.OpenBucket(ctx, u.String())
	if err == nil && below != "" {
		b = blob.PrefixedBucket(b, below+"/")
	}
	return b, err
}

// described is what there is to tell of a manifest.
func described(m dataset.Manifest) (api.Dataset, error) {
	d := api.Dataset{ID: m.ID, Name: m.Name, Created: m.Created, Rows: m.Rows, Revision: cmp.Or(m.Revision, m.Inputs.Revision), ContentHash: m.ContentHash, Pinned: len(m.Pins) > 0}
	if m.Request != nil {
		d.Service = m.Request.Service
	}
	for _, f := range m.Inputs.Features {
		d.Features = append(d.Features, f.Name)
	}
	if m.Inputs.KnownAt != "" {
		t, err := feature.ParseTimestamp(m.Inputs.KnownAt)
		if err != nil {
			return d, fmt.Errorf("dataset %s: known_at: %w", m.ID, err)
		}
		at := time.UnixMicro(t).UTC()
		d.KnownAt = &at
	}
	return d, nil
}

// Datasets lists the datasets built so far, newest first, without their manifests.
func (a *App) Datasets(ctx context.Context) ([]api.Dataset, error) {
	kept, err := a.manifests(ctx)
	if err != nil {
		return nil, err
	}
	ms, err := kept.List(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]api.Dataset, len(ms))
	for i, m := range ms {
		if list[i], err = described(m); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Dataset describes one dataset, by its ID, a unique prefix of it, or its name (of
// several the newest), with its manifest.
func (a *App) Dataset(ctx context.Context, id string) (api.Dataset, error) {
	m, err := a.manifest(ctx, id)
	if err != nil {
		return api.Dataset{}, err
	}
	d, err := described(m)
	if err != nil {
		return d, err
	}
	d.Manifest, err = json.Marshal(m)
	return d, err
}

func (a *App) manifest(ctx context.Context, id string) (dataset.Manifest, error) {
	kept, err := a.manifests(ctx)
	if err != nil {
		return dataset.Manifest{}, err
	}
	m, err := kept.Get(ctx, id)
	switch {
	case errors.Is(err, dataset.ErrAmbiguous):
		return m, &Error{Code: codeAmbiguousDataset, Err: err, Hint: "Give more digits of the ID."}
	case !errors.Is(err, dataset.ErrNoDataset):
		return m, err
	}
	all, lerr := kept.List(ctx)
	if lerr != nil {
		return m, lerr
	}
	for _, m := range all {
		if m.Name == id {
			return m, nil
		}
	}
	return m, &Error{Code: codeUnknownDataset, Err: fmt.Errorf("no dataset has the ID or the name %q", id), Hint: "`forebay dataset list` lists them."}
}

// spineError gives a failure of a build its code, and its reader the next step.
func spineError(err error) error {
	var schema *files.SchemaError
	switch {
	case errors.As(err, &schema):
		e := &Error{Code: codeBadSpine, Err: fmt.Errorf("spine %w", err)}
		if strings.Contains(schema.Msg, dataset.DefaultTimestamp+" (instant") {
			e.Hint = "Name the column of the instant with --timestamp COL."
		}
		return e
	case errors.Is(err, files.ErrContent):
		return &Error{Code: codeBadSpine, Err: err}
	case errors.Is(err, dataset.ErrNameClash):
		return &Error{Code: string(selection.NameClash), Err: err}
	}
	return err
}

// buildDataset is BuildDataset for requests that come over HTTP.
func (a *App) buildDataset(ctx context.Context, head *registry.Revision, req httpapi.DatasetRequest) (api.Dataset, error) {
	r, err := a.datasetRequest(ctx, head, req.Select)
	if err != nil {
		return api.Dataset{}, err
	}
	if r.Spine, err = files.At(req.Spine.Path); err != nil {
		return api.Dataset{}, err
	}
	r.Spine.Name = "spine"
	r.Timestamp, r.KnownAt, r.Name, r.Pin = req.Timestamp, req.KnownAt, req.Name, req.Pin
	b, err := a.builder(ctx)
	if err != nil {
		return api.Dataset{}, err
	}
	m, err := b.Build(ctx, r, req.Out.Path)
	if err != nil {
		return api.Dataset{}, inputError(err)
	}
	return described(m)
}

// inputError says in the server's words what is wrong with a spine.
func inputError(err error) error {
	var schema *files.SchemaError
	switch {
	case errors.As(err, &schema):
		return &httpapi.InputError{Code: codeBadSpine, Field: schema.Column, Message: err.Error()}
	case errors.Is(err, files.ErrContent):
		return &httpapi.InputError{Code: codeBadSpine, Message: err.Error()}
	case errors.Is(err, dataset.ErrNameClash):
		return &httpapi.InputError{Code: string(selection.NameClash), Message: err.Error()}
	}
	return err
}
