package sdk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/apache/arrow/go/v17/arrow/ipc"

	"github.com/forebay/forebay/offline/files"
)

// WriteParquet writes the dataset as a Parquet file. A file that is there is
// replaced, once the new one is whole.
func (d *Dataset) WriteParquet(path string) error { return d.write(path, files.Parquet) }

// WriteCSV writes the dataset as a CSV file with a header; a null is an empty
// field. A file that is there is replaced, once the new one is whole.
func (d *Dataset) WriteCSV(path string) error { return d.write(path, files.CSV) }

// WriteArrow writes the dataset as an Arrow IPC stream. A file that is there is
// replaced, once the new one is whole.
func (d *Dataset) WriteArrow(path string) error {
	return replace(path, func(w io.Writer) error {
		f, err := os.Open(d.path)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		return errors.Join(err, f.Close())
	})
}

// write writes the dataset in a format.
func (d *Dataset) write(path string, format files.Format) error {
	return replace(path, func(w io.Writer) error {
		return d.read(func(r *ipc.Reader) (bool, error) {
			out, err := files.NewWriter(w, format, r.Schema())
			if err != nil {
				return false, err
			}
			for r.Next() {
				if err := out.Write(r.Record()); err != nil {
					return false, errors.Join(err, out.Close())
				}
			}
			return true, errors.Join(r.Err(), out.Close())
		})
	})
}

// replace writes a file beside its place and then moves it there.
func replace(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("sdk: %w", err)
	}
	buffered := bufio.NewWriterSize(f, 1<<16)
	err = errors.Join(write(buffered), buffered.Flush(), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("sdk: write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
