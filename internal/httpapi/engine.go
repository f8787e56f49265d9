package httpapi

import (
	"context"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/online/lookup"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// Engine is what the server serves; internal/app implements it. It is safe for
// concurrent use. Its errors are the sentinels of packages registry, online and
// offline, *selection.Error, *NotFoundError and *InputError, wrapped at will;
// anything else is an internal error, which is logged and not shown.
type Engine interface {
	// Revision is the revision that is served, or registry.ErrNoRevision.
	Revision(ctx context.Context) (*registry.Revision, error)
	// Plan prepares lookups of what a request asks for. Equal requests of one
	// revision and one set of live generations should get the same plan.
	Plan(ctx context.Context, req selection.Request) (Plan, error)
	// Explain says where the values of one entity's features come from; entity has all
	// keys and request fields. A mistake in it is an *InputError.
	Explain(ctx context.Context, req selection.Request, entity []TextField) (*api.Explanation, error)
	// Push reads rows of a source, one JSON object each, and writes them to the
	// online and the offline store. If any row is rejected none is written. The
	// rows' memory is the caller's again once it returns. An unknown source is
	// a *NotFoundError.
	Push(ctx context.Context, source string, rows [][]byte) (api.PushAnswer, error)
	// BuildDataset runs a point-in-time join of a spine. A mistake in the spine
	// is an *InputError.
	BuildDataset(ctx context.Context, req DatasetRequest) (api.Dataset, error)
	// Datasets lists the datasets built so far, newest first, without their manifests.
	Datasets(ctx context.Context) ([]api.Dataset, error)
	// Dataset describes one dataset, by its ID, a unique prefix of it, or its
	// name. A *NotFoundError if there is none.
	Dataset(ctx context.Context, id string) (api.Dataset, error)
	// RebuildDataset builds a dataset again, by its ID, a unique prefix of it, or its name, into a file. A
	// *NotFoundError if there is none, or if what it was built from is gone.
	RebuildDataset(ctx context.Context, id string, out DatasetFile) (api.Dataset, error)
	// Ready checks what serving depends on.
	Ready(ctx context.Context) []api.Check
}

// Plan is a prepared lookup. It is immutable and safe for concurrent use.
type Plan interface {
	// Selection says which key columns and request fields a lookup needs, and
	// what it answers.
	Selection() *selection.Selection
	// Revision is the ID of the revision that the plan was made in.
	Revision() string
	// Lookup looks rows entities up. keys and request have one column for each of
	// Selection's Keys and Request, with rows rows each; a null key is an entity
	// that is not found. They are the caller's again once it returns.
	Lookup(ctx context.Context, keys, request []*feature.Column, rows int) (*Found, error)
}

// NoTime is the event time of a value that has none: no instant is that early.
const NoTime = lookup.NoTime

// Found is the answer to a lookup: of each output, in the order asked for, one
// entry per entity. It belongs to the caller until Free.
type Found struct {
	Columns  []*feature.Column
	Statuses [][]feature.Status
	// EventTimes are in microseconds since the Unix epoch, NoTime where there is no row.
	EventTimes [][]int64
	// Instant is the instant that was looked up: microseconds since the Unix epoch.
	Instant int64
	// StaleSince is 0, or since when some of the values may have changed, because the online store
	// cannot be reached: microseconds since the Unix epoch.
	StaleSince int64
	// Free, if not nil, takes the memory back; it is called once the answer is made.
	Free func()
}

// DatasetRequest asks for a training dataset.
type DatasetRequest struct {
	Select    selection.Request
	Timestamp string // the spine's column of the instant; "" for event_timestamp
	KnownAt   *int64 // microseconds since the Unix epoch; nil hides nothing
	Name      string
	Pin       bool // keep the snapshots that are read from being expired
	// Spine is a file of the given format, and so is Out, which the engine creates or truncates.
	Spine, Out DatasetFile
}

// DatasetFile is a file and its format; the path has the format's extension.
type DatasetFile struct {
	Path   string
	Format files.Format
}

// NotFoundError says that something named in a request does not exist.
type NotFoundError struct {
	Code    string // stable: "unknown_source", "unknown_dataset"
	Message string // a whole sentence, with a hint where there is one
}

func (e *NotFoundError) Error() string { return e.Message }

// InputError says what is wrong with data that a user sent.
type InputError struct {
	Code    string // stable; "" for "bad_request"
	Field   string // the column or place, or ""
	Message string
}

func (e *InputError) Error() string { return e.Message }
