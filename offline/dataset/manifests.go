package dataset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// folder is where manifests lie in their bucket.
const folder = "datasets/"

// Errors about kept manifests, to be tested with errors.Is.
var (
	ErrNoDataset = errors.New("no such dataset")
	ErrAmbiguous = errors.New("more than one dataset has an ID that begins so")
	// ErrNotReproduced: the same inputs gave other rows than before.
	ErrNotReproduced = errors.New("the same inputs gave other rows than when the dataset was built first; please report this")
)

// Manifests keeps manifests in an object store, as datasets/HEX.json. It is safe
// for concurrent use.
type Manifests struct{ bucket *blob.Bucket }

// NewManifests keeps manifests in a bucket, which stays the caller's.
func NewManifests(b *blob.Bucket) *Manifests { return &Manifests{bucket: b} }

func object(id string) string { return folder + strings.TrimPrefix(id, "sha256:") + ".json" }

// Put keeps a manifest and returns it as it is kept. One with its ID keeps the
// instant at which it was created, and its name unless m has one; if its rows were
// others it stays as it is, and the error wraps ErrNotReproduced.
func (s *Manifests) Put(ctx context.Context, m Manifest) (Manifest, error) {
	old, err := s.read(ctx, object(m.ID))
	switch {
	case errors.Is(err, ErrNoDataset):
	case err != nil:
		return m, err
	case old.ContentHash != m.ContentHash:
		return old, fmt.Errorf("dataset %s: %w (content hash %s, was %s)", m.ID, ErrNotReproduced, m.ContentHash, old.ContentHash)
	default:
		m.Created = old.Created
		m.Name = cmp.Or(m.Name, old.Name)
	}
	return m, s.write(ctx, m)
}

func (s *Manifests) write(ctx context.Context, m Manifest) error {
	raw, err := m.Marshal()
	if err != nil {
		return err
	}
	if err := s.bucket.WriteAll(ctx, object(m.ID), raw, &blob.WriterOptions{ContentType: "application/json"}); err != nil {
		return fmt.Errorf("keep the manifest of dataset %s: %w", m.ID, err)
	}
	return nil
}

func (s *Manifests) read(ctx context.Context, key string) (Manifest, error) {
	raw, err := s.bucket.ReadAll(ctx, key)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return Manifest{}, ErrNoDataset
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("read %s: %w", key, err)
	}
	m, err := Unmarshal(raw)
	if err == nil && object(m.ID) != key {
		err = fmt.Errorf("%w: it is that of %s", ErrDamaged, m.ID)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", key, err)
	}
	return m, nil
}

// keys are the objects whose names begin so.
func (s *Manifests) keys(ctx context.Context, prefix string) ([]string, error) {
	var keys []string
	for it := s.bucket.List(&blob.ListOptions{Prefix: prefix, Delimiter: "/"}); ; {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return keys, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list datasets: %w", err)
		}
		if !o.IsDir && strings.HasSuffix(o.Key, ".json") {
			keys = append(keys, o.Key)
		}
	}
}

// minPrefix is how many hex digits of an ID are needed to find a dataset.
const minPrefix = 4

// Get finds a dataset by its ID, or by a prefix of four hex digits or more that no other
// has, with or without "sha256:". The error wraps ErrNoDataset or ErrAmbiguous.
func (s *Manifests) Get(ctx context.Context, id string) (Manifest, error) {
	hex := strings.TrimPrefix(id, "sha256:")
	if len(hex) < minPrefix || strings.Trim(hex, "0123456789abcdef") != "" {
		return Manifest{}, fmt.Errorf("%q: %w: want %d hex digits of its ID or more", id, ErrNoDataset, minPrefix)
	}
	keys, err := s.keys(ctx, folder+hex)
	switch {
	case err != nil:
		return Manifest{}, err
	case len(keys) == 0:
		return Manifest{}, fmt.Errorf("%s: %w", id, ErrNoDataset)
	case len(keys) > 1:
		return Manifest{}, fmt.Errorf("%s: %w (%d of them)", id, ErrAmbiguous, len(keys))
	}
	return s.read(ctx, keys[0])
}

// List lists the datasets, newest first.
func (s *Manifests) List(ctx context.Context) ([]Manifest, error) {
	keys, err := s.keys(ctx, folder)
	if err != nil {
		return nil, err
	}
	ms := make([]Manifest, 0, len(keys))
	for _, k := range keys {
		m, err := s.read(ctx, k)
		if errors.Is(err, ErrNoDataset) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		ms = append(ms, m)
	}
	slices.SortFunc(ms, func(a, b Manifest) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return ms, nil
}

// Remove forgets a dataset, and the copy of its spine unless another dataset has the same one.
func (s *Manifests) Remove(ctx context.Context, id string) error {
	m, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := s.bucket.Delete(ctx, object(m.ID)); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return fmt.Errorf("remove dataset %s: %w", m.ID, err)
	}
	if m.Kept == nil {
		return nil
	}
	others, err := s.List(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(others, func(o Manifest) bool { return o.Kept != nil && o.Kept.Object == m.Kept.Object }) {
		return nil
	}
	if err := s.bucket.Delete(ctx, m.Kept.Object); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return fmt.Errorf("remove the spine of dataset %s: %w", m.ID, err)
	}
	return nil
}
