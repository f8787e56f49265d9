package api

import "encoding/json"

// Explanation says where the values of one entity's features come from: the answer of GET /v1/explain.
type Explanation struct {
	Revision string `json:"revision"`
	// Instant is the instant that was looked up, RFC 3339 in UTC, as all instants here.
	Instant  string             `json:"instant"`
	Features []ExplainedFeature `json:"features"`
}

// ExplainedFeature is one value and where it comes from: a record of a view, or an expression over others.
type ExplainedFeature struct {
	// Name is that of the answer; of an input its reference, "view:feature", or the name of a request field.
	Name      string          `json:"name"`
	Value     json.RawMessage `json:"value"`
	Status    string          `json:"status"`
	EventTime *string         `json:"event_timestamp"`
	// AgeSeconds is how old the value is at the instant; null where there is none.
	AgeSeconds *float64 `json:"age_seconds"`
	// View and Feature are what was asked for; Expr is how it is computed from the source's row, or from Inputs.
	// A request field has neither.
	View    string `json:"view,omitempty"`
	Feature string `json:"feature,omitempty"`
	// Request says that it is a field of the request, with the value that was given.
	Request bool   `json:"request,omitempty"`
	Expr    string `json:"expr,omitempty"`
	// Record is the record that it was read from; null for an on-demand feature.
	Record *ExplainedRecord `json:"record,omitempty"`
	// Window is what the value aggregates; null of a view without aggregations.
	Window *ExplainedWindow `json:"window,omitempty"`
	// Inputs are what an on-demand feature was computed from: "view:feature", or the name of a request field. From
	// explains each, in the same order.
	Inputs []string           `json:"inputs,omitempty"`
	From   []ExplainedFeature `json:"from,omitempty"`
}

// ExplainedWindow is a window at the instant of the lookup: the events later than From, up to To.
type ExplainedWindow struct {
	Function string `json:"function"`
	Column   string `json:"column,omitempty"`
	Length   string `json:"length"`
	Hop      string `json:"hop"`
	// From is left out of a lifetime.
	From *string `json:"from,omitempty"`
	To   string  `json:"to"`
	// Hops is how many pieces of the record were merged, those that hold events: each is a hop, or several where a longer window
	// needs no finer ones. 0 without a record; left out where the record cannot be read.
	Hops *int `json:"hops_merged,omitempty"`
}

// ExplainedRecord is a record of the online store.
type ExplainedRecord struct {
	View       string `json:"view"`
	Generation int    `json:"generation"`
	// Live says whether the generation is the one that lookups read by default.
	Live bool `json:"live"`
	// Keys are the entity's join keys and their values.
	Keys json.RawMessage `json:"keys"`
	// TTL is the view's; "" for any age.
	TTL   string `json:"ttl,omitempty"`
	Found bool   `json:"found"`
	Bytes int    `json:"bytes,omitempty"`
	// Kind is the first byte: 1 for a newest row, 2 and 3 for windows.
	Kind int `json:"kind,omitempty"`
	// EventTime is that of the row, or of the newest event in the windows.
	EventTime  *string `json:"event_timestamp,omitempty"`
	IngestedAt *string `json:"ingested_at,omitempty"`
	// Partition and Offset are those of the Kafka record that wrote it; or Row is the row's position in a file
	// or push, which was taken in at TakenIn.
	Partition *int64  `json:"partition,omitempty"`
	Offset    *int64  `json:"offset,omitempty"`
	Row       *int64  `json:"row,omitempty"`
	TakenIn   *string `json:"taken_in,omitempty"`
	// Epoch, when the view's windows were built anew, and NextOffset are those of a record of windows: it holds every
	// event before that offset.
	Epoch      *string `json:"epoch,omitempty"`
	NextOffset *int64  `json:"next_offset,omitempty"`
	// Error is why the record cannot be read; its values are INVALID.
	Error string `json:"error,omitempty"`
}
