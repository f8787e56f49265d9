package httpapi

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/internal/rowjson"
	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// memoryEngine is an Engine over rows in memory: the newest-row lookup told as
// plainly as possible, so that a difference is the HTTP layer's mistake.
type memoryEngine struct {
	revision *registry.Revision
	tables   map[string]map[string]memoryRow // by view, by entity key
	now      int64

	plan     func(selection.Request) error // fails a plan
	find     func(context.Context) error   // fails or holds up a lookup
	push     func(source string, rows [][]byte) (api.PushAnswer, error)
	build    func(DatasetRequest) (api.Dataset, error)
	checks   []api.Check
	datasets []api.Dataset
	lookups  atomic.Int64
}

type memoryRow struct {
	version feature.Version
	values  []feature.Value // of the view's features
}

func (e *memoryEngine) Revision(context.Context) (*registry.Revision, error) {
	if e.revision == nil {
		return nil, registry.ErrNoRevision
	}
	return e.revision, nil
}

func (e *memoryEngine) Plan(ctx context.Context, req selection.Request) (Plan, error) {
	if e.revision == nil {
		return nil, registry.ErrNoRevision
	}
	if e.plan != nil {
		if err := e.plan(req); err != nil {
			return nil, err
		}
	}
	sel, err := selection.Resolve(ctx, e.revision.Project, req, func(_ context.Context, view string, number int) (registry.ViewGeneration, error) {
		v := e.revision.Project.View(view)
		if v == nil || number > 1 {
			return registry.ViewGeneration{}, registry.ErrNoRevision
		}
		return registry.ViewGeneration{Project: e.revision.Project, View: v, Number: 1}, nil
	})
	if err != nil {
		return nil, err
	}
	return &memoryPlan{e, sel}, nil
}

type memoryPlan struct {
	engine *memoryEngine
	sel    *selection.Selection
}

func (p *memoryPlan) Selection() *selection.Selection { return p.sel }
func (p *memoryPlan) Revision() string                { return p.engine.revision.ID }

func (p *memoryPlan) Lookup(ctx context.Context, keys, request []*feature.Column, rows int) (*Found, error) {
	p.engine.lookups.Add(1)
	if p.engine.find != nil {
		if err := p.engine.find(ctx); err != nil {
			return nil, err
		}
	}
	type cell struct {
		status feature.Status
		time   int64
	}
	var columns [][]*feature.Column // by role, by its feature
	var cells [][]cell              // by role, by row
	for _, role := range p.sel.Roles {
		cols := make([]*feature.Column, len(role.Features))
		for j, f := range role.Features {
			cols[j] = feature.NewColumn("", role.View.View.Features[f].Type, rows)
		}
		found := make([]cell, rows)
		for i := range rows {
			var key []*feature.Column
			for _, k := range role.Keys {
				key = append(key, keys[k])
			}
			entity, whole := feature.AppendKeyRow(nil, key, i)
			row, ok := p.engine.tables[role.View.View.Name][string(entity)]
			found[i] = cell{feature.Present, row.version.EventTime}
			switch ttl := int64(role.View.View.TTL); {
			case !ok || !whole:
				found[i] = cell{feature.NotFound, NoTime}
			case ttl > 0 && row.version.EventTime < p.engine.now-ttl:
				found[i].status = feature.OutsideMaxAge
			}
			for j, f := range role.Features {
				if found[i].status == feature.Present {
					cols[j].Append(row.values[f])
				} else {
					cols[j].AppendNull()
				}
			}
		}
		columns, cells = append(columns, cols), append(cells, found)
	}
	var steps []*feature.Column
	for _, step := range p.sel.Steps {
		var in []*feature.Column
		for _, c := range step.Inputs {
			switch {
			case c.Step >= 0:
				in = append(in, steps[c.Step])
			case c.Request >= 0:
				in = append(in, request[c.Request])
			default:
				in = append(in, columns[c.Role][c.Feature])
			}
		}
		out := feature.NewColumn("", step.Program.Type(), rows)
		step.Program.Eval(in, rows, out)
		steps = append(steps, out)
	}
	found := &Found{Instant: p.engine.now}
	for _, o := range p.sel.Outputs {
		statuses, times := make([]feature.Status, rows), make([]int64, rows)
		var c *feature.Column
		if o.From.Step >= 0 {
			c = steps[o.From.Step]
		} else {
			c = columns[o.From.Role][o.From.Feature]
		}
		for i := range rows {
			statuses[i], times[i] = feature.StatusOf(c.Value(i)), NoTime
			if o.From.Step < 0 {
				times[i] = cells[o.From.Role][i].time
				if s := cells[o.From.Role][i].status; s != feature.Present {
					statuses[i] = s
				}
			}
		}
		found.Columns = append(found.Columns, c)
		found.Statuses, found.EventTimes = append(found.Statuses, statuses), append(found.EventTimes, times)
	}
	return found, nil
}

func (e *memoryEngine) Push(_ context.Context, source string, rows [][]byte) (api.PushAnswer, error) {
	if e.revision.Project.Source(source) == nil {
		return api.PushAnswer{}, &NotFoundError{Code: api.CodeUnknownSource, Message: fmt.Sprintf("there is no source %q", source)}
	}
	return e.push(source, rows)
}

func (e *memoryEngine) BuildDataset(_ context.Context, req DatasetRequest) (api.Dataset, error) {
	return e.build(req)
}

func (e *memoryEngine) Datasets(context.Context) ([]api.Dataset, error) { return e.datasets, nil }

func (e *memoryEngine) Dataset(_ context.Context, id string) (api.Dataset, error) {
	for _, d := range e.datasets {
		if d.ID == id || d.Name == id {
			return d, nil
		}
	}
	return api.Dataset{}, &NotFoundError{Code: api.CodeUnknownDataset, Message: fmt.Sprintf("there is no dataset %q", id)}
}

func (e *memoryEngine) RebuildDataset(ctx context.Context, id string, out DatasetFile) (api.Dataset, error) {
	d, err := e.Dataset(ctx, id)
	if err == nil {
		err = os.WriteFile(out.Path, []byte(out.Format.String()), 0o600)
	}
	return d, err
}

func (e *memoryEngine) Ready(context.Context) []api.Check { return e.checks }

func fields(spec string) (fs []feature.Field) {
	for _, part := range strings.Fields(spec) {
		name, typ, _ := strings.Cut(part, ":")
		t, err := feature.ParseType(typ)
		if err != nil {
			panic(err)
		}
		fs = append(fs, feature.Field{Name: name, Type: t})
	}
	return fs
}

func meta(name string) registry.Meta { return registry.Meta{Name: name} }

// newCompatEngine is the repository of testdata/feast with its rows.
func newCompatEngine(t testing.TB) *memoryEngine {
	p := &registry.Project{
		Name: "compat",
		Entities: []registry.Entity{
			{Meta: meta("customer"), JoinKeys: fields("customer_id:string")},
			{Meta: meta("driver"), JoinKeys: fields("driver_id:int64")},
		},
	}
	source := func(name, columns string) {
		s := registry.Source{Meta: meta(name), Timestamp: "event_timestamp"}
		for _, f := range fields(columns) {
			s.Columns = append(s.Columns, registry.SourceColumn{Field: f})
		}
		p.Sources = append(p.Sources, s)
	}
	source("customers", "customer_id:string event_timestamp:timestamp age:int64 conv_rate:float64")
	source("drivers", "driver_id:int64 event_timestamp:timestamp conv_rate:float64 trips:int64 vip:bool label:string joined:timestamp blob:bytes "+
		"recent:list<int64> scores:list<float64> tags:list<string> flags:list<bool> seen:list<timestamp> emb:embedding<3> fresh:int64")
	source("pairs", "driver_id:int64 customer_id:string event_timestamp:timestamp affinity:float64 visits:int64")
	view := func(name, entities, source, features string, ttl feature.Duration) {
		v := registry.FeatureView{Meta: meta(name), Entities: strings.Fields(entities), Source: source, TTL: ttl}
		for _, f := range fields(features) {
			v.Features = append(v.Features, registry.Feature{Field: f, Expr: f.Name})
		}
		p.Views = append(p.Views, v)
	}
	view("customer_profile", "customer", "customers", "age:int64 conv_rate:float64", 0)
	view("driver_recent", "driver", "drivers", "fresh:int64", feature.Day)
	view("driver_stats", "driver", "drivers", "conv_rate:float64 trips:int64 vip:bool label:string", 0)
	view("driver_types", "driver", "drivers", "joined:timestamp blob:bytes recent:list<int64> scores:list<float64> tags:list<string> flags:list<bool> seen:list<timestamp> emb:embedding<3>", 0)
	view("pair_stats", "driver customer", "pairs", "affinity:float64 visits:int64", 0)
	p.OnDemand = []registry.OnDemandView{{
		Meta: meta("trip_math"), Inputs: []string{"driver_stats"}, Request: fields("bonus:float64"),
		Features: []registry.Feature{
			{Field: fields("boosted:float64")[0], Expr: "driver_stats.conv_rate + bonus"},
			{Field: fields("tripled:int64")[0], Expr: "driver_stats.trips * 3"},
		},
	}}
	service := func(name, refs string, renames ...registry.KeyRename) {
		s := registry.Service{Meta: meta(name), Entities: renames}
		for _, text := range strings.Fields(refs) {
			ref, err := registry.ParseRef(text)
			if err != nil {
				t.Fatal(err)
			}
			s.Features = append(s.Features, registry.ServiceFeature{Ref: ref})
		}
		p.Services = append(p.Services, s)
	}
	service("courier_svc", "driver_stats", registry.KeyRename{Entity: "driver", JoinKey: "driver_id", To: "courier_id"})
	service("driver_svc", "driver_stats:trips driver_stats:conv_rate")
	service("math_svc", "driver_stats:trips trip_math")
	service("types_svc", "driver_types")
	service("wide_svc", "driver_stats customer_profile:age pair_stats")
	e := &memoryEngine{
		revision: &registry.Revision{ID: "sha256:c0ffee", Number: 1, Project: p},
		tables:   map[string]map[string]memoryRow{},
		now:      time.Date(2026, 11, 20, 12, 0, 0, 250000000, time.UTC).UnixMicro(),
		checks:   []api.Check{{Name: "registry", OK: true}, {Name: "online", OK: true}},
	}
	for _, v := range p.Views {
		e.revision.Generations = append(e.revision.Generations, registry.Generation{View: v.Name, Number: 1})
		e.load(t, &v, "testdata/feast/"+v.Source+".ndjson")
	}
	return e
}

// load reads a source's rows and keeps the newest of each entity.
func (e *memoryEngine) load(t testing.TB, v *registry.FeatureView, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	src := e.revision.Project.Source(v.Source)
	table := map[string]memoryRow{}
	batch := feature.NewBatch(src.Fields(), 0)
	dec := rowjson.NewDecoder(src)
	for line := range strings.Lines(string(data)) {
		if err := dec.Append([]byte(strings.TrimSpace(line)), batch); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	var keys []*feature.Column
	for _, k := range e.revision.Project.JoinKeys(v) {
		keys = append(keys, batch.Column(k.Name))
	}
	for i := range batch.Column(src.Timestamp).Len {
		row := memoryRow{version: feature.Version{EventTime: batch.Column(src.Timestamp).Int64s()[i]}}
		for _, f := range v.Features {
			row.values = append(row.values, batch.Column(f.Name).Value(i))
		}
		key, _ := feature.AppendKeyRow(nil, keys, i)
		if old, ok := table[string(key)]; !ok || old.version.Compare(row.version) < 0 {
			table[string(key)] = row
		}
	}
	e.tables[v.Name] = table
}

func (e *memoryEngine) Explain(_ context.Context, req selection.Request, entity []TextField) (*api.Explanation, error) {
	return &api.Explanation{Revision: req.Service, Features: []api.ExplainedFeature{{Name: fmt.Sprint(req.Features, entity), Value: []byte("1")}}}, nil
}
