package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options says how to open a folder. Dir and Project are required; the zero
// value of everything else is its default.
type Options struct {
	// Dir is the folder; it is made if it is missing.
	Dir string
	// Project is the project whose records the folder keeps. A folder keeps
	// those of one project.
	Project string
	// CacheBytes is the memory for blocks that were read. Default 64 MiB.
	CacheBytes int64
	// MemTableBytes is the memory for records that were written and are not yet
	// in a sorted file; up to four of them are in use at a time. Default 16 MiB.
	MemTableBytes uint64
	// NoSync lets Write return before its records are on disk: a crash of the
	// machine or the process may lose the last of them. It never loses a record
	// that was written before a resume point that survives. Default: Write returns
	// once its records are on disk.
	NoSync bool
	// MinFreeBytes is the room on the disk below which writes are refused with
	// online.ErrFull, so that the database never meets a full disk itself. Default 64 MiB.
	MinFreeBytes uint64
	// Command is what others are told who find the folder held, such as
	// "forebay dev". Default: the name of the program.
	Command string
	// Log gets what the database has to say. Default: nothing is logged.
	Log *slog.Logger
	// Fatal is called when the database cannot go on, after it was logged: a disk that
	// failed, say. It must not return. Default: the process exits with status 1.
	Fatal func(error)

	fs  vfs.FS           // of the database's own files; for tests
	now func() time.Time // the clock of expiries; for tests
}

func (o Options) withDefaults() Options {
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 16 << 20
	}
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = 64 << 20
	}
	if o.Command == "" {
		o.Command = filepath.Base(os.Args[0])
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:revive // Pebble calls it where it cannot go on; it must not return
		}
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.fs == nil {
		o.fs = vfs.Default
	}
	return o
}

// Validate reports every option that cannot be used.
func (o Options) Validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("path: missing; it is the folder that keeps the records"))
	}
	if o.Project == "" || strings.ContainsAny(o.Project, "\n\x00") {
		errs = append(errs, fmt.Errorf("project: %q is not a project's name", o.Project))
	}
	if o.CacheBytes < 0 {
		errs = append(errs, fmt.Errorf("cache bytes: %d is negative", o.CacheBytes))
	}
	if o.MemTableBytes != 0 && (o.MemTableBytes < 64<<10 || o.MemTableBytes >= 4<<30) {
		errs = append(errs, fmt.Errorf("memtable bytes: %d is not from 64 KiB to 4 GiB", o.MemTableBytes))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("embedded online store: %w", err)
	}
	return nil
}
