package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/materialize/window"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry/feature"
)

// resumeEpoch is the resume point that names the epoch of a windowed generation's records.
const resumeEpoch = "epoch"

// windowPush brings pushed rows into the records of a windowed view whose source has no
// topic. Each record is read, its state is added to, and it is written under the next
// offset: if somebody else was quicker the store refuses that, and it begins again with
// what they wrote. So two pushes at a time lose nothing.
type windowPush struct {
	store online.Store
	view  compiledView
	plan  *window.Plan
	codec *rowcodec.WindowCodec
	epoch int64 // before the rows were in the log; 0 while there are no records
}

// pushWriters is how many records of a view are written at a time; each has a write of
// its own, since that must tell whether it was refused.
const pushWriters = 16

var errEpoch = errors.New("it was built anew meanwhile")

func newWindowPush(ctx context.Context, store online.Store, v compiledView) (*windowPush, error) {
	plan, err := window.ForView(v.View)
	if err != nil {
		return nil, err
	}
	p := &windowPush{store: store, view: v, plan: plan, codec: rowcodec.ForWindows(v.ViewGeneration)}
	p.epoch, err = p.readEpoch(ctx)
	return p, err
}

func (p *windowPush) readEpoch(ctx context.Context) (int64, error) {
	points, err := p.store.Resumes(ctx, p.view.View.Name, p.view.Number)
	if err != nil {
		return 0, err
	}
	for _, r := range points {
		if r.Input != resumeEpoch {
			continue
		}
		epoch, err := strconv.ParseInt(r.Position, 10, 64)
		if err != nil || epoch <= 0 {
			return 0, fmt.Errorf("view %s: its epoch online is %q, which is none: materialize it again", p.view, r.Position)
		}
		return epoch, nil
	}
	return 0, nil
}

// run applies rows of the view: its join keys and inputs, with their versions.
func (p *windowPush) run(ctx context.Context, rows *feature.Batch) (applied int, err error) {
	nkeys := len(p.view.JoinKeys())
	keys := make([][]byte, rows.Rows)
	order := make([]int, 0, rows.Rows)
	for i := range rows.Rows {
		if key, whole := feature.AppendKeyRow(nil, rows.Columns[:nkeys], i); whole {
			keys[i], order = key, append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return bytes.Compare(keys[a], keys[b]) })
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	entities := make(chan []int)
	var writers sync.WaitGroup
	for range pushWriters {
		writers.Go(func() {
			for of := range entities {
				if err := p.entity(working, keys[of[0]], rows, rows.Columns[nkeys:], of); err != nil {
					stop(err)
				}
			}
		})
	}
	for len(order) > 0 {
		n := 1
		for n < len(order) && bytes.Equal(keys[order[n]], keys[order[0]]) {
			n++
		}
		entities <- order[:n]
		order = order[n:]
		applied++
	}
	close(entities)
	writers.Wait()
	if err := context.Cause(working); err != nil {
		return 0, fmt.Errorf("view %s: %w", p.view, err)
	}
	// A build that began meanwhile may have read the log before these rows were in it.
	now, err := p.readEpoch(ctx)
	if err == nil && now != p.epoch {
		err = fmt.Errorf("view %s: %w", p.view, errEpoch)
	}
	return applied, err
}

// entity brings some rows into the record of their entity.
func (p *windowPush) entity(ctx context.Context, key []byte, rows *feature.Batch, inputs []*feature.Column, of []int) error {
	at := online.Key{View: p.view.View.Name, Generation: p.view.Number, Entity: key}
	for ctx.Err() == nil {
		state, offset, err := p.read(ctx, at)
		if err != nil {
			return err
		}
		for _, i := range of {
			p.plan.Add(state, window.Row{Version: rows.Versions[i], Columns: inputs, Index: i})
		}
		record := online.Record{Key: at, Value: p.codec.Append(nil, p.epoch, offset+1, p.plan.Append(nil, state)), TTL: p.plan.Expiry()}
		result, err := p.store.Write(ctx, []online.Record{record}, online.IfNewer)
		if err != nil || result.Applied == 1 {
			return err
		}
	}
	return ctx.Err()
}

func (p *windowPush) read(ctx context.Context, at online.Key) (*window.State, int64, error) {
	dst := make([][]byte, 1)
	if err := p.store.Get(ctx, []online.Key{at}, dst); err != nil || dst[0] == nil {
		return &window.State{}, 0, err
	}
	epoch, offset, encoded, err := p.codec.Decode(dst[0])
	if err != nil {
		return nil, 0, fmt.Errorf("entity key %x: %w", at.Entity, err)
	}
	switch {
	case epoch < p.epoch:
		return &window.State{}, 0, nil
	case epoch > p.epoch:
		return nil, 0, fmt.Errorf("entity key %x: %w", at.Entity, errEpoch)
	}
	state, err := p.plan.Decode(encoded)
	if err != nil {
		return nil, 0, fmt.Errorf("entity key %x: %w", at.Entity, err)
	}
	return state, offset, nil
}
