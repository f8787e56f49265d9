package selection

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/feature"
)

func field(name string, t feature.Type) feature.Field { return feature.Field{Name: name, Type: t} }

func features(fields ...feature.Field) []registry.Feature {
	fs := make([]registry.Feature, len(fields))
	for i, f := range fields {
		fs[i] = registry.Feature{Field: f, Expr: f.Name}
	}
	return fs
}

func meta(name string) registry.Meta { return registry.Meta{Name: name} }

func ref(s string) registry.Ref {
	r, err := registry.ParseRef(s)
	if err != nil {
		panic(err)
	}
	return r
}

func refs(ss ...string) []registry.ServiceFeature {
	var es []registry.ServiceFeature
	for _, s := range ss {
		es = append(es, registry.ServiceFeature{Ref: ref(s)})
	}
	return es
}

// flights is the project of the tests.
func flights() *registry.Project {
	return &registry.Project{
		Name: "flights",
		Entities: []registry.Entity{
			{Meta: meta("airport"), JoinKeys: []feature.Field{field("origin", feature.TypeString)}},
			{Meta: meta("day"), JoinKeys: []feature.Field{field("day", feature.TypeTimestamp)}},
			{Meta: meta("route"), JoinKeys: []feature.Field{field("origin", feature.TypeInt64), field("destination", feature.TypeInt64)}},
		},
		Views: []registry.FeatureView{
			{Meta: meta("airport_latest"), Entities: []string{"airport"}, Features: features(field("delay", feature.TypeInt64), field("taxi", feature.TypeFloat64))},
			{Meta: meta("airport_day"), Entities: []string{"airport", "day"}, Features: features(field("flights", feature.TypeInt64))},
			{Meta: meta("airport_windows"), Entities: []string{"airport"}, Aggregations: []registry.Aggregation{{Function: "count"}}},
			{Meta: meta("route_latest"), Entities: []string{"route"}, Features: features(field("delay", feature.TypeInt64))},
			{Meta: meta("world"), Features: features(field("airborne", feature.TypeInt64))},
		},
		OnDemand: []registry.OnDemandView{
			{
				Meta: meta("trend"), Inputs: []string{"airport_latest"}, Request: []feature.Field{field("scheduled", feature.TypeInt64)},
				Features: []registry.Feature{
					{Field: field("worse", feature.TypeBool), Expr: "airport_latest.delay > scheduled"},
					{Field: field("slow", feature.TypeBool), Expr: "airport_latest.taxi > 10.0"},
				},
			},
			{
				Meta: meta("verdict"), Inputs: []string{"trend", "world"},
				Features: []registry.Feature{{Field: field("bad", feature.TypeBool), Expr: "trend.worse && trend.slow && world.airborne > 3"}},
			},
			{
				Meta: meta("odd"), Inputs: []string{"airport_latest"}, Request: []feature.Field{field("origin", feature.TypeInt64)},
				Features: []registry.Feature{{Field: field("same", feature.TypeBool), Expr: "airport_latest.delay > origin"}},
			},
		},
		Services: []registry.Service{
			{Meta: meta("plain"), Features: refs("airport_latest", "world:airborne")},
			{
				Meta: meta("roles"),
				Features: []registry.ServiceFeature{
					{Ref: ref("airport_latest:delay")},
					{Ref: ref("airport_latest"), Prefix: "dest_", Keys: []registry.KeyRename{{JoinKey: "origin", To: "to"}}},
					{Ref: ref("airport_day"), Keys: []registry.KeyRename{{JoinKey: "day", To: "date"}}},
					{Ref: ref("airport_latest:taxi")},
				},
				Entities: []registry.KeyRename{{Entity: "airport", JoinKey: "origin", To: "from"}},
			},
			{
				Meta: meta("judged"),
				Features: []registry.ServiceFeature{
					{Ref: ref("verdict")},
					{Ref: ref("trend:slow")},
					{Ref: ref("trend"), Prefix: "dest_", Keys: []registry.KeyRename{{JoinKey: "origin", To: "to"}}},
				},
			},
			{Meta: meta("clash"), Features: refs("airport_latest", "route_latest"), Entities: []registry.KeyRename{{Entity: "route", JoinKey: "origin", To: "route_origin"}}},
			{Meta: meta("twice"), Features: refs("airport_latest", "airport_latest:delay")},
			{
				Meta:     meta("parted"),
				Features: []registry.ServiceFeature{{Ref: ref("airport_latest")}, {Ref: ref("route_latest"), Prefix: "route_"}},
				Entities: []registry.KeyRename{{Entity: "route", JoinKey: "origin", To: "route_origin"}},
			},
			{Meta: meta("none")},
		},
	}
}

// live is a Generations over the project's own definitions, all of them
// generation 2, and one older generation of airport_latest.
func live(p *registry.Project) Generations {
	return func(_ context.Context, view string, number int) (registry.ViewGeneration, error) {
		if number == 0 {
			number = 2
		}
		switch v := p.View(view); {
		case number == 2 && v != nil:
			return registry.ViewGeneration{Project: p, View: v, Number: 2}, nil
		case number == 1 && view == "airport_latest":
			return older(p), nil
		}
		return registry.ViewGeneration{}, fmt.Errorf("looking for %s@%d: %w", view, number, registry.ErrNoRevision)
	}
}

// older is generation 1 of airport_latest: without taxi, with delay as a float and a feature that is gone.
func older(p *registry.Project) registry.ViewGeneration {
	v := registry.FeatureView{Meta: meta("airport_latest"), Entities: []string{"airport"}, Features: features(field("gone", feature.TypeString), field("delay", feature.TypeFloat64))}
	return registry.ViewGeneration{Project: &registry.Project{Entities: p.Entities, Views: []registry.FeatureView{v}}, View: &v, Number: 1}
}

// describe writes a selection as the tests expect it: one line for each part.
func describe(s *Selection) string {
	var b strings.Builder
	column := func(c Column) string {
		switch {
		case c.Absent():
			return "absent"
		case c.Role >= 0:
			return fmt.Sprintf("role %d.%d", c.Role, c.Feature)
		case c.Step >= 0:
			return fmt.Sprintf("step %d", c.Step)
		}
		return fmt.Sprintf("request %d", c.Request)
	}
	for i, r := range s.Roles {
		fmt.Fprintf(&b, "role %d: %s keys %v features %v\n", i, r.View, r.Keys, r.Features)
	}
	for i, st := range s.Steps {
		fmt.Fprintf(&b, "step %d: %s.%s of", i, st.View.Name, st.View.Features[st.Feature].Name)
		for j, in := range st.Program.Inputs() {
			fmt.Fprintf(&b, " %s=%s", in.Name, column(st.Inputs[j]))
		}
		b.WriteByte('\n')
	}
	for _, o := range s.Outputs {
		fmt.Fprintf(&b, "%s %s from %s:%s at %s\n", o.Name, o.Type, o.View, o.Feature, column(o.From))
	}
	for _, k := range s.Keys {
		fmt.Fprintf(&b, "key %s %s\n", k.Name, k.Type)
	}
	for _, f := range s.Request {
		fmt.Fprintf(&b, "request %s %s\n", f.Name, f.Type)
	}
	return b.String()
}

type resolveCase struct {
	name string
	req  Request
	want string
}

func runResolve(t *testing.T, gens func(*registry.Project) Generations, cases []resolveCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := flights()
			s, err := Resolve(context.Background(), p, c.req, gens(p))
			if err != nil {
				t.Fatal(err)
			}
			got, want := strings.TrimSpace(describe(s)), strings.TrimSpace(strings.ReplaceAll(c.want, "\t", ""))
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	runResolve(t, live, []resolveCase{
		{"a view and a feature", Request{Service: "plain"}, `
			role 0: airport_latest@2 keys [0] features [0 1]
			role 1: world@2 keys [] features [0]
			delay int64 from airport_latest:delay at role 0.0
			taxi float64 from airport_latest:taxi at role 0.1
			airborne int64 from world:airborne at role 1.0
			key origin string`},
		{"one view in two roles, renames of the service and of entries", Request{Service: "roles"}, `
			role 0: airport_latest@2 keys [0] features [0 1]
			role 1: airport_latest@2 keys [1] features [0 1]
			role 2: airport_day@2 keys [0 2] features [0]
			delay int64 from airport_latest:delay at role 0.0
			dest_delay int64 from airport_latest:delay at role 1.0
			dest_taxi float64 from airport_latest:taxi at role 1.1
			flights int64 from airport_day:flights at role 2.0
			taxi float64 from airport_latest:taxi at role 0.1
			key from string
			key to string
			key date timestamp`},
		{"references keep their order and share a role", Request{Features: []string{"airport_latest:taxi", "world", "airport_latest:delay"}}, `
			role 0: airport_latest@2 keys [0] features [1 0]
			role 1: world@2 keys [] features [0]
			taxi float64 from airport_latest:taxi at role 0.0
			airborne int64 from world:airborne at role 1.0
			delay int64 from airport_latest:delay at role 0.1
			key origin string`},
		{"full names", Request{Features: []string{"airport_latest:delay", "world"}, FullNames: true}, `
			role 0: airport_latest@2 keys [0] features [0]
			role 1: world@2 keys [] features [0]
			airport_latest__delay int64 from airport_latest:delay at role 0.0
			world__airborne int64 from world:airborne at role 1.0
			key origin string`},
		{"full names after a prefix, and entities parted by renames", Request{Service: "parted", FullNames: true}, `
			role 0: airport_latest@2 keys [0] features [0 1]
			role 1: route_latest@2 keys [1 2] features [0]
			airport_latest__delay int64 from airport_latest:delay at role 0.0
			airport_latest__taxi float64 from airport_latest:taxi at role 0.1
			route_route_latest__delay int64 from route_latest:delay at role 1.0
			key origin string
			key route_origin int64
			key destination int64`},
		{"a pinned generation is the live one", Request{Features: []string{"airport_latest@2:delay", "airport_latest:taxi"}}, `
			role 0: airport_latest@2 keys [0] features [0 1]
			delay int64 from airport_latest:delay at role 0.0
			taxi float64 from airport_latest:taxi at role 0.1
			key origin string`},
		{"a pinned generation has its own features and types", Request{Features: []string{"airport_latest@1", "airport_latest:taxi"}}, `
			role 0: airport_latest@1 keys [0] features [0 1]
			role 1: airport_latest@2 keys [0] features [1]
			gone string from airport_latest:gone at role 0.0
			delay float64 from airport_latest:delay at role 0.1
			taxi float64 from airport_latest:taxi at role 1.0
			key origin string`},
	})
}

// TestResolveOlderLive reads airport_latest@1 by default, as while generation 2 is being filled.
func TestResolveOlderLive(t *testing.T) {
	oldest := func(p *registry.Project) Generations {
		next := live(p)
		return func(ctx context.Context, view string, number int) (registry.ViewGeneration, error) {
			if view == "airport_latest" && number == 0 {
				number = 1
			}
			return next(ctx, view, number)
		}
	}
	runResolve(t, oldest, []resolveCase{
		{"what the generation lacks is absent, what it has keeps its type", Request{Service: "plain"}, `
			role 0: airport_latest@1 keys [0] features [1]
			role 1: world@2 keys [] features [0]
			delay float64 from airport_latest:delay at role 0.0
			taxi float64 from airport_latest:taxi at absent
			airborne int64 from world:airborne at role 1.0
			key origin string`},
		{"with nothing to read no role is read, and the key stays known", Request{Features: []string{"airport_latest:taxi"}}, `
			taxi float64 from airport_latest:taxi at absent
			key origin string`},
		{"an on-demand input of another type is absent", Request{Features: []string{"trend:worse"}}, `
			step 0: trend.worse of delay=absent scheduled=request 0
			worse bool from trend:worse at step 0
			key origin string
			request scheduled int64`},
	})
}

func TestResolveOnDemand(t *testing.T) {
	runResolve(t, live, []resolveCase{
		{"inputs are hidden, request fields are named", Request{Features: []string{"trend:worse"}}, `
			role 0: airport_latest@2 keys [0] features [0]
			step 0: trend.worse of delay=role 0.0 scheduled=request 0
			worse bool from trend:worse at step 0
			key origin string
			request scheduled int64`},
		{"a request field that is not read is not wanted", Request{Features: []string{"trend:slow"}}, `
			role 0: airport_latest@2 keys [0] features [1]
			step 0: trend.slow of taxi=role 0.0
			slow bool from trend:slow at step 0
			key origin string`},
		{"on-demand of on-demand, shared steps, and another role", Request{Service: "judged"}, `
			role 0: airport_latest@2 keys [0] features [0 1]
			role 1: world@2 keys [] features [0]
			role 2: airport_latest@2 keys [1] features [0 1]
			step 0: trend.worse of delay=role 0.0 scheduled=request 0
			step 1: trend.slow of taxi=role 0.1
			step 2: verdict.bad of worse=step 0 slow=step 1 airborne=role 1.0
			step 3: trend.worse of delay=role 2.0 scheduled=request 0
			step 4: trend.slow of taxi=role 2.1
			bad bool from verdict:bad at step 2
			slow bool from trend:slow at step 1
			dest_worse bool from trend:worse at step 3
			dest_slow bool from trend:slow at step 4
			key origin string
			key to string
			request scheduled int64`},
		{"an input that is asked for as well is read once", Request{Features: []string{"airport_latest:delay", "trend:worse"}, FullNames: true}, `
			role 0: airport_latest@2 keys [0] features [0]
			step 0: trend.worse of delay=role 0.0 scheduled=request 0
			airport_latest__delay int64 from airport_latest:delay at role 0.0
			trend__worse bool from trend:worse at step 0
			key origin string
			request scheduled int64`},
	})
}

func TestResolveMistakes(t *testing.T) {
	for _, c := range []struct {
		name string
		req  Request
		code Code
		on   string
		msg  string
	}{
		{"service", Request{Service: "plian"}, UnknownService, "plian", `project "flights" has no service "plian"; did you mean "plain"?`},
		{"service, no hint", Request{Service: "other"}, UnknownService, "other", `project "flights" has no service "other"`},
		{"view", Request{Features: []string{"airport_lates:delay"}}, UnknownView, "airport_lates", `project "flights" has no view "airport_lates"; did you mean "airport_latest"?`},
		{"pinned view", Request{Features: []string{"wrld@3"}}, UnknownView, "wrld", `project "flights" has no view "wrld"; did you mean "world"?`},
		{"generation", Request{Features: []string{"airport_latest@9"}}, UnknownView, "airport_latest@9", `view "airport_latest" has no generation 9 in any revision that was applied`},
		{"feature", Request{Features: []string{"airport_latest:dealy"}}, UnknownFeature, "airport_latest:dealy", `view "airport_latest" has no feature "dealy"; did you mean "delay"?`},
		{"feature of a pinned generation", Request{Features: []string{"airport_latest@1:taxi"}}, UnknownFeature, "airport_latest@1:taxi", `view "airport_latest@1" has no feature "taxi"`},
		{"feature on demand", Request{Features: []string{"trend:wors"}}, UnknownFeature, "trend:wors", `view "trend" has no feature "wors"; did you mean "worse"?`},
		{"generation on demand", Request{Features: []string{"trend@1:worse"}}, BadReference, "trend@1:worse", `trend@1:worse: on-demand view "trend" stores nothing and so has no generations; write trend:worse`},
		{"reference", Request{Features: []string{"airport_latest@x"}}, BadReference, "airport_latest@x", `feature reference "airport_latest@x": the generation after @ is a whole number from 1`},
		{"both", Request{Service: "plain", Features: []string{"world"}}, BadReference, "plain", `the request names both service "plain" and a list of features: give one of the two`},
		{"neither", Request{}, Empty, "", "the request asks for no features: name a service or a list of feature references"},
		{"empty service", Request{Service: "none"}, Empty, "none", `service "none" has no features`},
		{"names in a service", Request{Service: "clash"}, NameClash, "delay", `two features are called "delay": airport_latest:delay and route_latest:delay; part them with a prefix in a service or with full names`},
		{"twice", Request{Service: "twice"}, NameClash, "delay", `two features are called "delay": airport_latest:delay is asked for twice`},
		{"names of generations", Request{Features: []string{"airport_latest@1:delay", "airport_latest@2:delay"}, FullNames: true}, NameClash, "airport_latest__delay", `two features are called "airport_latest__delay": airport_latest@1:delay and airport_latest@2:delay; part them with a prefix in a service or with full names`},
		{"key types", Request{Features: []string{"airport_latest:taxi", "route_latest:delay"}}, TypeClash, "origin", `column "origin" is wanted as string (join key origin of airport_latest) and as int64 (join key origin of route_latest); rename one of them with keys in a service`},
		{"key and request types", Request{Features: []string{"odd"}}, TypeClash, "origin", `column "origin" is wanted as string (join key origin of airport_latest) and as int64 (request field of odd); rename one of them with keys in a service`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := flights()
			_, err := Resolve(context.Background(), p, c.req, live(p))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if want := (&Error{c.code, c.on, c.msg}); !reflect.DeepEqual(e, want) {
				t.Errorf("got  %+v\nwant %+v", e, want)
			}
		})
	}
}

// TestResolveGenerationsFail tells a registry that cannot be read from a mistake of the request.
func TestResolveGenerationsFail(t *testing.T) {
	broken := errors.New("bucket gone")
	_, err := Resolve(context.Background(), flights(), Request{Service: "plain"}, func(context.Context, string, int) (registry.ViewGeneration, error) {
		return registry.ViewGeneration{}, broken
	})
	var e *Error
	if !errors.Is(err, broken) || errors.As(err, &e) {
		t.Errorf("got %v, want it to wrap the cause and not to be a mistake of the request", err)
	}
}
