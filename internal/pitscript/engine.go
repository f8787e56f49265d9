package pitscript

import (
	"context"
	"errors"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// ErrHistory is what an engine without history answers to a lookup of the past.
var ErrHistory = errors.New("only training data has a past")

// Engine is one way from events to features: stores, and what moves rows between them,
// that nobody else uses meanwhile. It is used by one goroutine, and runs one script.
type Engine interface {
	// SetClock sets the clock, in microseconds. It never goes back.
	SetClock(at int64)
	// Deliver brings events to where the engine takes them from, in this order, and
	// returns when lookups see them all.
	Deliver(ctx context.Context, events []Events) error
	// Push writes rows of a source as `forebay push` does: all, or an error and none.
	Push(ctx context.Context, source *registry.Source, rows *feature.Batch) error
	// Lookup answers for each row of a request, or returns ErrHistory.
	Lookup(ctx context.Context, l Lookup) (*Answer, error)
	// Refused counts what could not be used of all that was delivered: events, and
	// rows of single views.
	Refused(ctx context.Context) (map[Refusal]int64, error)
	// Close ends the engine and removes its data.
	Close() error
}

// Events are events of one source, in the order of their arrival.
type Events struct {
	Source *registry.Source
	// Rows are the source's columns, with Versions of which only IngestedAt means something.
	Rows *feature.Batch
}

// Refusal says whose rows were refused, and why. The reasons are those of dead letters
// (docs/format/dead-letter.md).
type Refusal struct{ Source, Reason string }

// The reasons that a script can bring about.
const (
	AheadOfClock = "ahead_of_clock"
	BadTimestamp = "bad_timestamp"
	NullKey      = "null_key"
)

// Lookup asks for a selection of features, of a number of entities.
type Lookup struct {
	Selection     *selection.Selection
	Keys, Request []*feature.Column
	Rows          int
	// At is the instant: the clock's, unless KnownAt is set or the features are asked for as
	// of a later event.
	At int64
	// KnownAt, if set, asks for what is in the log now, without what was learned after it.
	KnownAt *int64
}

// Answer has one column and one list of statuses for each output of the selection.
type Answer struct {
	Columns  []*feature.Column
	Statuses [][]feature.Status
	Instant  int64 // that was answered for: Lookup.At, or a later event's where the engine says so
}
