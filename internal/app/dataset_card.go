package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/dataset/card"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry"
)

// DatasetCard describes a dataset's file. name is for people; "" for the file's. label names the column of the
// classes; "" for none.
func DatasetCard(ctx context.Context, path, name, label string) (c *card.Card, err error) {
	f, err := files.At(path)
	if err != nil {
		return nil, err
	}
	s, err := files.OpenSpine(ctx, f, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if c, err = card.Make(func() iter.Seq2[arrow.Record, error] { return s.Records(ctx) }, label); err != nil {
		return nil, fmt.Errorf("describe %s: %w", path, err)
	}
	if c.Name = name; name == "" {
		c.Name = filepath.Base(path)
	}
	return c, nil
}

// WriteWhole writes a file beside its place and then moves it there, so that it is never there in part.
func WriteWhole(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	w := bufio.NewWriter(f)
	err = errors.Join(write(w), w.Flush(), f.Chmod(0o644), f.Close()) //nolint:gosec // as a file made by other means
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// RemoveDataset forgets a dataset, by ID or name, with its copy of the spine and its pins.
func (a *App) RemoveDataset(ctx context.Context, id string, dryRun bool) (d api.Dataset, err error) {
	m, err := a.manifest(ctx, id)
	if err != nil {
		return d, err
	}
	if d, err = described(m); err != nil || dryRun {
		return d, err
	}
	if len(m.Pins) > 0 {
		if err := a.unpin(ctx, m.ID); err != nil {
			return d, err
		}
	}
	kept, err := a.manifests(ctx)
	if err != nil {
		return d, err
	}
	return d, kept.Remove(ctx, m.ID)
}

// unpin ends the pins of a dataset.
func (a *App) unpin(ctx context.Context, id string) error {
	m, err := a.manifest(ctx, id)
	if err != nil {
		return err
	}
	off, err := a.offlineStore(ctx)
	if err != nil {
		return err
	}
	archive, ok := off.(offline.Archive)
	if !ok {
		return nil // it never pinned
	}
	rev, err := a.revisionOf(ctx, m)
	if err != nil {
		return err
	}
	gens := newGenerations(a.repo, rev, nil)
	for _, t := range m.Inputs.Tables {
		v, err := gens.find(ctx, t.View, t.Generation)
		if err != nil {
			return fmt.Errorf("unpin %s: %w", registry.Ref{View: t.View, Generation: t.Generation}, err)
		}
		for _, pin := range m.Pins {
			if err := archive.Unpin(ctx, v, pin); err != nil {
				return err
			}
		}
	}
	return nil
}
