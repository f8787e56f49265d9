package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/httpapi"
	"github.com/forebay/forebay/internal/rowjson"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// Pair is a key or a request field and its value, as text.
type Pair struct{ Name, Value string }

// GetOptions asks for the features of one entity.
type GetOptions struct {
	Service   string
	Features  []string // feature references, instead of a service
	FullNames bool
	Entity    []Pair
}

// Got is the answer to a Get.
type Got struct {
	Revision string
	At       int64 // the instant looked up, microseconds since the Unix epoch
	Features []GotFeature
	Unused   []string // names given that nothing asked for
}

// GotFeature is one feature of the answer.
type GotFeature struct {
	Name      string
	Value     feature.Value
	Status    feature.Status
	EventTime *int64 // microseconds; nil where there is no row
}

// The codes of a lookup without one of its keys, or request fields.
const (
	codeMissingKey   = api.CodeMissingKey
	codeMissingField = api.CodeMissingField
)

// Get looks one entity up.
func (a *App) Get(ctx context.Context, o GetOptions) (*Got, error) {
	e, err := a.newEngine(ctx)
	if err != nil {
		return nil, err
	}
	plan, err := e.plan(ctx, selection.Request{Service: o.Service, Features: o.Features, FullNames: o.FullNames})
	if err != nil {
		return nil, err
	}
	sel := plan.Selection()
	if err := complete(sel, o.Entity); err != nil {
		return nil, err
	}
	keys, err := columns(sel.Keys, o.Entity)
	if err != nil {
		return nil, err
	}
	request, err := columns(sel.Request, o.Entity)
	if err != nil {
		return nil, err
	}
	found, err := plan.Lookup(ctx, keys, request, 1)
	if err != nil {
		return nil, unavailable(err, "Is the online store running? `forebay status` looks at it.")
	}
	got := &Got{Revision: plan.Revision(), At: found.Instant}
	for i, out := range sel.Outputs {
		f := GotFeature{Name: out.Name, Value: found.Columns[i].Value(0).Clone(), Status: found.Statuses[i][0]}
		if at := found.EventTimes[i][0]; at != httpapi.NoTime {
			f.EventTime = &at
		}
		got.Features = append(got.Features, f)
	}
	if found.Free != nil {
		found.Free()
	}
	known := slices.Concat(sel.Keys, sel.Request)
	for _, p := range o.Entity {
		if !slices.ContainsFunc(known, func(f feature.Field) bool { return f.Name == p.Name }) {
			got.Unused = append(got.Unused, p.Name)
		}
	}
	return got, nil
}

// complete refuses a lookup that lacks a key or a request field, as the server does.
func complete(sel *selection.Selection, pairs []Pair) error {
	code := codeMissingKey
	var missing []string
	for i, f := range slices.Concat(sel.Keys, sel.Request) {
		if slices.ContainsFunc(pairs, func(p Pair) bool { return p.Name == f.Name }) || slices.Contains(missing, f.Name) {
			continue
		}
		if len(missing) == 0 && i >= len(sel.Keys) {
			code = codeMissingField
		}
		missing = append(missing, f.Name)
	}
	if len(missing) == 0 {
		return nil
	}
	return &Error{
		Code: code,
		Err:  fmt.Errorf("the lookup needs %s", strings.Join(missing, ", ")),
		Hint: "Add " + strings.Join(missing, "=… ") + "=….",
	}
}

// columns makes one row of fields from texts, which has them all.
func columns(fields []feature.Field, pairs []Pair) ([]*feature.Column, error) {
	made := make([]*feature.Column, len(fields))
	for i, f := range fields {
		made[i] = feature.NewColumn(f.Name, f.Type, 1)
		at := slices.IndexFunc(pairs, func(p Pair) bool { return p.Name == f.Name })
		v, err := parseValue(f.Type, pairs[at].Value)
		if err != nil {
			return nil, &Error{Code: api.CodeWrongType, Err: fmt.Errorf("%s=%s: %w", f.Name, pairs[at].Value, err)}
		}
		made[i].Append(v)
	}
	return made, nil
}

// MarshalJSON writes the answer as POST /v1/features does, with the instant beside it.
func (g *Got) MarshalJSON() ([]byte, error) {
	type row struct {
		Values          []json.RawMessage `json:"values"`
		Statuses        []feature.Status  `json:"statuses"`
		EventTimestamps []*string         `json:"event_timestamps"`
	}
	doc := struct {
		Revision string   `json:"revision"`
		Instant  string   `json:"instant"`
		Features []string `json:"features"`
		Rows     []row    `json:"rows"`
	}{Revision: g.Revision, Instant: feature.FormatTimestamp(g.At)}
	var r row
	for _, f := range g.Features {
		doc.Features = append(doc.Features, f.Name)
		r.Values = append(r.Values, f.Value.AppendJSON(nil))
		r.Statuses = append(r.Statuses, f.Status)
		var at *string
		if f.EventTime != nil {
			text := feature.FormatTimestamp(*f.EventTime)
			at = &text
		}
		r.EventTimestamps = append(r.EventTimestamps, at)
	}
	doc.Rows = []row{r}
	return json.Marshal(doc)
}

// parseValue reads a value as people write it: text as it is, everything else as JSON has it.
func parseValue(t feature.Type, text string) (feature.Value, error) {
	raw := []byte(text)
	switch t.Kind {
	case feature.String, feature.Bytes, feature.Timestamp:
		raw = feature.AppendStringJSON(nil, text)
	}
	return rowjson.ParseValue(t, rowjson.RFC3339, raw)
}
