package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/offline/ingest"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

// IngestOptions says which files go to which source's log.
type IngestOptions struct {
	Source string
	// Files are taken in this order; none are those of the source's glob, sorted by name.
	Files  []string
	Strict bool // a file with bad rows is an error, and nothing of it is taken
	DryRun bool // read and check everything, append nothing
	// Progress, if set, hears the rows read of a file; total is 0 while unknown.
	Progress func(file string, done, total int64)
}

// Ingested says what became of one file.
type Ingested struct {
	ingest.Result
	Seconds float64 `json:"seconds"`
}

// Ingest appends files to a source's log, one after the other. After an error it
// returns what became of the files before as well.
func (a *App) Ingest(ctx context.Context, o IngestOptions) ([]Ingested, error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, err
	}
	src, err := source(head, o.Source)
	if err != nil {
		return nil, err
	}
	paths, err := a.filesOf(src, o.Files)
	if err != nil {
		return nil, err
	}
	store, err := a.offlineStore(ctx)
	if err != nil {
		return nil, err
	}
	var done []Ingested
	for _, path := range paths {
		start := time.Now()
		opts := ingest.Options{Quarantine: a.env.Quarantine, Keys: keysOf(head.Project, src), Strict: o.Strict, DryRun: o.DryRun}
		if o.Progress != nil {
			opts.Progress = func(n, total int64) { o.Progress(path, n, max(total, 0)) }
		}
		res, err := ingest.Ingest(ctx, store, src, path, opts)
		if err != nil {
			return done, ingestError(err)
		}
		done = append(done, Ingested{Result: res, Seconds: time.Since(start).Seconds()})
	}
	return done, nil
}

// keysOf are the join keys of each view that reads a source.
func keysOf(p *registry.Project, src *registry.Source) [][]feature.Field {
	var keys [][]feature.Field
	for i := range p.Views {
		if v := &p.Views[i]; v.Source == src.Name {
			keys = append(keys, p.JoinKeys(v))
		}
	}
	return keys
}

// filesOf are the files to ingest, as the user sees them: those given, else those of the glob.
func (a *App) filesOf(src *registry.Source, given []string) ([]string, error) {
	if len(given) > 0 {
		return given, nil
	}
	if src.Files == nil {
		return nil, &Error{
			Err:  fmt.Errorf("source %s declares no files", src.Name),
			Hint: fmt.Sprintf("Name them: forebay ingest %s FILE…, or declare files: {glob: …}.", src.Name),
		}
	}
	glob := src.Files.Glob
	if !filepath.IsAbs(glob) {
		glob = filepath.Join(a.shown(), glob)
	}
	paths, err := filepath.Glob(glob)
	if err != nil {
		return nil, fmt.Errorf("the glob %q of source %s: %w", src.Files.Glob, src.Name, err)
	}
	if len(paths) == 0 {
		return nil, &Error{
			Err:  fmt.Errorf("no file matches %s, the glob of source %s", glob, src.Name),
			Hint: fmt.Sprintf("Put files there, or name them: forebay ingest %s FILE…", src.Name),
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// Codes of an ingest's failures.
const (
	codeBadRows   = "bad_rows"
	codeBadSchema = "bad_schema"
)

// ingestError gives a failure of an ingest its code, and its reader the next step.
func ingestError(err error) error {
	var strict *ingest.StrictError
	var schema *files.SchemaError
	switch {
	case errors.As(err, &strict):
		return &Error{Code: codeBadRows, Err: err, Hint: "Mend the rows, or ingest the good ones without --strict."}
	case errors.As(err, &schema):
		return &Error{Code: codeBadSchema, Err: err}
	}
	return err
}
