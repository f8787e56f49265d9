package files

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"
)

// Writer writes records of one schema. It is used by one goroutine.
type Writer interface {
	// Write writes the rows of a record, which it does not keep.
	Write(rec arrow.Record) error
	// Close writes what ends the file. It does not close what is written to.
	Close() error
}

// NewWriter makes a writer of a format. An ArrowFile is written to an io.WriteSeeker only.
// Types that the format has no name for become the nearest: Parquet has timestamps of
// seconds as milliseconds and float16 as float32, and text has everything as
// text.
func NewWriter(w io.Writer, format Format, schema *arrow.Schema) (Writer, error) {
	for _, f := range schema.Fields() {
		if err := passable(f.Type); err != nil {
			return nil, fmt.Errorf("column %q: %w", f.Name, err)
		}
	}
	switch format {
	case Parquet:
		return newParquetWriter(w, schema)
	case CSV:
		return newCSVWriter(w, schema), nil
	case NDJSON:
		return newNDJSONWriter(w, schema), nil
	case ArrowStream:
		return ipc.NewWriter(w, ipc.WithSchema(schema)), nil
	case ArrowFile:
		seeker, ok := w.(io.WriteSeeker)
		if !ok {
			return nil, errors.New("an Arrow file cannot be streamed: ask for an Arrow stream")
		}
		return ipc.NewFileWriter(seeker, ipc.WithSchema(schema))
	}
	return nil, ErrFormat
}

// Output is a file being written. It has its name only once it is whole.
type Output struct {
	Writer
	path string
	tmp  *os.File
	buf  *bufio.Writer // nil for an Arrow file, which seeks
	done bool
}

// Create starts to write a file in the format of its extension, in a temporary file
// beside it. The caller calls Commit, or Abort, which does nothing after Commit.
func Create(path string, schema *arrow.Schema) (*Output, error) {
	format, err := FormatOf(path)
	if err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, unwrapPath(err))
	}
	o := &Output{path: path, tmp: tmp}
	if format == ArrowFile {
		o.Writer, err = NewWriter(tmp, format, schema)
	} else {
		o.buf = bufio.NewWriterSize(tmp, 1<<20)
		o.Writer, err = NewWriter(o.buf, format, schema)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), o.Abort())
	}
	return o, nil
}

// Write writes the rows of a record.
func (o *Output) Write(rec arrow.Record) error {
	if err := o.Writer.Write(rec); err != nil {
		return fmt.Errorf("write %s: %w", o.path, err)
	}
	return nil
}

// Commit ends the file, waits until it is on disk and gives it its name, replacing
// a file that has it.
func (o *Output) Commit() error {
	err := o.Writer.Close()
	if err == nil && o.buf != nil {
		err = o.buf.Flush()
	}
	if err == nil {
		err = o.tmp.Chmod(0o644) //nolint:gosec // as a file made by other means
	}
	if err == nil {
		err = o.tmp.Sync()
	}
	if err == nil {
		err = o.tmp.Close()
	}
	if err == nil {
		err = os.Rename(o.tmp.Name(), o.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", o.path, err), o.Abort())
	}
	o.done = true
	return syncDir(filepath.Dir(o.path))
}

// Abort removes what was written.
func (o *Output) Abort() error {
	if o.done {
		return nil
	}
	o.done = true
	_ = o.tmp.Close() // it may be closed already, and goes away
	return os.Remove(o.tmp.Name())
}

// syncDir waits until a rename within a folder is on disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
