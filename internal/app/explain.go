package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/httpapi"
	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
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
		return nil, &httpapi.InputError{Code: known.Code, Message: strings.TrimSpace(known.Error() + ". " + known.Hint)}
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
	fields := slices.Concat(sel.Keys, sel.Request)
	for _, p := range o.Entity {
		if !slices.ContainsFunc(fields, func(f feature.Field) bool { return f.Name == p.Name }) {
			return nil, &Error{Code: api.CodeUnknownField, Err: fmt.Errorf("%s is neither a key nor a request field of these features", p.Name)}
		}
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
		return nil, err
	}
	if found.Free != nil {
		defer found.Free()
	}
	records, err := e.records(ctx, sel, keys)
	if err != nil {
		return nil, err
	}
	x := &api.Explanation{Revision: plan.Revision(), Instant: feature.FormatTimestamp(found.Instant)}
	for i, out := range sel.Outputs {
		f := api.ExplainedFeature{
			Name: out.Name, Value: found.Columns[i].Value(0).AppendJSON(nil), Status: found.Statuses[i][0].String(), View: out.View, Feature: out.Feature,
		}
		if at := found.EventTimes[i][0]; at != httpapi.NoTime {
			f.EventTime = instantText(at)
			age := float64(found.Instant-at) / 1e6
			f.AgeSeconds = &age
		}
		switch from := out.From; {
		case from.Role >= 0:
			role := &sel.Roles[from.Role]
			f.Expr = role.View.View.Features[role.Features[from.Feature]].Expr
			f.Record = records[from.Role]
			f.Window = explainedWindow(role.View.View, role.Features[from.Feature], found.Instant)
		case from.Step >= 0:
			step := &sel.Steps[from.Step]
			f.Expr = step.View.Features[step.Feature].Expr
			for _, in := range step.Program.Inputs() {
				f.Inputs = append(f.Inputs, in.Name)
			}
		}
		x.Features = append(x.Features, f)
	}
	return x, nil
}

func instantText(micros int64) *string {
	text := feature.FormatTimestamp(micros)
	return &text
}

// records reads the record of each role.
func (e *engine) records(ctx context.Context, sel *selection.Selection, keys []*feature.Column) ([]*api.ExplainedRecord, error) {
	all := make([]*api.ExplainedRecord, len(sel.Roles))
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
		all[i] = r
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
			describeRecord(all[of[i]], &sel.Roles[of[i]], rec)
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
		from := feature.FloorDiv(instant-int64(length), hop) * hop
		w.Hop, w.From, w.Hops = v.Hop(length).String(), instantText(from), (instant-from+hop-1)/hop
		return w
	}
	return nil
}

// filesSince is the least instant, in microseconds, that a file can have been taken in at: no
// partition of Kafka has as many offsets (docs/decisions/0001).
const filesSince = 1e14

func describeRecord(to *api.ExplainedRecord, role *selection.Role, rec []byte) {
	to.Found, to.Bytes = true, len(rec)
	if len(rec) > 0 {
		to.Kind = int(rec[0])
	}
	if role.View.View.Windowed() {
		epoch, offset, _, err := rowcodec.ForWindows(role.View).Decode(rec)
		if err != nil {
			to.Error = err.Error()
			return
		}
		to.Epoch, to.NextOffset = &epoch, &offset
		return
	}
	if _, err := rowcodec.For(role.View).Open(rec); err != nil {
		to.Error = err.Error()
		return
	}
	v, err := rowcodec.Version(rec)
	if err != nil {
		to.Error = err.Error()
		return
	}
	to.EventTime, to.IngestedAt = instantText(v.EventTime), instantText(v.IngestedAt)
	if v.Minor >= filesSince {
		to.Row, to.TakenIn = &v.Major, instantText(v.Minor)
	} else {
		to.Partition, to.Offset = &v.Major, &v.Minor
	}
}
