// Package flight serves training datasets over Arrow Flight (docs/datasets.md):
//
//	ListFlights           the datasets built so far
//	GetFlightInfo, path [ID]   one of them; its ticket is its ID
//	DoGet, ticket ID      the rows of a dataset, built again as they were
//	DoPut, command        a spine to enrich: the answer's metadata describes the dataset
//	DoExchange, command   the same, and the dataset's rows come back on the same call
//
// A command is JSON: {"service":…, "features":[…], "timestamp":…, "known_at":…, "name":…, "full_names":…, "pin":…}.
//
// The library is arrow-go/v18, which iceberg-go brings with its Flight protocol already: that of arrow/go/v17 cannot be
// linked beside it. Nothing of its types leaves the package.
//
// Spines and datasets wait in temporary files: a dataset's ID is known only when all of it is computed, and so is a
// mistake in its last row.
package flight
