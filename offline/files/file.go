package files

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Format is how a tabular file is written.
type Format uint8

// The formats. Unknown is the zero value.
const (
	Unknown Format = iota
	Parquet
	CSV
	NDJSON
	ArrowFile   // Arrow IPC, the random-access form (Feather 2)
	ArrowStream // Arrow IPC, the streaming form
)

var formatNames = [...]string{"unknown", "Parquet", "CSV", "NDJSON", "Arrow file", "Arrow stream"}

func (f Format) String() string { return formatNames[f] }

var formats = []struct {
	format     Format
	extensions []string
	mediaTypes []string
}{
	{Parquet, []string{".parquet", ".pq"}, []string{"application/vnd.apache.parquet", "application/parquet", "application/x-parquet"}},
	{CSV, []string{".csv"}, []string{"text/csv", "application/csv"}},
	{NDJSON, []string{".ndjson", ".jsonl"}, []string{"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}},
	{ArrowFile, []string{".arrow", ".feather", ".ipc"}, []string{"application/vnd.apache.arrow.file"}},
	{ArrowStream, []string{".arrows"}, []string{"application/vnd.apache.arrow.stream"}},
}

// ErrFormat is wrapped by errors about a file whose format is not known.
var ErrFormat = errors.New("not a format that can be read or written: want .parquet, .csv, .ndjson or .arrow")

// FormatOf tells the format of a path by its extension.
func FormatOf(path string) (Format, error) {
	ext := strings.ToLower(filepath.Ext(path))
	for _, f := range formats {
		for _, e := range f.extensions {
			if e == ext {
				return f.format, nil
			}
		}
	}
	return Unknown, fmt.Errorf("%s: %w", path, ErrFormat)
}

// FormatOfMediaType tells the format that a media type such as
// "text/csv; charset=utf-8" names; Unknown if it names none of them.
func FormatOfMediaType(mediaType string) Format {
	base, _, err := mime.ParseMediaType(mediaType)
	if err != nil {
		return Unknown
	}
	for _, f := range formats {
		for _, m := range f.mediaTypes {
			if m == base {
				return f.format
			}
		}
	}
	return Unknown
}

// MediaType is the media type of a format.
func (f Format) MediaType() string {
	for _, g := range formats {
		if g.format == f {
			return g.mediaTypes[0]
		}
	}
	return "application/octet-stream"
}

// sniff tells a format by its first bytes: of what is not binary, what begins with a
// brace is NDJSON and the rest CSV. Unknown if there are none.
func sniff(head []byte) Format {
	switch {
	case len(head) == 0:
		return Unknown
	case bytes.HasPrefix(head, []byte("PAR1")):
		return Parquet
	case bytes.HasPrefix(head, []byte("ARROW1")):
		return ArrowFile
	case bytes.HasPrefix(head, []byte{0xff, 0xff, 0xff, 0xff}):
		return ArrowStream
	}
	text := bytes.TrimLeft(bytes.TrimPrefix(head, bom), " \t\r\n")
	if len(text) > 0 && text[0] == '{' {
		return NDJSON
	}
	return CSV
}

var bom = []byte("\xef\xbb\xbf")

// File is a tabular file on disk.
type File struct {
	Path   string
	Name   string // as the user gave it, for errors
	Format Format
}

// At is the file at a path, in the format of its extension. An Arrow file that is in
// truth an Arrow stream, and the other way round, is known by its first bytes.
func At(path string) (File, error) {
	format, err := FormatOf(path)
	if err != nil {
		return File{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	head := make([]byte, 8)
	n, _ := io.ReadFull(f, head)
	if err := f.Close(); err != nil {
		return File{}, err
	}
	if found := sniff(head[:n]); (format == ArrowFile || format == ArrowStream) && (found == ArrowFile || found == ArrowStream) {
		format = found
	}
	return File{Path: path, Name: path, Format: format}, nil
}

// Spool copies what r yields to a new file in dir ("" for the system's folder of temporary
// files), so that it can be read more than once. Format Unknown is told by the first
// bytes. The caller removes the file by calling remove, which is never nil.
func Spool(ctx context.Context, r io.Reader, name string, format Format, dir string) (file File, remove func() error, err error) {
	none := func() error { return nil }
	in := bufio.NewReaderSize(&contextReader{ctx, r}, 1<<16)
	head, err := in.Peek(16)
	if err != nil && !errors.Is(err, io.EOF) {
		return File{}, none, fmt.Errorf("read %s: %w", name, err)
	}
	found := sniff(head)
	if found == Unknown {
		return File{}, none, fmt.Errorf("%s is empty", name)
	}
	if binary := found != CSV && found != NDJSON; format == Unknown || (binary && format == ArrowFile) || (binary && format == ArrowStream) {
		format = found
	}
	out, err := os.CreateTemp(dir, "forebay-spool-*")
	if err != nil {
		return File{}, none, err
	}
	remove = func() error { return os.Remove(out.Name()) }
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return File{}, none, errors.Join(fmt.Errorf("read %s: %w", name, err), remove())
	}
	return File{Path: out.Name(), Name: name, Format: format}, remove, nil
}

// contextReader fails once its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// SchemaError says that a file's columns are not what is wanted of them.
type SchemaError struct {
	File   string
	Column string // "" where it is about the file
	Msg    string
}

func (e *SchemaError) Error() string {
	if e.Column == "" {
		return e.File + ": " + e.Msg
	}
	return fmt.Sprintf("%s: column %q: %s", e.File, e.Column, e.Msg)
}

// ErrContent says that a file cannot be read because of what is in it: it is none of
// its format, is cut off, or has values that are not what is wanted.
var ErrContent = errors.New("the file's content")

// contentError is an error that is ErrContent.
type contentError struct{ error }

func (e contentError) Unwrap() error        { return e.error }
func (e contentError) Is(target error) bool { return target == ErrContent }

// ofContent marks an error of reading a file as one of its content, unless it is the
// system's or the caller's.
func ofContent(ctx context.Context, err error) error {
	var system syscall.Errno
	if err == nil || errors.As(err, &system) || errors.Is(err, os.ErrNotExist) || ctx.Err() != nil {
		return err
	}
	return contentError{err}
}

// missing says that a column is not there, and which are.
func missing(f File, column string, have []string) error {
	there := "it has no columns"
	if len(have) > 0 {
		there = "it has " + strings.Join(have, ", ")
	}
	return &SchemaError{File: f.Name, Column: column, Msg: "it is not in the file; " + there}
}

// open opens the file and refuses an empty one.
func (f File) open() (*os.File, int64, error) {
	in, err := os.Open(f.Path)
	if err != nil {
		return nil, 0, fmt.Errorf("open %s: %w", f.Name, unwrapPath(err))
	}
	info, err := in.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a folder, not a %s file", f.Name, f.Format)
	}
	if err == nil && info.Size() == 0 {
		err = fmt.Errorf("%s is empty (0 bytes), not a %s file", f.Name, f.Format)
	}
	if err != nil {
		return nil, 0, errors.Join(err, in.Close())
	}
	return in, info.Size(), nil
}

// unwrapPath drops the path from an error of the file system: the name is said already.
func unwrapPath(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
