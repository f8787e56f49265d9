package lookup

import (
	"context"
	"errors"
	"fmt"

	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// Request asks for the features of a number of entities, one a row. Its columns
// are the caller's again once Lookup returns.
type Request struct {
	// Keys has one column for each of the selection's Keys. A row with a null in a
	// role's key is NOT_FOUND there.
	Keys []*feature.Column
	// Request has one column for each of the selection's Request.
	Request []*feature.Column
	Rows    int
	// Now is the clock's instant, in microseconds.
	Now int64
}

// Lookup answers a request. For each record the instant is Now, or its event
// time if that is later; it is used if its event time is not before the instant
// less the view's ttl. The windows of a view are those at that instant; an entity that
// has no event in the longest of them is NOT_FOUND, with the values of empty windows. A record that cannot be read makes its values INVALID and is
// counted; only the store's errors are errors of the request, and not even those where it gives
// records of earlier instead (Result.StaleSince). The caller calls
// Release on the result.
func Lookup(ctx context.Context, store online.Store, p *Plan, req Request) (*Result, error) {
	if err := p.checkRequest(&req); err != nil {
		return nil, err
	}
	r := p.pool.Get().(*Result)
	r.Rows, r.Instant, r.StaleSince = req.Rows, req.Now, 0
	r.collectKeys(&req)
	r.records = sized(r.records, len(r.keyring.keys))
	if len(r.keyring.keys) > 0 {
		if err := store.Get(ctx, r.keyring.keys, r.records); err != nil {
			var stale *online.StaleError
			if !errors.As(err, &stale) {
				r.Release()
				return nil, fmt.Errorf("look up %d rows: %w", req.Rows, err)
			}
			r.StaleSince = stale.Since.UnixMicro()
		}
	}
	r.broken = r.broken[:0]
	for i := range r.roles {
		r.decode(&p.roles[i], &r.roles[i], req.Now)
	}
	r.absent.found, r.absent.times = sized(r.absent.found, req.Rows), sized(r.absent.times, req.Rows)
	fill(r.absent.found, feature.NotFound)
	fill(r.absent.times, NoTime)
	for i := range r.steps {
		r.compute(&p.sel.Steps[i], &r.steps[i], &req)
	}
	r.outputs(&req)
	return r, nil
}

// collectKeys finds the key of each row and role, and each key once.
func (r *Result) collectKeys(req *Request) {
	r.keyring.reset(len(r.roles) * req.Rows)
	for i := range r.roles {
		plan, role := &r.plan.roles[i], &r.roles[i]
		role.refs = sized(role.refs, req.Rows)
		r.inputs = r.inputs[:0]
		for _, k := range plan.keys {
			r.inputs = append(r.inputs, req.Keys[k])
		}
		for row := range role.refs {
			role.refs[row] = r.keyring.add(plan.same, r.inputs, row)
		}
	}
	r.keyring.finish(r.plan.roles)
}

// decode fills in what a role found. The record of an entity that is asked for
// twice is decoded twice: that costs what copying would.
func (r *Result) decode(plan *role, role *roleResult, now int64) {
	role.found, role.times = sized(role.found, r.Rows), sized(role.times, r.Rows)
	if plan.windows != nil {
		r.decodeWindows(plan, role, now)
		return
	}
	plan.decoder.Room(role.columns, r.Rows)
	var tile [rowcodec.Tile]rowcodec.Row
	for first := 0; first < r.Rows; first += len(tile) {
		rows := tile[:min(len(tile), r.Rows-first)]
		for i := range rows {
			row, ref := first+i, role.refs[first+i]
			rows[i] = rowcodec.Row{}
			role.found[row], role.times[row] = feature.NotFound, NoTime
			if ref >= 0 && r.records[ref] != nil {
				role.found[row], role.times[row] = r.open(plan, int(ref), now, &rows[i])
			}
		}
		plan.decoder.Decode(rows, role.columns, first)
	}
}

// open opens the record of a key for its values at now, and says what was found and of when.
func (r *Result) open(plan *role, ref int, now int64, at *rowcodec.Row) (feature.Status, int64) {
	if err := plan.decoder.Open(r.records[ref], at); err != nil {
		r.corrupt(ref, plan, err)
		*at = rowcodec.InvalidRow()
		return feature.StatusInvalid, NoTime
	}
	event := at.EventTime()
	r.Instant = max(r.Instant, event)
	if plan.ttl > 0 && event < now-plan.ttl { // else the instant is event, or within ttl of it
		*at = rowcodec.Row{}
		return feature.OutsideMaxAge, event
	}
	return feature.Present, event
}

func (r *Result) corrupt(ref int, plan *role, err error) {
	if r.broken.Get(ref) {
		return
	}
	r.broken.Set(ref)
	r.Corrupt++
	if r.CorruptErr == nil {
		r.CorruptErr = fmt.Errorf("%s@%d, entity key %x: %w", plan.view, plan.generation, r.keyring.entity(ref), err)
	}
}

// compute evaluates one on-demand feature for all rows.
func (r *Result) compute(plan *selection.Step, step *stepResult, req *Request) {
	step.times = sized(step.times, r.Rows)
	fill(step.times, NoTime)
	r.inputs = r.inputs[:0]
	for i, from := range plan.Inputs {
		var c *feature.Column
		switch {
		case from.Role >= 0:
			c = r.roles[from.Role].columns[from.Feature]
		case from.Step >= 0:
			c = r.steps[from.Step].column
		case from.Request >= 0:
			c = req.Request[from.Request]
		default:
			c = step.nulls[i]
			appendNulls(c, r.Rows)
		}
		r.inputs = append(r.inputs, c)
		for row, t := range r.times(from) {
			step.times[row] = max(step.times[row], t)
		}
	}
	plan.Program.Eval(r.inputs, r.Rows, step.column)
}
