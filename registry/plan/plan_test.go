package plan

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob/memblob"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/history"
)

func field(name string, t feature.Type) feature.Field { return feature.Field{Name: name, Type: t} }

func meta(name string) registry.Meta { return registry.Meta{Name: name} }

func refs(ss ...string) []registry.ServiceFeature {
	var es []registry.ServiceFeature
	for _, s := range ss {
		r, err := registry.ParseRef(s)
		if err != nil {
			panic(err)
		}
		es = append(es, registry.ServiceFeature{Ref: r})
	}
	return es
}

// flights is the project of the tests, anew at each call.
func flights() *registry.Project {
	column := func(name string, t feature.Type, from string) registry.SourceColumn {
		return registry.SourceColumn{Field: field(name, t), From: from}
	}
	return &registry.Project{
		Name:     "flights",
		Entities: []registry.Entity{{Meta: meta("airport"), JoinKeys: []feature.Field{field("origin", feature.TypeString)}}},
		Sources: []registry.Source{{
			Meta: meta("departures"), Timestamp: "date", Created: "loaded_at", MaxAhead: feature.Minute,
			Columns: []registry.SourceColumn{
				column("date", feature.TypeTimestamp, ""), column("origin", feature.TypeString, ""), column("destination", feature.TypeString, ""),
				column("delay", feature.TypeInt64, "payload.late"), column("distance", feature.TypeInt64, ""), column("loaded_at", feature.TypeTimestamp, ""),
			},
			Kafka: &registry.Kafka{Topic: "departures", Format: "json"},
		}},
		Views: []registry.FeatureView{
			{Meta: meta("airport_latest"), Entities: []string{"airport"}, Source: "departures", TTL: 7 * feature.Day, Filter: "delay != null", Features: []registry.Feature{
				{Field: field("last_delay", feature.TypeInt64), Expr: "delay"},
				{Field: field("long_haul", feature.TypeBool), Expr: "distance > 1500"},
			}},
			{Meta: meta("airport_spare"), Entities: []string{"airport"}, Source: "departures", Features: []registry.Feature{{Field: field("where_to", feature.TypeString), Expr: "destination"}}},
		},
		OnDemand: []registry.OnDemandView{{
			Meta: meta("trend"), Inputs: []string{"airport_latest"}, Request: []feature.Field{field("scheduled", feature.TypeInt64)},
			Features: []registry.Feature{{Field: field("worse", feature.TypeBool), Expr: "airport_latest.last_delay > scheduled"}},
		}},
		Services: []registry.Service{
			{Meta: meta("model"), Features: refs("airport_latest:long_haul", "trend")},
			{Meta: meta("radar"), Features: refs("airport_latest")},
		},
	}
}

// applied is a project as the newest revision, and the generations known.
func applied(t *testing.T, p *registry.Project) (*registry.Revision, []registry.Generation) {
	t.Helper()
	first, err := Compute(nil, nil, p)
	if err != nil {
		t.Fatal(err)
	}
	r := first.Revision("ana", "", time.Now())
	r.ID, r.Number = "sha256:head", 1
	return r, r.Generations
}

func compute(t *testing.T, change func(p *registry.Project)) *Plan {
	t.Helper()
	head, known := applied(t, flights())
	next := flights()
	change(next)
	p, err := Compute(head, known, next)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// outline is a plan in short: changes with their generations and fields, then findings, then consumers.
func outline(p *Plan) string {
	var b strings.Builder
	for _, ch := range p.Changes {
		s := ch.Summary()
		fmt.Fprintf(&b, "%s %s", s.Action, s.Node)
		if s.Generation != 0 || s.Previous != 0 {
			fmt.Fprintf(&b, " %d->%d", s.Previous, s.Generation)
		}
		for _, d := range s.Fields {
			fmt.Fprintf(&b, "; %s: %s -> %s", d.Field, d.Before, d.After)
		}
		b.WriteByte('\n')
	}
	for _, f := range p.Findings {
		fmt.Fprintf(&b, "%s %s %s", f.Severity, f.Code, f.Node)
		for i, c := range f.Consumers {
			fmt.Fprintf(&b, "%s%s", map[bool]string{true: " <- ", false: ", "}[i == 0], c.Name)
		}
		b.WriteByte('\n')
	}
	for _, c := range p.Consumers {
		fmt.Fprintf(&b, "reaches %s through %v\n", c.Node, c.Through)
	}
	return strings.TrimSpace(b.String())
}

func TestCompute(t *testing.T) {
	view := func(p *registry.Project) *registry.FeatureView { return p.View("airport_latest") }
	source := func(p *registry.Project) *registry.Source { return p.Source("departures") }
	for _, c := range []struct {
		name   string
		change func(p *registry.Project)
		want   string
	}{
		{"nothing", func(*registry.Project) {}, ""},
		{"what is not meaning", func(p *registry.Project) {
			view(p).Owner, view(p).Description, view(p).Tags = "ops", "text", map[string]string{"team": "a"}
		}, `
			modify FeatureView airport_latest 1->1; description:  -> text; owner:  -> ops; tags.team:  -> "a"`},
		{"white space", func(p *registry.Project) { view(p).Filter = "delay  !=  null" }, `
			modify FeatureView airport_latest 1->1; filter: delay != null -> delay  !=  null`},
		{"an expression", func(p *registry.Project) { view(p).Features[1].Expr = "distance > 2000" }, `
			modify FeatureView airport_latest 1->2; features.long_haul.expr: distance > 1500 -> distance > 2000
			notice backfill_needed FeatureView airport_latest <- trend, model, radar
			reaches OnDemandFeatureView trend through [FeatureView airport_latest]
			reaches FeatureService model through [FeatureView airport_latest]
			reaches FeatureService radar through [FeatureView airport_latest]`},
		{"a feature more", func(p *registry.Project) {
			view(p).Features = append(view(p).Features, registry.Feature{Field: field("late", feature.TypeBool), Expr: "delay > 15"})
		}, `
			modify FeatureView airport_latest 1->2; features.late.type:  -> bool; features.late.expr:  -> delay > 15; features: [last_delay, long_haul] -> [last_delay, long_haul, late]
			notice backfill_needed FeatureView airport_latest <- trend, model, radar
			reaches OnDemandFeatureView trend through [FeatureView airport_latest]
			reaches FeatureService model through [FeatureView airport_latest]
			reaches FeatureService radar through [FeatureView airport_latest]`},
		{"a feature less", func(p *registry.Project) {
			view(p).Features = view(p).Features[:1]
			p.Services[0].Features = refs("trend")
		}, `
			modify FeatureView airport_latest 1->2; features: [last_delay, long_haul] -> [last_delay]; features.long_haul.type: bool -> ; features.long_haul.expr: distance > 1500 -> ; (reads).distance: int64 -> 
			modify FeatureService model; features: [airport_latest:long_haul, trend] -> [trend]
			blocking feature_removed FeatureView airport_latest <- model, radar
			blocking service_output_removed FeatureService model
			blocking service_output_removed FeatureService radar
			notice backfill_needed FeatureView airport_latest <- trend, model, radar
			reaches OnDemandFeatureView trend through [FeatureView airport_latest]
			reaches FeatureService model through [FeatureView airport_latest]
			reaches FeatureService radar through [FeatureView airport_latest]`},
		{"a feature that nobody reads", func(p *registry.Project) {
			p.View("airport_spare").Features[0].Name = "gone_to"
		}, `
			modify FeatureView airport_spare 1->2; features.gone_to.type:  -> string; features.gone_to.expr:  -> destination; features: [where_to] -> [gone_to]; features.where_to.type: string -> ; features.where_to.expr: destination -> 
			warning feature_removed FeatureView airport_spare
			notice backfill_needed FeatureView airport_spare`},
		{"a feature's type", func(p *registry.Project) {
			view(p).Features[0] = registry.Feature{Field: field("last_delay", feature.TypeFloat64), Expr: "double(delay)"}
			p.OnDemand[0].Features[0].Expr = "airport_latest.last_delay > double(scheduled)"
		}, `
			modify FeatureView airport_latest 1->2; features.last_delay.type: int64 -> float64; features.last_delay.expr: delay -> double(delay)
			modify OnDemandFeatureView trend; features.worse.expr: airport_latest.last_delay > scheduled -> airport_latest.last_delay > double(scheduled)
			blocking feature_type_changed FeatureView airport_latest <- trend, model, radar
			blocking service_output_type_changed FeatureService radar
			warning on_demand_changed OnDemandFeatureView trend <- model
			notice backfill_needed FeatureView airport_latest <- trend, model, radar
			reaches OnDemandFeatureView trend through [FeatureView airport_latest]
			reaches FeatureService model through [FeatureView airport_latest OnDemandFeatureView trend]
			reaches FeatureService radar through [FeatureView airport_latest]`},
		{"ttl shortened", func(p *registry.Project) { view(p).TTL = feature.Day }, `
			modify FeatureView airport_latest 1->1; ttl: 1w -> 1d
			warning ttl_shortened FeatureView airport_latest <- trend, model, radar
			reaches OnDemandFeatureView trend through [FeatureView airport_latest]
			reaches FeatureService model through [FeatureView airport_latest]
			reaches FeatureService radar through [FeatureView airport_latest]`},
		{"ttl where there was none", func(p *registry.Project) { p.View("airport_spare").TTL = feature.Day }, `
			modify FeatureView airport_spare 1->1; ttl:  -> 1d
			warning ttl_shortened FeatureView airport_spare`},
		{"ttl dropped", func(p *registry.Project) { view(p).TTL = 0 }, `
			modify FeatureView airport_latest 1->1; ttl: 1w -> 
			notice ttl_extended FeatureView airport_latest <- trend, model, radar
			reaches OnDemandFeatureView trend through [FeatureView airport_latest]
			reaches FeatureService model through [FeatureView airport_latest]
			reaches FeatureService radar through [FeatureView airport_latest]`},
		{"entity keys", func(p *registry.Project) { p.Entities[0].JoinKeys[0].Name = "destination" }, `
			modify Entity airport; join_keys: [origin string] -> [destination string]
			modify FeatureView airport_latest 1->2; (join keys): [origin string] -> [destination string]; (reads).destination:  -> string; (reads).origin: string -> 
			modify FeatureView airport_spare 1->2; (join keys): [origin string] -> [destination string]; (reads).origin: string -> 
			blocking entity_keys_changed Entity airport <- trend, model, radar
			blocking service_key_needed FeatureService model
			blocking service_key_needed FeatureService radar
			notice backfill_needed FeatureView airport_latest <- trend, model, radar
			notice backfill_needed FeatureView airport_spare
			notice service_key_dropped FeatureService model
			notice service_key_dropped FeatureService radar
			reaches OnDemandFeatureView trend through [FeatureView airport_latest]
			reaches FeatureService model through [FeatureView airport_latest]
			reaches FeatureService radar through [FeatureView airport_latest]`},
		{"source columns", func(p *registry.Project) {
			s := source(p)
			s.Columns = slices.Delete(s.Columns, 2, 3) // destination
			s.Columns = append(s.Columns, registry.SourceColumn{Field: field("gate", feature.TypeString)})
			p.View("airport_spare").Features[0].Expr = "origin"
		}, `
			modify Source departures; columns.gate:  -> string; columns: [date, origin, destination, delay, distance, loaded_at] -> [date, origin, delay, distance, loaded_at, gate]; columns.destination: string -> 
			modify FeatureView airport_spare 1->2; features.where_to.expr: destination -> origin; (reads).destination: string -> 
			warning source_column_removed Source departures
			notice source_column_added Source departures
			notice backfill_needed FeatureView airport_spare`},
		{"a source column's type", func(p *registry.Project) { source(p).Columns[4].Type = feature.TypeFloat64 }, `
			modify Source departures; columns.distance: int64 -> float64
			modify FeatureView airport_latest 1->2; (reads).distance: int64 -> float64
			blocking source_column_type_changed Source departures <- trend, model, radar
			notice backfill_needed FeatureView airport_latest <- trend, model, radar
			reaches OnDemandFeatureView trend through [FeatureView airport_latest]
			reaches FeatureService model through [FeatureView airport_latest]
			reaches FeatureService radar through [FeatureView airport_latest]`},
		{"the topic", func(p *registry.Project) { source(p).Kafka.Topic = "flights" }, `
			modify Source departures; kafka.topic: departures -> flights
			warning source_topic_changed Source departures <- trend, model, radar
			reaches OnDemandFeatureView trend through [Source departures]
			reaches FeatureService model through [Source departures]
			reaches FeatureService radar through [Source departures]`},
		{"no topic", func(p *registry.Project) { source(p).Kafka = nil }, `
			modify Source departures; kafka.topic: departures -> ; kafka.format: json -> 
			warning source_topic_changed Source departures <- trend, model, radar
			reaches OnDemandFeatureView trend through [Source departures]
			reaches FeatureService model through [Source departures]
			reaches FeatureService radar through [Source departures]`},
		{"how events are read", func(p *registry.Project) {
			source(p).Kafka.Format, source(p).TimestampFormat, source(p).Columns[3].From = "avro", "unix_ms", ""
		}, `
			modify Source departures; timestamp_format:  -> unix_ms; kafka.format: json -> avro; columns.delay: int64 from payload.late -> int64
			modify FeatureView airport_latest 1->2; (reads).delay: int64 from payload.late -> int64
			warning source_decoding_changed Source departures <- trend, model, radar
			notice backfill_needed FeatureView airport_latest <- trend, model, radar
			reaches OnDemandFeatureView trend through [Source departures FeatureView airport_latest]
			reaches FeatureService model through [Source departures FeatureView airport_latest]
			reaches FeatureService radar through [Source departures FeatureView airport_latest]`},
		{"event time", func(p *registry.Project) { source(p).Timestamp, source(p).Created = "loaded_at", "" }, `
			modify Source departures; timestamp: date -> loaded_at; created: loaded_at -> 
			modify FeatureView airport_latest 1->2; (event time): date timestamp -> loaded_at timestamp; (created): loaded_at timestamp -> 
			modify FeatureView airport_spare 1->2; (event time): date timestamp -> loaded_at timestamp; (created): loaded_at timestamp -> 
			warning source_time_changed Source departures <- trend, model, radar
			notice backfill_needed FeatureView airport_latest <- trend, model, radar
			notice backfill_needed FeatureView airport_spare
			reaches OnDemandFeatureView trend through [Source departures FeatureView airport_latest]
			reaches FeatureService model through [Source departures FeatureView airport_latest]
			reaches FeatureService radar through [Source departures FeatureView airport_latest]`},
		{"a view removed that nobody reads", func(p *registry.Project) { p.Views = p.Views[:1] }, `
			remove FeatureView airport_spare 1->0
			warning view_removed FeatureView airport_spare`},
		{"a view removed with all that read it", func(p *registry.Project) {
			p.Views, p.OnDemand, p.Services = p.Views[1:], nil, nil
		}, `
			remove FeatureView airport_latest 1->0
			remove OnDemandFeatureView trend
			remove FeatureService model
			remove FeatureService radar
			blocking view_removed FeatureView airport_latest <- trend, model, radar
			blocking view_removed OnDemandFeatureView trend <- model
			blocking service_removed FeatureService model
			blocking service_removed FeatureService radar`},
		{"on demand", func(p *registry.Project) { p.OnDemand[0].Features[0].Expr = "airport_latest.last_delay >= scheduled" }, `
			modify OnDemandFeatureView trend; features.worse.expr: airport_latest.last_delay > scheduled -> airport_latest.last_delay >= scheduled
			warning on_demand_changed OnDemandFeatureView trend <- model
			reaches FeatureService model through [OnDemandFeatureView trend]`},
		{"a request field more", func(p *registry.Project) {
			v := &p.OnDemand[0]
			v.Request = append(v.Request, field("slack", feature.TypeInt64))
			v.Features[0].Expr = "airport_latest.last_delay > scheduled + slack"
		}, `
			modify OnDemandFeatureView trend; request: [scheduled int64] -> [scheduled int64, slack int64]; features.worse.expr: airport_latest.last_delay > scheduled -> airport_latest.last_delay > scheduled + slack
			blocking service_key_needed FeatureService model
			warning on_demand_changed OnDemandFeatureView trend <- model
			reaches FeatureService model through [OnDemandFeatureView trend]`},
		{"an output renamed, a key renamed", func(p *registry.Project) {
			p.Services[0].Features[0].Prefix = "from_"
			p.Services[0].Entities = []registry.KeyRename{{Entity: "airport", JoinKey: "origin", To: "from"}}
		}, `
			modify FeatureService model; features: [airport_latest:long_haul, trend] -> [airport_latest:long_haul prefix from_, trend]; entities.airport.origin:  -> from
			blocking service_key_needed FeatureService model
			blocking service_output_renamed FeatureService model
			notice service_key_dropped FeatureService model`},
		{"an output more", func(p *registry.Project) {
			p.Services[0].Features = append(p.Services[0].Features, refs("airport_latest:last_delay")...)
		}, `
			modify FeatureService model; features: [airport_latest:long_haul, trend] -> [airport_latest:long_haul, trend, airport_latest:last_delay]`},
		{"a new view, source, entity, on-demand view and service", func(p *registry.Project) {
			p.Entities = append(p.Entities, registry.Entity{Meta: meta("day"), JoinKeys: []feature.Field{field("date", feature.TypeTimestamp)}})
			p.Sources = append(p.Sources, registry.Source{Meta: meta("weather"), Timestamp: "date", Columns: []registry.SourceColumn{{Field: field("date", feature.TypeTimestamp)}, {Field: field("rain", feature.TypeFloat64)}}})
			p.Views = append(p.Views, registry.FeatureView{Meta: meta("rain"), Source: "weather", Entities: []string{"day"}, Features: []registry.Feature{{Field: field("mm", feature.TypeFloat64), Expr: "rain"}}})
			p.OnDemand = append(p.OnDemand, registry.OnDemandView{Meta: meta("wet"), Inputs: []string{"rain"}, Features: []registry.Feature{{Field: field("very", feature.TypeBool), Expr: "rain.mm > 1.0"}}})
			p.Services = append(p.Services, registry.Service{Meta: meta("umbrella"), Features: refs("wet")})
		}, `
			add Entity day
			add Source weather
			add FeatureView rain 0->1
			add OnDemandFeatureView wet
			add FeatureService umbrella
			notice backfill_needed FeatureView rain`},
		{"a source removed", func(p *registry.Project) {
			p.Entities, p.Sources, p.Views, p.OnDemand, p.Services = nil, nil, nil, nil, nil
		}, `
			remove Entity airport
			remove Source departures
			remove FeatureView airport_latest 1->0
			remove FeatureView airport_spare 1->0
			remove OnDemandFeatureView trend
			remove FeatureService model
			remove FeatureService radar
			blocking view_removed FeatureView airport_latest <- trend, model, radar
			blocking view_removed OnDemandFeatureView trend <- model
			blocking service_removed FeatureService model
			blocking service_removed FeatureService radar
			warning source_removed Source departures
			warning view_removed FeatureView airport_spare`},
		{"another project", func(p *registry.Project) { p.Name = "trains" }, `
			blocking project_changed  `},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := compute(t, c.change)
			got, want := outline(p), strings.TrimSpace(strings.ReplaceAll(c.want, "\t", ""))
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if p.Blocking() != strings.Contains(want, "blocking ") {
				t.Errorf("Blocking is %t", p.Blocking())
			}
			for i, g := range p.Generations {
				if g.View != p.Next.Views[i].Name || len(g.Fingerprint) != 64 {
					t.Errorf("generation %d is %+v", i, g)
				}
			}
		})
	}
}

// TestGenerationsOverTime changes one view back and forth, in a real history.
func TestGenerationsOverTime(t *testing.T) {
	ctx := context.Background()
	repo := history.New(memblob.OpenBucket(nil))
	defer func() { _ = repo.Close() }()
	with := func(expr string) *registry.Project {
		p := flights()
		p.View("airport_latest").Features[1].Expr = expr
		return p
	}
	without := flights()
	without.Views, without.OnDemand, without.Services = without.Views[1:], nil, nil
	for i, step := range []struct {
		project *registry.Project
		want    int
		known   bool
	}{
		{with("distance > 1"), 1, false},
		{with("distance > 2"), 2, false},
		{with("distance > 1"), 1, true},
		{with("distance > 3"), 3, false},
		{with("distance>3"), 3, false},
		{without, 0, false},
		{with("distance > 2"), 2, true},
		{without, 0, false},
		{with("distance > 4"), 4, false},
	} {
		p, err := Against(ctx, repo, step.project)
		if err != nil {
			t.Fatal(err)
		}
		r := p.Revision("ana", "", time.Now())
		if err := repo.Append(ctx, r); err != nil {
			t.Fatal(err)
		}
		if got := r.Generation("airport_latest"); got != step.want {
			t.Errorf("step %d: generation %d, want %d", i, got, step.want)
		}
		for _, b := range p.Backfills {
			if b.View == "airport_latest" && b.Known != step.known {
				t.Errorf("step %d: known is %t", i, b.Known)
			}
		}
		if again, err := Against(ctx, repo, step.project); err != nil || !again.Empty() || len(again.Findings)+len(again.Backfills) > 0 {
			t.Errorf("step %d: planning again gives %s, %v", i, outline(again), err)
		}
	}
}

// TestEveryFieldShows changes, one by one, every field of every definition: each must be a change.
func TestEveryFieldShows(t *testing.T) {
	full := func() *registry.Project {
		p := flights()
		tags := func() map[string]string { return map[string]string{"a": "b"} }
		m := func(m *registry.Meta) { m.Description, m.Owner, m.Tags = "d", "o", tags() }
		m(&p.Entities[0].Meta)
		m(&p.Sources[0].Meta)
		m(&p.Views[0].Meta)
		m(&p.OnDemand[0].Meta)
		m(&p.Services[0].Meta)
		p.Sources[0].Files = &registry.Files{Glob: "*"}
		p.Sources[0].Kafka.Key = []string{"origin"}
		v := &p.Views[0]
		v.Aggregations = []registry.Aggregation{{Function: "last_n", Column: "delay", By: "origin", N: 1, Where: "true", Windows: []registry.Window{"1h"}, Name: "x"}}
		v.Hops = []registry.Hop{{Window: feature.Hour, Hop: feature.Minute}}
		p.Services[0].Entities = []registry.KeyRename{{Entity: "airport", JoinKey: "origin", To: "from"}}
		p.Services[0].Features[0].Prefix = "p_"
		p.Services[0].Features[0].Keys = []registry.KeyRename{{JoinKey: "origin", To: "to"}}
		return p
	}
	for _, pick := range []func(p *registry.Project) any{
		func(p *registry.Project) any { return &p.Entities[0] },
		func(p *registry.Project) any { return &p.Sources[0] },
		func(p *registry.Project) any { return &p.Views[0] },
		func(p *registry.Project) any { return &p.OnDemand[0] },
		func(p *registry.Project) any { return &p.Services[0] },
	} {
		n := leaves(reflect.ValueOf(pick(full())), nil)
		if n < 3 {
			t.Fatalf("%d leaves", n)
		}
		for i := range n {
			next := full()
			var path string
			at := 0
			leaves(reflect.ValueOf(pick(next)), func(v reflect.Value, p string) {
				if at == i {
					path = p
					mutate(v)
				}
				at++
			})
			if strings.HasSuffix(path, ".Meta.Name") || strings.HasSuffix(path, ".Source") || strings.HasSuffix(path, ".Timestamp") || strings.HasSuffix(path, ".Created") ||
				strings.Contains(path, ".Entities[0]") && strings.HasPrefix(path, "FeatureView") || strings.Contains(path, ".Keys[0].Entity") {
				continue // makes another definition, or one that the rest does not fit
			}
			if len(changed(full(), next)) == 0 {
				t.Errorf("a change of %s does not show", path)
			}
		}
	}
}

// changed are the fields that differ, of whichever definition.
func changed(before, after *registry.Project) []Difference {
	var ds []Difference
	ds = append(ds, differences(entityAttributes(&before.Entities[0]), entityAttributes(&after.Entities[0]))...)
	ds = append(ds, differences(sourceAttributes(&before.Sources[0]), sourceAttributes(&after.Sources[0]))...)
	ds = append(ds, differences(viewAttributes(&before.Views[0], &meaning{}), viewAttributes(&after.Views[0], &meaning{}))...)
	ds = append(ds, differences(onDemandAttributes(&before.OnDemand[0]), onDemandAttributes(&after.OnDemand[0]))...)
	return append(ds, differences(serviceAttributes(&before.Services[0]), serviceAttributes(&after.Services[0]))...)
}

// leaves visits every scalar in a value and returns their number.
func leaves(v reflect.Value, visit func(reflect.Value, string)) int {
	n := 0
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem(), path)
			}
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[feature.Type]() {
				n++
				if visit != nil {
					visit(v, path)
				}
				return
			}
			if path == "" {
				path = v.Type().Name()
			}
			for i := range v.NumField() {
				walk(v.Field(i), path+"."+v.Type().Field(i).Name)
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
			}
		default:
			n++
			if visit != nil {
				visit(v, path)
			}
		}
	}
	walk(v, "")
	return n
}

func mutate(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "_x")
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Map:
		v.SetMapIndex(reflect.ValueOf("a"), reflect.ValueOf("c"))
	case reflect.Struct:
		v.Set(reflect.ValueOf(feature.ListOf(feature.Bytes)))
	default:
		panic(v.Kind().String())
	}
}

// TestCodesAreDocumented holds docs/plan-codes.md to the codes there are.
func TestCodesAreDocumented(t *testing.T) {
	root := filepath.Join("..", "..")
	doc, err := os.ReadFile(filepath.Join(root, "docs", "plan-codes.md"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("finding.go")
	if err != nil {
		t.Fatal(err)
	}
	all := func(re string, b []byte) []string {
		var found []string
		for _, m := range regexp.MustCompile(re).FindAllSubmatch(b, -1) {
			found = append(found, string(m[1]))
		}
		slices.Sort(found)
		return slices.Compact(found)
	}
	declared, documented := all(`Code = "(\w+)"`, source), all("(?m)^\\| `(\\w+)` \\|", doc)
	if len(declared) == 0 || !slices.Equal(declared, documented) {
		t.Errorf("codes are\n%v\nand docs/plan-codes.md has\n%v", declared, documented)
	}
}

func TestRender(t *testing.T) {
	p := compute(t, func(p *registry.Project) {
		p.View("airport_latest").Features[1].Expr = "distance >\n 2000"
		p.View("airport_latest").TTL = 0
		p.Services = p.Services[:1]
		p.Entities = append(p.Entities, registry.Entity{Meta: meta("day"), JoinKeys: []feature.Field{field("date", feature.TypeTimestamp)}})
	})
	for name, render := range map[string]func(*bytes.Buffer) error{
		"plan.txt": func(b *bytes.Buffer) error { return p.WriteText(b) },
		"plan.json": func(b *bytes.Buffer) error {
			e := json.NewEncoder(b)
			e.SetIndent("", "  ")
			e.SetEscapeHTML(false)
			return e.Encode(p)
		},
	} {
		var got bytes.Buffer
		if err := render(&got); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name)
		want, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: got\n%s\nwant\n%s%v", path, got.Bytes(), want, err)
		}
	}
	var empty bytes.Buffer
	if err := compute(t, func(*registry.Project) {}).WriteText(&empty); err != nil || empty.String() != "Project flights: changes since revision 1 (sha256:head)\nNothing has changed.\n" {
		t.Errorf("an empty plan is %q, %v", empty.String(), err)
	}
	out, err := json.Marshal(compute(t, func(*registry.Project) {}))
	if want := `{"project":"flights","base":"sha256:head","changes":[],"findings":[],"backfills":[],"consumers":[],"blocking":false}`; err != nil || string(out) != want {
		t.Errorf("an empty plan is %s, %v", out, err)
	}
}

func TestComputeRefuses(t *testing.T) {
	p := flights()
	p.Views[0].Source = "nowhere"
	if _, err := Compute(nil, nil, p); err == nil || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Errorf("a source that is not there: %v", err)
	}
	if first, err := Compute(nil, nil, &registry.Project{Name: "p"}); err != nil || first.Empty() {
		t.Errorf("the first revision of an empty project is empty: %v", err)
	}
	if other := compute(t, func(p *registry.Project) { p.Name = "trains" }); other.Empty() {
		t.Error("another project is nothing to apply")
	}
	if _, err := Compute(&registry.Revision{}, nil, flights()); err == nil {
		t.Error("a revision without a project was taken")
	}
}
