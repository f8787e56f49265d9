package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/httpapi"
	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/nearest"
	"github.com/forebay/forebay/registry/selection"
)

// Explain says where the values of an entity's features come from.
func (a *App) Explain(ctx context.Context, o GetOptions) (*api.Explanation, error) {
	e, err := a.newEngine(ctx)
	if err != nil {
		return nil, err
	}
	x, err := e.explain(ctx, o)
	return x, unavailable(err, "Is the online store running? `forebay status` looks at it.")
}

// Explain implements httpapi.Engine.
func (e *engine) Explain(ctx context.Context, req selection.Request, entity []httpapi.TextField) (*api.Explanation, error) {
	o := GetOptions{Service: req.Service, Features: req.Features, FullNames: req.FullNames}
	for _, f := range entity {
		o.Entity = append(o.Entity, Pair(f))
	}
	x, err := e.explain(ctx, o)
	var known *Error
	if errors.As(err, &known) && (known.Code == codeMissingKey || known.Code == codeMissingField || known.Code == api.CodeWrongType || known.Code == api.CodeUnknownField) {
		field := ""
		if unknown := new(unknownName); errors.As(err, &unknown) {
			field = unknown.name
		}
		return nil, &httpapi.InputError{Code: known.Code, Field: field, Message: strings.TrimSpace(known.Error() + ". " + known.Hint)}
	}
	return x, notFound(err)
}

func (e *engine) explain(ctx context.Context, o GetOptions) (*api.Explanation, error) {
	plan, err := e.plan(ctx, selection.Request{Service: o.Service, Features: o.Features, FullNames: o.FullNames})
	if err != nil {
		return nil, err
	}
	sel := plan.Selection()
	if err := complete(sel, o.Entity); err != nil {
		return nil, err
	}
	if err := refuseUnknown(sel, o.Entity); err != nil {
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
	// One lookup gives the values asked for and those of the inputs, so that they fit together.
	whole, places := withInputs(sel)
	if plan, err = e.newPlan(plan.Revision(), whole); err != nil {
		return nil, err
	}
	x := &explainer{sel: whole, places: places, now: e.app.clock().UnixMicro()}
	if x.found, err = plan.lookup(ctx, x.now, keys, request, 1); err != nil {
		return nil, err
	}
	if x.found.Free != nil {
		defer x.found.Free()
	}
	if x.records, err = e.records(ctx, sel, keys); err != nil {
		return nil, err
	}
	answer := &api.Explanation{Revision: plan.Revision(), Instant: feature.FormatTimestamp(x.found.Instant)}
	for i, out := range sel.Outputs {
		answer.Features = append(answer.Features, x.feature(i, out.Name, out.View, out.Feature))
	}
	return answer, nil
}

// unknownName is the error of a name that is neither a key nor a request field.
type unknownName struct{ name string }

func (u *unknownName) Error() string {
	return fmt.Sprintf("%q is neither a key nor a request field of these features", u.name)
}

// refuseUnknown refuses what no feature asks for, with what it may have been meant to be.
func refuseUnknown(sel *selection.Selection, pairs []Pair) error {
	names := func(fields []feature.Field) (all []string) {
		for _, f := range fields {
			all = append(all, f.Name)
		}
		return all
	}
	keys, request := names(sel.Keys), names(sel.Request)
	known := slices.Concat(keys, request)
	for _, p := range pairs {
		if slices.Contains(known, p.Name) {
			continue
		}
		hint := ""
		if meant, ok := nearest.Name(p.Name, known); ok {
			hint = fmt.Sprintf("Did you mean %q?", meant)
		} else {
			if len(keys) > 0 {
				hint = "Keys: " + strings.Join(keys, ", ") + ". "
			}
			if len(request) > 0 {
				hint += "Request fields: " + strings.Join(request, ", ") + "."
			}
			hint = cmp.Or(strings.TrimSpace(hint), "They need neither.")
		}
		return &Error{Code: api.CodeUnknownField, Err: &unknownName{p.Name}, Hint: hint}
	}
	return nil
}

// withInputs is a selection with the inputs of all its steps as outputs too, and the output of each.
func withInputs(sel *selection.Selection) (*selection.Selection, map[selection.Column]int) {
	whole, places := *sel, map[selection.Column]int{}
	whole.Outputs = slices.Clone(sel.Outputs)
	for i := range sel.Steps {
		step := &sel.Steps[i]
		for j, in := range step.Program.Inputs() {
			if _, there := places[step.Inputs[j]]; there {
				continue
			}
			places[step.Inputs[j]] = len(whole.Outputs)
			whole.Outputs = append(whole.Outputs, selection.Output{Name: in.String(), View: in.View, Feature: in.Name, Type: in.Type, From: step.Inputs[j]})
		}
	}
	return &whole, places
}

// explainer explains the values of one lookup.
type explainer struct {
	sel     *selection.Selection     // withInputs
	places  map[selection.Column]int // the outputs of inputs
	now     int64
	found   *httpapi.Found
	records []foundRecord // of roles
}

// foundRecord is the record of a role, and the state that it holds.
type foundRecord struct {
	*api.ExplainedRecord
	plan  *window.Plan  // of a windowed view
	state *window.State // nil where there is none that can be read
}

// feature explains an output under a name.
func (x *explainer) feature(at int, name, view, feat string) api.ExplainedFeature {
	f := api.ExplainedFeature{Name: name, Value: x.found.Columns[at].Value(0).AppendJSON(nil), Status: x.found.Statuses[at][0].String(), View: view, Feature: feat}
	if t := x.found.EventTimes[at][0]; t != httpapi.NoTime {
		f.EventTime = instantText(t)
		age := float64(x.found.Instant-t) / 1e6
		f.AgeSeconds = &age
	}
	switch from := x.sel.Outputs[at].From; {
	case from.Role >= 0:
		role, rec := &x.sel.Roles[from.Role], &x.records[from.Role]
		index := role.Features[from.Feature]
		f.Expr = role.View.View.Features[index].Expr
		f.Record = rec.ExplainedRecord
		f.Window = rec.window(role.View.View, index, x.now)
	case from.Step >= 0:
		step := &x.sel.Steps[from.Step]
		f.Expr = step.View.Features[step.Feature].Expr
		for i, in := range step.Program.Inputs() {
			name := in.Name
			if in.View != "" {
				name = registry.Ref{View: in.View, Feature: in.Name}.String()
			}
			f.Inputs = append(f.Inputs, name)
			input := x.feature(x.places[step.Inputs[i]], name, in.View, in.Name)
			if in.View == "" {
				input.Request, input.Feature = true, ""
			}
			f.From = append(f.From, input)
		}
	}
	return f
}

// window is the window of a view's feature as it was merged; nil of a view without windows.
func (r *foundRecord) window(v *registry.FeatureView, index int, now int64) *api.ExplainedWindow {
	if r.state != nil {
		if newest, seen := r.state.Newest(); seen {
			now = max(now, newest)
		}
	}
	w := explainedWindow(v, index, now)
	if w != nil && r.Error == "" {
		merged := 0
		if r.state != nil {
			merged = r.plan.Merged(r.state, now, index)
		}
		w.Hops = &merged
	}
	return w
}

func instantText(micros int64) *string {
	text := feature.FormatTimestamp(micros)
	return &text
}

// records reads the record of each role.
func (e *engine) records(ctx context.Context, sel *selection.Selection, keys []*feature.Column) ([]foundRecord, error) {
	all := make([]foundRecord, len(sel.Roles))
	var asked []online.Key
	var of []int
	live := e.serving.Load().live
	for i := range sel.Roles {
		role := &sel.Roles[i]
		r := &api.ExplainedRecord{View: role.View.View.Name, Generation: role.View.Number}
		number, set := live[r.View]
		r.Live = number == r.Generation || !set
		if ttl := role.View.View.TTL; ttl > 0 && ttl != feature.Lifetime {
			r.TTL = ttl.String()
		}
		r.Keys = []byte{'{'}
		var own []*feature.Column
		joinKeys := role.View.Project.JoinKeys(role.View.View)
		for j, k := range role.Keys {
			if j > 0 {
				r.Keys = append(r.Keys, ',')
			}
			r.Keys = append(feature.AppendStringJSON(r.Keys, joinKeys[j].Name), ':')
			r.Keys = keys[k].Value(0).AppendJSON(r.Keys)
			own = append(own, keys[k])
		}
		r.Keys = append(r.Keys, '}')
		all[i].ExplainedRecord = r
		if entity, whole := feature.AppendKeyRow(nil, own, 0); whole {
			asked, of = append(asked, online.Key{View: r.View, Generation: r.Generation, Entity: entity}), append(of, i)
		}
	}
	found := make([][]byte, len(asked))
	if len(asked) > 0 {
		if err := e.store.Get(ctx, asked, found); err != nil {
			return nil, err
		}
	}
	for i, rec := range found {
		if rec != nil {
			all[of[i]].describe(&sel.Roles[of[i]], rec)
		}
	}
	return all, nil
}

// explainedWindow is the window of a view's feature at an instant; nil of a view without windows.
func explainedWindow(v *registry.FeatureView, index int, instant int64) *api.ExplainedWindow {
	for _, a := range v.Aggregations { // features are theirs, one for each of their windows
		if index >= len(a.Windows) {
			index -= len(a.Windows)
			continue
		}
		length := a.Windows[index].Length()
		w := &api.ExplainedWindow{Function: a.Function, Column: a.Column, Length: string(a.Windows[index]), To: feature.FormatTimestamp(instant)}
		if length == feature.Lifetime {
			return w
		}
		hop := int64(v.Hop(length))
		w.Hop, w.From = v.Hop(length).String(), instantText(feature.FloorDiv(instant-int64(length), hop)*hop)
		return w
	}
	return nil
}

// filesSince is the least instant, in microseconds, that a file can have been taken in at: no
// partition of Kafka has as many offsets (docs/decisions/0001).
const filesSince = 1e14

// describe says what a role's record holds.
func (r *foundRecord) describe(role *selection.Role, rec []byte) {
	r.Found, r.Bytes = true, len(rec)
	if len(rec) > 0 {
		r.Kind = int(rec[0])
	}
	var err error
	if role.View.View.Windowed() {
		err = r.describeWindows(role, rec)
	} else {
		err = r.describeRow(role, rec)
	}
	if err != nil {
		r.Error = err.Error()
	}
}

func (r *foundRecord) describeWindows(role *selection.Role, rec []byte) error {
	epoch, offset, encoded, err := rowcodec.ForWindows(role.View).Decode(rec)
	if err != nil {
		return err
	}
	if r.plan, err = window.ForView(role.View.View); err != nil {
		return err
	}
	state, err := r.plan.Decode(encoded)
	if err != nil {
		return err
	}
	r.state, r.Epoch, r.NextOffset = state, instantText(epoch), &offset
	if newest, seen := state.Newest(); seen {
		r.EventTime = instantText(newest)
	}
	return nil
}

func (r *foundRecord) describeRow(role *selection.Role, rec []byte) error {
	if _, err := rowcodec.For(role.View).Open(rec); err != nil {
		return err
	}
	v, err := rowcodec.Version(rec)
	if err != nil {
		return err
	}
	r.EventTime, r.IngestedAt = instantText(v.EventTime), instantText(v.IngestedAt)
	if v.Minor >= filesSince {
		r.Row, r.TakenIn = &v.Major, instantText(v.Minor)
	} else {
		r.Partition, r.Offset = &v.Major, &v.Minor
	}
	return nil
}
