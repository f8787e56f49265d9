package parquet

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	iceio "github.com/apache/iceberg-go/io"
)

// FS is where data files, manifests and sort runs are written and read: the
// local disk, or in a test one that fails. Table metadata, whose rename is the
// commit, is the catalog's own business.
type FS interface {
	iceio.WriteFileIO
	// CreateTemporary is Create for a file that nobody needs after a crash.
	CreateTemporary(name string) (iceio.FileWriter, error)
	// RemoveAll removes a folder and all in it; none there is no error.
	RemoveAll(name string) error
}

// unsyncedFS is the local disk, which has what is written when it likes.
type unsyncedFS struct{ iceio.LocalFS }

// CreateTemporary implements FS.
func (u unsyncedFS) CreateTemporary(name string) (iceio.FileWriter, error) { return u.Create(name) }

// localFS is the local disk. What is written is on the disk, not only in the
// page cache, when Close returns: a commit must not outlive its files.
type localFS struct{ unsyncedFS }

// writeBehind is how many bytes are written before the disk is told to take them: so it works while the next
// are made, and not only when the file is closed.
const writeBehind = 8 << 20

type syncedFile struct {
	*os.File
	written, told int64
}

func (f *syncedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if f.written += int64(n); f.written-f.told >= writeBehind {
		beginWriting(f.File, f.told, f.written-f.told)
		f.told = f.written
	}
	return n, err
}

func (f *syncedFile) Close() error {
	return errors.Join(f.Sync(), f.File.Close())
}

func (l localFS) Create(name string) (iceio.FileWriter, error) {
	w, err := l.LocalFS.Create(name)
	if err != nil {
		return nil, err
	}
	if f, ok := w.(*os.File); ok {
		return &syncedFile{File: f}, nil
	}
	return w, nil
}

func (l localFS) WriteFile(name string, p []byte) error {
	w, err := l.Create(name)
	if err != nil {
		return err
	}
	if _, err := w.Write(p); err != nil {
		return errors.Join(err, w.Close())
	}
	return w.Close()
}

// syncCommit puts a committed metadata file and the folders that name it and
// its data files on the disk.
func syncCommit(metadata string) error {
	dir := filepath.Dir(metadata)
	for _, name := range []string{metadata, dir, filepath.Join(filepath.Dir(dir), "data")} {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// countingWriter knows how many bytes went through it.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
