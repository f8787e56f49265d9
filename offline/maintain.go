package offline

import (
	"context"
	"errors"
	"time"

	"github.com/forebay/forebay/registry"
)

// Maintainer is a Store whose tables gather small files, earlier states and files that nothing
// names, unless somebody looks after them. It is safe for concurrent use, beside
// everything else that a Store does, by several processes too.
type Maintainer interface {
	// Maintain looks after every table there is, one after the other, and says what it did to each. It changes
	// no row and no answer. After an error, or a crash, every table is valid, and another
	// Maintain goes on; what was done before the error is returned with it.
	Maintain(ctx context.Context, r MaintainRequest) ([]Maintained, error)
}

// MinRetain is the least MaintainRequest.Retain and Orphans: others may be in the middle of
// reading a state, or of writing files that nothing names yet.
const MinRetain = 10 * time.Minute

// ErrRetain means that MaintainRequest.Retain or Orphans is below MinRetain.
var ErrRetain = errors.New("too short a time to keep earlier states")

// MaintainRequest says what Maintain may remove.
type MaintainRequest struct {
	Sources []*registry.Source        // whose logs are compacted
	Views   []registry.ViewGeneration // whose derived tables are compacted
	// Keep are snapshots of derived tables that are needed, beside those that are pinned and
	// the newest of each table.
	Keep map[registry.Ref][]string
	// Drop are derived tables that are removed whole, unless a snapshot of theirs is in Keep or pinned.
	Drop []registry.Ref
	// Retain is how long a state is kept after it was superseded. Files of logs younger than that are
	// not compacted: a refresh that reads them must not take longer.
	Retain time.Duration
	// Orphans is the age at which a file that no state names is removed.
	Orphans time.Duration
	// DryRun says what would be done, and does nothing.
	DryRun bool
	// Progress, if set, hears of each table before it is looked at.
	Progress func(table string)
}

// Maintained says what Maintain did to one table, or would do.
type Maintained struct {
	Table     string `json:"table"`              // logs/departures, views/latest@2
	Merged    int    `json:"merged"`             // files that were put together
	Into      int    `json:"into"`               // into so many
	Snapshots int    `json:"snapshots"`          // expired
	Removed   int    `json:"removed"`            // files that nothing names any more
	Freed     int64  `json:"freed"`              // their bytes
	Dropped   bool   `json:"dropped,omitempty"`  // the table was removed whole
	KeptFor   string `json:"kept_for,omitempty"` // why it was not, although it was asked for
	Files     int    `json:"files"`              // data files there are now; in a dry run, before
	Bytes     int64  `json:"bytes"`              // of the newest state
}
