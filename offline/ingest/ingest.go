// Package ingest appends rows from outside to a source's log: files, each exactly
// once by the hash of its content, and pushes.
//
// Rows that cannot be taken are set aside in a quarantine file with the reason
// (docs/format/quarantine.md); the good ones go on.
package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/forebay/forebay/offline"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// Options of an ingest.
type Options struct {
	// Quarantine is the folder below which bad rows are kept: in
	// SOURCE/HASH.ndjson, of the file's content hash.
	Quarantine string
	// Keys are the join keys of each view of the source. A row that has a null in those of
	// every view belongs to no entity, and is bad.
	Keys [][]feature.Field
	// Strict commits nothing if a row is bad, and returns a *StrictError.
	Strict bool
	// DryRun reads and checks everything, and writes nothing.
	DryRun bool
	// Progress, if set, is called from time to time with the rows read; total is -1 while unknown.
	Progress func(done, total int64)
}

// Result says what became of a file.
type Result struct {
	File       string `json:"file"`
	Hash       string `json:"sha256"`               // of the content, in hex
	Rows       int64  `json:"rows"`                 // appended
	Bad        int64  `json:"bad"`                  // set aside
	Skipped    bool   `json:"skipped"`              // the content was ingested before: nothing was done
	Quarantine string `json:"quarantine,omitempty"` // where the bad rows are; "" if there are none
}

// StrictError is returned by a strict ingest of a file with bad rows.
type StrictError struct {
	File       string
	Bad        int64
	First      files.BadRow
	Quarantine string // where all of them are; "" in a dry run
}

func (e *StrictError) Error() string {
	msg := fmt.Sprintf("%s has %d bad rows, so nothing of it was ingested (strict); the first is %s", e.File, e.Bad, e.First)
	if e.Bad == 1 {
		msg = fmt.Sprintf("%s has a bad row, so nothing of it was ingested (strict): %s", e.File, e.First)
	}
	if e.Quarantine != "" {
		msg += "; see " + e.Quarantine
	}
	return msg
}

// ErrChanged means: the file was written to while it was read.
var ErrChanged = errors.New("the file was changed while it was being ingested; nothing of it was taken")

// Ingest appends the rows of one file to the log of src. A file whose content is in
// the log already is skipped. A schema that does not fit is a *files.SchemaError, and
// nothing is appended then, nor after any other error.
func Ingest(ctx context.Context, store offline.Store, src *registry.Source, path string, o Options) (Result, error) {
	res := Result{File: path}
	file, err := files.At(path)
	if err != nil {
		return res, err
	}
	before, err := os.Stat(path)
	if err != nil {
		return res, err
	}
	if res.Hash, err = hash(ctx, path); err != nil {
		return res, fmt.Errorf("read %s: %w", path, err)
	}
	if res.Skipped, err = store.Ingested(ctx, src, res.Hash); err != nil || res.Skipped {
		return res, err
	}
	in, err := files.OpenSource(file, src)
	if err != nil {
		return res, err
	}
	defer func() { _ = in.Close() }() // it was read only
	in.RequireKey(src, o.Keys)
	origin := &offline.FileOrigin{Name: path, Hash: res.Hash}
	app, err := store.Append(ctx, src, origin)
	if err != nil {
		return res, fmt.Errorf("ingest %s: %w", path, err)
	}
	defer func() { _ = app.Abort() }() // after a commit it does nothing
	q := &quarantine{dir: o.Quarantine, source: src.Name, file: path, hash: res.Hash, dry: o.DryRun}
	defer q.discard()
	if err := copyRows(ctx, in, app, src, q, &res, o); err != nil {
		return res, err
	}
	after, err := os.Stat(path)
	if err != nil {
		return res, err
	}
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return res, fmt.Errorf("%s: %w", path, ErrChanged)
	}
	// The bad rows are safe before the good ones are visible: a crash in between is repaired
	// by ingesting again.
	if res.Quarantine, err = q.keep(); err != nil {
		return res, err
	}
	if o.Strict && res.Bad > 0 {
		return res, &StrictError{File: path, Bad: res.Bad, First: q.first, Quarantine: res.Quarantine}
	}
	if o.DryRun {
		return res, nil
	}
	err = app.Commit(ctx, offline.Origin{File: origin})
	if errors.Is(err, offline.ErrConflict) {
		// Somebody else may have ingested the same file meanwhile.
		if there, ierr := store.Ingested(ctx, src, res.Hash); ierr == nil && there {
			return Result{File: path, Hash: res.Hash, Skipped: true}, nil
		}
	}
	if err != nil {
		return res, fmt.Errorf("ingest %s: %w", path, err)
	}
	return res, nil
}

func copyRows(ctx context.Context, in *files.Source, app offline.Appender, src *registry.Source, q *quarantine, res *Result, o Options) error {
	timestamp, created := src.Column(src.Timestamp), -1
	if src.Created != "" {
		created = src.Column(src.Created)
	}
	at := app.IngestedAt()
	var versions []feature.Version
	for rows, err := range in.Rows(ctx) {
		if err != nil {
			return err
		}
		for _, b := range rows.Bad {
			if err := q.add(b); err != nil {
				return err
			}
		}
		batch := rows.Batch
		versions = versions[:0]
		for i := range batch.Rows {
			v := feature.Version{EventTime: batch.Columns[timestamp].Int64s()[i], IngestedAt: at, Major: rows.At[i], Minor: at}
			if created >= 0 {
				v.IngestedAt = batch.Columns[created].Int64s()[i]
			}
			versions = append(versions, v)
		}
		batch.Versions = versions
		if batch.Rows > 0 && !o.DryRun {
			if err := app.Write(ctx, batch); err != nil {
				return fmt.Errorf("ingest %s: %w", res.File, err)
			}
		}
		res.Rows += int64(batch.Rows)
		res.Bad += int64(len(rows.Bad))
		if o.Progress != nil {
			o.Progress(res.Rows+res.Bad, in.Total())
		}
	}
	return nil
}

// hash is the SHA-256 of a file's content, in hex.
func hash(ctx context.Context, path string) (sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was read only
	h, buf := sha256.New(), make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// Push appends rows of src's columns in one commit and fills in their Versions, so that
// the caller can write the same rows online. A push is never skipped: its rows
// became known now, whatever its created column says. No timestamp may be null.
func Push(ctx context.Context, store offline.Store, src *registry.Source, rows *feature.Batch) error {
	origin := &offline.FileOrigin{Name: "push"}
	app, err := store.Append(ctx, src, origin)
	if err != nil {
		return fmt.Errorf("push to %s: %w", src.Name, err)
	}
	defer func() { _ = app.Abort() }() // after a commit it does nothing
	timestamp, at := rows.Columns[src.Column(src.Timestamp)], app.IngestedAt()
	rows.Versions = rows.Versions[:0]
	for i := range rows.Rows {
		if timestamp.IsNull(i) {
			return fmt.Errorf("push to %s: row %d: the timestamp %q is missing or null", src.Name, i, src.Timestamp)
		}
		rows.Versions = append(rows.Versions, feature.Version{EventTime: timestamp.Int64s()[i], IngestedAt: at, Major: int64(i), Minor: at})
	}
	if err := app.Write(ctx, rows); err != nil {
		return fmt.Errorf("push to %s: %w", src.Name, err)
	}
	if err := app.Commit(ctx, offline.Origin{File: origin}); err != nil {
		return fmt.Errorf("push to %s: %w", src.Name, err)
	}
	return nil
}
