package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// objects is what a history needs of an object store.
type objects interface {
	// list names the objects below a folder ("revisions/"), in any order.
	list(ctx context.Context, folder string) ([]string, error)
	// read reads a whole object; fs.ErrNotExist if there is none.
	read(ctx context.Context, name string) ([]byte, error)
	// create makes an object that was not there, whole and durable. It fails with
	// fs.ErrExist, and changes nothing, if it is there; after another error it may be.
	create(ctx context.Context, name string, content []byte) error
	close() error
}

// bucket is an objects in an object store.
type bucket struct{ blob *blob.Bucket }

var _ objects = bucket{}

func (b bucket) list(ctx context.Context, folder string) ([]string, error) {
	var names []string
	for it := b.blob.List(&blob.ListOptions{Prefix: folder}); ; {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		names = append(names, o.Key)
	}
}

func (b bucket) read(ctx context.Context, name string) ([]byte, error) {
	content, err := b.blob.ReadAll(ctx, name)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return content, err
}

func (b bucket) create(ctx context.Context, name string, content []byte) error {
	err := b.blob.WriteAll(ctx, name, content, &blob.WriterOptions{IfNotExist: true, ContentType: "application/json"})
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return fmt.Errorf("%w: %w", fs.ErrExist, err)
	}
	return err
}

func (b bucket) close() error { return b.blob.Close() }

// folder is an objects in a local folder, which is made by the first create.
type folder struct{ root string }

var _ objects = folder{}

func (f folder) path(name string) string { return filepath.Join(f.root, filepath.FromSlash(name)) }

func (f folder) list(ctx context.Context, dir string) ([]string, error) {
	entries, err := os.ReadDir(f.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && !strings.HasPrefix(e.Name(), temporary) {
			names = append(names, dir+e.Name())
		}
	}
	return names, ctx.Err()
}

func (f folder) read(ctx context.Context, name string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return os.ReadFile(f.path(name))
}

// temporary starts the names of files that are being written.
const temporary = ".writing-"

// create writes a file of another name and links it to its own: a hard link
// fails if the name is taken, atomically, in one process as among several.
func (f folder) create(ctx context.Context, name string, content []byte) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := f.path(name)
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	t, err := os.CreateTemp(dir, temporary+"*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(t.Name())) }()
	_, err = t.Write(content)
	if err == nil {
		err = t.Chmod(0o644)
	}
	if err == nil {
		err = t.Sync()
	}
	if err = errors.Join(err, t.Close()); err != nil {
		return err
	}
	if err := os.Link(t.Name(), path); errors.Is(err, fs.ErrExist) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w (the file system must have hard links)", err)
	}
	return syncDir(dir)
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f folder) close() error { return nil }
