package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/forebay/forebay/offline/files"
)

// spines is where copies of spines lie: below the manifests, called by the SHA-256 of their bytes.
const spines = folder + "spines/"

// ErrSpineGone means: the copy of a dataset's spine is not there.
var ErrSpineGone = errors.New("the dataset's spine is gone")

// keepSpine copies a spine, as it is, to where it is found again, called by the SHA-256 of its bytes.
func (s *Manifests) keepSpine(ctx context.Context, f files.File) (k *Kept, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep a copy of the spine %s: %w", f.Name, err)
		}
	}()
	in, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	sum := sha256.New()
	n, err := io.Copy(sum, in)
	if err != nil {
		return nil, err
	}
	k = &Kept{Format: f.Format.MediaType(), Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil))}
	k.Object = spines + k.SHA256
	if there, err := s.bucket.Exists(ctx, k.Object); err != nil || there {
		return k, err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return k, s.bucket.Upload(ctx, k.Object, in, &blob.WriterOptions{ContentType: k.Format})
}

// Spine fetches the copy of a dataset's spine to a temporary file, which remove removes.
func (s *Manifests) Spine(ctx context.Context, m Manifest) (f files.File, remove func() error, err error) {
	none := func() error { return nil }
	if m.Kept == nil {
		return f, none, fmt.Errorf("dataset %s: %w: it was built before copies were kept", m.ID, ErrSpineGone)
	}
	r, err := s.bucket.NewReader(ctx, m.Kept.Object, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return f, none, fmt.Errorf("dataset %s: %w: there is no object %s", m.ID, ErrSpineGone, m.Kept.Object)
	}
	if err != nil {
		return f, none, fmt.Errorf("dataset %s: read its spine: %w", m.ID, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	tmp, err := os.CreateTemp("", "forebay-spine-*")
	if err != nil {
		return f, none, err
	}
	remove = func() error { return os.Remove(tmp.Name()) }
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, sum), r)
	if err == nil && (n != m.Kept.Bytes || hex.EncodeToString(sum.Sum(nil)) != m.Kept.SHA256) {
		err = fmt.Errorf("the copy of its spine, %s, is %w: %d bytes with SHA-256 %x; it was kept with %d bytes and SHA-256 %s",
			m.Kept.Object, ErrDamaged, n, sum.Sum(nil), m.Kept.Bytes, m.Kept.SHA256)
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return f, none, errors.Join(fmt.Errorf("dataset %s: %w", m.ID, err), remove())
	}
	return files.File{Path: tmp.Name(), Name: "the spine of dataset " + m.ID, Format: files.FormatOfMediaType(m.Kept.Format)}, remove, nil
}
