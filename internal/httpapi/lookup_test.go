package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/forebay/forebay/internal/api"
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
	stale   error // of Get, which fills in the records all the same
}

func (s memoryStore) Get(_ context.Context, keys []online.Key, dst [][]byte) error {
	for i, k := range keys {
		dst[i] = s.records[fmt.Sprintf("%s@%d/%s", k.View, k.Generation, k.Entity)]
	}
	return s.stale
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
	return &Found{Columns: r.Columns, Statuses: r.Statuses, EventTimes: r.EventTimes, Instant: r.Instant, StaleSince: r.StaleSince, Free: r.Release}, nil
}

// TestStaleAnswersAreMarked: where the store gives records of earlier, every format says so.
func TestStaleAnswersAreMarked(t *testing.T) {
	e := newStoreEngine(t)
	h := newTestServer(t, Config{}, e).Handler()
	body := formatBodies[0]
	marked := func(accept string) (header, whole string) {
		t.Helper()
		res := ask(t, h, http.MethodPost, api.PathFeatures, body, "Accept", accept)
		if res.Code != http.StatusOK {
			t.Fatalf("%d: %s", res.Code, res.Body)
		}
		return res.Header().Get(api.HeaderStaleSince), res.Body.String()
	}
	for _, accept := range lookupTypes {
		if header, whole := marked(accept); header != "" || strings.Contains(whole, api.FieldStaleSince) {
			t.Errorf("%s: an answer of now is marked", accept)
		}
	}
	_, now := marked(api.TypeJSON)
	e.store.stale = &online.StaleError{Since: time.UnixMicro(1767323040000000), Err: online.ErrUnavailable}
	const since = "2026-01-02T03:04:00Z"
	for _, accept := range lookupTypes {
		if header, _ := marked(accept); header != since {
			t.Errorf("%s: %s is %q", accept, api.HeaderStaleSince, header)
		}
	}
	if _, whole := marked(api.TypeJSON); strings.Replace(whole, `"stale_since":"`+since+`",`, "", 1) != now {
		t.Errorf("%s\nwant what is answered otherwise, and since when it is stale:\n%s", whole, now)
	}
	res := ask(t, h, http.MethodPost, api.PathFeatures, body, "Accept", api.TypeMessagePack)
	doc, rest := unpack(t, res.Body.Bytes())
	if top := doc.(map[string]any); len(rest) > 0 || len(top) != 5 || top["stale_since"] == nil {
		t.Errorf("%v and %d bytes", doc, len(rest))
	}
}
