package lineage

import (
	"fmt"
	"strings"
	"testing"

	"github.com/forebay/forebay/registry"
)

func meta(name string) registry.Meta { return registry.Meta{Name: name} }

func flights() *registry.Project {
	return &registry.Project{
		Entities: []registry.Entity{{Meta: meta("airport")}, {Meta: meta("carrier")}},
		Sources:  []registry.Source{{Meta: meta("departures")}, {Meta: meta("weather")}},
		Views: []registry.FeatureView{
			{Meta: meta("delays"), Source: "departures", Entities: []string{"airport", "carrier"}},
			{Meta: meta("rain"), Source: "weather", Entities: []string{"airport"}},
		},
		OnDemand: []registry.OnDemandView{
			{Meta: meta("trend"), Inputs: []string{"delays"}},
			{Meta: meta("verdict"), Inputs: []string{"trend", "rain"}},
		},
		Services: []registry.Service{
			{Meta: meta("model"), Features: []registry.ServiceFeature{{Ref: registry.Ref{View: "verdict"}}, {Ref: registry.Ref{View: "delays", Feature: "a"}}, {Ref: registry.Ref{View: "delays", Feature: "b"}}}},
			{Meta: meta("radar"), Features: []registry.ServiceFeature{{Ref: registry.Ref{View: "rain"}}}},
		},
	}
}

func TestGraph(t *testing.T) {
	g := New(flights())
	for _, c := range []struct {
		what  string
		query func(Node) []Node
		of    Node
		want  string
	}{
		{"downstream", g.Downstream, Node{Source, "departures"}, "FeatureView delays, OnDemandFeatureView trend, OnDemandFeatureView verdict, FeatureService model"},
		{"downstream", g.Downstream, Node{View, "rain"}, "OnDemandFeatureView verdict, FeatureService model, FeatureService radar"},
		{"downstream", g.Downstream, Node{Entity, "carrier"}, "FeatureView delays, OnDemandFeatureView trend, OnDemandFeatureView verdict, FeatureService model"},
		{"downstream", g.Downstream, Node{Service, "model"}, ""},
		{"downstream", g.Downstream, Node{View, "nothing"}, ""},
		{"upstream", g.Upstream, Node{Service, "model"}, "Entity airport, Entity carrier, Source departures, Source weather, FeatureView delays, FeatureView rain, OnDemandFeatureView trend, OnDemandFeatureView verdict"},
		{"upstream", g.Upstream, Node{OnDemandView, "trend"}, "Entity airport, Entity carrier, Source departures, FeatureView delays"},
		{"upstream", g.Upstream, Node{Source, "departures"}, ""},
		{"reads", g.Reads, Node{Service, "model"}, "FeatureView delays, OnDemandFeatureView verdict"},
		{"read by", g.ReadBy, Node{View, "delays"}, "OnDemandFeatureView trend, FeatureService model"},
	} {
		var got []string
		for _, n := range c.query(c.of) {
			got = append(got, n.String())
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s %s: got %s, want %s", c.of, c.what, s, c.want)
		}
	}
	for n, want := range map[Node]bool{{Source, "weather"}: true, {View, "weather"}: false, {OnDemandView, "trend"}: true, {View, "trend"}: false} {
		if g.Has(n) != want {
			t.Errorf("Has(%s) = %t", n, !want)
		}
	}
	if n := New(nil).Downstream(Node{Source, "departures"}); fmt.Sprint(n) != "[]" {
		t.Errorf("a project that is not there has %v", n)
	}
}

func TestParseKind(t *testing.T) {
	for want, names := range map[Kind][]string{
		Entity: {"Entity", "entity", "entities"}, Source: {"Source", "sources"},
		View:         {"FeatureView", "featureview", "feature_view", "feature-views", "view", "views"},
		OnDemandView: {"OnDemandFeatureView", "on_demand_feature_view", "on-demand-views", "on-demand"},
		Service:      {"FeatureService", "feature-service", "services"},
	} {
		for _, name := range names {
			if got, ok := ParseKind(name); got != want || !ok {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
	}
	for _, name := range []string{"", "s", "feature", "feature-veiws", "ies"} {
		if got, ok := ParseKind(name); ok {
			t.Errorf("%q: got %q", name, got)
		}
	}
}
