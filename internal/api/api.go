// Package api is what goes over the wire between the server (internal/httpapi)
// and the Go client (package sdk): paths, headers, media types and JSON bodies
// of the HTTP API. docs/http.md describes them for users.
//
// Lookups are encoded and decoded by hand on both sides, for speed and so that
// an int64 never passes through a float; their field names are constants here.
package api

import (
	"encoding/json"
	"time"

	"github.com/forebay/forebay/registry/feature"
)

// Paths of the API.
const (
	PathFeatures = "/v1/features"
	PathPush     = "/v1/push/" // and the source's name
	PathDatasets = "/v1/datasets"
	PathRegistry = "/v1/registry/" // and a kind, and a name
	PathHealth   = "/healthz"
	PathReady    = "/readyz"
	PathMetrics  = "/metrics"
	PathOpenAPI  = "/openapi.json"
)

// Headers of the API beside those of HTTP.
const (
	HeaderRequestID   = "X-Request-Id"
	HeaderAPIKey      = "X-Api-Key"
	HeaderTraceparent = "Traceparent"
	// HeaderDataset carries a dataset's ID beside its rows.
	HeaderDataset = "X-Forebay-Dataset"
	// HeaderDatasetRows carries the number of its rows.
	HeaderDatasetRows = "X-Forebay-Rows"
	// HeaderRevision carries the ID of the revision that an answer was made with.
	HeaderRevision = "X-Forebay-Revision"
	// HeaderInstant carries the instant that a lookup was made at, RFC 3339 in UTC.
	HeaderInstant = "X-Forebay-Instant"
	// HeaderStaleSince is there where a lookup was answered with values of earlier, because the
	// online store cannot be reached: since when they may have changed, RFC 3339 in UTC.
	HeaderStaleSince = "X-Forebay-Stale-Since"
)

// Media types of the API.
const (
	TypeJSON    = "application/json"
	TypeParquet = "application/vnd.apache.parquet"
	TypeArrow   = "application/vnd.apache.arrow.stream"
	TypeCSV     = "text/csv"
	TypeNDJSON  = "application/x-ndjson"
	// TypeMessagePack is that of lookups only.
	TypeMessagePack = "application/msgpack"
)

// Field names of a lookup's request and answer (POST /v1/features).
const (
	FieldService         = "service"
	FieldFeatures        = "features"
	FieldEntities        = "entities"
	FieldOmit            = "omit"
	FieldFullNames       = "full_names"
	FieldRevision        = "revision"
	FieldInstant         = "instant"
	FieldStaleSince      = "stale_since"
	FieldRows            = "rows"
	FieldValues          = "values"
	FieldStatuses        = "statuses"
	FieldEventTimestamps = "event_timestamps"
)

// Codes of errors, beside those of package selection. They are stable.
const (
	CodeBadRequest       = "bad_request"
	CodeUnknownField     = "unknown_field"
	CodeDuplicateField   = "duplicate_field"
	CodeMissingKey       = "missing_key"
	CodeMissingField     = "missing_field"
	CodeWrongType        = "wrong_type"
	CodeTooLarge         = "too_large"
	CodeTooManyEntities  = "too_many_entities"
	CodeUnauthorized     = "unauthorized"
	CodeNotFound         = "not_found"
	CodeUnknownSource    = "unknown_source"
	CodeUnknownKind      = "unknown_kind"
	CodeUnknownDataset   = "unknown_dataset"
	CodeMethodNotAllowed = "method_not_allowed"
	CodeUnsupportedMedia = "unsupported_media_type"
	CodeNotAcceptable    = "not_acceptable"
	CodeRejectedRows     = "rejected_rows"
	CodeBadSpine         = "bad_spine"
	CodeConflict         = "conflict"
	CodeUnavailable      = "unavailable"
	CodeNoRevision       = "no_revision"
	CodeOverloaded       = "overloaded"
	CodeRateLimited      = "rate_limited"
	CodeDeadline         = "deadline_exceeded"
	CodeTimeout          = "request_timeout"
	CodeCanceled         = "canceled"
	CodeInternal         = "internal"
)

// ErrorBody is the body of every answer that is an error.
type ErrorBody struct {
	Error Error `json:"error"`
}

// Error is what went wrong.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Field is the place in the request ("entities[3].origin"), or "".
	Field string `json:"field,omitempty"`
}

// PushAnswer is the answer to POST /v1/push/{source}. If any row is rejected
// none is applied, Accepted is 0 and the answer is an error of status 400 with
// these fields beside "error".
type PushAnswer struct {
	Accepted int           `json:"accepted"`
	Rejected []RejectedRow `json:"rejected"`
	// Later names the windowed views whose windows have the rows only when materialize has
	// built them.
	Later []string `json:"later,omitempty"`
}

// RejectedRow is a row that a push could not take.
type RejectedRow struct {
	Row     int    `json:"row"` // from 0, in the request's order
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
}

// Dataset describes a training dataset.
type Dataset struct {
	ID       string    `json:"id"` // "sha256:…"
	Name     string    `json:"name,omitempty"`
	Created  time.Time `json:"created"`
	Rows     int64     `json:"rows"`
	Revision string    `json:"revision"`
	Service  string    `json:"service,omitempty"`
	Features []string  `json:"features,omitempty"`
	// ContentHash is that of the dataset's canonical rows: "sha256:…".
	ContentHash string `json:"content_hash,omitempty"`
	Pinned      bool   `json:"pinned,omitempty"` // the snapshots that it was built from are kept from being expired
	// KnownAt is the instant that hides rows learned later; nil for none.
	KnownAt *time.Time `json:"known_at,omitempty"`
	// Columns are the result's, in order.
	Columns []feature.Field `json:"columns,omitempty"`
	// Manifest is all that the ID is a hash of, where one dataset is asked for.
	Manifest json.RawMessage `json:"manifest,omitempty"`
}

// Datasets is the answer to GET /v1/datasets, newest first.
type Datasets struct {
	Datasets []Dataset `json:"datasets"`
}

// Check is one thing that readiness depends on.
type Check struct {
	Name string `json:"name"` // "online", "offline", "registry"
	OK   bool   `json:"ok"`
	// Stale says that the online store is away and that lookups are answered with values of earlier.
	Stale bool   `json:"stale,omitempty"`
	Error string `json:"error,omitempty"`
}

// Readiness is the answer to GET /readyz: status 200 if all checks are OK, else 503.
type Readiness struct {
	Ready  bool    `json:"ready"`
	Checks []Check `json:"checks"`
}

// Definitions is the answer to GET /v1/registry/{kind}: definitions of one kind, by name.
type Definitions struct {
	Revision string            `json:"revision"`
	Kind     string            `json:"kind"` // as YAML writes it: FeatureView
	Items    []json.RawMessage `json:"items"`
}

// Definition is the answer to GET /v1/registry/{kind}/{name}.
type Definition struct {
	Revision   string          `json:"revision"`
	Kind       string          `json:"kind"`
	Definition json.RawMessage `json:"definition"`
	// Generation is a view's in this revision; 0 for other kinds.
	Generation int `json:"generation,omitempty"`
}
