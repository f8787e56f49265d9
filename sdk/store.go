package sdk

import "context"

// Store is what [New] and [Open] return: one feature repository, served or in
// process. It is safe for concurrent use.
type Store interface {
	// Lookup reads the newest values of features of entities. It is repeated,
	// within the timeout, where the server could not be reached or was busy.
	Lookup(ctx context.Context, req LookupRequest) (*Result, error)
	// Push writes rows of a source to the online and the offline store. If any row
	// is wrong none is written, and the *Error lists them (Rejected). It is never
	// repeated: after an error that is no *Error the rows may have been written.
	Push(ctx context.Context, source string, rows []Values) (PushResult, error)
	// BuildDataset joins a spine with features, point in time correctly. The
	// timeout does not apply to it, ctx does. The caller closes the Dataset.
	BuildDataset(ctx context.Context, req DatasetRequest) (*Dataset, error)
	// Dataset fetches a dataset that was built, by its ID, the start of one, or its name: its rows are built again,
	// and are those of the first build, or it is an error. The caller closes it.
	Dataset(ctx context.Context, id string) (*Dataset, error)
	// Close releases connections, or the stores; it may be called more than once.
	Close() error
}

var _ Store = (*Client)(nil)
