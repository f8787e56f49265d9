package httpapi

import (
	"context"
	"fmt"
	"testing"

	"github.com/forebay/forebay/internal/rowcodec"
	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/online/lookup"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// storeEngine is a memoryEngine that looks up as the product does: encoded
// records in a store, read by package lookup.
type storeEngine struct {
	*memoryEngine
	store memoryStore
}

// memoryStore is as much of a store as a lookup needs.
type memoryStore struct {
	online.Store
	records map[string][]byte
}

func (s memoryStore) Get(_ context.Context, keys []online.Key, dst [][]byte) error {
	for i, k := range keys {
		dst[i] = s.records[fmt.Sprintf("%s@%d/%s", k.View, k.Generation, k.Entity)]
	}
	return nil
}

func newStoreEngine(t testing.TB) *storeEngine {
	e := &storeEngine{newCompatEngine(t), memoryStore{records: map[string][]byte{}}}
	for view, table := range e.tables {
		v := registry.ViewGeneration{Project: e.revision.Project, View: e.revision.Project.View(view), Number: 1}
		codec := rowcodec.For(v)
		for entity, row := range table {
			cols := feature.NewBatch(codec.Fields(), 1).Columns
			for j, c := range cols {
				c.Append(row.values[j])
			}
			rec, err := codec.Append(nil, row.version, cols, 0)
			if err != nil {
				t.Fatal(err)
			}
			e.store.records[fmt.Sprintf("%s@1/%s", view, entity)] = rec
		}
	}
	return e
}

func (e *storeEngine) Plan(ctx context.Context, req selection.Request) (Plan, error) {
	p, err := e.memoryEngine.Plan(ctx, req)
	if err != nil {
		return nil, err
	}
	compiled, err := lookup.NewPlan(p.Selection())
	return &storePlan{Plan: p, engine: e, compiled: compiled}, err
}

type storePlan struct {
	Plan
	engine   *storeEngine
	compiled *lookup.Plan
}

func (p *storePlan) Lookup(ctx context.Context, keys, request []*feature.Column, rows int) (*Found, error) {
	r, err := lookup.Lookup(ctx, p.engine.store, p.compiled, lookup.Request{Keys: keys, Request: request, Rows: rows, Now: p.engine.now})
	if err != nil {
		return nil, err
	}
	return &Found{Columns: r.Columns, Statuses: r.Statuses, EventTimes: r.EventTimes, Instant: r.Instant, Free: r.Release}, nil
}
