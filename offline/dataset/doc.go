// Package dataset builds training datasets that can be built again: a
// point-in-time join of a spine with features, and a manifest of everything that
// went into it, whose hash is the dataset's ID (docs/format/dataset.md).
//
// A [Builder] resolves nothing: it takes a selection. It opens the spine twice: the
// join reads the columns it needs, and what comes out is put beside the spine's
// own columns, which pass through as the file has them. Both go run by run, so that memory
// is bounded by the join's budget.
package dataset
